"""A transformers sequence-classification model: texts in, logits out, in batches that do not change them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bon.errors import InputError, ModelError, ScoringError
from bon.messages import say
from bon.models import loading, presets
from bon.models.limits import context_length, pad_id, vocabulary
from bon.models.running import compute
from bon.scorers.encoders.designs import encoder_of
from bon.scorers.encoders.encoder import Encoder
from bon.scorers.ngrams import NgramClassifier, is_ngrams
from bon.scorers.padding_check import Batching, Tokens, batch_logits, batching_state, check_padding

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: The tasks of the pipelines whose model rates a text by labels.
TASKS = ("text-classification", "sentiment-analysis", "zero-shot-classification")
#: The most texts of one batch.
BATCH_SIZE = 64
#: The most tokens of one batch, padding included, by device: on a CPU, activations should fit its cache.
BATCH_TOKENS = {"cpu": 1024}
BATCH_TOKENS_ELSEWHERE = 32_768
#: Batches are padded to a multiple of this, so that few shapes occur: a CPU's kernels are generated for each shape.
PAD_TO_MULTIPLE = 8
#: What makes a score of a logit, by the problem type in a model's config.
ACTIVATIONS = {"regression": "none", "multi_label_classification": "sigmoid"}


@dataclass(eq=False)
class _Call:
    """The texts of one caller, and their logits or the error once they are scored."""

    rows: list[Tokens]
    logits: Tensor | None = None
    notes: Sequence[str] = ()
    error: Exception | None = None


_WAITING: WeakKeyDictionary[PreTrainedModel, deque[_Call]] = WeakKeyDictionary()


class Classifier:
    """A sequence-classification model with its tokenizer: texts in, logits out.

    Each text gets the logits that it gets alone, and equal ones are read once. Batches are sorted by length. A model of
    a design that bon computes by itself (`bon.scorers.encoders`) reads them without padding. Others' are padded where
    padding changes no logits of the model; where it does, they hold texts of equal length, or one text each. A text of
    more tokens than the model takes loses its beginning, since the end is what was generated.

    activation: what makes a score of a logit, `softmax` over the labels, `sigmoid` or `none`; None goes by the problem
    type in the model's config, which is softmax where it has none.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batch_size: int
    activation: str

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = BATCH_SIZE,
                 activation: str | None = None):
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.activation = activation or ACTIVATIONS.get(model.config.problem_type or "", "softmax")
        self._waiting = _WAITING.setdefault(model, deque())

    @classmethod
    def of(cls, source: Any, device: str | None = None, dtype: str | None = None) -> Classifier | NgramClassifier:
        """The classifier of a transformers pipeline, whose `function_to_apply` becomes the activation, or of the name
        of a preset, folder or Hub model.

        Raises `InputError` for a pipeline of another task, `ModelError` for a model that cannot be loaded.
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
        """The model's name or folder."""
        return getattr(self.model.config, "name_or_path", "") or type(self.model).__name__

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the logits: that of their numbers, which need not begin with 0.

        Raises `ModelError` where there are more or fewer than the model has outputs.
        """
        label_by_number = {int(number): str(label) for number, label in self._id2label.items()}
        self._check_outputs(getattr(self.model, "num_labels", len(label_by_number)))
        return tuple(label_by_number[number] for number in sorted(label_by_number))

    @property
    def _id2label(self) -> Mapping[int, str] | Mapping[str, str]:
        return self.model.config.id2label or {}

    def _check_outputs(self, outputs: int) -> None:
        labels = len(self._id2label)
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
        limits = (context_length(self.model), self.tokenizer.model_max_length)
        return min((limit for limit in limits if limit and 0 < limit < 10**6), default=None)

    @cached_property
    def _pad(self) -> int | None:
        # Decoder classifiers find a text's last token by the pad id of their config; encoders go by the mask.
        return pad_id(self.model)

    def logits(self, texts: Sequence[str], add_special_tokens: bool = True) -> tuple[Tensor, tuple[str, ...]]:
        """Logits [texts, labels] in float32 on the CPU, and notes on what was truncated or retried.

        add_special_tokens: let the tokenizer add them; a text from a chat template has them already. Raises
        `InputError` for a text with a token that the model has no embedding for, `ScoringError` where memory does not
        suffice for one text.
        """
        encoded = [self._encode(text, add_special_tokens) for text in texts]
        truncated = any(was_truncated for _, was_truncated in encoded)
        notes = list(loading.notes(self.model))
        if truncated:
            notes.append(say("note.scorer_truncated", limit=str(self.limit)))
        call = _Call([tokens for tokens, _ in encoded])
        self._waiting.append(call)
        compute(lambda: self._score_waiting(call))
        if call.error:
            raise call.error
        assert call.logits is not None  # scored without an error
        return call.logits, tuple(dict.fromkeys([*notes, *call.notes]))

    def _score_waiting(self, call: _Call) -> None:
        """Scores this call with all others that arrived while another caller computed, unless one of them did so."""
        if call.logits is None and call.error is None:
            self._score([self._waiting.popleft() for _ in range(len(self._waiting))])

    def _score(self, calls: Sequence[_Call]) -> None:
        """Scores calls together; where that fails, each by itself, so that only the call at fault gets the error."""
        try:
            notes: list[str] = []
            logits = self._logits_of([row for call in calls for row in call.rows], notes)
            for call, part in zip(calls, logits.split([len(call.rows) for call in calls]), strict=True):
                call.logits, call.notes = part, notes
        except Exception as error:
            if len(calls) == 1:
                calls[0].error = error
                return
            for call in calls:
                self._score([call])

    def _encode(self, text: str, add_special_tokens: bool) -> tuple[Tokens, bool]:
        """The text's tokens, and whether its beginning was cut off."""
        encoding = self.tokenizer(
            text, add_special_tokens=add_special_tokens, return_special_tokens_mask=True, verbose=False
        )
        ids, special = encoding["input_ids"], encoding["special_tokens_mask"]
        if not ids:
            return Tokens([self._pad or 0]), False
        self._check_ids(ids)
        head = next((i for i, is_special in enumerate(special) if not is_special), 0)
        tail = next((i for i, is_special in enumerate(reversed(special)) if not is_special), 0)
        tokens = Tokens(ids, head, tail)
        if self.limit is None or len(ids) <= self.limit:
            return tokens, False
        return tokens.keep_end(self.limit), True

    def _check_ids(self, ids: Sequence[int]) -> None:
        size, highest = vocabulary(self.model), max(ids)
        if size is not None and highest >= size:
            token = repr(self.tokenizer.convert_ids_to_tokens(highest))
            raise InputError("texts", say(
                "error.scorer_lacks_token", scorer=self.name, token=token, id=str(highest), last=str(size - 1),
            ))

    def _logits_of(self, rows: Sequence[Tokens], notes: list[str]) -> Tensor:
        """Logits [rows, labels], computed in batches by length, for equal rows once. notes: gets those of retries."""
        by_ids = {tuple(row.ids): row for row in rows}
        distinct = sorted(by_ids.values(), key=lambda row: len(row.ids))
        lengths = [len(row.ids) for row in distinct]
        encoder = encoder_of(self.model)
        batches = self._batches(lengths, packs=encoder is not None)
        parts = [self._run([distinct[i] for i in batch], notes, encoder) for batch in batches]
        out = torch.cat(parts) if parts else torch.empty(0, len(self.labels))
        self._check_outputs(out.shape[-1])
        place = {tuple(row.ids): i for i, row in enumerate(distinct)}
        return out[torch.tensor([place[tuple(row.ids)] for row in rows], dtype=torch.long)]

    @property
    def _batching(self) -> Batching:
        # Without a pad id a decoder classifier refuses every batch of more than one text.
        return Batching.SINGLE if self._pad is None else batching_state(self.model).batching

    def _batches(self, lengths: Sequence[int], packs: bool) -> Iterator[list[int]]:
        """The row numbers in batches that keep to the limits on texts and tokens.

        lengths: the rows', ascending. packs: whether rows of any lengths share a batch without padding.
        """
        most_tokens = BATCH_TOKENS.get(self.model.device.type, BATCH_TOKENS_ELSEWHERE)
        batch: list[int] = []
        for i, length in enumerate(lengths):
            batching = Batching.PADDED if packs else self._batching
            most_rows = 1 if batching is Batching.SINGLE else self.batch_size
            differs = batching is Batching.EQUAL_LENGTH and batch and length != lengths[batch[0]]
            tokens = sum(lengths[j] for j in batch) + length if packs else (len(batch) + 1) * self._padded(length)
            if batch and (differs or len(batch) == most_rows or tokens > most_tokens):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _padded(self, length: int) -> int:
        """The width, in tokens, of a batch whose longest text has this many."""
        if self._batching is not Batching.PADDED:
            return length
        padded = -(-length // PAD_TO_MULTIPLE) * PAD_TO_MULTIPLE
        return padded if self.limit is None else max(length, min(padded, self.limit))

    def _run(self, rows: list[Tokens], notes: list[str], encoder: Encoder | None) -> Tensor:
        """The logits of one batch, sorted by length; in parts where it fails or its texts may not share a batch."""
        parts = [rows] if encoder else self._split(rows)
        if len(parts) == 1:
            batching = self._batching
            try:
                if encoder:
                    return encoder.logits([row.ids for row in rows])
                out = batch_logits(self.model, rows, self._padded(len(rows[-1].ids)), self._pad or 0)
            except Exception as error:
                parts = self._halve(rows, error, notes)
            else:
                self._check_padding(rows, out)
                if self._batching is batching:
                    return out
        return torch.cat([self._run(part, notes, encoder) for part in parts])

    def _split(self, rows: list[Tokens]) -> list[list[Tokens]]:
        """The rows in groups that may share a batch as far as is known now, which can be less than before."""
        if self._batching is Batching.PADDED:
            return [rows]
        if self._batching is Batching.SINGLE:
            return [[row] for row in rows]
        return [list(group) for _, group in groupby(rows, key=lambda row: len(row.ids))]

    def _halve(self, rows: list[Tokens], error: Exception, notes: list[str]) -> list[list[Tokens]]:
        """The halves of a batch that failed, since one text may be at fault or memory too small. Raises for one text.
        """
        out_of_memory = isinstance(error, RuntimeError) and loading.out_of_memory(error)
        if len(rows) == 1 and out_of_memory:
            raise ScoringError(say("error.out_of_memory_scoring_one", scorer=self.name)) from error
        if len(rows) == 1:
            raise error
        if out_of_memory:
            notes.append(say("note.scored_in_smaller_batches"))
        return [rows[: len(rows) // 2], rows[len(rows) // 2 :]]

    def _check_padding(self, rows: Sequence[Tokens], out: Tensor) -> None:
        """Checks the padding of a batch that has any, after its logits `out` are known."""
        width = self._padded(len(rows[-1].ids))
        batching_state(self.model).record_logits(out)
        if len(rows) > 1 or width > len(rows[-1].ids):
            check_padding(self.model, rows[-1], width, self._pad or 0)
