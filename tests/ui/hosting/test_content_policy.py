"""The content policies of the server's answers: which scripts a browser may run. `test_visit.py` tries others."""

import re

import httpx
import pytest

from bon.ui import theme
from tests.support.served_page import serving


@pytest.fixture(scope="module")
def page():
    """The page of a Space."""
    with serving(SPACE_ID="someone/best-of-n") as page:
        yield page


def answer(page, path: str) -> httpx.Response:
    return httpx.get(page.url + path)


def content_policy(of: httpx.Response) -> str:
    """The policy on an answer's content; a second one, which frames may show it, comes after it."""
    return of.headers.get_list("content-security-policy")[0]


def script_tags(html: str) -> list[str]:
    return re.findall(r"<script[^>]*>", html)


@pytest.mark.parametrize(("path", "root"), [
    ("/", ""), ("/?prompt=<script>alert(1)</script>&__theme='><script>", ""),
    ("/", "/bon"), ("/bon/", "/bon"), ("/", "https://proxy.example/bon"),
])
def test_the_page_runs_its_own_scripts_and_those_with_the_nonce_of_this_answer(page, monkeypatch, path, root):
    monkeypatch.setattr(page.demo.app, "root_path", root)
    policies = []
    for _ in range(2):
        html = answer(page, path)
        policies.append(content_policy(html))
        policy = dict(directive.split(" ", 1) for directive in policies[-1].split("; "))
        nonce = re.fullmatch("'self' 'nonce-([\\w-]{22})' 'unsafe-eval'", policy["script-src"])[1]
        assert [tag for tag in script_tags(html.text) if not tag.startswith(f'<script nonce="{nonce}"')] == []
        assert policy == {"script-src": policy["script-src"], "object-src": "'none'", "base-uri": "'self'",
                          "connect-src": "'self' https://huggingface.co"}
    assert policies[0] != policies[1]
    assert f"<script nonce=\"{nonce}\">alert(1)" not in html.text
    own = re.search(r' defer src="\.(/assets/bon-\w+\.js)"', html.text)[1]
    scripts = answer(page, own)
    assert scripts.text == theme.scripts()
    assert "immutable" in scripts.headers["cache-control"]


@pytest.mark.parametrize("path", ["/config", "/gradio_api/info", "/none", "/assets/none.js", "/gradio_api/file=none"])
def test_an_answer_that_is_no_page_runs_nothing(page, path):
    policy = content_policy(answer(page, path))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; sandbox"


def test_a_share_link_may_run_gradios_scripts_where_they_are(page, monkeypatch):
    monkeypatch.setattr(page.demo, "share", True)
    html = answer(page, "/")
    hosts = {host for tag in script_tags(html.text) for host in re.findall(r'src="(https://[^/]+)', tag)}
    assert len(hosts) == 1
    assert f"'unsafe-eval' {hosts.pop()};" in content_policy(html)
