"""Priority: a visitor's run preempts the rows of a batch, which are done again afterwards."""

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from bon.engines.base import Engine, Job, Step

#: The most seconds that a batch waits for visitors' runs.
BATCH_WAIT = 10.0


class WaitingRuns:
    """Counts the visitors' runs that wait or go on, for which batches wait."""

    count: int

    def __init__(self) -> None:
        self.count, self._changed, self._has_run = 0, threading.Condition(), False

    @contextmanager
    def count_run(self) -> Iterator[None]:
        """A context in which one more run is counted."""
        with self._changed:
            self.count += 1
            self._has_run = True
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self.count -= 1
                self._changed.notify_all()

    def wait_until_idle(self) -> None:
        """Returns once no run is counted, or after `BATCH_WAIT`."""
        with self._changed:
            self._changed.wait_for(lambda: not self.count, BATCH_WAIT)


    def wait_until_at_rest(self, seconds: float) -> None:
        """Returns once a run was counted since the last return, and for so many seconds none is."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._has_run and not self.count)
                if not self._changed.wait_for(lambda: self.count, seconds):
                    self._has_run = False
                    return


class Halt(BaseException):
    """Ends the work on a group of rows. No `Exception`, since the batch would record one as the rows' error."""


class Preempt(Halt):
    """Ends the work on a group of rows, which is done again later, since a visitor's run waits."""


class PreemptibleEngine:
    """An engine of a batch that raises `Halt` once `halt` is set, and `Preempt` while a visitor's run waits.

    preemptible: whether it raises `Preempt`; the batch clears it after the first time, so that a group of rows is
    preempted only once. An engine on a server, which does not compute in this process, is never preempted.
    """

    preemptible: bool

    def __init__(self, engine: Engine, halt: threading.Event, waiting: WaitingRuns):
        self._engine, self._halt, self._waiting, self.preemptible = engine, halt, waiting, True
        self._local = engine.describe().get("device") != "server"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, jobs: Sequence[Job]) -> Generator[Step, None, None]:
        """The engine's steps. Raises `Halt` or `Preempt` between two of them."""
        with closing(self._engine.generate(jobs)) as steps:
            for step in steps:
                if self._halt.is_set():
                    raise Halt
                if self._waiting.count and self.preemptible and self._local:
                    raise Preempt
                yield step
