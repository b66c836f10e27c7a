"""The chart of a comparison as SVG: mean scores against the square root of KL."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bon.compare.result import Comparison, Estimate, Row
from bon.messages import join, say
from bon.report.axis import Box, Place, box_of, free_place, tick_step, ticks, widest
from bon.report.numbers import format_tick, format_unit
from bon.report.svg import ACCENT, LINE, MEAN, SOFT, WIN, Element, dot, image, line, text

#: So wide that a phone shows it almost at its size.
WIDTH, HEIGHT = 380, 330
RIGHT, TOP, BOTTOM = 14, 62, 48
FRAME = Box(0, 0, WIDTH, HEIGHT)
BEST, TUNED, JUDGE = ACCENT, WIN, MEAN


@dataclass(frozen=True, slots=True)
class _Point:
    """What stands at one KL: the scorer's mean, and the judge's where there is one. kl, kl_error: nats."""

    name: str
    kl: float
    score: Estimate
    judge: Estimate | None = None
    kl_error: float = 0.0

    @property
    def root(self) -> float:
        """Square root of KL, whose estimate may be below 0."""
        return math.sqrt(max(self.kl, 0.0))


@dataclass(frozen=True, slots=True)
class _Plot:
    """From values to coordinates: square roots of KL from 0 to `most`, scores from `low` to `high`."""

    most: float
    low: float
    high: float

    @property
    def score_ticks(self) -> list[float]:
        return ticks(self.low, self.high, tick_step(self.low, self.high))

    @property
    def left(self) -> float:
        """Where the axes begin: beside the labels of the scores."""
        return 16 + widest(map(format_tick, self.score_ticks))

    def x(self, root: float) -> float:
        return round(self.left + root / self.most * (WIDTH - self.left - RIGHT), 1)

    def y(self, score: float) -> float:
        return round(HEIGHT - BOTTOM - (score - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM), 1)

    def place(self, point: _Point) -> tuple[float, float]:
        return self.x(point.root), self.y(point.score.mean)


def chart(comparison: Comparison) -> Element | None:
    """The chart, or None before the first prompt is done.

    The best-of-N curve with its points named by N, the tuned model and the checkpoints of its training as points, each
    with 95% error bars; the judge's score of the same samples dashed.
    """
    best, tuned = _points(comparison.rows(), "best"), _points(comparison.rows(), "tuned")
    if not best:
        return None
    checkpoints = [
        _Point(str(point["name"]), point["kl"], Estimate(point["score"], point.get("low"), point.get("high")))
        for point in comparison.checkpoints
    ]
    plot = _plot(best + tuned, checkpoints, comparison.unit)
    description = join([say("comparison.figure"), comparison.sentence()], " ")
    judge = _judge_places(plot, best)
    lines = [*_along(list(map(plot.place, best))), *_along(judge)]
    labels = [*_curve_labels(plot, best, lines)]
    parts = [*_axes(plot), *_legend(comparison), *_judge(plot, judge, tuned), *_curve(plot, best),
             *(_label(name, place, BEST, 600) for name, place in labels),
             *_checkpoints(plot, checkpoints, tuned, [box_of(place, name) for name, place in labels], lines),
             *(_tuned(plot, tuned[0]) if tuned else ())]
    return image(WIDTH, HEIGHT, description, parts)


def _points(rows: Sequence[Row], kind: str) -> list[_Point]:
    """The points of the rows of one kind, without those whose KL is not known."""
    return [_Point(str(row.k), row.kl, row.score, row.judge, row.kl_error or 0.0)
            for row in rows if row.kind == kind and row.kl is not None]


def _plot(points: Sequence[_Point], checkpoints: Sequence[_Point], unit: str) -> _Plot:
    """The coordinates that hold all points; a checkpoint with far more KL than any of them is left out."""
    kls = [point.kl + 2 * point.kl_error for point in points]
    kls += [point.kl for point in checkpoints if point.kl < 4 * max(kls)]
    most = 1.06 * math.sqrt(max(kls)) or 1.0
    if unit == "probability":
        return _Plot(most, 0.0, 1.0)
    estimates = [point.score for point in points] + [point.judge for point in points if point.judge]
    scores = [value for e in estimates for value in (e.low, e.mean, e.high) if value is not None]
    scores += [point.score.mean for point in checkpoints]
    room = 0.06 * (max(scores) - min(scores)) or 0.5
    return _Plot(most, min(scores) - room, max(scores) + room)


def _axes(plot: _Plot) -> Iterator[Element]:
    for value in plot.score_ticks:
        y = plot.y(value)
        yield line([(plot.left, y), (WIDTH - RIGHT, y)], LINE, 1)
        yield text(plot.left - 8, y + 4, format_tick(value), colour=SOFT, anchor="end")
    for value in ticks(0.0, plot.most, tick_step(0.0, plot.most)):
        yield text(min(plot.x(value), WIDTH - 12), HEIGHT - BOTTOM + 20, format_tick(value), colour=SOFT)


def _legend(comparison: Comparison) -> Iterator[Element]:
    """What the axes measure, and the names of the curves in their colours."""
    score = say("comparison.score_axis", unit=format_unit(comparison.unit, comparison.target))
    yield text(8, TOP - 46, score, colour=SOFT, anchor="start")
    systems = {row.kind: row for row in comparison.rows()}
    names = [(say("comparison.curve"), BEST), *([(say("comparison.tuned"), TUNED)] if "tuned" in systems else [])]
    names += [(say("comparison.judge_curve"), JUDGE)] if systems["base"].judge else []
    legend = [Element("tspan", {"fill": colour, "dx": 14 if i else 0}, (name,))
              for i, (name, colour) in enumerate(names)]
    yield text(8, TOP - 26, *legend, colour=SOFT, anchor="start", weight=600)
    yield text(WIDTH - RIGHT, HEIGHT - 8, say("comparison.kl_axis"), colour=SOFT, anchor="end")


def _curve(plot: _Plot, best: Sequence[_Point]) -> Iterator[Element]:
    places = list(map(plot.place, best))
    yield line(places, BEST, 2.5)
    for point, (x, y) in zip(best, places, strict=True):
        yield from _error_bar(plot, x, point.score, BEST)
        yield dot(x, y, 4, BEST)


def _curve_labels(plot: _Plot, best: Sequence[_Point], lines: Sequence[Box]) -> Iterator[tuple[str, Place]]:
    """The names of the curve's points with their places, beside the error bars; the last ones first, and those left out
    that have no room. lines: what they cover only where there is no other room.
    """
    taken = [box_of(Place(plot.left - 8, plot.y(value) + 4, "end"), format_tick(value)) for value in plot.score_ticks]
    for point in reversed(best):
        x, y = plot.place(point)
        places = [Place(x - 6, y - 7, "end"), Place(x + 6, y - 7, "start"), Place(x + 6, y + 14, "start")]
        place = _free_place(point.name, places, taken, lines)
        if place:
            taken.append(box_of(place, point.name))
            yield point.name, place


def _free_place(name: str, places: Sequence[Place], taken: Sequence[Box], lines: Sequence[Box]) -> Place | None:
    """The first place that is free of lines too, else the first that is free."""
    return free_place(name, places, [*taken, *lines], FRAME) or free_place(name, places, taken, FRAME)


def _along(places: Sequence[tuple[float, float]], step: float = 4.0) -> Iterator[Box]:
    """Small rectangles along the line through these places, one every `step` pixels."""
    for (x, y), (next_x, next_y) in itertools.pairwise(places):
        count = max(1, round(math.dist((x, y), (next_x, next_y)) / step))
        for i in range(count + 1):
            yield _around(x + (next_x - x) * i / count, y + (next_y - y) * i / count, 1.5)


def _label(name: str, place: Place, colour: str, weight: int = 400) -> Element:
    return text(place.x, place.y, name, colour=colour, anchor=place.anchor, weight=weight)


def _tuned(plot: _Plot, point: _Point) -> Iterator[Element]:
    x, y = plot.place(point)
    left, right = (plot.x(math.sqrt(max(point.kl + side * 1.96 * point.kl_error, 0.0))) for side in (-1, 1))
    yield line([(left, y), (right, y)], TUNED, 1.5)
    yield from _error_bar(plot, x, point.score, TUNED)
    yield dot(x, y, 6, TUNED)


def _checkpoints(plot: _Plot, checkpoints: Sequence[_Point], tuned: Sequence[_Point], taken: Sequence[Box],
                 lines: Sequence[Box]) -> Iterator[Element]:
    """The checkpoints within the plot, each named where there is room. taken: what is named already. lines: what the
    names cover only where there is no other room.
    """
    points = [(*plot.place(point), point) for point in checkpoints]
    boxes = [*taken, *(_around(*plot.place(point)) for point in tuned)]
    for x, y, point in points:
        if x > WIDTH - RIGHT:
            continue
        yield from _error_bar(plot, x, point.score, TUNED)
        yield dot(x, y, 4.5, "var(--bon-paper,#fff)", stroke=TUNED, stroke_width=2)
        places = [Place(x + side, y + up, "start" if side > 0 else "end") for up in (4, 18, -8, 32, -22)
                  for side in (9, -9)]
        others = [_around(*other) for *other, _ in points if other != [x, y]]
        place = _free_place(point.name, places, [*boxes, *others], lines)
        if place:
            boxes.append(box_of(place, point.name))
            yield _label(point.name, place, TUNED)


def _around(x: float, y: float, radius: float = 7.0) -> Box:
    """The rectangle that a point takes up."""
    return Box(x - radius, y - radius, x + radius, y + radius)


def _judge_places(plot: _Plot, best: Sequence[_Point]) -> list[tuple[float, float]]:
    """The points of the judge's curve over best of N; none unless it rated every best of N."""
    places = [(plot.x(point.root), plot.y(point.judge.mean)) for point in best if point.judge]
    return places if len(places) == len(best) else []


def _judge(plot: _Plot, curve: Sequence[tuple[float, float]], tuned: Sequence[_Point]) -> Iterator[Element]:
    """The judge's curve, and its mark for the tuned model."""
    if not curve:
        return
    yield line(curve, JUDGE, 2, dashed=True)
    for point in tuned:
        if point.judge:
            x, y = plot.x(point.root), plot.y(point.judge.mean)
            yield line([(x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y), (x, y - 6)], JUDGE, 2)


def _error_bar(plot: _Plot, x: float, estimate: Estimate, colour: str) -> Iterator[Element]:
    if estimate.low is not None and estimate.high is not None:
        yield line([(x, plot.y(estimate.low)), (x, plot.y(estimate.high))], colour, 1.5)
