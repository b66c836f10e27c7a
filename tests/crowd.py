"""A crowd, and strangers who hold places, measured: `python -m tests.crowd SCENARIO ...`.

    idle    1,030 half heads, then 1,030 half bodies, from 35 addresses of the loopback network, at a process that may
            have 1,024 file handles; a visitor who comes after them asks for the page and a run
    fair    one visitor has 30 runs, another a single small one; before, the same one beside six others
    unread  24 large runs of one visitor that nobody reads; another's small run
    load    50 runs at once, the same one after the other, 500 runs, 100 clients that leave within their run; memory is
            read after the rest at which the page gives it back
    previews  a best of 32 beside 20 previews of files of 500,000 rows; five times

All requests go to the page of the real app, in public mode, on 127.0.0.1. Nothing here passes or fails: a machine at
work with something else tells other times.
"""

import argparse
import contextlib
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import httpx

from bon.ui.work.memory import REST_SECONDS
from tests.support.browser import ROOT, free_port

HALF_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "
HALF_BODY = b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"


class Server:
    """The real app in a process of its own."""

    def __init__(self, process: subprocess.Popen, port: int, log: Path):
        self.process, self.port, self.log, self.url = process, port, log, f"http://127.0.0.1:{port}"

    def usage(self) -> str:
        """Memory, handles and processor time of the process, and the size of its log."""
        folder = Path(f"/proc/{self.process.pid}")
        memory = next(line.split()[1] for line in (folder / "status").read_text().splitlines() if "VmRSS" in line)
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        handles = len(list((folder / "fd").iterdir()))
        return f"{int(memory) // 1024} MB, {handles} handles, {seconds:.1f} s, log {self.log.stat().st_size} bytes"


@contextlib.contextmanager
def serving(handles: int | None = None, **environment: str) -> Iterator[Server]:
    """The app. handles: how many file handles its process may have."""
    port = free_port()
    options = {"GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", "BON_PUBLIC": "1", "BON_RATE": "10000"}
    limit = handles and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (handles, handles)))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env={**os.environ, **options, **environment}, stdout=log.open("wb"),
            stderr=subprocess.STDOUT, preexec_fn=limit or None,
        )
        server = Server(process, port, log)
        try:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{server.url}/config", timeout=5).status_code == 200:
                        break
                time.sleep(0.3)
            run(server)
            yield server
        finally:
            process.terminate()
            process.wait(30)


