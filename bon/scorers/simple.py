"""Scorers that need no model of their own."""

from collections.abc import Callable, Iterable, Sequence

from bon.errors import InputError
from bon.scorers.base import Item, Scores


class MeanLogprobScorer:
    """Rates a candidate by its mean log-probability: the sum over its tokens / their number, nats per token.

    From the model's raw logits, so temperature, top-k and top-p do not enter. An empty candidate has no mean; it is
    rated one nat below the lowest of its run.
    """

    name, unit, target, targets, incremental = "logprob", "nats per token", None, (), False

    def score(self, items: Sequence[Item]) -> Scores:
        """Mean log-probabilities."""
        means = [c.logprob / c.tokens if c.tokens and c.logprob is not None else None for c in _candidates(items)]
        lowest = min((m for m in means if m is not None), default=0.0)
        return Scores([lowest - 1 if m is None else m for m in means])


class CallableScorer:
    """Rates texts by any callable from a list of texts to one number each (list, array or tensor).

    It is called once for each prompt, with all of its candidates in the order of their numbers.
    """

    unit, target, targets, incremental = "score", None, (), False

    def __init__(self, function: Callable[[list[str]], Iterable[float]], with_prompt: bool = True):
        if not callable(function):
            raise InputError("scorer", f"A scorer must be a name, a pipeline or a callable, not {function!r}.")
        self.function, self.with_prompt = function, with_prompt
        self.name = getattr(function, "__name__", type(function).__name__)

    def score(self, items: Sequence[Item]) -> Scores:
        """What the callable says."""
        scores = self.function([item.text(self.with_prompt) for item in items])
        return Scores(scores.tolist() if hasattr(scores, "tolist") else list(scores))


def _candidates(items: Sequence[Item]):
    return (item.candidate for item in items)
