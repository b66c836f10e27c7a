"""`ModelLoader` loads models on background threads, so that the page answers at once.

The first model imports torch, which takes seconds.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from bon.errors import BonError, EngineError, InputError, ModelError
from bon.messages import say
from bon.models import presets
from bon.models.files.memory import format_bytes, size_line
from bon.models.files.progress import Download, download_of
from bon.settings import Settings
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.error_log import log
from bon.ui.texts import model_label

if TYPE_CHECKING:
    from bon.api import Sampler
    from bon.compare.comparison_run import ComparisonModels

T = TypeVar("T")
_IMPORTING = threading.Lock()
#: The errors that tell what is in a folder, or whether there is one.
ABOUT_FOLDERS = ("error.no_such_folder", "error.no_such_gguf_file", "error.folder_without_model",
                 "error.folder_without_weights", "error.only_adapter", "error.only_gguf", "error.several_adapters",
                 "error.adapter_beside_weights", "error.adapter_base", "error.adapter_base_quantised",
                 "error.adapter_does_not_fit", "error.adapter_not_merged")


class ModelLoader:
    """Loads the models that the page's deployment allows."""

    def __init__(self, deployment: Deployment):
        self.deployment = deployment
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="load", initializer=_import_libraries)

    def submit(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Calls a function on a background thread, and returns the future of its result."""
        return self._threads.submit(function, *arguments)

    def load(self, settings: Settings) -> "Future[Sampler]":
        """The future of the sampler for the settings' model, scorer, target and unit.

        It raises `InputError` where a public page does not offer the model or the scorer, `ModelError` where it would
        have to download one of them, and what `bon.load` raises.
        """

        def load() -> "Sampler":
            filled = settings.filled(model=self.deployment.model)
            self.deployment.check_names(filled.model, filled.scorer)
            from bon import api

            endpoint = self.deployment.endpoint if self.deployment.is_on_server(filled.model) else None
            with self._errors_for_visitors(filled):
                if self.deployment.public and not endpoint:
                    check_is_here(filled)
                return api.load_for(filled, endpoint=endpoint)

        return self.submit(load)

    def comparison_models(self, settings: Settings) -> "ComparisonModels":
        """The models that these settings compare, loaded on the caller's thread.

        Raises `InputError` where the model is on a server, which has no tuned model to compare with.
        """
        if self.deployment.is_on_server(settings.model):
            raise InputError("model", say("error.served"))
        with self._errors_for_visitors(settings):
            if self.deployment.public:
                check_is_here(settings, ("tuned", "judge"))
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

    def fetch(self, all_settings: Iterable[Settings]) -> None:
        """Downloads the models and scorers of settings where they are not here, for the owner of a public page, on
        which visitors start no download. Where that fails, the log says why.
        """
        from bon.models import download

        for settings in all_settings:
            try:
                for place in filter(_is_away, _places(settings)):
                    download.local_paths(place)
            except BonError as error:
                log.warning("%s", error)


def _import_libraries() -> None:
    """Imports torch and transformers on one thread at a time: where two import parts of transformers that need each
    other, one of them fails.
    """
    with _IMPORTING:
        from bon import api  # noqa: F401


def check_is_here(settings: Settings, more: Sequence[str] = ()) -> None:
    """Raises `ModelError` where the settings' model or scorer is not on this machine.

    more: further models of the preset to look for: tuned, judge.
    """
    for place in _places(settings, more):
        if _is_away(place):
            raise ModelError(say("error.not_downloaded", model=place))


def _places(settings: Settings, more: Sequence[str] = ()) -> list[str]:
    """The folders, GGUF files and Hub ids of the settings' model and scorers."""
    spec = presets.find(settings.model_name, settings.scorer)
    scorers = [presets.scorer_place(name, spec) for _, name in presets.weighted(spec.scorer)] or [spec.scorer]
    others = (getattr(spec, role) for role in more)
    return [place for place in (spec.model, *scorers, *others) if place and place not in presets.FREE]


def _is_away(place: str) -> bool:
    """Whether loading a place would download it, or the model that it changes as an adapter."""
    places = filter(None, [place, presets.base_of(place)])
    return any(not os.path.isabs(each) and presets.files_state(each) != "here" for each in places)


def wait_line(model: str) -> str:
    """What a visitor waits for while a model is loaded: how far its download is, or how large it is in memory."""
    place = _place(model)
    if download := download_of(place):
        return say("loading.download", model=model_label(model), **_sizes(download))
    return size_line(model_label(model), place) or say("loading.line", model=model_label(model))


def wait_words(model: str) -> str:
    """`wait_line` in a few words, for a chip."""
    download = download_of(_place(model))
    return say("chip.downloading", **_sizes(download)) if download else say("chip.loading")


def _place(model: str) -> str:
    """Where a model is; an empty text for a name that stands for none."""
    try:
        return presets.find(model).model
    except BonError:
        return ""


def _sizes(download: Download) -> dict[str, str]:
    return {"done": format_bytes(download.done), "total": format_bytes(download.total)}


def load_comparison_models(settings: Settings) -> "ComparisonModels":
    """The models that these settings compare, in this process."""
    from bon.compare.loading import load_models

    target = {"target": settings.target} if settings.target else {}
    return load_models(settings.model_name, scorer=settings.scorer, **target)


def is_ready(future: Future[Any], seconds: float = 0.2) -> bool:
    """Whether the future has its result or its error, after waiting for it for at most so many seconds."""
    return bool(wait([future], timeout=seconds).done)
