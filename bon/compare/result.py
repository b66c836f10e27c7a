"""The result of a comparison: its samples, and the table, figure and sentence computed from them.

Plain values and formulas, no models: `bon.compare.comparison_run` generates the samples.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypedDict

import numpy as np

from bon.compare.systems import System, scored_candidates, systems
from bon.messages import describe, join, say
from bon.report.numbers import format_number
from bon.result import Candidate
from bon.run_state import drawing_logprob
from bon.settings import Settings
from bon.stats import estimates
from bon.stats.lengths import LengthSampler


@dataclass(frozen=True, slots=True)
class PromptSamples:
    """The samples of one prompt: candidates in the order of their indices, with their scores and the judge's.

    base: n of the base model; opponent: one more, for the win rates. tuned: n of the tuned model, or none. Empty texts
    have no score. log_ratios: log p_tuned - log p_base of each of `tuned`, nats; none where the tokenizers differ or
    top-k or top-p cuts the distribution. seconds: of one run for one sample of base and of tuned, and of the run for
    the best of n.
    """

    prompt: str
    base: tuple[Candidate, ...]
    opponent: Candidate
    tuned: tuple[Candidate, ...] = ()
    log_ratios: tuple[float, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether each model has written at least one text that has a score."""
        return all(scored_candidates(candidates) for candidates in (self.base, self.tuned) if candidates)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over prompts with its 95% interval (None for a single prompt)."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One system's row of the table. kind, k: as in `bon.compare.systems.System`.

    score, judge: with 95% bootstrap intervals. wins: the share of prompts on which the system beats the opponent, a tie
    counted as one half, with its 95% Wilson interval. kl: nats from the base model: 0, measured with its standard error
    `kl_error`, or for `best` an upper bound with `kl_estimate` beside it; None where no formula holds. tokens:
    generated per prompt. seconds: per prompt, or None where that was not timed.
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


class _ScoredPoint(TypedDict):
    name: str
    kl: float
    score: float


class Point(_ScoredPoint, total=False):
    """A model in the figure: its name, KL to the base in nats with its standard error, and score with its interval."""

    kl_error: float | None
    low: float | None
    high: float | None


class Difference(Point, total=False):
    """A point, and by how much best-of-N at the same KL scores above it, with that difference's interval.

    difference: None where the point's KL is beyond the best of n. best: best-of-N's score there.
    """

    difference: float | None
    best: float


