"""`Hosts`: refuses a request whose host no address can hold, over which Gradio's routes would fail."""

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from bon.messages import say
from bon.ui.hosting.layers.asgi import refusal

#: The header from which Gradio makes the address of the page where a proxy sets it, else from the host.
FORWARDED = b"x-forwarded-host"


class Hosts:
    """ASGI layer around all routes."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value for name, value in scope.get("headers", ()) if name == b"host" or (name == FORWARDED and value)]
        if scope["type"] == "http" and not all(map(_is_host, hosts)):
            return await refusal(400, say("error.host"))(scope, receive, send)
        await self._app(scope, receive, send)


def _is_host(value: bytes) -> bool:
    """Whether an address can have this host, or these, separated by commas."""
    try:
        return all(httpx.URL(f"http://{host.strip()}").host for host in value.decode("latin-1").split(","))
    except (httpx.InvalidURL, UnicodeError, ValueError):
        return False
