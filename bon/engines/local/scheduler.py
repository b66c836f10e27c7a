"""Continuous batching: the calls that wait for one model are decoded together.

There is no thread of its own. Of the callers that wait for their next step one makes it, for all; the others find
theirs made. A caller that goes away takes its candidates along and leaves all others as they are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

from bon.engines.base import Step
from bon.engines.local.decoding_batch import DecodingBatch, LiveCandidate, Rules
from bon.errors import EngineError
from bon.events import Row
from bon.messages import say
from bon.models import loading, running
from bon.models.running import compute, eval_mode
from bon.result import Candidate

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedModel

# A scheduler holds its model only while somebody uses it: else no model's memory would ever be freed.
_SCHEDULERS: WeakKeyDictionary[PreTrainedModel, Scheduler] = WeakKeyDictionary()
_CREATING = threading.Lock()


def scheduler_of(model: PreTrainedModel) -> Scheduler:
    """The scheduler that all callers of a model share."""
    with _CREATING:
        return _SCHEDULERS.setdefault(model, Scheduler())


@dataclass(eq=False)
class _Caller:
    """One call: its candidates, the steps that were made for it, and the error that ended it.

    isolated: whether it shares no batch, since one that it was in failed.
    """

    candidates: list[LiveCandidate]
    steps: deque[Step] = field(default_factory=deque)
    error: BaseException | None = None
    isolated: bool = False

    @property
    def done(self) -> bool:
        return all(candidate.ended for candidate in self.candidates)


class Scheduler:
    """The candidates that wait for one model or are being decoded by it.

    rules: of all of them. continuous: let candidates of any prompts join the batch at any time; else those of equal
    prompt length are decoded, batch after batch. shared: see `DecodingBatch`.
    """

    def __init__(self, rules: Rules | None = None, continuous: bool = True, shared: bool = True) -> None:
        self._rules, self._continuous, self._shared = rules or Rules(), continuous, shared
        self._turn = threading.Condition()
        self._stepping = False
        self._callers: list[_Caller] = []
        self._batch: DecodingBatch | None = None
        #: The most rows, since memory ran out with more; and the rows of the batch when it last grew.
        self._most: int | None = None
        self._rows = 0

    def run(
        self, model: PreTrainedModel, candidates: Sequence[LiveCandidate], most: int, name: str
    ) -> Generator[Step, None, None]:
        """The steps of one caller's candidates, until all have ended. most: rows that may be decoded together.

        Out of memory halves the batch and goes on with the candidates that are not finished; at a single one it raises
        `EngineError`, with the model's name.
        """
        caller = _Caller(list(candidates))
        with self._turn:
            self._callers.append(caller)
        try:
            with running.caller():
                while (step := self._next_step(caller, model, most, name)) is not None:
                    yield step
        finally:
            self._leave(caller)

    def _next_step(self, caller: _Caller, model: PreTrainedModel, most: int, name: str) -> Step | None:
        """A caller's next step, made here or by another caller; None once all its candidates have ended."""
        while True:
            with self._turn:
                self._turn.wait_for(lambda: caller.steps or caller.error or caller.done or not self._stepping)
                if caller.steps:
                    return caller.steps.popleft()
                if caller.error:
                    raise caller.error
                if caller.done:
                    return None
                self._stepping = True
            try:
                compute(lambda: self._advance(model, most, name))
            finally:
                with self._turn:
                    self._stepping = False
                    self._turn.notify_all()

    def _leave(self, caller: _Caller) -> None:
        with self._turn:
            self._callers.remove(caller)
            for candidate in caller.candidates:
                candidate.ended = candidate.ended or "stopped"
            if not self._callers and not self._stepping:
                self._batch, self._most = None, None

    def _advance(self, model: PreTrainedModel, most: int, name: str) -> None:
        """Prefills the prompts of candidates that wait, or makes one decode step of the batch."""
        with self._turn:
            callers = list(self._callers)
        batch = self._batch
        waiting = self._next_to_prefill(callers, min(most, self._most or most))
        assert waiting or batch  # the caller that makes this step has candidates that are not finished
        try:
            with eval_mode(model):
                if waiting:
                    self._prefill(model, waiting)
                    self._report(callers, waiting, Step(stage="prefill"))
                elif batch is not None:
                    self._deliver(callers, batch.step())
                    if not batch.unfinished:
                        self._batch = None
        except Exception as error:
            # A failed prefill fails only the callers being prefilled, a failed decode step only those in the batch.
            involved = set(waiting or (batch.members if batch else ()))
            failed = [caller for caller in callers if not involved.isdisjoint(caller.candidates)]
            if isinstance(error, torch.OutOfMemoryError | RuntimeError) and loading.out_of_memory(error):
                self._shrink(callers, failed, error, name)
                return
            self._batch = batch if waiting else None
            if len(failed) == 1:
                self._fail(failed, error)
            else:
                self._isolate(failed, involved)

    def _next_to_prefill(self, callers: Sequence[_Caller], most: int) -> list[LiveCandidate]:
        """The candidates whose prompts are prefilled before the next decode step."""
        if self._batch and (self._batch.is_joined or not self._continuous):
            return []
        inside = set(self._batch.candidates) if self._batch else set()
        if isolated := [caller for caller in callers if caller.isolated and not caller.done]:
            if self._batch and inside.isdisjoint(isolated[0].candidates):
                return []
            callers = isolated[:1]
        room = most - sum(candidate.ended is None for candidate in inside)
        outside = [c for caller in callers for c in caller.candidates if c.ended is None and c not in inside]
        outside.sort(key=lambda candidate: len(candidate.job.prompt_ids))  # stable: by caller, job and index
        if not self._continuous:
            outside = [c for c in outside if len(c.job.prompt_ids) == len(outside[0].job.prompt_ids)]
        return outside[: max(0, room)]

    def _prefill(self, model: PreTrainedModel, candidates: Sequence[LiveCandidate]) -> None:
        inside = self._batch.candidates if self._batch else []
        self._rows = sum(candidate.ended is None for candidate in inside) + len(candidates)
        joining = DecodingBatch(model, candidates, self._rules, self._shared, self._batch)
        if self._batch is None:
            self._batch = joining
        else:
            self._batch.join(joining)

    def _deliver(self, callers: Sequence[_Caller], candidates: Sequence[LiveCandidate]) -> None:
        """Gives each caller the step of those of its candidates that grew or ended."""
        moved = set(candidates)
        for caller in callers:
            grown: dict[int, list[Row]] = {}
            ended: dict[int, list[Candidate]] = {}
            of_caller = [candidate for candidate in caller.candidates if candidate in moved]
            if error := next((candidate.error for candidate in of_caller if candidate.error), None):
                self._fail([caller], error)
                continue
            for candidate in of_caller:
                if candidate.ended:
                    ended.setdefault(candidate.number, []).append(candidate.candidate())
                elif candidate.job.watched:
                    grown.setdefault(candidate.number, []).append(candidate.row())
            if grown or ended:
                caller.steps.append(Step(grown=grown, ended=ended))

    @staticmethod
    def _report(callers: Sequence[_Caller], candidates: Sequence[LiveCandidate], step: Step) -> None:
        """Gives the step to the callers of these candidates."""
        reported = set(candidates)
        for caller in callers:
            if not reported.isdisjoint(caller.candidates):
                caller.steps.append(step)

    @staticmethod
    def _isolate(callers: Sequence[_Caller], involved: set[LiveCandidate]) -> None:
        """Restarts the candidates of several callers that failed together, each caller alone: so that only the one
        that causes the failure fails.
        """
        for caller in callers:
            caller.isolated = True
            for candidate in involved.intersection(caller.candidates):
                if candidate.ended is None:
                    candidate.restart()

    @staticmethod
    def _fail(callers: Sequence[_Caller], error: Exception) -> None:
        for caller in callers:
            caller.error = error
            for candidate in caller.candidates:
                candidate.ended = candidate.ended or "stopped"

    def _shrink(self, callers: Sequence[_Caller], failed: Sequence[_Caller], error: Exception, name: str) -> None:
        """After memory ran out, restarts all unfinished candidates in batches of half as many rows; with a single row,
        fails.
        """
        self._batch = None
        if self._rows <= 1:
            failure = EngineError(say("error.out_of_memory_with_one", model=name))
            failure.__cause__ = error
            self._fail(failed, failure)
            self._most = None
            return
        self._most = self._rows // 2
        unfinished = [c for caller in callers for c in caller.candidates if c.ended is None]
        for candidate in unfinished:
            candidate.restart()
        self._report(callers, unfinished, Step(note=say("note.smaller_batches", n=self._most)))
