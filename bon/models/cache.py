"""A bounded cache of loaded models that never loads the same one twice at once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LiveCache(Generic[Key, Value]):
    """Keeps the `limit` most recently used values.

    Callers that ask for the same key at once wait for one of them to make the value; callers with other keys do not
    wait. Where making a value fails, the next caller tries again, one that waited included.
    """

    def __init__(self, limit: int = 4) -> None:
        self.limit = limit
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._making: dict[Key, threading.Event] = {}
        self._lock = threading.Lock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of `key`, made by `make` where it is not there."""
        while True:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
                being_made = self._making.get(key)
                if being_made is None:
                    self._making[key] = threading.Event()
                    break
            being_made.wait()
        return self._make(key, make)

    def _make(self, key: Key, make: Callable[[], Value]) -> Value:
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

    def __iter__(self) -> Iterator[Key]:
        """The keys, the least recently used first."""
        with self._lock:
            return iter(list(self._values))

    def clear(self) -> None:
        """Drops all values."""
        with self._lock:
            self._values.clear()
