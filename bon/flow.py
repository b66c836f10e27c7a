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

from bon.engines.base import Engine, Job, Step
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
    request: Request, engine: Engine, scorer: Scorer, lengths: DrawLength | None = None
) -> Generator[Event, None, None]:
    """The events of one request. Closing the iterator stops the work within one step."""
    with closing(stream_many([request], engine, scorer, lengths)) as events:
        for _, event in events:
            yield event


def run_many(requests: Sequence[Request], engine: Engine, scorer: Scorer) -> list[Result]:
    """The results of several requests that share a batch, with nobody else's, and that nobody watches."""
    events = stream_many(requests, engine, scorer, watched=False)
    return [event.result for _, event in events if isinstance(event, Done)]


def stream_many(
    requests: Sequence[Request], engine: Engine, scorer: Scorer,
    lengths: DrawLength | Sequence[DrawLength] | None = None, watched: bool = True,
) -> Generator[tuple[int, Event], None, None]:
    """The events of several requests that share a batch, each with its request's number.

    `lengths` (one for all, or one per request) draws the caps in place of min_tokens and max_tokens. Where nobody
    watches, no `Wrote` tells of texts that grow, nobody else's texts are decoded along, and a scorer that takes
    candidates in groups is called for those of all requests together; the candidates are the same. Raises `InputError`
    before any work where a request cannot work, `ScoringError` or `EngineError` where the work fails.
    """
    each = lengths if isinstance(lengths, Sequence) else [lengths] * len(requests)
    runs = [_Run(request, engine, scorer, drawn, watched) for request, drawn in zip(requests, each, strict=True)]
    for number, work in enumerate(runs):
        yield number, work.note(work.started)
    with closing(engine.generate([work.job for work in runs])) as steps:
        for step, seconds in _timed(steps):
            for number, work in enumerate(runs):
                for event in work.after(step, number, seconds / len(runs)):
                    yield number, event
    yield from _score_together(runs, scorer)
    for number, work in enumerate(runs):
        yield number, Done(work.state.result())


