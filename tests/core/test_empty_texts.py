"""Texts of nothing but white space have no score and never win; the statistics cover the other texts."""

import json

import numpy as np
import pytest

from bon import api, flow
from bon.batch import batch_run
from bon.batch.export_formats import format_named
from bon.batch.input_rows import Dataset
from bon.compare import comparison_files, comparison_run
from bon.compare.comparison_run import ComparisonModels
from bon.engines.local.engine import LocalEngine, Rules
from bon.result import as_html, as_text
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.classifier import Classifier
from bon.scorers.logprob import MeanLogprobScorer, SelfCertaintyScorer
from bon.scorers.sentiment import SentimentScorer
from bon.scorers.weighted import WeightedScorer
from bon.settings import Request, Settings
from bon.ui.compare import comparison_view
from bon.ui.generate import run_view
from tests.support import tiny

OURS = {
    "sentiment": lambda: SentimentScorer(Classifier(tiny.classifier(), tiny.tokenizer())),
    "logprob": MeanLogprobScorer,
    "self-certainty": SelfCertaintyScorer,
    "sum": lambda: WeightedScorer([(0.7, OURS["sentiment"]()), (0.3, MeanLogprobScorer())]),
    "sum with a callable": lambda: WeightedScorer([(0.7, MeanLogprobScorer()), (0.3, CallableScorer(lengths))]),
}


def lengths(texts):
    return [float(len(text)) for text in texts]


@pytest.fixture(scope="module")
def hasty():
    """A model that ends more than half of its texts at once, and begins some with a blank."""
    model, tokenizer = tiny.gpt2(spread=0.02), tiny.tokenizer()
    return LocalEngine(model, tokenizer, name="hasty", rules=Rules(eos=range(3, 180)))


@pytest.fixture(scope="module")
def mute():
    """A model that ends every text at once."""
    return LocalEngine(tiny.gpt2(), tiny.tokenizer(), name="mute", rules=Rules(eos=range(400)))


def run(engine, scorer=None, **settings):
    return flow.run(Request("This movie", Settings(**{"n": 16, "seed": 3, "max_tokens": 8} | settings)), engine,
                    scorer or MeanLogprobScorer())


@pytest.mark.parametrize("select", ["best", "worst", "soft"])
@pytest.mark.parametrize("scorer", OURS)
def test_empty_texts_have_no_score_and_come_last_under_every_rule(hasty, scorer, select):
    result = run(hasty, OURS[scorer](), select=select)
    empty = [not c.text.strip() for c in result.candidates]
    assert empty == sorted(empty)
    assert 4 <= sum(empty) <= 12
    assert [c.score is None for c in result.candidates] == [c.rank is None for c in result.candidates] == empty
    assert result.best.text.strip()
    assert result.to_dict()["candidates"][-1]["score"] is None


def test_the_statistics_cover_the_scored_texts_and_a_note_says_how_many_are_empty(hasty):
    result = run(hasty)
    scores = [c.score for c in result.candidates if c.score is not None]
    assert len(result.stats.expected_best) == len(scores) < 16
    assert result.stats.mean == pytest.approx(sum(scores) / len(scores))
    assert result.stats.win_rate == len(scores) / (len(scores) + 1)
    assert (result.stats.kl_bound, result.stats.kl_estimate) == (None, None)
    assert [note.key for note in result.notes] == ["note.empty"]
    assert str(result.notes[0]).startswith(f"{16 - len(scores)} of 16 texts are empty")
    assert "(no text)" in as_text(result)
    assert "(no text)" in as_html(result)


def test_a_run_with_only_empty_texts_has_a_note_and_no_best(mute):
    result = run(mute)
    assert [note.key for note in result.notes] == ["note.all_empty"]
    assert result.stats is None
    with pytest.raises(ValueError, match="no best"):
        result.best  # noqa: B018
    assert as_text(result).count("(no text)") == 16


def test_a_callable_scorer_rates_empty_texts_too(hasty):
    result = run(hasty, CallableScorer(lengths))
    assert all(c.score is not None for c in result.candidates)
    assert result.notes == ()


@pytest.mark.parametrize("reject", [0.25, 0.5])
def test_early_rejection_compares_only_texts_that_are_not_empty(hasty, reject):
    result = run(hasty, reject=reject, n=32, max_tokens=12)
    assert result.best.text.strip()
    assert all(c.text.strip() or c.score is None for c in result.candidates)


