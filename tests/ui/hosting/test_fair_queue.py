"""The queue of runs: visitors take turns, and runs that nobody reads hold nobody up.

Visitors come from addresses of the loopback network. Runs wait where the test wants it (`browser.Play`).
"""

import asyncio
import contextlib
import inspect
import socket
import threading
from collections import Counter
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
from gradio import queueing, utils
from gradio.queueing import Event, Queue
from starlette.requests import Request

from bon import zerogpu
from bon.ui.app_state import AppState
from bon.ui.hosting import fair_queue
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.fair_queue import FairQueue
from bon.ui.hosting.layers import open_streams
from bon.ui.page import build
from tests.support.browser import Play
from tests.support.served_page import PUBLIC, SCORES, TEXTS, serving

A, B, C = "127.0.4.1", "127.0.4.2", "127.0.4.3"


@pytest.fixture(scope="module")
def served():
    with serving(**PUBLIC) as page:
        yield page


@pytest.fixture
def page(served):
    """A public page whose runs wait before their end until `page.play.go` is set; all end with the test."""
    page = served
    page.queue, page.play = page.demo._queue, Play(TEXTS, SCORES, hold=0)
    page.stage.play, page.clients = page.play, {}
    with contextlib.ExitStack() as page.readers:
        yield page
        page.play.go.set()
    wait_until(lambda: not len(page.queue) and not running(page))


