"""A crowd, and strangers who hold places, measured: `python -m tests.crowd SCENARIO ...`.

    idle    1,030 half heads, then 1,030 half bodies, from 35 addresses of the loopback network, at a process that may
            have 1,024 file handles; a visitor who comes after them asks for the page and a run

All requests go to the page of the real app, in public mode, on 127.0.0.1. Nothing here passes or fails: a machine at
work with something else tells other times.
"""

import argparse
import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

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


def run(server: Server, address: str = "127.0.0.1", **settings) -> float:
    """A run over HTTP by a visitor at this address; the seconds that it took."""
    started = time.monotonic()
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(base_url=f"{server.url}/gradio_api", timeout=600, transport=transport) as client:
        body = {"prompt": "This movie", "n": 4, "min_tokens": 8, "max_tokens": 16, **settings}
        joined = client.post("/call/v2/best_of_n", json=body)
        if joined.status_code != 200:
            raise SystemExit(f"{joined.status_code} {joined.text[:200]}")
        for line in client.get(f"/call/best_of_n/{joined.json()['event_id']}").text.splitlines():
            if line.startswith("event: error"):
                raise SystemExit("a run failed")
    return time.monotonic() - started


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
                print(f"1,030 {name}: the page in {page_seconds:.2f} s, a run in {run(server):.2f} s")
            except httpx.HTTPError as error:
                print(f"1,030 {name}: {type(error).__name__} after {time.monotonic() - started:.1f} s")
            time.sleep(20)
            print(f"    before: {before}\n    20 s later: {server.usage()}", flush=True)


SCENARIOS = {"idle": idle}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scenarios", nargs="+", choices=SCENARIOS)
    for scenario in parser.parse_args().scenarios:
        SCENARIOS[scenario]()
