"""The two charts of a run as SVG: every candidate's score, and the expected best of each smaller N."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

from bon.report.axis import Axis, score_axis
from bon.report.numbers import format_number, format_score, format_unit
from bon.report.svg import ACCENT, LINE, MEAN, SOFT, WIN, Element, dot, image, line, text
from bon.result import Result

WIDTH = 720
#: The strip of dots: margins, room for dots above the axis, and room for the ticks' labels below it.
SIDE, TOP, SWARM, FOOT = 14, 30, 62, 24
#: The curve: its margins and its height.
LEFT, RIGHT, HEIGHT = 46, 28, 190


def strip(result: Result) -> Element:
    """Every complete candidate's score on one axis, the selected one marked, and the mean, which one sample has."""
    scores = [c.score for c in result.candidates if c.score is not None and c.ended != "rejected"]
    axis, base = _axis_of(result), TOP + SWARM
    xs = [_x(axis.share(score)) for score in scores]
    radius = 5.5 if len(scores) <= 48 else 3.5
    dots = [
        dot(x, round(base - up, 1), radius + 2, WIN, fill_opacity=1) if i == 0 else
        dot(x, round(base - up, 1), radius, ACCENT, fill_opacity=0.55)
        for i, (x, up) in enumerate(zip(xs, _heights(xs, radius), strict=True))
    ]
    description = f"Scores of {len(scores)} candidates, {format_unit(result.unit, result.target)}."
    lift = _lift(result.stats.mean, scores[0], axis) if result.stats and len(result.candidates) > 1 else ()
    return image(WIDTH, base + FOOT, description, [*_axis(axis, base), *lift, *reversed(dots)])


def _axis_of(result: Result) -> Axis:
    """The axis that holds every score of a run and every expected best, which both charts use."""
    # Where `keep` left candidates out, the expected best of 1, the mean, may lie below all that are kept.
    scores = [c.score for c in result.candidates if c.score is not None]
    return score_axis([*scores, *(result.stats.expected_best if result.stats else ())], result.unit)


def _x(share: float) -> float:
    return round(SIDE + share * (WIDTH - 2 * SIDE), 1)


def _heights(xs: Sequence[float], radius: float) -> list[float]:
    """The height of each dot above the axis: each is in the lowest row in which it touches no other dot. The rows are
    scaled down to `SWARM`.
    """
    rows = [0] * len(xs)
    free = list[int]()  # a heap of the rows that no dot within reach is in
    near = deque[tuple[float, int]]()  # the dots within reach, from left to right, with their rows
    for i in sorted(range(len(xs)), key=xs.__getitem__):
        while near and xs[i] - near[0][0] >= 2 * radius:
            heappush(free, near.popleft()[1])
        rows[i] = heappop(free) if free else len(near)
        near.append((xs[i], rows[i]))
    heights = [radius + 2 + 2 * radius * row for row in rows]
    scale = min(1.0, SWARM / max(heights, default=1.0))
    return [height * scale for height in heights]


def _axis(axis: Axis, y: float) -> Iterator[Element]:
    yield line([(_x(0), y), (_x(1), y)], LINE, 1.5)
    for share, label in axis.marks():
        anchor = "start" if share < 0.02 else "end" if share > 0.98 else "middle"
        yield text(_x(share), y + 18, label, colour=SOFT, anchor=anchor)


def _lift(mean: float, best: float, axis: Axis) -> Iterator[Element]:
    """The mean as a dashed line, and the way from it to the best score with its length."""
    x_mean, x_best = _x(axis.share(mean)), _x(axis.share(best))
    yield line([(x_mean, 16), (x_mean, TOP + SWARM)], MEAN, 1.5, dashed=True)
    yield line([(x_mean, 16), (x_best, 16)], WIN, 1.5)
    label = f"one sample {format_score(mean)}, {format_number(best - mean, 3, '+')}"
    yield text(x_mean, 11, label, colour=MEAN, anchor="start" if x_mean < WIDTH / 2 else "end", weight=600)


def curve(result: Result) -> Element | None:
    """The expected score of the best of k for k = 1..N, on a logarithmic axis; None where it does not apply."""
    if result.stats is None or len(result.stats.expected_best) < 2:
        return None
    expected = result.stats.expected_best
    axis, n = _axis_of(result), len(expected)

    def point(k: int) -> tuple[float, float]:
        x = LEFT + math.log(k) / math.log(n) * (WIDTH - LEFT - RIGHT)
        return round(x, 1), _y(axis.share(expected[k - 1]))

    parts: list[Element] = []
    for share, label in axis.marks():
        y = _y(share)
        parts += [line([(LEFT, y), (WIDTH - RIGHT, y)], LINE, 1),
                  text(LEFT - 8, y + 4, label, colour=SOFT, anchor="end")]
    parts.append(line([point(k) for k in range(1, n + 1)], ACCENT, 2.5))
    marks = sorted({n, *(2**i for i in range(n.bit_length()) if 2**i <= 0.77 * n)})
    for k in marks:
        x, y = point(k)
        parts += [dot(x, y, 4, ACCENT), text(x, HEIGHT - 6, str(k), colour=SOFT)]
    for k in (marks[0], marks[-1]):
        x, y = point(k)
        parts.append(text(x, y - 11, format_score(expected[k - 1]), colour=ACCENT, weight=600))
    values = ", ".join(f"{k}: {format_score(expected[k - 1])}" for k in marks)
    return image(WIDTH, HEIGHT, f"Expected score by number of candidates: {values}", parts)


def _y(share: float) -> float:
    return round(HEIGHT - FOOT - share * (HEIGHT - FOOT - TOP), 1)
