"""Connections that bring no request, and those that do: who stays, and whether a visitor still gets in.

All go to 127.0.0.1, from addresses of the loopback network.
"""

import contextlib
import json
import logging
import os
import socket
import threading
from types import SimpleNamespace

import httpx
import pytest

from bon.ui.hosting import connections, error_log
from bon.ui.hosting.deployment import Deployment
from tests.support.served_page import PUBLIC, serving

HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\n"
BODY = b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
CHUNKED = BODY.replace(b"Content-Length: 99", b"Transfer-Encoding: chunked")
STREAM = b"GET /gradio_api/heartbeat/%d HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def page():
    """A public page over a scripted sampler."""
    with serving(**PUBLIC) as page:
        page.connections = page.demo.app.state.connections
        yield page


@pytest.fixture
def dial(page):
    """Opens a connection from an address and sends these bytes; all are closed at the end."""
    with contextlib.ExitStack() as stack:
        def open_connection(sent: bytes, address: str = "127.0.0.1") -> socket.socket:
            port = int(page.url.rpartition(":")[2])
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30, (address, 0)))
            connection.sendall(sent)
            return connection

        yield open_connection


def is_closed_by_server(connection: socket.socket) -> bool:
    """Waits until the server closes a connection or sends something; whether it closed it."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def is_open(connection: socket.socket) -> bool:
    """Whether the server has not closed a connection until now."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
    finally:
        connection.settimeout(30)


def visit(page) -> list[str]:
    """Has a visitor get the page and complete a run; the texts of its candidates."""
    with httpx.Client(base_url=page.url, timeout=30) as client:
        assert "gradio" in client.get("/").text
        event = client.post("/gradio_api/call/v2/best_of_n", json={"prompt": "Hi", "n": 2}).json()["event_id"]
        lines = client.get(f"/gradio_api/call/best_of_n/{event}").text.splitlines()
    assert "event: complete" in lines
    return [candidate["text"] for candidate in json.loads(lines[-2].removeprefix("data: "))[0]["candidates"]]


@pytest.mark.parametrize(("before", "sent", "patience"), [
    (b"", b"", "HEAD_SECONDS"), (b"", HEAD, "HEAD_SECONDS"), (HEAD + b"\r\n", HEAD, "HEAD_SECONDS"),
    (b"", BODY, "BODY_SECONDS"), (b"", CHUNKED, "BODY_SECONDS"),
])
def test_a_request_that_does_not_arrive_is_dropped_and_a_stream_stays(page, dial, monkeypatch, before, sent, patience):
    monkeypatch.setattr(connections, patience, 0.2)
    stream = dial(STREAM % 1)
    assert stream.recv(12) == b"HTTP/1.1 200"
    connection = dial(before)
    if before:
        while not connection.recv(1000).endswith(b"ok"):
            pass
    connection.sendall(sent)
    assert is_closed_by_server(connection)
    assert is_open(stream)


def test_bytes_do_not_prolong_a_head_but_a_body(page, dial, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.5)
    head, body, pause = dial(HEAD), dial(BODY), threading.Event()
    with contextlib.suppress(ConnectionError):
        while is_open(head):
            head.send(b"X: y\r\n")
            body.send(b" ")
            pause.wait(0.05)
    assert is_open(body)


def test_a_client_that_reads_nothing_of_its_answer_is_dropped(page, dial, monkeypatch):
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.2)
    unread = dial(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 300, "127.0.3.1")
    assert unread.recv(12) == b"HTTP/1.1 200"
    wait_until(lambda: "127.0.3.1" not in page.connections._of_peer)


def wait_until(condition) -> None:
    """Waits until a condition holds."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.01)


@pytest.mark.parametrize("sent", [HEAD, BODY])
def test_the_idle_connections_of_many_addresses_leave_room_for_a_visitor(page, dial, monkeypatch, sent):
    """As many as a process may have handles; those of this test count too."""
    monkeypatch.setattr(page.connections, "_most_handles", len(os.listdir("/proc/self/fd")) + 400)
    stream = dial(STREAM % 1, "127.0.0.9")
    assert stream.recv(12) == b"HTTP/1.1 200"
    idle = [dial(sent, f"127.0.1.{number % 20 + 1}") for number in range(300)]
    assert visit(page) == [" was fine.", " was dull."]
    assert is_closed_by_server(idle[0])
    assert is_open(idle[-1])
    assert is_open(stream)


def test_an_address_has_64_connections_of_which_the_idle_ones_go_first(page, dial):
    streams = [dial(STREAM % number, "127.0.2.1") for number in range(connections.PEER_CONNECTIONS - 1)]
    assert all(stream.recv(12) == b"HTTP/1.1 200" for stream in streams)
    idle = dial(HEAD, "127.0.2.1")
    last = dial(STREAM % 64, "127.0.2.1")
    assert is_closed_by_server(idle)
    assert last.recv(12) == b"HTTP/1.1 200"
    assert is_closed_by_server(dial(HEAD, "127.0.2.1"))  # nothing is idle but the new one itself
    assert all(map(is_open, streams))
    assert visit(page)


@pytest.mark.parametrize("proxied", ["a stated proxy", "a Space", "a share link"])
def test_the_connections_of_a_proxy_are_those_of_many_visitors(page, dial, monkeypatch, proxied):
    if proxied == "a share link":
        monkeypatch.setattr(page.demo, "share_url", "https://some.gradio.live")
    else:
        deployment = Deployment(proxies=1) if proxied == "a stated proxy" else Deployment(spaces=True)
        monkeypatch.setattr(page.connections, "_deployment", deployment)
    streams = [dial(STREAM % number) for number in range(connections.PEER_CONNECTIONS + 10)]
    assert all(stream.recv(12) == b"HTTP/1.1 200" for stream in streams)


def test_the_process_asks_for_more_handles_than_is_usual(monkeypatch):
    limits = []
    for hard, soft in ((4096, 4096), (1_048_576, 65_536), (-1, 65_536)):
        monkeypatch.setattr(connections, "RESOURCE", SimpleNamespace(
            RLIMIT_NOFILE=7, RLIM_INFINITY=-1, getrlimit=lambda _, hard=hard: (1024, hard),
            setrlimit=lambda _, pair: limits.append(pair)))
        connections.raise_handle_limit()
        assert limits.pop() == (soft, hard)
    monkeypatch.setattr(connections, "RESOURCE", None)  # Windows
    connections.raise_handle_limit()
    assert connections.handle_limit() == float("inf")


def test_the_log_has_the_same_line_once_a_second():
    times = iter([0.0, 0.1, 0.2, 1.2, 1.3])
    repeats = error_log.Repeats(lambda: next(times))

    def is_logged(text: str) -> bool:
        return repeats.is_new(logging.LogRecord("x", logging.ERROR, "x.py", 1, text, (), None))

    assert [is_logged("full"), is_logged("full"), is_logged("other"), is_logged("full"), is_logged("full")] == [
        True, False, True, True, False]


def test_a_stranger_cannot_fill_the_log(page, dial, caplog):
    for _ in range(50):
        assert dial(b"\0\r\n\r\n").recv(12) == b"HTTP/1.1 400"
        assert dial(HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n").recv(12) == b"HTTP/1.1 200"
    assert 0 < len(caplog.records) < 20
