"""A proxy that passes requests on to a server and records them with its raw answers."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOP_BY_HOP = ("host", "connection", "transfer-encoding", "content-length", "accept-encoding", "date", "server")


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
        with suppress(OSError):
            while part := answer.read1(65536):
                received += part
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()
        if body is not None:  # recorded before the client can know that the answer is complete
            self.server.answers.append((json.loads(body), received.decode()))
        with suppress(OSError):
            self.wfile.write(b"0\r\n\r\n")
        connection.close()


class RecordingProxy(ThreadingHTTPServer):
    """answers: the bodies of all requests with the server's answers."""

    daemon_threads = True

    def __init__(self, url: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(url).netloc
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.answers: list[tuple[dict[str, Any], str]] = []

    def choices(self) -> list[dict[str, Any]]:
        """Every choice of every answer: text, entries of log-probabilities, finish, cap and tokens counted."""
        return [choice for request, answer in self.answers for choice in _choices(request, answer)]


def _choices(request: dict[str, Any], answer: str) -> list[dict[str, Any]]:
    lines = answer.splitlines() if request.get("stream") else ["data: " + answer]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    choices: dict[int, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for chunk in chunks:
        for choice in chunk.get("choices", ()):
            whole = choices.setdefault(choice["index"], {"text": "", "entries": [], "finish": None})
            whole["cap"] = request["max_tokens"]
            message = choice.get("message") or choice.get("delta") or choice
            whole["text"] += message.get("content") or message.get("text") or ""
            whole["entries"] += (choice.get("logprobs") or {}).get("content") or []
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
