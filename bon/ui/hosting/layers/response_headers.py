"""`ResponseHeaders`: headers that every answer of the server has, and those of files and of streams.

No browser may take an answer for another type than it says, nor show a visitor's file as a page of this server, nor run
scripts of any answer but the page, and no proxy may hold back the events of a stream.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bon.ui.hosting.content_policy import FILE_POLICY, HEADER
from bon.ui.hosting.layers.asgi import path_of
from bon.ui.hosting.layers.file_names import FILE_ROUTES


class ResponseHeaders:
    """ASGI layer around all routes."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_file = scope["type"] == "http" and path_of(scope).startswith(FILE_ROUTES)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(MutableHeaders(scope=message), is_file)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _add_headers(headers: MutableHeaders, is_file: bool) -> None:
    headers["X-Content-Type-Options"] = "nosniff"
    headers.setdefault(HEADER, FILE_POLICY)  # the page has one already
    if is_file:
        _, _, name = headers.get("content-disposition", "").partition(";")
        headers["Content-Disposition"] = f"attachment;{name}" if name else "attachment"
    if headers.get("content-type", "").startswith("text/event-stream"):
        headers.update({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