def wait_until(condition) -> None:
    """Waits until a condition holds."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.01)


def client(page, address: str) -> httpx.Client:
    """The client of a visitor at this address."""
    if address not in page.clients:
        transport = httpx.HTTPTransport(local_address=address)
        page.clients[address] = httpx.Client(base_url=f"{page.url}/gradio_api", timeout=60, transport=transport)
        page.readers.enter_context(page.clients[address])
    return page.clients[address]


def post(page, address: str, prompt: str = "Hi") -> httpx.Response:
    return client(page, address).post("/call/v2/best_of_n", json={"prompt": prompt, "n": 2})


def begin(page, address: str, runs: int = 1) -> list[str]:
    """Lets a visitor post runs that nobody reads; their ids."""
    return [post(page, address).json()["event_id"] for _ in range(runs)]


def open_stream(page, address: str, event_id: str) -> httpx.Response:
    return page.readers.enter_context(client(page, address).stream("GET", f"/call/best_of_n/{event_id}"))


def begin_and_read(page, address: str, runs: int = 1) -> list[httpx.Response]:
    """Lets a visitor post runs and open the stream of each."""
    return [open_stream(page, address, event_id) for event_id in begin(page, address, runs)]


def running(page) -> Counter:
    """The number of runs that each visitor has under way."""
    return Counter(event.request.client.host for job in page.queue.active_jobs for event in job or ())


def pass_a_minute(page) -> None:
    """Makes all runs older."""
    for each in page.queue.event_ids_to_events.values():
        each.enqueue_time -= fair_queue.UNREAD_SECONDS


def last_event(stream: httpx.Response) -> str:
    return stream.read().decode().split("event: ")[-1]


def test_a_visitor_with_thirty_runs_leaves_places_for_others(page):
    streams = begin_and_read(page, A, 30)
    wait_until(lambda: running(page)[A] == 8)
    begin_and_read(page, B, 3)
    wait_until(lambda: running(page)[B] == 2)
    begin_and_read(page, C)
    waiting = page.queue.event_queue_per_concurrency_id["device"].queue
    wait_until(lambda: [each.request.client.host for each in waiting[:3]] == [C, B, A])
    assert running(page) == {A: 8, B: 2}
    page.play.go.set()
    assert all(last_event(stream).startswith("complete") for stream in streams)


def test_runs_that_nobody_reads_give_their_places_to_those_that_are_read(page):
    unread = begin(page, A, 12)
    wait_until(lambda: running(page)[A] == 8)
    streams = begin_and_read(page, B)
    wait_until(lambda: running(page)[B] == 1)
    streams += [open_stream(page, A, unread[-1])]  # which waits, and has its turn once it is read
    wait_until(lambda: running(page)[A] == 9)
    page.play.go.set()
    assert all(last_event(stream).startswith("complete") for stream in streams)


def test_a_client_that_takes_nothing_of_its_stream_counts_as_no_reader(page, monkeypatch):
    monkeypatch.setattr(open_streams, "TAKEN_SECONDS", 0.1)
    page.stage.play = page.play = Play([" long" * 200_000, " text"], SCORES, hold=0)
    event_id, = begin(page, A)
    port = int(page.url.rpartition(":")[2])
    unread = page.readers.enter_context(socket.create_connection(("127.0.0.1", port), 30, (A, 0)))
    unread.sendall(f"GET /gradio_api/call/best_of_n/{event_id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    wait_until(lambda: event_id in page.queue._readers)
    wait_until(lambda: event_id not in page.queue._readers)
    while event_id not in page.queue._readers:  # until the client has taken what was sent
        unread.recv(1_000_000)


def test_a_run_that_nobody_reads_is_stopped_once_others_wait(page):
    unread = begin(page, A, 10)
    wait_until(lambda: running(page)[A] == 8)
    read = begin_and_read(page, B, 8)
    wait_until(lambda: running(page)[B] == 8)
    pass_a_minute(page)
    tried_at = page.queue._retry_at
    wait_until(lambda: page.queue._retry_at > tried_at)
    assert running(page) == {A: 8, B: 8}  # nobody who reads waits
    read += begin_and_read(page, C, 3)  # two of these have places, which B has more of than its share
    wait_until(lambda: running(page)[A] == 0)
    wait_until(lambda: len(page.queue) == 1)
    page.play.go.set()
    assert all(last_event(stream).startswith("complete") for stream in read)
    for event_id in unread:
        text = open_stream(page, A, event_id).read().decode()
        assert text.count("event:") == 1
        assert "nobody had read it" in text


def test_a_queue_full_of_runs_that_nobody_reads_takes_a_newcomer(page, monkeypatch):
    monkeypatch.setattr(page.queue, "max_size", 2)
    begin(page, A, 8)
    wait_until(lambda: running(page)[A] == 8)
    begin(page, A, 2)
    assert post(page, B).status_code == 503
    pass_a_minute(page)
    assert post(page, B).status_code == 200


def test_results_can_be_read_later_and_one_after_the_other_while_nobody_waits(page, monkeypatch):
    monkeypatch.setattr(fair_queue, "UNREAD_SECONDS", 0.0)
    page.play.go.set()
    five = begin(page, A, 5)
    wait_until(lambda: not running(page) and not len(page.queue))
    assert all(last_event(open_stream(page, A, event_id)).startswith("complete") for event_id in five)


def test_a_result_that_nobody_reads_in_time_leaves_a_sentence_and_no_memory(page, monkeypatch):
    monkeypatch.setattr(fair_queue, "KEPT_SECONDS", 0.0)
    page.play.go.set()
    event_id, = begin(page, A)
    wait_until(lambda: event_id not in page.queue.pending_messages_per_session)
    assert event_id not in page.queue.pending_event_ids_session
    for run in (event_id, "no-such-run"):
        text = open_stream(page, A, run).read().decode()
        assert text.startswith("event: error")
        assert "There is no such run" in text


def event(visitor: str, session: str) -> Event:
    request = Request({"type": "http", "headers": [], "client": (visitor, 1)})
    return Event(session, SimpleNamespace(concurrency_id="device"), request, None)


def test_visitors_take_turns_and_so_do_the_sessions_of_each(served, monkeypatch):
    queue = served.demo._queue
    monkeypatch.setattr(queue, "_began", {})
    waiting = [event(A, "a1"), event(A, "a1"), event(A, "a1"), event(A, "a2"), event(B, "b1"), event(C, "c1")]
    for at, each in enumerate(waiting):
        each.enqueue_time = at

    def order(running: list[Event]) -> list[int]:
        return [waiting.index(each) for each in queue._in_turn(reversed(waiting), running)]

    assert order([]) == [0, 4, 5, 3, 1, 2]
    assert order([event(A, "a1"), event(B, "b2")]) == [5, 3, 4, 0, 1, 2]


def test_whose_last_run_began_longest_ago_is_next(served, monkeypatch):
    queue = served.demo._queue
    waiting = [event(A, "a"), event(B, "b")]
    for at, each in enumerate(waiting):
        each.enqueue_time = at
    monkeypatch.setattr(queue, "_began", {A: 7.0})
    assert queue._in_turn(waiting, []) == waiting[::-1]


def test_on_zerogpu_the_queue_is_gradios(monkeypatch):
    assert type(build(AppState(Deployment()))._queue) is FairQueue
    monkeypatch.setattr(zerogpu, "is_on", lambda: True)
    assert type(build(AppState(Deployment()))._queue) is Queue


def test_gradio_chooses_runs_as_in_version_6_31():
    """What `FairQueue` and `OpenStreams` rely on: after a failure, compare `gradio/queueing.py` with them."""
    assert gr.__version__.startswith("6.31.")
    source = inspect.getsource(queueing)
    assert "event_batch = self.get_events()" in inspect.getsource(Queue.start_processing)
    assert "if len(self) == 0" in inspect.getsource(Queue.start_processing)  # asked again and again while runs wait
    assert "awake_events = [event for event in awake_events if event.alive]" in inspect.getsource(Queue.process_events)
    assert "if not event.alive" in inspect.getsource(Queue.send_message)
    assert "event_queue.queue.append(event)" in inspect.getsource(Queue.push)
    assert "for rank, event in enumerate(event_queue.queue)" in inspect.getsource(Queue.broadcast_estimations)
    assert "pending_event_ids_session[body.session_hash].add(event._id)" in source
    assert asyncio.iscoroutinefunction(Queue.process_events)
    assert utils.LRUCache is queueing.LRUCache
    assert not any(fn.batch for fn in build(AppState(Deployment())).fns.values())