class _Run:
    """One request on its way through the stages."""

    def __init__(self, request: Request, engine: Engine, scorer: Scorer, lengths: DrawLength | None,
                 watched: bool = True):
        self.scorer = scorer
        settings = request.settings.filled().with_seed()
        if isinstance(lengths, LengthSampler):  # the record says what was drawn from
            settings = dataclasses.replace(settings, min_tokens=lengths.min_value, max_tokens=lengths.max_value - 1)
        request = request.with_settings(settings)
        self.lengths = LengthSampler.of(settings) if lengths is None else lengths
        prompt = engine.encode(request)
        alone = not watched  # who waits for a file wants it to be the same again
        watched = watched or settings.reject > 0  # what is dropped is chosen by unfinished texts
        self.together = scorer.incremental and not watched
        self.job = Job(prompt.ids, self._caps(request), request, notes=prompt.notes, certainty=scorer.needs_certainty,
                       watched=watched, alone=alone)
        # By the longest length that the settings allow: whether a prompt fits does not depend on the seed.
        check_fits(len(prompt.ids), settings.lengths[1] if lengths is None else max(self.job.caps), engine)
        self.prompt = request.prompt if request.prompt is not None else self._prompt_text(request, engine, prompt.ids)
        self.state = RunState(self.lengths if isinstance(self.lengths, LengthSampler) else None)
        self.started = Started(
            self.prompt, engine.name, scorer.name, scorer.target, scorer.unit, settings, self.job.caps,
            request.messages, selection_uniform(settings.seed, request.query),
        )
        self.waiting: list[Candidate] = []
        self.rejection = EarlyRejection(self.job.caps) if settings.reject else None
        self.undecided: dict[int, Candidate] = {}
        self.spent = {"prefill": 0.0, "decode": 0.0, "score": 0.0}

    @staticmethod
    def _prompt_text(request: Request, engine: Engine, ids: Sequence[int]) -> str:
        return request.messages[-1]["content"] if request.messages else engine.decode(ids)

    def _caps(self, request: Request) -> tuple[int, ...]:
        return tuple(self._cap(request, i) for i in range(request.settings.n))

    def _cap(self, request: Request, index: int) -> int:
        if hasattr(self.lengths, "at"):
            return self.lengths.at(candidate_stream(request.settings.seed, request.query, index).random())
        if not callable(self.lengths):
            raise InputError(
                "length_sampler", say("error.length_sampler_not_callable", example="bon.LengthSampler(4, 16)")
            )
        return whole("length_sampler", self.lengths(), 1)

    def note(self, event: Event) -> Event:
        """Enters an event into the state and passes it on."""
        self.state.add(event)
        return event

    def after(self, step: Step, number: int, seconds: float) -> Iterator[Event]:
        """The events that one step of the engine means for this request."""
        self.spent[step.stage] += seconds
        if step.note:
            yield self.note(Note(step.note))
        # What was given up may be written on for a step or two where others use the model: it counts no more.
        grown = [row for row in step.grown.get(number, ()) if row.index not in self.job.unwanted]
        ended = [c for c in step.ended.get(number, ()) if c.index not in self.job.unwanted]
        if grown:
            yield self.note(Wrote(tuple(grown)))
        if self.rejection:
            for row in grown:
                self.rejection.record_progress(self.state.candidates[row.index])
            for candidate in ended:
                self.rejection.record_end(candidate.index)
        yield from self._complete(ended)
        if number in step.grown or number in step.ended:
            yield from self._score_waiting()
            yield from self._reject()
            yield self.note(Clock(self._timing()))

    def _complete(self, candidates: Sequence[Candidate]) -> Iterator[Event]:
        """Lets candidates wait for their score; those that may yet be dropped are kept back until that is decided."""
        for candidate in candidates:
            if self.rejection and self.rejection.may_drop(candidate.index):
                self.undecided[candidate.index] = candidate
            else:
                self.waiting.append(candidate)
                yield self.note(Ended(candidate))
                yield from (self.note(Note(text)) for text in candidate.notes if text not in self.state.notes)

    def _score_waiting(self) -> Iterator[Event]:
        over = all(c.ended for c in self.state.candidates)
        enough = self.scorer.incremental and len(self.waiting) >= math.ceil(len(self.job.caps) / 8)
        if self.together or not self.waiting or not (over or enough):
            return
        scores, notes = self._scores(self.ready())
        for event in (*notes, *scores):
            yield self.note(event)

    def ready(self) -> list[Item]:
        """What waited for its score, which it gets now."""
        ready, self.waiting = sorted(self.waiting, key=lambda c: c.index), []
        return self._items(ready)

    def scored(self, events: Sequence[Event], seconds: float) -> Iterator[Event]:
        """The events of a call of the scorer that took so many seconds for this request."""
        self.spent["score"] += seconds
        yield from map(self.note, (*events, Clock(self._timing())))

    def _reject(self) -> Iterator[Event]:
        """At a checkpoint that all have come to, gives up the share of them whose texts score lowest there."""
        while self.rejection and (standing := self.rejection.pop_complete()):
            yield from self._drop_lowest(standing)
            complete, self.undecided = list(self.undecided.values()), {}
            yield from self._complete(complete)
            yield from self._score_waiting()

    def _drop_lowest(self, standing: Sequence[Candidate]) -> Iterator[Event]:
        count = int(self.job.request.settings.reject * len(standing))
        if not count:
            return
        scores, notes = self._scores(self._items(standing))
        for event in notes:
            yield self.note(event)
        rated = {scored.index: scored for scored in scores}

        def worth(candidate: Candidate) -> tuple[float, int]:
            # Of equal ones those with the higher numbers go, as they would rank lower; empty ones go before all.
            scored = rated.get(candidate.index)
            return scored.score if scored else -math.inf, -candidate.index

        for candidate in sorted(standing, key=worth)[:count]:
            self.job.unwanted.add(candidate.index)
            self.rejection.drop(candidate.index)
            self.undecided.pop(candidate.index, None)
            yield self.note(Ended(dataclasses.replace(candidate, ended="rejected")))
            if candidate.index in rated:
                yield self.note(rated[candidate.index])

    def _items(self, candidates: Sequence[Candidate]) -> list[Item]:
        """What the scorer is asked to rate."""
        return [Item(self.prompt, candidate, self.job.request.messages) for candidate in candidates
                if not candidate.empty or self.scorer.rates_empty]

    def _scores(self, items: Sequence[Item]) -> tuple[list[Scored], list[Note]]:
        start = time.perf_counter()
        rated = _rated(self.scorer, items)
        self.spent["score"] += time.perf_counter() - start
        return rated

    def _timing(self) -> Timing:
        tokens = sum(c.tokens for c in self.state.candidates)
        writing = self.spent["prefill"] + self.spent["decode"]
        return Timing(
            **self.spent, total=sum(self.spent.values()), tokens=tokens,
            tokens_per_second=tokens / writing if writing else 0.0,
        )


def _score_together(runs: Sequence[_Run], scorer: Scorer) -> Iterator[tuple[int, Event]]:
    """Scores what waited until all was written, in one call; chats, which a scorer may read in another way, in theirs.
    """
    for chats in (False, True):
        some = {number: work for number, work in enumerate(runs)
                if work.waiting and (work.job.request.messages is not None) == chats}
        if not some:
            continue
        start = time.perf_counter()
        items = {number: work.ready() for number, work in some.items()}
        scores, notes = _rated(scorer, list(chain(*items.values())))
        scores, seconds = iter(scores), (time.perf_counter() - start) / len(some)
        for number, work in some.items():
            for event in work.scored([*notes, *islice(scores, len(items[number]))], seconds):
                yield number, event


def _rated(scorer: Scorer, items: Sequence[Item]) -> tuple[list[Scored], list[Note]]:
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


def check_fits(prompt: int, new: int, engine: Engine) -> None:
    """Raises `InputError` where a prompt of so many tokens and so many new ones exceed the engine's context."""
    if engine.context is not None and prompt + new > engine.context:
        raise InputError("prompt", say(
            "error.prompt_too_long", tokens=str(prompt), new=str(new), model=engine.name, limit=str(engine.context),
            most=str(max(0, engine.context - new)),
        ))
