"""The flow: request -> engine -> scorer -> ranked result, as a stream of plain events.

The stream is the only implementation: `run` drains it, and page, command line, HTTP and `BestOfNSampler` read it.
Engine and scorer are passed in; nothing is looked up here.
"""

import dataclasses
import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice

from bon.engines.base import EncodedPrompt, Engine, Job, Step, defaults_of
from bon.errors import InputError
from bon.events import Clock, Done, Ended, Event, Note, Scored, Started, Wrote
from bon.messages import say
from bon.result import Candidate, Result, Timing
from bon.run_state import RunState
from bon.scorers.base import Item, Scorer, score_items
from bon.settings import Request, whole
from bon.stats.early_rejection import EarlyRejection
from bon.stats.lengths import DrawLength, LengthSampler
from bon.stats.random_streams import candidate_stream, selection_uniform


def run(request: Request, engine: Engine, scorer: Scorer, lengths: DrawLength | None = None) -> Result:
    """The result of one request: the drained stream."""
    return last_result(stream(request, engine, scorer, lengths))


def last_result(events: Iterator[Event]) -> Result:
    """Drains the events of one run and returns its result."""
    for event in events:
        if isinstance(event, Done):
            return event.result
    raise AssertionError("a stream ends with Done")


def stream(
    request: Request, engine: Engine, scorer: Scorer, lengths: DrawLength | None = None, live: bool = False
) -> Generator[Event, None, None]:
    """The events of one request. Closing the iterator stops the work within one step. live: see `stream_many`."""
    with closing(stream_many([request], engine, scorer, lengths, live=live)) as events:
        for _, event in events:
            yield event


def run_many(requests: Sequence[Request], engine: Engine, scorer: Scorer) -> list[Result]:
    """The results of several requests that are decoded together and with no other call's: see `stream_many`."""
    events = stream_many(requests, engine, scorer, watched=False)
    return [event.result for _, event in events if isinstance(event, Done)]


def stream_many(
    requests: Sequence[Request], engine: Engine, scorer: Scorer,
    lengths: DrawLength | Sequence[DrawLength] | None = None, watched: bool = True, live: bool = False,
) -> Generator[tuple[int, Event], None, None]:
    """The events of several requests that are decoded together, each with its request's number.

    lengths: one for all, or one per request, draws the caps in place of min_tokens and max_tokens. watched: whether
    anybody reads the events as they come; else there are no `Wrote` events, no other call's texts are decoded in the
    same steps, and a scorer that takes groups of candidates is called once for those of all requests; the candidates
    are the same. live: whether a server, too, is to send every text as it grows. Raises `InputError` before any work
    where a request cannot work, `ScoringError` or `EngineError` where the work fails.
    """
    per_request = lengths if isinstance(lengths, Sequence) else [lengths] * len(requests)
    runs = [_Run(request, engine, scorer, draw_length, watched, live)
            for request, draw_length in zip(requests, per_request, strict=True)]
    for number, run in enumerate(runs):
        yield number, run.record(run.started)
        yield from ((number, run.record(Note(note))) for note in run.notes)
    with closing(engine.generate([run.job for run in runs])) as steps:
        for step, seconds in _timed(steps):
            for number, run in enumerate(runs):
                for event in run.events_of_step(step, number, seconds / len(runs)):
                    yield number, event
    yield from _score_together(runs, scorer)
    for number, run in enumerate(runs):
        yield number, Done(run.state.result())


