"""`OpenRoutes`: answers 404 for the routes of Gradio that the page, its clients and its agents do not use.

Among those are stored copies of whole pages, the owner's statistics, editors of the source, a proxy, and pictures of
any size that a visitor names.
"""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from bon.messages import say
from bon.ui.hosting.layers.asgi import API, path_of, refusal

#: The open routes below `API`, without a slash at their end.
API_ROUTES = (
    "user", "login_check", "token", "app_id", "info", "openapi.json", "theme.css", "startup-events",
    "file=.*", "file/.*", "upload", "upload_progress", "component_server", "cancel", "reset", "heartbeat/[^/]*",
    "queue/(?:join|data|status)", "(?:run|api)/[^/]*", "call/(?:v2/)?[^/]*(?:/[^/]*)?", "mcp(?:/.*)?",
)
#: The other open routes.
PAGE_ROUTES = (
    "/", "/config", "/health", "/login", "/logout", "/assets/.*", "/static/.*", "/favicon.ico", "/theme.css",
    "/robots.txt", "/manifest.json", "/pwa_icon",
)
OPEN = re.compile("|".join([*(f"{API}/{route}/?" for route in API_ROUTES), *(f"{route}/?" for route in PAGE_ROUTES)]),
                  re.DOTALL)


class OpenRoutes:
    """ASGI layer around all routes."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not OPEN.fullmatch(path_of(scope)):
            return await refusal(404, say("error.no_such_route"))(scope, receive, send)
        await self._app(scope, receive, send)
