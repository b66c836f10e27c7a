"""The weighted sum of several scorers."""

from collections.abc import Sequence

import numpy as np

from bon.errors import InputError
from bon.messages import say
from bon.models.presets import checked_weight
from bon.scorers.base import Item, Scorer, Scores, score_items

#: Four units in the last place of float32, relative to the largest score.
ROUNDING = 2.0**-21


class WeightedScorer(Scorer):
    """Several scorers in one: each standardised over the candidates of a run (mean 0, deviation 1), weighted, summed.

    parts: pairs of weight and scorer; a negative weight prefers low scores. Each candidate's `parts` hold the scores
    that went in, by the scorers' names. Where a scorer's scores differ by no more than rounding in float32 does
    (`ROUNDING` of the largest), they count as equal and add 0. Raises `InputError` for no parts, equal names, and a
    weight with which sums may be infinite.
    """

    name: str
    unit: str = "weighted spread"
    rates_empty: bool
    needs_certainty: bool
    needs_logprob: bool
    parts: list[tuple[float, Scorer]]

    def __init__(self, parts: Sequence[tuple[float, Scorer]]):
        names = [scorer.name for _, scorer in parts]
        if len(set(names)) < len(names) or not names:
            raise InputError("scorer", say("error.weighted_scorer_parts"))
        self.parts = [(checked_weight(scorer.name, weight), scorer) for weight, scorer in parts]
        self.needs_certainty = any(scorer.needs_certainty for _, scorer in parts)
        self.needs_logprob = any(scorer.needs_logprob for _, scorer in parts)
        self.rates_empty = all(scorer.rates_empty for _, scorer in parts)
        self.name = " + ".join(f"{weight:g} {scorer.name}" for weight, scorer in parts)

    def for_target(self, target: str | None, unit: str | None = None) -> "WeightedScorer":
        """The same sum, where every part that has labels looks for the target; see `Scorer.for_target`."""
        if not any(scorer.targets for _, scorer in self.parts):
            super().for_target(target, unit)
            return self
        return WeightedScorer([
            (weight, scorer.for_target(target, unit) if scorer.targets else scorer) for weight, scorer in self.parts
        ])

    def check_texts_suffice(self) -> None:
        """Checks every part; see `Scorer.check_texts_suffice`."""
        for _, scorer in self.parts:
            scorer.check_texts_suffice()

    def score(self, items: Sequence[Item]) -> Scores:
        """The weighted sums and the scores that went into them."""
        scores = {scorer.name: score_items(scorer, items) for _, scorer in self.parts}
        columns = [weight * _standardise(scores[scorer.name].values) for weight, scorer in self.parts]
        parts = [{name: column.values[i] for name, column in scores.items()} for i in range(len(items))]
        notes = tuple(note for column in scores.values() for note in column.notes)
        return Scores(sum(columns, np.zeros(len(items))).tolist(), notes, parts)


class CarriedScorer(Scorer):
    """Gives each candidate the score that its `parts` hold under a scorer's name, so that it is not computed again."""

    name: str

    def __init__(self, name: str):
        self.name = name

    def score(self, items: Sequence[Item]) -> Scores:
        """The scores that the candidates carry."""
        return Scores([item.candidate.parts[self.name] for item in items])


def _standardise(values: Sequence[float]) -> np.ndarray:
    """The values with mean 0 and standard deviation 1; all 0 where they are equal but for rounding."""
    largest = np.max(np.abs(values))
    if np.ptp(values) <= ROUNDING * largest:
        return np.zeros(len(values))
    scaled = np.ldexp(values, -np.frexp(largest)[1])  # exact, and no square of it overflows
    return (scaled - np.mean(scaled)) / np.std(scaled)
