"""Where the labels of a chart stand, so that no two of them overlap: estimates of their sizes, and places for them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: Width of a character and of a bold one, and height of a line in pixels: those of wide fonts at 13 pixels.
CHARACTER, BOLD, LINE = 7.8, 9.0, 16.0


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
