"""Selection of the winner: best, worst, a soft draw, and weighted sums of scorers."""

import math

import numpy as np
import pytest
import torch

from bon import api, flow
from bon.errors import InputError, ScoringError
from bon.models import presets
from bon.result import Candidate
from bon.scorers.base import Item
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.factory import as_scorer
from bon.scorers.logprob import MeanLogprobScorer, SelfCertaintyScorer
from bon.scorers.sentiment import SentimentScorer
from bon.scorers.weighted import WeightedScorer
from bon.settings import Request, Settings
from bon.stats import estimates
from bon.stats.random_streams import candidate_stream, selection_uniform
from bon.stats.ranking import draw_softmax, rank

SCORES = [0.2, 0.9, 0.5, 0.9, 0.1]


def candidates(scores=SCORES):
    return [Candidate(index=i, score=score, ended="eos") for i, score in enumerate(scores)]


def order(ranked):
    return [c.index for c in ranked]


def by_length(texts):
    return [float(len(text)) for text in texts]


def run(engine, scorer=None, **settings):
    settings_of_run = Settings(**{"n": 8, "seed": 3, "min_tokens": 2, "max_tokens": 12} | settings)
    return flow.run(Request("This movie", settings_of_run), engine, scorer or CallableScorer(by_length))


def test_the_worst_comes_first_and_an_unfinished_text_never_does():
    assert order(rank(candidates(), "worst")) == [4, 0, 2, 1, 3]
    with_unfinished = [*candidates(), Candidate(index=5, score=-9.0, ended="rejected"), Candidate(index=6)]
    assert order(rank(with_unfinished, "worst")) == [4, 0, 2, 1, 3, 5, 6]
    assert order(rank(with_unfinished, "soft", 0.1, 0.999))[-2:] == [5, 6]


def test_soft_selection_draws_by_softmax():
    softness, count = 0.3, 20_000
    uniform = np.random.default_rng(0).random(count)
    ranked = sorted(SCORES, reverse=True)
    observed = np.bincount([draw_softmax(ranked, softness, u) for u in uniform], minlength=5)
    expected = count * np.exp(np.array(ranked) / softness) / np.exp(np.array(ranked) / softness).sum()
    assert ((observed - expected) ** 2 / expected).sum() < 18.5  # chi-square, 4 degrees of freedom, p = 0.001


@pytest.mark.parametrize(("softness", "place"), [(1e-9, 0), (1e9, 4)])
def test_softness_goes_from_the_best_to_one_plain_sample(softness, place):
    expected = place if softness > 1 else 1  # two are best
    assert draw_softmax(sorted(SCORES, reverse=True), softness, 0.9999) == expected
    assert draw_softmax([1e300, -1e300], 1e-9, 0.99) == 0


def test_soft_selection_puts_the_others_best_first_and_repeats_itself(engine):
    soft = run(engine, select="soft", softness=50.0)
    repeated, best = run(engine, select="soft", softness=50.0), run(engine)
    assert order(soft.candidates) == order(repeated.candidates)
    assert order(soft.candidates)[1:] == [i for i in order(best.candidates) if i != soft.best.index]
    winners = {run(engine, select="soft", softness=1e6, seed=seed).best.index for seed in range(12)}
    assert len(winners) > 3
    assert (soft.stats.kl_bound, soft.stats.win_rate) == (None, None)
    assert soft.stats.expected_best == best.stats.expected_best
    assert any("Soft selection" in note for note in soft.notes)
    assert str(soft)


def test_no_candidate_shares_the_random_stream_of_the_selection():
    uniform = selection_uniform(5, 0)
    assert all(candidate_stream(5, 0, i).random() != uniform for i in range(4096))


def test_the_statistics_of_worst_of_n_are_about_the_worst(engine):
    worst, best = run(engine, select="worst"), run(engine)
    assert order(worst.candidates)[0] == order(best.candidates)[-1] or worst.best.score == best.candidates[-1].score
    assert worst.stats.expected_best[-1] == worst.best.score
    assert worst.stats.expected_best[0] == pytest.approx(best.stats.mean)
    assert worst.stats.kl_bound == best.stats.kl_bound


@pytest.mark.parametrize(("field", "value"), [
    ("select", "median"), ("softness", 0), ("softness", -1.0), ("softness", math.nan), ("softness", "soft"),
])
def test_a_selection_that_cannot_work_is_refused_by_name(field, value):
    with pytest.raises(InputError) as raised:
        Settings(**{field: value})
    assert raised.value.field == field


