"""Numbers, units, labels and durations as text for a reader, the same on page, in reports and on the terminal."""

import math

from bon.messages import Message, message_or, say


def format_unit(unit: str, target: str | None) -> str:
    """A score's unit, and the target that it is of, for a reader: `probability of positive`."""
    unit = message_or(f"unit.{unit}", unit)
    return say("unit.of", unit=unit, label=format_label(target)) if target else unit


def format_label(label: str) -> str:
    """A scorer's label for a reader: in the page's words where it has them, and never all in capitals."""
    return message_or(f"label.{lower_label(label)}", lower_label(label))


def lower_label(label: str) -> str:
    """The label in lower case where it is all capitals, else as it is."""
    return label.lower() if label.isupper() else label


def format_score(score: float | None) -> str:
    """A score with three decimals, a dash for None; a probability just below 1 is not shown as 1."""
    if score is None:
        return "–"
    if 0.9995 <= score < 1:
        return "> 0.999"
    return "< 0.001" if 0 < score < 0.0005 else format_number(score, 3)


def format_number(value: float, decimals: int, sign: str = "") -> str:
    """A number with a true minus sign; `sign="+"` shows a plus sign too."""
    return format(value, f"{sign}.{decimals}f").replace("-", "−")


def format_percent(share: float) -> str:
    """A share in percent; one just below 1 is not shown as 100%."""
    return f"{share:.0%}" if share < 0.99 else f"{math.floor(share * 1000) / 10:g}%"


def format_tick(value: float) -> str:
    """The label of a tick."""
    return f"{round(value, 6):g}".replace("-", "−")


def format_duration(seconds: float) -> Message:
    """A duration in seconds, minutes or hours, at the precision of an estimate; never 0 unless it is."""
    if seconds < 0.95:
        return say("duration.seconds", value=f"{max(0.1, round(seconds, 1)):.1f}" if seconds else "0")
    if seconds < 100:
        return say("duration.seconds", value=f"{seconds:.0f}")
    if seconds < 6000:
        return say("duration.minutes", value=f"{seconds / 60:.0f}")
    return say("duration.hours", value=f"{seconds / 3600:.1f}")
