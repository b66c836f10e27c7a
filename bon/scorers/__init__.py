"""What rates: `base` says what a scorer is, `as_scorer` makes one of whatever a user gives."""

from typing import Any

from bon.models import presets
from bon.scorers.base import Item, Scorer, Scores, checked_scores
from bon.scorers.classifier import Classifier, RewardScorer, SentimentScorer
from bon.scorers.ngrams import NgramClassifier
from bon.scorers.simple import CallableScorer, MeanLogprobScorer, SelfCertaintyScorer, WeightedScorer

__all__ = [
    "CallableScorer", "Item", "MeanLogprobScorer", "RewardScorer", "Scorer", "Scores", "SelfCertaintyScorer",
    "SentimentScorer", "WeightedScorer", "as_scorer", "checked_scores",
]


def as_scorer(source: Any, target: str | None = None, unit: str = "probability", **kind: Any) -> Scorer:
    """A scorer from a name, a pipeline, a callable or a scorer itself.

    Names: `logprob`, `self-certainty`, a preset, folder or Hub id, or a weighted sum of these such as
    `0.7*embedded+0.3*logprob`. A model with a single output becomes a reward scorer, one with several a sentiment
    scorer for `target`.
    """
    if isinstance(source, str) and (parts := presets.weighted(source)):
        return WeightedScorer([(weight, as_scorer(name, target, unit, **kind)) for weight, name in parts])
    if source in presets.FREE:
        return {scorer.name: scorer for scorer in (MeanLogprobScorer, SelfCertaintyScorer)}[source]()
    if hasattr(source, "score") and hasattr(source, "unit"):
        return source
    known = isinstance(source, str | Classifier | NgramClassifier) or hasattr(source, "task")  # every pipeline has one
    if not known:
        return CallableScorer(source)
    classifier = Classifier.of(source, **kind)
    rewards = len(classifier.labels) == 1
    scorer = RewardScorer(classifier) if rewards else SentimentScorer(classifier, target, unit)
    if isinstance(source, str):
        scorer.name = source
    return scorer
