"""What a comparison came to: table, figure and sentence, all made from the samples that it holds.

Plain values and formulas, without models: `bon.compare.compare_run` fills it.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from bon.messages import described, joined, say
from bon.result import Candidate, Result
from bon.run_state import RunState, drawing_logprob
from bon.settings import Settings
from bon.stats import estimates
from bon.stats.lengths import LengthSampler

#: How many of the best are averaged in the row of that name.
TOP = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """One prompt: the candidates in the order of their numbers, each with its score and the judge's.

    base: n of the base model; opponent: one more. tuned: n, or none. Empty texts have no score. log_ratios: log p_tuned
    - log p_base of each of the tuned ones, nats; none where the tokenizers differ or the distribution is cut. seconds:
    of one run for one sample of base and of tuned, and of the run for the best of n.
    """

    prompt: str
    base: tuple[Candidate, ...]
    opponent: Candidate
    tuned: tuple[Candidate, ...] = ()
    log_ratios: tuple[float, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def scored(self) -> bool:
        """Whether each model has written a text that has a score."""
        return all(any(c.score is not None for c in texts) for texts in (self.base, self.tuned) if texts)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over prompts with its 95% interval (None for a single prompt)."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One system of the table. kind: `base`, `tuned`, `best`, `soft`, `top` or `worst`, of k samples.

    score, judge: with 95% intervals. wins: share of prompts on which it beats the opponent, a tie one half. kl: nats:
    0, measured with its standard error `kl_error`, or for `best` an upper bound with `kl_estimate` beside it; None
    where no formula holds. tokens: generated per prompt. seconds: per prompt, where that was timed.
    """

    kind: str
    k: int
    score: Estimate
    wins: Estimate
    judge: Estimate | None
    kl: float | None
    kl_error: float | None
    kl_estimate: float | None
    tokens: float
    seconds: float | None


