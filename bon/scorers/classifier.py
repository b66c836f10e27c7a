"""Scorers that are transformers sequence-classification models: sentiment by label name, and reward models."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bon import loading, models
from bon.computing import compute
from bon.engines.decoder import eval_mode
from bon.errors import InputError, ModelError, ScoringError
from bon.messages import say
from bon.schema import UNITS
from bon.scorers.base import Item, Scores
from bon.scorers.ngrams import NgramClassifier, is_ngrams

#: The most texts of one batch, and its most tokens: on a processor what is worked on should fit its cache.
BATCH = 64
TOKENS = {"cpu": 1024}
MANY_TOKENS = 32_768
#: Batches are padded to a multiple of this, so that few shapes occur: a processor's kernels are made for each shape.
GRAIN = 8


@dataclass(eq=False)
class _Call:
    """The token ids that one caller wants scored, and what became of them."""

    rows: list[list[int]]
    answer: Tensor | None = None
    notes: Sequence[str] = ()
    error: Exception | None = None


_CALLS: WeakKeyDictionary[Any, deque[_Call]] = WeakKeyDictionary()


def _calls_of(model) -> deque[_Call]:
    return _CALLS.setdefault(model, deque())


class Classifier:
    """A sequence-classification model with its tokenizer: texts in, logits out.

    Batches are sorted by length. A text of more tokens than the model takes loses its beginning, since the end is
    what was generated.
    """

    def __init__(self, model, tokenizer, batch_size: int = BATCH):
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.limit = self._longest()
        self._calls = _calls_of(model)

    @classmethod
    def of(cls, source: Any, device: str | None = None, dtype: str | None = None) -> "Classifier | NgramClassifier":
        """From a transformers pipeline, or the name of a preset, folder or Hub model."""
        if isinstance(source, cls | NgramClassifier):
            return source
        if isinstance(source, str):
            place = models.scorer_place(source)
            if is_ngrams(place):
                return loading.LIVE.get((models.NGRAMS, place), lambda: NgramClassifier.load(place))
            return cls(*loading.classifier(place, device, dtype))
        if getattr(source, "model", None) is None or getattr(source, "tokenizer", None) is None:
            raise InputError("scorer", say("error.scorer_model_type", type=type(source).__name__))
        return cls(source.model, source.tokenizer)

    @property
    def name(self) -> str:
        """The model's own name or folder."""
        return getattr(self.model.config, "name_or_path", "") or type(self.model).__name__

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the logits."""
        named = self.model.config.id2label
        return tuple(str(named[i]) for i in range(self.model.config.num_labels))

    @property
    def multi_label(self) -> bool:
        """Whether each label is a question of its own."""
        return self.model.config.problem_type == "multi_label_classification"

    def logits(self, texts: Sequence[str], special: bool = True) -> tuple[Tensor, tuple[str, ...]]:
        """Logits [texts, labels] in float32 on the processor, and notes on what was truncated or retried.

        special: let the tokenizer add its special tokens; a text from a chat template has them already.
        """
        encoded = [self._encode(text, special) for text in texts]
        cut = any(was_cut for _, was_cut in encoded)
        notes = [say("note.scorer_truncated", limit=str(self.limit))] if cut else []
        call = _Call([ids for ids, _ in encoded])
        self._calls.append(call)
        # Calls that came while somebody computed are answered together, with the first of them.
        compute(lambda: call.answer is None and call.error is None and self._answer())
        if call.error:
            raise call.error
        return call.answer, tuple(dict.fromkeys([*notes, *call.notes]))

    def _answer(self) -> None:
        calls = [self._calls.popleft() for _ in range(len(self._calls))]
        try:
            rows, notes = [row for call in calls for row in call.rows], []
            out = torch.empty(len(rows), self.model.config.num_labels)
            for batch in self._batches(sorted(range(len(rows)), key=lambda i: len(rows[i])), list(map(len, rows))):
                out[batch] = self._run([rows[i] for i in batch], notes)
            for call, answer in zip(calls, out.split([len(call.rows) for call in calls]), strict=True):
                call.answer, call.notes = answer, notes
        except Exception as error:
            for call in calls:
                call.error = error

    def _encode(self, text: str, add: bool) -> tuple[list[int], bool]:
        made = self.tokenizer(text, add_special_tokens=add, return_special_tokens_mask=True, verbose=False)
        ids, special = made["input_ids"], made["special_tokens_mask"]
        if not ids:
            return [self._pad_id() or 0], False
        if self.limit is None or len(ids) <= self.limit:
            return ids, False
        head = next((i for i, mark in enumerate(special) if not mark), 0)
        tail = next((i for i, mark in enumerate(reversed(special)) if not mark), 0)
        end = len(ids) - tail
        return ids[:head] + ids[end - (self.limit - head - tail) : end] + ids[end:], True

    def _batches(self, order: list[int], lengths: list[int]) -> Iterator[list[int]]:
        # Without a pad id a decoder classifier refuses every batch of more than one text.
        most = 1 if self._pad_id() is None else self.batch_size
        tokens = TOKENS.get(self.model.device.type, MANY_TOKENS)
        batch: list[int] = []
        for i in order:
            if batch and (len(batch) == most or (len(batch) + 1) * self._padded(lengths[i]) > tokens):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _padded(self, length: int) -> int:
        """The length that a batch is padded to whose longest text has this many tokens."""
        if self._pad_id() is None:
            return length
        padded = -(-length // GRAIN) * GRAIN
        return padded if self.limit is None else max(length, min(padded, self.limit))

    @torch.inference_mode()
    def _run(self, rows: list[list[int]], notes: list[str]) -> Tensor:
        try:
            return self._forward(rows)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not loading.out_of_memory(error):
                raise
            if len(rows) == 1:
                raise ScoringError(say("error.out_of_memory_scoring_one", scorer=self.name)) from error
        half = len(rows) // 2
        notes.append(say("note.scored_in_smaller_batches"))
        return torch.cat([self._run(rows[:half], notes), self._run(rows[half:], notes)])

    def _forward(self, rows: list[list[int]]) -> Tensor:
        longest, pad = self._padded(max(map(len, rows))), self._pad_id() or 0
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        with eval_mode(self.model):
            out = self.model(input_ids=ids.to(self.model.device), attention_mask=mask.to(self.model.device))
        return out.logits.float().cpu()

    def _pad_id(self) -> int | None:
        # Decoder classifiers find a text's last token by the pad id of their config; encoders go by the mask.
        return self.model.config.get_text_config().pad_token_id

    def _longest(self) -> int | None:
        config = self.model.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        if positions and config.model_type in {"roberta", "xlm-roberta", "camembert", "longformer", "bart"}:
            positions -= 2  # their position numbers start after the padding's
        limits = [limit for limit in (positions, self.tokenizer.model_max_length) if limit and limit < 10**6]
        return min(limits, default=None)


class SentimentScorer:
    """Rates texts by the score of one label, looked up by its *name*.

    model: a preset, folder or Hub id, or a transformers text-classification pipeline. target: the label to look
    for, upper or lower case; None takes POSITIVE. unit: `probability` (0 to 1), `logit`, or `margin` (the label's
    logit less the highest other one). with_prompt: rate the prompt and the continuation as one text, as TRL does,
    or the continuation alone. Raises `InputError` for a target that the model does not have.
    """

    incremental, rates_empty = True, False

    def __init__(self, model: Any, target: str | None = "POSITIVE", unit: str = "probability",
                 with_prompt: bool = True, device: str | None = None, dtype: str | None = None):
        if unit not in UNITS:
            raise InputError("unit", say("error.not_one_of", name="unit", names=", ".join(UNITS), value=repr(unit)))
        self.classifier = Classifier.of(model, device, dtype)
        self.name = model if isinstance(model, str) else self.classifier.name
        self.targets = self.classifier.labels
        if len(self.targets) < 2:
            raise ModelError(say("error.is_reward_model", scorer=self.name))
        self.unit, self.with_prompt = unit, with_prompt
        self.target = _named(target or "POSITIVE", self.targets, self.name)

    def score(self, items: Sequence[Item]) -> Scores:
        """Scores in the scorer's unit."""
        logits, notes = self.classifier.logits([item.text(self.with_prompt) for item in items])
        return Scores(self._in_unit(logits).tolist(), notes)

    def _in_unit(self, logits: Tensor) -> Tensor:
        place = self.targets.index(self.target)
        if self.unit == "logit":
            return logits[:, place]
        if self.unit == "margin":
            others = torch.cat([logits[:, :place], logits[:, place + 1 :]], dim=-1)
            return logits[:, place] - others.max(-1).values
        if self.classifier.multi_label:
            return logits[:, place].sigmoid()
        return logits.softmax(-1)[:, place]


