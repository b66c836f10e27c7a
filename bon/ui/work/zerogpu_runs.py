"""The page's work on ZeroGPU, each piece in a fork that has a GPU for a while (`bon.zerogpu`).

A plain path: the models are there before the first visitor and stay as they are, nobody shares a batch, nothing is
captured as a graph. Errors come back as values, since of others only the name would.
"""

import html
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gradio as gr

from bon import zerogpu
from bon.errors import BonError, LimitError
from bon.messages import say
from bon.result import Result
from bon.settings import Request, Settings
from bon.ui import deployment
from bon.ui.error_log import report
from bon.ui.generate import updates

#: Tokens a second that one may count on, with the scoring; and seconds to begin with.
PACE, START = 200, 10
#: The longest that a visitor may borrow the GPU, in seconds.
LONGEST = 120


def load_all() -> None:
    """Loads all that the page offers, so that every fork has it: base, scorer, tuned model and judge of each model."""
    from bon.compare.loading import load_models
    from bon.engines.local import decoder
    from bon.models import loading

    decoder.capture_graphs = False
    here = deployment.here()
    loading.LIVE.limit = max(loading.LIVE.limit, 4 * len(here.models) + 1)
    for model in here.models:
        load_models(model, scorer=here.scorer if model == here.model else None)


def _seconds(candidates: int, settings: Settings) -> float:
    return min(LONGEST, START + candidates * settings.max_tokens / PACE)


def run(request: Request) -> Iterator[tuple[str, Result]]:
    """As `runs.snapshots`."""
    return _told(_run(request))


def compare(prompts: list[str], settings: Settings) -> Iterator[dict[str, Any]]:
    """The views of a comparison."""
    return (view for _, view in _told(_compare(prompts, settings)))


def rerank(result: Result, *rules: Any) -> Result:
    """The run ranked anew: see `updates.reranked`."""
    (_, anew), = _told(_rerank(result, *rules))
    return anew


@zerogpu.borrows(lambda request: _seconds(request.settings.n, request.settings))
def _run(request: Request) -> Iterator[tuple[str, Any]]:
    from bon import api

    def snapshots() -> Iterator[tuple[str, Result]]:
        settings = request.settings
        kind = {"target": settings.target, "unit": settings.unit}
        return updates.shown(request, api.load(settings.model, settings.scorer, **kind))

    yield from _safely(snapshots)


@zerogpu.borrows(lambda prompts, settings: _seconds(2 * len(prompts) * settings.n, settings))
def _compare(prompts: list[str], settings: Settings) -> Iterator[tuple[str, Any]]:
    yield from _safely(lambda: (("view", view) for view in updates.comparing(prompts, settings)))


@zerogpu.borrows(lambda *_: START)
def _rerank(result: Result, *rules: Any) -> Iterator[tuple[str, Any]]:
    from bon import api

    def ranked() -> Iterator[tuple[str, Result]]:
        sampler = api.load(result.settings.model, result.settings.scorer)
        yield "result", updates.reranked(sampler, result, *rules)

    yield from _safely(ranked)


def _safely(values: Callable[[], Iterator[tuple[str, Any]]]) -> Iterator[tuple[str, Any]]:
    try:
        yield from values()
    except BonError as error:
        yield "error", error
    except Exception as error:
        report("What had the GPU failed", error)
        yield "error", None


def _told(values: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The values that came back from a fork; raises the error that one of them is, or that there is no GPU to lend."""
    try:
        with closing(values):
            for kind, value in values:
                if kind == "error":
                    raise value or RuntimeError("What had the GPU failed.")
                yield kind, value
    except gr.Error as error:  # `spaces` says so of a visitor's quota and of work that took too long, in HTML
        reason = html.unescape(re.sub(r"<[^>]*>", "", str(error.message)))
        raise LimitError(say("error.zerogpu", reason=reason)) from error
