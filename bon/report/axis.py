"""Axes of charts: their ends, their ticks, and where a value lies on them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bon.report.numbers import format_tick

#: Distances between ticks, times a power of ten.
NICE_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from `low` to `high`, which differ, with ticks in rising order."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Where `value` lies between the ends, 0 to 1."""
        return round((value - self.low) / (self.high - self.low), 4)

    def marks(self, step: int = 1) -> list[tuple[float, str]]:
        """Share and label of every `step`-th tick."""
        return [(self.share(tick), format_tick(tick)) for tick in self.ticks[::step]]


def score_axis(scores: Sequence[float], unit: str) -> Axis:
    """The axis that scores are drawn on: 0 to 1 for probabilities, else from tick to tick around the scores."""
    if unit == "probability":
        return Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))
    if not scores:
        return Axis(0.0, 1.0, ())
    step = tick_step(min(scores), max(scores))
    first, last = math.floor(min(scores) / step), math.ceil(max(scores) / step)
    low, high = first * step, max(last, first + 1) * step
    return Axis(low, high, tuple(ticks(low, high, step)))


def tick_step(low: float, high: float) -> float:
    """The least of the nice distances between ticks that part low and high at most four times."""
    rough = max(high - low, 1e-6) / 4
    power = 10 ** math.floor(math.log10(rough))
    return next(nice * power for nice in NICE_STEPS if nice * power >= rough * (1 - 1e-9))


def ticks(low: float, high: float, step: float) -> list[float]:
    """The multiples of `step` from low to high."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]
