"""The public mode of the page: what each entry point refuses, the rate limit, and what is kept out of the log."""

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from gradio_client import Client

from bon import messages
from bon.errors import InputError, LimitError, ModelError
from bon.settings import Request, Settings
from bon.ui import launch, theme
from bon.ui.app_state import AppState
from bon.ui.generate import run_view, share_links
from bon.ui.generate.handlers import GenerateHandlers
from bon.ui.hosting import error_log
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.rate_limit import Visitors, visitor_id
from bon.ui.page import build
from bon.ui.texts import model_label
from bon.ui.work.model_loading import ModelLoader
from tests.support.browser import Play, Stage
from tests.support.forms import FIRST_VALUES
from tests.support.served_page import FORM, PUBLIC, SCORES, TEXTS, call_listener, serving
from tests.ui.test_mcp import result_of_session

ROOT = Path(__file__).parents[2]
SECRET = "a visitor's own words"
OUTSIDE = ["/etc", "./models", "someone/else", "gpt2-imdb"]


# Environment variables.


def test_without_variables_the_page_is_private_and_has_no_limits():
    deployment = Deployment.of({})
    assert deployment == Deployment()
    assert not deployment.public
    settings = Settings(n=4096, max_tokens=5000, model="some/model", scorer="/a/folder")
    deployment.check(Request("word " * 10_000, settings))
    for _ in range(100):
        deployment.admit(None)
    assert deployment.limits() == ""


def test_variables_set_models_and_limits():
    deployment = Deployment.of({
        "BON_PUBLIC": "yes", "BON_MODEL": "me/mine", "BON_SCORER": "logprob", "BON_MODELS": " embedded, me/other,",
        "BON_MAX_N": "32", "BON_MAX_TOKENS": "64", "BON_MAX_PROMPT": "100", "BON_MAX_QUEUE": "5", "BON_RATE": "3",
    })
    assert deployment == Deployment("me/mine", "logprob", True, ("embedded", "me/other", "me/mine"), 32, 64, 100, 5, 3)
    assert "32 candidates of 64 tokens" in deployment.limits()
    assert "3 runs per minute" in deployment.limits()


def test_the_models_of_a_public_page_are_the_embedded_ones_and_its_own():
    assert Deployment.of({"BON_PUBLIC": "1"}).models == ("embedded",)
    assert Deployment.of({"BON_PUBLIC": "1", "BON_MODEL": "gpt2-imdb"}).models == ("embedded", "gpt2-imdb")


@pytest.mark.parametrize(("name", "value"), [
    ("BON_PUBLIC", "maybe"), ("BON_MAX_N", "many"), ("BON_MAX_N", "15"), ("BON_MAX_N", "4097"), ("BON_RATE", "0"),
    ("BON_MAX_TOKENS", "31"), ("BON_MAX_QUEUE", "-1"), ("BON_MAX_PROMPT", "1.5"), ("BON_MAX_ROWS", "0"),
    ("BON_MAX_RUNS_A_DAY", "0"),
])
def test_a_value_that_cannot_work_is_named(name, value):
    with pytest.raises(InputError, match=rf"{name} .*{re.escape(value)}"):
        Deployment.of({name: value})


@pytest.mark.parametrize(("name", "field", "least", "most"), [
    ("BON_MAX_N", "n", 16, 4096), ("BON_MAX_TOKENS", "tokens", 32, 1_000_000), ("BON_RATE", "rate", 1, 10_000),
    ("BON_MAX_PROMPT", "prompt", 32, 1_000_000), ("BON_MAX_QUEUE", "queue", 1, 10_000),
    ("BON_MAX_ROWS", "rows", 1, 10_000), ("BON_MAX_RUNS_A_DAY", "runs_a_day", 1, 1_000_000),
])
def test_each_limit_accepts_exactly_its_range(name, field, least, most):
    for value in (least, most):
        assert getattr(Deployment.of({name: str(value)}), field) == value
    for value in (least - 1, most + 1):
        with pytest.raises(InputError, match=name):
            Deployment.of({name: str(value)})


