"""Estimates of what best-of-N gains and costs: pure functions on scores and log-probabilities."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def mean(values: Sequence[float]) -> float:
    """The mean; of one prompt's scores, the expected score of one sample."""
    return float(np.mean(np.asarray(values, dtype=float)))


def expected_best(scores: Sequence[float | None], judge: Sequence[float] | None = None) -> list[float]:
    """The expected score [N] of the best of k samples for k = 1..N, estimated from the N scores of one prompt.

    scores [N]: None stands for a sample without a score, which loses against all others; the expectation is then over
    the subsets that hold a score. judge [N]: a second score of the same candidates; the result is then the expected
    judge's score of the candidate with the highest first score, where ties in `scores` share their weight (the curve
    that shows over-optimisation, Gao et al., arXiv 2210.10760).

    Unbiased and exact over all subsets of size k: E[max of k] is the sum over i = k..N of C(i-1, k-1) / C(N, k) times
    the i-th smallest score. The weights come from the recursion w_N = k/N, w_i = w_(i+1) (i-k+1)/i. Holds for plain
    best-of-N only, not after early rejection. Raises `ValueError` for no scores or sequences of unequal length.
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
    """The values, each replaced by the mean over all positions at which `ascending` is the same."""
    _, group = np.unique(ascending, return_inverse=True)
    return (np.bincount(group, weights=values) / np.bincount(group))[group]


def kl_bound(n: int) -> float:
    """The upper bound, in nats, on the KL of best-of-n from the distribution that it samples: log n - (n-1)/n.

    Beirami et al., arXiv 2401.01879. Not for early rejection or soft selection.
    """
    return math.log(n) - (n - 1) / n


def kl_estimate(n: int, log_e: float) -> float:
    """A closer estimate of that KL, in nats. log_e: the log-probability of drawing the best candidate, in nats.

    (1-e)^n [log n + (n-1) log(1-e) - (n-1)/n] + (1 - (1-e)^n) log[(1 - (1-e)^n) / e] (Beirami et al., arXiv
    2401.01879). Accurate from e = 1 down to log e = -inf. e is the probability under the distribution that is sampled:
    after temperature, top-k, top-p and the drawing of lengths.
    """
    if log_e >= 0 or n == 1:
        return 0.0
    if log_e < -36:  # e and n e vanish beside 1 in double precision, and the estimate equals the bound
        return kl_bound(n)
    log_one_miss = math.log(-math.expm1(log_e)) if log_e > -1e-3 else math.log1p(-math.exp(log_e))
    log_all_miss = n * log_one_miss
    any_hits = -math.expm1(log_all_miss)
    miss_term = math.exp(log_all_miss) * (math.log(n) + (n - 1) * log_one_miss - (n - 1) / n)
    return miss_term + any_hits * (math.log(any_hits) - log_e)


def win_rate(n: int) -> float:
    """The probability that the best of n beats one fresh sample: n/(n+1); an upper bound where scores tie.

    By symmetry: each of the n+1 samples is equally likely to be the best of all.
    """
    return n / (n + 1)


def win_shares(scores: Sequence[float | None], opponent: float | None) -> list[float]:
    """For each score 1 where it is above the opponent's, 0.5 where they tie, else 0; NaN where there is no score.

    An opponent without a score loses against every score.
    """
    r = np.asarray(scores, dtype=float)
    threshold = -math.inf if opponent is None else opponent
    return np.where(np.isnan(r), math.nan, (r > threshold) + 0.5 * (r == threshold)).tolist()


def win_rate_over(shares: Sequence[float]) -> tuple[float, float, float]:
    """The win rate over prompts, with the ends of its 95% Wilson interval.

    shares [prompts]: the expected share of wins against the opponent (`win_shares`). Raises `ValueError` for none.
    """
    if not shares:
        raise ValueError("win_rate_over needs the share of at least one prompt.")
    share = mean(shares)
    return share, *wilson_interval(share, len(shares))


def wilson_interval(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The score interval for a share observed in n trials (Wilson 1927). z: the normal quantile, 1.96 for 95%."""
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # The interval contains the share, which rounding could leave just outside.
    return max(0.0, min(share, centre - half_width)), min(1.0, max(share, centre + half_width))


def soft_best(scores: Sequence[float], softness: float, values: Sequence[float] | None = None) -> float:
    """The expected value of the candidate that soft best-of-n returns, drawn by softmax(score / softness).

    values [N]: another score of the same candidates (None: the scores themselves). arXiv 2505.03156.
    """
    r = np.asarray(scores, dtype=float)
    weights = np.exp((r - r.max()) / softness)
    return float(np.average(scores if values is None else values, weights=weights))


def top_average(scores: Sequence[float], k: int, values: Sequence[float] | None = None, largest: bool = True) -> float:
    """The mean value of the k candidates of highest (or lowest) score; equal scores share their weight.

    values [N]: another score of the same candidates (None: the scores themselves).
    """
    sign = 1.0 if largest else -1.0
    r = sign * np.asarray(scores, dtype=float)
    order = np.argsort(r)
    g = _mean_of_ties(r[order], np.asarray(scores if values is None else values, dtype=float)[order])
    return float(np.mean(g[-k:]))


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of the mean, s / sqrt(n) with the sample standard deviation s; None for a single value."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def bootstrap_interval(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of the mean, from resamples of the values (Efron 1979); repeatable by its seed.

    Expanded, since resamples of few values vary too little (Hesterberg, arXiv 1411.5279, section 3.4): by the quantile
    of Student's t instead of the normal one, and by sqrt(n / (n - 1)). Of two or three values it is their range. Raises
    `ValueError` for fewer than two values.
    """
    v = np.asarray(values, dtype=float)
    n = len(v)
    if n < 2:
        raise ValueError("bootstrap_interval needs at least two values.")
    tail = NormalDist().cdf(-math.sqrt(n / (n - 1)) * t_quantile(n - 1))
    means = np.random.default_rng(seed).choice(v, (resamples, n)).mean(1)
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def t_quantile(freedom: int, z: float = 1.959964) -> float:
    """The quantile of Student's t that corresponds to the normal quantile z, by the first terms of its expansion in
    1 / freedom (Abramowitz and Stegun 26.7.5): 3% too low for 2 degrees of freedom, within 1% from 3 on.
    """
    terms = (
        (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


def log_or_minus_inf(probability: float) -> float:
    """The natural logarithm, with log 0 = -inf."""
    return math.log(probability) if probability > 0 else -math.inf
