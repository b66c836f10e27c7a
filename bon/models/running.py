"""Who computes when: one at a time, and for many callers always the same thread.

Threads that compute at once stall each other, and each that computes in turn wakes helpers of its own. One caller alone
computes where it is.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

_LOCK = threading.RLock()
_here = threading.local()
_THREAD = ThreadPoolExecutor(1, "compute", initializer=lambda: setattr(_here, "computes", True))
_counting = threading.Lock()
_callers = 0


@contextmanager
def caller() -> Iterator[None]:
    """Within it somebody has work that may take turns with others'."""
    global _callers
    with _counting:
        _callers += 1
    try:
        yield
    finally:
        with _counting:
            _callers -= 1


def compute(work: Callable[[], Any]) -> Any:
    """What `work` returns or raises, while nobody else computes."""
    if _callers <= 1 or getattr(_here, "computes", False):
        return _alone(work)
    return _THREAD.submit(_alone, work).result()


def _alone(work: Callable[[], Any]) -> Any:
    with _LOCK:
        return work()
