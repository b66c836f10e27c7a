"""Silences the libraries' own talk while models load, and keeps what transformers warns of."""

import logging
import sys
import threading

import transformers
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars


class Quiet:
    """While anybody is inside, transformers and huggingface_hub say nothing: what matters is said by bon.

    Entering returns the list that takes what transformers warns of in this thread. The bars of downloads stay where
    somebody sees them. Several threads may be inside; what was set before comes back when the last one leaves.
    """

    def __init__(self):
        self._lock, self._inside, self._warnings = threading.Lock(), 0, _Warnings()

    def __enter__(self) -> list[str]:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._hush()
        return self._warnings.begin()

    def __exit__(self, *_):
        self._warnings.end()
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore()

    def _hush(self):
        self._hub, self._library = logging.getLogger("huggingface_hub"), logging.getLogger("transformers")
        self._levels = transformers.logging.get_verbosity(), self._hub.level
        self._handlers, self._propagates = self._library.handlers, self._library.propagate
        self._bars = transformers.utils.logging.is_progress_bar_enabled()
        seen = sys.stderr.isatty() or "ipykernel" in sys.modules
        downloads = seen and not are_progress_bars_disabled()
        transformers.logging.set_verbosity_warning()
        self._library.handlers, self._library.propagate = [self._warnings], False
        transformers.utils.logging.disable_progress_bar()
        if downloads:
            enable_progress_bars()
        self._hub.setLevel(logging.ERROR)

    def _restore(self):
        transformers.logging.set_verbosity(self._levels[0])
        self._library.handlers, self._library.propagate = self._handlers, self._propagates
        self._hub.setLevel(self._levels[1])
        if self._bars:
            transformers.utils.logging.enable_progress_bar()


class _Warnings(logging.Handler):
    """Keeps the warnings of each thread that has begun to listen."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self._by_thread: dict[int | None, list[str]] = {}

    def begin(self) -> list[str]:
        """The list that the calling thread's warnings go to."""
        # What transformers says once in a process would be missing where a model is loaded for the second time.
        transformers.utils.logging.warning_once.cache_clear()
        return self._by_thread.setdefault(threading.get_ident(), [])

    def end(self) -> None:
        """Keeps no more of the calling thread."""
        self._by_thread.pop(threading.get_ident(), None)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a warning."""
        if record.thread in self._by_thread:
            self._by_thread[record.thread].append(record.getMessage())
