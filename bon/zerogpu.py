"""ZeroGPU: a Hugging Face Space whose GPU is lent to a fork of the process, one call at a time.

Imported before torch, since the Space's own package `spaces` has to be. Elsewhere all of this does nothing.
"""

import importlib
import os
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import TypeVar

_spaces: ModuleType | None = None
if os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true"):
    with suppress(ImportError):
        _spaces = importlib.import_module("spaces")

Work = TypeVar("Work", bound=Callable[..., object])


def is_on() -> bool:
    """Whether a GPU has to be borrowed."""
    return _spaces is not None


def borrows(seconds: Callable[..., float]) -> Callable[[Work], Work]:
    """Decorates a function, or a generator, that works on a GPU: it gets one for so many seconds.

    seconds: called with the same arguments. Arguments and values cross processes, so they have to be plain.
    """
    return _spaces.GPU(duration=seconds) if _spaces else lambda work: work
