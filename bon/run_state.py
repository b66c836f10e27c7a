"""What a run has come to: events go in, the result so far comes out, at any moment.

The flow ends with it, the page draws from it, HTTP sends it while it grows, and it is what remains after a stop.
"""

import dataclasses
import math
from collections.abc import Sequence

from bon.events import Clock, Ended, Event, Note, Row, Scored, Started, Wrote
from bon.messages import say
from bon.result import Candidate, Result, Stats, Timing
from bon.settings import Settings
from bon.stats import estimates, ranking
from bon.stats.lengths import LengthSampler


class RunState:
    """Adds the events of one run up.

    `lengths` is the distribution of the caps where it is known; without it there is no estimate of the KL.
    """

    def __init__(self, lengths: LengthSampler | None = None):
        self.started: Started | None = None
        self.candidates: list[Candidate] = []
        self.notes: list[str] = []
        self.timing = Timing()
        self._lengths = lengths

    def add(self, event: Event) -> None:
        """Takes one event in."""
        match event:
            case Started():
                self.started = event
                self.candidates = [Candidate(index=i, cap=cap) for i, cap in enumerate(event.caps)]
            case Wrote(rows):
                for row in rows:
                    self._change(
                        row.index, text=row.text, tokens=row.tokens, logprob=row.logprob, certainty=row.certainty,
                        pieces=self._pieces(row),
                    )
            case Ended(candidate):
                pieces = candidate.pieces or self._pieces(candidate)
                self.candidates[candidate.index] = dataclasses.replace(candidate, pieces=pieces)
            case Scored(index, score, parts):
                self._change(index, score=score, parts=parts)
            case Note(text):
                if text not in self.notes:
                    self.notes.append(text)
            case Clock(timing):
                self.timing = timing

    def _change(self, index: int, **values: object) -> None:
        self.candidates[index] = dataclasses.replace(self.candidates[index], **values)

    def _pieces(self, now: Row | Candidate) -> tuple[tuple[str, float], ...]:
        """The pieces of a text that has grown, its log-probability with it."""
        was = self.candidates[now.index]
        if now.logprob is None:
            return ()
        if now.tokens < was.tokens or not now.text.startswith(was.text):  # begun again
            return ((now.text, now.logprob),) if now.text else ()
        if now.tokens == was.tokens and now.text == was.text:
            return was.pieces
        before, text, logprob = was.pieces, now.text[len(was.text):], now.logprob - (was.logprob or 0.0)
        if before and not before[-1][0]:  # a character that was not complete yet
            before, logprob = before[:-1], before[-1][1] + logprob
        return (*before, (text, logprob))

    @property
    def scored(self) -> int:
        """How many candidates have their score."""
        return sum(c.score is not None for c in self.candidates)

    def result(self, stopped: bool = False) -> Result:
        """The result so far, ranked; with `stopped`, unfinished candidates are marked so and a note says how many.

        Raises `ValueError` before the run has started.
        """
        if self.started is None:
            raise ValueError("The run has not started.")
        settings = self.started.settings
        ranked = ranking.rank(self.candidates, settings.select, settings.softness, self.started.luck)
        notes = list(self.notes)
        if stopped:
            ranked = [dataclasses.replace(c, ended=c.ended or "stopped") for c in ranked]
            if not all(c.settled for c in ranked):
                notes.append(say("note.stopped", scored=str(self.scored), of=str(len(ranked))))
        if rejected := sum(c.ended == "rejected" for c in ranked):
            notes.append(say("note.rejected", rejected=str(rejected), of=str(len(ranked))))
        notes += _of_empty(ranked)
        if settings.select == "soft":
            notes.append(_of_soft_selection(settings))
        own = {"caps", "luck"}
        fields = {name: getattr(self.started, name) for name in Started.__dataclass_fields__ if name not in own}
        return Result(
            **fields,
            candidates=tuple(ranked[: settings.keep]),
            # The survivors were chosen: they say nothing about one plain sample.
            stats=None if rejected else self._stats([c for c in ranked if c.score is not None]),
            timing=self.timing,
            notes=tuple(notes),
        )

    def _stats(self, ranked: list[Candidate]) -> Stats | None:
        if not ranked:
            return None
        select, n = self.started.settings.select, len(ranked)
        sign = -1 if select == "worst" else 1
        # Those that are scored first are the short ones, and no plain sample; soft selection moves less far.
        plain = n == len(self.candidates) and select != "soft"
        log_e = drawing_logprob(ranked[0], self._lengths)
        return Stats(
            mean=estimates.mean([c.score for c in ranked]),
            expected_best=tuple(sign * value for value in estimates.expected_best([sign * c.score for c in ranked])),
            kl_bound=estimates.kl_bound(n) if plain else None,
            kl_estimate=estimates.kl_estimate(n, log_e) if plain and log_e is not None else None,
            win_rate=None if select == "soft" else estimates.win_rate(n),
        )


