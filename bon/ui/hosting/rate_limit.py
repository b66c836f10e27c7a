"""The rate limit of a public page: who a visitor is, and how many runs each has had."""

import ipaddress
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from bon.errors import LimitError
from bon.messages import say

#: Seconds over which a visitor's runs are counted.
WINDOW = 60.0


class Visitors:
    """At most `rate` runs in any `WINDOW` seconds for each visitor.

    Remembers at most `most` visitors; the one that was here longest ago is forgotten first.
    """

    def __init__(self, rate: int, most: int = 10_000, clock: Callable[[], float] = time.monotonic):
        self.rate, self.most, self._clock = rate, most, clock
        self._runs: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._runs)

    def admit(self, visitor: str, runs: int = 1) -> None:
        """Counts so many runs; raises `LimitError`, which counts nothing and says when to try again."""
        runs = min(runs, self.rate)
        with self._lock:
            now = self._clock()
            past = self._runs.setdefault(visitor, deque())
            self._runs.move_to_end(visitor)
            while past and past[0] <= now - WINDOW:
                past.popleft()
            over = len(past) + runs - self.rate
            if over > 0:
                seconds = max(1, math.ceil(past[over - 1] + WINDOW - now))
                raise LimitError(say("error.rate", rate=self.rate, n=seconds))
            past.extend([now] * runs)
            while len(self._runs) > self.most:
                self._runs.popitem(last=False)


def visitor_id(request: Any, spaces: bool = False) -> str:
    """The address that a `gr.Request` comes from; of an IPv6 address the network, all of which one visitor may have.

    spaces: on a Space the address is its proxy's, which says in a header for whom it asks; elsewhere anybody could.
    """
    client = getattr(request, "client", None)
    address = getattr(client, "host", None) or ""
    if spaces:
        address = dict(request.headers).get("x-forwarded-for", "").split(",")[0].strip() or address
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(known if known.version == 4 else ipaddress.ip_network((known, 64), strict=False))
