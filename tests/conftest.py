"""Fixtures that every test file may use: tiny models in folders and in memory, made once."""

import shutil
import subprocess
import sys
import tarfile

import pytest
import torch
from transformers import GPT2Config, GPT2ForSequenceClassification

from bon.engines.local import LocalEngine
from bon.errors import BonError
from tests import tiny
from tests.browser import App, chromium


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny matrices are slower on more threads, and a test machine has other work."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def errors_without_key(monkeypatch):
    """Fails a test in which bon makes an error that has no key, which no language but English could show."""
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
    """The tokenizer of every tiny model; made anew for each file, since tests may change it."""
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def model():
    """A GPT-2 of two layers; made anew for each file, since tests may change it."""
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
    """The source of axe-core, from the npm registry."""
    if not shutil.which("npm"):
        pytest.skip("axe-core comes from npm, which is not installed here")
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run(["npm", "pack", "--silent", "axe-core@4"], cwd=folder, check=True, capture_output=True)
    with tarfile.open(next(folder.glob("axe-core-*.tgz"))) as tar:
        return tar.extractfile("package/axe.min.js").read().decode()


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def app():
    """The real app, in a process of its own."""
    app = App()
    yield app.wait()
    app.end()