def client(server: Server, address: str = "127.0.0.1") -> httpx.Client:
    """A client of the page at this address."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=f"{server.url}/gradio_api", timeout=600, transport=transport)


class Took(NamedTuple):
    """Seconds from a post to the first words of its run, and to its end."""

    to_begin: float
    to_end: float

    def __str__(self) -> str:
        return f"{self.to_end:.2f} s, {self.to_begin:.2f} s of them until it began"


def run(server: Server, address: str = "127.0.0.1", **settings) -> Took:
    """A run over HTTP by a visitor at this address."""
    body = {"prompt": "This movie", "n": 4, "min_tokens": 8, "max_tokens": 16, **settings}
    with client(server, address) as visitor:
        started = time.monotonic()
        joined = visitor.post("/call/v2/best_of_n", json=body)
        if joined.status_code != 200:
            raise SystemExit(f"{joined.status_code} {joined.text[:200]}")
        began = None
        with visitor.stream("GET", f"/call/best_of_n/{joined.json()['event_id']}") as stream:
            for line in stream.iter_lines():
                if line == "event: error":
                    raise SystemExit("a run failed")
                if line == "event: generating" and began is None:
                    began = time.monotonic() - started
    ended = time.monotonic() - started
    return Took(began or ended, ended)


def idle() -> None:
    """Idle connections from many addresses against 1,024 handles."""
    for name, sent in (("half heads", HALF_HEAD), ("half bodies", HALF_BODY)):
        with serving(handles=1024) as server, contextlib.ExitStack() as stack:
            before = server.usage()
            for number in range(1030):
                address = (f"127.0.1.{number % 35 + 1}", 0)
                connection = socket.create_connection(("127.0.0.1", server.port), 30, address)
                stack.enter_context(connection)
                connection.sendall(sent)
            try:
                started = time.monotonic()
                httpx.get(server.url, timeout=20)
                page_seconds = time.monotonic() - started
                print(f"1,030 {name}: the page in {page_seconds:.2f} s, a run in {run(server)}")
            except httpx.HTTPError as error:
                print(f"1,030 {name}: {type(error).__name__} after {time.monotonic() - started:.1f} s")
            time.sleep(20)
            print(f"    before: {before}\n    20 s later: {server.usage()}", flush=True)


def post(server: Server, address: str = "127.0.0.1", **settings) -> str:
    """Posts a large run, which nobody reads; its id."""
    body = {"prompt": "Film", "n": 64, "min_tokens": 128, "max_tokens": 128, **settings}
    with client(server, address) as visitor:
        return visitor.post("/call/v2/best_of_n", json=body).json()["event_id"]


def fair() -> None:
    """Two visitors, of 30 runs and of one."""
    large = {"n": 32, "min_tokens": 64, "max_tokens": 64}
    with serving() as server, ThreadPoolExecutor(40) as threads:
        others = [threads.submit(run, server, f"127.0.1.{number + 1}", **large) for number in range(6)]
        time.sleep(1)
        beside_six = run(server, "127.0.2.1")
        wait(others)
        started = time.monotonic()
        thirty = [threads.submit(run, server, "127.0.1.1", **large) for _ in range(30)]
        time.sleep(1.5)
        single = run(server, "127.0.2.1")
        wait(thirty)
        print(f"a small run beside six others: {beside_six}; beside one visitor's 30: {single}")
        print(f"    the 30: {time.monotonic() - started:.1f} s", flush=True)


def unread() -> None:
    """24 large runs that nobody reads."""
    with serving() as server:
        alone = run(server, "127.0.2.1")
        for _ in range(24):
            post(server)
        beside = run(server, "127.0.2.1")
        print(f"a small run alone: {alone}; beside 24 large ones that nobody reads: {beside}", flush=True)


def load() -> None:
    """Many visitors, and some that leave."""
    with serving(BON_MAX_QUEUE="100") as server, ThreadPoolExecutor(50) as threads:
        def burst() -> list[float]:
            return list(threads.map(lambda number: run(server, f"127.0.1.{number + 1}").to_end, range(50)))

        started = time.monotonic()
        seconds = burst()
        print(f"50 at once: {time.monotonic() - started:.1f} s, median {statistics.median(seconds):.1f} s, "
              f"worst {max(seconds):.1f} s; {server.usage()}", flush=True)
        started = time.monotonic()
        for _ in range(50):
            run(server)
        print(f"the same one after the other: {time.monotonic() - started:.1f} s")
        for runs in range(50, 501, 50):
            burst()
            if runs in (100, 500):
                busy = server.usage()
                time.sleep(REST_SECONDS + 2)
                print(f"    after {runs} runs: {busy}; at rest: {server.usage()}", flush=True)
        before = server.usage()
        for _ in range(100):
            event_id = post(server, n=32)
            with client(server) as visitor, visitor.stream("GET", f"/call/best_of_n/{event_id}") as stream:
                next(line for line in stream.iter_lines() if line == "event: generating")
        print(f"100 who leave: a small run after them {run(server)}; before: {before}; after: {server.usage()}")


def previews() -> None:
    """Visitors who have large files previewed."""
    rows = b"prompt\n" + 500_000 * b"x\n"
    with serving() as server, ThreadPoolExecutor(20) as threads:
        config = httpx.get(f"{server.url}/config").json()
        (file,) = (part["id"] for part in config["components"] if part["props"].get("elem_id") == "batch-file")
        (preview,) = (event["id"] for event in config["dependencies"] if [file, "change"] in event["targets"])

        def upload(number: int) -> str:
            with client(server, f"127.0.1.{number + 1}") as visitor:
                return visitor.post("/upload", files={"files": ("in.csv", rows)}).json()[0]

        def preview_file(number: int, name: str) -> float:
            with client(server, f"127.0.1.{number + 1}") as visitor:
                data = [{"path": name, "meta": {"_type": "gradio.FileData"}}, ""]
                session = f"preview{time.monotonic_ns()}"
                started = time.monotonic()
                visitor.post("/queue/join", json={"data": data, "fn_index": preview, "session_hash": session})
                with visitor.stream("GET", f"/queue/data?session_hash={session}") as stream:
                    completed = next(line for line in stream.iter_lines() if "process_completed" in line)
                assert "more_rows" in completed, completed
                return time.monotonic() - started

        names = list(threads.map(upload, range(20)))
        large = {"n": 32, "min_tokens": 64, "max_tokens": 64}
        alone = [run(server, "127.0.2.1", **large).to_end for _ in range(5)]
        beside, waited = [], []
        for _ in range(5):
            previewing = [threads.submit(preview_file, *each) for each in enumerate(names)]
            beside.append(run(server, "127.0.2.1", **large).to_end)
            waited += [one.result() for one in previewing]
        print(f"best of 32 alone: {statistics.median(alone):.2f} s; beside 20 previews: "
              f"{statistics.median(beside):.2f} s; a preview: {statistics.median(waited):.2f} s (medians)", flush=True)


SCENARIOS = {"idle": idle, "fair": fair, "unread": unread, "load": load, "previews": previews}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scenarios", nargs="+", choices=SCENARIOS)
    for scenario in parser.parse_args().scenarios:
        SCENARIOS[scenario]()
