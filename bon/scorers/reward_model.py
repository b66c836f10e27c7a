"""The scorer of a reward model's single output: `RewardScorer`."""

from collections.abc import Sequence
from typing import Any

from bon.errors import ModelError
from bon.messages import say
from bon.scorers.base import Item, Scorer, Scores
from bon.scorers.classifier import Classifier
from bon.settings import answered


class RewardScorer(Scorer):
    """Rates texts by a reward model's single output.

    model: a folder or Hub id, or a pipeline. with_prompt: rate the prompt and the continuation, or the continuation
    alone. A chat is rated through the reward model's own chat template where it has one. device, dtype: of the model,
    where it is loaded here; None chooses the fastest. Raises `ModelError` for a model that cannot be loaded or has
    several outputs.
    """

    name: str
    unit: str = "reward"
    incremental: bool = True
    rates_empty: bool = False
    classifier: Classifier
    with_prompt: bool

    def __init__(self, model: Any, with_prompt: bool = True, device: str | None = None, dtype: str | None = None):
        classifier = Classifier.of(model, device, dtype)
        self.name = model if isinstance(model, str) else classifier.name
        if not isinstance(classifier, Classifier) or len(classifier.labels) != 1:
            outputs = str(len(classifier.labels))
            raise ModelError(say("error.is_classifier", scorer=self.name, outputs=outputs))
        self.classifier, self.with_prompt = classifier, with_prompt

    def score(self, items: Sequence[Item]) -> Scores:
        """The rewards."""
        as_chats = self._has_chat_template and any(item.messages for item in items)
        texts = [self._chat(item) if as_chats else item.text(self.with_prompt) for item in items]
        logits, notes = self.classifier.logits(texts, add_special_tokens=not as_chats)
        return Scores(logits[:, 0].tolist(), notes)

    @property
    def _has_chat_template(self) -> bool:
        return self.with_prompt and bool(getattr(self.classifier.tokenizer, "chat_template", None))

    def _chat(self, item: Item) -> str:
        """The chat with the candidate as its answer, in the reward model's template."""
        chat = answered(item.messages or (), item.candidate.text)
        text = self.classifier.tokenizer.apply_chat_template(chat, tokenize=False)
        assert isinstance(text, str)  # it returns token ids only with tokenize=True
        return text
