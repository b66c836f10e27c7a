"""How much work a call takes: the Python and C functions that it calls, and its processor time."""

import json
import mmap
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

#: Seconds of the processor after which a child process is ended: while calls are counted, they take several times as
#: long as otherwise.
CHILD_SECONDS = 20.0


def result_of_child(work: Callable[[Callable[[str], None]], Any]) -> Any:
    """The result, of JSON types, of a function that runs in a child of this process.

    The function calls its argument with the name of each input before its work on it. Where that takes more than
    `CHILD_SECONDS`, the system ends the child, even within a pattern, which no other thread could interrupt.
    """
    input_name, (reading, writing) = mmap.mmap(-1, 1024), os.pipe()

    def begin(name: str) -> None:
        input_name[:] = ascii(name).encode()[:1024].ljust(1024)
        signal.setitimer(signal.ITIMER_PROF, CHILD_SECONDS)

    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        try:
            answer = json.dumps({"result": work(begin)})
        except BaseException:
            answer = json.dumps({"failure": traceback.format_exc()})
        signal.setitimer(signal.ITIMER_PROF, 0)
        with open(writing, "w") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    assert text, f"More than {CHILD_SECONDS} s of the processor for {input_name[:].decode().strip()}"
    found = json.loads(text)
    assert "result" in found, found["failure"]
    return found["result"]


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
