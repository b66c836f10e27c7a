"""A run of a loaded sampler as snapshots that come seldom enough to be drawn, and a run ranked by other rules.

In this process or, on ZeroGPU, in a fork (`bon.ui.work.zerogpu_runs`).
"""

import math
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from bon.events import Done, Event, Wrote
from bon.result import Result
from bon.run_state import RunState
from bon.settings import Request

if TYPE_CHECKING:
    from bon.api import Sampler

#: Seconds between two updates of a view: often enough to read as writing, seldom enough for a browser.
EVERY = 0.1
#: Candidates up to which that holds; more make a larger message, which comes less often.
MANY = 256


def run_snapshots(request: Request, sampler: "Sampler") -> Iterator[tuple[str, Result]]:
    """The phase and the result so far of a run of a loaded `bon.Sampler`."""
    with closing(sampler.stream_request(request)) as events:
        yield from thinned(events, EVERY * max(1.0, request.settings.n / MANY))


def thinned(events: Iterator[Event], every: float = EVERY) -> Iterator[tuple[str, Result]]:
    """The events of a run added up, at most once in `every` seconds; the start, the first words and the end at once."""
    state, last, has_words = RunState(), -math.inf, False
    try:
        for event in events:
            if isinstance(event, Done):
                yield "done", event.result
                return
            state.add(event)
            first_words = isinstance(event, Wrote) and not has_words
            has_words = has_words or first_words
            if first_words or time.monotonic() - last >= every:
                yield "writing", state.result()
                last = time.monotonic()
    except Exception:
        if state.started:  # what was held back since the last update must not be lost
            yield "writing", state.result()
        raise


def rerank(sampler: "Sampler", result: Result, target: str | None, select: str, softness: float) -> Result:
    """A run ranked by another label, where the scorer has any, or rule."""
    target = target if sampler.scorer.targets else None
    return sampler.rerank(result, target=target, select=select, softness=softness)
