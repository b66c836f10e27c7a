"""`OpenStreams`: which sessions have an open stream, for `Sessions`, and whose streams are read, for the queue."""

import asyncio
import json
from contextlib import ExitStack
from urllib.parse import parse_qs

from gradio.queueing import Queue
from gradio.server_messages import UnexpectedErrorMessage
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bon.messages import say
from bon.ui.hosting.fair_queue import FairQueue
from bon.ui.hosting.layers.asgi import API, path_of
from bon.ui.hosting.sessions import Sessions, counted

#: Seconds after which a client that takes nothing of its stream does not count as reading it.
TAKEN_SECONDS = 1.0


class OpenStreams:
    """ASGI layer around the routes whose answers stay open: the events of a session or of a run, and the heartbeat.

    A session with any of them is in use. Its runs are read while a client takes what a stream of events sends.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope) if scope["type"] == "http" and scope["method"] == "GET" else ""
        route, _, rest = path.removeprefix(f"{API}/").rstrip("/").partition("/")
        if route not in ("call", "heartbeat") and (route, rest) != ("queue", "data"):
            return await self._app(scope, receive, send)
        queue, sessions = scope["app"].get_blocks()._queue, scope["app"].state_holder
        assert isinstance(sessions, Sessions)
        session = (rest if route == "heartbeat" else _session_of_run(queue, rest) if route == "call" else
                   parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0])
        with counted(sessions.streams, session):
            if route == "queue" and session not in queue.pending_messages_per_session:  # Gradio fails, and logs it
                event = UnexpectedErrorMessage(message="", session_not_found=True)
                await _stream_of(f"data: {event.model_dump_json()}\n\n")(scope, receive, send)
            elif route == "heartbeat" or not isinstance(queue, FairQueue):  # which it is not on ZeroGPU
                await self._app(scope, receive, send)
            elif route == "call" and session not in queue.pending_messages_per_session:
                line = json.dumps({"error": say("error.no_such_run")})
                await _stream_of(f"event: error\ndata: {line}\n\n")(scope, receive, send)
            else:
                await self._read(queue, session, scope, receive, send)

    async def _read(self, queue: FairQueue, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends a stream of events, and tells the queue while the client takes them."""
        with ExitStack() as reading:
            reading.enter_context(queue.reading(session))

            async def send_watched(message: Message) -> None:
                timer = asyncio.get_running_loop().call_later(TAKEN_SECONDS, reading.close)
                await send(message)
                timer.cancel()
                if asyncio.get_running_loop().time() >= timer.when():
                    reading.enter_context(queue.reading(session))

            await self._app(scope, receive, send_watched)


def _stream_of(event: str) -> Response:
    return Response(event, media_type="text/event-stream")


def _session_of_run(queue: Queue, path: str) -> str:
    """The session of the run that a path ends in, as Gradio finds it."""
    event_id = path.rpartition("/")[2]
    if event := queue.event_ids_to_events.get(event_id):
        return event.session_hash
    sessions = (session for session, ids in queue.pending_event_ids_session.items() if event_id in ids)
    return next(sessions, event_id)
