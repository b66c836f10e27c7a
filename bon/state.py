"""What a run has come to: events go in, the result so far comes out, at any moment.

The flow ends with it, the page draws from it, HTTP sends it while it grows, and it is what remains after a stop.
"""

import dataclasses
import math

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
                    self._change(
                        row.index, text=row.text, tokens=row.tokens, logprob=row.logprob, certainty=row.certainty
                    )
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
        settings = self.started.settings
        ranked = selection.rank(self.candidates, settings.select, settings.softness, self.started.luck)
        notes = list(self.notes)
        if stopped:
            ranked = [dataclasses.replace(c, ended=c.ended or "stopped") for c in ranked]
            if self.scored < len(ranked):
                notes.append(f"Stopped with {self.scored} of {len(ranked)} candidates scored: the figures are theirs.")
        if rejected := sum(c.ended == "rejected" for c in ranked):
            notes.append(f"Early rejection dropped {rejected} of {len(ranked)} candidates half written, so there are "
                         "no figures of what fewer samples would have brought.")
        if settings.select == "soft":
            notes.append(f"Soft selection (softness {settings.softness:g}) chose the first by a draw: the curve of "
                         "expected scores is that of plain best of k.")
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
            mean=stats.mean([c.score for c in ranked]),
            expected_best=tuple(sign * value for value in stats.expected_best([sign * c.score for c in ranked])),
            kl_bound=stats.kl_bound(n) if plain else None,
            kl_estimate=stats.kl_estimate(n, log_e) if plain and log_e is not None else None,
            win_rate=None if select == "soft" else stats.win_rate(n),
        )


def drawing_logprob(candidate: Candidate, lengths: LengthSampler | None) -> float | None:
    """The log-probability, in nats, of drawing this candidate from the distribution that is sampled, its cap among it.

    None where the caps' distribution is not known.
    """
    if lengths is None or candidate.sampled_logprob is None:
        return None
    low, high = (candidate.cap, candidate.cap) if candidate.ended == "length" else (candidate.tokens + 1, math.inf)
    return candidate.sampled_logprob + stats.log(lengths.probability(low, high))
