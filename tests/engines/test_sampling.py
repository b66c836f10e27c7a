"""Sampling of tokens from logits, the random streams of candidates, and drawn lengths."""

import numpy as np
import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from bon.engines.local.sampling import Sampling, draw, log_probability, mark_occurred, shape, uniforms
from bon.stats.lengths import LengthSampler
from bon.stats.random_streams import candidate_stream


def random_logits(rows=6, vocabulary=50, seed=0):
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 3


def even_numbers(count):
    """Numbers that cover [0, 1) evenly."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def transformers_logits(logits, temperature, top_k, top_p, min_p=0.0, typical_p=1.0):
    """The logits shaped by transformers' warpers, in the order in which it applies them."""
    for warper in (
        TemperatureLogitsWarper(temperature),
        TopKLogitsWarper(top_k) if top_k else None,
        TopPLogitsWarper(top_p) if top_p < 1 else None,
        MinPLogitsWarper(min_p) if min_p else None,
        TypicalLogitsWarper(typical_p) if typical_p < 1 else None,
    ):
        logits = warper(None, logits) if warper else logits
    return logits


@pytest.mark.parametrize("top_k", [0, 1, 5, 50, 900])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 1e-6])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 1.7])
def test_shaped_logits_give_the_distribution_of_transformers_warpers(temperature, top_k, top_p):
    logits = random_logits()
    ours = shape(logits, Sampling(temperature, top_k, top_p)).softmax(-1)
    torch.testing.assert_close(ours, transformers_logits(logits, temperature, top_k, top_p).softmax(-1))


@pytest.mark.parametrize("min_p", [0.0, 1e-6, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("typical_p", [1.0, 0.95, 0.4, 1e-6])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.6, 9, 1.0), (1.7, 0, 0.8), (5.0, 20, 0.9)])
def test_min_p_and_typical_sampling_follow_the_other_cuts_as_in_transformers(
        temperature, top_k, top_p, min_p, typical_p):
    for logits in (random_logits(), random_logits(3, 900, seed=1), torch.tensor([[2.0, -torch.inf, 1.0, 0.5]])):
        values = (temperature, top_k, top_p, min_p, typical_p)
        ours = shape(logits, Sampling(*values)).softmax(-1)
        torch.testing.assert_close(ours, transformers_logits(logits, *values).softmax(-1))


@pytest.mark.parametrize("penalty", [1e-30, 0.5, 1.0, 1.2, 5.0, 1e30])
@pytest.mark.parametrize("others", [(1.0, 0, 1.0), (0.6, 9, 0.9, 0.05, 0.9)])
def test_the_repetition_penalty_comes_first_as_in_transformers(penalty, others):
    logits = random_logits()
    logits[0, :2] = -torch.inf
    # The last id has an embedding in some models, but no logit.
    texts = [[0, 1, 1, 49], [7], [7] * 4, list(range(50)), [3, 5, 8, 13, 60], [49, 48]]
    ours = shape(logits, Sampling(*others, repetition_penalty=penalty), mark_occurred(texts, logits)).softmax(-1)
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    penalized = torch.cat([processor(torch.tensor([text]), row[None]) for text, row in zip(texts, logits, strict=True)])
    torch.testing.assert_close(ours, transformers_logits(penalized, *others).softmax(-1))


def test_shaping_rows_together_is_shaping_each_alone():
    logits = random_logits()
    sampling = Sampling(0.8, 7, 0.8, 0.05, 0.9, 1.3)
    occurred = mark_occurred([range(row, 50, 3) for row in range(len(logits))], logits)
    alone = torch.cat([shape(row[None], sampling, marks[None]) for row, marks in zip(logits, occurred, strict=True)])
    assert torch.equal(shape(logits, sampling, occurred), alone)


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-6])
def test_a_tiny_temperature_takes_the_most_likely_token(temperature):
    logits = random_logits()
    tokens, _ = draw(shape(logits, Sampling(temperature)), torch.full((6,), 0.999, dtype=torch.float64))
    assert torch.equal(tokens, logits.argmax(-1))


def test_a_huge_temperature_makes_all_tokens_equally_likely_but_no_impossible_one():
    logits = random_logits(1, 5)
    logits[0, 2] = -torch.inf
    torch.testing.assert_close(
        shape(logits, Sampling(1e300)).softmax(-1), torch.tensor([[0.25, 0.25, 0.0, 0.25, 0.25]])
    )


