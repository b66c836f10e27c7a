"""Servers for the server engine: one that misbehaves as it is told, and how to start real ones."""

import contextlib
import json
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.browser import free_port

WORDS = ("fine", "dull", "warm", "late", "loud", "bright", "slow", "kind")
ERROR = {"error": {"message": "no"}}


class Handler(BaseHTTPRequestHandler):
    """One request to the fake; what a test does with it beyond `send` is up to the test."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Says nothing."""

    def do_GET(self):
        self.server.note(self, {})
        models = {"object": "list", "data": [{"id": name, "object": "model", "owned_by": self.server.owner}
                                             for name in self.server.models]}
        if self.path == "/v1/models":
            answer = models if self.server.listing == 200 else ERROR
            self.send(self.server.listing, self.server.listed or answer)
        else:
            self.send(404, ERROR)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = self.server.note(self, body)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.server.behave(self, body, number)

    def send(self, status: int, payload: object, **headers: str) -> None:
        """An answer of JSON, or of text as it is."""
        text = payload if isinstance(payload, str) else json.dumps(payload)
        kind = "text/html" if isinstance(payload, str) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(text.encode())), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text.encode())

    def gone(self, seconds: float = 10.0) -> bool:
        """Whether the client goes away within so many seconds."""
        self.connection.settimeout(seconds)
        try:
            return self.connection.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def stream(self, chunks: list[dict], pause: float = 0.0, done: bool = True) -> None:
        """An answer of server-sent events."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()
            time.sleep(pause)
        if done:
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True


Behave = Callable[[Handler, dict, int], None]


class Fake(ThreadingHTTPServer):
    """A server on loopback that answers as `behave` says and remembers what it was asked."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, behave: Behave, models=("tiny",), owner: str = "somebody", listing: int = 200,
                 port: int = 0):
        super().__init__(("127.0.0.1", port), Handler)
        self.behave, self.models, self.owner, self.listing = behave, models, owner, listing
        self.listed: object = None  # what it says in place of its models
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.seen: list[tuple[str, dict, dict]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def note(self, handler: Handler, body: dict) -> int:
        """Remembers a request; how many bodies came before it."""
        with self._lock:
            number = len(self.bodies)
            self.seen.append((handler.path, {name.lower(): value for name, value in handler.headers.items()}, body))
            return number

    @property
    def bodies(self) -> list[dict]:
        """The bodies of all requests for texts."""
        return [body for _, _, body in self.seen if body]

    def handle_error(self, *_):
        """Clients that go away are what is tested."""


def text_of(body: dict, child: int = 0) -> str:
    """The text that the fake writes, by its seed: as many words as it may, unless the seed says to end early."""
    number = body.get("seed", 0) + child
    return "".join(f" {WORDS[(number >> 3 * i) % 8]}" for i in range(body["max_tokens"]))


def completion(body: dict, texts: list[str] | None = None, told: bool = True, finish: str = "length") -> dict:
    """A well-made answer. told: with log-probabilities, -0.5 for each word."""
    texts = texts or [text_of(body, child) for child in range(body.get("n", 1))]
    choices = []
    for i, text in enumerate(texts):
        tokens = [f" {word}" for word in text.split()]
        logprobs = {"tokens": tokens, "token_logprobs": [-0.5] * len(tokens)} if told else None
        if "messages" in body:
            content = [{"token": token, "logprob": -0.5} for token in tokens]
            choices.append({"index": i, "finish_reason": finish, "message": {"role": "assistant", "content": text},
                            "logprobs": {"content": content} if told else None})
        else:
            choices.append({"index": i, "finish_reason": finish, "text": text, "logprobs": logprobs})
    return {"id": "x", "object": "text_completion", "created": 0, "model": body["model"], "choices": choices,
            "usage": {"prompt_tokens": 2, "completion_tokens": sum(len(t.split()) for t in texts),
                      "total_tokens": 2}}


def chunks(body: dict) -> list[dict]:
    """A well-made answer in pieces of one word."""
    def chunk(text, finish=None):
        if "messages" in body:
            choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish,
                      "logprobs": {"content": [{"token": text, "logprob": -0.5}]} if text else None}
            name = "chat.completion.chunk"
        else:
            choice = {"index": 0, "text": text, "finish_reason": finish,
                      "logprobs": {"tokens": [text], "token_logprobs": [-0.5]} if text else None}
            name = "text_completion"
        return {"id": "x", "object": name, "created": 0, "model": body["model"], "choices": [choice]}
    return [*(chunk(f" {word}") for word in text_of(body).split()), chunk("", "length")]


def good(handler: Handler, body: dict, number: int) -> None:
    """Does all that it is asked."""
    if body.get("stream"):
        handler.stream(chunks(body))
    else:
        handler.send(200, completion(body))


@contextlib.contextmanager
def started(command: list[str], log, ready: str = "/health", **environment: str) -> Iterator[str]:
    """A real server in a process of its own, its address without path once it answers. `PORT` stands for its port."""
    port = free_port()
    with open(log, "w") as output:
        process = subprocess.Popen(
            [part.replace("PORT", str(port)) for part in command], stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
        )
    try:
        url = f"http://127.0.0.1:{port}"
        while process.poll() is None:
            try:
                urllib.request.urlopen(url + ready, timeout=5).close()
                break
            except urllib.error.HTTPError as error:
                if error.code != 503:  # with which a server says that it loads its model
                    break
                time.sleep(0.2)
            except OSError:
                time.sleep(0.2)
        assert process.poll() is None, Path(log).read_text()
        yield url
    finally:
        process.terminate()
        process.wait()
