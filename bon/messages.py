"""Texts for readers, by key: `assets/text/` holds one table per language, from key to text.

A `Message` is the English text of a key together with the key and the values in it. Errors and notes are messages: the
command line, the log and records show them in English; the page (`assets/ui/texts.js`) receives key and values from
`encode_messages` and formats them in its own language.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from bon.assets_folder import assets_folder

#: From key to text, or to one text per plural form of the language (`one`, `other`, ...), chosen by the value `n`.
Table = dict[str, str | dict[str, str]]
ENGLISH = "en"
#: The first character of an encoded message; no prompt and no model's text begins with it.
MARK = "\x02"


class Message(str):
    """An English text with its `key` in the tables and the `values` in it, or with the `parts` that it joins.

    values: texts, other messages, or whole numbers, whose digits every language groups in its own way. A message with
    neither key nor parts is the same text in every language.
    """

    key: str | None = None
    values: Mapping[str, Any] = {}
    parts: tuple[str, ...] = ()
    separator: str = ""


def replace_text(text: Any, old: str, new: str) -> Any:
    """The text with `new` in place of `old`; in a message this happens within its values, and a value equal to `old`
    becomes `new`, which may be a message.
    """
    if isinstance(text, Message) and text.key:
        return say(text.key, **{name: replace_text(value, old, new) for name, value in text.values.items()})
    if isinstance(text, Message) and text.parts:
        return join([replace_text(part, old, new) for part in text.parts], text.separator)
    if text == old:
        return new
    return text.replace(old, new) if isinstance(text, str) else text


def shorten(text: Any, most: int) -> Any:
    """The text cut to at most `most` characters; of a message, each of its values."""
    if isinstance(text, Message) and text.key:
        return say(text.key, **{name: shorten(value, most) for name, value in text.values.items()})
    return text[:most] if isinstance(text, str) else text


@functools.cache
def tables() -> dict[str, Table]:
    """The tables by language tag, English first."""
    files = sorted((assets_folder() / "text").glob("*.json"), key=lambda file: (file.stem != ENGLISH, file.stem))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def say(key: str, **values: Any) -> Message:
    """The message of `key` with these values; the value `n` chooses the plural form.

    Raises `KeyError` for a key that the tables lack, or a value that its text needs.
    """
    text = tables()[ENGLISH][key]
    if not isinstance(text, str):
        text = text["one" if values["n"] == 1 else "other"]
    message = Message(text.format(**{k: f"{v:,}" if isinstance(v, int) else v for k, v in values.items()}))
    message.key, message.values = key, values
    return message


def message_or(key: str, word: str) -> str:
    """The message of `key` where the tables have it, else the word itself."""
    return say(key) if key in tables()[ENGLISH] else word


def join(parts: Iterable[str], separator: str = ", ") -> Message:
    """The texts with a separator between them, as one message; empty ones are left out."""
    texts = tuple(filter(None, parts))
    message = Message(separator.join(texts))
    message.parts, message.separator = texts, separator
    return message


def describe(text: str) -> dict[str, Any] | None:
    """A message's key and values, or the parts it joins, in plain JSON types; None for a text without either."""
    if not isinstance(text, Message) or not (text.key or text.parts):
        return None
    if text.key:
        return {"key": text.key, "values": {name: _plain(value) for name, value in text.values.items()}}
    return {"parts": [_plain(part) for part in text.parts], "separator": text.separator}


def _plain(value: Any) -> Any:
    description = describe(value)
    if description:
        return description
    return value if isinstance(value, int) else str(value)


def restore(text: str, description: Any) -> str:
    """The text of a record as a message again. description: what `describe` made of it.

    Its English stays that of the record. The text comes back as it is where the tables no longer have the key or the
    values do not fit it.
    """
    try:
        rebuilt, message = _rebuild(description), Message(text)
        message.key, message.values = rebuilt.key, rebuilt.values
        message.parts, message.separator = rebuilt.parts, rebuilt.separator
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return text
    return message


def _rebuild(description: Any) -> Any:
    if not isinstance(description, dict):
        if not isinstance(description, str | int):
            raise TypeError(description)
        return description
    if "key" in description:
        return say(description["key"], **{name: _rebuild(value) for name, value in description["values"].items()})
    return join([_rebuild(part) for part in description["parts"]], description["separator"])


def encode_messages(value: Any) -> Any:
    """A value of plain JSON types with each message encoded as a text, which the page's scripts decode.

    A text rather than a mapping, since Gradio, which sends only differences, then replaces it as a whole.
    """
    if isinstance(value, Message):
        description = describe(value)
        return MARK + json.dumps(description) if description else str(value)
    if isinstance(value, dict):
        return {k: encode_messages(v) for k, v in value.items()}
    return [encode_messages(v) for v in value] if isinstance(value, list | tuple) else value


def decode_messages(value: Any) -> Any:
    """The inverse of `encode_messages`."""
    if isinstance(value, str) and value.startswith(MARK):
        return _rebuild(json.loads(value[1:]))
    if isinstance(value, dict):
        return {k: decode_messages(v) for k, v in value.items()}
    return [decode_messages(v) for v in value] if isinstance(value, list) else value


def error_message(error: BaseException) -> str:
    """The message of an error of bon, with its key; the text of any other error."""
    message = error.args[0] if error.args else ""
    return message if isinstance(message, Message) else str(error)
