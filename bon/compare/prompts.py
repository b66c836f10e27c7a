"""The prompts of a comparison: the built-in ones, a file's, or a visitor's lines; and a chat's file."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

from bon.assets_folder import assets_folder
from bon.compare.text_encoding import check_encoding, encoding_of, wrong_encoding
from bon.errors import InputError
from bon.messages import say

#: The most that one comparison takes.
PROMPTS_MAX = 10_000


def shipped_prompts() -> list[str]:
    """The 32 prompts that travel with bon."""
    return prompts_of_text((assets_folder() / "prompts.txt").read_text(encoding="utf-8"))


def read_prompts(path: str, encoding: str | None = None) -> list[str]:
    """The prompts of a text file, one a line; blank lines are left out.

    encoding: None for UTF-8, or what a byte order mark tells, which also overrules it. Raises `InputError` for a file
    that is absent, empty, not text in its encoding, or of more than 10,000 prompts.
    """
    if encoding is not None:
        check_encoding(encoding)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError("prompts", say("error.prompts_unreadable", path=path, reason=str(error.strerror))) from error
    encoding = encoding_of(content, encoding)
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        raise wrong_encoding(path, encoding) from error
    if "\0" in text:
        raise InputError("prompts", say("error.prompts_not_text", path=path))
    return prompts_of_text(text)


def read_messages(path: str) -> list[dict[str, str]]:
    """The messages of a chat in a JSON file. Raises `InputError` for a file that is absent or holds no JSON list."""
    try:
        messages = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError("messages", say("error.chat_unreadable", path=path, reason=str(error.strerror))) from error
    except (RecursionError, ValueError) as error:
        raise InputError("messages", say("error.chat_not_json", path=path)) from error
    if not isinstance(messages, list):
        raise InputError("messages", say("error.chat_no_list", path=path))
    return messages


def prompts_of_text(text: str) -> list[str]:
    """The lines that are not blank, or an `InputError` where there are none or too many.

    Lines end at LF, CR or CRLF, as those of a batch's text file do: other separators, such as U+2028, are in a prompt.
    """
    prompts = [line.strip() for line in io.StringIO(text, newline=None) if line.strip()]
    check_count(prompts)
    return prompts


def check_count(prompts: Sequence[str]) -> None:
    """Raises `InputError` for none, or for more than a comparison takes."""
    if not prompts:
        raise InputError("prompts", say("error.no_prompts"))
    if len(prompts) > PROMPTS_MAX:
        raise InputError("prompts", say("error.too_many_prompts", given=len(prompts), most=PROMPTS_MAX))