def test_shaping_leaves_the_given_logits_as_they_were():
    logits = random_logits()
    before = logits.clone()
    shape(logits, Sampling(0.7, 3, 0.5))
    assert torch.equal(logits, before)


@pytest.mark.parametrize("top_k", [0, 4])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.8])
@pytest.mark.parametrize("vocabulary", [10, 700])
def test_draws_follow_the_distribution(temperature, top_k, top_p, vocabulary):
    logits = random_logits(1, vocabulary, seed=3) / 2
    count = 20_000
    shaped = shape(logits, Sampling(temperature, top_k, top_p))
    tokens, _ = draw(shaped.expand(count, -1), uniforms([candidate_stream(5, 0, 0)], [count])[0])
    expected = transformers_logits(logits, temperature, top_k, top_p)[0].double().softmax(-1).numpy() * count
    counts = np.bincount(tokens.numpy(), minlength=vocabulary)
    assert not counts[expected == 0].any()
    likely = expected >= 5
    chi_square = np.sum((counts - expected)[likely] ** 2 / expected[likely])
    # 99.9% of chi-square's mass with k degrees of freedom lies below k + 3.1 sqrt(2k) + 6.
    k = likely.sum() - 1
    assert chi_square < k + 3.1 * np.sqrt(2 * k) + 6


@pytest.mark.parametrize("vocabulary", [1, 2, 255, 256, 257, 3000])
def test_a_draw_by_blocks_equals_inverse_transform_sampling(vocabulary):
    logits = random_logits(200, vocabulary, seed=2)
    numbers = even_numbers(200)
    tokens, logprobs = draw(logits, numbers)
    cumulative = logits.double().softmax(-1).cumsum(-1)
    plain = torch.searchsorted(cumulative, numbers.unsqueeze(-1), right=True).squeeze(-1).clamp(max=vocabulary - 1)
    # Rounding may decide a tie between neighbours, at most.
    assert (tokens == plain).float().mean() > 0.99
    torch.testing.assert_close(logprobs, log_probability(logits, tokens), atol=1e-5, rtol=1e-5)


def test_evenly_spread_numbers_draw_each_token_in_its_exact_share():
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    tokens, _ = draw(logits.expand(1000, -1), even_numbers(1000))
    assert np.bincount(tokens.numpy()).tolist() == [100, 200, 300, 400]


@pytest.mark.parametrize("u", [0.0, np.nextafter(0, 1), 0.5, np.nextafter(1, 0)])
@pytest.mark.parametrize("possible", [[0], [7], [3, 4], [0, 7], [2, 5]])
def test_a_token_of_probability_zero_is_never_drawn(u, possible):
    logits = torch.full((1, 8), -torch.inf)
    logits[0, possible] = torch.tensor(np.linspace(-20, 1, len(possible)), dtype=torch.float32)
    assert draw(logits, torch.tensor([u], dtype=torch.float64))[0].item() in possible


@pytest.mark.parametrize("row", [[0.0, np.nan, 1.0], [0.0, np.inf, 1.0], [-np.inf] * 3])
@pytest.mark.parametrize("vocabulary", [3, 256, 300])
def test_a_row_of_broken_logits_has_no_log_probability_and_changes_no_other(row, vocabulary):
    logits = random_logits(3, vocabulary)
    expected = draw(logits, even_numbers(3))
    logits[1, :3] = torch.tensor(row)
    logits[1, 3:] = -torch.inf
    tokens, logprobs = draw(logits, even_numbers(3))
    assert logprobs.isnan().tolist() == [False, True, False]
    assert 0 <= tokens[1] < vocabulary
    for values, expected_values in zip((tokens, logprobs), expected, strict=True):
        assert torch.equal(values[::2], expected_values[::2])


def test_no_truncated_token_is_drawn_from_a_wide_vocabulary():
    shaped = shape(random_logits(2000, 3000, seed=1), Sampling(1.3, 40, 0.9))
    tokens, _ = draw(shaped, uniforms([candidate_stream(0, 0, 0)], [2000])[0])
    assert torch.isfinite(shaped.gather(-1, tokens.unsqueeze(-1))).all()


