"""How long a run will take: from the runs that there were, said before the button is pressed."""

from collections import deque
from threading import Lock

import numpy as np

from bon.messages import say
from bon.report.numbers import format_duration
from bon.result import Result
from bon.settings import Settings

#: Runs of one model and scorer that are remembered; the oldest go first.
REMEMBERED = 24
#: Models that are remembered; the oldest go first.
MODELS = 32


class Speeds:
    """The latest runs by model and scorer.

    A run's seconds are taken as a share for each decode step, of which there are about as many as the largest cap, and
    one for each token of each candidate, fitted by least squares.
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[str | None, str | None], deque[tuple[float, float, float]]] = {}
        self._lock = Lock()

    def note(self, result: Result) -> None:
        """Remembers a run that has ended; one that dropped candidates says nothing about others."""
        if result.settings.reject:
            return
        with self._lock:
            runs = self._runs.setdefault((result.settings.model, result.settings.scorer), deque(maxlen=REMEMBERED))
            runs.append((*_work(result.settings), result.timing.total))
            while len(self._runs) > MODELS:
                del self._runs[next(iter(self._runs))]

    def seconds(self, settings: Settings) -> float | None:
        """What a run of these settings will take, or None where too little is known: fewer than two sizes of run."""
        with self._lock:
            runs = np.array(self._runs.get((settings.model, settings.scorer), ()))
        if len(runs) < 2 or len(np.unique(runs[:, :2], axis=0)) < 2:
            return None
        shares = np.linalg.lstsq(runs[:, :2], runs[:, 2], rcond=None)[0]
        if (shares < 0).any():  # noise: all of it by token then
            shares = np.array([0.0, runs[:, 2].sum() / runs[:, 1].sum()])
        return float(shares @ _work(settings))


def _work(settings: Settings) -> tuple[float, float]:
    least, most = settings.lengths
    return most, settings.n * (least + most) / 2


def format_estimate(seconds: float | None) -> str:
    """An estimate of a run's time for a reader; nothing for None."""
    return "" if seconds is None else say("estimate", time=format_duration(seconds))
