"""The state of a run: events go in, the result so far comes out at any moment; and results ranked anew.

The flow ends with its result, the page draws it while it grows, and it is what a stopped run leaves.
"""

import dataclasses
import math
from collections.abc import Sequence
from itertools import accumulate

from bon.events import Clock, Ended, Event, Note, Row, Scored, Started, Wrote
from bon.messages import say
from bon.result import COMPLETE, Candidate, Result, Stats, Timing
from bon.settings import Settings
from bon.stats import estimates, ranking
from bon.stats.lengths import LengthSampler

#: Keys of the notes that ranking a truncated result again writes; older ones of these keys no longer apply.
_RERANK_NOTES = {"note.kept_ranked", "note.kept_ranked_without_figures", "note.soft_selection"}


class RunState:
    """Accumulates the events of one run.

    lengths: the distribution of the caps where it is known; without it KL is not estimated.
    """

    timing: Timing

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
                    self.candidates[row.index] = dataclasses.replace(
                        self.candidates[row.index], text=row.text, tokens=row.tokens, logprob=row.logprob,
                        certainty=row.certainty, pieces=self._pieces(row),
                    )
            case Ended(candidate):
                text = candidate.full_text or candidate.text
                whole = dataclasses.replace(candidate, text=text, tokens=candidate.generated)
                pieces = candidate.pieces or self._pieces(whole)
                if candidate.full_text is not None:
                    pieces = _first_pieces(pieces, len(candidate.text))
                self.candidates[candidate.index] = dataclasses.replace(candidate, pieces=pieces)
            case Scored(index, score, parts):
                self.candidates[index] = dataclasses.replace(self.candidates[index], score=score, parts=parts)
            case Note(text):
                if text not in self.notes:
                    self.notes.append(text)
            case Clock(timing):
                self.timing = timing

    def _pieces(self, now: Row | Candidate) -> tuple[tuple[str, float], ...]:
        """The pieces of a candidate's text, extended by what it has gained, text and log-probability, since before."""
        before = self.candidates[now.index]
        if now.logprob is None:
            return ()
        if now.tokens < before.tokens or not now.text.startswith(before.text):  # generated again, after a retry
            return ((now.text, now.logprob),) if now.text else ()
        if now.tokens == before.tokens and now.text == before.text:
            return before.pieces
        pieces, text, logprob = before.pieces, now.text[len(before.text):], now.logprob - (before.logprob or 0.0)
        # Its tokens were the first bytes of the character that is complete now, or of its last token only a part was
        # shown, since the rest might have begun a stop string.
        if pieces and (not pieces[-1][0] or now.tokens == before.tokens):
            shown, shown_logprob = pieces[-1]
            pieces, text, logprob = pieces[:-1], shown + text, shown_logprob + logprob
        return (*pieces, (text, logprob))

    @property
    def scored(self) -> int:
        """How many candidates have a score."""
        return sum(c.score is not None for c in self.candidates)

    def result(self, stopped: bool = False) -> Result:
        """The result so far, ranked; with `stopped`, unfinished candidates are marked so and a note says how many.

        Raises `ValueError` before the run has started.
        """
        if self.started is None:
            raise ValueError("The run has not started.")
        started, settings = self.started, self.started.settings
        ranked = ranking.rank(self.candidates, settings.select, settings.softness, started.uniform)
        notes = list(self.notes)
        if stopped:
            ranked = [dataclasses.replace(c, ended=c.ended or "stopped") for c in ranked]
            # The result of a run that was stopped before, such as a record that is opened, has its note.
            noted = any(getattr(note, "key", None) == "note.stopped" for note in notes)
            if not noted and not all(c.settled for c in ranked):
                notes.append(say("note.stopped", scored=str(self.scored), of=str(len(ranked))))
        if rejected := sum(c.ended == "rejected" for c in ranked):
            notes.append(say("note.rejected", rejected=str(rejected), of=str(len(ranked))))
        notes += _unscored_notes(ranked)
        if settings.select == "soft":
            notes.append(_soft_selection_note(settings))
        return Result(
            started.prompt, started.model, started.scorer, started.target, started.unit, settings,
            tuple(ranked[: settings.keep]),
            # What early rejection leaves was selected: it is no plain sample to estimate from.
            stats=None if rejected else self._stats([c for c in ranked if c.score is not None], settings),
            timing=self.timing, notes=tuple(notes), messages=started.messages, dtype=started.dtype,
        )

    def _stats(self, ranked: Sequence[Candidate], settings: Settings) -> Stats | None:
        """The statistics over the candidates that have a score; None where there is none."""
        scores = [c.score for c in ranked if c.score is not None]
        if not scores:
            return None
        n, sign = len(scores), -1 if settings.select == "worst" else 1
        # The bounds hold for best-of-n over a plain sample. The first to be scored are the short ones, and soft
        # selection moves less far.
        plain = n == len(self.candidates) and settings.select != "soft"
        log_e = drawing_logprob(ranked[0], self._lengths)
        return Stats(
            mean=estimates.mean(scores),
            expected_best=tuple(sign * value for value in estimates.expected_best([sign * score for score in scores])),
            kl_bound=estimates.kl_bound(n) if plain else None,
            kl_estimate=estimates.kl_estimate(n, log_e) if plain and log_e is not None else None,
            win_rate=None if settings.select == "soft" else estimates.win_rate(n),
        )


