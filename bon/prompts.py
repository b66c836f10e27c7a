"""The prompts of a comparison: those in the box, a file's, or a visitor's lines; and a chat's file."""

import json
from collections.abc import Sequence
from pathlib import Path

from bon import models
from bon.errors import InputError

#: The most that one comparison takes.
PROMPTS_MAX = 10_000


def shipped_prompts() -> list[str]:
    """The 32 prompts that travel with bon."""
    return (models.assets() / "prompts.txt").read_text(encoding="utf-8").splitlines()


def read_prompts(path: str) -> list[str]:
    """The prompts of a text file, one a line; blank lines are left out.

    Raises `InputError` for a file that is absent, empty, not text, or of more than 10,000 prompts.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = "is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error.strerror})"
        raise InputError("prompts", f"The file {path} {why}. Give a text file with one prompt a line.") from error
    if any("\0" in line for line in lines):
        raise InputError("prompts", f"The file {path} is not text. Give a text file with one prompt a line.")
    return checked_prompts(lines)


def read_messages(path: str) -> list:
    """The messages of a chat in a JSON file. Raises `InputError` for a file that is absent or holds no JSON list."""
    try:
        messages = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, RecursionError, ValueError) as error:
        why = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else "is not JSON"
        raise InputError("messages", f"The file {path} {why}. Give a list of objects with role and content.") from error
    if not isinstance(messages, list):
        raise InputError("messages", f"The file {path} holds no list. Give a list of objects with role and content.")
    return messages


def checked_prompts(lines: Sequence[str]) -> list[str]:
    """The lines that are not blank, or an `InputError` where there are none or too many."""
    prompts = [line.strip() for line in lines if line.strip()]
    check_count(prompts)
    return prompts


def check_count(prompts: Sequence[str]) -> None:
    """Raises `InputError` for none, or for more than a comparison takes."""
    if not prompts:
        raise InputError("prompts", "There are no prompts to compare over. Give at least one.")
    if len(prompts) > PROMPTS_MAX:
        raise InputError("prompts", f"There are {len(prompts):,} prompts; a comparison takes at most {PROMPTS_MAX:,}.")
