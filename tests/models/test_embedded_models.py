"""The embedded models and their corpus: how good they are, measured on the shipped weights."""

import json
import re
import statistics
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import bon
from bon import api
from bon.assets_folder import assets_folder
from bon.compare import comparison_run
from bon.compare.loading import load_models
from bon.compare.prompts import shipped_prompts
from bon.models import presets
from bon.result import Candidate
from bon.scorers.base import Item
from bon.scorers.ngrams import NgramClassifier
from bon.settings import Settings
from bon.stats import estimates
from bon.training import ngrams, report, train, tune
from bon.training.grammar import WORLD, writer
from bon.training.labelled import judge_examples
from bon.training.phrases import banks, held_out, sentences
from bon.training.text import documents
from bon.ui.compare.comparison_view import sample_text
from tests import page_samples

FOLDERS = ("reviews", "sentiment", "judge", "weak", "reviews-positive")


@pytest.fixture(scope="module")
def sampler():
    return api.load("embedded")


@pytest.fixture(scope="module")
def runs(sampler):
    """Best of 16 for each of the 50 openings."""
    return report.runs(sampler, report.OPENINGS, 16, count(100))


def test_corpus_has_more_than_3000_distinct_phrases_about_at_least_12_subjects():
    subjects = [name for name in banks() if name not in (*WORLD, "openings", "register")]
    assert len(subjects) >= 12
    assert report.corpus_size()[0] >= 3000


@pytest.mark.parametrize("folder", ["sentences", "judged"])
def test_the_test_sentences_are_200_and_in_no_training_text(folder):
    test = held_out("test")
    assert len({text for text, _ in test}) == 200
    training_text = " ".join(line for lines in sentences(folder=folder).values() for line in lines)
    training_text += " ".join(p for bank in banks().values() for lines in bank.sections.values() for p in lines)
    runs_of_seven = _word_runs(training_text, 7)
    shared = [text for text, _ in test if _word_runs(text, 7) & runs_of_seven]
    assert shared == []


def _word_runs(text, length):
    words = re.findall(r"[a-z']+", text.lower())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def test_grammar_writes_no_content_twice_in_a_review_and_labels_its_mood():
    write = writer(5)
    reviews = [write() for _ in range(2000)]
    for review in reviews:
        polarities = {u.polarity for u in review.units}
        if polarities <= {"pos", "fact"} and "pos" in polarities:
            assert review.label() > 0.9
        if polarities <= {"neg", "fact"} and "neg" in polarities:
            assert review.label() < 0.1
        sentences_of_it = [u.text for u in review.units]
        assert len(set(sentences_of_it)) == len(sentences_of_it)
    labels = [round(review.label(), 2) for review in reviews]
    middle = sum(0.15 < label < 0.85 for label in labels) / len(labels)
    assert middle > 0.15, "mixed and lukewarm reviews are too rare to spread the scores"


def test_corpus_is_the_same_for_the_same_seed():
    seed_3, seed_3_again, seed_4 = documents(3), documents(3), documents(4)
    expected = [next(seed_3) for _ in range(50)]
    assert expected == [next(seed_3_again) for _ in range(50)]
    assert expected != [next(seed_4) for _ in range(50)]


def test_training_is_repeatable(tmp_path, monkeypatch):
    hush, texts = lambda _: None, train._vocabulary_texts
    monkeypatch.setattr(train, "_vocabulary_texts", lambda examples: [*texts(examples)][::20])
    for name in ("a", "b"):
        train.classifier(tmp_path / name, steps=(0, 0, 1), taught=1, say=hush)
    weights = [sorted((tmp_path / name).glob("*.safetensors")) for name in ("a", "b")]
    assert [f.read_bytes() for f in weights[0]] == [f.read_bytes() for f in weights[1]]


@pytest.mark.parametrize("name", FOLDERS)
def test_files_are_safetensors_below_10_mb_with_a_card(name):
    folder = assets_folder() / "models" / name
    files = [file for file in folder.iterdir() if file.is_file()]
    assert max(file.stat().st_size for file in files) < 10_000_000
    assert any(file.suffix == ".safetensors" for file in files)
    assert not any(file.suffix in {".bin", ".pt", ".pickle"} for file in files)
    card = (folder / "README.md").read_text(encoding="utf-8")
    for heading in ("Trained on", "How well it does", "Limits"):
        assert heading in card


def test_language_model_has_3_to_8_million_parameters_and_the_scorer_names_its_labels(sampler):
    assert 3_000_000 <= sampler.engine.describe()["parameters"] <= 8_000_000
    assert sorted(sampler.scorer.targets) == ["NEGATIVE", "POSITIVE"]


