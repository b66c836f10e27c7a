"""Loads models on threads of their own, so that the page answers at once.

torch is imported with the first of them.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

from bon.errors import InputError
from bon.messages import say
from bon.settings import Settings
from bon.ui.hosting.deployment import Deployment

if TYPE_CHECKING:
    from bon.api import Sampler
    from bon.compare.comparison_run import ComparisonModels

T = TypeVar("T")


class ModelLoader:
    """Loads what the page's deployment admits."""

    def __init__(self, deployment: Deployment):
        self.deployment = deployment
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="load")

    def submit(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Calls a function on a thread of its own; its result to come."""
        return self._threads.submit(function, *arguments)

    def load(self, settings: Settings) -> "Future[Sampler]":
        """The sampler of the settings' model, scorer, target and unit, to come."""

        def load() -> "Sampler":
            named = settings.filled(model=self.deployment.model)
            self.deployment.check_names(named.model, named.scorer)
            from bon import api

            endpoint = self.deployment.endpoint if self.deployment.is_on_server(named.model) else None
            return api.load_for(named, endpoint=endpoint)

        return self.submit(load)

    def comparison_models(self, settings: Settings) -> "ComparisonModels":
        """The models that these settings compare, loaded on the caller's thread."""
        if self.deployment.is_on_server(settings.model):
            raise InputError("model", say("error.served"))
        return load_comparison_models(settings)


def load_comparison_models(settings: Settings) -> "ComparisonModels":
    """The models that these settings compare: of this process, never of a server."""
    from bon.compare.loading import load_models

    target = {"target": settings.target} if settings.target else {}
    return load_models(settings.model or "embedded", scorer=settings.scorer, **target)


def is_ready(future: Future, seconds: float = 0.2) -> bool:
    """Whether the future has its result or its error, waiting at most so long."""
    return bool(wait([future], timeout=seconds).done)
