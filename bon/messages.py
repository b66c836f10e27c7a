"""Sentences for readers, by key: `assets/text/` has one table per language, key -> text.

A `Message` is the English text of a key that also knows the key and its values. Errors and notes are messages, so the
command line, the log and records show English, while the page makes its sentence from its own language's table
(`assets/ui/texts.js`) out of what `carried` sends it.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from bon.assets_folder import assets_folder

#: A text, or one for each plural form that the language has: `one`, `other`, ... by the value named `n`.
Table = dict[str, str | dict[str, str]]
ENGLISH = "en"
#: The first character of a carried message; no prompt and no model's text begins with it.
MARK = "\x02"


class Message(str):
    """An English text with its `key` in the tables and the `values` in it, or with the `parts` that it joins.

    values: texts, other messages, or whole numbers, which every language groups in its own way. A text without key and
    parts is shown as it is in every language.
    """

    key: str | None = None
    values: Mapping[str, Any] = {}
    parts: tuple[str, ...] = ()
    separator: str = ""


def replaced(text: Any, old: str, new: str) -> Any:
    """The text with `new` in place of `old`; in a message its values, where a value that is `old` becomes `new`."""
    if isinstance(text, Message) and text.key:
        return say(text.key, **{name: replaced(value, old, new) for name, value in text.values.items()})
    if isinstance(text, Message) and text.parts:
        return joined([replaced(part, old, new) for part in text.parts], text.separator)
    if text == old:
        return new
    return text.replace(old, new) if isinstance(text, str) else text


def shortened(text: Any, most: int) -> Any:
    """The text with at most so many characters; of a message each of its values."""
    if isinstance(text, Message) and text.key:
        return say(text.key, **{name: shortened(value, most) for name, value in text.values.items()})
    return text[:most] if isinstance(text, str) else text


@functools.cache
def tables() -> dict[str, Table]:
    """The tables by language tag, English first."""
    files = sorted((assets_folder() / "text").glob("*.json"), key=lambda file: (file.stem != ENGLISH, file.stem))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def say(key: str, **values: Any) -> Message:
    """The message of `key`. Whole numbers among the values are grouped; the one named `n` chooses the plural form."""
    text = tables()[ENGLISH][key]
    if not isinstance(text, str):
        text = text["one" if values["n"] == 1 else "other"]
    message = Message(text.format(**{k: f"{v:,}" if isinstance(v, int) else v for k, v in values.items()}))
    message.key, message.values = key, values
    return message


def message_or(key: str, word: str) -> str:
    """The message of `key` where the tables have it, else the word itself."""
    return say(key) if key in tables()[ENGLISH] else word


def joined(parts: Iterable[str], separator: str = ", ") -> Message:
    """The texts with a separator between them; empty ones are left out."""
    kept = tuple(filter(None, parts))
    message = Message(separator.join(kept))
    message.parts, message.separator = kept, separator
    return message


def described(text: str) -> dict[str, Any] | None:
    """Key and values of a message, or the parts it joins, in plain JSON types; None for a text that has neither."""
    if not isinstance(text, Message) or not (text.key or text.parts):
        return None
    if text.key:
        return {"key": text.key, "values": {name: _plain(value) for name, value in text.values.items()}}
    return {"parts": [_plain(part) for part in text.parts], "separator": text.separator}


def _plain(value: Any) -> Any:
    described_value = described(value)
    if described_value:
        return described_value
    return value if isinstance(value, int) else str(value)


def restored(text: str, description: Any) -> str:
    """The text as the message that was `described`; as it is where the tables lack the key or its values do not fit.

    The English stays what the text says: a record is shown as it was written.
    """
    try:
        rebuilt, message = _rebuilt(description), Message(text)
        message.key, message.values = rebuilt.key, rebuilt.values
        message.parts, message.separator = rebuilt.parts, rebuilt.separator
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return text
    return message


def _rebuilt(description: Any) -> Any:
    if not isinstance(description, dict):
        if not isinstance(description, str | int):
            raise TypeError(description)
        return description
    if "key" in description:
        return say(description["key"], **{name: _rebuilt(value) for name, value in description["values"].items()})
    return joined([_rebuilt(part) for part in description["parts"]], description["separator"])


def carried(value: Any) -> Any:
    """A value of plain JSON types in which each message has become a text that `revived` and the scripts read.

    Still a text, so that Gradio, which sends only what has changed, replaces it as a whole.
    """
    if isinstance(value, Message):
        description = described(value)
        return MARK + json.dumps(description) if description else str(value)
    if isinstance(value, dict):
        return {k: carried(v) for k, v in value.items()}
    return [carried(v) for v in value] if isinstance(value, list | tuple) else value


def revived(value: Any) -> Any:
    """The value that was `carried`."""
    if isinstance(value, str) and value.startswith(MARK):
        return _rebuilt(json.loads(value[1:]))
    if isinstance(value, dict):
        return {k: revived(v) for k, v in value.items()}
    return [revived(v) for v in value] if isinstance(value, list) else value


def explained(error: BaseException) -> str:
    """What an error says: its message, which keeps its key, or the text of an error that has none."""
    message = error.args[0] if error.args else ""
    return message if isinstance(message, Message) else str(error)
