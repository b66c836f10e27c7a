"""`DirectCalls`: counts and bounds the calls that do not go through the queue, and counts guesses of the password.

Such calls are the listeners without a queue (`/run`) and the server functions of components. Without a bound they would
take all of the threads in which visitors' runs take their steps.
"""

import asyncio

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from bon.errors import LimitError
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.layers.asgi import path_of, refusal
from bon.ui.hosting.layers.body_limits import RECORD_ROUTES
from bon.ui.hosting.rate_limit import Visitors, visitor_id
from bon.ui.hosting.sessions import DIRECT_CALLER

#: How many such calls are worked on at the same time; others wait.
AT_ONCE = 8
#: How many a visitor of a public page may make in a minute: the page makes one for each change of a field, and one each
#: second while it shows a batch.
CALLS_PER_MINUTE = 600
#: How many passwords a visitor may try in a minute.
LOGINS_PER_MINUTE = 10


class DirectCalls:
    """ASGI layer around all routes."""

    def __init__(self, app: ASGIApp, deployment: Deployment):
        self._app, self._deployment = app, deployment
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._callers = Visitors(CALLS_PER_MINUTE, "error.calls")
        self._guessers = Visitors(LOGINS_PER_MINUTE, "error.calls")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope) if scope["type"] == "http" else ""
        is_login, is_call = path.rstrip("/") == "/login", path.startswith(RECORD_ROUTES)
        try:
            visitor = visitor_id(Request(scope)) if is_login or is_call else None
            if visitor and (is_login or self._deployment.public):
                counted = self._guessers if is_login else self._callers
                counted.admit(visitor)
        except LimitError as error:
            return await refusal(429, error.message)(scope, receive, send)
        if not is_call:
            return await self._app(scope, receive, send)
        DIRECT_CALLER.set(visitor)
        async with self._turns:
            await self._app(scope, receive, send)
