"""A transformers sequence-classification model: texts in, logits out, in batches that do not change them."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bon.errors import InputError, ModelError, ScoringError
from bon.messages import say
from bon.models import loading, presets
from bon.models.limits import context_length, pad_id, vocabulary
from bon.models.running import compute
from bon.scorers import reading_limits
from bon.scorers.ngrams import NgramClassifier, is_ngrams
from bon.scorers.reading_limits import Sharing, Tokens

#: The tasks of pipelines whose model rates a text by its labels.
TASKS = ("text-classification", "sentiment-analysis", "zero-shot-classification")
#: The most texts of one batch, and its most tokens: on a processor what is worked on should fit its cache.
BATCH = 64
TOKENS = {"cpu": 1024}
MANY_TOKENS = 32_768
#: Batches are padded to a multiple of this, so that few shapes occur: a processor's kernels are made for each shape.
GRAIN = 8
#: What makes a score of a logit, by the kind of problem that a model's config names.
ACTIVATIONS = {"regression": "none", "multi_label_classification": "sigmoid"}


@dataclass(eq=False)
class _Call:
    """The tokens that one caller wants scored, and what became of them."""

    rows: list[Tokens]
    answer: Tensor | None = None
    notes: Sequence[str] = ()
    error: Exception | None = None


_CALLS: WeakKeyDictionary[Any, deque[_Call]] = WeakKeyDictionary()


def _calls_of(model) -> deque[_Call]:
    return _CALLS.setdefault(model, deque())


class Classifier:
    """A sequence-classification model with its tokenizer: texts in, logits out.

    Each text gets the logits that it gets alone. Batches are sorted by length and padded where the model is neutral to
    padding; where it is not, they hold texts of equal length, or one text each. A text of more tokens than the model
    takes loses its beginning, since the end is what was generated.

    activation: what makes a score of a logit, `softmax` over the labels, `sigmoid` or `none`; None goes by the kind of
    problem that the model's config names, which is softmax where it names none.
    """

    def __init__(self, model, tokenizer, batch_size: int = BATCH, activation: str | None = None):
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.activation = activation or ACTIVATIONS.get(model.config.problem_type, "softmax")
        self._calls = _calls_of(model)

    @classmethod
    def of(cls, source: Any, device: str | None = None, dtype: str | None = None) -> "Classifier | NgramClassifier":
        """From a transformers pipeline, whose `function_to_apply` counts, or the name of a preset, folder or Hub model.
        """
        if isinstance(source, cls | NgramClassifier):
            return source
        if isinstance(source, str):
            place = presets.scorer_place(source)
            if is_ngrams(place):
                return loading.LIVE.get((presets.NGRAMS, place), lambda: NgramClassifier.load(place))
            return cls(*loading.classifier(place, device, dtype))
        if getattr(source, "task", "text-classification") not in TASKS:
            raise InputError("scorer", say("error.scorer_task", task=str(source.task)))
        if getattr(source, "model", None) is None or getattr(source, "tokenizer", None) is None:
            raise InputError("scorer", say("error.scorer_model_type", type=type(source).__name__))
        function = getattr(source, "_postprocess_params", {}).get("function_to_apply")
        return cls(source.model, source.tokenizer, activation=getattr(function, "value", function))

    @property
    def name(self) -> str:
        """The model's own name or folder."""
        return getattr(self.model.config, "name_or_path", "") or type(self.model).__name__

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the logits: that of their numbers, which need not begin with 0.

        Raises `ModelError` where there are more or fewer than the model has outputs.
        """
        named = {int(number): str(label) for number, label in self.model.config.id2label.items()}
        self._check_outputs(getattr(self.model, "num_labels", len(named)))
        return tuple(named[number] for number in sorted(named))

    def _check_outputs(self, outputs: int) -> None:
        labels = len(self.model.config.id2label)
        if outputs != labels:
            counts = {"labels": str(labels), "outputs": str(outputs)}
            raise ModelError(say("error.labels_miscounted", scorer=self.name, **counts))

    @property
    def regression(self) -> bool:
        """Whether the outputs are quantities rather than the logits of labels."""
        return self.model.config.problem_type == "regression"

    @cached_property
    def limit(self) -> int | None:
        """The most tokens of a text; None where neither model nor tokenizer sets a limit."""
        stated = (context_length(self.model), self.tokenizer.model_max_length)
        return min((limit for limit in stated if limit and 0 < limit < 10**6), default=None)

    @cached_property
    def _pad(self) -> int | None:
        # Decoder classifiers find a text's last token by the pad id of their config; encoders go by the mask.
        return pad_id(self.model)

    def logits(self, texts: Sequence[str], special: bool = True) -> tuple[Tensor, tuple[str, ...]]:
        """Logits [texts, labels] in float32 on the processor, and notes on what was truncated or retried.

        special: let the tokenizer add its special tokens; a text from a chat template has them already. Raises
        `InputError` for a text with a token that the model has no embedding for.
        """
        encoded = [self._encode(text, special) for text in texts]
        cut = any(was_cut for _, was_cut in encoded)
        notes = [*loading.notes(self.model), *([say("note.scorer_truncated", limit=str(self.limit))] if cut else [])]
        call = _Call([tokens for tokens, _ in encoded])
        self._calls.append(call)
        # Calls that came while somebody computed are answered together, with the first of them.
        compute(lambda: call.answer is None and call.error is None and self._answer())
        if call.error:
            raise call.error
        return call.answer, tuple(dict.fromkeys([*notes, *call.notes]))

    def _answer(self) -> None:
        self._score([self._calls.popleft() for _ in range(len(self._calls))])

    def _score(self, calls: Sequence[_Call]) -> None:
        """Answers the calls together; where that fails each by itself, so that the error goes to whose fault it is."""
        try:
            notes: list[str] = []
            answer = self._in_batches([row for call in calls for row in call.rows], notes)
            for call, part in zip(calls, answer.split([len(call.rows) for call in calls]), strict=True):
                call.answer, call.notes = part, notes
        except Exception as error:
            if len(calls) == 1:
                calls[0].error = error
                return
            for call in calls:
                self._score([call])

    def _encode(self, text: str, add: bool) -> tuple[Tokens, bool]:
        """The text's tokens, and whether its beginning was cut off."""
        made = self.tokenizer(text, add_special_tokens=add, return_special_tokens_mask=True, verbose=False)
        ids, special = made["input_ids"], made["special_tokens_mask"]
        if not ids:
            return Tokens([self._pad or 0]), False
        self._check_ids(ids)
        head = next((i for i, mark in enumerate(special) if not mark), 0)
        tail = next((i for i, mark in enumerate(reversed(special)) if not mark), 0)
        tokens, too_long = Tokens(ids, head, tail), self.limit is not None and len(ids) > self.limit
        return tokens.cut(self.limit) if too_long else tokens, too_long

    def _check_ids(self, ids: Sequence[int]) -> None:
        known, highest = vocabulary(self.model), max(ids)
        if known is not None and highest >= known:
            token = repr(self.tokenizer.convert_ids_to_tokens(highest))
            raise InputError("texts", say(
                "error.scorer_lacks_token", scorer=self.name, token=token, id=str(highest), last=str(known - 1),
            ))

    def _in_batches(self, rows: Sequence[Tokens], notes: list[str]) -> Tensor:
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
        lengths = [len(row.ids) for row in rows]
        parts = [self._run([rows[i] for i in batch], notes) for batch in self._batches(order, lengths)]
        out = torch.cat(parts) if parts else torch.empty(0, len(self.labels))
        self._check_outputs(out.shape[-1])
        return torch.empty_like(out).index_copy_(0, torch.tensor(order, dtype=torch.long), out)

    @property
    def _sharing(self) -> Sharing:
        # Without a pad id a decoder classifier refuses every batch of more than one text.
        return Sharing.NONE if self._pad is None else reading_limits.findings_of(self.model).sharing

    def _batches(self, order: list[int], lengths: list[int]) -> Iterator[list[int]]:
        tokens = TOKENS.get(self.model.device.type, MANY_TOKENS)
        batch: list[int] = []
        for i in order:
            most = 1 if self._sharing is Sharing.NONE else self.batch_size
            apart = self._sharing is Sharing.EQUAL_LENGTH and batch and lengths[i] != lengths[batch[0]]
            if batch and (apart or len(batch) == most or (len(batch) + 1) * self._padded(lengths[i]) > tokens):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _padded(self, length: int) -> int:
        """The length that a batch is padded to whose longest text has this many tokens."""
        if self._sharing is not Sharing.PADDED:
            return length
        padded = -(-length // GRAIN) * GRAIN
        return padded if self.limit is None else max(length, min(padded, self.limit))

    def _run(self, rows: list[Tokens], notes: list[str]) -> Tensor:
        """The logits of one batch, which is sorted by length; in parts where it fails or may not be read as one."""
        parts = self._apart(rows)
        if len(parts) == 1:
            sharing = self._sharing
            try:
                out = reading_limits.logits(self.model, rows, self._padded(len(rows[-1].ids)), self._pad or 0)
            except Exception as error:
                parts = self._halves(rows, error, notes)
            else:
                self._check_sharing(rows, out)
                if self._sharing is sharing:
                    return out
        return torch.cat([self._run(part, notes) for part in parts])

    def _apart(self, rows: list[Tokens]) -> list[list[Tokens]]:
        if self._sharing is Sharing.PADDED:
            return [rows]
        if self._sharing is Sharing.NONE:
            return [[row] for row in rows]
        return [list(alike) for _, alike in groupby(rows, key=lambda row: len(row.ids))]

    def _halves(self, rows: list[Tokens], error: Exception, notes: list[str]) -> list[list[Tokens]]:
        """Two smaller batches in place of one that failed, since one text may be at fault or memory too small."""
        without_memory = isinstance(error, RuntimeError) and loading.out_of_memory(error)
        if len(rows) == 1 and without_memory:
            raise ScoringError(say("error.out_of_memory_scoring_one", scorer=self.name)) from error
        if len(rows) == 1:
            raise error
        if without_memory:
            notes.append(say("note.scored_in_smaller_batches"))
        return [rows[: len(rows) // 2], rows[len(rows) // 2 :]]

    def _check_sharing(self, rows: Sequence[Tokens], out: Tensor) -> None:
        width, findings = self._padded(len(rows[-1].ids)), reading_limits.findings_of(self.model)
        findings.largest = max(findings.largest, reading_limits.largest(out))
        if len(rows) > 1 or width > len(rows[-1].ids):
            reading_limits.check_sharing(self.model, rows[-1], width, self._pad or 0)
