"""What the drawings of runs and comparisons are made of: SVG in pure text.

Colours come from the page's variables, with values of their own for where there are none.
"""

from collections.abc import Iterable, Sequence
from html import escape

SOFT, LINE = "var(--bon-soft,#4b5262)", "var(--bon-line,#e4e6ed)"
ACCENT, WIN, MEAN = "var(--bon-accent,#4a3fd6)", "var(--bon-win-dot,#0a8674)", "var(--bon-mean,#a34a06)"


def image(width: float, height: float, spoken: str, parts: Iterable[str]) -> str:
    """A drawing of some size; `spoken` says in words what it shows."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="{escape(spoken)}" font-family="system-ui, sans-serif" font-size="13">{"".join(parts)}</svg>')


def line(places: Sequence[tuple[float, float]], colour: str, width: float, dashed: bool = False) -> str:
    """A line through places."""
    path = "L".join(f"{x} {y}" for x, y in places)
    dash = ' stroke-dasharray="6 5"' if dashed else ""
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>'


def text(x: float, y: float, words: str, colour: str, anchor: str = "middle", weight: int = 400) -> str:
    """Words, which are markup already."""
    return f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">{words}</text>'
