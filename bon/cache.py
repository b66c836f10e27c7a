"""What is loaded stays loaded: a bounded store that never makes the same thing twice."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class LiveCache:
    """Keeps the `limit` most recently used values.

    Callers that ask for the same key at once wait for one of them to make it; others are not held up. A value
    that could not be made leaves nothing behind, so that the next caller tries again.
    """

    def __init__(self, limit: int = 4):
        self.limit = limit
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of `key`, made by `make` where it is not there."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
            value = make()
            with self._lock:
                self._values[key] = value
                while len(self._values) > self.limit:
                    dropped, _ = self._values.popitem(last=False)
                    self._making.pop(dropped, None)
            return value

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def clear(self) -> None:
        """Lets go of everything."""
        with self._lock:
            self._values.clear()
            self._making.clear()
