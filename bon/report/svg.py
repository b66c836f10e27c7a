"""The SVG elements that charts are made of, for a report as markup and for the page as plain values.

Colours are the page's variables, each with a value for files that have no such variable.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

SOFT, LINE = "var(--bon-soft,#4b5262)", "var(--bon-line,#e4e6ed)"
ACCENT, WIN, MEAN = "var(--bon-accent,#4a3fd6)", "var(--bon-win-dot,#0a8674)", "var(--bon-mean,#a34a06)"


@dataclass(frozen=True, slots=True)
class Element:
    """An SVG element. attributes, children: texts in them are data, never markup."""

    tag: str
    attributes: Mapping[str, str | float]
    children: Sequence["Node"] = ()

    def markup(self) -> str:
        """The element as markup, every text escaped."""
        attributes = "".join(f' {name}="{escape(str(value))}"' for name, value in self.attributes.items())
        inside = "".join(c.markup() if isinstance(c, Element) else escape(c) for c in self.children)
        return f"<{self.tag}{attributes}>{inside}</{self.tag}>"

    def view(self) -> list[object]:
        """The element in plain values, which `bon.drawing` in `dom.js` draws: tag, attributes, then the children."""
        children = [child.view() if isinstance(child, Element) else child for child in self.children]
        return [self.tag, dict(self.attributes), *children]


#: What an element contains: elements, and texts, which may be messages.
Node: TypeAlias = Element | str


def image(width: float, height: float, description: str, parts: Iterable[Element]) -> Element:
    """A drawing of `parts`; screen readers read the description."""
    attributes: dict[str, str | float] = {
        "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width} {height}", "role": "img",
        "aria-label": description, "font-family": "system-ui, sans-serif", "font-size": 13,
    }
    return Element("svg", attributes, tuple(parts))


def line(points: Sequence[tuple[float, float]], colour: str, width: float, dashed: bool = False) -> Element:
    """A line through points."""
    path = "L".join(f"{x} {y}" for x, y in points)
    dash = {"stroke-dasharray": "6 5"} if dashed else {}
    return Element("path", {"d": f"M{path}", "fill": "none", "stroke": colour, "stroke-width": width, **dash})


def dot(x: float, y: float, radius: float, colour: str, **attributes: str | float) -> Element:
    """A circle filled with a colour. attributes: further ones, with `_` for `-`."""
    others = {name.replace("_", "-"): value for name, value in attributes.items()}
    return Element("circle", {"cx": x, "cy": y, "r": radius, "fill": colour, **others})


def text(x: float, y: float, *children: Node, colour: str, anchor: str = "middle", weight: int = 400) -> Element:
    """A text at a place, or several in one line, each of which may be an element."""
    return Element("text", {"x": x, "y": y, "fill": colour, "text-anchor": anchor, "font-weight": weight}, children)
