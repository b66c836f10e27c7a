"""`Websites` and `Frames`: what other websites may do with this page through the browsers of their visitors.

A page that is open to everybody may be called from any website, without the visitor's cookies. Any other page answers
its own scripts alone, and is shown in a frame by itself, by the Hub where it is a Space, and by the owner's websites.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bon.messages import say
from bon.ui.hosting.content_policy import HEADER, HUB
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.layers.asgi import refusal
from bon.ui.hosting.senders.hosts import named_hosts

#: The websites that show Spaces.
HUB_WEBSITES = (HUB, "https://*.huggingface.co")
#: The answer to a browser that asks whether another website may send a request.
PREFLIGHT = {"Access-Control-Allow-Methods": "*", "Access-Control-Allow-Headers": "*", "Access-Control-Max-Age": "600"}
PORTS = {"http": 80, "https": 443}


class Websites:
    """ASGI layer around all routes, in place of Gradio's own (CORS)."""

    def __init__(self, app: ASGIApp, deployment: Deployment):
        self._app, self._deployment = app, deployment

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if not self._deployment.keeps_websites_out:
            asks = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
            answer = Response(status_code=204, headers=PREFLIGHT) if asks else self._app
            return await answer(scope, receive, _send_with(send, "Access-Control-Allow-Origin", "*"))
        origin = headers.get("origin")
        if not (origin is None or scope["method"] == "GET" or self._is_own(origin, headers)):
            return await refusal(403, say("error.other_website", variable="BON_PROXIES"))(scope, receive, send)
        await self._app(scope, receive, send)

    def _is_own(self, origin: str, headers: Headers) -> bool:
        """Whether a script of this page sends the request: one from the host that the request names."""
        try:
            site = urlsplit(origin)
            names = [*named_hosts(headers, self._deployment), self._deployment.space_host]
            hosts = [urlsplit(f"//{name}") for name in names]
            port = PORTS[site.scheme]
            return (site.hostname, site.port or port) in [(host.hostname, host.port or port) for host in hosts]
        except (KeyError, ValueError):
            return False


class Frames:
    """ASGI layer around all routes and all layers that give an answer its other policies."""

    def __init__(self, app: ASGIApp, deployment: Deployment):
        self._app, self._keeps_out = app, deployment.keeps_websites_out
        websites = [*(HUB_WEBSITES if deployment.spaces else ()), *deployment.frames]
        self._policy = " ".join(["frame-ancestors 'self'", *websites])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, _send_with(send, HEADER, self._policy) if self._keeps_out else send)


def _send_with(send: Send, name: str, value: str) -> Send:
    """A `send` that adds a header to the answer."""

    async def send_with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).append(name, value)
        await send(message)

    return send_with_header
