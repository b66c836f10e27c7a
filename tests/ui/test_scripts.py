"""The page's scripts and styles: all are used, each function called by name is defined, and nothing else may run."""

import re

import httpx
import pytest

from bon.ui import theme
from bon.ui.app_state import AppState
from bon.ui.hosting.deployment import Deployment
from bon.ui.page import build
from tests.support.browser import free_port

SCRIPTS = {file.name: file.read_text(encoding="utf-8") for file in theme.folder().glob("*.js")}


def defined_in(script: str) -> set[str]:
    return set(re.findall(r"\bbon\.(\w+) = ", script))


def called_in(script: str) -> set[str]:
    return set(re.findall(r"\bbon\.(\w+)\(", script))


@pytest.fixture(scope="module")
def demo():
    """The page of a Space."""
    deployment = Deployment(spaces=True)
    demo = build(AppState(deployment))
    demo.launch(**theme.launch_options(deployment), server_port=free_port(), prevent_thread_lock=True, quiet=True)
    yield demo
    demo.close()


@pytest.fixture(scope="module")
def config(demo) -> dict:
    return demo.get_config_file()


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
    page = "\n".join([theme.launch_options(Deployment())["head"], *map(str, first_paint.values())])
    files = [*theme.folder().glob("*.js"), *theme.folder().glob("*.css")]
    assert [file.name for file in files if file.read_text(encoding="utf-8") not in page] == []


def answer(demo, path: str) -> httpx.Response:
    return httpx.get(demo.local_url.rstrip("/") + path)


def script_tags(page: str) -> list[str]:
    return re.findall(r"<script[^>]*>", page)


@pytest.mark.parametrize(("path", "root"), [
    ("/", ""), ("/?prompt=<script>alert(1)</script>&__theme='><script>", ""),
    ("/", "/bon"), ("/bon/", "/bon"), ("/", "https://proxy.example/bon"),
])
def test_the_page_runs_its_own_scripts_and_those_with_the_nonce_of_this_answer(demo, monkeypatch, path, root):
    monkeypatch.setattr(demo.app, "root_path", root)
    policies = []
    for _ in range(2):
        page = answer(demo, path)
        policies.append(page.headers["content-security-policy"])
        policy = dict(directive.split(" ", 1) for directive in policies[-1].split("; "))
        nonce = re.fullmatch("'self' 'nonce-([\\w-]{22})' 'unsafe-eval'", policy["script-src"])[1]
        assert [tag for tag in script_tags(page.text) if not tag.startswith(f'<script nonce="{nonce}"')] == []
        assert policy == {"script-src": policy["script-src"], "object-src": "'none'", "base-uri": "'self'",
                          "connect-src": "'self' https://huggingface.co"}
    assert policies[0] != policies[1]
    assert f"<script nonce=\"{nonce}\">alert(1)" not in page.text
    own = re.search(r' defer src="\.(/assets/bon-\w+\.js)"', page.text)[1]
    scripts = answer(demo, own)
    assert scripts.text == theme.scripts()
    assert "immutable" in scripts.headers["cache-control"]


def test_a_share_link_may_run_gradios_scripts_where_they_are(demo, monkeypatch):
    monkeypatch.setattr(demo, "share", True)
    page = answer(demo, "/")
    hosts = {host for tag in script_tags(page.text) for host in re.findall(r'src="(https://[^/]+)', tag)}
    assert len(hosts) == 1
    assert f"'unsafe-eval' {hosts.pop()};" in page.headers["content-security-policy"]
