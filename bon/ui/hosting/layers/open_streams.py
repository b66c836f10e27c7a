"""`OpenStreams`: tells the queue which runs are read: those of sessions whose stream is open and taken by a client."""

import asyncio
import json
from contextlib import ExitStack
from urllib.parse import parse_qs

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bon.messages import say
from bon.ui.hosting.fair_queue import FairQueue
from bon.ui.hosting.layers.asgi import API, path_of

#: The streams of the page's sessions and of runs over HTTP.
SESSION_STREAM, RUN_STREAMS = f"{API}/queue/data", f"{API}/call/"
#: Seconds after which a client that takes nothing of its stream does not count as reading it.
TAKEN_SECONDS = 1.0


class OpenStreams:
    """ASGI layer around the routes of streams."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope) if scope["type"] == "http" and scope["method"] == "GET" else ""
        is_run = path.startswith(RUN_STREAMS)
        queue = scope["app"].get_blocks()._queue if is_run or path.rstrip("/") == SESSION_STREAM else None
        if not isinstance(queue, FairQueue):  # as on ZeroGPU
            return await self._app(scope, receive, send)
        session = _session_of_run(queue, path) if is_run else _session_of_query(scope)
        if is_run and session not in queue.pending_messages_per_session:
            line = json.dumps({"error": say("error.no_such_run")})
            answer = Response(f"event: error\ndata: {line}\n\n", media_type="text/event-stream")
            return await answer(scope, receive, send)
        with ExitStack() as reading:
            reading.enter_context(queue.reading(session))

            async def send_watched(message: Message) -> None:
                timer = asyncio.get_running_loop().call_later(TAKEN_SECONDS, reading.close)
                await send(message)
                timer.cancel()
                if asyncio.get_running_loop().time() >= timer.when():
                    reading.enter_context(queue.reading(session))

            await self._app(scope, receive, send_watched)


def _session_of_run(queue: FairQueue, path: str) -> str:
    """The session of the run that a path ends in, as Gradio finds it."""
    event_id = path.rstrip("/").rpartition("/")[2]
    if event := queue.event_ids_to_events.get(event_id):
        return event.session_hash
    sessions = (session for session, ids in queue.pending_event_ids_session.items() if event_id in ids)
    return next(sessions, event_id)


def _session_of_query(scope: Scope) -> str:
    return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
