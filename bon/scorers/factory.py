"""`as_scorer`: the scorer that a name, a pipeline or a callable stands for."""

from typing import Any

from bon.models import presets
from bon.scorers.base import Scorer
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.classifier import Classifier
from bon.scorers.logprob import MeanLogprobScorer, SelfCertaintyScorer
from bon.scorers.ngrams import NgramClassifier
from bon.scorers.reward_model import RewardScorer
from bon.scorers.sentiment import SentimentScorer
from bon.scorers.weighted import WeightedScorer


def as_scorer(source: Any, target: str | None = None, unit: str = "probability", *, device: str | None = None,
              dtype: str | None = None) -> Scorer:
    """The scorer that a name, a pipeline, a callable or a scorer itself stands for.

    Names: `logprob`, `self-certainty`, a preset, folder or Hub id, or a weighted sum of these such as
    `0.7*embedded+0.3*logprob`. A model with a single output becomes a reward scorer, one with several a sentiment
    scorer for `target` in `unit`. device, dtype: of a model that is loaded here; None chooses the fastest. Raises
    `InputError` for what cannot score, `ModelError` for a model that cannot be loaded.
    """
    if isinstance(source, Scorer):
        return source
    if isinstance(source, str):
        if parts := presets.weighted(source):
            scorers = [(weight, as_scorer(name, target, unit, device=device, dtype=dtype)) for weight, name in parts]
            return WeightedScorer(scorers)
        if source in presets.FREE:
            return {scorer.name: scorer for scorer in (MeanLogprobScorer, SelfCertaintyScorer)}[source]()
    is_pipeline = hasattr(source, "task")
    if not (is_pipeline or isinstance(source, str | Classifier | NgramClassifier)):
        return CallableScorer(source)
    classifier = Classifier.of(source, device, dtype)
    is_reward_model = len(classifier.labels) == 1
    scorer = RewardScorer(classifier) if is_reward_model else SentimentScorer(classifier, target, unit)
    if isinstance(source, str):
        scorer.name = source
    return scorer
