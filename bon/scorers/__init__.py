"""What rates: `base` says what a scorer is, `as_scorer` makes one of whatever a user gives."""

from typing import Any

from bon.scorers.base import Item, Scorer, Scores, checked_scores
from bon.scorers.classifier import Classifier, RewardScorer, SentimentScorer
from bon.scorers.simple import CallableScorer, MeanLogprobScorer

__all__ = [
    "CallableScorer", "Item", "MeanLogprobScorer", "RewardScorer", "Scorer", "Scores", "SentimentScorer",
    "as_scorer", "checked_scores",
]


def as_scorer(source: Any, target: str | None = None, unit: str = "probability", **kind: Any) -> Scorer:
    """A scorer from a name (`logprob`, a preset, folder or Hub id), a pipeline, a callable or a scorer itself.

    A model with a single output becomes a reward scorer, one with several a sentiment scorer for `target`.
    """
    if source == "logprob":
        return MeanLogprobScorer()
    if hasattr(source, "score") and hasattr(source, "unit"):
        return source
    if not isinstance(source, str | Classifier) and not hasattr(source, "task"):  # every pipeline has a task
        return CallableScorer(source)
    classifier = Classifier.of(source, **kind)
    rewards = len(classifier.labels) == 1
    scorer = RewardScorer(classifier) if rewards else SentimentScorer(classifier, target, unit)
    if isinstance(source, str):
        scorer.name = source
    return scorer
