"""What best-of-N buys: pure functions on scores and log-probabilities, without models or plots."""

import math
from collections.abc import Sequence

import numpy as np


def mean(scores: Sequence[float]) -> float:
    """The mean score: what one sample brings on average."""
    return float(np.mean(np.asarray(scores, dtype=float)))


def expected_best(scores: Sequence[float | None], judge: Sequence[float] | None = None) -> list[float]:
    """Expected best score of k samples for k = 1..N, from the N scores of one prompt: exact over all subsets.

    None stands for a sample without a score, which loses against all others: the expectation is then over the subsets
    that hold a score.

    With `judge`, a second score of the same candidates in the same order: the expected judge's score of the
    candidate that the first score selects; ties in `scores` share their weight. E[max of k] is the sum over
    i = k..N of C(i-1, k-1) / C(N, k) times the i-th smallest score; the weights come from the recursion
    w_N = k/N, w_i = w_(i+1) (i-k+1)/i. Raises `ValueError` for no scores or lists of unequal length.
    """
    r = np.asarray(scores, dtype=float)
    if r.ndim != 1 or np.isnan(r).all():
        raise ValueError("expected_best needs a list of at least one score.")
    g = r if judge is None else np.asarray(judge, dtype=float)
    if g.shape != r.shape:
        raise ValueError("expected_best needs one judge's score for each score.")
    n, g, r = len(r), g[~np.isnan(r)], r[~np.isnan(r)]
    order = np.argsort(r, kind="stable")
    values = r[order] if judge is None else _mean_of_ties(r[order], g[order])
    k = np.arange(1, n + 1, dtype=float)
    weight, total = k / n, k / n * values[-1]
    weights = weight
    for i in range(n - 1, n - len(r), -1):
        weight = weight * np.maximum(i - k + 1, 0.0) / i
        weights, total = weights + weight, total + weight * values[i - 1 - n + len(r)]
    return (total if len(r) == n else total / weights).tolist()


def _mean_of_ties(ascending: np.ndarray, values: np.ndarray) -> np.ndarray:
    _, group = np.unique(ascending, return_inverse=True)
    return (np.bincount(group, weights=values) / np.bincount(group))[group]


def kl_bound(n: int) -> float:
    """Upper bound, in nats, on the KL of best-of-n from the distribution it samples: log n - (n-1)/n.

    Beirami et al., arXiv 2401.01879. Not for early rejection or soft selection.
    """
    return math.log(n) - (n - 1) / n


def kl_estimate(n: int, log_e: float) -> float:
    """Closer estimate of that KL, in nats, from `log_e`: the log-probability of drawing the best candidate.

    (1-e)^n [log n + (n-1) log(1-e) - (n-1)/n] + (1 - (1-e)^n) log[(1 - (1-e)^n) / e], written so that it holds
    from e = 1 down to probabilities that no float can carry (Beirami et al., arXiv 2401.01879).
    """
    if log_e >= 0 or n == 1:
        return 0.0
    if log_e < -36:  # e and n e vanish beside 1 in double precision, and the estimate equals the bound
        return kl_bound(n)
    log_miss = math.log(-math.expm1(log_e)) if log_e > -1e-3 else math.log1p(-math.exp(log_e))
    log_none = n * log_miss
    some = -math.expm1(log_none)
    missed = math.exp(log_none) * (math.log(n) + (n - 1) * log_miss - (n - 1) / n)
    return missed + some * (math.log(some) - log_e)


def win_rate(n: int) -> float:
    """Probability that the best of n beats one fresh sample: n/(n+1); an upper bound where scores tie."""
    return n / (n + 1)


def win_rate_over(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Share of prompts on which `ours` scores higher, a tie counted as one half, with its 95% Wilson interval.

    Raises `ValueError` for lists that are empty or of unequal length.
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if a.shape != b.shape or not a.size:
        raise ValueError("win_rate_over needs two lists of equal length, one score per prompt.")
    share = float(np.mean((a > b) + 0.5 * (a == b)))
    return share, *wilson(share, a.size)


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval for a share seen in n trials (z = 1.96: 95%)."""
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def soft_best(scores: Sequence[float], softness: float, values: Sequence[float] | None = None) -> float:
    """The expected value of the candidate that soft best-of-n returns: softmax(score / softness) weighs them.

    values: of the same candidates, another score (None: the scores themselves). arXiv 2505.03156.
    """
    r = np.asarray(scores, dtype=float) / softness
    weights = np.exp(r - r.max())
    return float(np.average(scores if values is None else values, weights=weights))


def top_average(scores: Sequence[float], k: int, values: Sequence[float] | None = None, largest: bool = True) -> float:
    """The mean over the k candidates of highest (or lowest) score of their values; ties share their weight.

    values: of the same candidates, another score (None: the scores themselves).
    """
    sign = 1.0 if largest else -1.0
    r = sign * np.asarray(scores, dtype=float)
    g = _mean_of_ties(r[np.argsort(r)], np.asarray(scores if values is None else values, dtype=float)[np.argsort(r)])
    return float(np.mean(g[-k:]))


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of a mean, or None for a single value."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def bootstrap(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of the mean, from resamples of the values (Efron 1979); repeatable by its seed."""
    v = np.asarray(values, dtype=float)
    means = np.random.default_rng(seed).choice(v, (resamples, len(v))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def log(probability: float) -> float:
    """Natural logarithm with log 0 = -inf."""
    return math.log(probability) if probability > 0 else -math.inf
