"""The values that hold where nobody names any: a preset's, a chat model's own, those of chats, the declared ones."""

import json

import pytest
from transformers import GenerationConfig

import bon
from bon import flow
from bon.batch import batch_run
from bon.batch.batch_run import LocalWorker, Task
from bon.batch.input_rows import Dataset
from bon.batch.resume_journal import journal_path
from bon.cli.main import main
from bon.compare import comparison_run
from bon.compare.comparison_run import ComparisonModels
from bon.engines.local.engine import LocalEngine
from bon.models import presets
from bon.models.presets import Spec
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.logprob import MeanLogprobScorer
from bon.settings import Defaults, Request, Settings
from bon.ui.app_state import AppState
from bon.ui.generate import share_links
from bon.ui.hosting.deployment import Deployment
from bon.ui.http_interface import best_of_n
from tests.support import tiny
from tests.support.forms import FIRST_VALUES, accept
from tests.ui.test_chat import TEMPLATE

CHAT = [{"role": "user", "content": "Hi"}]
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty")
OFF = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repetition_penalty": 1.0}
PLAIN = OFF | {"min_tokens": 8, "max_tokens": 32}
IN_CHATS = PLAIN | {"temperature": 0.7, "top_p": 0.9, "min_tokens": 16, "max_tokens": 96}


def by_length(texts):
    return [float(len(text)) for text in texts]


def chat_engine(preset=None, **of_model):
    """An engine of a tiny chat model whose generation config names these values."""
    model, tokenizer = tiny.gpt2(), tiny.tokenizer()
    tokenizer.chat_template = TEMPLATE
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, **of_model)
    engine = LocalEngine(model, tokenizer, name="chatty")
    engine.defaults = Defaults(preset or {}, engine.defaults.of_model)
    return engine


def used(settings):
    return {name: value for name, value in settings.to_dict().items() if name in PLAIN}


def run(engine, prompt=None, **settings):
    request = Request(prompt, Settings(n=1, seed=7, **settings), None if prompt else CHAT)
    return flow.run(request, engine, CallableScorer(by_length))


