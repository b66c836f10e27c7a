"""Snapshots of a run of a loaded sampler, at a rate that a browser can draw; and a result ranked again.

This happens in this process or, on ZeroGPU, in a fork (`bon.ui.work.zerogpu_runs`).
"""

import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from bon.events import Done, Event, Wrote
from bon.result import Result
from bon.run_state import RunState
from bon.settings import Request

if TYPE_CHECKING:
    from bon.api import Sampler

#: Snapshots of a run: its phase, `writing` or `done`, and its result so far. Closing the iterator stops the run.
Snapshots = Generator[tuple[str, Result], None, None]
#: Seconds between two updates of a view: often enough to look like typing, seldom enough for a browser to draw.
UPDATE_SECONDS = 0.1
#: Runs of more candidates update less often, in proportion, since each update is a larger message.
CANDIDATES_AT_FULL_RATE = 256


def run_snapshots(request: Request, sampler: "Sampler") -> Snapshots:
    """The snapshots of a request that a loaded `bon.Sampler` runs."""
    with closing(sampler.stream_request(request, live=True)) as events:
        yield from snapshots(events, UPDATE_SECONDS * max(1.0, request.settings.n / CANDIDATES_AT_FULL_RATE))


def snapshots(events: Iterator[Event], interval: float = UPDATE_SECONDS) -> Snapshots:
    """The snapshots of a run from its events: of the start, the first text and the end at once, of others at most one
    in `interval` seconds.
    """
    state, last, has_text = RunState(), -math.inf, False
    try:
        for event in events:
            if isinstance(event, Done):
                yield "done", event.result
                return
            state.add(event)
            first_text = isinstance(event, Wrote) and not has_text
            has_text = has_text or first_text
            if first_text or time.monotonic() - last >= interval:
                yield "writing", state.result()
                last = time.monotonic()
    except Exception:
        if state.started:  # so that the events since the last snapshot are not lost
            yield "writing", state.result()
        raise


def rerank(sampler: "Sampler", result: Result, target: str | None, select: str, softness: float) -> Result:
    """The result ranked by another selection rule, or another label where the scorer has labels; see `bon.Sampler`."""
    target = target if sampler.scorer.targets else None
    return sampler.rerank(result, target=target, select=select, softness=softness)
