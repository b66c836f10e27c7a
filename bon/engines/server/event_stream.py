"""An answer that a server streams, as chunks of the official client's types, and whether it was sent to its end."""

import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

from bon.engines.server.connection import openai_library
from bon.engines.server.limits import LimitReached
from bon.engines.server.refusals import ReportedError

#: The text of the event that ends a stream.
DONE = "[DONE]"


class StreamedResponse(Protocol):
    """What is used of the HTTP client's response."""

    headers: Any
    request: Any

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The bytes as they arrive."""

    async def aclose(self) -> None:
        """Closes the connection."""


class EventStream:
    """The chunks of an answer of server-sent events; the whole answer as one chunk where the server does not stream.

    The official client does not tell a stream that was sent to its end from one that was broken off, which only texts
    without a reason to finish need. complete: whether the end was sent.
    """

    complete: bool

    def __init__(self, response: StreamedResponse, is_chat: bool):
        types = openai_library().types
        self._response, self.complete = response, False
        self._chunk_type = types.chat.ChatCompletionChunk if is_chat else types.Completion
        self._answer_type = types.chat.ChatCompletion if is_chat else types.Completion

    async def __aenter__(self) -> "EventStream":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._response.aclose()

    async def __aiter__(self) -> AsyncIterator[Any]:
        """The chunks. Raises `ReportedError` for an error in a chunk's place, `ValueError` for what is no JSON, and the
        client's `APIConnectionError` where the connection breaks.
        """
        if "json" in self._response.headers.get("content-type", ""):  # from a server that does not stream
            answer = json.loads("\n".join([line async for line in self._lines()]))
            self.complete = True
            yield self._answer_type.construct(**answer) if isinstance(answer, dict) else answer
            return
        async for name, data in self._events():
            if data == DONE:
                self.complete = True
                return
            fields = json.loads(data)
            error = fields.get("error") if isinstance(fields, dict) else None
            if error or name == "error":
                raise ReportedError(error if isinstance(error, dict) else fields)
            if not isinstance(fields, dict):
                raise ValueError("an event that is no JSON object")
            yield self._chunk_type.construct(**fields)

    async def _events(self) -> AsyncIterator[tuple[str, str]]:
        """The events as name and data. A line `error: {...}`, which old servers of llama.cpp send, is one, too."""
        name, data = "", list[str]()
        async for line in self._lines():
            field, _, value = line.partition(":")
            if field == "event":
                name = value.strip()
            elif field == "data":
                data.append(value.removeprefix(" "))
            elif field == "error":
                yield "error", value.strip()
            elif not line and data:
                yield name, "\n".join(data).strip()
                name, data = "", []
        if data:
            yield name, "\n".join(data).strip()

    async def _lines(self) -> AsyncIterator[str]:
        """The lines as they arrive, ended by CR and LF alone.

        The HTTP client's own lines end, too, at characters such as U+2028, which vLLM writes into its JSON as they are.
        """
        unfinished = b""
        try:
            async for part in self._response.aiter_bytes():
                lines = (unfinished + part).splitlines(keepends=True)
                unfinished = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
                for line in lines:
                    yield line.rstrip(b"\r\n").decode(errors="replace")
        except LimitReached:
            raise
        except Exception as error:  # of the HTTP client's types, whose module differs by the official client's version
            raise openai_library().APIConnectionError(request=self._response.request) from error
        if unfinished:
            yield unfinished.rstrip(b"\r").decode(errors="replace")
