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
from bon.ui.compare.comparison_view import ComparisonProgress
from bon.ui.compare.updates import views
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.error_log import report
from bon.ui.view_types import View
from bon.ui.work import updates
from bon.ui.work.model_loading import load_comparison_models

#: Tokens a second that one may count on, with the scoring; and seconds to begin with.
PACE, START = 200, 10
#: The longest that a visitor may borrow the GPU, in seconds.
LONGEST = 120


def load_all(deployment: Deployment) -> None:
    """Loads all that the page offers, so that every fork has it: base, scorer, tuned model and judge of each model."""
    from bon.compare.loading import load_models
    from bon.engines.local import decoder
    from bon.models import loading

    decoder.capture_graphs = False
    loading.LIVE.limit = max(loading.LIVE.limit, 4 * len(deployment.models) + 1)
    for model in deployment.models:
        load_models(model, scorer=deployment.scorer if model == deployment.model else None)


def _seconds(candidates: int, settings: Settings) -> float:
    return min(LONGEST, START + candidates * settings.lengths[1] / PACE)


def run(request: Request) -> Iterator[tuple[str, Result]]:
    """As `runs.snapshots`."""
    return _values(_run(request))


def compare(prompts: list[str], settings: Settings) -> Iterator[View]:
    """The views of a comparison."""
    return (view for _, view in _values(_compare(prompts, settings)))


def rerank(result: Result, *rules: Any) -> Result:
    """The run ranked by other rules: see `updates.rerank`."""
    (_, reranked), = _values(_rerank(result, *rules))
    return reranked


@zerogpu.borrows(lambda request: _seconds(request.settings.n, request.settings))
def _run(request: Request) -> Iterator[tuple[str, Any]]:
    from bon import api

    yield from _errors_as_values(lambda: updates.run_snapshots(request, api.load_for(request.settings)))


@zerogpu.borrows(lambda prompts, settings: _seconds(2 * len(prompts) * settings.n, settings))
def _compare(prompts: list[str], settings: Settings) -> Iterator[tuple[str, Any]]:
    def values() -> Iterator[tuple[str, View]]:
        progress = ComparisonProgress(len(prompts))
        for view in views(prompts, load_comparison_models(settings), settings, progress):
            yield "view", view

    yield from _errors_as_values(values)


@zerogpu.borrows(lambda *_: START)
def _rerank(result: Result, *rules: Any) -> Iterator[tuple[str, Any]]:
    from bon import api

    def values() -> Iterator[tuple[str, Result]]:
        sampler = api.load_for(Settings(model=result.settings.model, scorer=result.settings.scorer))
        yield "result", updates.rerank(sampler, result, *rules)

    yield from _errors_as_values(values)


def _errors_as_values(values: Callable[[], Iterator[tuple[str, Any]]]) -> Iterator[tuple[str, Any]]:
    try:
        yield from values()
    except BonError as error:
        yield "error", error
    except Exception as error:
        report("What had the GPU failed", error)
        yield "error", None


def _values(values: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The values that came back from a fork; raises the error that one of them is, or that there is no GPU to lend."""
    try:
        with closing(values):
            for name, value in values:
                if name == "error":
                    raise value or RuntimeError("What had the GPU failed.")
                yield name, value
    except gr.Error as error:  # `spaces` says so of a visitor's quota and of work that took too long, in HTML
        reason = html.unescape(re.sub(r"<[^>]*>", "", str(error.message)))
        raise LimitError(say("error.zerogpu", reason=reason)) from error