def test_the_page_shows_that_there_is_no_text(hasty, mute):
    view = run_view.ended_view(run(hasty))
    assert view["phase"] == "done"
    assert {row["state"] for row in view["rows"] if not row["text"].strip()} == {"empty"}
    assert {row["state"] for row in view["rows"] if row["text"].strip()} == {"scored"}
    nothing = run_view.ended_view(run(mute))
    assert (nothing["phase"], nothing["winner"]) == ("done", None)
    assert [note.key for note in nothing["notes"]] == ["note.all_empty"]
    assert run_view.unpack(run_view.pack(nothing))["rows"][0]["state"] == "empty"


def test_empty_texts_stay_without_a_score_when_a_run_is_reranked(hasty):
    sampler = api.Sampler(hasty, OURS["sentiment"](), "hasty")
    before = sampler.run("This movie", n=16, seed=3, max_tokens=8)
    for rule in ({"select": "worst"}, {"target": "NEGATIVE"}):
        after, fresh = sampler.rerank(before, **rule), sampler.run("This movie", n=16, seed=3, max_tokens=8, **rule)
        assert [(c.index, c.score is None) for c in after.candidates] == [(c.index, c.score is None)
                                                                          for c in fresh.candidates]
        assert after.notes == before.notes


def test_a_comparison_covers_only_the_prompts_with_a_scored_text(hasty, mute):
    settings, prompts = Settings(n=8, seed=3, max_tokens=8), ["This movie", "The hotel", "I was surprised", "a", "b"]
    models = ComparisonModels(hasty, OURS["sentiment"](), hasty, MeanLogprobScorer())
    comparison = comparison_run.run(prompts, models, settings)
    record = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    counted = [s for s in record["samples"] if all(any(c["score"] is not None for c in s[name])
                                                   for name in ("base", "tuned"))]
    rows = {(row["kind"], row["k"]): row for row in record["table"]}
    means = [np.mean([c["score"] for c in s["base"] if c["score"] is not None]) for s in counted]
    bests = [max(c["score"] for c in s["base"] if c["score"] is not None) for s in counted]
    assert rows["base", 1]["score"]["mean"] == pytest.approx(np.mean(means))
    assert rows["best", 1]["score"]["mean"] == pytest.approx(np.mean(means))
    assert rows["best", 8]["score"]["mean"] == pytest.approx(np.mean(bests))
    assert rows["best", 8]["judge"]["mean"] is not None
    assert "note.empty_compared" in [note["key"] for note in record["note_keys"]]
    assert "(no text)" in comparison_files.comparison_html(comparison)
    assert comparison_files.comparison_text(comparison)
    assert comparison_view.summary(comparison)["rows"]
    assert comparison_view.cards_of(comparison)["best"]["score"]
    empty_comparison = comparison_run.run(prompts, ComparisonModels(mute, MeanLogprobScorer()), settings)
    assert [note.key for note in empty_comparison.notes] == [
        "note.few_prompts", "note.empty_compared", "note.prompts_left_out"]
    assert (empty_comparison.rows(), empty_comparison.sentence()) == ([], "")
    for write in (comparison_files.comparison_html, comparison_files.comparison_text, comparison_files.comparison_csv):
        assert write(empty_comparison)
    assert comparison_view.summary(empty_comparison)["rows"] == []
    assert comparison_view.cards_of(empty_comparison)["best"]["score"] == ""


@pytest.mark.parametrize("form", [None, "sft", "preference", "scored"])
def test_a_row_whose_texts_are_all_empty_fails_and_says_so(hasty, mute, form, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "This movie"}\n{"prompt": "The hotel"}\n')
    for engine, name in ((hasty, "some.jsonl"), (mute, "none.jsonl")):
        task = batch_run.Task(Dataset(tmp_path / "in.jsonl"), tmp_path / name, Settings(n=16, seed=3, max_tokens=8),
                          format_named(form))
        *_, finished = batch_run.stream(task, engine, MeanLogprobScorer())
        rows = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        completions = [row[key] for row in rows for key in ("completion", "chosen", "rejected") if row.get(key)]
        assert all(text.strip() for text in completions)
        assert finished.failed == (2 if engine is mute else 0)
    assert {error.key for error in finished.errors.values()} == {"note.all_empty"}
    assert len(rows) == (0 if form else 2)
    assert form or "Every text is empty" in rows[0]["error"]