class _Run:
    """One request on its way through generation, early rejection and scoring."""

    def __init__(self, request: Request, engine: Engine, scorer: Scorer, lengths: DrawLength | None,
                 watched: bool = True, live: bool = False):
        self.scorer = scorer
        settings, defaults, is_chat = request.settings, defaults_of(engine), request.messages is not None
        if isinstance(lengths, LengthSampler):  # so that the record holds the range of the caps
            settings = dataclasses.replace(settings, min_tokens=lengths.min_value, max_tokens=lengths.max_value - 1)
        self.notes = defaults.notes(settings, is_chat)
        settings = defaults.fill(settings, is_chat).with_seed()
        assert settings.seed is not None  # after `with_seed`
        self.seed = settings.seed
        request = request.with_settings(settings)
        self.lengths = LengthSampler.of(settings) if lengths is None else lengths
        caps = self._caps(request)
        # By the longest length that the settings allow: whether a prompt fits does not depend on the seed.
        prompt = encode_fitting(request, engine, settings.lengths[1] if lengths is None else max(caps))
        alone = not watched  # a file that is written again is to come out the same
        watched = watched or settings.reject > 0  # early rejection scores unfinished texts
        self.together = scorer.incremental and not watched
        self.job = Job(prompt.ids, caps, request, notes=prompt.notes, certainty=scorer.needs_certainty,
                       watched=watched, live=live, alone=alone)
        self.prompt = request.prompt if request.prompt is not None else self._prompt_text(request, engine, prompt.ids)
        self.state = RunState(self.lengths if isinstance(self.lengths, LengthSampler) else None)
        self.started = Started(
            self.prompt, engine.name, scorer.name, scorer.target, scorer.unit, settings, self.job.caps,
            request.messages, selection_uniform(self.seed, request.query), getattr(engine, "dtype", None),
        )
        self.waiting: list[Candidate] = []
        self.rejection = EarlyRejection(self.job.caps) if settings.reject else None
        self.held_back: dict[int, Candidate] = {}  # complete, but may yet be dropped at a checkpoint
        self.spent = {"prefill": 0.0, "decode": 0.0, "score": 0.0}

    @staticmethod
    def _prompt_text(request: Request, engine: Engine, ids: Sequence[int]) -> str:
        return request.messages[-1]["content"] if request.messages else engine.decode(ids)

    def _caps(self, request: Request) -> tuple[int, ...]:
        return tuple(self._cap(request, i) for i in range(request.settings.n))

    def _cap(self, request: Request, index: int) -> int:
        if hasattr(self.lengths, "at"):
            return self.lengths.at(candidate_stream(self.seed, request.query, index).random())
        if not callable(self.lengths):
            raise InputError(
                "length_sampler", say("error.length_sampler_not_callable", example="bon.LengthSampler(4, 16)")
            )
        return whole("length_sampler", self.lengths(), 1)

    def record(self, event: Event) -> Event:
        """Adds an event to the state and returns it."""
        self.state.add(event)
        return event

    def events_of_step(self, step: Step, number: int, seconds: float) -> Iterator[Event]:
        """The events of this request that follow from one step of the engine.

        number: the request's, in the step. seconds: of the step, this request's share.
        """
        self.spent[step.stage] += seconds
        if step.note:
            yield self.record(Note(step.note))
        # The engine may continue dropped candidates for a step or two; they no longer count.
        grown = [row for row in step.grown.get(number, ()) if row.index not in self.job.unwanted]
        ended = [c for c in step.ended.get(number, ()) if c.index not in self.job.unwanted]
        if grown:
            yield self.record(Wrote(tuple(grown)))
        if self.rejection:
            for row in grown:
                self.rejection.record_progress(self.state.candidates[row.index])
            for candidate in ended:
                self.rejection.record_end(candidate.index)
        yield from self._complete(ended)
        if number in step.grown or number in step.ended:
            yield from self._score_waiting()
            yield from self._reject()
        # After an empty step, too: a consumer can stop, or draw what came last, only where it gets an event.
        if number in step.grown or number in step.ended or not (step.grown or step.ended or step.note):
            yield self.record(Clock(self._timing()))

    def _complete(self, candidates: Sequence[Candidate]) -> Iterator[Event]:
        """Queues complete candidates for scoring; holds back those that a checkpoint may yet drop."""
        for candidate in candidates:
            if self.rejection and self.rejection.may_drop(candidate.index):
                self.held_back[candidate.index] = candidate
            else:
                self.waiting.append(candidate)
                unrated = not self.scorer.can_rate(candidate)
                yield self.record(Ended(dataclasses.replace(candidate, unrated=unrated)))
                yield from (self.record(Note(text)) for text in candidate.notes if text not in self.state.notes)

    def _score_waiting(self) -> Iterator[Event]:
        """Scores the waiting candidates: all at the end, or an eighth at a time where the scorer is incremental."""
        all_ended = all(c.ended for c in self.state.candidates)
        enough = self.scorer.incremental and len(self.waiting) >= math.ceil(len(self.job.caps) / 8)
        if self.together or not self.waiting or not (all_ended or enough):
            return
        scores, notes = self._scores(self.take_waiting())
        for note in notes:
            yield self.record(note)
        for score in scores:
            yield self.record(score)

    def take_waiting(self) -> list[Item]:
        """The candidates that wait for a score, which no longer wait."""
        candidates, self.waiting = sorted(self.waiting, key=lambda c: c.index), []
        return self._items(candidates)

    def record_scores(self, events: Sequence[Event], seconds: float) -> Iterator[Event]:
        """Adds the events of a call of the scorer that took so many seconds for this request, and returns them."""
        self.spent["score"] += seconds
        yield from map(self.record, (*events, Clock(self._timing())))

    def _reject(self) -> Iterator[Event]:
        """At each checkpoint that all candidates have reached, drops the share of them that scores lowest there."""
        while self.rejection and (reached := self.rejection.pop_complete()):
            yield from self._drop_lowest(self.rejection, reached)
            complete, self.held_back = list(self.held_back.values()), {}
            yield from self._complete(complete)
            yield from self._score_waiting()

    def _drop_lowest(self, rejection: EarlyRejection, candidates: Sequence[Candidate]) -> Iterator[Event]:
        """Scores what the candidates had written at the checkpoint, and drops the lowest of them."""
        count = int(self.job.request.settings.reject * len(candidates))
        if not count:
            return
        scores, notes = self._scores(self._items(candidates))
        for event in notes:
            yield self.record(event)
        by_index = {scored.index: scored for scored in scores}

        def rank(candidate: Candidate) -> tuple[float, int]:
            # Of equal scores the higher number ranks lower, as in the result; an empty text ranks below all.
            scored = by_index.get(candidate.index)
            return scored.score if scored else -math.inf, -candidate.index

        for candidate in sorted(candidates, key=rank)[:count]:
            self.job.unwanted.add(candidate.index)
            rejection.drop(candidate.index)
            self.held_back.pop(candidate.index, None)
            yield self.record(Ended(dataclasses.replace(candidate, ended="rejected")))
            if candidate.index in by_index:
                yield self.record(by_index[candidate.index])

    def _items(self, candidates: Sequence[Candidate]) -> list[Item]:
        """The candidates as the scorer takes them, without those that it cannot rate."""
        return [Item(self.prompt, candidate, self.job.request.messages) for candidate in candidates
                if self.scorer.can_rate(candidate)]

    def _scores(self, items: Sequence[Item]) -> tuple[list[Scored], list[Note]]:
        start = time.perf_counter()
        scores = _scored(self.scorer, items)
        self.spent["score"] += time.perf_counter() - start
        return scores

    def _timing(self) -> Timing:
        tokens = sum(c.generated for c in self.state.candidates)
        writing = self.spent["prefill"] + self.spent["decode"]
        return Timing(
            **self.spent, total=sum(self.spent.values()), tokens=tokens,
            tokens_per_second=tokens / writing if writing else 0.0,
        )


