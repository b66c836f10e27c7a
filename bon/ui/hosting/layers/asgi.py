"""What the ASGI layers share: the path of a request, the answer to a refused one, and a body that is read twice."""

from starlette._utils import get_route_path
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope

#: The prefix of Gradio's own routes.
API = "/gradio_api"


def path_of(scope: Scope) -> str:
    """The path of a request without the prefix under which a proxy serves the page."""
    return get_route_path(scope)


def refusal(status: int, line: str) -> JSONResponse:
    """The answer to a refused request: one line, under the two keys that Gradio's scripts read."""
    return JSONResponse({"detail": line, "error": line}, status)


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