# Expected scores under a selection rule, against brute force.


def test_soft_best_is_the_average_over_many_draws():
    uniform = np.random.default_rng(1).random(40_000)
    judge = [5.0, 1.0, 3.0, 2.0, 4.0]
    places = [draw_softmax(SCORES, 0.2, u) for u in uniform]
    for values in (SCORES, judge):
        drawn_values = np.array(values)[places]
        average = estimates.soft_best(SCORES, 0.2, values)
        assert abs(average - drawn_values.mean()) < 4 * drawn_values.std() / len(drawn_values) ** 0.5
    assert estimates.soft_best(SCORES, 1e-6) == pytest.approx(0.9)
    assert estimates.soft_best(SCORES, 1e9) == pytest.approx(np.mean(SCORES))


def test_top_average_shares_ties():
    judge = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert estimates.top_average(SCORES, 2) == pytest.approx(0.9)
    assert estimates.top_average(SCORES, 1, judge) == pytest.approx(1.5)
    assert estimates.top_average(SCORES, 3, judge) == pytest.approx(2.0)
    assert estimates.top_average(SCORES, 5) == pytest.approx(np.mean(SCORES))
    assert estimates.top_average(SCORES, 1, judge, largest=False) == 4.0


@pytest.mark.parametrize(("n", "least"), [(5, 0.88), (8, 0.91), (40, 0.91)])
def test_the_bootstrap_interval_covers_the_mean_at_its_nominal_rate(n, least):
    rng, inside = np.random.default_rng(2), 0
    for _ in range(300):
        low, high = estimates.bootstrap_interval(rng.normal(size=n), resamples=400)
        inside += low <= 0 <= high
    assert least <= inside / 300 <= 0.98


def test_the_bootstrap_interval_of_few_values_is_their_range_and_of_one_refused():
    assert estimates.bootstrap_interval([0.2, 0.4, 0.9]) == pytest.approx((0.2, 0.9))
    with pytest.raises(ValueError, match="two values"):
        estimates.bootstrap_interval([0.2])
    for freedom, quantile in ((3, 3.182), (5, 2.571), (31, 2.040)):  # from tables
        assert estimates.t_quantile(freedom) == pytest.approx(quantile, rel=0.015)


def test_the_same_values_have_the_same_bootstrap_interval():
    assert estimates.bootstrap_interval([1.0, 2.0, 3.0]) == estimates.bootstrap_interval([1.0, 2.0, 3.0])


# Scorers without a model of their own, and several in one.


def test_self_certainty_is_that_of_the_raw_logits(engine):
    result = run(engine, SelfCertaintyScorer(), temperature=0.7, top_k=5)
    ids = engine.encode(Request("This movie")).ids
    rated = [c for c in result.candidates if not c.empty]
    for c in rated:
        with torch.inference_mode():
            logits = engine.model(input_ids=torch.tensor([[*ids, *c.token_ids]])).logits[0].double()
        # The logits of a token are those at the position before it.
        logprobs = logits[len(ids) - 1 : len(ids) - 1 + c.tokens].log_softmax(-1)
        expected = -(logprobs + math.log(logprobs.shape[-1])).mean()
        assert c.score == pytest.approx(expected.item(), rel=1e-4)
    assert [c.score for c in rated] == sorted((c.score for c in rated), reverse=True)


def test_self_certainty_is_computed_only_for_scorers_that_need_it(engine):
    assert all(c.certainty is None for c in run(engine).candidates)
    with pytest.raises(ScoringError, match="self-certainty"):
        SelfCertaintyScorer().score([Item("", Candidate(index=0, text="a", tokens=1))])


def test_a_weighted_scorer_normalises_each_part_over_the_run(engine):
    scorer = WeightedScorer([(0.7, CallableScorer(by_length)), (-0.3, MeanLogprobScorer())])
    result = run(engine, scorer)
    rated = [c for c in result.candidates if not c.empty]
    length, logprob = (np.array([c.parts[name] for c in rated]) for name in ("by_length", "logprob"))
    expected = 0.7 * (length - length.mean()) / length.std() - 0.3 * (logprob - logprob.mean()) / logprob.std()
    assert [c.score for c in rated] == pytest.approx(expected.tolist())
    assert result.to_dict()["candidates"][0]["parts"].keys() == {"by_length", "logprob"}
    assert result.scorer == "0.7 by_length + -0.3 logprob"


