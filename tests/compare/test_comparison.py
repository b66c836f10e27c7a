"""Comparisons: every number recomputed from the exported samples by other means, and what may be missing."""

import csv
import dataclasses
import io
import itertools
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM, RepetitionPenaltyLogitsProcessor

from bon import flow
from bon.assets_folder import assets_folder
from bon.cli.main import main
from bon.compare import comparison_chart, comparison_files, comparison_run, loading, prompts
from bon.compare.comparison_run import ComparisonModels
from bon.compare.events import PromptDone, PromptProgress
from bon.compare.result import Comparison, PromptSamples
from bon.compare.systems import powers_of_two
from bon.engines.local.engine import LocalEngine
from bon.engines.local.likelihood import log_likelihoods
from bon.errors import InputError, ScoringError
from bon.models import presets
from bon.report import svg
from bon.result import Candidate
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.classifier import Classifier
from bon.scorers.logprob import MeanLogprobScorer
from bon.scorers.sentiment import SentimentScorer
from bon.settings import Request, Sampling, Settings
from bon.stats import estimates
from tests.support import tiny

PROMPTS = ["This movie", "The hotel room", "I was surprised that"]
SETTINGS = Settings(n=5, seed=11, min_tokens=2, max_tokens=9)


def engine_of(seed, tokenizer=None, name="tiny"):
    model = tiny.gpt2(seed=seed)
    model.generation_config.eos_token_id = [model.config.eos_token_id, *range(40, 65)]
    return LocalEngine(model, tokenizer or tiny.tokenizer(), name=name)


def sentiment(seed, labels=("NEGATIVE", "POSITIVE")):
    return SentimentScorer(Classifier(tiny.classifier(labels, seed=seed), tiny.tokenizer()), target=labels[1])


@pytest.fixture(scope="module")
def models():
    return ComparisonModels(engine_of(0), sentiment(0), engine_of(1, name="tuned"), sentiment(4))


@pytest.fixture(scope="module")
def comparison(models):
    return comparison_run.run(PROMPTS, models, SETTINGS)


@pytest.fixture(scope="module")
def record(comparison):
    return json.loads(json.dumps(comparison.to_dict()))


def table_row(record, kind, k):
    return next(row for row in record["table"] if (row["kind"], row["k"]) == (kind, k))


def best_of(sample, k, values):
    """The mean of `values` at the highest-scoring candidate, over all subsets of k base candidates."""
    base = sample["base"]
    winners = [max(subset, key=lambda i: base[i]["score"]) for subset in itertools.combinations(range(len(base)), k)]
    return np.mean([values[i] for i in winners])


# The numbers, from the exported JSON.


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_best_of_k_is_the_mean_over_subsets_for_scorer_and_judge(record, k):
    row = table_row(record, "best", k)
    for name in ("score", "judge"):
        means = [best_of(s, k, [c[name] for c in s["base"]]) for s in record["samples"]]
        assert row[name]["mean"] == pytest.approx(np.mean(means))
    beats = [best_of(s, k, [float(c["score"] > s["opponent"]["score"]) for c in s["base"]]) for s in record["samples"]]
    assert row["wins"]["mean"] == pytest.approx(np.mean(beats))
    assert row["kl"] == pytest.approx(math.log(k) - (k - 1) / k)
    tokens = [c["tokens"] + c["tokens_left_out"] for s in record["samples"] for c in s["base"]]
    assert row["tokens"] == pytest.approx(k * np.mean(tokens))


def test_base_and_tuned_are_the_means_of_their_samples(record):
    for system in ("base", "tuned"):
        row = table_row(record, system, 1)
        for name in ("score", "judge"):
            mean = np.mean([c[name] for s in record["samples"] for c in s[system]])
            assert row[name]["mean"] == pytest.approx(mean)
    means = [np.mean(s["log_ratios"]) for s in record["samples"]]
    assert row["kl"] == pytest.approx(np.mean(means))
    assert row["kl_error"] == pytest.approx(np.std(means, ddof=1) / math.sqrt(len(means)))
    assert table_row(record, "base", 1)["kl"] == 0