@dataclass(frozen=True)
class Comparison:
    """What the prompts that are done came to."""

    base: str
    tuned: str | None
    scorer: str
    judge: str | None
    target: str | None
    unit: str
    settings: Settings
    prompts: int
    outcomes: tuple[Outcome, ...] = ()
    points: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every prompt is done."""
        return len(self.outcomes) == self.prompts

    @cached_property
    def counted(self) -> tuple[Outcome, ...]:
        """The outcomes that the figures are made from: without those in which a model wrote empty texts alone."""
        return tuple(outcome for outcome in self.outcomes if outcome.scored)

    def rows(self) -> list[Row]:
        """The table: base, tuned, best of 1, 2, 4, ... and n, and the other ways of selecting among n.

        Of n candidates some may have no score: best of k is over the k that hold one, all else over the scored ones.
        """
        return self._rows

    @cached_property
    def _rows(self) -> list[Row]:
        return [self._row(system) for system in systems(self.settings) if self._wrote(system)]

    def _wrote(self, system: "System") -> bool:
        return bool(self.counted) and (system.kind != "tuned" or bool(self.counted[0].tuned))

    def _row(self, system: "System") -> Row:
        among = [o.tuned if system.kind == "tuned" else o.base for o in self.counted]

        def over_prompts(values) -> Estimate:
            return interval([
                system.average(_scores(texts), values(texts, outcome.opponent))
                for texts, outcome in zip(map(system.rated, among), self.counted, strict=True)
            ])

        judged = _judged(among)
        timed = [o.seconds.get(system.timed_as) for o in self.counted] if system.timed_as else [None]
        return Row(
            system.kind, system.k, over_prompts(lambda candidates, _: _scores(candidates)),
            over_prompts(lambda candidates, opponent: wins(_scores(candidates), opponent)),
            over_prompts(lambda candidates, _: [c.judge for c in candidates]) if judged else None, **self._kl(system),
            tokens=system.samples * estimates.mean([estimates.mean([c.tokens for c in texts]) for texts in among]),
            seconds=None if None in timed else estimates.mean(timed),
        )

    def _kl(self, system: "System") -> dict[str, float | None]:
        none = {"kl": None, "kl_error": None, "kl_estimate": None}
        if system.kind == "base":
            return none | {"kl": 0.0}
        if system.kind == "best":
            each = [self._kl_estimate(o, system.k) for o in self.counted]
            estimate = None if None in each else estimates.mean(each)
            return none | {"kl": estimates.kl_bound(system.k), "kl_estimate": estimate}
        means = [estimates.mean(o.log_ratios) for o in self.counted if o.log_ratios]
        if system.kind != "tuned" or not means:
            return none
        return none | {"kl": estimates.mean(means), "kl_error": estimates.standard_error(means)}

    def _kl_estimate(self, outcome: Outcome, k: int) -> float | None:
        lengths = LengthSampler(self.settings.min_tokens, self.settings.max_tokens + 1)
        drawn = [drawing_logprob(c, lengths) for c in outcome.base]
        if None in drawn:
            return None
        each = [estimates.kl_estimate(k, log_e) for log_e in drawn]
        return estimates.expected_best(_scores(outcome.base), each)[k - 1]

    def differences(self) -> list[dict[str, Any]]:
        """At the KL of each tuned point: what best-of-N scores there, less what the point scores.

        Best-of-N between two counts k is taken as a straight line over the square root of KL. `low` and `high` are
        those of the difference over prompts, for the tuned model itself; checkpoints were measured apart.
        """
        found = []
        for point in [*self.points, *self._tuned_point()]:
            at = self._at(math.sqrt(max(point["kl"], 0.0)))
            if at is None:
                found.append({**point, "difference": None})
                continue
            if (each := point.get("each")) is not None:
                gap = interval([a - b for a, b in zip(at, each, strict=True)])
            else:
                gap = Estimate(float(np.mean(at)) - point["score"])
            told = {k: v for k, v in point.items() if k != "each"}
            found.append({**told, "best": float(np.mean(at)), "difference": gap.mean, "low": gap.low, "high": gap.high})
        return found

    def _tuned_point(self) -> list[dict[str, Any]]:
        row = next((row for row in self.rows() if row.kind == "tuned" and row.kl is not None), None)
        return [] if row is None else [{
            "name": "tuned", "kl": row.kl, "kl_error": row.kl_error, "score": row.score.mean,
            "each": [estimates.mean(_scores(scored(o.tuned))) for o in self.counted],
        }]

    def _at(self, root: float) -> np.ndarray | None:
        """Each prompt's expected best at a distance sqrt(KL), or None beyond the best of n."""
        roots = [math.sqrt(estimates.kl_bound(k)) for k in range(1, self.settings.n + 1)]
        if root > roots[-1] + 1e-9:
            return None
        return np.array([np.interp(root, roots, estimates.expected_best(_scores(o.base))) for o in self.counted])

    def sentence(self) -> str:
        """Which of best-of-N and the tuned model is ahead where, and whether the judge follows the scorer; nothing
        where there are no figures yet.
        """
        if not self.counted:
            return ""
        return joined([self._against_tuned(), self._against_checkpoints(), self._with_judge()], " ")

    def _with_judge(self) -> str:
        """What the last fourfold of the samples brought in the scorer's eyes and in the judge's."""
        n = self.settings.n
        if n < 16 or not _judged(o.base for o in self.counted):
            return ""

        def gain(values) -> Estimate:
            curves = [estimates.expected_best(_scores(o.base), values(o.base)) for o in self.counted]
            return interval([curve[n - 1] - curve[n // 4 - 1] for curve in curves])

        scorer, judge = gain(_scores), gain(lambda candidates: [c.judge for c in candidates])
        if judge.low is None:
            return ""
        verdict = "gains" if judge.low > 0 else "loses" if judge.high < 0 else "same"
        return say(
            "comparison.judge", few=str(n // 4), many=str(n), scorer=f"{scorer.mean:+.3f}",
            verdict=say(f"comparison.judge.{verdict}"), judge=f"{judge.mean:+.3f}", low=f"{judge.low:+.3f}",
            high=f"{judge.high:+.3f}",
        )

    def _against_tuned(self) -> str:
        tuned = next((d for d in self.differences() if d["name"] == "tuned"), None)
        if tuned is None:
            return say("comparison.no_tuned")
        kl, n = f"{tuned['kl']:.2f}", self.settings.n
        if tuned["difference"] is None:
            return say("comparison.tuned_too_far", kl=kl, n=str(n), bound=f"{estimates.kl_bound(n):.2f}")
        difference, low, high = tuned["difference"], tuned["low"], tuned["high"]
        undecided = difference == 0 or (low is not None and low <= 0 <= high)
        leader = "neither" if undecided else "best" if difference > 0 else "tuned"
        ahead = say(f"comparison.ahead.{leader}", gap=f"{difference:+.3f}")
        if low is not None:
            ahead = say("comparison.with_interval", text=ahead, low=f"{low:+.3f}", high=f"{high:+.3f}")
        return say("comparison.at_tuned", kl=kl, ahead=ahead)

    def _against_checkpoints(self) -> str:
        earlier = [d for d in self.differences() if d["name"] != "tuned" and d["difference"] is not None]
        if not earlier or not any(d["name"] == "tuned" for d in self.differences()):
            return ""
        return say("comparison.checkpoints", leads=joined(map(_lead, earlier), "; "))

    def to_dict(self) -> dict[str, Any]:
        """The comparison in plain JSON types: the samples, and the table and figure made from them."""
        out = dataclasses.asdict(dataclasses.replace(self, outcomes=(), points=()))
        del out["outcomes"], out["points"]
        out |= {"notes": [str(note) for note in self.notes], "note_keys": [described(note) for note in self.notes]}
        out["done"] = len(self.outcomes)
        out["table"] = [dataclasses.asdict(row) for row in self.rows()]
        out["figure"] = {
            "points": [dict(point) for point in self.points],
            "differences": self.differences() if self.counted else [],
            "sentence": self.sentence(),
        }
        out["samples"] = [_plain(outcome) for outcome in self.outcomes]
        return out


def _lead(point: Mapping[str, Any]) -> str:
    """Who is ahead at a checkpoint of the training, and by how much."""
    leader = "best" if point["difference"] > 0 else "tuned"
    return say(f"comparison.checkpoint.{leader}", gap=f"{abs(point['difference']):.3f}", kl=f"{point['kl']:.2f}")


def _plain(outcome: Outcome) -> dict[str, Any]:
    """An outcome in plain JSON types; unlike a result's, its candidates carry what the KL is estimated from."""
    def plain(candidate: Candidate) -> dict[str, Any]:
        names = ("index", "text", "score", "judge", "tokens", "cap", "ended", "logprob", "sampled_logprob")
        return {name: getattr(candidate, name) for name in names}

    return {
        "prompt": outcome.prompt, "base": [plain(c) for c in outcome.base], "opponent": plain(outcome.opponent),
        "tuned": [plain(c) for c in outcome.tuned], "log_ratios": list(outcome.log_ratios),
        "seconds": dict(outcome.seconds),
    }


@dataclass(frozen=True, slots=True)
class System:
    """A way of getting one text, as an average over the candidates that were written.

    average: from the candidates' scores and any values of theirs to the mean value of what is selected. samples: how
    many candidates one text takes. timed_as: the run that took as long, or none.
    """

    kind: str
    k: int
    average: Callable[[Sequence[float | None], Sequence[float]], float]
    samples: int
    timed_as: str | None

    def rated(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """The candidates that the average is over: best of k knows what to make of those without a score."""
        return candidates if self.kind == "best" else scored(candidates)


def systems(settings: Settings) -> list[System]:
    """What is compared, in the order of the table."""
    n, softness, top = settings.n, settings.softness, min(TOP, settings.n)

    def one(_, values):
        return estimates.mean(values)

    def best(k):
        return lambda scores, values: estimates.expected_best(scores, values)[k - 1]

    found = [System("base", 1, one, 1, "base"), System("tuned", 1, one, 1, "tuned")]
    found += [System("best", k, best(k), k, "best" if k == n else None) for k in powers(n)]
    if n > 1:
        found += [
            System("soft", n, lambda scores, values: estimates.soft_best(scores, softness, values), n, "best"),
            System("top", top, lambda scores, values: estimates.top_average(scores, top, values), n, "best"),
            System("worst", n, lambda scores, values: estimates.top_average(scores, 1, values, largest=False), n,
                   "best"),
        ]
    return found


def powers(n: int) -> list[int]:
    """1, 2, 4, ... below n, and n."""
    return [*(1 << i for i in range((n - 1).bit_length())), n]


def scored(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that have a score."""
    return [c for c in candidates if c.score is not None]


def winner(candidates: Sequence[Candidate]) -> Candidate:
    """The one of highest score, of equal ones the first; the first of all where none has a score."""
    return max(candidates, key=lambda c: (-math.inf if c.score is None else c.score, -c.index))


def _scores(candidates: Sequence[Candidate]) -> list[float | None]:
    return [c.score for c in candidates]


def _judged(groups: Iterable[Sequence[Candidate]]) -> bool:
    """Whether the judge has rated all that has a score."""
    return all(c.judge is not None for candidates in groups for c in scored(candidates))


def wins(scores: Sequence[float | None], opponent: Candidate) -> list[float | None]:
    """For each score 1 where it beats the opponent's (or the opponent has none), one half where it ties, else 0."""
    def beats(score: float | None) -> float | None:
        if score is None or opponent.score is None:
            return None if score is None else 1.0
        return 1.0 if score > opponent.score else 0.5 if score == opponent.score else 0.0

    return list(map(beats, scores))


def interval(values: Sequence[float]) -> Estimate:
    """The mean over prompts with its bootstrap interval; without one for a single prompt."""
    if len(values) < 2:
        return Estimate(estimates.mean(values))
    return Estimate(estimates.mean(values), *estimates.bootstrap_interval(values))


@dataclass(frozen=True, slots=True)
class Writing:
    """One system's run for one prompt goes on. part: `base`, `tuned` or `best`. state: of the run, which grows."""

    number: int
    part: str
    state: RunState

    @property
    def result(self) -> Result:
        """What the run has come to by now: made when it is asked for, since that takes longer than a step."""
        return self.state.result()


@dataclass(frozen=True, slots=True)
class Compared:
    """What the prompts that are done came to; one after each prompt."""

    comparison: Comparison
