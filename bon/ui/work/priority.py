"""Who goes first: a visitor's own run before the rows of a batch, which can be done again."""

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from bon.engines.base import Engine, Job, Step

#: The most seconds that a batch waits for others.
PATIENCE = 10.0


class Guests:
    """Those who wait for a run of their own, which goes before the rows of a batch."""

    def __init__(self) -> None:
        self.waiting, self._changed = 0, threading.Condition()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Within it somebody waits."""
        with self._changed:
            self.waiting += 1
        try:
            yield
        finally:
            with self._changed:
                self.waiting -= 1
                self._changed.notify_all()

    def let_pass(self) -> None:
        """Returns once nobody waits, or after `PATIENCE`."""
        with self._changed:
            self._changed.wait_for(lambda: not self.waiting, PATIENCE)


guests = Guests()


class Halted(BaseException):
    """Ends the work on some rows; not an `Exception`, which would count as the rows' fault."""


class GaveWay(Halted):
    """Ends it to be done again, since somebody waits."""


class Considerate:
    """An engine that stops once it is told to, and where it computes here gives way to guests.

    gives_way: whether it does so for the rows of the moment; once for each will do.
    """

    def __init__(self, engine: Engine, halt: threading.Event):
        self._engine, self._halt, self.gives_way = engine, halt, True
        self._here = engine.describe().get("device") != "server"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, jobs: Sequence[Job]) -> Generator[Step, None, None]:
        with closing(self._engine.generate(jobs)) as steps:
            for step in steps:
                if self._halt.is_set():
                    raise Halted
                if guests.waiting and self.gives_way and self._here:
                    raise GaveWay
                yield step
