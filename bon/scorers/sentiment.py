"""The scorer of one label of a classification model: `SentimentScorer`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bon.errors import InputError, ModelError
from bon.messages import say
from bon.scorers.base import Item, Scorer, Scores
from bon.scorers.classifier import Classifier
from bon.scorers.ngrams import NgramClassifier
from bon.settings import UNITS

#: The unit of a score that is a model's output without a softmax or sigmoid.
RAW_OUTPUT = "score"


class SentimentScorer(Scorer):
    """Rates texts by the score of one label, looked up by its *name*.

    model: a preset, folder or Hub id, or a transformers text-classification pipeline. target: the label to look
    for, upper or lower case; None takes POSITIVE. unit: `probability` (0 to 1), `logit`, or `margin` (the label's
    logit less the highest other one). with_prompt: rate the prompt and the continuation as one text, as TRL did,
    or the continuation alone. device, dtype: of the model, where it is loaded here; None chooses the fastest.

    A probability is the softmax over the labels, or each label's sigmoid for a multi-label problem. Where outputs are
    not logits of probabilities (a regression, or a pipeline whose `function_to_apply` is `none`), the output itself
    stands in its place, and `unit` is `score`. Raises `InputError` for a target that the model does not have, an
    unknown unit, and the logit or margin of a regression; `ModelError` for a model that cannot be loaded or has a
    single output.
    """

    name: str
    unit: str
    target: str
    targets: tuple[str, ...]
    incremental: bool = True
    rates_empty: bool = False
    classifier: Classifier | NgramClassifier
    with_prompt: bool

    def __init__(self, model: Any, target: str | None = "POSITIVE", unit: str = "probability",
                 with_prompt: bool = True, device: str | None = None, dtype: str | None = None):
        if unit not in (*UNITS, RAW_OUTPUT):
            raise _unknown_unit(unit)
        self.classifier = Classifier.of(model, device, dtype)
        self.name = model if isinstance(model, str) else self.classifier.name
        self.targets = self.classifier.labels
        if len(self.targets) < 2:
            raise ModelError(say("error.is_reward_model", scorer=self.name))
        self.unit, self.with_prompt = self._checked_unit(unit), with_prompt
        self._label = self._index_of(target or "POSITIVE")
        self.target = self.targets[self._label]

    def for_target(self, target: str | None, unit: str | None = None) -> "SentimentScorer":
        """This scorer for another label or unit; see `Scorer.for_target`."""
        target, unit = target or self.target, unit or self.unit
        if (target, unit) == (self.target, self.unit):
            return self
        scorer = SentimentScorer(self.classifier, target, unit, self.with_prompt)
        scorer.name = self.name
        return scorer

    def score(self, items: Sequence[Item]) -> Scores:
        """Scores in the scorer's unit."""
        logits, notes = self.classifier.logits([item.text(self.with_prompt) for item in items])
        return Scores(self._in_unit(logits).tolist(), notes)

    def _checked_unit(self, unit: str) -> str:
        """The unit that scores are in: `score` in place of `probability` where the model gives no probabilities."""
        default = RAW_OUTPUT if self.classifier.activation == "none" else "probability"
        if unit in ("probability", default):
            return default
        if self.classifier.regression:
            raise InputError("unit", say("error.scorer_has_own_unit", scorer=self.name, unit=default))
        if unit == RAW_OUTPUT:
            raise _unknown_unit(unit)
        return unit

    def _index_of(self, target: str) -> int:
        """The index of the label spelled like the target, else of the last one that differs from it in case alone."""
        if target in self.targets:
            return self.targets.index(target)
        index_by_name = {label.casefold(): index for index, label in enumerate(self.targets)}
        if target.casefold() not in index_by_name:
            names = ", ".join(self.targets)
            raise InputError("target", say("error.no_such_label", scorer=self.name, label=repr(target), names=names))
        return index_by_name[target.casefold()]

    def _in_unit(self, logits: Tensor) -> Tensor:
        """Scores [texts] from logits [texts, labels]."""
        label = self._label
        if self.unit in ("logit", RAW_OUTPUT):
            return logits[:, label]
        if self.unit == "margin":
            others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=-1)
            return logits[:, label] - others.max(-1).values
        if self.classifier.activation == "sigmoid":
            return logits[:, label].sigmoid()
        return logits.softmax(-1)[:, label]


def _unknown_unit(unit: str) -> InputError:
    return InputError("unit", say("error.not_one_of", name="unit", names=", ".join(UNITS), value=repr(unit)))
