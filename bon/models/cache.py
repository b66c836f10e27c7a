"""What is loaded stays loaded: a bounded store that never makes the same thing twice."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any


class LiveCache:
    """Keeps the `limit` most recently used values.

    Callers that ask for the same key at once wait for one of them to make it; others are not held up. A value
    that could not be made leaves nothing behind, so that the next caller, one that waited among them, tries again.
    """

    def __init__(self, limit: int = 4):
        self.limit = limit
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._making: dict[Hashable, threading.Event] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of `key`, made by `make` where it is not there."""
        while True:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
                made_elsewhere = self._making.get(key)
                if made_elsewhere is None:
                    self._making[key] = threading.Event()
                    break
            made_elsewhere.wait()
        return self._make(key, make)

    def _make(self, key: Hashable, make: Callable[[], Any]) -> Any:
        try:
            value = make()
            with self._lock:
                self._values[key] = value
                while len(self._values) > self.limit:
                    self._values.popitem(last=False)
            return value
        finally:
            with self._lock:
                self._making.pop(key).set()

    def __iter__(self) -> Iterator[Hashable]:
        """The keys of what is there, the one that was used longest ago first."""
        with self._lock:
            return iter(list(self._values))

    def clear(self) -> None:
        """Lets go of everything."""
        with self._lock:
            self._values.clear()
