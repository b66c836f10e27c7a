"""The two charts of a run as SVG: every candidate's score, and the expected best of each smaller N."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

from bon.report.axis import Axis, every, score_axis, text_width, widest
from bon.report.numbers import format_number, format_score, format_unit
from bon.report.svg import ACCENT, LINE, MEAN, SOFT, WIN, Element, dot, image, line, text
from bon.result import Result

#: Widths on a wide and on a narrow screen, on which a chart as wide would be scaled down until none can read it.
WIDTH, NARROW_WIDTH = 720, 340
#: The strip of dots: margins, room for dots above the axis, and room for the ticks' labels below it.
SIDE, TOP, SWARM, FOOT = 14, 30, 62, 24
#: The curve's height.
HEIGHT = 200
#: Room under the curve for the first value and the labels of k.
CURVE_FOOT = 42


def strip(result: Result, width: float = WIDTH) -> Element:
    """Every complete candidate's score on one axis, the selected one marked, and the mean, which one sample has."""
    scores = [c.score for c in result.candidates if c.score is not None and c.ended != "rejected"]
    axis, base = _axis_of(result), TOP + SWARM
    xs = [_x(axis.share(score), width) for score in scores]
    radius = 5.5 if len(scores) <= 48 else 3.5
    dots = [
        dot(x, round(base - up, 1), radius + 2, WIN, fill_opacity=1) if i == 0 else
        dot(x, round(base - up, 1), radius, ACCENT, fill_opacity=0.55)
        for i, (x, up) in enumerate(zip(xs, _heights(xs, radius), strict=True))
    ]
    description = f"Scores of {len(scores)} candidates, {format_unit(result.unit, result.target)}."
    lift = _lift(result.stats.mean, scores[0], axis, width) if result.stats and len(result.candidates) > 1 else ()
    return image(width, base + FOOT, description, [*_axis(axis, base, width), *lift, *reversed(dots)])


def _axis_of(result: Result) -> Axis:
    """The axis that holds every score of a run and every expected best, which both charts use."""
    # Where `keep` left candidates out, the expected best of 1, the mean, may lie below all that are kept.
    scores = [c.score for c in result.candidates if c.score is not None]
    return score_axis([*scores, *(result.stats.expected_best if result.stats else ())], result.unit)


def _x(share: float, width: float = WIDTH) -> float:
    return round(SIDE + share * (width - 2 * SIDE), 1)


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


def _axis(axis: Axis, y: float, width: float) -> Iterator[Element]:
    yield line([(_x(0, width), y), (_x(1, width), y)], LINE, 1.5)
    labels, intervals = [label for _, label in axis.marks()], max(1, len(axis.ticks) - 1)
    # The outer labels stand inside the axis, and so nearer to their neighbours by half their width.
    distance = (width - 2 * SIDE) / intervals - widest(labels) / 2
    for share, label in axis.marks(every(labels, distance)):
        anchor = "start" if share < 0.02 else "end" if share > 0.98 else "middle"
        yield text(_x(share, width), y + 18, label, colour=SOFT, anchor=anchor)


def _lift(mean: float, best: float, axis: Axis, width: float) -> Iterator[Element]:
    """The mean as a dashed line, and the way from it to the best score with its length."""
    x_mean, x_best = _x(axis.share(mean), width), _x(axis.share(best), width)
    yield line([(x_mean, 16), (x_mean, TOP + SWARM)], MEAN, 1.5, dashed=True)
    yield line([(x_mean, 16), (x_best, 16)], WIN, 1.5)
    label = f"one sample {format_score(mean)}, {format_number(best - mean, 3, '+')}"
    length = text_width(label, bold=True)
    is_left = x_mean < width / 2
    x, anchor = (min(x_mean, width - length), "start") if is_left else (max(x_mean, length), "end")
    yield text(round(x, 1), 11, label, colour=MEAN, anchor=anchor, weight=600)


def curve(result: Result, width: float = WIDTH) -> Element | None:
    """The expected score of the best of k for k = 1..N, on a logarithmic axis; None where it does not apply."""
    if result.stats is None or len(result.stats.expected_best) < 2:
        return None
    expected = result.stats.expected_best
    axis, n = _axis_of(result), len(expected)
    last = format_score(expected[-1])
    left, right = 18 + widest(label for _, label in axis.marks()), width - 12 - text_width(last, bold=True)

    def point(k: int) -> tuple[float, float]:
        x = left + math.log(k) / math.log(n) * (right - left)
        return round(x, 1), _y(axis.share(expected[k - 1]))

    parts: list[Element] = []
    for share, label in axis.marks():
        y = _y(share)
        parts += [line([(left, y), (right, y)], LINE, 1),
                  text(left - 8, y + 4, label, colour=SOFT, anchor="end")]
    parts.append(line([point(k) for k in range(1, n + 1)], ACCENT, 2.5))
    marks = marked_k(n, right - left)
    for k in marks:
        x, y = point(k)
        parts += [dot(x, y, 4, ACCENT), text(x, HEIGHT - 6, str(k), colour=SOFT)]
    # Where neither curve nor axis is: beside the end, and under a rising curve or above a falling one.
    (x, y), (x_last, y_last) = point(1), point(n)
    below = y_last < y
    parts += [
        text(x + 5, y + 18 if below else y - 9, format_score(expected[0]), colour=ACCENT, anchor="start", weight=600),
        text(x_last + 9, y_last + 4, last, colour=ACCENT, anchor="start", weight=600),
    ]
    values = ", ".join(f"{k}: {format_score(expected[k - 1])}" for k in marks)
    return image(width, HEIGHT, f"Expected score by number of candidates: {values}", parts)


def marked_k(n: int, width: float) -> list[int]:
    """Which k are marked on a logarithmic axis from 1 to n that is so wide: powers of two, as many as have room, and n.
    """
    octave = width / math.log2(n)
    step = every([str(n)], octave)
    room = 2 ** ((text_width(str(n)) + 6) / octave)
    return sorted({n, *(2**i for i in range(0, n.bit_length(), step) if 2**i * room <= n)})


def _y(share: float) -> float:
    return round(HEIGHT - CURVE_FOOT - share * (HEIGHT - CURVE_FOOT - TOP), 1)
