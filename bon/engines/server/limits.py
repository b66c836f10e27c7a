"""Limits on what a server may send and how long it may take, so that no run waits or grows without end."""

import importlib
import json
import math
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from bon.engines.server.refusals import demands_payment
from bon.errors import InputError
from bon.messages import Message, say

FIRST_TEXT, PAUSE = "BON_SERVER_FIRST_TEXT_SECONDS", "BON_SERVER_PAUSE_SECONDS"
REQUEST, ANSWER = "BON_SERVER_REQUEST_SECONDS", "BON_SERVER_ANSWER_BYTES"
#: Seconds and bytes that a token may take, and bytes more for each alternative that is listed beside it.
SECONDS_PER_TOKEN, BYTES_PER_TOKEN, BYTES_PER_ALTERNATIVE = 1.0, 2000, 100
#: The most bytes of an answer that is no text, such as the list of models.
OTHER_ANSWER_BYTES = 20_000_000
#: The most seconds that such an answer may take.
OTHER_ANSWER_SECONDS = 60.0
#: The status of an answer that limits the rate of requests, or says that nothing is left to pay with.
RATE_LIMITED = 429
#: How much more a byte of a compressed answer counts: bon asks for none, and one could unpack to a thousand.
COMPRESSED = 20

#: A first text may arrive while another limit is waited for: so the limits are looked at again after so many seconds.
RECHECK_SECONDS = 0.25


