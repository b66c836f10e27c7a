"""ZeroGPU without a GPU: the app with a stand-in for `spaces` that runs tasks in forks, as the real package does."""

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client

import bon
from bon import zerogpu
from bon.engines.local import decoder
from bon.errors import LimitError
from bon.models import loading
from bon.settings import Request, Settings
from bon.ui.app_state import AppState
from bon.ui.compare.handlers import CompareHandlers
from bon.ui.generate.form_values import FIELDS
from bon.ui.hosting.deployment import Deployment
from bon.ui.work import zerogpu_runs
from tests.support.browser import ROOT, App, open_page

STAND_IN = Path(__file__).parents[1] / "support" / "zerogpu"
ARGUMENTS = {"prompt": "This movie", "n": 4, "seed": 7}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The real app, as on ZeroGPU."""
    record = tmp_path_factory.mktemp("zerogpu") / "record"
    path = os.pathsep.join([str(STAND_IN), os.environ.get("PYTHONPATH", "")])
    app = App(SPACES_ZERO_GPU="true", PYTHONPATH=path, BON_TEST_RECORD=str(record), BON_RATE="1000")
    app.record = record
    yield app.wait()
    app.end()


def events(app, name: str) -> list[dict]:
    return [event for line in app.record.read_text().splitlines() if (event := json.loads(line))["event"] == name]


def test_spaces_is_imported_before_torch_and_decorates_the_gpu_tasks(app):
    assert [(e["torch"], e["gradio"]) for e in events(app, "imported")] == [(False, False)]
    assert {e["task"] for e in events(app, "decorated")} == {"_run", "_compare", "_rerank"}
    assert {e["process"] for e in events(app, "decorated")} == {app.process.pid}


def test_a_run_borrows_the_gpu_for_its_estimated_time_and_gives_the_same_texts(app):
    answer = Client(app.url, verbose=False).predict(**ARGUMENTS, api_name="/best_of_n")
    expected = bon.best_of_n("This movie", n=4, seed=7)
    assert [c["text"] for c in answer["candidates"]] == [c.text for c in expected.candidates]
    assert events(app, "called")[-1]["seconds"] == pytest.approx(10 + 4 * 32 / 200)
    assert events(app, "working")[-1]["process"] != app.process.pid


def test_a_run_on_the_gpu_is_streamed(app):
    job = Client(app.url, verbose=False).submit("This movie", n=16, min_tokens=30, api_name="/best_of_n")
    job.result()
    assert len(job.outputs()) > 2


def test_concurrent_visitors_do_not_share_a_batch(app):
    before = len(events(app, "working"))
    with ThreadPoolExecutor(3) as threads:
        clients = [Client(app.url, verbose=False) for _ in range(3)]
        answers = threads.map(lambda client: client.predict(**ARGUMENTS, api_name="/best_of_n"), clients)
        texts = {tuple(c["text"] for c in answer["candidates"]) for answer in answers}
    assert len(texts) == 1
    assert len(events(app, "working")) == before + 3


def test_errors_keep_their_messages(app):
    client = Client(app.url, verbose=False)
    with pytest.raises(Exception, match=r"The prompt has \d+ tokens"):
        client.predict("word " * 300, api_name="/best_of_n")
    with pytest.raises(Exception, match="JOY"):
        client.predict("This movie", target="JOY", api_name="/best_of_n")
    # A fork loads no other model, so only those that were loaded at the start are offered.
    with pytest.raises(Exception, match="offers the models embedded"):
        client.predict("This movie", model="gpt2-imdb", api_name="/best_of_n")


def test_page_reranking_and_comparison_borrow_the_gpu_too(app, browser):
    page = open_page(browser, app.url)
    page.click("#generate")
    page.wait_for_selector(".bon[data-phase=done]", timeout=60_000)
    page.get_by_label("negative").check()
    page.wait_for_function("document.querySelector('.bon .unit').textContent.includes('negative')", timeout=60_000)
    page.get_by_role("tab", name="Compare").click()
    page.fill("#compare-prompts textarea", "This movie\nThe hotel room")
    page.fill("#compare-n input", "4")
    page.click("#compare-start")
    page.wait_for_selector("#comparison .comparison[data-phase=done] table", timeout=120_000)
    assert page.errors == []
    page.context.close()
    assert [e["task"] for e in events(app, "working")[-3:]] == ["_run", "_rerank", "_compare"]


def test_a_refusal_of_the_gpu_shows_the_message_of_zerogpu(monkeypatch):
    def refused(_):
        raise gr.Error("You have <b>exceeded</b> your quota &amp; more. Try again in 1:00:00")
        yield

    monkeypatch.setattr(zerogpu_runs, "_run", refused)
    with pytest.raises(LimitError, match=r"^You have exceeded your quota & more\. Try again in 1:00:00$"):
        list(zerogpu_runs.run(Request("This movie")))


def test_a_visitor_who_leaves_ends_a_comparison_that_has_the_gpu(monkeypatch):
    ended = []

    def endless(prompts, settings):
        try:
            while True:
                yield "view", {"phase": "writing"}
        finally:
            ended.append((prompts, settings.n))

    monkeypatch.setattr(zerogpu, "is_on", lambda: True)
    monkeypatch.setattr(zerogpu_runs, "_compare", endless)
    form = {**dataclasses.asdict(Settings().filled()), "prompt": "", "chat": None, "seed": "7"}
    values = [form[name] for name in FIELDS]
    views = CompareHandlers(AppState(Deployment())).compare(None, "This movie\nThe hotel room", 4, *values)
    assert [next(views)["phase"] for _ in range(2)] == ["writing", "writing"]
    views.close()
    assert ended == [(["This movie", "The hotel room"], 4)]


def test_outside_zerogpu_nothing_is_borrowed(tmp_path):
    code = "import sys, app; from bon import zerogpu; print(zerogpu.is_on(), 'torch' in sys.modules)"
    path, record = os.pathsep.join([str(STAND_IN), str(ROOT)]), tmp_path / "record"
    environment = {**os.environ, "PYTHONPATH": path, "BON_TEST_RECORD": str(record)}
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert process.stdout.split() == ["False", "False"], process.stderr
    assert not record.exists() or "decorated" not in record.read_text()  # Gradio itself imports the package


def test_without_the_package_a_zerogpu_space_is_an_ordinary_one(tmp_path):
    code = "from bon import zerogpu; print(zerogpu.is_on(), zerogpu.borrows(len)(print) is print)"
    env = {**os.environ, "SPACES_ZERO_GPU": "1", "PYTHONPATH": str(ROOT)}
    code = "import sys; sys.modules['spaces'] = None; " + code
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert process.stdout.split() == ["False", "True"], process.stderr


def test_no_fork_captures_steps_as_graphs(monkeypatch):
    monkeypatch.setattr("bon.compare.loading.load_models", lambda *_, **__: None)
    monkeypatch.setattr(loading.LIVE, "limit", loading.LIVE.limit)
    monkeypatch.setattr(decoder, "capture_graphs", True)
    zerogpu_runs.load_all(Deployment())
    assert not decoder.capture_graphs
