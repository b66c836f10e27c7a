"""Gives freed memory back to the system while no visitor's run goes on."""

import ctypes
import os
import threading

from bon.ui.work.priority import WaitingRuns

#: How long no run has gone on before memory is given back, in seconds.
REST_SECONDS = 5.0


def give_back_memory_at_rest(waiting: WaitingRuns) -> None:
    """Starts a thread that gives memory back whenever runs have gone on and none has for `REST_SECONDS`.

    glibc keeps freed memory that the process may want again: after many runs more than the process uses. A lower
    threshold for it to give back by itself makes runs slower, since each would get its memory anew.
    """

    def work() -> None:
        while True:
            waiting.wait_until_at_rest(REST_SECONDS)
            give_back_memory()

    threading.Thread(target=work, name="memory", daemon=True).start()


def give_back_memory() -> None:
    """Makes glibc give back what is free; does nothing with another C library."""
    try:
        has_glibc = bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, OSError, ValueError):  # Windows, or another C library
        return
    if has_glibc:
        ctypes.CDLL(None).malloc_trim(0)