def _score_together(runs: Sequence[_Run], scorer: Scorer) -> Iterator[tuple[int, Event]]:
    """Scores what waits until all is generated, in one call for plain texts and one for chats, which a scorer may read
    in another way.
    """
    for are_chats in (False, True):
        waiting = {number: run for number, run in enumerate(runs)
                   if run.waiting and (run.job.request.messages is not None) == are_chats}
        if not waiting:
            continue
        start = time.perf_counter()
        items = {number: run.take_waiting() for number, run in waiting.items()}
        all_scores, notes = _scored(scorer, list(chain(*items.values())))
        scores, seconds = iter(all_scores), (time.perf_counter() - start) / len(waiting)
        for number, run in waiting.items():
            for event in run.record_scores([*notes, *islice(scores, len(items[number]))], seconds):
                yield number, event


def _scored(scorer: Scorer, items: Sequence[Item]) -> tuple[list[Scored], list[Note]]:
    if not items:
        return [], []
    scores = score_items(scorer, items)
    scored = map(Scored, (item.candidate.index for item in items), scores.values, scores.parts)
    return list(scored), [Note(text) for text in scores.notes]


def _timed(steps: Iterator[Step]) -> Iterator[tuple[Step, float]]:
    """Each step with the seconds that making it took, the consumer's own time left out."""
    start = time.perf_counter()
    for step in steps:
        yield step, time.perf_counter() - start
        start = time.perf_counter()


def encode_fitting(request: Request, engine: Engine, new: int) -> EncodedPrompt:
    """The request's prompt. Raises `InputError` where it and so many new tokens exceed the engine's context."""
    prompt = engine.encode(request)
    if engine.context is not None and prompt.tokens + new > engine.context:
        raise InputError("prompt", say(
            "error.prompt_too_long", tokens=str(prompt.tokens), new=str(new), model=engine.name,
            limit=str(engine.context), most=str(max(0, engine.context - new)),
        ))
    return prompt
