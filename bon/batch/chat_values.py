"""Chats in the cells of a file: lists of messages, or such lists as JSON or as Python prints them."""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bon.errors import InputError
from bon.messages import say
from bon.settings import checked_messages, clean

#: How a list of messages begins, also one that is cut short or has typographic quotation marks.
_BEGINNING = re.compile(
    r"""\s*\[\s*\{(?:\s*["'“”‘’](?:role|content)["'“”‘’]\s*:|.*?[{,\s]["'“”‘’]role["'“”‘’]\s*:)""", re.DOTALL)
#: The next piece of a value as Python prints it: a sign, a text, a constant or a number.
_PYTHON_PIECE = re.compile(
    r"""\s*(?:([\[\]{},:])|('[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")|(None|True|False)\b|(-?\d+[\d.eE+-]*))""",
    re.DOTALL)
_CONSTANTS = {"None": "null", "True": "true", "False": "false"}
#: Keys of a message that ask for a tool: what a model would read of it depends on them, and continuations of the text
#: alone would be of another chat.
_TOOL_KEYS = ("tool_calls", "function_call")


def chat_or_text(cell: str, only_chats: bool = False) -> str | list[Mapping[str, str]]:
    """The chat that a text cell holds, or the text itself where it holds none.

    A list in which every element has a role and a content is a chat. only_chats: whether other lists and objects are
    wrong here, as in a column called messages. Raises `InputError` for what looks like a chat and cannot be decoded or
    has a message that `chat` refuses.
    """
    if not cell.lstrip().startswith(("[", "{") if only_chats else "["):
        return cell
    looks_like_chat = _BEGINNING.match(cell) is not None
    value = _decode(cell, python_too=looks_like_chat or only_chats)
    if isinstance(value, list) and (only_chats or any(isinstance(item, dict) and "role" in item for item in value)):
        return chat(value)
    if looks_like_chat and value is None:
        raise InputError("messages", say("error.chat_not_decoded", start=cell.strip()[:40]))
    if only_chats and value is not None:
        checked_messages(value)  # raises, since it is no list
    return cell


def chat(messages: Sequence[Any]) -> list[Mapping[str, str]]:
    """The messages of a chat, checked, without the keys that are null; Parquet has every message's keys in each.

    Raises `InputError` for an element without role or content, for one that calls a tool, and for no elements.
    """
    present = [{key: value for key, value in message.items() if value is not None} if isinstance(message, Mapping)
               else message for message in messages]
    for message in present:
        if isinstance(message, Mapping) and (key := next((key for key in _TOOL_KEYS if message.get(key)), None)):
            raise InputError("messages", say("error.chat_with_tools", name=key))
    return list(checked_messages(present))


def _decode(cell: str, python_too: bool) -> Any:
    """The value that a text holds as JSON, or as Python or numpy prints it; None where it holds none."""
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(_json_of_python(cell)) if python_too else None
    except (ValueError, SyntaxError, RecursionError):
        return None


def _json_of_python(text: str) -> str:
    """A list as Python prints it, as JSON. Piece by piece, since `ast.literal_eval` may crash on a hostile text.

    numpy prints no commas between the objects of an array. Raises `ValueError` or `SyntaxError` for any other text.
    """
    text, at, pieces = text.rstrip(), 0, list[str]()
    while at < len(text):
        piece = _PYTHON_PIECE.match(text, at)
        if piece is None:
            raise ValueError(text[at:])
        sign, string, constant, number = piece.groups()
        if sign == "{" and pieces[-1:] == ["}"]:
            pieces.append(",")
        pieces.append(sign or (json.dumps(clean(ast.literal_eval(string))) if string else
                               _CONSTANTS[constant] if constant else number))
        at = piece.end()
    return "".join(pieces)
