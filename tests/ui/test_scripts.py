"""The page's scripts and style sheets: all are used, and each function that is called by name is defined."""

import re

import pytest

from bon.ui import theme
from bon.ui.app_state import AppState
from bon.ui.hosting.deployment import Deployment
from bon.ui.page import build

SCRIPTS = {file.name: file.read_text(encoding="utf-8") for file in theme.folder().glob("*.js")}


def defined_in(script: str) -> set[str]:
    return set(re.findall(r"\bbon\.(\w+) = ", script))


def called_in(script: str) -> set[str]:
    return set(re.findall(r"\bbon\.(\w+)\(", script))


@pytest.fixture(scope="module")
def config() -> dict:
    return build(AppState(Deployment())).get_config_file()


def test_every_component_is_drawn_by_a_function_of_the_scripts(config):
    components = [component["props"] for component in config["components"]]
    views = [props for props in components if called_in(props.get("js_on_load") or "")]
    assert {"view", "comparison", "batch", "history", "chat", "play"} <= {props.get("elem_id") for props in views}
    called = set.union(*(called_in(props["js_on_load"]) for props in views))
    assert called - defined_in(theme.scripts()) == set()


def test_every_function_that_scripts_and_events_call_is_defined_in_one_script(config):
    definitions = [name for script in SCRIPTS.values() for name in defined_in(script)]
    assert sorted(definitions) == sorted(set(definitions))
    called = set.union(*map(called_in, SCRIPTS.values()))
    called |= {name for event in config["dependencies"] for name in called_in(str(event["js"]))}
    python_samples = {"best_of_n"}
    assert called - set(definitions) - python_samples == set()


def test_every_script_and_style_sheet_is_used():
    first_paint = theme.first_paint(Deployment()).kwargs
    page = "\n".join([theme.launch_options(AppState(Deployment()))["head"], *map(str, first_paint.values())])
    files = [*theme.folder().glob("*.js"), *theme.folder().glob("*.css")]
    assert [file.name for file in files if file.read_text(encoding="utf-8") not in page] == []