def _of_soft_selection(settings: Settings) -> str:
    return say("note.soft_selection", softness=f"{settings.softness:g}")


def _of_empty(candidates: Sequence[Candidate]) -> list[str]:
    """What to say of texts that are empty and hence have no score; nothing where there are none."""
    complete = [c for c in candidates if c.ended in ("eos", "length")]
    empty = sum(c.score is None and c.empty for c in complete)
    if not empty:
        return []
    if empty == sum(c.ended != "rejected" for c in candidates):
        return [say("note.all_empty")]
    return [say("note.empty", n=empty, of=str(len(candidates)))]


def ranked_anew(result: Result, settings: Settings, luck: float, scores: Sequence[Scored] = (),
                target: str | None = None) -> Result:
    """The candidates of a run that has ended, ranked by other rules: nothing is generated.

    settings: with another `select` or `softness`. luck: the uniform number that soft selection chooses by. scores: new
    ones, in place of the old. target: the label that they are of. Where the run kept only some of its candidates, these
    are ranked, and the figures stay as they were while the scores do.
    """
    if _incomplete(result):
        return _kept_ranked_anew(result, settings, luck, scores, target)
    state = _restored(result, settings, luck, target)
    for event in scores:
        state.add(event)
    return state.result()


def _incomplete(result: Result) -> bool:
    """Whether the result holds only some of its run's candidates."""
    return len(result.candidates) < result.settings.n


def _kept_ranked_anew(result: Result, settings: Settings, luck: float, scores: Sequence[Scored], target: str | None
                      ) -> Result:
    changed = {scored.index: {"score": scored.score, "parts": scored.parts} for scored in scores}
    candidates = [dataclasses.replace(c, **changed.get(c.index, {})) for c in result.candidates]
    stats = None if scores else result.stats
    own = {"note.kept_ranked", "note.kept_ranked_without_figures", "note.soft_selection"}
    notes = [note for note in result.notes if getattr(note, "key", None) not in own]
    key = "note.kept_ranked" if stats else "note.kept_ranked_without_figures"
    notes.append(say(key, n=len(candidates), of=str(settings.n)))
    if settings.select == "soft":
        notes.append(_of_soft_selection(settings))
    return dataclasses.replace(
        result, settings=settings, target=target or result.target, stats=stats, notes=tuple(notes),
        candidates=tuple(ranking.rank(candidates, settings.select, settings.softness, luck)),
    )


def stopped(result: Result) -> Result:
    """What a run had come to when it was stopped."""
    if _incomplete(result):
        ended = tuple(dataclasses.replace(c, ended=c.ended or "stopped") for c in result.candidates)
        return dataclasses.replace(result, candidates=ended)
    return _restored(result, result.settings).result(stopped=True)


def _restored(result: Result, settings: Settings, luck: float = 0.0, target: str | None = None) -> RunState:
    """The state behind a result, under these settings."""
    # What the state notes by itself, it notes anew.
    renewed = {name for note in _of_candidates(result, result.settings).result().notes for name in (note, note.key)}
    state = _of_candidates(result, settings, luck, target)
    state.notes = [note for note in result.notes if renewed.isdisjoint((note, getattr(note, "key", note)))]
    return state


def _of_candidates(result: Result, settings: Settings, luck: float = 0.0, target: str | None = None) -> RunState:
    state = RunState(LengthSampler.of(settings))
    caps = tuple(c.cap for c in sorted(result.candidates, key=lambda c: c.index))
    state.add(Started(result.prompt, result.model, result.scorer, target or result.target, result.unit, settings, caps,
                      result.messages, luck))
    for event in (*map(Ended, result.candidates), Clock(result.timing)):
        state.add(event)
    return state


def drawing_logprob(candidate: Candidate, lengths: LengthSampler | None) -> float | None:
    """The log-probability, in nats, of drawing this candidate from the distribution that is sampled, its cap among it.

    None where the caps' distribution is not known.
    """
    if lengths is None or candidate.sampled_logprob is None:
        return None
    low, high = (candidate.cap, candidate.cap) if candidate.ended == "length" else (candidate.tokens + 1, math.inf)
    return candidate.sampled_logprob + estimates.log_or_minus_inf(lengths.probability(low, high))