def test_the_rows_of_other_selection_rules_come_from_the_same_samples(record):
    scores = [sorted(c["score"] for c in s["base"]) for s in record["samples"]]
    assert table_row(record, "worst", 5)["score"]["mean"] == pytest.approx(np.mean([s[0] for s in scores]))
    assert table_row(record, "top", 4)["score"]["mean"] == pytest.approx(np.mean([s[1:] for s in scores]))
    soft = [np.average(s, weights=np.exp(np.array(s) / 0.1)) for s in scores]
    assert table_row(record, "soft", 5)["score"]["mean"] == pytest.approx(np.mean(soft))
    assert [row["kl"] for row in record["table"] if row["kind"] in ("worst", "top", "soft")] == [None] * 3


def test_the_estimate_of_kl_weighs_each_candidate_as_best_of_k_selects_it(record):
    for k in (2, 5):
        estimates_by_prompt = []
        for sample in record["samples"]:
            estimates_by_candidate = []
            for c in sample["base"]:
                reached_cap = c["ended"] == "length"
                caps = 1 if reached_cap else SETTINGS.max_tokens - max(c["tokens"] + 1, SETTINGS.min_tokens) + 1
                estimates_by_candidate.append(estimates.kl_estimate(k, c["sampled_logprob"] + math.log(caps / 8)))
            estimates_by_prompt.append(best_of(sample, k, estimates_by_candidate))
        assert table_row(record, "best", k)["kl_estimate"] == pytest.approx(np.mean(estimates_by_prompt))


def test_intervals_contain_the_mean(record):
    for row in record["table"]:
        for name in ("score", "wins", "judge"):
            assert row[name]["low"] <= row[name]["mean"] <= row[name]["high"]


def test_a_single_prompt_has_no_interval_and_no_error(models):
    comparison = comparison_run.run(PROMPTS[:1], models, SETTINGS)
    assert {row.score.low for row in comparison.rows()} == {None}
    assert next(row for row in comparison.rows() if row.kind == "tuned").kl_error is None
    assert comparison.sentence()
    assert ElementTree.fromstring(comparison_chart.chart(comparison).markup()) is not None


# The samples.


def test_base_and_tuned_share_seed_and_lengths_and_the_opponent_has_another_seed(record):
    for sample in record["samples"]:
        assert [c["cap"] for c in sample["base"]] == [c["cap"] for c in sample["tuned"]]
        assert sample["opponent"]["text"] not in [c["text"] for c in sample["base"]]
    assert record["samples"][0]["base"][0]["text"] != record["samples"][0]["tuned"][0]["text"]
    assert all(len(s["base"]) == len(s["tuned"]) == len(s["log_ratios"]) == 5 for s in record["samples"])


def test_likelihoods_are_those_of_each_text_alone_and_include_its_end(models):
    engine = models.base
    ids = engine.encode(Request("This movie")).ids
    texts, ended = [(7, 80, 9), (11,), (), (90, 91, 92, 93)], [True, False, True, True]
    for sampling in (Sampling(), Sampling(0.7), Sampling(0.7, repetition_penalty=1.5)):
        likelihoods = log_likelihoods(engine, ids, texts, ended, sampling)
        for text, ends, likelihood in zip(texts, ended, likelihoods, strict=True):
            with torch.inference_mode():
                logits = engine.model(input_ids=torch.tensor([[*ids, *text]])).logits[0, len(ids) - 1 :]
            penalty = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)
            before = [torch.tensor([[*ids, *text[:count]]]) for count in range(len(text) + 1)]
            logits = torch.cat([penalty(read, row[None]) for read, row in zip(before, logits, strict=True)])
            logprobs = (logits.double() / sampling.temperature).log_softmax(-1)
            expected = sum(logprobs[i, token] for i, token in enumerate(text))
            if ends:
                expected = expected + logprobs[len(text), list(engine.rules.eos)].logsumexp(-1)
            assert likelihood == pytest.approx(float(expected), abs=1e-4)


