"""Numbers as a reader reads them, and the axis that scores are drawn on; for page, report and table alike."""

import math
from collections.abc import Sequence

from bon.messages import message_or, say

#: Steps between ticks of an axis that has no fixed ends, times a power of ten.
NICE_STEPS = (1, 2, 2.5, 5, 10)


def axis_of(scores: Sequence[float], unit: str) -> tuple[float, float, list[float]]:
    """The ends of the score's axis and its ticks: 0 to 1 for probabilities, else round numbers around the scores."""
    if unit == "probability":
        return 0.0, 1.0, [0, 0.25, 0.5, 0.75, 1]
    if not scores:
        return 0.0, 1.0, []
    low, high = min(scores), max(scores)
    rough = max(high - low, 1e-6) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(s * power for s in NICE_STEPS if s * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return first * step, max(last, first + 1) * step, [i * step for i in range(first, max(last, first + 1) + 1)]


def share(value: float, axis: tuple) -> float:
    """Where `value` lies between the ends of the axis, 0 to 1."""
    return round((value - axis[0]) / (axis[1] - axis[0]), 4)


def unit_words(unit: str, target: str | None) -> str:
    """The score's unit for a reader: `probability of positive`."""
    unit = message_or(f"unit.{unit}", unit)
    return say("unit.of", unit=unit, label=label_words(target)) if target else unit


def label_words(label: str) -> str:
    """A scorer's label for a reader: POSITIVE shouts."""
    return message_or(f"label.{quiet_label(label)}", quiet_label(label))


def quiet_label(label: str) -> str:
    """A scorer's label without capitals where it has nothing else."""
    return label.lower() if label.isupper() else label


def score_words(score: float) -> str:
    """A score with three decimals; a probability just below 1 is not shown as 1."""
    if 0.9995 <= score < 1:
        return "> 0.999"
    return "< 0.001" if 0 < score < 0.0005 else number_words(score, 3)


def score_or_dash(score: float | None) -> str:
    """A score as `score_words`, or a dash where there is none."""
    return "–" if score is None else score_words(score)


def number_words(value: float, decimals: int, sign: str = "") -> str:
    """A number with a true minus sign; `sign="+"` shows a plus sign too."""
    return format(value, f"{sign}.{decimals}f").replace("-", "−")


def percent_words(share: float) -> str:
    """A share in percent; one just below 1 is not shown as 100%."""
    return f"{share:.0%}" if share < 0.99 else f"{math.floor(share * 1000) / 10:g}%"


def tick_words(value: float) -> str:
    """The label of a tick."""
    return f"{round(value, 6):g}".replace("-", "−")


def count(number: int, noun: str) -> str:
    """`1 token`, `2 tokens`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
