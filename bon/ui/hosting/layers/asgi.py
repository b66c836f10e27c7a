"""What the ASGI layers share: the path of a request, refusals, answers that are changed, bodies that are read twice."""

from collections.abc import Callable

from starlette._utils import get_route_path
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from bon.messages import describe

#: The prefix of Gradio's own routes.
API = "/gradio_api"


def path_of(scope: Scope) -> str:
    """The path of a request without the prefix under which a proxy serves the page."""
    return get_route_path(scope)


def refusal(status: int, line: str) -> JSONResponse:
    """The answer to a refused request: one line, under the two keys that Gradio's scripts read.

    Beside it stand the line's key and values, of which `assets/ui/refusals.js` makes the line in the page's language.
    """
    return JSONResponse({"detail": line, "error": line, "message": describe(line)}, status)


def send_changed(send: Send, change: Callable[[Message, bytes], tuple[Message, bytes]]) -> Send:
    """A `send` that collects a whole answer, and sends in its place what `change` makes of its start and its body."""
    start: Message = {}
    parts: list[bytes] = []

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            changed_start, body = change(start, b"".join(parts))
            MutableHeaders(scope=changed_start)["Content-Length"] = str(len(body))
            await send(changed_start)
            await send({"type": "http.response.body", "body": body})

    return collect


async def read_body(receive: Receive) -> bytes | None:
    """The whole body of a request; None where the client went away."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def receive_again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives this body, and after it what `receive` gives."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_body_first() -> Message:
        return unread.pop() if unread else await receive()

    return receive_body_first