def test_a_value_of_more_digits_than_python_parses_is_refused():
    with pytest.raises(InputError, match="BON_RATE"):
        Deployment.of({"BON_RATE": "9" * 5000})


def test_the_page_does_not_start_with_a_wrong_variable(monkeypatch):
    monkeypatch.setenv("BON_RATE", "often")
    with pytest.raises(InputError, match="BON_RATE"):
        launch.serve()


# What a public page refuses.


def public(**more: str) -> Deployment:
    return Deployment.of({**PUBLIC, **more})


@pytest.mark.parametrize("name", OUTSIDE)
def test_models_and_scorers_that_are_not_listed_are_refused(name):
    with pytest.raises(InputError, match="offers the models embedded") as model:
        public().check_names(name, None)
    with pytest.raises(InputError, match="offers the scorers") as scorer:
        public().check_names("embedded", name)
    with pytest.raises(InputError, match="offers the scorers"):
        public().check_names("embedded", f"0.5*embedded+0.5*{name}")
    assert (model.value.field, scorer.value.field) == ("model", "scorer")


def test_listed_names_their_sums_and_scorers_without_a_model_pass():
    for scorer in (None, "embedded", "logprob", "self-certainty", "judge", "0.7*embedded+0.3*logprob"):
        public().check_names("embedded", scorer)
    public(BON_SCORER="me/taste").check_names("embedded", "me/taste")
    with pytest.raises(InputError, match="at most 4"):
        public().check_names("embedded", "+".join(["0.1*logprob"] * 5))


@pytest.mark.parametrize(("prompt", "settings", "field"), [
    ("a", {"n": 65}, "n"), ("a", {"max_tokens": 129}, "max_tokens"), ("a" * 41, {}, "prompt"),
])
def test_sizes_are_capped(prompt, settings, field):
    public().check(Request("a" * 40, Settings(n=64, max_tokens=128)))
    with pytest.raises(InputError, match="at most") as error:
        public().check(Request(prompt, Settings(**settings)))
    assert error.value.field == field


# The rate limit.


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_visitor_has_a_number_of_runs_per_minute_and_is_told_when_to_try_again():
    time = Time()
    visitors = Visitors(3, clock=time)
    for time.now in (0, 10, 20):
        visitors.admit("a")
    time.now = 30
    for _ in range(3):  # refused requests do not count
        with pytest.raises(LimitError, match=r"more than 3 runs per minute\. Try again in 30 seconds"):
            visitors.admit("a")
    visitors.admit("b")
    time.now = 60
    visitors.admit("a")
    with pytest.raises(LimitError, match="in 10 seconds"):
        visitors.admit("a")
    time.now = 69.5
    with pytest.raises(LimitError, match="in 1 second\\."):
        visitors.admit("a")


def test_a_comparison_counts_by_its_prompts():
    visitors = Visitors(5, clock=Time())
    visitors.admit("a", 4)
    with pytest.raises(LimitError):
        visitors.admit("a", 2)
    visitors.admit("a", 1)
    Visitors(2, clock=Time()).admit("a", 4)  # more prompts than the limit are admitted once a minute


def test_the_number_of_remembered_visitors_is_limited():
    visitors = Visitors(2, most=100, clock=Time())
    for i in range(1000):
        visitors.admit(str(i))
    assert len(visitors) == 100


def request_from(host: str) -> SimpleNamespace:
    return SimpleNamespace(client=SimpleNamespace(host=host), headers={})


def test_a_visitor_is_an_address():
    assert visitor_id(request_from("10.0.0.1")) == "10.0.0.1"
    for address in ("2001:db8:1:2:3::1", "2001:db8:1:2::9"):
        assert visitor_id(request_from(address)) == "2001:db8:1:2::/64"
    assert len(visitor_id(request_from("x" * 10_000))) <= 64
    assert visitor_id(None) == ""


# The page itself, at every entry point.


