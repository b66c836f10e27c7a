"""Scorers that need no model of their own."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from bon.errors import InputError, ScoringError
from bon.messages import say
from bon.scorers.base import Item, Scorer, Scores, checked_scores

#: Four units in the last place of float32, relative to the largest score.
ROUNDING = 2.0**-21


class MeanLogprobScorer:
    """Rates a candidate by its mean log-probability: the sum over its tokens / their number, nats per token.

    From the model's raw logits, so temperature, top-k and top-p do not enter. Without a token there is no mean.
    """

    name, unit, target, targets, incremental, rates_empty = "logprob", "nats per token", None, (), False, False

    def score(self, items: Sequence[Item]) -> Scores:
        """Mean log-probabilities. Raises `ScoringError` for an engine that does not tell them."""
        if any(c.logprob is None or not c.tokens for c in _candidates(items)):
            raise ScoringError(say("error.scorer_needs_logprobs"))
        return Scores([c.logprob / c.tokens for c in _candidates(items)])


class SelfCertaintyScorer:
    """Rates a candidate by how far the model's predictions were from knowing nothing; it needs no reward model.

    The mean over its tokens of -(1/V) sum over the V words j of log(V p_j), nats, from raw logits (self-certainty,
    arXiv 2502.18581). Without a token there is no mean.
    """

    name, unit, target, targets, incremental, rates_empty = "self-certainty", "nats", None, (), False, False
    needs_certainty = True

    def score(self, items: Sequence[Item]) -> Scores:
        """Mean self-certainty. Raises `ScoringError` for an engine that does not tell the words' probabilities."""
        if any(c.certainty is None or not c.tokens for c in _candidates(items)):
            raise ScoringError(say("error.scorer_needs_probabilities"))
        return Scores([c.certainty / c.tokens for c in _candidates(items)])


class WeightedScorer:
    """Several scorers in one: each normalised over the candidates of a run (mean 0, spread 1), weighted and summed.

    parts: pairs of weight and scorer; a negative weight looks for the opposite. The scores that went in are the
    candidates' `parts`, by the scorers' names. Scores that differ by no more than rounding in float32 does (`ROUNDING`
    of the largest) count as equal, and add nothing.
    """

    unit, target, targets, incremental = "weighted spread", None, (), False

    def __init__(self, parts: Sequence[tuple[float, Scorer]]):
        names = [scorer.name for _, scorer in parts]
        if len(set(names)) < len(names) or not names:
            raise InputError("scorer", say("error.weighted_scorer_parts"))
        self.parts = list(parts)
        self.needs_certainty = any(getattr(scorer, "needs_certainty", False) for _, scorer in parts)
        self.rates_empty = all(getattr(scorer, "rates_empty", True) for _, scorer in parts)
        self.name = " + ".join(f"{weight:g} {scorer.name}" for weight, scorer in parts)

    def score(self, items: Sequence[Item]) -> Scores:
        """The weighted sums, and what they are made of."""
        made = [checked_scores(scorer, items) for _, scorer in self.parts]
        total = sum(weight * _spread(scores.values) for (weight, _), scores in zip(self.parts, made, strict=True))
        columns = {scorer.name: scores.values for (_, scorer), scores in zip(self.parts, made, strict=True)}
        parts = [{name: values[i] for name, values in columns.items()} for i in range(len(items))]
        return Scores(total.tolist(), tuple(note for scores in made for note in scores.notes), parts)


class CarriedScorer:
    """Gives candidates the score that they carry among their parts under a scorer's name."""

    unit, target, targets, incremental = "score", None, (), False

    def __init__(self, name: str):
        self.name = name

    def score(self, items: Sequence[Item]) -> Scores:
        """What the candidates carry."""
        return Scores([item.candidate.parts[self.name] for item in items])


def _spread(values: Sequence[float]) -> np.ndarray:
    """Values with mean 0 and standard deviation 1; all 0 where they are equal but for rounding."""
    largest = np.max(np.abs(values))
    if np.ptp(values) <= ROUNDING * largest:
        return np.zeros(len(values))
    scaled = np.ldexp(values, -np.frexp(largest)[1])  # exact, and no square of it overflows
    return (scaled - np.mean(scaled)) / np.std(scaled)


class CallableScorer:
    """Rates texts by any callable from a list of texts to one number each, in their order (see `Scores.values`).

    It is called once for each prompt, with all of its candidates in the order of their numbers, empty ones among them.
    """

    unit, target, targets, incremental = "score", None, (), False

    def __init__(self, function: Callable[[list[str]], Iterable[float]], with_prompt: bool = True):
        if not callable(function):
            raise InputError("scorer", say("error.not_a_scorer", value=repr(function)))
        self.function, self.with_prompt = function, with_prompt
        self.name = getattr(function, "__name__", type(function).__name__)

    def score(self, items: Sequence[Item]) -> Scores:
        """What the callable returns; `checked_scores` makes numbers of it."""
        return Scores(self.function([item.text(self.with_prompt) for item in items]))


def _candidates(items: Sequence[Item]):
    return (item.candidate for item in items)
