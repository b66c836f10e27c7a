"""What loaded models have to say for the page: a run and a comparison, as updates that come seldom enough to be drawn,
and a run ranked anew. In this process or, on ZeroGPU, in a fork (`bon.ui.work.zerogpu_runs`).
"""

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from bon.events import Done, Event, Wrote
from bon.result import Result
from bon.run_state import RunState
from bon.settings import Request, Settings
from bon.ui.compare import comparison_view
from bon.ui.generate.form_fields import PAGE_N_MAX
from bon.ui.generate.run_view import View
from bon.ui.work import model_loading

#: Seconds between two updates of a view: what an eye still takes for writing, and a browser for nothing.
EVERY = 0.1


def shown(request: Request, sampler: Any) -> Iterator[tuple[str, Result]]:
    """The phase and the result so far of a run of a loaded `bon.Sampler`."""
    settings, own = request.settings, {"model", "scorer"}
    chosen = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings) if f.name not in own}
    given = {"prompt": request.prompt} if request.messages is None else {"messages": request.messages}
    with closing(sampler.stream(**given, **chosen)) as events:
        # Many candidates make a large message: those come less often.
        yield from thinned(events, EVERY * max(1.0, settings.n / PAGE_N_MAX))


def thinned(events: Iterator[Event], every: float = EVERY) -> Iterator[tuple[str, Result]]:
    """The events of a run added up, at most once in `every` seconds; the start, the first words and the end at once."""
    state, last, begun = RunState(), -math.inf, False
    try:
        for event in events:
            if isinstance(event, Done):
                yield "done", event.result
                return
            state.add(event)
            first = isinstance(event, Wrote) and not begun
            begun = begun or first
            if first or time.monotonic() - last >= every:
                yield "writing", state.result()
                last = time.monotonic()
    except Exception:
        if state.started:  # what was held back since the last update must not be lost
            yield "writing", state.result()
        raise


def reranked(sampler: Any, result: Result, target: str | None, select: str, softness: float) -> Result:
    """A run ranked by another label, where the scorer has any, or rule."""
    target = target if sampler.scorer.targets else None
    return sampler.rerank(result, target=target, select=select, softness=softness)


def comparing(prompts: list[str], settings: Settings) -> Iterator[View]:
    """The views of a comparison whose models are loaded."""
    with closing(comparison(prompts, model_loading.comparison_models(settings), settings)) as events:
        yield from views(comparison_view.Showing(len(prompts)), events)


def comparison(prompts: list[str], models: Any, settings: Settings) -> Iterator:
    """The events of a comparison."""

    from bon.compare import comparison_run

    return comparison_run.stream(prompts, models, settings)


def views(showing: comparison_view.Showing, events: Iterator) -> Iterator[View]:
    """The views of a comparison's events, which `showing` takes in."""
    last = 0.0
    for event in events:
        showing.add(event)
        if time.monotonic() - last >= EVERY:
            yield showing.view()
            last = time.monotonic()
    yield showing.view("done")
