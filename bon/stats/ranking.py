"""The order of scored candidates: best first, worst first, or the first drawn by soft best-of-n."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from bon.result import Candidate


def rank(candidates: Iterable[Candidate], select: str = "best", softness: float = 1.0, uniform: float = 0.0
         ) -> list[Candidate]:
    """The candidates with their ranks, the selected one first; equal scores are ordered by index.

    select: `best` and `worst` order by score. `soft` (soft best-of-n, arXiv 2505.03156) moves the candidate to the
    front that `draw_softmax` draws by the number `uniform` in [0, 1); the others follow, best first. softness: its
    temperature, in the score's unit. Rejected candidates come after the complete ones, whatever their unfinished texts
    scored. Unscored candidates come last, by index, with rank None.
    """
    sign = 1 if select == "worst" else -1
    ordered = sorted(
        candidates, key=lambda c: (c.score is None, c.ended == "rejected", sign * (c.score or 0.0), c.index)
    )
    scores = [c.score for c in ordered if c.score is not None and c.ended != "rejected"]
    if select == "soft" and scores:
        ordered.insert(0, ordered.pop(draw_softmax(scores, softness, uniform)))
    return [dataclasses.replace(c, rank=None if c.score is None else place) for place, c in enumerate(ordered, start=1)]


def draw_softmax(scores: Sequence[float], softness: float, uniform: float) -> int:
    """The position of one score, drawn with probability softmax(score / softness) by a uniform number in [0, 1)."""
    highest = max(scores)
    weights = [math.exp((score - highest) / softness) for score in scores]
    remaining = uniform * sum(weights)
    for position, weight in enumerate(weights):
        remaining -= weight
        if remaining < 0:
            return position
    return weights.index(max(weights))  # rounding can leave a remainder after the last weight
