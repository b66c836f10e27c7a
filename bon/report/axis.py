"""Axes of charts: their ends, their ticks, where a value lies on them, and where labels stand without overlapping."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bon.report.numbers import format_tick

#: Distances between ticks, times a power of ten.
NICE_STEPS = (1, 2, 2.5, 5, 10)
#: Width of a character and of a bold one, and height of a line in pixels: those of wide fonts at 13 pixels.
CHARACTER, BOLD, LINE = 7.8, 9.0, 16.0


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


class Box(NamedTuple):
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        """Whether the two have a point in common that is not on an edge."""
        return (self.left < other.right and other.left < self.right
                and self.top < other.bottom and other.top < self.bottom)


class Place(NamedTuple):
    """Where a label stands: the end of its base line that `anchor` names, as in SVG."""

    x: float
    y: float
    anchor: str


def text_width(text: str, bold: bool = False) -> float:
    """About the width of a text in pixels, rather more than less."""
    return (BOLD if bold else CHARACTER) * len(text)


def widest(labels: Iterable[str]) -> float:
    """About the width of the longest of the labels in pixels."""
    return max(map(text_width, labels), default=0.0)


def box_of(place: Place, text: str) -> Box:
    """The rectangle that a label takes up."""
    width = text_width(text)
    left = place.x - {"start": 0.0, "middle": width / 2, "end": width}[place.anchor]
    return Box(left, place.y - LINE + 4, left + width, place.y + 4)


def free_place(text: str, places: Iterable[Place], taken: Sequence[Box], frame: Box) -> Place | None:
    """The first of the places at which the label overlaps no box and is inside the frame; None if there is none."""
    for place in places:
        box = box_of(place, text)
        inside = box.left >= frame.left and box.right <= frame.right
        if inside and box.top >= frame.top and box.bottom <= frame.bottom and not any(map(box.overlaps, taken)):
            return place
    return None


def every(labels: Sequence[str], distance: float) -> int:
    """Every which of equally distant labels can stand in a row. distance: pixels between two neighbours."""
    needed = widest(labels) + 6
    return max(1, -int(-needed // max(distance, 1e-9)))
