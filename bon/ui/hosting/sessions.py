"""`Sessions`: what Gradio keeps for each session, dropped once nobody uses it.

Any request can name a new session, and every call of the HTTP interface is one of its own.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from datetime import datetime, timedelta
from typing import Any

from gradio import Blocks
from gradio.blocks import BlocksConfig
from gradio.state_holder import SessionState, StateHolder

from bon.ui.hosting.rate_limit import visitor_id

#: How long a session is kept after its last use, how many sessions a visitor may have beside those in use, and how many
#: all visitors together.
KEPT_FOR = timedelta(minutes=10)
VISITOR_SESSIONS, ALL_SESSIONS = 20, 500
#: Within a call that does not go through the queue: the visitor who makes it.
DIRECT_CALLER: ContextVar[str | None] = ContextVar("DIRECT_CALLER", default=None)


class Session(SessionState):
    """A session without the properties and values of all components.

    Gradio keeps those for its deep links, which this page does not offer (layers/open_routes.py): most of a session's
    memory, and of the time that a first request takes.
    """

    blocks_config: BlocksConfig
    config_values: dict[int, Any]
    state_data: dict[int, Any]
    is_closed: bool

    def __init__(self, blocks: Blocks) -> None:
        # Not super().__init__(), which collects them.
        self.blocks_config = copy(blocks.default_config)
        self.config_values = {}
        self.state_data = {}
        self._state_ttl = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = int(KEPT_FOR.total_seconds())

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None:
        """Keeps nothing."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Keeps nothing."""


class Sessions(StateHolder):
    """In place of Gradio's `StateHolder`.

    A session is in use while it has a run that waits or is under way, or an open stream. streams: how many open streams
    each session has, which `OpenStreams` counts.
    """

    streams: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.streams = Counter()
        self._visitors: dict[str, str] = {}

    def __getitem__(self, session_id: str) -> SessionState:
        if is_new := session_id not in self.session_data:
            self.session_data[session_id] = Session(self.blocks)
        state = super().__getitem__(session_id)
        if session_id not in self._visitors:
            events = list(self.blocks._queue.event_ids_to_events.values())
            event = next((event for event in events if event.session_hash == session_id), None)
            if visitor := visitor_id(event.request) if event else DIRECT_CALLER.get():
                self._visitors[session_id] = visitor
                is_new = True
        if is_new:
            self.drop_unused(but=session_id)
        return state

    def delete_all_expired_state(self) -> None:
        """As Gradio's, which calls it each second; drops unused sessions too."""
        super().delete_all_expired_state()
        self.drop_unused()

    def drop_unused(self, but: str | None = None) -> None:
        """Drops the sessions that are not in use and were last used too long ago, or are too many, the oldest first."""
        queue, oldest = self.blocks._queue, datetime.now() - KEPT_FOR
        in_use = {event.session_hash for event in list(queue.event_ids_to_events.values())} | {*self.streams, but}
        unused = [session_id for session_id in list(self.session_data) if session_id not in in_use]
        by_visitor = Counter(map(self._visitors.get, unused))
        left = len(unused)
        for session_id in unused:
            visitor = self._visitors.get(session_id)
            too_many = left > ALL_SESSIONS or (visitor is not None and by_visitor[visitor] > VISITOR_SESSIONS)
            if too_many or self.time_last_used.get(session_id, oldest) <= oldest:
                self._drop(session_id)
                left, by_visitor[visitor] = left - 1, by_visitor[visitor] - 1

    def _drop(self, session_id: str) -> None:
        """Drops a session with the messages that nobody has read."""
        self.delete_state(session_id)
        self.blocks._queue.pending_messages_per_session.pop(session_id, None)
        self.blocks._queue.pending_event_ids_session.pop(session_id, None)
        self.session_data.pop(session_id, None)
        self.time_last_used.pop(session_id, None)
        self._visitors.pop(session_id, None)


@contextmanager
def counted(counts: Counter[str], name: str) -> Iterator[None]:
    """A context in which a name counts one more; names that count 0 are left out."""
    counts[name] += 1
    try:
        yield
    finally:
        counts[name] -= 1
        if not counts[name]:
            del counts[name]
