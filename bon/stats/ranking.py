"""Who wins: the ranking of scored candidates."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from bon.result import Candidate


def rank(candidates: Iterable[Candidate], select: str = "best", softness: float = 1.0, luck: float = 0.0
         ) -> list[Candidate]:
    """The candidates with their ranks, the selected one first; ties keep the order of their numbers.

    select: `best` and `worst` order by score. `soft` (soft best-of-n, arXiv 2505.03156) puts the candidate first that
    `drawn` draws, the others behind it best first. Rejected ones come after the complete ones, whatever their
    unfinished texts scored. Unscored candidates follow in the order of their numbers and have no rank.
    """
    sign = 1 if select == "worst" else -1
    in_order = sorted(
        candidates, key=lambda c: (c.score is None, c.ended == "rejected", sign * (c.score or 0.0), c.index)
    )
    whole = [c for c in in_order if c.score is not None and c.ended != "rejected"]
    if select == "soft" and whole:
        in_order.insert(0, in_order.pop(drawn([c.score for c in whole], softness, luck)))
    return [
        dataclasses.replace(c, rank=None if c.score is None else place) for place, c in enumerate(in_order, start=1)
    ]


def drawn(scores: Sequence[float], softness: float, luck: float) -> int:
    """The place of one score, drawn with probability softmax(score / softness) by a uniform number in [0, 1)."""
    top = max(scores)
    weights = [math.exp((score - top) / softness) for score in scores]
    left = luck * sum(weights)
    for place, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return place
    return weights.index(max(weights))  # rounding left nothing over