def test_likelihoods_equal_the_sampled_ones_where_they_depend_on_the_length():
    """A text that passes the length from which on the model uses other rotary frequencies."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 10,
            "short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 5.0]}
    torch.manual_seed(0)
    model = Phi3ForCausalLM(Phi3Config(
        vocab_size=len(tiny.tokenizer()), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=80, original_max_position_embeddings=10,
        rope_parameters=rope, initializer_range=0.3, pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )).eval()
    engine = LocalEngine(model, tiny.tokenizer())
    request = Request("This movie", Settings(n=6, seed=3, min_tokens=4, max_tokens=20))
    candidates = flow.run(request, engine, MeanLogprobScorer()).candidates
    likelihoods = log_likelihoods(engine, engine.encode(request).ids, [c.token_ids for c in candidates], [False] * 6)
    assert likelihoods == pytest.approx([c.logprob for c in candidates], abs=1e-3)


def test_likelihoods_do_not_depend_on_the_batch_size(models, monkeypatch):
    ids, texts = models.base.encode(Request("This movie")).ids, [(7, 8, 9 + i) for i in range(9)]
    expected = log_likelihoods(models.base, ids, texts, [False] * 9)
    monkeypatch.setattr("bon.engines.local.likelihood.TOKENS", 12)
    assert log_likelihoods(models.base, ids, texts, [False] * 9) == pytest.approx(expected)
    assert log_likelihoods(models.base, ids, [], []) == []


def test_the_kl_of_a_model_from_itself_is_zero(models):
    comparison = comparison_run.run(PROMPTS[:2], dataclasses.replace(models, tuned=models.base), SETTINGS)
    row = next(row for row in comparison.rows() if row.kind == "tuned")
    assert row.kl == pytest.approx(0, abs=1e-9)
    assert row.score.mean == pytest.approx(next(r for r in comparison.rows() if r.kind == "base").score.mean)


def test_kl_agrees_with_exact_enumeration():
    """All texts of at most two tokens over three words, against the estimate from many samples."""
    base, tuned = engine_of(0), engine_of(1)
    vocabulary = len(base.tokenizer)
    for engine in (base, tuned):
        engine.rules.eos = tuple(range(3, vocabulary))  # all but three words end a text
    ids = base.encode(Request("This")).ids

    def all_texts(engine):
        texts = [((), True), *(((a,), True) for a in range(3)), *(((a, b), False) for a in range(3) for b in range(3))]
        return np.array(log_likelihoods(engine, ids, *map(list, zip(*texts, strict=True))))

    p, q = all_texts(tuned), all_texts(base)
    assert np.exp(p).sum() == pytest.approx(1, abs=1e-5)
    exact = (np.exp(p) * (p - q)).sum()
    models = ComparisonModels(base, CallableScorer(lambda texts: [float(len(t)) for t in texts]), tuned)
    (sample,) = comparison_run.run(["This"], models, Settings(n=800, seed=1, min_tokens=2, max_tokens=2)).samples
    ratios = np.array(sample.log_ratios)
    assert abs(ratios.mean() - exact) < 4 * ratios.std() / math.sqrt(len(ratios))


# Comparisons without a KL, a tuned model or a judge.


def test_models_with_different_tokenizers_are_compared_on_scores_alone(models):
    models = dataclasses.replace(models, tuned=engine_of(1, tiny.tokenizer(300)))
    comparison = comparison_run.run(PROMPTS[:2], models, SETTINGS)
    tuned = next(row for row in comparison.rows() if row.kind == "tuned")
    assert (tuned.kl, tuned.kl_error) == (None, None)
    assert tuned.score.mean > 0
    assert any("different tokenizers" in note for note in comparison.notes)
    assert "no tuned model with a measured KL" in comparison.sentence()


@pytest.mark.parametrize("cut", [{"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_kl_is_not_measured_where_the_distribution_is_cut(models, cut):
    comparison = comparison_run.run(PROMPTS[:1], models, dataclasses.replace(SETTINGS, **cut))
    assert next(row for row in comparison.rows() if row.kind == "tuned").kl is None
    assert any("probability 0" in note for note in comparison.notes)


def test_a_comparison_works_without_a_tuned_model_and_a_judge(models):
    plain = comparison_run.run(PROMPTS[:2], ComparisonModels(models.base, models.scorer), SETTINGS)
    assert "tuned" not in {row.kind for row in plain.rows()}
    assert {row.judge for row in plain.rows()} == {None}
    assert comparison_files.comparison_text(plain)
    assert "judge" not in comparison_chart.chart(plain).markup()


def test_a_model_that_cannot_be_loaded_is_left_out_with_the_reason(lm_folder, classifier_folder, tmp_path):
    models = loading.load_models(lm_folder, str(tmp_path), classifier_folder, judge="./nowhere")
    assert (models.tuned, models.judge) == (None, None)
    assert len(models.notes) == 2
    assert "tuned model is missing" in models.notes[0]
    assert "nowhere" in models.notes[1]
    assert comparison_run.run(PROMPTS[:1], models, SETTINGS).notes[:2] == models.notes


def test_names_become_engines_and_scorers(lm_folder, classifier_folder):
    models = loading.load_models(lm_folder, lm_folder, classifier_folder, classifier_folder, target="NEGATIVE")
    assert models.tuned.model is models.base.model
    assert models.judge.target == models.scorer.target == "NEGATIVE"
    assert loading.load_models(lm_folder, "none", classifier_folder, "none").tuned is None


def test_training_checkpoints_are_shown_only_for_the_label_that_they_were_trained_for():
    assert loading.load_models("embedded").checkpoints
    assert loading.load_models("embedded", target="NEGATIVE").checkpoints == ()


def test_a_closed_stream_keeps_the_complete_prompts(models):
    events = comparison_run.stream(PROMPTS, models, SETTINGS)
    first_events = [next(events) for _ in range(3)]
    assert all(isinstance(event, PromptProgress) for event in first_events)
    partial = next(event for event in events if isinstance(event, PromptDone)).comparison
    events.close()
    assert (len(partial.samples), partial.prompts, partial.complete) == (1, 3, False)
    assert comparison_files.title(partial).startswith("1 of 3 prompts")
    assert next(events, None) is None


def test_each_system_reports_its_progress_while_it_writes(models):
    results_by_system: dict[str, list] = {}
    for event in comparison_run.stream(PROMPTS[:1], models, SETTINGS):
        if isinstance(event, PromptProgress):
            results_by_system.setdefault(event.system, []).append(event.result)
    assert list(results_by_system) == ["base", "tuned", "best"]
    assert [len(results[0].candidates) for results in results_by_system.values()] == [1, 1, 5]
    for results in results_by_system.values():
        tokens = [sum(c.tokens for c in result.candidates) for result in results]
        assert tokens == sorted(tokens)
        assert tokens[0] == 0 < tokens[-1]
    assert results_by_system["best"][-1].best.text == max(event.comparison.samples[0].base, key=lambda c: c.score).text


def test_a_scorer_that_fails_is_an_error_that_names_it(models):
    def broken(texts):
        raise RuntimeError("no more tea")

    with pytest.raises(ScoringError, match="no more tea"):
        comparison_run.run(PROMPTS, dataclasses.replace(models, judge=CallableScorer(broken)), SETTINGS)


@pytest.mark.parametrize(("prompts", "message"), [
    ([], "no prompts"), (["a"] * 10_001, "10,001"), (["This", "  "], "Prompt 2"), (["This " * 300], "Prompt 1"),
])
def test_prompts_that_cannot_be_compared_are_refused_before_any_work(models, prompts, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        next(comparison_run.stream(prompts, models, SETTINGS))
    assert raised.value.field == "prompts"


@pytest.mark.parametrize("setting", [{"reject": 0.5}, {"select": "worst"}])
def test_settings_that_leave_candidates_out_are_refused(models, setting):
    with pytest.raises(InputError):
        comparison_run.run(PROMPTS, models, dataclasses.replace(SETTINGS, **setting))


def test_prompts_are_read_from_a_text_file(tmp_path):
    file = tmp_path / "good.txt"
    file.write_bytes("\ufeffThis movie\r\n\r\n  The end \n".encode())
    assert prompts.read_prompts(str(file)) == ["This movie", "The end"]
    file.write_bytes("One\u2028prompt\rTwo\x85or\x0cthree\r\nFour".encode())
    assert prompts.read_prompts(str(file)) == ["One\u2028prompt", "Two\x85or\x0cthree", "Four"]
    assert len(prompts.shipped_prompts()) == len(set(prompts.shipped_prompts())) == 32


@pytest.mark.parametrize(("written", "named"), [("cp1252", "cp1252"), ("utf-16", None), ("utf-8-sig", "cp1252")])
def test_prompts_are_read_in_the_encoding_that_is_named_or_marked(tmp_path, written, named):
    file = tmp_path / "prompts.txt"
    file.write_text("The café\nLe garçon\n", encoding=written)
    assert prompts.read_prompts(str(file), named) == ["The café", "Le garçon"]


@pytest.mark.parametrize(("content", "message"), [
    (b"", "no prompts"), (b"\n \n", "no prompts"), (b"\x89PNG\xff\xfe", "UTF-8"), (b"a\0b", "not text"),
    (b"x\n" * 10_001, "10,001"), (None, "cannot be read"),
])
def test_files_without_readable_prompts_are_refused(tmp_path, content, message):
    file = tmp_path / "prompts"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)):
        prompts.read_prompts(str(file))


# Which system is ahead, and at which KL.


def synthetic_comparison(scores, tuned, ratios, points=(), unit="probability", judge=lambda score: None):
    """A comparison of invented candidates: scores[prompt][candidate], tuned likewise, log ratios per prompt."""
    def candidate(i, score):
        return Candidate(index=i, text=" <b>x</b>", score=score, tokens=3, cap=3, ended="length", sampled_logprob=-30.0,
                         judge=judge(score))

    samples = tuple(
        PromptSamples(f"<i>{j}</i>", tuple(map(candidate, range(len(row)), row)), candidate(0, 0.4),
                tuple(map(candidate, range(len(t)), t)), tuple(r), {"base": 0.1, "best": 0.2, "tuned": 0.1})
        for j, (row, t, r) in enumerate(zip(scores, tuned, ratios, strict=True))
    )
    settings = Settings(n=len(scores[0]), seed=1, min_tokens=3, max_tokens=3)
    return Comparison("base", "tuned", "scorer", None, "POSITIVE", unit, settings, len(samples), samples, points)


SPREAD = [[0.1 + 0.1 * i + 0.01 * j for i in range(8)] for j in range(6)]


@pytest.mark.parametrize(("score", "verdict"), [
    (0.2, "best of N is ahead"), (0.95, "the tuned model is ahead"),
])
def test_the_sentence_says_which_system_is_ahead_at_equal_kl(score, verdict):
    comparison = synthetic_comparison(SPREAD, [[score] * 8] * 6, [[0.6 + 0.01 * j] * 8 for j in range(6)])
    assert verdict in comparison.sentence()
    (point,) = comparison.differences()
    root, roots = math.sqrt(point["kl"]), [math.sqrt(estimates.kl_bound(k)) for k in range(1, 9)]
    best_at_kl = [np.interp(root, roots, estimates.expected_best(row)) for row in SPREAD]
    assert point["difference"] == pytest.approx(np.mean(best_at_kl) - score)


def test_the_sentence_names_no_winner_where_the_interval_includes_zero():
    at_root = np.interp(math.sqrt(0.6), [math.sqrt(estimates.kl_bound(k)) for k in range(1, 9)],
                        np.mean([estimates.expected_best(row) for row in SPREAD], axis=0))
    mixed = [[at_root + (0.3 if j % 2 else -0.3)] * 8 for j in range(6)]
    assert "neither is clearly ahead" in synthetic_comparison(SPREAD, mixed, [[0.6] * 8] * 6).sentence()
    scores = [[0.5] * 8]  # of one prompt, which has no interval
    assert "neither is clearly ahead" in synthetic_comparison(scores, scores, [[0.6] * 8]).sentence()


def test_one_prompt_decides_nothing():
    assert "neither is clearly ahead" in synthetic_comparison(SPREAD[:1], [[0.9] * 8], [[0.6] * 8]).sentence()


@pytest.mark.parametrize(("count", "text"), [(1, "a single prompt"), (3, "only 3 prompts"), (10, None)])
def test_few_prompts_are_noted(models, count, text):
    settings = Settings(n=2, seed=1, min_tokens=6, max_tokens=6)
    comparison = comparison_run.run(["This movie"] * count, ComparisonModels(models.base, models.scorer), settings)
    few = [note for note in comparison.notes if "other prompt" in note]
    assert text in few[0] if text else few == []
    wins = comparison.rows()[0].wins
    assert wins.low is None if count == 1 else wins.low > 0 or wins.high < 1


def test_no_text_says_beforehand_what_a_comparison_with_the_weak_scorer_shows():
    files = [Path(loading.__file__).parent / "README.md", assets_folder() / "models" / "weak" / "README.md"]
    texts = [loading.WEAK, *(file.read_text(encoding="utf-8") for file in files)]
    assert not any(re.search("ris(es|ing)|levels? off|judge's stops", text) for text in texts)


@pytest.mark.parametrize(("judge", "verdict"), [
    (lambda score: score, "the judge gains too"),
    (lambda score: -score, "the judge loses: the scorer is being over-optimised"),
    (lambda score: 0.5, "the judge sees no clear change, +0.000"),
])
def test_the_sentence_says_whether_the_judge_follows_the_scorer(judge, verdict):
    rows = [[0.02 * i + 0.01 * j for i in range(16)] for j in range(6)]
    comparison = synthetic_comparison(rows, [[0.9] * 8] * 6, [[0.6] * 8] * 6, judge=judge)
    assert verdict in comparison.sentence()
    curve = np.mean([estimates.expected_best(row) for row in rows], axis=0)
    change = f"From best of 4 to best of 16 the scorer's mean changes by {curve[15] - curve[3]:+.3f}"
    assert change in comparison.sentence()
    assert "-" not in comparison.sentence().replace("over-optimised", "")  # but true minus signs, as in the table


def test_the_judge_is_not_mentioned_where_it_is_missing_or_n_is_too_small():
    of_three = synthetic_comparison([row[:3] for row in SPREAD], [[0.9] * 8] * 6, [[0.6] * 8] * 6, judge=lambda s: s)
    assert "judge" not in of_three.sentence()
    assert "judge" not in synthetic_comparison([row * 2 for row in SPREAD], [[0.9] * 8] * 6, [[0.6] * 8] * 6).sentence()


def test_a_tuned_model_beyond_the_best_of_n_is_not_extrapolated():
    assert "further than best of 8 goes" in synthetic_comparison(SPREAD, [[0.9] * 8] * 6, [[9.0] * 8] * 6).sentence()


def test_checkpoints_are_points_of_the_figure_and_of_the_sentence():
    points = ({"name": "step 20", "kl": 0.3, "kl_error": 0.05, "score": 0.1, "low": 0.05, "high": 0.15},
              {"name": "<step 40>", "kl": 0.9, "kl_error": 0.1, "score": 0.99})
    comparison = synthetic_comparison(SPREAD, [[0.9] * 8] * 6, [[1.2] * 8] * 6, points)
    assert [d["name"] for d in comparison.differences()] == ["step 20", "<step 40>", "tuned"]
    assert "best of N by" in comparison.sentence()
    svg = comparison_chart.chart(comparison).markup()
    assert "step 20" in svg
    assert "&lt;step 40&gt;" in svg
    assert len(ElementTree.fromstring(svg).findall(".//{*}circle")) == len(powers_of_two(8)) + 3


@pytest.mark.parametrize("unit", ["probability", "logit"])
def test_the_figure_keeps_everything_inside_its_frame(comparison, unit):
    if unit == "logit":
        scores = [[3 * score - 2 for score in row] for row in SPREAD]
        comparison = synthetic_comparison(scores, [[2.0] * 8] * 6, [[1.2] * 8] * 6, unit=unit)
    root = ElementTree.fromstring(comparison_chart.chart(comparison).markup())
    for node in root.iter():
        for names, limit in ((("x", "cx"), comparison_chart.WIDTH), (("y", "cy"), comparison_chart.HEIGHT)):
            for name in names:
                assert 0 <= float(node.get(name, 0)) <= limit, ElementTree.tostring(node)


@pytest.mark.parametrize("lift", [0.0, 0.06, 0.12])  # so that the first point is at a tick, above it, and between two
def test_names_of_points_stand_beside_the_lines_of_the_figure(lift):
    points = tuple({"name": f"step {step}", "kl": kl, "kl_error": 0.1, "score": score + lift}
                   for step, kl, score in ((20, 0.9, 0.6), (40, 1.1, 0.6), (100, 1.9, 0.75)))
    rows = [[score / 2 + 0.2 + lift for score in row] for row in SPREAD]
    comparison = synthetic_comparison(rows, [[0.8] * 8] * 6, [[1.0 + 0.01 * j] * 8 for j in range(6)], points,
                                      judge=lambda score: score - 0.12)
    root = ElementTree.fromstring(comparison_chart.chart(comparison).markup())
    curves = [list(zip(*[iter(map(float, re.findall(r"[\d.]+", path.get("d"))))] * 2, strict=True))
              for path in root.iterfind("{*}path") if path.get("stroke-width") == "2.5" or path.get("stroke-dasharray")]
    assert len(curves) == 2
    of_points = {"1", "2", "4", "8", *(point["name"] for point in points)}
    names = [node for node in root.iterfind("{*}text") if node.text in of_points and node.get("fill") != svg.SOFT]
    assert len(names) == 7
    for node in names:
        x, y, width = float(node.get("x")), float(node.get("y")), 6.5 * len(node.text)
        left = x - {"start": 0, "end": width}[node.get("text-anchor")]
        for places in curves:
            xs, ys = zip(*places, strict=True)
            covered = np.interp(np.linspace(left, left + width, 20), xs, ys, left=-9, right=-9)
            assert not ((covered > y - 9) & (covered < y)).any(), node.text


# The exports and the command.


def test_markup_in_texts_is_escaped_in_the_html_file(comparison):
    page = comparison_files.comparison_html(synthetic_comparison(SPREAD, [[0.9] * 8] * 6, [[1.2] * 8] * 6))
    assert "<i>" not in page.replace("</i>", "")
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert not re.search(r'(src|href)="?http', page)
    assert page.count("<svg") == 1


def test_markup_in_a_label_stays_text_in_every_export():
    label = "</text></svg><img src=x onerror=alert(1)>"
    models = ComparisonModels(engine_of(0), sentiment(0, ("NEGATIVE", label)))
    comparison = comparison_run.run(PROMPTS[:1], models, SETTINGS)
    chart = comparison_chart.chart(comparison)
    for page in (comparison_files.comparison_html(comparison), chart.markup()):
        assert "<img" not in page
        assert "&lt;/text&gt;&lt;/svg&gt;&lt;img" in page
    assert label in "".join(ElementTree.fromstring(chart.markup()).itertext())
    assert label in json.dumps(chart.view())
    assert label in comparison_files.comparison_text(comparison)
    assert csv.DictReader(io.StringIO(comparison_files.comparison_csv(comparison))).fieldnames[0] == "system"


def test_the_csv_is_the_table(comparison):
    rows = list(csv.DictReader(io.StringIO(comparison_files.comparison_csv(comparison))))
    assert [row["system"] for row in rows] == [comparison_files.system(row) for row in comparison.rows()]
    assert float(rows[0]["score"]) == comparison.rows()[0].score.mean
    assert rows[1]["kl_kind"] == "measured"
    assert rows[-1]["kl"] == ""


@pytest.mark.parametrize("width", [50, 60, 80, 100, 200])
def test_the_text_keeps_every_figure_at_every_width(comparison, width):
    heads, rows = comparison_files.table(comparison)
    lines = comparison_files.comparison_text(comparison, width).split("\n\n")[1].split("\n")
    assert max(map(len, lines)) <= width
    words = "  ".join(lines)
    for part in (*heads[1:], *(part for row in rows for cell in row for part in cell)):
        assert part in words


def test_the_command_prints_the_table_and_writes_the_files(lm_folder, classifier_folder, tmp_path, capsys):
    models = ["--model", lm_folder, "--tuned", lm_folder, "--scorer", classifier_folder, "--judge", classifier_folder]
    files = ["--csv", str(tmp_path / "c.csv"), "--html", str(tmp_path / "c.html")]
    command = ["compare", "This movie", "The end", *models, "-n", "4", "--seed", "3", "--max-tokens", "12"]
    assert main([*command, *files]) == 0
    output = capsys.readouterr().out
    assert "2 prompts" in output
    assert "best of 4" in output
    assert (tmp_path / "c.csv").read_text().startswith('"system",')
    assert (tmp_path / "c.html").read_text().startswith("<!doctype html>")
    assert main([*command, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main([*command, "--json"]) == 0
    repeated = json.loads(capsys.readouterr().out)
    for record in (first, repeated):
        for sample in record["samples"]:
            del sample["seconds"]
        for row in record["table"]:
            del row["seconds"]
    assert first == repeated


@pytest.mark.parametrize(("arguments", "message"), [
    (["--file", "nowhere.txt"], "nowhere.txt"), (["a", "--file", "b"], "not both"), (["a", "-n", "0"], "from 1"),
    (["a", "--model", "./nowhere"], "nowhere"), (["a", "--reject", "0.5"], "reject"),
])
def test_a_command_that_cannot_work_is_refused_in_one_line(arguments, message, capsys):
    assert main(["compare", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err
    assert err.count("\n") == 1


def test_compare_can_still_be_a_prompt(lm_folder, classifier_folder, capsys):
    assert main(["--model", lm_folder, "--scorer", classifier_folder, "-n", "2", "--", "compare"]) == 0
    assert "prompt: compare" in capsys.readouterr().out


def test_presets_know_their_counterparts():
    by_name = {spec.name: spec for spec in presets.presets()}
    assert by_name["gpt2-imdb"].tuned == "lvwerra/gpt2-imdb-pos-v2"
    assert by_name["embedded"].tuned
    assert by_name["embedded"].judge