def test_scorer_gets_92_percent_of_the_hand_written_test_right_and_the_judge_90(sampler):
    assert report.right(sampler, held_out("test")) >= 0.92
    assert report.right(api.load("embedded", "judge"), held_out("test")) >= 0.90


def test_the_judge_is_of_another_architecture_and_learned_from_other_sentences(models):
    assert isinstance(models.judge.classifier, NgramClassifier)
    scorer_sentences, judge_sentences = (
        {line.lower() for lines in sentences(folder=folder).values() for line in lines}
        for folder in ("sentences", "judged")
    )
    assert len(judge_sentences) > 20_000
    # Two people may write a few sentences alike by chance.
    assert len(judge_sentences & scorer_sentences) / len(judge_sentences) < 0.005


def test_optimising_the_weak_scorer_soon_stops_improving_the_judge(sampler):
    assert report.right(api.load("embedded", "weak"), held_out("test")) < 0.75
    items_by_prompt = [[Item(run.prompt, c) for c in run.candidates]
                       for run in report.runs(api.load("embedded", "logprob"), shipped_prompts(), 64, count())]
    judge_scores = [api.load("embedded", "judge").scorer.score(items).values for items in items_by_prompt]

    def curves(scorer):
        """The expected best of k by the scorer over the 32 prompts: its own mean score and the judge's."""
        rated = [scorer.score(items).values for items in items_by_prompt]
        judge_curve = [estimates.expected_best(*pair) for pair in zip(rated, judge_scores, strict=True)]
        return np.mean([estimates.expected_best(scores) for scores in rated], axis=0), np.mean(judge_curve, axis=0)

    weak_curve, judge_curve = curves(api.load("embedded", "weak").scorer)
    assert weak_curve[63] - weak_curve[0] > 0.35
    assert judge_curve[63] - judge_curve[15] < 0.5 * (judge_curve[15] - judge_curve[0])  # the judge's curve levels off
    assert weak_curve[63] - judge_curve[63] > 0.2  # the scorer overrates its winners
    assert curves(sampler.scorer)[1][63] > judge_curve[63] + 0.1  # a better scorer does better by the same judge


def test_training_of_the_judge_is_repeatable(tmp_path):
    for name in ("a", "b"):
        train.judge(tmp_path / name, steps=2, seeds=2, say=lambda _: None)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    saved = api.as_scorer(str(tmp_path / "a"), unit="margin")
    trained = [ngrams.train(judge_examples(seed), 2, seed, lambda _: None) for seed in range(2)]
    texts = ["not bad at all", "I want my two hours back!", "x"]
    expected = sum(torch.logit(model.judge(texts)) for model in trained) / 2
    margins = saved.score([Item("", Candidate(index=i, text=text)) for i, text in enumerate(texts)]).values
    assert margins == pytest.approx(expected.tolist(), abs=0.02)


# The tuned model and the comparison.


@pytest.fixture(scope="module")
def models():
    return load_models("embedded")


@pytest.fixture(scope="module")
def comparison():
    """The comparison over the 32 shipped prompts with which the page opens."""
    return page_samples.comparison()


def test_tuned_model_scores_025_above_base_within_3_nats(models):
    """Of whole texts; ends with their last sentence take something of both."""
    comparison = comparison_run.run(shipped_prompts(), models, Settings(n=16, seed=7))
    assert not comparison.notes
    rows = {row.kind: row for row in comparison.rows() if row.kind in ("base", "tuned")}
    assert rows["tuned"].score.mean >= rows["base"].score.mean + 0.25
    assert rows["tuned"].kl <= 3


def test_tuned_model_has_not_collapsed():
    tuned = api.load(presets.find("embedded").tuned, "logprob")
    assert len(set(report.sample(tuned, 10))) >= 450


def test_best_of_n_and_the_tuned_points_share_a_range_of_kl(comparison):
    differences = comparison.differences()
    assert len(differences) == 4
    assert sum(d["difference"] is not None for d in differences) >= 2
    points = comparison.checkpoints
    assert all(point["low"] < point["score"] < point["high"] and point["kl_error"] > 0 for point in points)
    assert "nats" in comparison.sentence()


def test_the_tuned_models_training_begins_with_prompts_of_equal_length():
    tokenizer = AutoTokenizer.from_pretrained(presets.find("embedded").model)
    prompts = [next(texts) for texts in [tune.prompts(tokenizer, 3)] for _ in range(50)]
    assert {len(tokenizer(prompt)["input_ids"]) for prompt in prompts} == {tune.PROMPT_TOKENS}
    assert len(set(prompts)) > 25


