"""What the flow asks of a scorer, and the check that every score passes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from bon.errors import BonError, InputError, ScoringError
from bon.messages import say
from bon.result import Candidate
from bon.settings import Messages, continues


@dataclass(frozen=True, slots=True)
class Item:
    """One candidate to score, with the prompt or chat that it continues; both texts without special tokens."""

    prompt: str
    candidate: Candidate
    messages: Messages | None = None

    def text(self, with_prompt: bool) -> str:
        """The continuation, alone or with its prompt before it."""
        if with_prompt and self.candidate.whole is not None:
            return self.candidate.whole
        separator = "\n" if self.messages and not continues(self.messages) else ""
        return self.prompt + separator + self.candidate.text if with_prompt else self.candidate.text


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of some items, in their order.

    values [items]: a list, array, tensor, series or generator of numbers; a column [items, 1] is accepted too.
    notes: for the reader of the result. parts [items]: what a combined score is made of, by the parts' names.
    """

    values: Any
    notes: tuple[str, ...] = ()
    parts: Sequence[Mapping[str, float]] = field(default_factory=list)


class Scorer(ABC):
    """Rates complete candidates; higher is better.

    name, unit, target: shown beside the scores. targets: the labels that can be the target; none where the scorer has
    no labels. incremental: whether candidates may be scored in groups as they finish, instead of all of a prompt's in
    one call. rates_empty: whether it is called for texts of nothing but white space; where it is not, they get no
    score. needs_run: whether it reads what the engine computed for a candidate, so that a text alone cannot be rated.
    needs_certainty: whether it reads the candidates' self-certainty, which the engine must then compute. needs_logprob:
    whether it reads their log-probabilities; texts of which a server gave only some of these get no score.
    """

    name: str
    unit: str = "score"
    target: str | None = None
    targets: tuple[str, ...] = ()
    incremental: bool = False
    rates_empty: bool = True
    needs_run: bool = False
    needs_certainty: bool = False
    needs_logprob: bool = False

    def can_rate(self, candidate: Candidate) -> bool:
        """Whether it is called for this candidate; one that it is not called for gets no score."""
        if candidate.empty and (candidate.answerless or not self.rates_empty):
            return False
        return not (candidate.logprob_incomplete and self.needs_logprob)

    @abstractmethod
    def score(self, items: Sequence[Item]) -> Scores:
        """The scores of the items, in order."""

    def for_target(self, target: str | None, unit: str | None = None) -> "Scorer":
        """This scorer for another target or unit, with the same weights; None keeps its own.

        Raises `InputError` for a target or a unit that the scorer does not have. `probability`, the default of all
        settings, is accepted by a scorer with any unit.
        """
        if target is not None:
            raise InputError("target", say("error.scorer_without_labels", scorer=self.name))
        if unit not in (None, "probability", self.unit):
            raise InputError("unit", say("error.scorer_has_own_unit", scorer=self.name, unit=self.unit))
        return self

    def check_texts_suffice(self) -> None:
        """Raises `InputError` where the scorer cannot rate texts from elsewhere (`needs_run`)."""
        if self.needs_run:
            raise InputError("scorer", say("error.scorer_needs_run", scorer=self.name))


def score_items(scorer: Scorer, items: Sequence[Item]) -> Scores:
    """The scorer's scores, checked and as a list of floats.

    Raises `ScoringError` where the scorer raises, returns something without an order (a dictionary, a set) or a text,
    returns another number of scores, or one that is not finite: an error must never become a score that can win.
    """
    try:
        scores = scorer.score(items)
        values = [float(value) for value in _in_order(scorer, scores.values)]
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


def _in_order(scorer: Scorer, values: Any) -> list[Any]:
    """The values as a list, a column's rows as their only element.

    The keys of a dictionary and the digits of a text would convert to numbers too, so both are refused.
    """
    values = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(values, Mapping | Set | str | bytes | bytearray) or hasattr(values, "keys"):
        raise ScoringError(say("error.scores_in_no_order", scorer=scorer.name, type=type(values).__name__))
    return [value[0] if isinstance(value, list | tuple) and len(value) == 1 else value for value in values]
