"""`BoundedConnection`: uvicorn's connection of a client, with bounds that keep idle ones from locking everybody out.

Each connection costs a file handle, of which a process has a limited number, often 1,024. uvicorn has no time limit for
a request that arrives in part, and its limit of connections would turn visitors away because of idle ones.
"""

import asyncio
import contextlib
import ipaddress
import math
from typing import Any, cast

import h11
import uvicorn
from gradio import Blocks
from gradio.routes import App
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from bon.messages import say
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.error_log import log
from bon.ui.hosting.rate_limit import visitor_id

try:
    import resource
except ImportError:  # Windows, whose processes have no such limit
    RESOURCE: Any = None
else:
    RESOURCE = resource

#: Seconds in which the head of a request must arrive; those that its body may pause; those in which a client must take
#: something of an answer that is ready for it.
HEAD_SECONDS, BODY_SECONDS, ANSWER_SECONDS = 10.0, 30.0, 60.0
#: The most connections of one address, unless it is a proxy's.
PEER_CONNECTIONS = 64
#: The most file handles to ask the system for, and the share of them that connections may take.
HANDLES, CONNECTIONS_SHARE = 65_536, 0.8
#: The most connections that wait for the server to accept them, and their share of the handles: some hundred may be
#: accepted before the first of them is counted.
BACKLOG, BACKLOG_SHARE = 2048, 0.05


def raise_handle_limit() -> None:
    """Lets this process have `HANDLES` file handles, or as many as the system allows."""
    if RESOURCE:
        soft, hard = RESOURCE.getrlimit(RESOURCE.RLIMIT_NOFILE)
        most = HANDLES if hard == RESOURCE.RLIM_INFINITY else min(hard, HANDLES)
        if soft != RESOURCE.RLIM_INFINITY and soft < most:
            with contextlib.suppress(OSError, ValueError):  # macOS allows less than it says
                RESOURCE.setrlimit(RESOURCE.RLIMIT_NOFILE, (most, hard))


def handle_limit() -> float:
    """The most file handles that this process may have."""
    soft = RESOURCE.getrlimit(RESOURCE.RLIMIT_NOFILE)[0] if RESOURCE else -1
    return math.inf if soft < 0 or soft == RESOURCE.RLIM_INFINITY else soft


def server_config(**options: Any) -> uvicorn.Config:
    """The configuration of a server that keeps the bounds, in place of the one that Gradio makes with these options.

    The page has its deployment as an attribute (`page.build`).
    """
    app = options["app"]
    app.state.connections = OpenConnections(getattr(app.blocks, "deployment", Deployment()))
    backlog = max(1, int(min(BACKLOG, BACKLOG_SHARE * handle_limit())))
    # A WebSocket, which the page does not use, would escape the bounds. `VisitorAddresses` reads proxies' headers.
    return uvicorn.Config(**options, http=BoundedConnection, ws="none", backlog=backlog, proxy_headers=False)


class OpenConnections:
    """The connections of one server, which closes some where they are too many."""

    def __init__(self, deployment: Deployment):
        self._deployment = deployment
        self._of_peer: dict[str, set[BoundedConnection]] = {}
        #: Those from which no whole request has arrived since the last answer, the longest such first.
        self._idle: dict[BoundedConnection, None] = {}
        self._most_handles = CONNECTIONS_SHARE * handle_limit()

    def add(self, connection: "BoundedConnection") -> None:
        """Takes a new connection in. Where there are too many, closes the longest idle one of the same peer or of all.
        """
        of_peer = self._of_peer.setdefault(connection.peer, set())
        of_peer.add(connection)
        self._idle[connection] = None
        if len(of_peer) > PEER_CONNECTIONS and not self._is_proxy(connection):
            self._close(next(idle for idle in self._idle if idle in of_peer))
            log.warning("%s", say("warning.peer_connections", most=PEER_CONNECTIONS, variable="BON_PROXIES"))
        elif connection.handle >= self._most_handles:
            self._close(next(iter(self._idle)))
            log.warning("%s", say("warning.handles"))

    def _close(self, connection: "BoundedConnection") -> None:
        self.remove(connection)
        connection.transport.abort()

    def _is_proxy(self, connection: "BoundedConnection") -> bool:
        """Whether many visitors share this peer: a stated proxy, a Space's, or the tunnel of a share link."""
        is_shared = bool(connection.page.share_url) and ipaddress.ip_address(connection.peer).is_loopback
        return bool(self._deployment.proxies) or self._deployment.spaces or is_shared

    def mark(self, connection: "BoundedConnection", idle: bool) -> None:
        """States whether a connection is idle from now on."""
        if not idle:
            self._idle.pop(connection, None)
        elif connection in self._of_peer.get(connection.peer, ()):
            self._idle.setdefault(connection)

    def remove(self, connection: "BoundedConnection") -> None:
        """Forgets a connection that is closed."""
        self._idle.pop(connection, None)
        of_peer = self._of_peer.get(connection.peer, set())
        of_peer.discard(connection)
        if not of_peer:
            self._of_peer.pop(connection.peer, None)


class BoundedConnection(H11Protocol):
    """A client's connection.

    page: what is served. peer: the address of the other end. handle: the number of its file handle; the system gives
    the lowest that is free, so that at least as many are in use.
    """

    page: Blocks
    peer: str
    handle: int

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        app = cast(App, self.config.app)
        self.page, self._open = app.get_blocks(), cast(OpenConnections, app.state.connections)
        self._timeout: asyncio.TimerHandle | None = None
        self._answer_timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Gives the connection's first request the time for its head."""
        super().connection_made(transport)
        self.peer = visitor_id(Request({"type": "http", "headers": [], "client": self.client}))
        self.handle = transport.get_extra_info("socket").fileno()
        self._wait_for_client(HEAD_SECONDS)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._stop_waiting()
        self.resume_writing()
        self._open.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Starts or prolongs the time for what is missing of a request."""
        super().data_received(data)
        if self.conn.their_state is h11.SEND_BODY:
            self._stop_waiting()
            self._wait_for_client(BODY_SECONDS)
        elif self.conn.their_state is h11.IDLE:
            self._wait_for_client(HEAD_SECONDS)
        else:
            self._stop_waiting()
        self._mark()

    def on_response_complete(self) -> None:
        """Leaves the time until the next request to uvicorn, which gives it a few seconds."""
        super().on_response_complete()
        self._mark()

    def pause_writing(self) -> None:
        """Gives a client that does not read the time to go on."""
        super().pause_writing()
        self._answer_timeout = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Ends that time."""
        super().resume_writing()
        if self._answer_timeout:
            self._answer_timeout.cancel()

    def _mark(self) -> None:
        is_whole = self.conn.their_state in (h11.DONE, h11.MUST_CLOSE)
        self._open.mark(self, idle=not is_whole or self.cycle.response_complete)

    def _wait_for_client(self, seconds: float) -> None:
        self._timeout = self._timeout or self.loop.call_later(seconds, self._end_wait, seconds)

    def _stop_waiting(self) -> None:
        if self._timeout:
            self._timeout.cancel()
            self._timeout = None

    def _end_wait(self, seconds: float) -> None:
        self._timeout = None
        if self.flow.read_paused:  # the server itself does not read
            self._wait_for_client(seconds)
        else:
            self.transport.abort()
