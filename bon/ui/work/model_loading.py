"""Models on their way: read on threads of their own, so that the page answers at once.

torch comes in with the first of them.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from bon.errors import InputError
from bon.messages import say
from bon.settings import Settings
from bon.ui import deployment

_threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="load")


def later(work: Callable, *given: Any) -> Future:
    """What such work comes to, begun on a thread of its own."""
    return _threads.submit(work, *given)


def load(model: str, scorer: str | None = None, **kind: Any) -> Future:
    """A `bon.Sampler` to come, read on a thread of its own."""

    def make():
        here = deployment.here()
        here.check_names(model, scorer)
        from bon import api

        return api.load(model, scorer, endpoint=here.endpoint if here.is_remote(model) else None, **kind)

    return later(make)


def comparison_models(settings: Settings) -> Any:
    """The `bon.compare.comparison_run.ComparisonModels` of these settings, read here and now."""
    from bon.compare.loading import load_models

    if deployment.here().is_remote(settings.model):
        raise InputError("model", say("error.served"))

    kind = {"target": settings.target} if settings.target else {}
    return load_models(settings.model, scorer=settings.scorer, **kind)


def arrived(future: Future, seconds: float = 0.2) -> bool:
    """Whether the future has its result or its error, waiting at most so long."""
    return bool(wait([future], timeout=seconds).done)
