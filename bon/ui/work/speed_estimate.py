"""Estimates of how long a run will take, from the runs so far, shown before the button is pressed."""

from collections import deque
from threading import Lock

import numpy as np

from bon.messages import say
from bon.report.numbers import format_duration
from bon.result import Result
from bon.settings import Settings

#: The latest runs that are kept of each pair of model and scorer.
RUNS_KEPT = 24
#: The latest pairs of model and scorer that are kept.
MODELS_KEPT = 32


class Speeds:
    """The latest runs by model and scorer, and estimates from them.

    Model: seconds = a * decode steps + b * tokens of all candidates, with a and b fitted by least squares. Decode steps
    are taken to be the largest cap; tokens, n times the mean cap.
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[str | None, str | None], deque[tuple[float, float, float]]] = {}
        self._lock = Lock()

    def record(self, result: Result) -> None:
        """Keeps the time of a run that has ended; not with early rejection, where the model does not hold."""
        if result.settings.reject:
            return
        with self._lock:
            runs = self._runs.setdefault((result.settings.model, result.settings.scorer), deque(maxlen=RUNS_KEPT))
            runs.append((*_steps_and_tokens(result.settings), result.timing.total))
            while len(self._runs) > MODELS_KEPT:
                del self._runs[next(iter(self._runs))]

    def seconds(self, settings: Settings) -> float | None:
        """The seconds that a run of these settings will take; None before runs of two different sizes are kept."""
        with self._lock:
            runs = np.array(self._runs.get((settings.model, settings.scorer), ()))
        if len(runs) < 2 or len(np.unique(runs[:, :2], axis=0)) < 2:
            return None
        rates = np.linalg.lstsq(runs[:, :2], runs[:, 2], rcond=None)[0]
        if (rates < 0).any():  # noise; then seconds = b * tokens
            rates = np.array([0.0, runs[:, 2].sum() / runs[:, 1].sum()])
        return float(rates @ _steps_and_tokens(settings))


def _steps_and_tokens(settings: Settings) -> tuple[float, float]:
    min_cap, max_cap = settings.lengths
    return max_cap, settings.n * (min_cap + max_cap) / 2


def format_estimate(seconds: float | None) -> str:
    """The text of an estimate; empty for None."""
    return "" if seconds is None else say("estimate", time=format_duration(seconds))
