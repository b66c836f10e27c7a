"""A proxy that passes requests on to a server and records them with its raw answers."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

HOP_BY_HOP = ("host", "connection", "transfer-encoding", "content-length", "accept-encoding", "date", "server")


class Exchange(NamedTuple):
    """A request, whose body is None for GET, and the server's answer."""

    path: str
    request: dict[str, Any] | None
    status: int
    content_type: str
    answer: str


class _Handler(BaseHTTPRequestHandler):
    """One request on its way through."""

    protocol_version = "HTTP/1.1"
    server: "RecordingProxy"

    def log_message(self, *_):
        """Prints nothing."""

    def do_GET(self):
        self._pass_on(None)

    def do_POST(self):
        self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def _pass_on(self, body: bytes | None):
        connection = http.client.HTTPConnection(self.server.target)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        connection.request(self.command, self.path, body, headers)
        answer, received = connection.getresponse(), b""
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        last = b""
        with suppress(OSError):
            while part := answer.read1(65536):
                received += part
                self._send(last)
                last = part
        # Recorded before the client can know that the answer is complete.
        self.server.exchanges.append(Exchange(self.path, body and json.loads(body), answer.status,
                                              answer.getheader("content-type", ""), received.decode()))
        with suppress(OSError):
            self._send(last)
            self.wfile.write(b"0\r\n\r\n")
        connection.close()

    def _send(self, part: bytes):
        if part:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()


class RecordingProxy(ThreadingHTTPServer):
    """exchanges: all requests with the server's answers."""

    daemon_threads = True

    def __init__(self, url: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(url).netloc
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.exchanges: list[Exchange] = []

    @property
    def answers(self) -> list[tuple[dict[str, Any], str]]:
        """The bodies of all requests that have one with the server's answers."""
        return [(exchange.request, exchange.answer) for exchange in self.exchanges if exchange.request is not None]

    def choices(self) -> list[dict[str, Any]]:
        """Every choice of every answer, as `choices_in` returns them."""
        return [choice for request, answer in self.answers for choice in choices_in(request, answer)]


def choices_in(request: dict[str, Any], answer: str) -> list[dict[str, Any]]:
    """Every choice of an answer: text, entries of log-probabilities, finish, cap and tokens counted."""
    lines = answer.split("\n") if request.get("stream") else ["data: " + answer]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    choices: dict[int, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for chunk in chunks:
        for choice in chunk.get("choices", ()):
            whole = choices.setdefault(choice["index"], {"text": "", "entries": [], "finish": None})
            whole["cap"] = request["max_tokens"]
            message = choice.get("message") or choice.get("delta") or choice
            whole["text"] += message.get("content") or message.get("text") or ""
            logprobs = choice.get("logprobs") or {}
            whole["entries"] += logprobs.get("content") or [
                {"token": token, "logprob": logprob}
                for token, logprob in zip(logprobs.get("tokens", ()), logprobs.get("token_logprobs", ()), strict=True)]
            whole["finish"] = choice["finish_reason"] or whole["finish"]
        if chunk.get("usage"):  # llama.cpp counts each choice with its end or right after it
            whole["tokens"] = chunk["usage"]["completion_tokens"]
    return list(choices.values())


@contextmanager
def recording_proxy(url: str) -> Iterator[RecordingProxy]:
    """A proxy to the server at this address."""
    proxy = RecordingProxy(url)
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    yield proxy
    proxy.shutdown()
    proxy.server_close()