def _first_pieces(pieces: Sequence[tuple[str, float]], length: int) -> tuple[tuple[str, float], ...]:
    """The pieces of the first `length` characters of a text; the last one is cut to them."""
    starts = accumulate((len(text) for text, _ in pieces), initial=0)
    return tuple((text[: length - start], logprob) for start, (text, logprob) in zip(starts, pieces, strict=False)
                 if start < length)


def _soft_selection_note(settings: Settings) -> str:
    return say("note.soft_selection", softness=f"{settings.softness:g}")


def _unscored_notes(candidates: Sequence[Candidate]) -> list[str]:
    """The notes on complete texts that have no score; none where there are none."""
    unscored = [c for c in candidates if c.ended in COMPLETE and c.score is None and (c.empty or c.unrated)]
    empty = sum(c.empty for c in unscored)
    unrated = len(unscored) - empty
    if unscored and len(unscored) == sum(c.ended != "rejected" for c in candidates):
        all_stopped = all(c.ended == "stop_string" for c in unscored)
        return [say("note.all_unrated" if unrated else "note.all_empty_at_stop" if all_stopped else "note.all_empty")]
    counts = {"note.empty": empty, "note.unrated": unrated}
    return [say(key, n=count, of=str(len(candidates))) for key, count in counts.items() if count]


def rerank(result: Result, settings: Settings, uniform: float, scores: Sequence[Scored] = (),
           target: str | None = None) -> Result:
    """The candidates of a run that has ended, ranked by other rules, with no new generation.

    settings: with another `select` or `softness`. uniform: the number in [0, 1) by which soft selection draws. scores:
    new ones, in place of the old, and target, the label that they are of. Where the run kept only some of its
    candidates, these are ranked; the statistics are then the run's, or None under new scores.
    """
    if _is_truncated(result):
        return _rerank_kept(result, settings, uniform, scores, target)
    state = _state_of(result, settings, uniform, target)
    for event in scores:
        state.add(event)
    return state.result()


def _is_truncated(result: Result) -> bool:
    """Whether the result holds only some of its run's candidates, as `keep` asks."""
    return len(result.candidates) < result.settings.n


def _rerank_kept(result: Result, settings: Settings, uniform: float, scores: Sequence[Scored], target: str | None
                 ) -> Result:
    """`rerank` for a truncated result, whose statistics cannot be computed again from its candidates."""
    by_index = {scored.index: scored for scored in scores}
    candidates = [
        dataclasses.replace(c, score=new.score, parts=new.parts) if (new := by_index.get(c.index)) else c
        for c in result.candidates
    ]
    stats = None if scores else result.stats
    notes = [note for note in result.notes if getattr(note, "key", None) not in _RERANK_NOTES]
    key = "note.kept_ranked" if stats else "note.kept_ranked_without_figures"
    notes.append(say(key, n=len(candidates), of=str(settings.n)))
    if settings.select == "soft":
        notes.append(_soft_selection_note(settings))
    return dataclasses.replace(
        result, settings=settings, target=target or result.target, stats=stats, notes=tuple(notes),
        candidates=tuple(ranking.rank(candidates, settings.select, settings.softness, uniform)),
    )


def mark_stopped(result: Result) -> Result:
    """The result of a run that was stopped: unfinished candidates are marked so."""
    if _is_truncated(result):
        candidates = tuple(dataclasses.replace(c, ended=c.ended or "stopped") for c in result.candidates)
        return dataclasses.replace(result, candidates=candidates)
    return _state_of(result, result.settings).result(stopped=True)


def _state_of(result: Result, settings: Settings, uniform: float = 0.0, target: str | None = None) -> RunState:
    """The state that a run with this result and these settings would have reached.

    Of the result's notes it has only those that come from events: `RunState.result` writes the others again.
    """
    derived = {name for note in _replay(result, result.settings).result().notes
               for name in (note, getattr(note, "key", None))}
    state = _replay(result, settings, uniform, target)
    state.notes = [note for note in result.notes if derived.isdisjoint((note, getattr(note, "key", note)))]
    return state


def _replay(result: Result, settings: Settings, uniform: float = 0.0, target: str | None = None) -> RunState:
    """A state from the events that a result's candidates stand for, without notes."""
    state = RunState(LengthSampler.of(settings))
    caps = tuple(c.cap for c in sorted(result.candidates, key=lambda c: c.index))
    state.add(Started(result.prompt, result.model, result.scorer, target or result.target, result.unit, settings, caps,
                      result.messages, uniform, result.dtype))
    for candidate in result.candidates:
        state.add(Ended(candidate))
    state.add(Clock(result.timing))
    return state


def drawing_logprob(candidate: Candidate, lengths: LengthSampler | None) -> float | None:
    """The log-probability, in nats, of drawing this candidate: of its tokens as sampled, and of a cap that allows it.

    None where the distribution of the caps, or the tokens' sampling probability, is not known.
    """
    if lengths is None or candidate.sampled_logprob is None:
        return None
    low = len(candidate.token_ids) if candidate.ended == "stop_string" else candidate.tokens + 1
    low, high = (candidate.cap, candidate.cap) if candidate.ended == "length" else (low, math.inf)
    return candidate.sampled_logprob + estimates.log_or_minus_inf(lengths.probability(low, high))