class LimitReached(Exception):
    """A server's answer exceeds a limit. key, values: of the message that says which and names how to set it."""

    key: str
    values: dict[str, str]

    def __init__(self, key: str, **values: str) -> None:
        super().__init__(key)
        self.key, self.values = key, values

    def explain(self, url: str) -> Message:
        """The message on the server at this address."""
        return say(self.key, url=url, **self.values)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits on an answer of a server.

    first_text: seconds without any sign of life until a request's first text. pause: seconds between two pieces of its
    text from then on. request, answer: seconds and bytes of a whole answer; None for what `for_request` computes.
    """

    first_text: float = 300.0
    pause: float = 60.0
    request: float | None = None
    answer: float | None = None

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> "Limits":
        """The limits that the environment sets. Raises `InputError`, which names the variable, for no such number."""
        values = {}
        names = {"first_text": FIRST_TEXT, "pause": PAUSE, "request": REQUEST, "answer": ANSWER}
        for name, variable in names.items():
            if text := environment.get(variable, "").strip():
                values[name] = _positive(variable, text)
        return cls(**values)

    def watch(self, tokens: int, texts: int, alternatives: int = 0) -> "AnswerWatch":
        """The watch over an answer of so many texts of at most so many tokens, each listed with so many alternatives.
        """
        seconds = max(600.0, SECONDS_PER_TOKEN * tokens * texts) if self.request is None else self.request
        per_token = BYTES_PER_TOKEN + alternatives * BYTES_PER_ALTERNATIVE
        size = 1e6 + per_token * tokens * texts if self.answer is None else self.answer
        return AnswerWatch(self, seconds, size)


def _positive(variable: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(variable, say("error.server_limit_invalid", name=variable, value=repr(text[:40])))
    return value


class AnswerWatch:
    """What has arrived of one answer, and when, against its limits."""

    has_text: bool

    def __init__(self, limits: Limits, seconds: float, size: float) -> None:
        self._limits, self._seconds, self._size = limits, seconds, size
        self._received, self._sent = 0.0, time.monotonic()
        self._began: float | None = None
        self._last_byte = self._last_text = self._sent
        self.has_text = False

    def begin(self) -> None:
        """Notes that the server began to answer, again where the client repeated the request."""
        self._began, self._received = time.monotonic(), 0.0

    def count(self, size: float) -> None:
        """Counts bytes that arrived. Raises `LimitReached` for too many, or too late."""
        self._last_byte, self._received = time.monotonic(), self._received + size
        if self._received > self._size:
            raise LimitReached("error.server_answer_too_long", limit=f"{self._size:.0f}", variable=ANSWER)
        if self._began is not None and self._last_byte > self._began + self._seconds:
            raise LimitReached("error.server_answer_endless", seconds=f"{self._seconds:g}", variable=REQUEST)

    def note_text(self) -> None:
        """Notes that a piece of a text arrived."""
        self._last_text, self.has_text = time.monotonic(), True

    def seconds_left(self, last_arrival: float) -> float:
        """Seconds to wait before the next look at the limits. Raises `LimitReached` where one is reached.

        last_arrival: when the server last sent anything to any request: behind others, one may wait long for its first
        text. From then on, what holds a connection open without a text counts as silence.
        """
        now, limits = time.monotonic(), self._limits
        if self.has_text:
            left, seconds, variable = self._last_text + limits.pause - now, limits.pause, PAUSE
        else:
            heard = max(self._last_byte, last_arrival)
            left, seconds, variable = heard + limits.first_text - now, limits.first_text, FIRST_TEXT
        if self._began is not None and (whole := self._began + self._seconds - now) < left:
            left, seconds, variable = whole, self._seconds, REQUEST
        if left > 0:
            return min(left, RECHECK_SECONDS)
        if variable == REQUEST:
            raise LimitReached("error.server_answer_endless", seconds=f"{seconds:g}", variable=REQUEST)
        if variable == PAUSE:
            raise LimitReached("error.server_fell_silent", seconds=f"{seconds:g}", variable=PAUSE)
        raise ServerIdle("error.server_silent", seconds=f"{seconds:g}", variable=FIRST_TEXT)


class ServerIdle(LimitReached):
    """The server has sent nothing for too long; a request of its own may yet be answered."""


#: The watch over the answer that the current task waits for.
current_watch: ContextVar[AnswerWatch | None] = ContextVar("current_watch", default=None)


def bounded_http_client(client_class: Any) -> Any:
    """An HTTP client for the official client, of the class `DefaultHttpxClient` or `DefaultAsyncHttpxClient`.

    It counts the bytes of every answer, errors included, and refuses to follow a redirect to another host, which would
    get prompts and key. The official client repeats what is answered with 429, but not where this demands payment.
    """
    is_async = hasattr(client_class, "__aenter__")

    async def check_async(response: Any) -> None:
        _bound(response, is_async)
        if response.status_code == RATE_LIMITED:
            await response.aread()
            _forbid_retry(response)

    def check(response: Any) -> None:
        _bound(response, is_async)

    hooks = {"response": [check_async if is_async else check]}
    return client_class(event_hooks=hooks, headers={"Accept-Encoding": "identity"})


def _forbid_retry(response: Any) -> None:
    """Keeps the official client from repeating a request for which the account has nothing left to pay with."""
    with suppress(ValueError):  # no JSON
        if demands_payment(json.loads(response.text)):
            response.headers["x-should-retry"] = "false"


def _bound(response: Any, is_async: bool) -> None:
    if response.has_redirect_location:
        target = response.request.url.join(response.headers["location"])
        if target.host != response.request.url.host:
            raise LimitReached("error.server_redirects", host=str(target.host)[:200])
    watch = current_watch.get() or AnswerWatch(Limits(), OTHER_ANSWER_SECONDS, OTHER_ANSWER_BYTES)
    watch.begin()
    weight = COMPRESSED if response.headers.get("content-encoding", "identity") != "identity" else 1
    library = importlib.import_module(type(response).__module__.partition(".")[0])  # httpx, or httpx2 in newer clients
    base, stream = (library.AsyncByteStream, _AsyncStream) if is_async else (library.SyncByteStream, _Stream)
    response.stream = type(stream.__name__, (stream, base), {})(response.stream, watch, weight)


class _Stream:
    """The bytes of an answer, counted."""

    def __init__(self, stream: Any, watch: AnswerWatch, weight: int) -> None:
        self._stream, self._watch, self._weight = stream, watch, weight

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            self._watch.count(self._weight * len(part))
            yield part

    def close(self) -> None:
        """Closes the connection's stream."""
        self._stream.close()


class _AsyncStream:
    """The bytes of an answer, counted."""

    def __init__(self, stream: Any, watch: AnswerWatch, weight: int) -> None:
        self._stream, self._watch, self._weight = stream, watch, weight

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            self._watch.count(self._weight * len(part))
            yield part

    async def aclose(self) -> None:
        """Closes the connection's stream."""
        await self._stream.aclose()
