"""The two charts of a run as SVG: every candidate's score on one axis, and what N would have bought."""

import math
from collections.abc import Iterator, Sequence

from bon.report.numbers import axis_of, number_words, score_words, share, tick_words, unit_words
from bon.report.svg import ACCENT, LINE, MEAN, SOFT, WIN, image, line, text
from bon.result import Result

WIDTH = 720
SIDE, TOP, SWARM, FOOT = 14, 30, 62, 24
LEFT, RIGHT, HEIGHT = 46, 28, 190


def strip(result: Result) -> str:
    """Every complete candidate's score on one axis, the selected one marked, and the mean, which one sample has."""
    shown = [c for c in result.candidates if c.score is not None and c.ended != "rejected"]
    axis, base = _scale(result), TOP + SWARM
    places = [_x(share(c.score, axis)) for c in shown]
    radius = 5.5 if len(shown) <= 48 else 3.5
    dots = [
        f'<circle cx="{x}" cy="{round(base - up, 1)}" r="{radius + 2 * (i == 0)}" fill="{WIN if i == 0 else ACCENT}" '
        f'fill-opacity="{1 if i == 0 else 0.55}"/>'
        for i, (x, up) in enumerate(zip(places, _heights(places, radius), strict=True))
    ]
    spoken = f"Scores of {len(shown)} candidates, {unit_words(result.unit, result.target)}."
    return image(WIDTH, base + FOOT, spoken, [*_axis(axis, base), *_lift(result, axis), *reversed(dots)])


def _scale(result: Result) -> tuple:
    # Of those that were not kept there is at least the mean.
    scores = [c.score for c in result.candidates if c.score is not None]
    return axis_of([*scores, *(result.stats.expected_best if result.stats else ())], result.unit)


def _x(place: float) -> float:
    return round(SIDE + place * (WIDTH - 2 * SIDE), 1)


def _heights(places: Sequence[float], radius: float) -> list[float]:
    """How high above the axis each dot lies: as near to it as its neighbours let it, pressed into the room there is."""
    up: list[float] = []
    for i, x in enumerate(places):
        near, y = [j for j in range(i) if abs(places[j] - x) < 2 * radius], radius + 2
        while any((places[j] - x) ** 2 + (up[j] - y) ** 2 < 4 * radius**2 for j in near):
            y += 0.5
        up.append(y)
    press = min(1.0, SWARM / max(up, default=1.0))
    return [y * press for y in up]


def _axis(axis: tuple, y: float) -> Iterator[str]:
    yield line([(_x(0), y), (_x(1), y)], LINE, 1.5)
    for tick in axis[2]:
        place = share(tick, axis)
        anchor = "start" if place < 0.02 else "end" if place > 0.98 else "middle"
        yield text(_x(place), y + 18, tick_words(tick), SOFT, anchor)


def _lift(result: Result, axis: tuple) -> Iterator[str]:
    if result.stats is None or len(result.candidates) < 2:
        return
    mean, best = (_x(share(score, axis)) for score in (result.stats.mean, result.best.score))
    yield line([(mean, 16), (mean, TOP + SWARM)], MEAN, 1.5, dashed=True)
    yield line([(mean, 16), (best, 16)], WIN, 1.5)
    lift = number_words(result.best.score - result.stats.mean, 3, "+")
    words = f"one sample {score_words(result.stats.mean)}, {lift}"
    yield text(mean, 11, words, MEAN, "start" if mean < WIDTH / 2 else "end", 600)


def curve(result: Result) -> str:
    """The expected score of the best of k for k = 1..N, on a logarithmic axis; empty where it does not apply."""
    if result.stats is None or len(result.stats.expected_best) < 2:
        return ""
    values = result.stats.expected_best
    axis, n = _scale(result), len(values)

    def at(k: int) -> tuple[float, float]:
        x = LEFT + math.log(k) / math.log(n) * (WIDTH - LEFT - RIGHT)
        return round(x, 1), round(HEIGHT - FOOT - share(values[k - 1], axis) * (HEIGHT - FOOT - TOP), 1)

    parts = []
    for tick in axis[2]:
        y = round(HEIGHT - FOOT - share(tick, axis) * (HEIGHT - FOOT - TOP), 1)
        parts += [line([(LEFT, y), (WIDTH - RIGHT, y)], LINE, 1), text(LEFT - 8, y + 4, tick_words(tick), SOFT, "end")]
    parts.append(line([at(k) for k in range(1, n + 1)], ACCENT, 2.5))
    marks = sorted({n, *(2**i for i in range(n.bit_length()) if 2**i <= 0.77 * n)})
    for k in marks:
        x, y = at(k)
        parts += [f'<circle cx="{x}" cy="{y}" r="4" fill="{ACCENT}"/>', text(x, HEIGHT - 6, str(k), SOFT)]
    parts += [text(*_above(at(k)), score_words(values[k - 1]), ACCENT, weight=600) for k in (marks[0], marks[-1])]
    spoken = ", ".join(f"{k}: {score_words(values[k - 1])}" for k in marks)
    return image(WIDTH, HEIGHT, f"Expected score by number of candidates: {spoken}", parts)


def _above(place: tuple[float, float]) -> tuple[float, float]:
    return place[0], place[1] - 11