OWN = {"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1}
PRESET = {"temperature": 0.5, "min_tokens": 4, "max_tokens": 12}


@pytest.mark.parametrize(("preset", "own", "named", "in_chat", "in_text"), [
    ({}, {}, {}, IN_CHATS, PLAIN),
    ({}, OWN, {}, IN_CHATS | OWN | {"top_p": 1.0}, PLAIN),
    (PRESET, {}, {}, IN_CHATS | PRESET | {"top_p": 1.0}, PLAIN | PRESET),
    (PRESET, OWN, {}, IN_CHATS | OWN | PRESET | {"top_p": 1.0}, PLAIN | PRESET),
    ({}, {}, {"temperature": 1.0, "max_tokens": 20}, IN_CHATS | {"temperature": 1.0, "max_tokens": 20},
     PLAIN | {"max_tokens": 20}),
    (PRESET, OWN, {"temperature": 2.0, "top_k": 0}, IN_CHATS | OWN | PRESET | {"top_p": 1.0, "temperature": 2.0,
                                                                               "top_k": 0},
     PLAIN | PRESET | {"temperature": 2.0}),
    # The end of the lengths that is not named gives way to the one that is.
    ({}, {}, {"max_tokens": 3}, IN_CHATS | {"min_tokens": 3, "max_tokens": 3}, PLAIN | {"min_tokens": 3,
                                                                                         "max_tokens": 3}),
    ({}, {}, {"min_tokens": 100}, IN_CHATS | {"min_tokens": 100, "max_tokens": 100},
     PLAIN | {"min_tokens": 100, "max_tokens": 100}),
])
def test_named_values_come_before_the_presets_the_models_and_those_of_chats(preset, own, named, in_chat, in_text):
    engine = chat_engine(preset, **own)
    assert used(run(engine, **named).settings) == in_chat
    assert used(run(engine, "This movie", **named).settings) == in_text


@pytest.mark.parametrize("own", [
    {"temperature": 0.0, "top_p": 0.0}, {"top_k": -1}, {"temperature": float("nan")}, {"min_p": "high"}])
def test_values_of_a_model_that_cannot_work_are_left_out(own):
    config = GenerationConfig()
    for name, value in own.items():
        setattr(config, name, value)
    model = tiny.gpt2()
    model.generation_config = config
    assert LocalEngine(model, tiny.tokenizer()).defaults.of_model == {}


def test_notes_say_where_values_come_from_that_nobody_named():
    engine = chat_engine({"max_tokens": 20}, top_k=20)
    assert list(map(str, run(engine, temperature=0.9).notes)) == [
        "max_tokens 20: the preset's values.", "top_k 20: the model's own values.", "min_tokens 16: usual in chats."]
    named = {"min_tokens": 3, "max_tokens": 20, "top_k": 20}
    assert run(engine, **named).notes == ()
    assert run(chat_engine(), "This movie").notes == ()


def test_with_a_length_sampler_no_lengths_are_filled_in(chatty):
    result = bon.best_of_n(messages=CHAT, model=chatty, n=2, length_sampler=bon.LengthSampler(3, 6))
    assert result.settings.lengths == (3, 5)
    assert str(result.notes[0]) == "temperature 0.7, top_p 0.9: usual in chats."


# Everywhere.


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    """A folder with a chat model whose generation config names no sampling."""
    folder = tmp_path_factory.mktemp("chatty")
    model = tiny.gpt2(positions=2048)
    return tiny.save(model, folder, TEMPLATE)


@pytest.fixture
def preset(chatty, monkeypatch):
    """The name of a preset that is this model with values of its own."""
    spec = Spec("small-chat", chatty, "logprob", "a preset of the tests", settings=PRESET)
    all_presets = [*presets.presets(), spec]
    monkeypatch.setattr(presets, "presets", lambda: all_presets)
    return spec.name


def test_a_models_own_values_come_from_its_generation_config(tmp_path):
    model = tiny.gpt2()
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.6, top_p=0.95, eos_token_id=0)
    folder = tiny.save(model, tmp_path, TEMPLATE)
    assert bon.load(folder).engine.defaults.of_model == {"temperature": 0.6, "top_p": 0.95}
    in_chat = IN_CHATS | {"temperature": 0.6, "top_p": 0.95}
    assert used(bon.best_of_n(messages=CHAT, model=folder, n=1).settings) == in_chat
    assert used(bon.best_of_n("Hi", model=folder, n=1).settings) == PLAIN


def test_python_and_http_use_them_within_the_limits_of_a_public_page(chatty, preset):
    def settings_of(**arguments):
        http = best_of_n(AppState(Deployment(public=True, tokens=40, models=("embedded", chatty, preset))))
        *_, last = http(n=1, seed=7, **arguments)
        return {name: last["settings"][name] for name in PLAIN}

    assert used(bon.best_of_n(messages=CHAT, model=chatty, n=1).settings) == IN_CHATS
    assert used(bon.best_of_n("Hi", model=preset, n=1).settings) == PLAIN | PRESET
    assert settings_of(messages=CHAT, model=chatty) == IN_CHATS | {"max_tokens": 40}
    assert settings_of(messages=CHAT, model=preset) == IN_CHATS | PRESET | {"top_p": 1.0}
    assert settings_of(prompt="Hi", model=chatty) == PLAIN


def test_the_command_line_uses_them_and_says_so(preset, capsys):
    assert main(["--chat", "Hi", "--model", preset, "-n", "1", "--seed", "7", "--top-p", "0.8"]) == 0
    assert "note: temperature 0.5, min_tokens 4, max_tokens 12: the preset's values." in capsys.readouterr().out
    assert main(["--chat", "Hi", "--model", preset, "-n", "1", "--json"]) == 0
    assert used(Settings(**json.loads(capsys.readouterr().out)["settings"])) == IN_CHATS | PRESET | {"top_p": 1.0}