def test_classifier_gets_95_percent_of_new_clear_grammar_texts_right(sampler):
    assert report.right(sampler, report.clear_texts(1000, seed=987_654)) >= 0.95


def test_95_percent_of_500_samples_from_50_openings_are_distinct():
    writer, shares = api.load("embedded", "logprob"), []
    for seed in range(4):  # one seed alone is off by up to two hundredths
        samples = report.sample(writer, 10, seed)
        assert len(samples) == 500
        shares.append(len(set(samples)) / 500)
    assert statistics.mean(shares) >= 0.95


def test_card_shows_the_first_20_samples_of_seed_0(sampler):
    card = (assets_folder() / "models" / "reviews" / "README.md").read_text(encoding="utf-8")
    samples = re.findall(r"^\d+\. (.*)$", card, re.MULTILINE)
    assert samples == [" ".join(text.split()) for text in report.sample(sampler, 1)[:20]]


def test_best_of_16_beats_one_sample_by_035_over_50_prompts(runs):
    gain = statistics.mean(r.best.score - r.stats.mean for r in runs)
    assert gain >= 0.35


def test_expected_best_curve_agrees_with_fresh_runs(sampler, runs):
    eight = report.runs(sampler, report.OPENINGS, 8, count(900))  # the first k of which are those of a run of k
    for k in (1, 2, 4, 8):
        expected = np.array([r.stats.expected_best[k - 1] for r in runs])
        fresh = np.array([max(c.score for c in run.candidates if c.index < k) for run in eight])
        difference = fresh - expected
        error = difference.std(ddof=1) / len(difference) ** 0.5
        assert abs(difference.mean()) < 3 * error, f"at N = {k}"


def test_scores_spread_over_the_whole_range(runs):
    scores = np.array([c.score for r in runs for c in r.candidates])
    shares = np.histogram(scores, bins=[0, 0.2, 0.4, 0.6, 0.8, 1])[0] / len(scores)
    assert shares.min() > 0.03, shares


@pytest.fixture(scope="module")
def corpus_words() -> set[str]:
    """The words of some texts of the corpus."""
    return {word for text in islice(documents(12), 5_000) for word in re.findall(r"[a-z]+", text.lower())}


@pytest.mark.parametrize("prompt", ["مرحبا", "🙂🎉", "zxqv 77", "SELECT * FROM", "el gato", "\u0007bell", "The"])
def test_prompts_that_the_grammar_never_starts_with_lead_to_readable_text(sampler, corpus_words, prompt):
    result = sampler.run(prompt, n=16, seed=3, min_tokens=24)
    result_words = re.findall(r"[a-z]+", " ".join(c.text for c in result.candidates).lower())
    assert len(result_words) > 100
    assert sum(word in corpus_words for word in result_words) / len(result_words) > 0.9


def test_the_pages_sample_run_is_repeated_by_its_seed(sampler):
    sample = json.loads((assets_folder() / "ui" / "sample_run.json").read_text(encoding="utf-8"))
    settings = {k: v for k, v in sample["settings"].items() if k not in ("model", "scorer")}
    repeated = sampler.run(sample["prompt"], **settings)
    assert [c["text"] for c in sample["candidates"]] == [c.text for c in repeated.candidates]
    assert [c["score"] for c in sample["candidates"]] == pytest.approx([c.score for c in repeated.candidates], abs=1e-4)


def test_the_pages_sample_comparison_is_repeated_by_its_seed(comparison):
    """Processors that round otherwise may flip a candidate or two of its 1,088."""
    sample = json.loads((assets_folder() / "ui" / "sample_comparison.json").read_text(encoding="utf-8"))
    repeated = json.loads(sample_text(comparison))
    assert [row[0] for row in sample["rows"]] == [row[0] for row in repeated["rows"]]
    for column in (1, 4):  # the scorer's and the judge's mean
        means = [[float(row[column][0]) for row in file["rows"]] for file in (sample, repeated)]
        assert means[0] == pytest.approx(means[1], abs=0.02)
    assert sample["about"] == repeated["about"]
    assert [card["prompt"] for card in sample["cards"]] == [card["prompt"] for card in repeated["cards"]]


def test_nothing_of_the_corpus_is_imported_by_the_app():
    files = [file for file in Path(bon.__file__).parent.rglob("*.py") if "training" not in file.parts]
    assert len(files) > 60
    for file in files:
        assert "bon.training" not in file.read_text(encoding="utf-8"), file
