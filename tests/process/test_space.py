"""What a Hugging Face Space needs of the project: the front matter of the README, and publishing it."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import yaml
from huggingface_hub import SpaceHardware, metadata_load
from huggingface_hub.errors import HfHubHTTPError
from packaging.requirements import Requirement
from packaging.version import Version

from bon.cli import publish_command as publish
from bon.cli.main import main
from bon.errors import BonError, InputError, ModelError
from bon.models import presets
from bon.ui.hosting.deployment import Deployment
from tests.support.hub_stand_in import RecordingApi

ROOT = Path(__file__).parents[2]
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
FIELDS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "short_description",
    "models", "tags", "license", "suggested_hardware",
}


def front() -> dict:
    return metadata_load(ROOT / "README.md")


def test_front_matter_has_the_fields_of_a_gradio_space_with_values_that_the_hub_takes():
    card = front()
    assert set(card) == FIELDS
    assert card["sdk"] == "gradio"
    assert {card["colorFrom"], card["colorTo"]} <= COLOURS
    assert len(card["emoji"]) == 1
    assert not card["emoji"].isascii()
    assert 0 < len(card["short_description"]) <= 60
    assert card["suggested_hardware"] in {hardware.value for hardware in SpaceHardware}
    assert (ROOT / card["app_file"]).is_file()
    assert card["license"] == "apache-2.0"
    assert all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in card["tags"])


def test_the_space_runs_the_lowest_gradio_that_is_required_and_a_python_that_zerogpu_has():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    gradio = next(Requirement(line) for line in lines if line.startswith("gradio"))
    lowest = next(Version(s.version) for s in gradio.specifier if s.operator == ">=")
    version = front()["sdk_version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert Version(version) == lowest
    assert front()["python_version"] in ("3.10", "3.12")


def test_the_models_of_the_front_matter_are_the_presets_from_the_hub():
    places = {place for spec in presets.presets() for place in (spec.hub or spec.model, spec.scorer, spec.tuned)}
    places -= {None, *presets.FREE}
    assert set(front()["models"]) == {place for place in places if not Path(place).is_absolute()}


def test_no_model_is_preloaded():
    # The page's own models travel with the code; the trio from the Hub would add 1.3 GB to each build for few visits.
    assert "preload_from_hub" not in front()


# Publishing.


class Hub(RecordingApi):
    """Takes the calls of `HfApi` that publishing makes."""

    def upload_folder(self, **how) -> None:
        self.calls.append(("upload", how.pop("repo_id"), how))


def test_publishing_makes_the_space_and_sends_the_folder_once():
    hub = Hub()
    assert publish.publish("ada/best-of-n", private=True, api=hub) == "https://huggingface.co/spaces/ada/best-of-n"
    (_, _, creation), (_, name, upload) = hub.calls
    assert creation == {"repo_type": "space", "space_sdk": "gradio", "private": True, "exist_ok": True}
    assert (name, upload["repo_type"]) == ("ada/best-of-n", "space")
    assert Path(upload["folder_path"]) == ROOT


def test_a_space_with_a_preset_gets_its_variables_and_downloads_its_files_when_it_is_built():
    class HubWithModels(Hub):
        def add_space_variable(self, space: str, name: str, value: str) -> None:
            self.calls.append(("variable", space, (name, value)))

        def model_info(self, place: str):
            names = ["config.json", "model.safetensors", "tokenizer.json", "onnx/model.onnx", "README.md"]
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])

        def upload_folder(self, **how) -> None:
            folder = Path(how["folder_path"])
            self.sent = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*")
                         if file.is_file()}

    hub = HubWithModels()
    publish.publish("ada/chat", False, publish.preset_from_hub("smollm2"), api=hub)
    set_variables = dict(value for call, _, value in hub.calls if call == "variable")
    assert set_variables == {"BON_MODEL": "smollm2", "BON_MODELS": "embedded,smollm2", "BON_PUBLIC": "1"}
    assert Deployment.of(set_variables).models[0] == "embedded"
    assert set(hub.sent) == set(dict(publish.files()))
    readme = hub.sent["README.md"].decode()
    metadata, text = readme.split("---\n", 2)[1:]
    assert yaml.safe_load(metadata) == {**front(), "preload_from_hub": [
        "HuggingFaceTB/SmolLM2-135M-Instruct model.safetensors,config.json,tokenizer.json",
    ]}
    assert text == (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]


def test_what_a_space_with_a_preset_needs_is_told_beforehand(capsys):
    assert main(["publish", "ada/chat", "--dry-run", "--private", "--model", "smollm2"]) == 0
    out = capsys.readouterr().out
    assert "BON_MODEL=smollm2, BON_MODELS=embedded,smollm2." in out
    assert re.search(r"downloads HuggingFaceTB/SmolLM2-135M-Instruct, 0\.3 GB", out)
    assert re.search(r"needs about [\d.]+ GB of memory.* \d+ s", out)
    assert main(["publish", "ada/chat", "--dry-run", "--model", "embedded"]) == 0
    assert "BON_MODEL" not in capsys.readouterr().out
    assert main(["publish", "ada/chat", "--dry-run", "--model", "someone/else"]) == 2
    assert "BON_MODEL among the Space's variables" in capsys.readouterr().err


def test_the_uploaded_files_run_the_page(tmp_path):
    files = dict(publish.files())
    assert {"app.py", "README.md", "requirements.txt", "assets/ui/run_view.js"} <= set(files)
    assert "assets/models/sentiment/config.json" in files
    assert not [name for name in files if re.search(r"^tests/|^bon/training/|__pycache__|\.pyc$|/\.", name)]
    assert sum(files.values()) < 50e6
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    code = """
import app, bon
from bon.ui.app_state import AppState
from bon.ui.hosting.deployment import Deployment
app.launch.build(AppState(Deployment()))
print(bon.best_of_n('This movie', n=2, seed=7).best.text)"""
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                             env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    assert process.returncode == 0, process.stderr
    assert len(process.stdout.strip()) > 10


def test_a_dry_run_lists_the_files_and_sends_nothing(capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main(["publish", "ada/best-of-n", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ +[\d,]+  app\.py$", out, re.MULTILINE)
    assert re.search(r"\d+ files, \d+\.\d MB for https://\S+/ada/best-of-n; nothing was sent\.", out)


@pytest.mark.parametrize("name", ["best-of-n", "ada/", "/ada", "a/b/c", "ada/best of n", "ada/-n", "ada/n--1", ""])
def test_an_invalid_name_is_refused_before_anything_is_sent(name):
    with pytest.raises(InputError, match="USER/SPACE"):
        publish.publish(name, api=Hub())


def test_without_a_token_it_says_how_to_get_one(capsys, monkeypatch):
    monkeypatch.setattr("bon.report.hub_writing.get_token", lambda: None)
    assert main(["publish", "ada/best-of-n"]) == 2
    assert "hf auth login" in capsys.readouterr().err


def refusal(status: int) -> HfHubHTTPError:
    return HfHubHTTPError("no", response=httpx.Response(status, request=httpx.Request("POST", "https://hub")))


@pytest.mark.parametrize(("error", "error_class", "message"), [
    (refusal(403), InputError, "does not let this token write to ada/n"),
    (refusal(500), BonError, "status 500"),
    (ConnectionError("no route"), BonError, "could not be reached .*no route"),
])
def test_an_error_of_the_hub_is_explained(error, error_class, message):
    with pytest.raises(error_class, match=message):
        publish.publish("ada/n", api=Hub(error))


def test_an_installed_package_is_no_checkout_to_publish(monkeypatch, tmp_path):
    monkeypatch.setattr(publish, "assets_folder", lambda: tmp_path / "assets")
    with pytest.raises(ModelError, match="checkout"):
        publish.files()
