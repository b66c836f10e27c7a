"""What a browser has of the page before Gradio's scripts have built it: the styles, and a still of it to look at.

Gradio answers with an empty page that its scripts then fill in, part by part. Here the answer gets our styles and a
still (`assets/ui/arrival.html`), which `assets/ui/page.js` takes away once all parts stand where they belong. It also
goes out compressed, as Gradio's own files do, and those the browser may keep, for their names tell their contents.
"""

import gzip
from collections.abc import Awaitable, Callable
from typing import Any

Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
FOREVER = b"public, max-age=31536000, immutable"


class Arrival:
    """ASGI middleware around Gradio's routes.

    head: markup for the end of the page's head. body: markup for the beginning of its body.
    """

    def __init__(self, app: Callable, head: str, body: str):
        self._app, self._head, self._body = app, head, body

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            if scope["path"] == "/":
                send = self._filled_in(send, b"gzip" in dict(scope["headers"]).get(b"accept-encoding", b""))
            elif scope["path"].startswith("/assets/"):
                send = _kept(send)
        await self._app(scope, receive, send)

    def _filled_in(self, send: Send, compress: bool) -> Send:
        """Sends the page with head and body put in, in one piece."""
        start, parts = {}, []

        async def send_page(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            page = self._put_in(b"".join(parts))
            more = [(b"vary", b"Accept-Encoding")]
            if compress:
                page = gzip.compress(page, 6)
                more.append((b"content-encoding", b"gzip"))
            more.append((b"content-length", str(len(page)).encode()))
            await send({**start, "headers": [*_without(b"content-length", start["headers"]), *more]})
            await send({"type": "http.response.body", "body": page})

        return send_page

    def _put_in(self, page: bytes) -> bytes:
        head, end_of_head, body = page.partition(b"</head>")
        before, tag, after = body.partition(b"<gradio-app")
        return b"".join((head, self._head.encode(), end_of_head, before, self._body.encode(), tag, after))


def _kept(send: Send) -> Send:
    """Sends a file that the browser need not ask for again."""

    async def send_file(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            headers = [*_without(b"cache-control", message["headers"]), (b"cache-control", FOREVER)]
            message = {**message, "headers": headers}
        await send(message)

    return send_file


def _without(name: bytes, headers: Headers) -> Headers:
    return [(known, value) for known, value in headers if known.lower() != name]
