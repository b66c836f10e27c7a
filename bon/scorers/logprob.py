"""Scorers that read the generating model's own probabilities: mean log-probability and self-certainty."""

from collections.abc import Sequence

from bon.errors import ScoringError
from bon.messages import say
from bon.scorers.base import Item, Scorer, Scores


class MeanLogprobScorer(Scorer):
    """Rates a candidate by its mean log-probability: the sum over its tokens / their number, nats per token.

    From the model's raw logits, so temperature, top-k and top-p do not enter. A candidate without tokens has no mean.
    """

    name: str = "logprob"
    unit: str = "nats per token"
    rates_empty: bool = False
    needs_run: bool = True
    needs_logprob: bool = True

    def score(self, items: Sequence[Item]) -> Scores:
        """Mean log-probabilities. Raises `ScoringError` where the engine gave none."""
        return Scores([_per_token(item.candidate.logprob, item, "error.scorer_needs_logprobs") for item in items])


class SelfCertaintyScorer(Scorer):
    """Rates a candidate by how far the model's predictions were from uniform; it needs no reward model.

    The mean over its tokens of -(1/V) sum over the V tokens j of the vocabulary of log(V p_j), nats, from raw logits
    (self-certainty, arXiv 2502.18581). A candidate without tokens has no mean.
    """

    name: str = "self-certainty"
    unit: str = "nats"
    rates_empty: bool = False
    needs_run: bool = True
    needs_certainty: bool = True

    def score(self, items: Sequence[Item]) -> Scores:
        """Mean self-certainty. Raises `ScoringError` where the engine gave none."""
        return Scores([
            _per_token(item.candidate.certainty, item, "error.scorer_needs_probabilities") for item in items
        ])


def _per_token(total: float | None, item: Item, error: str) -> float:
    if total is None or not item.candidate.tokens:
        raise ScoringError(say(error))
    return total / item.candidate.tokens