class RewardScorer:
    """Rates texts by a reward model's single output.

    model: a folder or Hub id, or a pipeline. A chat is rated through the reward model's own chat template where it
    has one. Raises `ModelError` for a model with several outputs.
    """

    incremental, rates_empty, unit, target, targets = True, False, "reward", None, ()

    def __init__(self, model: Any, with_prompt: bool = True, device: str | None = None, dtype: str | None = None):
        self.classifier = Classifier.of(model, device, dtype)
        self.name = model if isinstance(model, str) else self.classifier.name
        if len(self.classifier.labels) != 1:
            outputs = str(len(self.classifier.labels))
            raise ModelError(say("error.is_classifier", scorer=self.name, outputs=outputs))
        self.with_prompt = with_prompt

    def score(self, items: Sequence[Item]) -> Scores:
        """The rewards."""
        chat = self._rates_chats and any(item.messages for item in items)
        texts = [self._chat(item) if chat else item.text(self.with_prompt) for item in items]
        logits, notes = self.classifier.logits(texts, special=not chat)
        return Scores(logits[:, 0].tolist(), notes)

    @property
    def _rates_chats(self) -> bool:
        return self.with_prompt and bool(getattr(self.classifier.tokenizer, "chat_template", None))

    def _chat(self, item: Item) -> str:
        chat = [*map(dict, item.messages or ()), {"role": "assistant", "content": item.candidate.text}]
        return self.classifier.tokenizer.apply_chat_template(chat, tokenize=False)


def _named(target: str, labels: Sequence[str], name: str) -> str:
    if target in labels:
        return target
    by_name = {label.casefold(): label for label in labels}
    if target.casefold() not in by_name:
        raise InputError("target", say("error.no_such_label", scorer=name, label=repr(target), names=", ".join(labels)))
    return by_name[target.casefold()]
