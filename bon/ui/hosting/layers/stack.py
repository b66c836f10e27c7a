"""`layers`: all ASGI layers of a page, in order; and the routes and handlers of errors beside Gradio's."""

import errno
from typing import Any

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bon.messages import Message, say
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.error_log import UNEXPECTED, explain
from bon.ui.hosting.layers.asgi import refusal
from bon.ui.hosting.layers.body_limits import BodyLimits
from bon.ui.hosting.layers.direct_calls import DirectCalls
from bon.ui.hosting.layers.file_names import FileNames
from bon.ui.hosting.layers.json_bodies import JsonBodies
from bon.ui.hosting.layers.open_routes import OpenRoutes
from bon.ui.hosting.layers.open_streams import OpenStreams
from bon.ui.hosting.layers.response_headers import ResponseHeaders
from bon.ui.hosting.senders.hosts import Hosts
from bon.ui.hosting.senders.visitor_addresses import VisitorAddresses
from bon.ui.hosting.senders.websites import Frames, Websites
from bon.ui.hosting.uploads import Uploads


def layers(deployment: Deployment, uploads: Uploads) -> list[Middleware]:
    """The layers of a page, the outermost first: each sees only what the ones before it let pass."""
    return [
        Middleware(Frames, deployment=deployment),
        Middleware(ResponseHeaders),
        Middleware(VisitorAddresses, deployment=deployment),
        Middleware(Hosts, deployment=deployment),
        Middleware(Websites, deployment=deployment),
        Middleware(OpenRoutes),
        Middleware(BodyLimits, deployment=deployment),
        Middleware(DirectCalls, deployment=deployment),
        Middleware(JsonBodies, deployment=deployment),
        Middleware(FileNames, uploads=uploads),
        Middleware(OpenStreams),
    ]


def server_options() -> dict[str, Any]:
    """The arguments of the application for its own route, and for the answers to errors that routes raise."""
    handlers = {OSError: _explain_failure, HTTPException: _answer_with_key}
    return {"routes": [Route("/health", _health)], "exception_handlers": handlers}


def _health(_: Request) -> Response:
    """The answer to whoever watches the server: without a session, a limit or a line in the log."""
    return PlainTextResponse("ok")


def _answer_with_key(_: Request, error: Exception) -> Response:
    """The answer where a route refuses a request: as the layers', for a message that has a key."""
    assert isinstance(error, HTTPException)
    if isinstance(error.detail, Message):
        return refusal(error.status_code, error.detail)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def _explain_failure(_: Request, error: Exception) -> JSONResponse:
    """The answer where a route raises an `OSError`, which Gradio's own files raise for a name that no file can have."""
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return refusal(404, say("error.no_such_route"))
    message = explain("A request failed", error)
    return refusal(500 if message == UNEXPECTED else 507, message)
