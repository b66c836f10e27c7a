"""`FirstPaint`: what the browser paints before Gradio's scripts have built the page.

Gradio answers with an empty page, which its scripts fill in part by part. The middleware adds the page's styles and a
still image of it in HTML (`assets/ui/first_paint.html`), which `first_paint.js` removes once all parts are in place. It
compresses the page, and lets the browser cache Gradio's own files, whose names contain a hash of their contents.
"""

import gzip
from collections.abc import Awaitable, Callable
from typing import Any

Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
PASSWORD_NEEDED = b'"auth_required":true'
FOREVER = b"public, max-age=31536000, immutable"


class FirstPaint:
    """ASGI middleware around Gradio's routes.

    head: HTML for the end of the page's head. body: HTML for the beginning of its body.
    """

    def __init__(self, app: Callable, head: str, body: str):
        self._app, self._head, self._body = app, head, body

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            if scope["path"] == "/":
                send = self._send_page(send, b"gzip" in dict(scope["headers"]).get(b"accept-encoding", b""))
            elif scope["path"].startswith("/assets/"):
                send = _send_cached(send)
        await self._app(scope, receive, send)

    def _send_page(self, send: Send, compress: bool) -> Send:
        """A `send` that collects the page and sends it with head and body inserted, in one message."""
        start: dict[str, Any] = {}
        parts: list[bytes] = []

        async def send_page(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            page = self._insert(b"".join(parts))
            headers = [*_without(b"content-length", start["headers"]), (b"vary", b"Accept-Encoding")]
            if compress:
                page = gzip.compress(page, 6)
                headers.append((b"content-encoding", b"gzip"))
            headers.append((b"content-length", str(len(page)).encode()))
            await send({**start, "headers": headers})
            await send({"type": "http.response.body", "body": page})

        return send_page

    def _insert(self, page: bytes) -> bytes:
        if PASSWORD_NEEDED in page:  # Gradio answers with a form for it, which has none of the parts in the image
            return page
        head, end_of_head, body = page.partition(b"</head>")
        before, tag, after = body.partition(b"<gradio-app")
        return b"".join((head, self._head.encode(), end_of_head, before, self._body.encode(), tag, after))


def _send_cached(send: Send) -> Send:
    """A `send` that tells the browser to cache the file forever."""

    async def send_file(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            headers = [*_without(b"cache-control", message["headers"]), (b"cache-control", FOREVER)]
            message = {**message, "headers": headers}
        await send(message)

    return send_file


def _without(name: bytes, headers: Headers) -> Headers:
    return [(header, value) for header, value in headers if header.lower() != name]
