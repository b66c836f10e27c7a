"""Runs, comparisons and new rankings on ZeroGPU, each in a fork that borrows a GPU (`bon.zerogpu`).

Every model is loaded before the first visitor comes and stays loaded, a fork serves one call, and no CUDA graphs are
captured. A fork returns an error as a value, since of an error that it raises only the name reaches this process.
"""

import html
import re
from collections.abc import Callable, Generator, Iterator
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
from bon.ui.hosting.error_log import log_failure
from bon.ui.view_types import View, Views
from bon.ui.work import updates
from bon.ui.work.model_loading import load_comparison_models

#: For the time to ask for: tokens per second, scoring included, and seconds before the first token; both cautious.
TOKENS_PER_SECOND, STARTUP_SECONDS = 200, 10
#: The most seconds for which a visitor borrows the GPU.
MAX_SECONDS = 120
#: Pairs of a name and a value that a fork returns; the name `error` marks an error.
ForkValues = Generator[tuple[str, Any], None, None]


def load_all(deployment: Deployment) -> None:
    """Loads base, scorer, tuned model and judge of every model that the page offers, so that each fork has them."""
    from bon.compare.loading import load_models
    from bon.engines.local import decoder
    from bon.models import loading

    decoder.capture_graphs = False
    loading.LIVE.limit = max(loading.LIVE.limit, 4 * len(deployment.models) + 1)
    for model in deployment.models:
        load_models(model, scorer=deployment.scorer if model == deployment.model else None)


def _seconds(candidates: int, settings: Settings) -> float:
    return min(MAX_SECONDS, STARTUP_SECONDS + candidates * settings.lengths[1] / TOKENS_PER_SECOND)


def run(request: Request) -> updates.Snapshots:
    """The snapshots of a run."""
    return _raise_errors(_run(request))


def compare(prompts: list[str], settings: Settings) -> Views:
    """The views of a comparison."""
    return (view for _, view in _raise_errors(_compare(prompts, settings)))


def rerank(result: Result, *rules: Any) -> Result:
    """The result ranked again: see `updates.rerank`, of which these are the last arguments."""
    (_, reranked), = _raise_errors(_rerank(result, *rules))
    return reranked


@zerogpu.borrows(lambda request: _seconds(request.settings.n, request.settings))
def _run(request: Request) -> ForkValues:
    from bon import api

    yield from _errors_as_values(lambda: updates.run_snapshots(request, api.load_for(request.settings)))


@zerogpu.borrows(lambda prompts, settings: _seconds(2 * len(prompts) * settings.n, settings))
def _compare(prompts: list[str], settings: Settings) -> ForkValues:
    def values() -> Iterator[tuple[str, View]]:
        progress = ComparisonProgress(len(prompts))
        for view in views(prompts, load_comparison_models(settings), settings, progress):
            yield "view", view

    yield from _errors_as_values(values)


@zerogpu.borrows(lambda *_: STARTUP_SECONDS)
def _rerank(result: Result, *rules: Any) -> ForkValues:
    from bon import api

    def values() -> Iterator[tuple[str, Result]]:
        sampler = api.load_for(Settings(model=result.settings.model, scorer=result.settings.scorer))
        yield "result", updates.rerank(sampler, result, *rules)

    yield from _errors_as_values(values)


def _errors_as_values(values: Callable[[], Iterator[tuple[str, Any]]]) -> ForkValues:
    """In a fork: the values, and where computing them fails, the error as the last one (None for one that is logged).
    """
    try:
        yield from values()
    except BonError as error:
        yield "error", error
    except Exception as error:
        log_failure("A call on a borrowed GPU failed", error)
        yield "error", None


def _raise_errors(values: ForkValues) -> ForkValues:
    """In this process: the values of a fork. Raises the error among them, or `LimitError` where no GPU can be borrowed.
    """
    try:
        with closing(values):
            for name, value in values:
                if name == "error":
                    raise value or RuntimeError("A call on a borrowed GPU failed.")
                yield name, value
    except gr.Error as error:  # of `spaces`, in HTML: the quota is used up, or the call took too long
        reason = html.unescape(re.sub(r"<[^>]*>", "", str(error.message)))
        raise LimitError(say("error.zerogpu", reason=reason)) from error
