"""Views: what a tab shows, as plain JSON values that a script of the page draws."""

from collections.abc import Generator
from typing import Any

from bon.messages import say

View = dict[str, Any]
#: The views of work that goes on; closing the iterator stops the work.
Views = Generator[View, None, None]


def failed_view(message: str) -> View:
    """The view of work that failed before it had a result. message: the reason, and what to do."""
    return {"phase": "failed", "title": say("failed.title"), "line": "", "error": message}
