"""Many callers, one model: whoever waits for it is decoded together with the others.

There is no thread of its own. Of the callers that want their next step one makes it, for all; the others find theirs
made. A caller that goes away takes its texts along and leaves everybody else's as they are.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch

from bon.engines.base import Step
from bon.engines.local.decoding_batch import Batch, Rules, Text
from bon.errors import EngineError
from bon.events import Row
from bon.messages import say
from bon.models import loading, running
from bon.models.running import compute, eval_mode
from bon.result import Candidate

# A pool knows its model only while somebody uses it: else no model would ever be let go of.
_POOLS: WeakKeyDictionary[Any, "Pool"] = WeakKeyDictionary()
_MAKING = threading.Lock()


def pool_of(model) -> "Pool":
    """The pool that all callers of a model share."""
    with _MAKING:
        return _POOLS.setdefault(model, Pool())


@dataclass(eq=False)
class _Caller:
    """One call: its texts, the steps that were made for it, and the error that ended it.

    apart: whether it shares no batch, since one in which it was failed.
    """

    texts: list[Text]
    steps: deque[Step] = field(default_factory=deque)
    error: BaseException | None = None
    apart: bool = False

    @property
    def done(self) -> bool:
        return all(text.ended for text in self.texts)


class Pool:
    """The texts that wait for one model or are being written by it.

    rules: what all of them go by. joins: texts of any prompts, at any time, in one batch; else those of equal prompt
    length, batch after batch. shared: see `Batch`.
    """

    def __init__(self, rules: Rules | None = None, joins: bool = True, shared: bool = True):
        self._rules, self._joins, self._shared = rules or Rules(), joins, shared
        self._turn = threading.Condition()
        self._stepping = False
        self._callers: list[_Caller] = []
        self._batch: Batch | None = None
        self._most: int | None = None
        self._width = 0

    def run(self, model, texts: Sequence[Text], most: int, name: str) -> Iterator[Step]:
        """The steps of one caller's texts, until all have ended. most: texts that may be decoded together.

        Out of memory halves the batch and goes on with the texts that are not finished; at a single text it raises
        `EngineError`, with the model's name.
        """
        caller = _Caller(list(texts))
        with self._turn:
            self._callers.append(caller)
        try:
            with running.caller():
                while (step := self._next(caller, model, most, name)) is not None:
                    yield step
        finally:
            self._leave(caller)

    def _next(self, caller: _Caller, model, most: int, name: str) -> Step | None:
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
            for text in caller.texts:
                text.ended = text.ended or "stopped"
            if not self._callers and not self._stepping:
                self._batch, self._most = None, None

    def _advance(self, model, most: int, name: str) -> None:
        """Reads the prompts of texts that wait, or makes one step of the batch."""
        with self._turn:
            callers = list(self._callers)
        fresh = self._waiting(callers, min(most, self._most or most))
        try:
            with eval_mode(model):
                if fresh:
                    self._admit(model, fresh)
                    self._tell(callers, fresh, Step(stage="prefill"))
                else:
                    self._hand_out(callers, self._batch.step())
                    if not self._batch.going:
                        self._batch = None
        except Exception as error:
            # What fails while prompts are read is the fault of nobody who is being written, nor of who waits.
            at_work = set(fresh or self._batch.members)
            concerned = [caller for caller in callers if not at_work.isdisjoint(caller.texts)]
            if isinstance(error, torch.OutOfMemoryError | RuntimeError) and loading.out_of_memory(error):
                self._out_of_memory(callers, concerned, error, name)
                return
            self._batch = self._batch if fresh else None
            if len(concerned) == 1:
                self._fail(concerned, error)
            else:
                self._part(concerned, at_work)

    def _waiting(self, callers: Sequence[_Caller], most: int) -> list[Text]:
        """The texts to read the prompts of before the next step."""
        if self._batch and (self._batch.expects or not self._joins):
            return []
        inside = set(self._batch.texts) if self._batch else set()
        if apart := [caller for caller in callers if caller.apart and not caller.done]:
            if self._batch and inside.isdisjoint(apart[0].texts):
                return []
            callers = apart[:1]
        room = most - sum(text.ended is None for text in inside)
        outside = [text for caller in callers for text in caller.texts if text.ended is None and text not in inside]
        outside.sort(key=lambda text: len(text.job.prompt_ids))  # stable: by caller, job and candidate
        if not self._joins:
            outside = [text for text in outside if len(text.job.prompt_ids) == len(outside[0].job.prompt_ids)]
        return outside[: max(0, room)]

    def _admit(self, model, texts: Sequence[Text]) -> None:
        inside = self._batch.texts if self._batch else []
        self._width = sum(text.ended is None for text in inside) + len(texts)
        fresh = Batch(model, texts, self._rules, self._shared, self._batch)
        if self._batch is None:
            self._batch = fresh
        else:
            self._batch.join(fresh)

    def _hand_out(self, callers: Sequence[_Caller], texts: Sequence[Text]) -> None:
        moved = set(texts)
        for caller in callers:
            grown: dict[int, list[Row]] = {}
            ended: dict[int, list[Candidate]] = {}
            if error := next((text.error for text in caller.texts if text in moved and text.error), None):
                self._fail([caller], error)
                continue
            for text in (text for text in caller.texts if text in moved):
                if text.ended:
                    ended.setdefault(text.number, []).append(text.candidate())
                elif text.job.watched:
                    grown.setdefault(text.number, []).append(text.row())
            if grown or ended:
                caller.steps.append(Step(grown=grown, ended=ended))

    @staticmethod
    def _tell(callers: Sequence[_Caller], texts: Sequence[Text], step: Step) -> None:
        concerned = set(texts)
        for caller in callers:
            if not concerned.isdisjoint(caller.texts):
                caller.steps.append(step)

    @staticmethod
    def _part(callers: Sequence[_Caller], at_work: set[Text]) -> None:
        """After a failure of several together: begins their texts again, each caller alone, so that only the one at
        fault fails.
        """
        for caller in callers:
            caller.apart = True
            for text in at_work.intersection(caller.texts):
                if text.ended is None:
                    text.restart()

    @staticmethod
    def _fail(callers: Sequence[_Caller], error: Exception) -> None:
        for caller in callers:
            caller.error = error
            for text in caller.texts:
                text.ended = text.ended or "stopped"

    def _out_of_memory(
        self, callers: Sequence[_Caller], concerned: Sequence[_Caller], error: Exception, name: str
    ) -> None:
        self._batch = None
        if self._width <= 1:
            failure = EngineError(say("error.out_of_memory_with_one", model=name))
            failure.__cause__ = error
            self._fail(concerned, failure)
            self._most = None
            return
        self._most = self._width // 2
        begun = [text for caller in callers for text in caller.texts if text.ended is None]
        for text in begun:
            text.restart()
        self._tell(callers, begun, Step(note=say("note.smaller_batches", n=self._most)))
