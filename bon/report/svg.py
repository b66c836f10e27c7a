"""The SVG elements that charts are made of, as text.

Colours are the page's variables, each with a value for files that have no such variable.
"""

from collections.abc import Iterable, Sequence
from html import escape

SOFT, LINE = "var(--bon-soft,#4b5262)", "var(--bon-line,#e4e6ed)"
ACCENT, WIN, MEAN = "var(--bon-accent,#4a3fd6)", "var(--bon-win-dot,#0a8674)", "var(--bon-mean,#a34a06)"


def image(width: float, height: float, description: str, parts: Iterable[str]) -> str:
    """A drawing of `parts`, which are markup; screen readers read the description."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="{escape(description)}" font-family="system-ui, sans-serif" font-size="13">'
            f'{"".join(parts)}</svg>')


def line(points: Sequence[tuple[float, float]], colour: str, width: float, dashed: bool = False) -> str:
    """A line through points."""
    path = "L".join(f"{x} {y}" for x, y in points)
    dash = ' stroke-dasharray="6 5"' if dashed else ""
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>'


def text(x: float, y: float, markup: str, colour: str, anchor: str = "middle", weight: int = 400) -> str:
    """A text at a place; special characters in `markup` are escaped by the caller."""
    return f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">{markup}</text>'
