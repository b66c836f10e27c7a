"""Silences transformers and huggingface_hub while models load, and collects what transformers warns of."""

import logging
import sys
import threading

import transformers
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars


class Quiet:
    """A context in which transformers and huggingface_hub print nothing: bon reports what matters.

    Entering it returns the list to which transformers' warnings in this thread are added. Progress bars of downloads
    stay where somebody sees them. Several threads may be inside; the last one to leave restores the former settings.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._warnings = threading.Lock(), 0, _Warnings()

    def __enter__(self) -> list[str]:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._silence()
        return self._warnings.begin()

    def __exit__(self, *_: object) -> None:
        self._warnings.end()
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore()

    def _silence(self) -> None:
        self._hub, self._library = logging.getLogger("huggingface_hub"), logging.getLogger("transformers")
        self._levels = transformers.logging.get_verbosity(), self._hub.level
        self._handlers, self._propagates = self._library.handlers, self._library.propagate
        self._bars = transformers.utils.logging.is_progress_bar_enabled()
        visible = sys.stderr.isatty() or "ipykernel" in sys.modules
        shows_downloads = visible and not are_progress_bars_disabled()
        transformers.logging.set_verbosity_warning()
        self._library.handlers, self._library.propagate = [self._warnings], False
        transformers.utils.logging.disable_progress_bar()
        if shows_downloads:
            enable_progress_bars()
        self._hub.setLevel(logging.ERROR)

    def _restore(self) -> None:
        transformers.logging.set_verbosity(self._levels[0])
        self._library.handlers, self._library.propagate = self._handlers, self._propagates
        self._hub.setLevel(self._levels[1])
        if self._bars:
            transformers.utils.logging.enable_progress_bar()


class _Warnings(logging.Handler):
    """Collects the warnings of each thread that has called `begin`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._by_thread: dict[int | None, list[str]] = {}

    def begin(self) -> list[str]:
        """The list to which the calling thread's warnings are added from now on."""
        # Else warnings that transformers gives once per process would be missing when a model is loaded again.
        transformers.utils.logging.warning_once.cache_clear()
        return self._by_thread.setdefault(threading.get_ident(), [])

    def end(self) -> None:
        """Stops collecting for the calling thread."""
        self._by_thread.pop(threading.get_ident(), None)

    def emit(self, record: logging.LogRecord) -> None:
        """Adds a warning to the list of its thread."""
        if record.thread in self._by_thread:
            self._by_thread[record.thread].append(record.getMessage())
