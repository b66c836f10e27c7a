"""`BodyLimits`: counts the bytes of a request's body as they arrive, and answers 413 once they are too many."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bon.messages import say
from bon.ui.hosting import sizes
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.layers.asgi import API, path_of, refusal

UPLOAD = f"{API}/upload"
#: The beginnings of the routes that take the views and the records of runs.
RECORD_ROUTES = (f"{API}/component_server", f"{API}/run/", f"{API}/api/")


class BodyLimits:
    """ASGI layer around all routes. It holds whether or not the request states its length."""

    def __init__(self, app: ASGIApp, deployment: Deployment):
        self._app, self._deployment = app, deployment

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        most = self._most_bytes(path_of(scope))
        answer = refusal(413, say("error.body", most=f"{most / 1e6:.1f}"))
        stated = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(stated) > most:
            return await answer(scope, receive, send)
        bytes_read, refused = 0, False

        async def receive_counted() -> Message:
            nonlocal bytes_read, refused
            message = {"type": "http.disconnect"} if refused else await receive()
            bytes_read += len(message.get("body", b""))
            if bytes_read > most and not refused:
                refused = True
                await answer(scope, receive, send)
            return {"type": "http.disconnect"} if refused else message

        async def send_unless_refused(message: Message) -> None:
            if not refused:
                await send(message)

        try:
            await self._app(scope, receive_counted, send_unless_refused)
        except Exception:
            if not refused:  # else it is Starlette's, about a client that seems to have gone
                raise

    def _most_bytes(self, path: str) -> int:
        if path.startswith(UPLOAD):
            return sizes.upload_bytes(self._deployment)
        return (sizes.record_bytes if path.startswith(RECORD_ROUTES) else sizes.json_bytes)(self._deployment)