@dataclass(frozen=True)
class Comparison:
    """The systems compared over the prompts that are done.

    prompts: how many there are in all. checkpoints: of the tuned model's training, measured before.
    """

    base: str
    tuned: str | None
    scorer: str
    judge: str | None
    target: str | None
    unit: str
    settings: Settings
    prompts: int
    samples: tuple[PromptSamples, ...] = ()
    checkpoints: tuple[Point, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every prompt is done."""
        return len(self.samples) == self.prompts

    @cached_property
    def usable_samples(self) -> tuple[PromptSamples, ...]:
        """The samples that the figures are computed from: not those in which no text of a model has a score."""
        return tuple(sample for sample in self.samples if sample.usable)

    def rows(self) -> list[Row]:
        """The table: base, tuned, best of 1, 2, 4, ... and n, and the other ways of selecting among n.

        Of n candidates some may have no score: best of k is over the k that hold one, all else over the scored ones.
        """
        return self._rows

    @cached_property
    def _rows(self) -> list[Row]:
        return [self._row(system) for system in systems(self.settings) if self._has_samples(system)]

    def _has_samples(self, system: System) -> bool:
        return bool(self.usable_samples) and (system.kind != "tuned" or bool(self.usable_samples[0].tuned))

    def _row(self, system: System) -> Row:
        """A system's figures over the prompts."""
        by_prompt = [s.tuned if system.kind == "tuned" else s.base for s in self.usable_samples]
        eligible = list(map(system.eligible, by_prompt))
        scores = list(map(_scores, eligible))

        def averages(values: Iterable[Sequence[float]]) -> list[float]:
            return list(map(system.average, scores, values))

        opponents = [sample.opponent.score for sample in self.usable_samples]
        tokens = [estimates.mean([c.generated for c in candidates]) for candidates in by_prompt]
        kl, kl_error, kl_estimate = self._kl(system)
        return Row(
            system.kind, system.k,
            interval(averages(scores)), _win_rate(averages(map(estimates.win_shares, scores, opponents))),
            interval(averages(map(_judge_scores, eligible))) if _all_judged(by_prompt) else None,
            kl, kl_error, kl_estimate, system.candidates * estimates.mean(tokens), self._seconds(system),
        )

    def _seconds(self, system: System) -> float | None:
        if system.timed_run is None or any(system.timed_run not in s.seconds for s in self.usable_samples):
            return None
        return estimates.mean([s.seconds[system.timed_run] for s in self.usable_samples])

    def _kl(self, system: System) -> tuple[float | None, float | None, float | None]:
        """The KL of a system from the base model, its standard error and, beside an upper bound, its estimate; nats."""
        if system.kind == "base":
            return 0.0, None, None
        if system.kind == "best":
            by_prompt = [self._kl_estimate(sample, system.k) for sample in self.usable_samples]
            measured = [kl for kl in by_prompt if kl is not None]
            mean = estimates.mean(measured) if len(measured) == len(by_prompt) else None
            return estimates.kl_bound(system.k), None, mean
        means = [estimates.mean(sample.log_ratios) for sample in self.usable_samples if sample.log_ratios]
        if system.kind != "tuned" or not means:
            return None, None, None
        return estimates.mean(means), estimates.standard_error(means), None

    def _kl_estimate(self, sample: PromptSamples, k: int) -> float | None:
        """The estimate of best-of-k's KL for one prompt: the mean over what it may select, or None if unknown."""
        lengths = LengthSampler.of(self.settings)
        logprobs = [drawing_logprob(c, lengths) for c in sample.base]
        by_candidate = [estimates.kl_estimate(k, logprob) for logprob in logprobs if logprob is not None]
        if len(by_candidate) < len(logprobs):
            return None
        return estimates.expected_best(_scores(sample.base), by_candidate)[k - 1]

    def differences(self) -> list[Difference]:
        """At the KL of each checkpoint and of the tuned model: best-of-N's score there less the model's.

        Best-of-N between two counts k is taken as a straight line over the square root of KL. The interval of the
        difference is over prompts and exists for the tuned model alone; the checkpoints were measured apart.
        """
        return self._differences

    @cached_property
    def _differences(self) -> list[Difference]:
        differences = [self._difference(point) for point in self.checkpoints]
        row = next((row for row in self.rows() if row.kind == "tuned"), None)
        if row is not None and row.kl is not None:
            point = Point(name="tuned", kl=row.kl, kl_error=row.kl_error, score=row.score.mean)
            scores = [estimates.mean(_scores(scored_candidates(s.tuned))) for s in self.usable_samples]
            differences.append(self._difference(point, scores))
        return differences

    def _difference(self, point: Point, scores: Sequence[float] | None = None) -> Difference:
        """The difference at one point. scores: the point's, one per prompt, where they are known."""
        best = self._best_at(math.sqrt(max(point["kl"], 0.0)))
        if best is None:
            return Difference(**point, difference=None)
        mean = float(np.mean(best))
        gap = Estimate(mean - point["score"]) if scores is None else interval((best - np.asarray(scores)).tolist())
        return Difference(**{**point, "best": mean, "difference": gap.mean, "low": gap.low, "high": gap.high})

    def _best_at(self, root_kl: float) -> np.ndarray | None:
        """Best-of-N's expected score at a distance sqrt(KL), one per prompt; None beyond the best of n."""
        roots = [math.sqrt(estimates.kl_bound(k)) for k in range(1, self.settings.n + 1)]
        if root_kl > roots[-1] + 1e-9:
            return None
        return np.array([
            np.interp(root_kl, roots, estimates.expected_best(_scores(sample.base))) for sample in self.usable_samples
        ])

    def sentence(self) -> str:
        """Which of best-of-N and the tuned model is ahead where, and whether the judge follows the scorer; empty
        where there are no figures yet.
        """
        if not self.usable_samples:
            return ""
        return join([self._against_tuned(), self._against_checkpoints(), self._against_judge()], " ")

    def _against_judge(self) -> str:
        """What the last fourfold of the samples gained by the scorer and by the judge."""
        n = self.settings.n
        if n < 4 or not _all_judged(sample.base for sample in self.usable_samples):
            return ""

        def gain(values: Callable[[Sequence[Candidate]], Sequence[float]]) -> Estimate:
            curves = [estimates.expected_best(_scores(s.base), values(s.base)) for s in self.usable_samples]
            return interval([curve[n - 1] - curve[n // 4 - 1] for curve in curves])

        scorer, judge = gain(_scores), gain(_judge_scores)
        if judge.low is None or judge.high is None:
            return ""
        verdict = "gains" if judge.low > 0 else "loses" if judge.high < 0 else "same"
        return say(
            "comparison.judge", few=str(n // 4), many=str(n), scorer=_signed(scorer.mean),
            verdict=say(f"comparison.judge.{verdict}"), judge=_signed(judge.mean), low=_signed(judge.low),
            high=_signed(judge.high),
        )

    def _against_tuned(self) -> str:
        """Whether best-of-N or the tuned model is ahead at the tuned model's KL, or why that is not known."""
        tuned = next((d for d in self.differences() if d["name"] == "tuned"), None)
        if tuned is None:
            return say("comparison.no_tuned")
        kl, n, difference = f"{tuned['kl']:.2f}", self.settings.n, tuned["difference"]
        if difference is None:
            return say("comparison.tuned_too_far", kl=kl, n=str(n), bound=f"{estimates.kl_bound(n):.2f}")
        low, high = tuned["low"], tuned["high"]
        # One prompt has no interval, and decides nothing.
        undecided = low is None or high is None or low <= 0 <= high
        leader = "neither" if undecided else "best" if difference > 0 else "tuned"
        ahead = say(f"comparison.ahead.{leader}", gap=_signed(difference))
        if low is not None and high is not None:
            ahead = say("comparison.with_interval", text=ahead, low=_signed(low), high=_signed(high))
        return say("comparison.at_tuned", kl=kl, ahead=ahead)

    def _against_checkpoints(self) -> str:
        differences = self.differences()
        leads = [_lead(d["difference"], d["kl"]) for d in differences
                 if d["name"] != "tuned" and d["difference"] is not None]
        if not leads or not any(d["name"] == "tuned" for d in differences):
            return ""
        return say("comparison.checkpoints", leads=join(leads, "; "))

    def to_dict(self) -> dict[str, Any]:
        """The comparison in plain JSON types: the samples, and the table and figure computed from them."""
        out = dataclasses.asdict(dataclasses.replace(self, samples=(), checkpoints=()))
        out["settings"] = self.settings.to_dict()
        del out["samples"], out["checkpoints"]
        out |= {"notes": [str(note) for note in self.notes], "note_keys": [describe(note) for note in self.notes]}
        out["done"] = len(self.samples)
        out["table"] = [dataclasses.asdict(row) for row in self.rows()]
        out["figure"] = {
            "points": [dict(point) for point in self.checkpoints],
            "differences": self.differences() if self.usable_samples else [],
            "sentence": self.sentence(),
        }
        out["samples"] = [_sample_to_dict(sample) for sample in self.samples]
        return out


def _signed(difference: float) -> str:
    return format_number(difference, 3, sign="+")


def _lead(difference: float, kl: float) -> str:
    """Which is ahead at a checkpoint of the training, and by how much."""
    leader = "best" if difference > 0 else "tuned"
    return say(f"comparison.checkpoint.{leader}", gap=f"{abs(difference):.3f}", kl=f"{kl:.2f}")


def _sample_to_dict(sample: PromptSamples) -> dict[str, Any]:
    """One prompt's samples in plain JSON types; unlike a result's, the candidates hold what KL is estimated from."""
    def plain(candidate: Candidate) -> dict[str, Any]:
        names = ("index", "text", "score", "judge", "tokens", "tokens_left_out", "cap", "ended", "logprob",
                 "sampled_logprob")
        return {name: getattr(candidate, name) for name in names}

    return {
        "prompt": sample.prompt, "base": [plain(c) for c in sample.base], "opponent": plain(sample.opponent),
        "tuned": [plain(c) for c in sample.tuned], "log_ratios": list(sample.log_ratios),
        "seconds": dict(sample.seconds),
    }


def _scores(candidates: Iterable[Candidate]) -> list[float]:
    """The scores; NaN, which the estimates read as no score, for a candidate without one."""
    return [math.nan if c.score is None else c.score for c in candidates]


def _judge_scores(candidates: Iterable[Candidate]) -> list[float]:
    """The judge's scores; NaN for a candidate without one."""
    return [math.nan if c.judge is None else c.judge for c in candidates]


def _all_judged(by_prompt: Iterable[Sequence[Candidate]]) -> bool:
    """Whether every candidate that has a score has the judge's too."""
    return all(c.judge is not None for candidates in by_prompt for c in scored_candidates(candidates))


def interval(values: Sequence[float]) -> Estimate:
    """The mean over prompts with its 95% bootstrap interval; without one for a single prompt."""
    if len(values) < 2:
        return Estimate(estimates.mean(values))
    return Estimate(estimates.mean(values), *estimates.bootstrap_interval(values))


def _win_rate(shares: Sequence[float]) -> Estimate:
    """The win rate over prompts with its 95% Wilson interval; without one for a single prompt."""
    share, low, high = estimates.win_rate_over(shares)
    return Estimate(share, low, high) if len(shares) > 1 else Estimate(share)
