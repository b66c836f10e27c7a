"""Sessions that strangers make up: they are dropped, and a visitor who has a run loses nothing by them."""

import json
from datetime import timedelta

import httpx
import pytest
from gradio.state_holder import SessionState

from bon.settings import declared
from bon.ui.hosting import sessions
from tests.support.browser import Play
from tests.support.served_page import FORM, PUBLIC, SCORES, TEXTS, listener, serving


@pytest.fixture
def page():
    with serving(**PUBLIC, BON_MAX_QUEUE="1000") as page:
        yield page


def test_made_up_sessions_are_dropped_and_stop_shows_what_a_visitors_run_had(page, monkeypatch):
    """Far more sessions than are kept come in by every way while a run waits in its middle; then it is stopped."""
    monkeypatch.setattr(sessions, "ALL_SESSIONS", 40)
    page.stage.play = play = Play(TEXTS, SCORES, hold=1)
    held, queue = page.demo.app.state_holder, page.demo._queue
    batches = next(i for i, block in page.demo.blocks.items() if block.elem_id == "batch")
    run = {"fn_index": listener(page, "generate"), "data": [*FORM.values()], "session_hash": "visitor"}
    prepare = {"fn_index": listener(page, "prepare"), "data": ["embedded", "", None]}
    stopped_view = {"data": [None], "session_hash": "made up"}
    call = ["Hi", *(setting.default for setting in declared().values()), None]
    views = {"component_id": batches, "fn_name": "views", "data": []}
    with httpx.Client(base_url=f"{page.url}/gradio_api", timeout=60) as http:

        def post(route: str, body: dict) -> dict:
            answer = http.post(route, json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        event_id = post("/queue/join", run)["event_id"]
        with http.stream("GET", "/queue/data", params={"session_hash": "visitor"}) as stream:
            events = (json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:"))
            began = next(event for event in events if event["msg"] == "process_generating")
            for i in range(30):
                post("/run/stopped_view", {**stopped_view, "session_hash": f"run {i}"})
                post("/component_server", {**views, "session_hash": f"component {i}"})
                post("/queue/join", {**prepare, "session_hash": f"join {i}"})
                post("/call/best_of_n", {"data": call, "session_hash": f"call {i}"})
            for i in range(200 - 4 * 30):
                held[f"made up {i}"]
            assert "visitor" in held
            post("/cancel", {"session_hash": "visitor", "fn_index": run["fn_index"], "event_id": event_id})
            next(event for event in events if event["msg"] == "process_completed")
        kept = {"data": [began["output"]["data"][0], None], "session_hash": "visitor"}
        view = json.loads(post("/run/view_after_stop", kept)["data"][0]["view"])
        assert view["phase"] == "stopped"
        assert [row["score"] is not None for row in view["rows"]] == [True, False]
        while queue.event_ids_to_events:  # the runs of strangers, which nobody reads
            play.go.set()
            http.get("/queue/status")
        held.drop_unused()
        assert len(held.session_data) <= sessions.ALL_SESSIONS
        assert len([name for name in held.session_data if name.startswith("join")]) <= sessions.VISITOR_SESSIONS
        monkeypatch.setattr(sessions, "KEPT_FOR", timedelta(0))
        held.drop_unused()
        assert not held.session_data
        assert not queue.pending_messages_per_session
        assert not held.streams


def test_a_session_keeps_no_values_of_components(page):
    """Gradio's own holds every component's properties, and the last run's result among them."""
    gradios = SessionState(page.demo)
    with httpx.Client(base_url=f"{page.url}/gradio_api", timeout=60) as http:
        run = {"data": ["Hi", *(setting.default for setting in declared().values()), None], "session_hash": "visitor"}
        event_id = http.post("/call/best_of_n", json=run).json()["event_id"]
        assert "event: complete" in http.get(f"/call/best_of_n/{event_id}").text
    ours = page.demo.app.state_holder["visitor"]
    assert vars(ours).keys() == vars(gradios).keys()
    assert ours.blocks_config.blocks.keys() == gradios.blocks_config.blocks.keys()
    assert len(gradios.config_values) > 100
    assert not ours.config_values


def test_a_session_is_in_use_while_any_of_its_streams_is_open(page):
    """Also the stream of a run that a client posted with a session of its own."""
    page.stage.play = play = Play(TEXTS, SCORES, hold=0)
    held = page.demo.app.state_holder
    body = {"data": ["Hi", *(setting.default for setting in declared().values()), None], "session_hash": "own"}
    with httpx.Client(base_url=f"{page.url}/gradio_api", timeout=60) as http:
        event_id = http.post("/call/best_of_n", json=body).json()["event_id"]
        with (http.stream("GET", f"/call/best_of_n/{event_id}") as run, http.stream("GET", "/heartbeat/tab") as beat,
              http.stream("GET", "/queue/data", params={"session_hash": "own"})):
            next(run.iter_lines()), next(beat.iter_lines())
            assert held.streams == {"own": 2, "tab": 1}
            play.go.set()


def test_sessions_of_direct_calls_count_as_their_callers(page, monkeypatch):
    monkeypatch.setattr(sessions, "VISITOR_SESSIONS", 5)
    batches = next(i for i, block in page.demo.blocks.items() if block.elem_id == "batch")
    views = {"component_id": batches, "fn_name": "views", "data": []}
    with httpx.Client(base_url=f"{page.url}/gradio_api", timeout=60) as http:
        for i in range(20):
            for route, body in (("run/stopped_view", {"data": [None]}), ("component_server", views)):
                assert http.post(f"/{route}", json={**body, "session_hash": f"{route} {i}"}).status_code == 200
    kept = page.demo.app.state_holder.session_data
    assert 1 <= sum(name.startswith(("run", "component_server")) for name in kept) <= 6  # and the one that is new
