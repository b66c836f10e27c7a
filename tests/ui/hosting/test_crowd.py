"""Many visitors at once, and visitors who leave: each gets their own texts, and nothing is left of those who went."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from bon.api import Sampler
from tests.compare.test_comparison import engine_of, sentiment
from tests.support.browser import Play
from tests.support.served_page import FORM, PUBLIC, SCORES, TEXTS, listener, serving

VISITORS = 12  # more than run at the same time
SIZES = {"n": 4, "min_tokens": 4, "max_tokens": 12}


@pytest.fixture(scope="module")
def sampler():
    return Sampler(engine_of(0), sentiment(0), "embedded")


@pytest.fixture(scope="module")
def page():
    """A public page; what it loads is up to each test."""
    with serving(**PUBLIC) as page:
        yield page


def lines_of_call(page, http: httpx.Client, **arguments) -> Iterator[str]:
    """The lines that `/call/best_of_n` streams."""
    event = http.post("/call/v2/best_of_n", json=arguments).json()["event_id"]
    with http.stream("GET", f"/call/best_of_n/{event}") as answer:
        yield from answer.iter_lines()


def lines_of_page(page, http: httpx.Client, **arguments) -> Iterator[str]:
    """The lines that the queue streams to a page whose button was pressed."""
    session = os.urandom(8).hex()
    http.post("/queue/join", json={"fn_index": listener(page, "generate"), "data": [*(FORM | arguments).values()],
                                   "session_hash": session})
    with http.stream("GET", "/queue/data", params={"session_hash": session}) as answer:
        yield from answer.iter_lines()


def client(page) -> httpx.Client:
    return httpx.Client(base_url=f"{page.url}/gradio_api", timeout=120)


def test_visitors_at_once_get_the_texts_that_each_would_get_alone(page, sampler, monkeypatch):
    loaded: Future[Sampler] = Future()
    loaded.set_result(sampler)
    monkeypatch.setattr(page.state.models, "load", lambda _: loaded)
    start = threading.Barrier(VISITORS)

    def visit(number: int) -> dict:
        with client(page) as http:
            start.wait()
            lines = lines_of_call(page, http, prompt=f"The film number {number}", seed=number, **SIZES)
            *_, answer = filter(None, lines)
        return json.loads(answer.removeprefix("data: "))[0]

    with ThreadPoolExecutor(VISITORS) as pool:
        results = list(pool.map(visit, range(VISITORS)))
    assert len({json.dumps(result["candidates"]) for result in results}) == VISITORS
    for number, result in enumerate(results):
        alone = sampler.run(f"The film number {number}", seed=number, **SIZES).to_dict()
        assert (result["prompt"], result["settings"]) == (alone["prompt"], alone["settings"])
        for mine, expected in zip(result["candidates"], alone["candidates"], strict=True):
            assert (mine["index"], mine["text"]) == (expected["index"], expected["text"])
            assert mine["score"] == pytest.approx(expected["score"], abs=1e-6)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts the handles of /proc")
def test_visitors_who_leave_free_their_place_and_nothing_of_any_visitor_stays_open(page):
    with client(page) as http:
        for lines in (lines_of_call, lines_of_page):
            run_to_its_end(page, http, lines)
            leave_in_mid_run(page, http, lines)
        threads, handles = threading.active_count(), len(os.listdir("/proc/self/fd"))
        for number in range(10):  # more than run at the same time
            leave_in_mid_run(page, http, (lines_of_call, lines_of_page)[number % 2])
        for number in range(20):
            run_to_its_end(page, http, (lines_of_call, lines_of_page)[number % 2])
    assert becomes_true(lambda: len(os.listdir("/proc/self/fd")) <= handles)
    assert becomes_true(lambda: threading.active_count() <= threads)


def run_to_its_end(page, http: httpx.Client, lines: Callable) -> None:
    page.stage.play = Play(TEXTS, SCORES)
    assert any("event: complete" in line or "process_completed" in line for line in lines(page, http, prompt="Hi"))


def leave_in_mid_run(page, http: httpx.Client, lines: Callable) -> None:
    """Closes the stream of a run that would never end, and waits until the run is closed too."""
    play = page.stage.play = Play(TEXTS, SCORES, hold=1)
    stream = lines(page, http, prompt="Hi")
    next(line for line in stream if "generating" in line)
    stream.close()
    assert play.closed.wait(60)


def becomes_true(condition: Callable[[], bool]) -> bool:
    """Whether a condition holds within a minute."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()
