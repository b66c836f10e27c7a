"""The figure of a comparison as an SVG: score against the square root of KL."""

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from bon.compare.result import Comparison, Estimate, Row
from bon.messages import joined, say
from bon.report.numbers import NICE_STEPS, tick_words, unit_words
from bon.report.svg import ACCENT, LINE, MEAN, SOFT, WIN, image, line, text

WIDTH, HEIGHT = 640, 400
#: What the name of a checkpoint takes beside its point.
NAMED = 64
LEFT, RIGHT, TOP, BOTTOM = 54, 24, 46, 48
BEST, TUNED, JUDGE = ACCENT, WIN, MEAN


class _Plot:
    """Places of values on the drawing."""

    def __init__(self, most: float, low: float, high: float):
        self.most, self.low, self.high = most or 1.0, low, high if high > low else low + 1.0

    def x(self, root: float) -> float:
        return round(LEFT + root / self.most * (WIDTH - LEFT - RIGHT), 1)

    def y(self, score: float) -> float:
        return round(HEIGHT - BOTTOM - (score - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM), 1)


def svg(comparison: Comparison, words: Callable[[str], str] = str) -> str:
    """The figure, or an empty text before the first prompt is done.

    The best-of-N curve with its points named by N, the tuned model and the checkpoints of its training as points, each
    with 95% error bars; the judge's score of the same samples dashed. words: what is written of a message: its English,
    or `messages.carried` for a page that says it in another language.
    """
    rows = comparison.rows()
    best = [row for row in rows if row.kind == "best"]
    tuned = [row for row in rows if row.kind == "tuned" and row.kl is not None]
    if not best:
        return ""
    plot = _plot(comparison, best, tuned)
    spoken = words(joined([say("comparison.figure"), comparison.sentence()], " "))
    parts = [*_axes(plot, comparison, words), *_judged(plot, best, tuned), *_curve(plot, best),
             *_checkpoints(plot, comparison, tuned), *(_tuned(plot, tuned[0]) if tuned else ())]
    return image(WIDTH, HEIGHT, spoken, parts)


def _plot(comparison: Comparison, best: Sequence[Row], tuned: Sequence[Row]) -> _Plot:
    # Checkpoints far off would press everything else together.
    kls = [row.kl for row in best] + [row.kl + 2 * (row.kl_error or 0) for row in tuned]
    kls += [point["kl"] for point in comparison.points if point["kl"] < 4 * max(kls)]
    judged = [row.judge for row in (*best, *tuned) if row.judge]
    ends = [end for e in (*(row.score for row in (*best, *tuned)), *judged) for end in (e.low, e.mean, e.high)]
    ends = [end for end in ends if end is not None] + [point["score"] for point in comparison.points]
    if comparison.unit == "probability":
        return _Plot(1.06 * math.sqrt(max(kls)), 0.0, 1.0)
    room = 0.06 * (max(ends) - min(ends))
    return _Plot(1.06 * math.sqrt(max(kls)), min(ends) - room, max(ends) + room)


def _axes(plot: _Plot, comparison: Comparison, words: Callable[[str], str]) -> Iterator[str]:
    for value in _ticks(plot.low, plot.high):
        y = plot.y(value)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="{LINE}"/>'
        yield text(LEFT - 8, y + 4, tick_words(value), SOFT, "end")
    for value in _ticks(0.0, plot.most):
        yield text(plot.x(value), HEIGHT - BOTTOM + 20, tick_words(value), SOFT)
    score = say("comparison.score_axis", unit=unit_words(comparison.unit, comparison.target))
    yield text(LEFT, TOP - 28, escape(words(score)), SOFT, "start")
    systems = {row.kind: row for row in comparison.rows()}
    names = [(say("comparison.curve"), BEST), *([(say("comparison.tuned"), TUNED)] if "tuned" in systems else [])]
    names += [(say("comparison.judge_curve"), JUDGE)] if systems["base"].judge else []
    legend = "".join(f'<tspan fill="{colour}" dx="14">{escape(words(name))}</tspan>' for name, colour in names)
    yield text(WIDTH - RIGHT, TOP - 28, legend, SOFT, "end", 600)
    yield text(WIDTH - RIGHT, HEIGHT - 8, escape(words(say("comparison.kl_axis"))), SOFT, "end")


def _curve(plot: _Plot, best: Sequence[Row]) -> Iterator[str]:
    places = [(plot.x(math.sqrt(row.kl)), plot.y(row.score.mean)) for row in best]
    yield line(places, BEST, 2.5)
    for row, (x, y) in zip(best, places, strict=True):
        yield _bar(plot, x, row.score, BEST)
        yield f'<circle cx="{x}" cy="{y}" r="4" fill="{BEST}"/>'
        yield text(x, y - 12, str(row.k), BEST, weight=600)


def _tuned(plot: _Plot, row: Row) -> Iterator[str]:
    x, y = plot.x(math.sqrt(max(row.kl, 0.0))), plot.y(row.score.mean)
    ends = [plot.x(math.sqrt(max(row.kl + side * 1.96 * (row.kl_error or 0.0), 0.0))) for side in (-1, 1)]
    yield f'<line x1="{ends[0]}" x2="{ends[1]}" y1="{y}" y2="{y}" stroke="{TUNED}" stroke-width="1.5"/>'
    yield _bar(plot, x, row.score, TUNED)
    yield f'<circle cx="{x}" cy="{y}" r="6" fill="{TUNED}"/>'


def _checkpoints(plot: _Plot, comparison: Comparison, tuned: Sequence[Row]) -> Iterator[str]:
    places = [(plot.x(math.sqrt(max(point["kl"], 0.0))), plot.y(point["score"]), point) for point in comparison.points]
    others = [x for x, _, _ in places] + [plot.x(math.sqrt(max(row.kl, 0.0))) for row in tuned]
    for x, y, point in (place for place in places if place[0] <= WIDTH - RIGHT):
        if point.get("low") is not None:
            yield _bar(plot, x, Estimate(point["score"], point["low"], point["high"]), TUNED)
        yield f'<circle cx="{x}" cy="{y}" r="4.5" fill="var(--bon-paper,#fff)" stroke="{TUNED}" stroke-width="2"/>'
        left = any(0 < other - x < NAMED for other in others)
        yield text(x - 9 if left else x + 9, y + 18, escape(str(point["name"])), TUNED, "end" if left else "start")


def _judged(plot: _Plot, best: Sequence[Row], tuned: Sequence[Row]) -> Iterator[str]:
    if not all(row.judge for row in best):
        return
    places = [(plot.x(math.sqrt(row.kl)), plot.y(row.judge.mean)) for row in best]
    yield line(places, JUDGE, 2, dashed=True)
    for row in tuned:
        if row.judge:
            x, y = plot.x(math.sqrt(max(row.kl, 0.0))), plot.y(row.judge.mean)
            yield f'<path d="M{x} {y - 6}L{x + 6} {y}L{x} {y + 6}L{x - 6} {y}Z" fill="none" stroke="{JUDGE}" ' \
                  'stroke-width="2"/>'


def _bar(plot: _Plot, x: float, estimate: Estimate, colour: str) -> str:
    if estimate.low is None:
        return ""
    return f'<line x1="{x}" x2="{x}" y1="{plot.y(estimate.low)}" y2="{plot.y(estimate.high)}" stroke="{colour}" ' \
           'stroke-width="1.5"/>'


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(s * power for s in NICE_STEPS if s * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]

