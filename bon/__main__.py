"""`python -m bon`, and the command `bon`: the command line (`bon.cli`) as a process of its own."""

import atexit
import gc
import os
import sys
from contextlib import suppress

#: New objects, less those that were dropped, between two searches for garbage: with Python's 700, searches take a sixth
#: of the time in which torch and transformers are imported.
GARBAGE_THRESHOLD = 50_000
_statuses: list[int] = []


def run() -> None:
    """Runs the command line and ends the process with its exit status."""
    atexit.register(_end_process)  # before anybody else, hence called after all others
    gc.set_threshold(GARBAGE_THRESHOLD)
    from bon.cli.main import main

    _statuses.append(main())
    sys.exit(_statuses[0])


def _end_process() -> None:
    """Ends the process once all else has been closed. To take torch's modules apart piece by piece takes 0.2 s more."""
    if _statuses:  # else an error is on its way
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):
                stream.flush()
        os._exit(_statuses[0])


if __name__ == "__main__":
    run()
