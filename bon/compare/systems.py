"""The systems of a comparison's table: ways to get one text, each computed from the same candidates."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bon.result import Candidate
from bon.settings import Settings
from bon.stats import estimates

#: How many of the best candidates the row `top` averages.
TOP = 4


@dataclass(frozen=True, slots=True)
class System:
    """One way to get a text.

    kind: `base`, `tuned`, `best`, `soft`, `top` or `worst`. k: how many candidates it selects from; for `top` how many
    it averages. average: maps the candidates' scores and any values of theirs to the expected value of what is
    selected. candidates: how many it generates for one text. timed_run: the run that took as long, or None.
    """

    kind: str
    k: int
    average: Callable[[Sequence[float], Sequence[float]], float]
    candidates: int
    timed_run: str | None

    def eligible(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """The candidates that `average` takes: those with a score, but for best of k, which counts the others too."""
        return candidates if self.kind == "best" else scored_candidates(candidates)


def systems(settings: Settings) -> list[System]:
    """The systems of a table, in its order."""
    n, softness = settings.n, settings.softness

    def one_sample(_: Sequence[float], values: Sequence[float]) -> float:
        return estimates.mean(values)

    def soft(scores: Sequence[float], values: Sequence[float]) -> float:
        return estimates.soft_best(scores, softness, values)

    def mean_of_top(scores: Sequence[float], values: Sequence[float]) -> float:
        return estimates.top_average(scores, TOP, values)

    def worst(scores: Sequence[float], values: Sequence[float]) -> float:
        return estimates.top_average(scores, 1, values, largest=False)

    rows = [System("base", 1, one_sample, 1, "base"), System("tuned", 1, one_sample, 1, "tuned")]
    rows += [System("best", k, _best_of(k), k, "best" if k == n else None) for k in powers_of_two(n)]
    if n > 1:
        rows.append(System("soft", n, soft, n, "best"))
        if n > TOP:  # the average of all is the base's
            rows.append(System("top", TOP, mean_of_top, n, "best"))
        rows.append(System("worst", n, worst, n, "best"))
    return rows


def _best_of(k: int) -> Callable[[Sequence[float], Sequence[float]], float]:
    return lambda scores, values: estimates.expected_best(scores, values)[k - 1]


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, ... below n, and n."""
    return [*(1 << i for i in range((n - 1).bit_length())), n]


def scored_candidates(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates that have a score."""
    return [c for c in candidates if c.score is not None]


def winner(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate of the highest score, the first of equal ones; the first of all where none has a score."""
    return max(candidates, key=lambda c: (-math.inf if c.score is None else c.score, -c.index))