@pytest.fixture(scope="module")
def _built():
    """A public page with a high rate limit; what it loads is up to each test."""
    with serving(**PUBLIC) as page:
        yield page


@pytest.fixture
def page(_built):
    """A public page over a scripted sampler."""
    _built.stage = Stage()
    _built.stage.play = Play(TEXTS, SCORES)
    _built.state.models.load = _built.stage.load
    return _built


BAD = [{"model": "/etc"}, {"model": "someone/else"}, {"scorer": "someone/else"}, {"n": 65}, {"max_tokens": 129},
       {"prompt": "a" * 41}]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_every_entry_point_refuses_what_the_page_refuses(page, bad):
    keys = r"error\.(models|scorers|candidates|tokens|characters)\b"
    form = FORM | bad
    assert re.search(keys, call_listener(page, "generate", [*form.values()]))
    compared = [form["prompt"], form["n"], *form.values()]
    assert re.search(keys, call_listener(page, "compare", compared))
    with pytest.raises(Exception, match=r"This page offers|this page accepts at most"):
        Client(page.url, verbose=False).predict(**{"prompt": "a", **bad}, api_name="/best_of_n")
    assert page.stage.runs == 0


def test_every_entry_point_refuses_a_chat_longer_than_a_prompt_may_be(page):
    chat = [{"role": "assistant", "content": "a" * 41}]
    assert "error.characters" in call_listener(page, "generate", [*(FORM | {"chat": chat}).values()])
    messages = [*chat, {"role": "user", "content": "a"}]
    with pytest.raises(Exception, match="this page accepts at most"):
        Client(page.url, verbose=False).predict(messages=messages, n=2, api_name="/best_of_n")
    assert page.stage.runs == 0


@pytest.mark.skipif(not theme.serves_agents(), reason="gradio[mcp] is not installed")
def test_agents_are_refused_and_share_the_limit_of_page_and_endpoint():
    with serving(**{**PUBLIC, "BON_RATE": "2"}) as page:
        def answers(*calls: tuple[str, dict]) -> list:
            async def call_tools(session):
                return [await session.call_tool(*call) for call in calls]

            return result_of_session(page, call_tools)

        run = ("best_of_n", {"prompt": "a"})
        refused = answers(
            *(("best_of_n", {"prompt": "a", **bad}) for bad in BAD),
            *((name, {}) for name in ("generate", "compare", "start", "rerank", "export", "best_of_n_as_json", "../x")))
        assert all(answer.isError for answer in refused)
        assert "This page offers the models embedded" in refused[0].content[0].text
        assert page.stage.runs == 0
        assert not answers(run)[0].isError
        client = Client(page.url, verbose=False)
        client.predict("a", n=2, api_name="/best_of_n")
        assert "Try again in" in answers(run)[0].content[0].text
        with pytest.raises(Exception, match="Try again in"):
            client.predict("a", n=2, api_name="/best_of_n")
        assert "error.rate" in call_listener(page, "generate", [*FORM.values()])
        assert page.stage.runs == 2


def test_a_visitor_starts_no_download():
    listed = public(BON_MODELS="smollm2,someone/listed", BON_SCORER="someone/scorer")
    state = AppState(listed)
    for settings in (Settings(model="someone/listed"), Settings(scorer="someone/scorer"),
                     Settings(model="embedded", scorer="0.5*embedded+0.5*someone/scorer")):
        for load in (lambda settings: state.models.load(settings).result(30), state.models.comparison_models):
            with pytest.raises((ModelError, InputError)) as refusal:
                load(settings)
            assert refusal.value.key in ("error.not_downloaded", "error.scorers", "error.page_model")
    (chips, *_), = GenerateHandlers(state).prepare("someone/listed", None)
    assert chips[1] == "not available"


