"""What all views have in common: plain JSON values, which scripts of the page draw."""

from typing import Any

from bon.messages import say

View = dict[str, Any]


def failed(message: str) -> View:
    """Nothing was done, and `message` says why and what to do."""
    return {"phase": "failed", "title": say("failed.title"), "line": "", "error": message}
