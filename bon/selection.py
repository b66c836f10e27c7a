"""Who wins: the ranking of scored candidates."""

import dataclasses
from collections.abc import Iterable

from bon.schema import Candidate


def rank(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates best first, with their ranks; ties keep the order of their numbers.

    Rejected ones come after the complete ones, whatever their unfinished texts scored. Unscored candidates follow in
    the order of their numbers and have no rank.
    """
    in_order = sorted(candidates, key=lambda c: (c.score is None, c.ended == "rejected", -(c.score or 0.0), c.index))
    return [
        dataclasses.replace(c, rank=None if c.score is None else place) for place, c in enumerate(in_order, start=1)
    ]
