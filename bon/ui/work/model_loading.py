"""`ModelLoader` loads models on background threads, so that the page answers at once.

The first model imports torch, which takes seconds.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from bon.errors import EngineError, InputError, ModelError
from bon.messages import say
from bon.settings import Settings
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.error_log import log

if TYPE_CHECKING:
    from bon.api import Sampler
    from bon.compare.comparison_run import ComparisonModels

T = TypeVar("T")
#: The errors that tell what is in a folder, or whether there is one.
ABOUT_FOLDERS = ("error.no_such_folder", "error.folder_without_model", "error.folder_without_weights",
                 "error.only_adapter", "error.only_gguf")


class ModelLoader:
    """Loads the models that the page's deployment allows."""

    def __init__(self, deployment: Deployment):
        self.deployment = deployment
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="load")

    def submit(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Calls a function on a background thread, and returns the future of its result."""
        return self._threads.submit(function, *arguments)

    def load(self, settings: Settings) -> "Future[Sampler]":
        """The future of the sampler for the settings' model, scorer, target and unit.

        It raises `InputError` where a public page does not offer the model or the scorer, and what `bon.load` raises.
        """

        def load() -> "Sampler":
            filled = settings.filled(model=self.deployment.model)
            self.deployment.check_names(filled.model, filled.scorer)
            from bon import api

            endpoint = self.deployment.endpoint if self.deployment.is_on_server(filled.model) else None
            with self._errors_for_visitors(filled):
                return api.load_for(filled, endpoint=endpoint)

        return self.submit(load)

    def comparison_models(self, settings: Settings) -> "ComparisonModels":
        """The models that these settings compare, loaded on the caller's thread.

        Raises `InputError` where the model is on a server, which has no tuned model to compare with.
        """
        if self.deployment.is_on_server(settings.model):
            raise InputError("model", say("error.served"))
        with self._errors_for_visitors(settings):
            return load_comparison_models(settings)

    @contextmanager
    def _errors_for_visitors(self, settings: Settings) -> Iterator[None]:
        """A context in which models are loaded: its errors tell visitors nothing that is for the owner alone.

        That is what is wrong with the page's own model, which goes to the log, and of a public page what there is on
        the server's disk.
        """
        deployment = self.deployment
        try:
            yield
        except (EngineError, ModelError) as error:
            if settings.model == deployment.model and settings.scorer in (None, deployment.scorer):
                log.warning("%s cannot be loaded: %s", deployment.model, error)
                raise ModelError(say("error.page_model")) from error
            if deployment.public and error.key in ABOUT_FOLDERS:
                raise ModelError(say("error.not_loaded_here")) from error
            raise


def load_comparison_models(settings: Settings) -> "ComparisonModels":
    """The models that these settings compare, in this process."""
    from bon.compare.loading import load_models

    target = {"target": settings.target} if settings.target else {}
    return load_models(settings.model_name, scorer=settings.scorer, **target)


def is_ready(future: Future[Any], seconds: float = 0.2) -> bool:
    """Whether the future has its result or its error, after waiting for it for at most so many seconds."""
    return bool(wait([future], timeout=seconds).done)