def test_log_probabilities_are_those_of_log_softmax():
    logits, tokens = random_logits(), torch.tensor([0, 49, 3, 7, 7, 12])
    expected = torch.nn.functional.log_softmax(logits.double(), -1)[range(6), tokens]
    torch.testing.assert_close(log_probability(logits, tokens), expected.float())


def test_a_candidates_numbers_depend_on_seed_query_and_index_and_on_nothing_else():
    four = [candidate_stream(7, 0, i).random(5).tolist() for i in range(4)]
    backwards = [candidate_stream(7, 0, i).random(5).tolist() for i in reversed(range(16))][::-1]
    assert backwards[:4] == four


def test_no_two_neighbouring_streams_share_a_number():
    keys = [(seed, query, index) for seed in range(6) for query in range(6) for index in range(6)]
    numbers = np.concatenate([candidate_stream(*key).random(50) for key in keys])
    assert len(np.unique(numbers)) == len(numbers)


def test_a_stream_shorter_than_its_neighbour_draws_the_same_numbers_as_alone():
    together = uniforms([candidate_stream(1, 0, 0), candidate_stream(1, 0, 1)], [3, 9])
    assert torch.equal(together[0, :3], uniforms([candidate_stream(1, 0, 0)], [3])[0])
    assert torch.equal(together[1], uniforms([candidate_stream(1, 0, 1)], [9])[0])


def test_the_global_random_state_does_not_change():
    np.random.seed(0)
    torch.manual_seed(0)
    before = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    draw(random_logits(), uniforms([candidate_stream(1, 0, i) for i in range(6)], [1] * 6)[:, 0])
    LengthSampler(2, 9, seed=4)()
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_a_length_sampler_draws_every_length_but_its_upper_end_equally_often():
    sampler = LengthSampler(4, 16)
    lengths = [sampler.at(u) for u in even_numbers(1200).tolist()]
    assert np.bincount(lengths).tolist() == [0] * 4 + [100] * 12


def test_a_length_never_reaches_the_upper_end():
    assert all(LengthSampler(1, top).at(np.nextafter(1, 0)) == top - 1 for top in range(2, 4000))


def test_a_seeded_length_sampler_repeats_its_draws():
    first, copy = LengthSampler(4, 400, seed=3), LengthSampler(4, 400, seed=3)
    assert [first() for _ in range(9)] == [copy() for _ in range(9)]


def test_the_probability_of_a_range_of_lengths_is_its_share_of_the_draws():
    sampler = LengthSampler(4, 16)
    lengths = [sampler.at(u) for u in even_numbers(1200).tolist()]
    for low, high in [(4, 4), (5, 9), (0, 3), (15, float("inf")), (16, 20), (0, 99)]:
        share = np.mean([low <= length <= high for length in lengths])
        assert sampler.probability(low, high) == pytest.approx(share)


@pytest.mark.parametrize("mass", [1e-9, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("spread", [0.0, 0.1, 3.0, 12.0])
def test_the_tokens_of_a_large_vocabulary_that_stay_are_those_of_a_stable_sort(spread, mass):
    logits = torch.randn(4, 6000, generator=torch.Generator().manual_seed(1)) * spread
    logits[1] = logits[1].round(decimals=1)  # many equal tokens, also at the cut
    logits[2, 300:] = -torch.inf
    for sampling in (Sampling(top_p=mass), Sampling(typical_p=mass)):
        order = -logits
        if sampling.typical_p < 1:
            logprobs = logits.log_softmax(-1)
            order = (logprobs - (logprobs.exp() * logprobs).nansum(-1, keepdim=True)).abs()
        for row, row_order, shaped in zip(logits, order, shape(logits, sampling), strict=True):
            places = row_order.sort(stable=True).indices
            sums = row[places].softmax(-1).cumsum(-1)
            expected = {int(places[0]), *places[1:][sums[:-1] < mass].tolist()} - {
                i for i in range(6000) if row[i] == -torch.inf}
            kept = set(shaped.isfinite().nonzero().flatten().tolist())
            assert len(kept ^ expected) <= 1  # sums of float32 in another order may take one token more or less
            if len(kept) == len(expected):
                assert kept == expected
