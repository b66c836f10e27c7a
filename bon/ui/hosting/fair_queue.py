"""`FairQueue`: Gradio's queue, in which visitors take turns, and runs that are read go before those that nobody reads.

It changes which run begins next. The number of places, their threads, the length of the queue and the positions that
visitors see stay Gradio's. It relies on how Gradio 6.31 does this, as `tests/ui/hosting/test_fair_queue.py` checks.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.queueing import Event, EventQueue, Queue
from gradio.server_messages import ProcessCompletedMessage

from bon.messages import say
from bon.ui.hosting.rate_limit import visitor_id
from bon.ui.hosting.sessions import counted

#: The share of a queue's places that one visitor has while others wait.
SHARE = 0.75
#: Seconds after which a run that nobody reads is stopped while others wait; those for which a result can be read.
UNREAD_SECONDS, KEPT_SECONDS = 60.0, 600.0
#: Seconds until the next try where no run may begin.
RETRY_SECONDS = 0.05


def share_places(page: gr.Blocks) -> None:
    """Makes the queue of a page fair. Gradio makes it itself, always of its own class."""
    page._queue.__class__ = FairQueue
    cast(FairQueue, page._queue).prepare()


class FairQueue(Queue):
    """The queue of a page. `share_places` makes one of Gradio's queues into it."""

    def prepare(self) -> None:
        """Gives the queue its own state."""
        #: How many streams of each session are read; when the last one ended.
        self._readers, self._unread_since = Counter[str](), dict[str, float]()
        #: When the last run of each visitor and session began.
        self._began: dict[str, float] = {}
        self._retry_at = -math.inf

    @contextmanager
    def reading(self, session: str) -> Iterator[None]:
        """A context in which a visitor reads what the runs of a session send."""
        try:
            with counted(self._readers, session):
                yield
        finally:
            if session not in self._readers:
                self._unread_since[session] = time.monotonic()

    # What Gradio calls.

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """Takes the next run that may begin, if any, out of the queue."""
        now = time.monotonic()
        if now < self._retry_at:
            return None
        for concurrency_id, event_queue in self.event_queue_per_concurrency_id.items():
            if any(map(self._is_read, event_queue.queue)) and self._is_full(event_queue):
                self._stop_unread(event_queue, now)
            self._arrange(event_queue)
            if event_queue.queue and self._has_place(event_queue):
                event = event_queue.queue.pop(0)
                self._remember_turn(event, now)
                return [event], event.fn.batch, concurrency_id
        self._retry_at = now + RETRY_SECONDS
        return None

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Lets a run wait. For one that finds the queue full, runs that nobody reads are stopped.

        Returns whether it waits, its id or what is wrong, and the state.
        """
        if self.max_size is not None and len(self) >= self.max_size:
            for event_queue in self.event_queue_per_concurrency_id.values():
                self._stop_unread(event_queue, time.monotonic())
        waits, event_id_or_fault, state = await super().push(body, request, username)
        if state == "queue_full":
            event_id_or_fault = say("error.queue_full", n=self.max_size)
        return waits, event_id_or_fault, state

    def broadcast_estimations(self, concurrency_id: str, after: int | None = None) -> None:
        """Tells waiting visitors their positions; with `after`, those behind the newest run."""
        event_queue = self.event_queue_per_concurrency_id[concurrency_id]
        self._arrange(event_queue)
        if after is not None:
            newest = max(event_queue.queue, key=lambda event: event.enqueue_time, default=None)
            after = event_queue.queue.index(newest) if newest else None
        super().broadcast_estimations(concurrency_id, after)

    async def process_events(self, events: list[Event], batch: bool, begin_time: float, fn: BlockFunction) -> None:
        """Carries a run out. What nobody has read of it then is kept for a while."""
        try:
            await super().process_events(events, batch, begin_time, fn)
        finally:
            self._retry_at = -math.inf
            for event in events:
                self._forget_later(event)

    # How it chooses.

    def _running(self, concurrency_id: str) -> list[Event]:
        return [event for job in self.active_jobs for event in job or () if event.concurrency_id == concurrency_id]

    def _is_read(self, event: Event) -> bool:
        return event.session_hash in self._readers

    def _is_full(self, event_queue: EventQueue) -> bool:
        limit = event_queue.concurrency_limit
        return limit is not None and len(self._running(event_queue.concurrency_id)) >= limit

    def _arrange(self, event_queue: EventQueue) -> None:
        """Puts the waiting runs in the order in which they begin: those that are read, then the others."""
        if len(event_queue.queue) < 2:
            return
        running = self._running(event_queue.concurrency_id)
        in_turn = self._in_turn(event_queue.queue, running)
        event_queue.queue[:] = sorted(in_turn, key=lambda event: not self._is_read(event))

    def _in_turn(self, waiting: Iterable[Event], running: Iterable[Event]) -> list[Event]:
        """Waiting runs by visitor in turn, and those of a visitor by session in turn.

        The fewer runs of its visitor go on or stand before it, the earlier a run begins; then the one whose visitor has
        waited longest.
        """
        in_turn = sorted(waiting, key=lambda event: event.enqueue_time)
        for name_of in (_session, _visitor):
            counts = Counter(map(name_of, running))
            keys: dict[Event, tuple[int, float]] = {}
            for event in in_turn:
                name = name_of(event)
                keys[event] = counts[name], max(event.enqueue_time, self._began.get(name, 0.0))
                counts[name] += 1
            in_turn.sort(key=keys.__getitem__)
        return in_turn

    def _has_place(self, event_queue: EventQueue) -> bool:
        """Whether the first waiting run may begin.

        Where it is read, runs that nobody reads hold no place, and no other visitor's runs more than their share: such
        runs go on, but further ones do not begin in their places.
        """
        first, limit = event_queue.queue[0], event_queue.concurrency_limit
        if limit is None or not self._is_read(first):
            return not self._is_full(event_queue)
        share, visitor = max(1, int(SHARE * limit)), _visitor(first)
        held = Counter(map(_visitor, filter(self._is_read, self._running(event_queue.concurrency_id))))
        others_wait = any(_visitor(event) != visitor for event in event_queue.queue if self._is_read(event))
        if others_wait and held[visitor] >= share:
            return False
        return sum(count if name == visitor else min(count, share) for name, count in held.items()) < limit

    def _remember_turn(self, event: Event, now: float) -> None:
        """Notes that a visitor's run begins, and forgets visitors who have none."""
        events = [event, *self.event_ids_to_events.values()]
        names = {name_of(each) for each in events for name_of in (_session, _visitor)}
        began = {**self._began, _session(event): now, _visitor(event): now}
        self._began = {name: at for name, at in began.items() if name in names}
        sessions = {each.session_hash for each in events}
        self._unread_since = {name: at for name, at in self._unread_since.items() if name in sessions}

    # What nobody reads.

    def _stop_unread(self, event_queue: EventQueue, now: float) -> None:
        """Stops the runs that nobody has read for `UNREAD_SECONDS`."""
        for event in [*self._running(event_queue.concurrency_id), *event_queue.queue]:
            since = max(event.enqueue_time, self._unread_since.get(event.session_hash, 0.0))
            if event.alive and not self._is_read(event) and now - since >= UNREAD_SECONDS:
                self._stop(event, event_queue)

    def _stop(self, event: Event, event_queue: EventQueue) -> None:
        """Ends a run that waits or goes on, and leaves one sentence to whoever comes to read it."""
        self._drop_messages(event.session_hash, event._id)
        error = {"error": say("error.unread", n=int(UNREAD_SECONDS)), "visible": True, "title": "Error"}
        self.send_message(event, ProcessCompletedMessage(output=error, success=False))
        event.alive = False  # ends it after its next step, where it goes on
        with suppress(ValueError):
            event_queue.queue.remove(event)
            self.event_ids_to_events.pop(event._id, None)
            self._forget_later(event)

    def _forget_later(self, event: Event) -> None:
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, event.session_hash, event._id)

    def _forget(self, session: str, event_id: str) -> None:
        """Drops what nobody has read of a run that has ended."""
        unread = self.pending_event_ids_session.get(session, set())
        if event_id not in unread or session in self._readers:
            return
        self._drop_messages(session, event_id)
        unread.discard(event_id)
        if not unread:
            self.pending_event_ids_session.pop(session, None)
            with suppress(KeyError):
                del self.pending_messages_per_session[session]

    def _drop_messages(self, session: str, event_id: str) -> None:
        messages = self.pending_messages_per_session.get(session)
        if messages is None:
            return
        for _ in range(messages.qsize()):
            message = messages.get_nowait()
            if getattr(message, "event_id", None) != event_id:
                messages.put_nowait(message)


def _visitor(event: Event) -> str:
    """The visitor of a run, worked out once for each."""
    if "visitor" not in vars(event):
        vars(event)["visitor"] = visitor_id(event.request)
    return cast(str, vars(event)["visitor"])


def _session(event: Event) -> str:
    return f"session {event.session_hash}"
