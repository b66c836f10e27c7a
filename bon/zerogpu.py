"""ZeroGPU: a Hugging Face Space whose GPU is lent to a fork of the process, one call at a time.

Imported before torch, since the Space's own package `spaces` has to be. Elsewhere all of this does nothing.
"""

import os
from collections.abc import Callable
from typing import Any

spaces: Any = None
if os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true"):
    try:
        import spaces
    except ImportError:
        spaces = None


def is_on() -> bool:
    """Whether a GPU has to be borrowed."""
    return spaces is not None


def borrows(seconds: Callable[..., float]) -> Callable[[Callable], Callable]:
    """Decorates a function, or a generator, that works on a GPU: it gets one for so many seconds.

    seconds: called with the same arguments. Arguments and values cross processes, so they have to be plain.
    """
    return spaces.GPU(duration=seconds) if is_on() else lambda work: work
