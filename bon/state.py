"""What a run has come to: events go in, the result so far comes out, at any moment.

The flow ends with it, the page draws from it, HTTP sends it while it grows, and it is what remains after a stop.
"""

import dataclasses

from bon import selection, stats
from bon.lengths import LengthSampler
from bon.schema import Candidate, Clock, Ended, Event, Note, Result, Scored, Started, Stats, Timing, Wrote


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
                    self._change(row.index, text=row.text, tokens=row.tokens, logprob=row.logprob)
            case Ended(candidate):
                self.candidates[candidate.index] = candidate
            case Scored(index, score, parts):
                self._change(index, score=score, parts=parts)
            case Note(text):
                if text not in self.notes:
                    self.notes.append(text)
            case Clock(timing):
                self.timing = timing

    def _change(self, index: int, **values: object) -> None:
        self.candidates[index] = dataclasses.replace(self.candidates[index], **values)

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
        ranked, notes = selection.rank(self.candidates), list(self.notes)
        if stopped:
            ranked = [dataclasses.replace(c, ended=c.ended or "stopped") for c in ranked]
            if self.scored < len(ranked):
                notes.append(f"Stopped with {self.scored} of {len(ranked)} candidates scored: the figures are theirs.")
        if rejected := sum(c.ended == "rejected" for c in ranked):
            notes.append(f"Early rejection dropped {rejected} of {len(ranked)} candidates half written, so there are "
                         "no figures of what fewer samples would have brought.")
        fields = {name: getattr(self.started, name) for name in Started.__dataclass_fields__ if name != "caps"}
        return Result(
            **fields,
            candidates=tuple(ranked[: self.started.settings.keep]),
            # The survivors were chosen: they say nothing about one plain sample.
            stats=None if rejected else self._stats([c for c in ranked if c.score is not None]),
            timing=self.timing,
            notes=tuple(notes),
        )

    def _stats(self, ranked: list[Candidate]) -> Stats | None:
        if not ranked:
            return None
        scores = [c.score for c in ranked]
        n = len(scores)
        whole = n == len(self.candidates)  # those that are scored first are the short ones, and no plain sample
        return Stats(
            mean=stats.mean(scores),
            expected_best=tuple(stats.expected_best(scores)),
            kl_bound=stats.kl_bound(n) if whole else None,
            kl_estimate=self._kl_estimate(ranked[0], n) if whole else None,
            win_rate=stats.win_rate(n),
        )

    def _kl_estimate(self, best: Candidate, n: int) -> float | None:
        if self._lengths is None or best.sampled_logprob is None:
            return None
        low, high = (best.cap, best.cap) if best.ended == "length" else (best.tokens + 1, float("inf"))
        return stats.kl_estimate(n, best.sampled_logprob + stats.log(self._lengths.probability(low, high)))