def test_a_part_that_gives_every_text_the_same_score_adds_nothing(engine):
    def same(texts):
        return [1.0] * len(texts)

    weighted = run(engine, WeightedScorer([(1.0, CallableScorer(by_length)), (5.0, CallableScorer(same))]))
    assert order(weighted.candidates) == order(run(engine).candidates)
    assert run(engine, WeightedScorer([(1.0, CallableScorer(same))])).best.score == 0.0


@pytest.mark.parametrize("scores", [[0.1] * 3, [0.7] * 10, [0.0] * 4, [-3.3e7] * 5, [5.0],
                                    [0.9999, float(np.nextafter(np.float32(0.9999), np.float32(2))), 0.9999]])
def test_scores_that_differ_by_rounding_alone_add_nothing(scores):
    items = [Item("", Candidate(index=i)) for i in range(len(scores))]
    nearly_constant, varying = CallableScorer(lambda texts: scores), CallableScorer(lambda texts: range(len(texts)))
    nearly_constant.name, varying.name = "same", "other"
    expected = WeightedScorer([(1.0, varying)]).score(items).values
    assert WeightedScorer([(1.0, varying), (5.0, nearly_constant)]).score(items).values == expected


@pytest.mark.parametrize("size", [1e-320, 1e-7, 1.0, 1e200])
def test_scores_of_any_size_have_spread_one(size):
    items = [Item("", Candidate(index=i)) for i in range(3)]
    scores = WeightedScorer([(1.0, CallableScorer(lambda texts: [0.0, size, 2 * size]))]).score(items).values
    assert scores == pytest.approx([-math.sqrt(1.5), 0.0, math.sqrt(1.5)], rel=1e-3)


def test_sums_of_scorers_are_named_in_one_text(classifier_folder):
    scorer = as_scorer(f"0.7*{classifier_folder} + 0.3*logprob+-1*self-certainty", target="NEGATIVE")
    weights, parts = zip(*scorer.parts, strict=True)
    assert weights == (0.7, 0.3, -1.0)
    assert isinstance(parts[0], SentimentScorer)
    assert parts[0].target == "NEGATIVE"
    assert scorer.needs_certainty


@pytest.mark.parametrize("name", ["0.7*", "*logprob", "0.7*logprob+", "x*logprob", "1*logprob+1*logprob"])
def test_a_malformed_sum_is_refused(name):
    with pytest.raises(InputError) as raised:
        api.load("embedded", name)
    assert raised.value.field == "scorer"


def test_a_sampler_takes_another_target_for_a_sum(lm_folder, classifier_folder):
    sampler = api.load(lm_folder, f"1*{classifier_folder}+0.1*logprob")
    positive, negative = (
        sampler.run("This movie", n=4, seed=1, max_tokens=12, target=target) for target in (None, "NEGATIVE")
    )
    name = next(name for name in positive.best.parts if name != "logprob")
    by_index = {c.index: c.parts[name] for c in positive.candidates}
    assert all(c.parts[name] == pytest.approx(1 - by_index[c.index]) for c in negative.candidates)


def test_scorers_that_need_no_model_are_presets():
    assert presets.find("embedded", "self-certainty").scorer == "self-certainty"
    with pytest.raises(InputError, match="self-certainty scores"):
        api.load("embedded", "self-certainty").score(["a text"])


@pytest.mark.parametrize("weight", ["9" * 400, "-" + "9" * 400, "9" * 5000, "1" + "0" * 31])
def test_a_weight_with_which_sums_may_be_infinite_is_refused_by_the_name_of_its_scorer(weight):
    for load in (presets.weighted, as_scorer, lambda scorer: presets.find("embedded", scorer)):
        with pytest.raises(InputError, match="The weight of self-certainty") as caught:
            load(f"0.5*logprob+{weight}*self-certainty")
        assert caught.value.field == "scorer"
    for number in (float(weight), math.nan):
        with pytest.raises(InputError, match="The weight of logprob"):
            WeightedScorer([(number, MeanLogprobScorer())])
    assert presets.weighted("1" + "0" * 30 + "*logprob") == [(1e30, "logprob")]