def test_a_visitor_may_come_while_the_page_gets_its_models():
    """Two threads that import different parts of transformers first, in a process that has none of it yet."""
    run = """if True:
        from bon.settings import Settings
        from bon.ui.hosting.deployment import Deployment
        from bon.ui.work.model_loading import ModelLoader
        models = ModelLoader(Deployment.of({"BON_PUBLIC": "1"}))
        both = models.submit(models.fetch, []), models.load(Settings(model="embedded"))
        print([future.result() and "loaded" for future in both])
    """
    ended = subprocess.run([sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout == "[None, 'loaded']\n", ended.stderr


def test_a_preset_with_several_sources_is_listed_by_its_name_and_offered_with_each_source():
    deployment = public(BON_MODELS="smollm2,embedded", BON_MODEL="smollm2")
    assert deployment.model == "smollm2:SmolLM2-135M-Instruct.Q4_1.gguf"
    assert deployment.models == (deployment.model, "embedded")
    for name in ("smollm2", deployment.model, "smollm2:other.gguf", "smollm2:HuggingFaceTB/SmolLM2-135M-Instruct"):
        deployment.check_names(name, "smollm2")
    with pytest.raises(InputError, match="offers the models smollm2, embedded"):
        deployment.check_names("smollm2:someone/else", None)
    served = Deployment.of({"BON_ENDPOINT": "http://127.0.0.1:1/v1", "BON_MODEL": "smollm2"})
    assert served.is_on_server("smollm2")  # the server's model of that name


def test_a_model_that_is_not_listed_is_never_loaded():
    state = AppState(public())
    handlers = GenerateHandlers(state)
    with pytest.raises(InputError, match="offers the models"):
        state.models.load(Settings(model="someone/else")).result(30)
    (chips, *_), = handlers.prepare("someone/else", None)
    assert chips[1] == "not available"
    values = {"target": "", "select": "best", "softness": 0.1}
    values["record"] = json.dumps(run_view.record(_result("someone/else")))
    assert "error.models" in str(handlers.rerank(values, request_from("a")))
    values["record"] = json.dumps(run_view.record(_result("embedded", n=65)))
    refused = messages.decode_messages(json.loads(handlers.rerank(values, request_from("a"))["view"]))
    assert "at most 64" in refused["error"]


def _result(model: str, n: int = 2):
    from bon.run_state import RunState

    state = RunState()
    for event in Play([" a"] * n, [0.5] * n).events("This movie", Settings(n=n, model=model, seed=1).filled()):
        if hasattr(event, "result"):
            return event.result
        state.add(event)
    raise AssertionError


def test_too_many_prompts_are_refused(page):
    assert "error.prompts" in call_listener(page, "compare", ["a\n" * 33, 2, *FORM.values()])


def test_page_endpoint_and_comparison_share_one_limit(monkeypatch):
    with serving(**{**PUBLIC, "BON_RATE": "2"}) as page:
        client = Client(page.url, verbose=False)
        client.predict("This movie", n=2, api_name="/best_of_n")
        assert "done.title" in call_listener(page, "generate", [*FORM.values()])
        assert "error.rate" in call_listener(page, "generate", [*FORM.values()])
        assert "error.rate" in call_listener(page, "compare", ["a", 2, *FORM.values()])
        with pytest.raises(Exception, match=r"more than 2 runs per minute\. Try again in \d+ second"):
            client.predict("This movie", n=2, api_name="/best_of_n")
        assert page.stage.runs == 2


def test_on_a_space_each_visitor_has_a_limit_of_their_own(monkeypatch):
    with serving(**{**PUBLIC, "BON_RATE": "1", "SPACE_ID": "me/bon"}) as page:
        form = [*FORM.values()]
        assert "done.title" in call_listener(page, "generate", form, {"x-forwarded-for": "8.8.8.1"})
        assert "error.rate" in call_listener(page, "generate", form, {"x-forwarded-for": "9.9.9.9, 8.8.8.1"})
        assert "done.title" in call_listener(page, "generate", form, {"x-forwarded-for": "8.8.8.2"})


NETWORK = ("\\\\host\\share", "//host/share", " \\\\host\\share", "\\/host/x", "\\\\?\\UNC\\host\\share")


@pytest.mark.parametrize("public", [False, True])
def test_a_folder_of_another_machine_is_refused_before_anybody_looks_for_it(public, monkeypatch):
    deployment, looked = Deployment(public=public), []
    monkeypatch.setattr(os.path, "isdir", looked.append)
    for name in NETWORK:
        for model, scorer in ((name, None), ("embedded", name), ("embedded", f"0.5*embedded+0.5*{name}")):
            with pytest.raises(InputError, match="not of the network"):
                deployment.check_names(model, scorer)
            with pytest.raises(InputError, match="not of the network"):
                ModelLoader(deployment).load(Settings(model=model, scorer=scorer)).result()
    assert looked == []


def test_a_public_page_tells_nobody_what_is_in_its_folders(tmp_path):
    (tmp_path / "config.json").touch()
    folders = [str(tmp_path), "/etc", "/no/such/folder"]
    loader = ModelLoader(Deployment.of({"BON_PUBLIC": "1", "BON_MODELS": ",".join(folders)}))
    for model in folders[1:]:
        with pytest.raises(ModelError, match=r"^The model or the scorer cannot be loaded here"):
            loader.load(Settings(model=model)).result()
    with serving(**PUBLIC) as page:
        for name in ("model", "scorer"):
            lines = [call_listener(page, "generate", [*(FORM | {name: folder}).values()]) for folder in folders]
            assert all(f"error.{name}s" in line and "folder" not in line for line in lines)


@pytest.mark.parametrize("environment", [
    {"BON_MODEL": "/srv/owner/models/gone"}, {"BON_MODEL": "/srv/owner/models/gone-too", "BON_PUBLIC": "1"},
    {"BON_SCORER": "/srv/owner/models/gone-judge"},
    {"BON_MODEL": "gone", "BON_ENDPOINT": "http://127.0.0.1:9/v1"},
])
def test_visitors_of_a_page_with_a_wrong_model_read_one_sentence_and_its_owner_the_reason(environment, caplog):
    state = AppState(Deployment.of(environment))
    handlers = GenerateHandlers(state)
    form = FORM | {"model": state.deployment.model, "scorer": state.deployment.scorer or ""}
    *_, (view, _) = handlers.generate(None, *form.values())
    assert view["error"].key == "error.page_model"
    *_, (chips, _, _) = handlers.prepare(state.deployment.model, state.deployment.scorer)
    assert "srv" not in "".join(chips)
    assert any("gone" in line or "127.0.0.1:9" in line for line in caplog.messages)
    with pytest.raises((ModelError, InputError), match=r"cannot be loaded at present|on another server"):
        state.models.comparison_models(Settings(model=state.deployment.model, scorer=state.deployment.scorer))
    *_, (view, _) = handlers.generate(None, *(form | {"model": "./elsewhere"}).values())
    assert view["error"].key != "error.page_model"  # which the visitor chose


@pytest.mark.parametrize(("name", "text"), [
    ("/srv/models/smol", "smol"), ("./smol/", "smol/"), ("~/a/b.gguf", "b.gguf"), ("C:\\models\\smol", "smol"),
    ("me/smol", "me/smol"), ("embedded", "embedded"), ("0.5*/srv/a+0.5*/srv/b", "0.5*a+0.5*b"), ("/", "/"),
    ("http://host:8000/v1", "http://host:8000/v1"), ("embedded sentiment", "embedded sentiment"),
])
def test_the_page_names_models_of_the_servers_disk_without_their_folders(name, text):
    assert model_label(name) == text
    engine = {"name": name, "parameters": 4_800_000, "device": "cpu", "dtype": "torch.bfloat16"}
    assert run_view.chips(engine, name)[:2] == [f"model: {text} 4.8M", f"scorer: {text}"]


def test_the_page_names_its_limits_and_offers_only_the_listed_models(page):
    config = page.demo.get_config_file()["components"]
    by_id = {c["props"].get("elem_id"): c["props"] for c in config}
    assert "at most 64 candidates of 128 tokens" in messages.decode_messages(by_id["limits"]["value"])
    assert [value for _, value in by_id["model"]["choices"]] == ["embedded"]
    private = build(AppState(Deployment())).get_config_file()["components"]
    assert "limits" not in {c["props"].get("elem_id") for c in private}


# The log.


FAILURES = [RuntimeError(SECRET), ValueError(SECRET), ModelError(f"{SECRET} is no model.")]


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_no_prompt_or_text_reaches_the_log(page, caplog, capfd, error):
    caplog.set_level(logging.DEBUG, logger="bon")
    for failing in (None, error):
        page.stage.play = Play([SECRET, SECRET], SCORES, hold=1 if failing else None, error=failing)
        page.stage.play.go.set()
        call_listener(page, "generate", [*(FORM | {"prompt": SECRET}).values()])
        with contextlib.suppress(Exception):
            Client(page.url, verbose=False).predict(SECRET, n=2, api_name="/best_of_n")
        call_listener(page, "compare", [SECRET, 2, *(FORM | {"model": SECRET}).values()])
        call_listener(page, "compare", [SECRET, 2, *FORM.values()])
    httpx.get(page.url, params={"prompt": SECRET, "model": SECRET})
    call_listener(page, "prepare", [SECRET, SECRET, SECRET])
    # Values that no form sends, but anybody can.
    call_listener(page, "generate", [*(FORM | {"n": SECRET}).values()])
    call_listener(page, "generate", [*(FORM | {"select": SECRET}).values()])
    view = next(i for i, block in page.demo.blocks.items() if block.elem_id == "view")
    for name in ("open_record", "rerank", "export"):
        call = {"component_id": view, "fn_name": name, "data": {"record": SECRET, "format": SECRET}}
        httpx.post(f"{page.url}/gradio_api/component_server", json=call | {"session_hash": "s"})
    out, err = capfd.readouterr()
    assert page.stage.runs >= 4
    assert SECRET not in caplog.text + out + err


def test_a_failure_is_logged_with_its_type_and_line(caplog):
    def inner():
        raise KeyError(SECRET)

    try:
        try:
            inner()
        except KeyError as error:
            raise RuntimeError(SECRET) from error
    except RuntimeError as error:
        error_log.log_failure("A run failed", error)
    assert "A run failed" in caplog.text
    assert "RuntimeError\nafter\n" in caplog.text
    assert "in inner" in caplog.text
    assert "KeyError" in caplog.text
    assert SECRET not in caplog.text


# The table in the README of bon.ui.


def test_the_readme_has_every_variable_and_no_other():
    files = [ROOT / "app.py", *(ROOT / "bon").rglob("*.py")]
    used = set().union(*(re.findall(r"\bBON_[A-Z_]+\b", file.read_text(encoding="utf-8")) for file in files))
    table = re.findall(r"^\| `([A-Z_]+)`", (ROOT / "bon/ui/README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(name for name in table if name.startswith("BON_")) == sorted(used)
    assert {"GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "HF_TOKEN", "HF_HUB_OFFLINE"} <= set(table)
    assert len(table) == len(set(table))


@pytest.mark.parametrize(("environment", "n", "most"), [
    ({}, 300, "256"), ({"BON_PUBLIC": "1"}, 300, "64"), ({}, 5000, "256"), ({"BON_PUBLIC": "1"}, 5000, "64"),
    ({"BON_PUBLIC": "1"}, 65, "64"), ({"BON_PUBLIC": "1", "BON_MAX_N": "20"}, 300, "20"),
])
def test_the_error_for_too_many_candidates_names_the_limit_of_the_page(environment, n, most):
    _, ignored = share_links.accept({"n": str(n)}, FIRST_VALUES, Deployment.of(environment))
    assert re.search(rf"\b{most}\b", ignored[0])
    assert "4096" not in "".join(ignored)
    assert "4,096" not in "".join(ignored)
