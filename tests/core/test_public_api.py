"""The public API: the names that `import bon` gives, their arguments and what they return."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import pipeline

import bon
from bon.models import presets
from tests.support import tiny

LABELS = {"NEGATIVE", "POSITIVE"}


@pytest.fixture(autouse=True)
def embedded(monkeypatch, lm_folder, classifier_folder):
    """A preset `embedded` of tiny models."""
    spec = presets.Spec("embedded", lm_folder, classifier_folder, "tiny models with random weights")
    monkeypatch.setattr(presets, "presets", lambda: [spec])


@pytest.fixture
def sampler():
    return bon.load("embedded")


def texts(result):
    return {c.index: c.text for c in result.candidates}


def ends_in_a_vowel(texts):
    return [float(text.strip()[-1:] in tuple("aeiou")) for text in texts]


def python(code: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
    )
    return run.stdout.strip()


def test_import_loads_neither_torch_nor_gradio():
    heavy_modules = "{'torch', 'transformers', 'gradio', 'numpy'}"
    assert python(f"import sys, bon; bon.__version__, dir(bon); print({heavy_modules} & set(sys.modules))") == "set()"


def test_the_flow_loads_no_torch():
    assert python("import sys, bon.flow; print({'torch', 'transformers', 'gradio'} & set(sys.modules))") == "set()"


THREADS = ("MKL_CBWR", "GOMP_SPINCOUNT")


def test_import_leaves_the_environment_as_it_is(monkeypatch):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    code = "import os; before = dict(os.environ); import bon, bon.api; print(before == dict(os.environ))"
    assert python(code) == "True"


@pytest.mark.parametrize("program", [
    "import app", "import bon; bon.configure_threads()",
    "from bon.cli.main import main; main(['--help'])",
])
def test_programs_configure_threads_before_torch_is_imported_and_keep_what_is_set(program, monkeypatch):
    print_environment = f"import os, sys; print(*(os.environ[name] for name in {THREADS}), 'torch' in sys.modules)"
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    assert python(f"{program}\n{print_environment}").splitlines()[-1] == "AUTO,STRICT 20000 False"
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert python(f"{program}\n{print_environment}").splitlines()[-1] == "COMPATIBLE 20000 False"


def test_the_package_has_its_public_names():
    promised = {
        "best_of_n", "stream", "load", "Sampler", "Result", "LengthSampler", "SentimentScorer", "BestOfNSampler",
        "BonError", "InputError", "ModelError", "ScoringError", "EngineError", "__version__",
    }  # fmt: skip
    assert promised <= set(dir(bon))
    assert all(getattr(bon, name) is not None for name in bon.__all__)
    with pytest.raises(AttributeError, match="no attribute 'best_of_m'"):
        bon.best_of_m  # noqa: B018


def test_star_import_brings_the_names():
    names = {}
    exec("from bon import *", names)
    assert names["best_of_n"] is bon.best_of_n
    assert names["__version__"] == bon.__version__


def parameters(function):
    return {
        name: parameter.default for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }


def test_best_of_n_sampler_takes_trls_arguments_in_trls_order():
    required = inspect.Parameter.empty
    promised = {
        "model": required, "tokenizer": required, "queries_to_scores": required, "length_sampler": required,
        "sample_size": 4, "seed": None, "n_candidates": 1, "generation_config": None,
    }  # fmt: skip
    assert list(parameters(bon.BestOfNSampler).items())[:8] == list(promised.items())
    assert parameters(bon.BestOfNSampler.generate) == {
        "self": required, "tokenized_query": required, "skip_special_tokens": True, "device": None,
    }  # fmt: skip


def test_length_sampler_draws_with_the_upper_end_left_out():
    draw = bon.LengthSampler(4, 16, seed=0)
    assert {draw() for _ in range(2000)} == set(range(4, 16))


def test_sentiment_scorer_takes_its_promised_arguments(classifier_folder):
    defaults = parameters(bon.SentimentScorer)
    assert (next(iter(defaults)), defaults["target"], defaults["unit"]) == ("model", "POSITIVE", "probability")
    for unit in ("probability", "logit", "margin"):
        assert bon.SentimentScorer(classifier_folder, target="NEGATIVE", unit=unit).unit == unit


# --- best_of_n ---


def test_best_of_n_returns_a_ranked_result():
    result = bon.best_of_n("This movie", n=16, seed=7)
    assert isinstance(result, bon.Result)
    assert len(result.candidates) == 16
    assert result.best is result.candidates[0]
    scores = [c.score for c in result.candidates]
    assert scores == sorted(scores, reverse=True)
    assert (result.prompt, result.target, result.unit) == ("This movie", "POSITIVE", "probability")
    assert not any(c.text.startswith("This movie") for c in result.candidates)
    assert result.stats.expected_best[-1] == pytest.approx(result.best.score)
    assert result.timing.tokens == sum(c.tokens for c in result.candidates)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 3), ("target", "NEGATIVE"), ("min_tokens", 2), ("max_tokens", 40), ("temperature", 0.5), ("top_p", 0.9),
     ("top_k", 5), ("seed", 11), ("keep", 2), ("unit", "logit"), ("scorer", "logprob"), ("model", "embedded")],
)  # fmt: skip
def test_keyword_is_accepted_and_recorded_in_the_result(name, value):
    result = bon.best_of_n("This movie", **{"n": 4} | {name: value})
    assert getattr(result.settings, name) == value
    assert result.to_dict()["settings"][name] == value


def test_names_of_the_dictionary_are_the_promised_ones_and_plain_json():
    record = bon.best_of_n("This movie", n=3, seed=1).to_dict()
    assert set(record) == {
        "prompt", "model", "scorer", "target", "unit", "settings", "candidates", "stats", "timing", "notes",
        "note_keys",
    }  # fmt: skip
    assert set(record["candidates"][0]) == {
        "rank", "index", "text", "score", "parts", "judge", "tokens", "cap", "ended", "full_text",
        "tokens_left_out", "logprob",
    }  # fmt: skip
    assert set(record["stats"]) == {"mean", "expected_best", "kl_bound", "kl_estimate", "win_rate"}
    assert json.loads(json.dumps(record)) == record


def test_same_seed_gives_the_same_texts_and_a_larger_n_begins_with_them():
    large = texts(bon.best_of_n("This movie", n=16, seed=7))
    assert texts(bon.best_of_n("This movie", n=16, seed=7)) == large
    assert texts(bon.best_of_n("This movie", n=4, seed=7)) == {i: large[i] for i in range(4)}


def test_seed_of_a_result_repeats_it():
    original = bon.best_of_n("This movie", n=4)
    repeated = bon.best_of_n("This movie", n=4, seed=original.settings.seed)
    assert texts(repeated) == texts(original)
    assert texts(bon.best_of_n("This movie", n=4)) != texts(original)


def test_caps_come_from_min_to_max_tokens_with_both_ends():
    caps = [c.cap for c in bon.best_of_n("This movie", n=64, seed=0, min_tokens=2, max_tokens=4).candidates]
    assert set(caps) == {2, 3, 4}


def test_any_callable_draws_the_lengths():
    assert {c.cap for c in bon.best_of_n("This movie", n=3, length_sampler=lambda: 5).candidates} == {5}


def test_any_callable_can_score():
    result = bon.best_of_n("This movie", n=8, seed=1, scorer=ends_in_a_vowel)
    assert result.scorer == "ends_in_a_vowel"
    assert [c.score for c in result.candidates] == ends_in_a_vowel([c.text for c in result.candidates])


def test_transformers_pipeline_can_score_and_gives_the_score_of_the_target(lm_folder, classifier_folder):
    pipe = pipeline("text-classification", model=classifier_folder)
    result = bon.best_of_n("This movie", n=4, seed=1, model=lm_folder, scorer=pipe, target="NEGATIVE")
    for c in result.candidates:
        by_label = {output["label"]: output["score"] for output in pipe(result.prompt + c.text, top_k=None)}
        assert set(by_label) == LABELS
        assert c.score == pytest.approx(by_label["NEGATIVE"], abs=1e-5)


def test_folders_may_be_paths(lm_folder, classifier_folder):
    result = bon.best_of_n("This movie", n=2, model=Path(lm_folder), scorer=Path(classifier_folder))
    assert (result.settings.model, result.settings.scorer) == (lm_folder, classifier_folder)


def test_chat_takes_messages_in_place_of_the_prompt(tmp_path):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    folder = tiny.save(tiny.gpt2(), tmp_path)
    tokenizer.save_pretrained(folder)
    chat = [{"role": "user", "content": "How was the soup?"}]
    result = bon.best_of_n(messages=chat, model=folder, n=2)
    assert list(result.messages) == chat
    assert result.to_dict()["messages"] == chat


# --- stream ---


def test_stream_is_the_same_flow_as_events():
    events = list(bon.stream("This movie", n=4, seed=7))
    assert type(events[0]).__name__ == "Started"
    assert type(events[-1]).__name__ == "Done"
    result = bon.best_of_n("This movie", n=4, seed=7)
    assert texts(events[-1].result) == texts(result)
    assert sum(type(event).__name__ == "Scored" for event in events) == 4


def test_stream_checks_its_arguments_at_once():
    with pytest.raises(bon.InputError):
        bon.stream("This movie", n=0)
    with pytest.raises(bon.InputError):
        bon.stream("   ")


# --- load ---


def test_sampler_runs_and_streams_as_the_functions_do(sampler):
    result = bon.best_of_n("This movie", n=4, seed=7)
    assert texts(sampler.run("This movie", n=4, seed=7)) == texts(result)
    assert texts(list(sampler.stream("This movie", n=4, seed=7))[-1].result) == texts(result)


def test_sampler_scores_texts_as_a_run_does(sampler):
    result = sampler.run("This movie", n=3, seed=1)
    scores = sampler.score([result.prompt + c.text for c in result.candidates])
    assert all(isinstance(score, float) for score in scores)
    assert scores == pytest.approx([c.score for c in result.candidates], abs=1e-5)
    assert sampler.score([]) == []


@pytest.mark.parametrize("invalid", ["one text", [1, 2], [None]])
def test_score_of_what_is_no_list_of_texts_is_refused(invalid, sampler):
    with pytest.raises(bon.InputError, match="texts") as raised:
        sampler.score(invalid)
    assert raised.value.field == "texts"


def test_log_probability_cannot_rate_texts_from_elsewhere():
    with pytest.raises(bon.InputError, match="logprob"):
        bon.load("embedded", scorer="logprob").score(["This movie"])


def test_target_and_unit_of_load_hold_until_a_run_says_otherwise():
    sampler = bon.load("embedded", target="NEGATIVE", unit="margin")
    by_default = sampler.run("This movie", n=2, seed=1)
    assert (by_default.target, by_default.unit, by_default.settings.unit) == ("NEGATIVE", "margin", "margin")
    overridden = sampler.run("This movie", n=2, seed=1, target="positive", unit="logit")
    assert (overridden.target, overridden.unit, overridden.settings.unit) == ("POSITIVE", "logit", "logit")
    assert sampler.run("This movie", n=1).target == "NEGATIVE"


def test_target_and_unit_are_kept_or_changed_for_a_scorer_made_before(classifier_folder):
    scorer = bon.SentimentScorer(classifier_folder, target="NEGATIVE", unit="logit")
    by_scorer = bon.load("embedded", scorer=scorer).run("This movie", n=2)
    assert (by_scorer.target, by_scorer.unit, by_scorer.settings.unit) == ("NEGATIVE", "logit", "logit")
    overridden = bon.load("embedded", scorer=scorer, target="POSITIVE", unit="margin").run("This movie", n=2)
    assert (overridden.target, overridden.unit) == ("POSITIVE", "margin")
    assert (scorer.target, scorer.unit) == ("NEGATIVE", "logit")


def test_scorer_without_labels_refuses_a_target_and_a_unit(reward_folder):
    for scorer in (reward_folder, ends_in_a_vowel, "logprob"):
        with pytest.raises(bon.InputError, match="target"):
            bon.load("embedded", scorer=scorer, target="POSITIVE")
        with pytest.raises(bon.InputError, match="unit"):
            bon.best_of_n("This movie", n=1, scorer=scorer, unit="logit")


def test_reward_model_scores_without_a_target(reward_folder):
    result = bon.best_of_n("This movie", n=3, scorer=reward_folder)
    assert (result.target, result.unit) == (None, "reward")


def test_two_loads_share_the_weights():
    assert bon.load("embedded").engine.model is bon.load("embedded").engine.model


def test_loaded_sampler_refuses_another_model(sampler):
    with pytest.raises(bon.InputError, match="model"):
        sampler.run("This movie", model="gpt2-imdb")


# --- errors ---


@pytest.mark.parametrize(
    ("field", "arguments"),
    [("n", {"n": 0}), ("n", {"n": 4097}), ("keep", {"n": 2, "keep": 3}), ("temperature", {"temperature": 0}),
     ("min_tokens", {"min_tokens": 9, "max_tokens": 8}), ("top_p", {"top_p": 0}), ("top_k", {"top_k": -1}),
     ("seed", {"seed": -1}), ("unit", {"unit": "stars"}), ("model", {"model": ""}), ("model", {"model": 7}),
     ("tokens", {"tokens": 5}), ("length_sampler", {"length_sampler": 5}), ("messages", {"messages": []}),
     ("scorer", {"scorer": 5}), ("target", {"target": "MIXED"}),
     ("messages", {"messages": [{"role": "user", "content": "Hi"}]})],
    ids=str,
)  # fmt: skip
def test_input_that_cannot_work_is_an_input_error_of_its_field(field, arguments):
    with pytest.raises(bon.InputError) as raised:
        bon.best_of_n("This movie", **arguments)
    assert raised.value.field == field


def test_every_error_is_a_bon_error_and_input_errors_are_value_errors():
    for error in (bon.InputError, bon.ModelError, bon.ScoringError, bon.EngineError):
        assert issubclass(error, bon.BonError)
    assert issubclass(bon.InputError, ValueError)
    with pytest.raises(bon.ModelError):
        bon.best_of_n("This movie", model="/no/such/folder")


def test_scorer_that_raises_is_a_scoring_error():
    with pytest.raises(bon.ScoringError, match="ends badly"):
        bon.best_of_n("This movie", n=2, scorer=_broken)


def _broken(texts):
    raise RuntimeError("it ends badly")


def test_the_names_for_type_checkers_are_those_that_are_imported_when_used():
    source = (Path(bon.__file__)).read_text(encoding="utf-8")
    imported = next(node for node in ast.parse(source).body if isinstance(node, ast.If)).body
    for_type_checkers = {alias.name: node.module for node in imported for alias in node.names}
    assert for_type_checkers == {name: f"bon.{module}" for name, module in bon._MODULE_OF.items()}
    assert sorted([*for_type_checkers, "__version__"]) == bon.__all__
