"""What the flow asks of a scorer, and the check that every score passes."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

from bon.errors import BonError, ScoringError
from bon.messages import say
from bon.result import Candidate
from bon.settings import continues


@dataclass(frozen=True, slots=True)
class Item:
    """One complete candidate with what it continues; both texts as people read them."""

    prompt: str
    candidate: Candidate
    messages: tuple[Mapping[str, str], ...] | None = None

    def text(self, with_prompt: bool) -> str:
        """The continuation, alone or with its prompt before it."""
        if with_prompt and self.candidate.whole is not None:
            return self.candidate.whole
        between = "\n" if self.messages and not continues(self.messages) else ""
        return self.prompt + between + self.candidate.text if with_prompt else self.candidate.text


@dataclass(frozen=True, slots=True)
class Scores:
    """A score for each item, in order; the parts of combined ones; notes for the reader of the result.

    values: a list, array, tensor, series or generator of numbers; a column [items, 1] will do.
    """

    values: Any
    notes: tuple[str, ...] = ()
    parts: Sequence[Mapping[str, float]] = field(default_factory=list)


class Scorer(Protocol):
    """Rates complete candidates; higher is better.

    name, unit and target are shown beside the scores. `targets`: the labels one can look for. `incremental`:
    whether candidates may be scored in groups as they finish, instead of all of a prompt's in one call. A scorer with
    an attribute `rates_empty` that is False is not asked for texts of nothing but white space: they get no score.
    """

    name: str
    unit: str
    target: str | None
    targets: tuple[str, ...]
    incremental: bool

    def score(self, items: Sequence[Item]) -> Scores:
        """The scores of the items, in order."""


def checked_scores(scorer: Scorer, items: Sequence[Item]) -> Scores:
    """The scorer's scores as floats.

    Raises `ScoringError` where the scorer raises, returns what is no row of numbers (a dictionary, a set, a text),
    another number of scores, or one that is no finite number: an error must never turn into a score that can win.
    """
    try:
        scores = scorer.score(items)
        values = [float(value) for value in _row(scorer, scores.values)]
    except BonError:
        raise
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise ScoringError(say("error.scorer_failed", scorer=scorer.name, error=cause)) from error
    if len(values) != len(items):
        counts = {"scores": str(len(values)), "texts": str(len(items))}
        raise ScoringError(say("error.scores_miscounted", scorer=scorer.name, **counts))
    for value, item in zip(values, items, strict=True):
        if not math.isfinite(value):
            index = str(item.candidate.index)
            raise ScoringError(say("error.score_not_finite", scorer=scorer.name, value=str(value), index=index))
    return Scores(values, scores.notes, scores.parts or [{}] * len(values))


def _row(scorer: Scorer, values: Any) -> list[Any]:
    """The values in their order; of a column the one of each row. Texts and keys would pass as numbers too."""
    values = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(values, Mapping | Set | str | bytes | bytearray) or hasattr(values, "keys"):
        raise ScoringError(say("error.scores_in_no_order", scorer=scorer.name, type=type(values).__name__))
    return [value[0] if isinstance(value, list | tuple) and len(value) == 1 else value for value in values]
