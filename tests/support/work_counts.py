"""How much work a call takes: the Python and C functions that it calls, and its processor time."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any


def measure_work(function: Callable[[], Any]) -> tuple[int, float]:
    """The number of functions that a call of `function` calls, in threads that it begins too, and the seconds of the
    processor that it takes while they are counted. What it raises counts as an answer.
    """
    count = 0

    def count_event(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    start = time.process_time()
    threading.setprofile(count_event)
    sys.setprofile(count_event)
    try:
        answer(function)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return count, time.process_time() - start


def processor_seconds(function: Callable[[], Any]) -> float:
    """The seconds of the processor that a call of `function` takes."""
    start = time.process_time()
    answer(function)
    return time.process_time() - start


def answer(function: Callable[[], Any]) -> None:
    """Calls a function, and takes all that it yields where it is a generator."""
    try:
        if isinstance(result := function(), Generator):
            deque(result, maxlen=0)
    except Exception:
        return
