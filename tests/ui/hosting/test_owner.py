"""What the owner of a page may set against strangers: a limit for a day, a password; and the answer to a watcher."""

from types import SimpleNamespace

import httpx
import pytest
from gradio_client import Client
from playwright.sync_api import expect

from bon.errors import LimitError
from bon.messages import tables
from bon.ui import launch, theme
from bon.ui.app_state import AppState
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.rate_limit import DAY, Visitors
from tests.support.browser import wait_until_ready
from tests.support.served_page import FORM, PUBLIC, call_listener, listener, serving

PASSWORD = "a pässword"


def test_the_runs_of_a_day_are_limited_over_all_visitors():
    with serving(BON_MAX_RUNS_A_DAY="2") as page:
        assert "done.title" in call_listener(page, "generate", [*FORM.values()])
        client = Client(page.url, verbose=False)
        client.predict("This movie", n=2, api_name="/best_of_n")
        assert "error.runs_a_day" in call_listener(page, "generate", [*FORM.values()])
        with pytest.raises(Exception, match=r"the 2 runs that its owner allows in 24 hours\. Try again in 24.0 h"):
            client.predict("This movie", n=2, api_name="/best_of_n")
        assert page.stage.runs == 2
    public = Deployment.of({**PUBLIC, "BON_MAX_RUNS_A_DAY": "2"})
    for host in ("10.0.0.1", "10.0.0.2"):
        public.admit(SimpleNamespace(client=SimpleNamespace(host=host), headers={}))
    with pytest.raises(LimitError, match="24 hours"):
        public.admit(None)


def test_a_day_has_24_hours_from_each_run():
    times = iter([0.0, 3600.0, 7200.0, DAY - 1, DAY, DAY + 1])
    everybody = Visitors(2, "error.runs_a_day", DAY, clock=lambda: next(times))
    everybody.admit("")
    everybody.admit("")
    for _ in range(2):
        with pytest.raises(LimitError):
            everybody.admit("")
    everybody.admit("")
    with pytest.raises(LimitError, match="in 60 min"):
        everybody.admit("")
    assert Deployment.of({}).everybody is None


def health_has_no_session_no_limit_and_no_line_in_the_log(page, http, capfd):
    capfd.readouterr()
    for method in ("GET", "HEAD") * 10:
        answer = http.request(method, "/health")
        assert (answer.status_code, answer.text) == (200, "ok" if method == "GET" else "")
        assert "set-cookie" not in answer.headers
    assert http.post("/health").status_code == 405
    assert not page.demo.app.state_holder.session_data
    assert "".join(capfd.readouterr()) == ""


def test_nothing_but_health_opens_without_the_password(capfd):
    with serving(BON_PASSWORD=PASSWORD) as page, httpx.Client(base_url=page.url, timeout=60) as http:
        health_has_no_session_no_limit_and_no_line_in_the_log(page, http, capfd)
        estimate = {"data": ["embedded", "", 4, 8, 16]}
        start = {"fn_index": listener(page, "generate"), "data": [*FORM.values()], "session_hash": "s"}
        batch = next(i for i, block in page.demo.blocks.items() if block.elem_id == "batch")
        seen = {"component_id": batch, "fn_name": "views", "data": [], "session_hash": "s"}

        def statuses() -> list[int]:
            answers = [http.get(path) for path in ("/config", "/gradio_api/info", "/gradio_api/queue/status")]
            answers += [http.post(f"/gradio_api{path}", json=body) for path, body in (
                ("/queue/join", start), ("/call/v2/best_of_n", {"prompt": "Hi", "n": 2}),
                ("/run/estimate_2", estimate), ("/component_server", seen))]
            answers.append(http.post("/gradio_api/upload", files={"files": ("a.csv", b"x")}))
            return [answer.status_code for answer in answers]

        assert statuses() == [401] * 8
        assert http.post("/gradio_api/mcp/", json={}).status_code == 404  # Gradio asks nobody for a password there
        for attempt, status in (("wrong", 400), ("", 422), (PASSWORD, 200)):
            answer = http.post("/login", data={"username": "anyone", "password": attempt})
            assert answer.status_code == status, attempt
        assert statuses() == [200] * 8
        guesses = [http.post("/login", data={"username": "x", "password": "x"}).status_code for _ in range(10)]
        assert guesses == [400] * 7 + [429] * 3
        assert PASSWORD not in repr(page.state.deployment) + http.get("/config").text


def test_the_page_asks_for_the_password_in_the_visitors_language_and_then_opens(browser, monkeypatch):
    monkeypatch.setattr("bon.ui.hosting.layers.direct_calls.LOGINS_PER_MINUTE", 2)
    with serving(BON_PASSWORD=PASSWORD) as served:
        page = browser.new_page(locale="es-ES")

        def log_in(password: str) -> None:
            for box, text in zip(page.locator("input").all(), ("anyone", password), strict=True):
                box.fill(text)
            page.get_by_role("button", name="Iniciar sesión").click()

        page.goto(served.url)
        expect(page.get_by_text(tables()["es"]["login.message"])).to_be_visible()
        expect(page.locator(".first-paint")).to_have_count(0)
        log_in("wrong")
        expect(page.locator(".creds")).to_be_visible()
        log_in(PASSWORD)
        wait_until_ready(page)
        page.context.clear_cookies()
        page.reload()
        log_in(PASSWORD)
        expect(page.locator(".auth")).to_contain_text("Son más de 2 llamadas por minuto")
        page.close()


@pytest.mark.parametrize(("environment", "is_open"), [
    ({}, False), ({"GRADIO_SERVER_NAME": "127.0.0.1"}, False), ({"GRADIO_SERVER_NAME": "localhost"}, False),
    ({"GRADIO_SERVER_NAME": "[::1]"}, False), ({"GRADIO_SERVER_NAME": "0.0.0.0"}, True),
    ({"GRADIO_SERVER_NAME": "::"}, True), ({"GRADIO_SERVER_NAME": "192.168.1.5"}, True),
    ({"GRADIO_SHARE": "True"}, True),
    ({"GRADIO_SERVER_NAME": "0.0.0.0", "BON_PASSWORD": "x"}, False),
    ({"GRADIO_SERVER_NAME": "0.0.0.0", "BON_PUBLIC": "1"}, False),
    ({"GRADIO_SERVER_NAME": "0.0.0.0", "SPACE_ID": "me/bon"}, False),
])
def test_the_start_warns_of_a_page_that_is_open_to_strangers(environment, is_open):
    assert launch.is_open_to_strangers(Deployment.of(environment), environment) == is_open


def test_no_node_server_stands_before_the_layers():
    assert theme.launch_options(AppState(Deployment()))["ssr_mode"] is False
