"""The encoding of a text file: UTF-8, what its byte order mark tells, or the one that somebody names."""

import codecs

from bon.errors import InputError
from bon.messages import say

#: Byte order marks, and the encodings that they tell; UTF-32's first, since its mark begins with UTF-16's.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}


def encoding_of(start: bytes, named: str | None) -> str:
    """The encoding of a file that begins with these bytes: what its mark tells, else the named one, else UTF-8."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), named or "utf-8")


def check_encoding(name: str) -> None:
    """Raises `InputError` for a name that is not of an encoding of text."""
    try:
        "a".encode(name)
    except (LookupError, ValueError) as error:
        raise InputError("encoding", say("error.unknown_encoding", name=name)) from error


def wrong_encoding(path: str, encoding: str) -> InputError:
    """The error on a file that is not text in this encoding."""
    key = "error.file_not_utf8" if encoding.startswith("utf-8") else "error.file_not_in_encoding"
    return InputError("encoding", say(key, path=path, encoding=encoding))
