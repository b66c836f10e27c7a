"""Who goes first: a visitor's own run before the rows of a batch, which can be done again."""

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from bon.engines.base import Engine, Job, Step

#: The most seconds that a batch waits for others.
PATIENCE = 10.0


class WaitingRuns:
    """Counts the visitors' runs that wait or go on; rows of a batch let them go first."""

    def __init__(self) -> None:
        self.count, self._changed = 0, threading.Condition()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Within it one more run counts."""
        with self._changed:
            self.count += 1
        try:
            yield
        finally:
            with self._changed:
                self.count -= 1
                self._changed.notify_all()

    def let_pass(self) -> None:
        """Returns once no run counts, or after `PATIENCE`."""
        with self._changed:
            self._changed.wait_for(lambda: not self.count, PATIENCE)


class Halt(BaseException):
    """Ends the work on some rows; not an `Exception`, which would count as the rows' fault."""


class Yield(Halt):
    """Ends the work on some rows, which is to be done again: a visitor's run waits."""


class YieldingEngine:
    """An engine that stops where `halt` is set or, where it computes in this process, where a run waits.

    yields: whether it stops for the rows of the moment; once for each will do.
    """

    def __init__(self, engine: Engine, halt: threading.Event, waiting: WaitingRuns):
        self._engine, self._halt, self._waiting, self.yields = engine, halt, waiting, True
        self._local = engine.describe().get("device") != "server"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, jobs: Sequence[Job]) -> Generator[Step, None, None]:
        """The engine's steps. Raises `Halt` or `Yield` between two of them."""
        with closing(self._engine.generate(jobs)) as steps:
            for step in steps:
                if self._halt.is_set():
                    raise Halt
                if self._waiting.count and self.yields and self._local:
                    raise Yield
                yield step
