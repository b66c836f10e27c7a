"""Fixtures that every test file may use: tiny models in folders and in memory, made once."""

import os
import shutil
import subprocess
import sys
import tarfile

import pytest
import torch
from playwright.sync_api import Page, expect
from transformers import GPT2Config, GPT2ForSequenceClassification

from bon.engines.local.engine import LocalEngine
from bon.errors import BonError
from bon.ui import components, theme
from bon.ui.app_state import AppState
from bon.ui.hosting.deployment import Deployment
from bon.ui.page import build
from tests.support import tiny
from tests.support.browser import (
    SCORES,
    TEXTS,
    App,
    Play,
    Stage,
    chromium,
    close_page,
    free_port,
    open_page,
    set_loop_running,
)

# Long, since other work may share the machine; no test measures a wait.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny matrices are slower on more threads, and a test machine has other work."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def errors_without_key(monkeypatch):
    """Fails a test in which bon raises an error without a key, which could only be shown in English."""
    plain, make = [], BonError.__init__

    def checked(self, message=""):
        make(self, message)
        frame = sys._getframe(1)
        while frame.f_globals["__name__"] == "bon.errors":
            frame = frame.f_back
        if frame.f_globals["__name__"].startswith("bon.") and self.key is None and not getattr(message, "parts", ()):
            plain.append(f"{type(self).__name__}: {message}")

    monkeypatch.setattr(BonError, "__init__", checked)
    yield plain
    assert plain == []


@pytest.fixture(scope="module")
def tokenizer():
    """The tokenizer of every tiny model; a new one for each file, since tests may change it."""
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def model():
    """A GPT-2 of two layers; a new one for each file, since tests may change it."""
    return tiny.gpt2()


@pytest.fixture(scope="session")
def lm_folder(tmp_path_factory) -> str:
    """A folder with a GPT-2 of two layers."""
    return tiny.save(tiny.gpt2(), tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory) -> str:
    """A folder with a DistilBERT classifier for NEGATIVE and POSITIVE."""
    return tiny.save(tiny.classifier(), tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="session")
def reward_folder(tmp_path_factory) -> str:
    """A folder with a reward model: a GPT-2 with a single output."""
    torch.manual_seed(0)
    base = tiny.gpt2().config.to_dict() | {"num_labels": 1}
    model = GPT2ForSequenceClassification(GPT2Config(**base)).eval()
    return tiny.save(model, tmp_path_factory.mktemp("reward"))


@pytest.fixture(scope="session")
def engine() -> LocalEngine:
    """A GPT-2 of two layers, ready to generate; about one token in fifteen ends a text."""
    model = tiny.gpt2()
    model.generation_config.eos_token_id = [model.config.eos_token_id, *range(40, 65)]
    return LocalEngine(model, tiny.tokenizer(), name="tiny")


@pytest.fixture(scope="session")
def axe(tmp_path_factory) -> str:
    """The source of axe-core from the npm registry, downloaded once for all workers."""
    if not shutil.which("npm"):
        pytest.skip("axe-core comes from npm, which is not installed here")
    folder = tmp_path_factory.mktemp("axe")
    shared_folder = folder.parent.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder
    source = shared_folder / "axe.min.js"
    if not source.exists():
        subprocess.run(["npm", "pack", "--silent", "axe-core@4"], cwd=folder, check=True, capture_output=True)
        with tarfile.open(next(folder.glob("axe-core-*.tgz"))) as tar:
            (folder / "extracted").write_bytes(tar.extractfile("package/axe.min.js").read())
        (folder / "extracted").replace(source)
    return source.read_text(encoding="utf-8")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """A test that opens no page finds no running event loop in its thread."""
    set_loop_running("browser" in item.fixturenames)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item):
    """Fixtures of a file may close pages after a test that has none."""
    set_loop_running(True)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def app():
    """The real app, in a process of its own."""
    app = App()
    yield app.wait()
    app.end()


@pytest.fixture(scope="session")
def _page_in_process(tmp_path_factory):
    """The page in this process: its address, the folder of its files, and its state."""
    patch, port, files = pytest.MonkeyPatch(), free_port(), str(tmp_path_factory.mktemp("gradio"))
    patch.setenv("GRADIO_TEMP_DIR", files)
    patch.setitem(components.DEVICE_QUEUE, "concurrency_limit", 1)  # so that a second visitor waits in line
    state = AppState(Deployment())
    state.models.load = Stage().load
    demo = build(state)
    demo.launch(**theme.launch_options(state), server_port=port, prevent_thread_lock=True, quiet=True)
    patch.undo()
    yield f"http://127.0.0.1:{port}", files, state
    demo.close()
    state.batches.close()


@pytest.fixture
def served(_page_in_process, monkeypatch) -> str:
    """The address of the page in this process; what it loads and compares is up to the test."""
    url, files, _ = _page_in_process
    monkeypatch.setenv("GRADIO_TEMP_DIR", files)
    return url


@pytest.fixture
def page_state(_page_in_process) -> AppState:
    """What the handlers of the page in this process share."""
    return _page_in_process[2]


@pytest.fixture
def stage(served, page_state, monkeypatch):
    """The page in this process over a scripted sampler, with five candidates and no stop on the way."""
    stage = Stage()
    stage.url, stage.play = served, Play(TEXTS, SCORES)
    monkeypatch.setattr(page_state.models, "load", stage.load)
    yield stage
    stage.play.go.set()


@pytest.fixture
def visit(browser):
    """Opens pages, and checks at the end that none made a request to another host or had a failed script."""
    pages: list[Page] = []

    def open_one(where, **context) -> Page:
        pages.append(open_page(browser, where.url, **context))
        return pages[-1]

    yield open_one
    for page in pages:
        if page.is_closed():
            page.context.close()
        else:
            close_page(page)
        assert page.left == []
        assert page.errors == []
