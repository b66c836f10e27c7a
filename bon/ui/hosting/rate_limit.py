"""The rate limit of a public page: the identity of a visitor, and the runs that each has had lately."""

import ipaddress
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

import gradio as gr
from starlette.requests import Request

from bon.errors import LimitError
from bon.messages import say
from bon.report.numbers import format_duration

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Seconds over which runs are counted.
MINUTE, DAY = 60.0, 86_400.0


class Visitors:
    """Allows each visitor at most `rate` runs in any `window` seconds.

    limit: the key of the message for a visitor who makes more. most: how many visitors are remembered; the one whose
    last run is the oldest is forgotten first. clock: the time in seconds.
    """

    rate: int
    most: int

    def __init__(self, rate: int, limit: str = "error.rate", window: float = MINUTE, most: int = 10_000,
                 clock: Callable[[], float] = time.monotonic):
        self.rate, self.most, self._limit, self._window, self._clock = rate, most, limit, window, clock
        self._runs: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._runs)

    def admit(self, visitor: str, runs: int = 1) -> None:
        """Counts so many runs of a visitor.

        Raises `LimitError`, which says when to try again, and counts nothing, where they would exceed the rate.
        """
        runs = min(runs, self.rate)
        with self._lock:
            now = self._clock()
            past = self._runs.setdefault(visitor, deque())
            self._runs.move_to_end(visitor)
            while past and past[0] <= now - self._window:
                past.popleft()
            over = len(past) + runs - self.rate
            if over > 0:
                seconds = max(1, math.ceil(past[over - 1] + self._window - now))
                raise LimitError(say(self._limit, rate=self.rate, n=seconds, time=format_duration(seconds)))
            past.extend([now] * runs)
            while len(self._runs) > self.most:
                self._runs.popitem(last=False)


def visitor_id(request: gr.Request | Request | None) -> str:
    """The address of a request's visitor; of an IPv6 address the /64 network, all of which one visitor may have."""
    client = getattr(request, "client", None)
    text = getattr(client, "host", None) or ""
    address = parse_address(text)
    if address is None:
        return text[:64]
    return str(address if address.version == 4 else ipaddress.ip_network((address, 64), strict=False))


def parse_address(text: str) -> Address | None:
    """The IP address in a text, without its zone, and of IPv4 written as IPv6 the IPv4 address; None where it is none.
    """
    try:
        address = ipaddress.ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
