"""What a Hugging Face Space needs of the project: the front matter of the README, and publishing it."""

import re
from pathlib import Path

from huggingface_hub import SpaceHardware, metadata_load
from packaging.requirements import Requirement
from packaging.version import Version

from bon import models

ROOT = Path(__file__).parent.parent
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
    places = {p for spec in models.presets() for p in (spec.model, spec.scorer, spec.tuned, spec.judge) if p}
    assert set(front()["models"]) == {place for place in places if not Path(place).is_absolute()}


def test_nothing_is_fetched_ahead():
    # The page's own models travel with the code; the trio from the Hub would add 1.3 GB to each build for few visits.
    assert "preload_from_hub" not in front()