def test_a_link_leaves_out_what_its_preset_brings_along(preset):
    linked, ignored = accept({"prompt": "Hi", "model": preset, "temperature": "1"}, FIRST_VALUES)
    assert (linked, ignored) == (PRESET | {"prompt": "Hi", "model": preset, "temperature": 1}, [])
    assert accept({"prompt": "Hi"}, FIRST_VALUES) == ({"prompt": "Hi"}, [])
    of_page = Deployment(model=preset)
    assert accept({"prompt": "Hi"}, FIRST_VALUES | {"model": preset}, of_page) == (PRESET | {"prompt": "Hi"}, [])
    assert accept({}, FIRST_VALUES | {"model": preset}, of_page) == ({}, [])
    assert share_links.notice(FIRST_VALUES)["presets"][preset] == PRESET


def test_a_comparison_uses_the_presets():
    models = ComparisonModels(chat_engine(PRESET, **OWN), CallableScorer(by_length))
    comparison = comparison_run.run(["Hi"], models, Settings(n=2, seed=1))
    assert used(comparison.settings) == PLAIN | PRESET


# Batches.


def write_chats(path, count=3):
    path.write_text("".join(json.dumps({"messages": [{"role": "user", "content": f"Hi {i}"}]}) + "\n"
                            for i in range(count)), encoding="utf-8")
    return path


def plan_of(task, engine):
    """The plan in the journal of a batch that is stopped after its first rows."""
    events = batch_run.stream_with(LocalWorker(engine, MeanLogprobScorer()), task)
    next(events)
    events.close()
    return json.loads(journal_path(task.output).read_text(encoding="utf-8").splitlines()[0])


def test_a_batch_writes_the_values_used_into_its_journal_and_resumes_with_them(tmp_path):
    dataset, output = Dataset(write_chats(tmp_path / "in.jsonl")), tmp_path / "out.jsonl"
    plan = plan_of(Task(dataset, output, Settings(n=2, seed=1)), chat_engine())
    assert {name: plan[name] for name in PLAIN} == IN_CHATS
    # The same command goes on with the journal's values, whatever the model brings along by now.
    resumed = plan_of(Task(dataset, output, Settings(n=2), resume=True), chat_engine(PRESET, **OWN))
    assert resumed == plan


def test_what_an_older_journal_holds_and_leaves_out_is_kept(tmp_path):
    dataset, output = Dataset(write_chats(tmp_path / "in.jsonl")), tmp_path / "out.jsonl"
    plan = plan_of(Task(dataset, output, Settings(n=2, seed=1, **PLAIN)), chat_engine())
    older = {name: value for name, value in plan.items() if name not in ("repetition_penalty", "min_p", "stop")}
    journal_path(output).write_text(json.dumps(older) + "\n", encoding="utf-8")
    engine = chat_engine(**OWN)
    (*_, done) = batch_run.stream_with(LocalWorker(engine, MeanLogprobScorer()),
                                       Task(dataset, output, Settings(n=2), resume=True))
    assert {name: done.plan[name] for name in PLAIN} == PLAIN
    fresh = tmp_path / "fresh.jsonl"
    list(batch_run.stream_with(LocalWorker(engine, MeanLogprobScorer()),
                               Task(dataset, fresh, Settings(n=2, seed=1, **PLAIN))))
    assert fresh.read_bytes() == output.read_bytes()


def test_only_files_of_chats_have_the_values_of_chats(tmp_path):
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(json.dumps({"prompt": CHAT}) + "\n" + json.dumps({"prompt": "Hi"}) + "\n", encoding="utf-8")
    plan = plan_of(Task(Dataset(mixed), tmp_path / "out.jsonl", Settings(n=2, seed=1)), chat_engine())
    # Each row is filled by its kind.
    open_values = dict.fromkeys(("temperature", "top_p", "min_tokens", "max_tokens"))
    assert {name: plan[name] for name in PLAIN} == PLAIN | open_values
