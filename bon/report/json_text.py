"""JSON that every reader takes: NaN and Infinity, which JSON lacks and Python's `json` writes, become null."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any


def json_text(value: Any, ensure_ascii: bool = True, indent: int | None = None,
              default: Callable[[Any], Any] | None = None) -> str:
    """The value as JSON, with null in place of every number that is not finite.

    default: makes a JSON type of any other value, as in `json.dumps`. Raises `TypeError` for such a value without it.
    """
    def dumps(value: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, default=default, allow_nan=False)

    try:
        return dumps(value)
    except ValueError:  # rare, so numbers are not looked through beforehand
        return dumps(_finite(value, default))


def _finite(value: Any, default: Callable[[Any], Any] | None) -> Any:
    """The value with null for numbers that are not finite, within what `default` makes too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item, default) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item, default) for item in value]
    if default is None or value is None or isinstance(value, str | int):
        return value
    return _finite(default(value), default)
