"""Each formula against brute force over subsets, or against exact enumeration of small policies."""

import itertools
import math

import numpy as np
import pytest

from bon.stats import estimates

SCORES = [0.3, -1.2, 2.5, 0.9, 0.1, 1.7, -0.4]
TIED = [0.5, 0.1, 0.5, 0.9, 0.1, 0.5]


def best_of_subsets(scores, k):
    """The mean over all subsets of size k of their largest score."""
    return np.mean([max(subset) for subset in itertools.combinations(scores, k)])


def judged_best_of_subsets(scores, judge, k):
    """The mean over all subsets of size k of the judge's mean score of those that share the largest score."""
    means = []
    for subset in itertools.combinations(range(len(scores)), k):
        top = max(scores[i] for i in subset)
        means.append([judge[i] for i in subset if scores[i] == top])
    return np.mean([np.mean(tied) for tied in means])


def kl_by_enumeration(policy, n):
    """KL of best-of-n from a policy over outcomes 0 < 1 < ... by going through every n-tuple of draws."""
    best = np.zeros(len(policy))
    for draws in itertools.product(range(len(policy)), repeat=n):
        best[max(draws)] += math.prod(policy[i] for i in draws)
    return sum(b * math.log(b / p) for b, p in zip(best, policy, strict=True))


def kl_of_top_and_dust(e, n, grains=400_000):
    """KL of best-of-n from a policy whose best outcome has probability e; the rest is dust without atoms."""
    dust = np.linspace(0, 1 - e, grains + 1) ** n
    best = np.append(np.diff(dust), 1 - (1 - e) ** n)
    policy = np.append(np.full(grains, (1 - e) / grains), e)
    possible = best > 0
    return float(np.sum(best[possible] * np.log(best[possible] / policy[possible])))


@pytest.mark.parametrize("scores", [SCORES, TIED, [4.0]])
def test_expected_best_is_the_mean_of_the_maximum_over_all_subsets(scores):
    expected = [best_of_subsets(scores, k) for k in range(1, len(scores) + 1)]
    assert estimates.expected_best(scores) == pytest.approx(expected)


def test_expected_best_does_not_depend_on_the_order_of_scores():
    assert estimates.expected_best(SCORES[::-1]) == pytest.approx(estimates.expected_best(SCORES))


def test_expected_best_of_4096_scores_stays_between_mean_and_maximum_and_grows():
    scores = np.random.default_rng(0).normal(size=4096)
    curve = estimates.expected_best(scores)
    assert curve[0] == pytest.approx(scores.mean())
    assert curve[-1] == scores.max()
    assert np.all(np.diff(curve) >= 0)


@pytest.mark.parametrize("scores", [SCORES[:6], TIED])
def test_a_judge_is_averaged_over_the_subsets_winners(scores):
    judge = [3.0, 1.0, -2.0, 0.5, 0.25, 7.0]
    expected = [judged_best_of_subsets(scores, judge, k) for k in range(1, 7)]
    assert estimates.expected_best(scores, judge) == pytest.approx(expected)


@pytest.mark.parametrize(("scores", "judge"), [([], None), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [1.0, 2.0, 3.0])])
def test_expected_best_refuses_no_scores_and_unequal_lists(scores, judge):
    with pytest.raises(ValueError):
        estimates.expected_best(scores, judge)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("policy", [[0.2, 0.3, 0.5], [0.7, 0.2, 0.1], [0.01, 0.98, 0.01], [1.0]])
def test_the_kl_bound_is_never_below_the_exact_kl(policy, n):
    assert estimates.kl_bound(n) >= kl_by_enumeration(policy, n) - 1e-12


def test_the_kl_bound_is_reached_by_a_policy_without_likely_outcomes():
    assert kl_by_enumeration([1 / 300] * 300, 2) == pytest.approx(estimates.kl_bound(2), rel=1e-2)


@pytest.mark.parametrize("n", [2, 4, 16, 256])
@pytest.mark.parametrize("e", [0.9, 0.5, 0.1, 1e-3])
def test_the_kl_estimate_is_exact_where_only_the_best_outcome_is_likely(e, n):
    assert estimates.kl_estimate(n, math.log(e)) == pytest.approx(kl_of_top_and_dust(e, n), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("policy", [[0.2, 0.3, 0.5], [0.6, 0.25, 0.1, 0.05], [0.05, 0.15, 0.8]])
def test_the_kl_estimate_is_closer_to_the_enumerated_kl_than_the_bound_is(policy, n):
    at_most = np.cumsum(policy) ** n
    best = np.diff(at_most, prepend=0.0)
    estimate = sum(b * estimates.kl_estimate(n, math.log(p)) for b, p in zip(best, policy, strict=True))
    exact = kl_by_enumeration(policy, n)
    assert abs(estimate - exact) < abs(estimates.kl_bound(n) - exact)


@pytest.mark.parametrize("log_e", [-20.0, -35.9, -36.1, -41.0, -800.0, -math.inf])
@pytest.mark.parametrize("n", [2, 16, 4096])
def test_the_kl_estimate_of_an_unlikely_text_is_the_bound(n, log_e):
    assert estimates.kl_estimate(n, log_e) == pytest.approx(estimates.kl_bound(n), rel=1e-5)


@pytest.mark.parametrize("log_e", [0.0, -1e-300, -1e-17, -1e-9])
def test_the_kl_estimate_of_a_certain_text_is_zero(log_e):
    assert estimates.kl_estimate(16, log_e) == pytest.approx(0.0, abs=1e-7)


def test_the_kl_estimate_of_a_single_sample_is_zero():
    assert estimates.kl_estimate(1, -3.0) == 0.0


@pytest.mark.parametrize("n", [2, 16, 4096])
def test_the_kl_estimate_has_no_jumps_between_its_ways_of_computing(n):
    values = [estimates.kl_estimate(n, log_e) for log_e in -np.geomspace(1e-6, 60, 20_000)]
    assert np.max(np.abs(np.diff(values))) < 0.02 * estimates.kl_bound(n)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_win_rate_is_the_share_of_orders_in_which_the_best_of_n_is_ahead(n):
    orders = list(itertools.permutations(range(n + 1)))
    assert estimates.win_rate(n) == pytest.approx(np.mean([max(order[:n]) > order[n] for order in orders]))


def test_the_measured_win_rate_counts_a_tie_as_one_half():
    shares = [estimates.win_shares([ours], theirs)[0] for ours, theirs in ((1, 0), (2, 2), (3, 5), (4, 1))]
    share, low, high = estimates.win_rate_over(shares)
    assert share == pytest.approx(2.5 / 4)
    assert 0 < low < share < high < 1


def test_the_measured_win_rate_refuses_an_empty_list():
    with pytest.raises(ValueError):
        estimates.win_rate_over([])


def test_an_empty_text_has_no_share_of_wins_and_an_empty_opponent_loses():
    assert estimates.win_shares([None, 0.5], 0.5) == pytest.approx([math.nan, 0.5], nan_ok=True)
    assert estimates.win_shares([None, -9.0], None) == pytest.approx([math.nan, 1.0], nan_ok=True)


@pytest.mark.parametrize(("wins", "n"), [(0, 10), (3, 10), (50, 80), (10, 10)])
def test_wilsons_ends_are_the_shares_that_lie_just_196_standard_errors_from_what_was_seen(wins, n):
    share = wins / n
    for end in estimates.wilson_interval(share, n):
        assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), abs=1e-7)
