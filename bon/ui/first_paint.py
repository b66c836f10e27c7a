"""`FirstPaint`: what the browser gets before Gradio's scripts have built the page.

Gradio answers with an empty page, which its scripts fill in part by part. The middleware adds the page's styles, a
still image of it in HTML (`assets/ui/first_paint.html`), which `first_paint.js` removes once all parts are in place,
and the page's own scripts, as one file. It gives the page its content policy, compresses it, and lets the browser cache
the files whose names contain a hash of their contents.
"""

import gzip
from hashlib import sha256

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bon.ui.hosting.content_policy import HEADER, protect_page
from bon.ui.hosting.layers.asgi import path_of, send_changed

Headers = list[tuple[bytes, bytes]]
PASSWORD_NEEDED = b'"auth_required":true'
FOREVER = b"public, max-age=31536000, immutable"


class FirstPaint:
    """ASGI middleware around Gradio's routes.

    head: HTML for the end of the page's head. body: HTML for the beginning of its body. scripts: the page's own, which
    run before Gradio's. spaces: whether the server is a Space.
    """

    def __init__(self, app: ASGIApp, head: str, body: str, scripts: str, spaces: bool):
        self._app, self._head, self._body, self._spaces = app, head.encode(), body.encode(), spaces
        self._scripts = Response(scripts, media_type="text/javascript")
        self._scripts_path = f"/assets/bon-{sha256(self._scripts.body).hexdigest()[:12]}.js"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["method"] == "GET":
            path = path_of(scope)
            if path == self._scripts_path:
                app = self._scripts
            if path == "/":
                send = self._send_page(send, b"gzip" in dict(scope["headers"]).get(b"accept-encoding", b""))
            elif path.startswith("/assets/"):
                send = _send_cached(send)
        await app(scope, receive, send)

    def _send_page(self, send: Send, compress: bool) -> Send:
        """A `send` that sends the page with head and body inserted, in one message."""

        def change(start: Message, page: bytes) -> tuple[Message, bytes]:
            page, policy = protect_page(self._insert(page), self._spaces)
            headers = [*start["headers"], (b"vary", b"Accept-Encoding"), (HEADER.encode(), policy)]
            if compress:
                page = gzip.compress(page, 6)
                headers.append((b"content-encoding", b"gzip"))
            return {**start, "headers": headers}, page

        return send_changed(send, change)

    def _insert(self, page: bytes) -> bytes:
        before_scripts, script, rest = page.partition(b"<script")
        head, end_of_head, body = rest.partition(b"</head>")
        before, tag, after = body.partition(b"<gradio-app")
        scripts_tag = f'<script defer src=".{self._scripts_path}"></script>'.encode()
        if PASSWORD_NEEDED in page:  # Gradio answers with a form for it, which has none of the parts in the image
            return b"".join((before_scripts, scripts_tag, script, rest))
        head = b"".join((before_scripts, scripts_tag, script, head, self._head, end_of_head))
        return b"".join((head, before, self._body, tag, after))


def _send_cached(send: Send) -> Send:
    """A `send` that tells the browser to cache the file forever."""

    async def send_file(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            headers = [*_without(b"cache-control", message["headers"]), (b"cache-control", FOREVER)]
            message = {**message, "headers": headers}
        await send(message)

    return send_file


def _without(name: bytes, headers: Headers) -> Headers:
    return [(header, value) for header, value in headers if header.lower() != name]
