"""Which texts a classification model can read in one batch without changing each other's logits, found by trying it.

No rule here depends on the name of an architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bon.models import loading
from bon.models.builtin.base import BuiltInModel
from bon.models.running import eval_mode, keep_attention_type, takes_mask

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedModel

#: How far rounding may move a logit, relative to the largest logit seen, by number type.
ROUNDING = {"float32": 1e-3, "float16": 0.01, "bf16": 0.05, "int8": 0.05}


class Batching(Enum):
    """Which texts may share a batch."""

    PADDED = "texts of any length, padded"
    EQUAL_LENGTH = "texts of equal length"
    SINGLE = "one text in each"


class Tokens(NamedTuple):
    """The token ids of one text. head, tail: how many special tokens stand before and after it."""

    ids: list[int]
    head: int = 0
    tail: int = 0

    def keep_end(self, limit: int) -> Tokens:
        """The end of the text, in at most `limit` tokens with its special tokens."""
        end = len(self.ids) - self.tail
        start = max(self.head, end - (limit - self.head - self.tail))
        return self._replace(ids=self.ids[: self.head] + self.ids[start:])


@dataclass(eq=False)
class BatchingState:
    """What trying a model has shown so far. It must not refer to the model, which could then never be freed.

    checked_width: the widest batch, in tokens, whose logits were compared with those of single texts. largest_logit:
    the largest absolute one so far.
    """

    batching: Batching = Batching.PADDED
    checked_width: int = 0
    largest_logit: float = 0.0

    def record_logits(self, logits: Tensor) -> None:
        """Updates the largest logit; NaN counts as 0."""
        self.largest_logit = max(self.largest_logit, logits.nan_to_num().abs().max().item())


_STATES: WeakKeyDictionary[PreTrainedModel, BatchingState] = WeakKeyDictionary()


def batching_state(model: PreTrainedModel) -> BatchingState:
    """The state of a model, which all that use the model share."""
    return _STATES.setdefault(model, BatchingState())


@torch.inference_mode()
def batch_logits(
    model: PreTrainedModel, texts: Sequence[Tokens], width: int, pad: int, skip_hooks: bool = False
) -> Tensor:
    """Logits [texts, labels] in float32 on the CPU, of one batch that is padded to `width` tokens with the id `pad`.

    skip_hooks: do not call the hooks on the model, which its owner has not set for the calls of a check.
    """
    batch = {"input_ids": [text.ids + [pad] * (width - len(text.ids)) for text in texts]}
    if takes_mask(model):
        batch["attention_mask"] = [[1] * len(text.ids) + [0] * (width - len(text.ids)) for text in texts]
    tensors = {name: torch.tensor(rows).to(model.device) for name, rows in batch.items()}
    with eval_mode(model), keep_attention_type(model):
        out = model.forward(**tensors) if skip_hooks else model(**tensors)
    return out.logits.float().cpu()


def check_padding(model: PreTrainedModel, text: Tokens, width: int, pad: int) -> None:
    """Compares logits in a batch that is padded to `width` tokens with those of single texts; updates the state.

    text: the longest of the batch; the shorter ones are cut from it. Only a width above all before is tried: a model
    that reads a wide batch right reads a narrower one right; the built-in ones read each right. Some models read longer
    texts in another way, so there is a text of about the last width, one of twice its length and so on. All lengths are
    odd, for models that read tokens in groups.
    """
    state = batching_state(model)
    if isinstance(model, BuiltInModel) or state.batching is not Batching.PADDED or width <= state.checked_width:
        return
    first = max(4, state.checked_width)
    lengths = [length for i in range(width.bit_length()) if (length := (first << i) - 1) < width]
    texts = [text.keep_end(length) for length in lengths if text.head + text.tail < length < len(text.ids)]
    if not texts and len(text.ids) == width:
        return
    with suppress(Exception):  # a model that cannot read such texts leaves nothing to compare
        single = torch.cat([batch_logits(model, [t], len(t.ids), pad, skip_hooks=True) for t in texts or [text]])
        padded = batch_logits(model, [*texts, text], width, pad, skip_hooks=True)
        state.record_logits(padded)
        if _equal(model, single, padded):
            state.checked_width = width
            return
        state.batching = Batching.EQUAL_LENGTH
        shorter = (texts or [text])[-1]
        reverse = Tokens(shorter.ids[::-1])
        beside = batch_logits(model, [shorter, reverse], len(shorter.ids), pad, skip_hooks=True)
        if not _equal(model, single[-1:], beside):
            state.batching = Batching.SINGLE


def _equal(model: PreTrainedModel, single: Tensor, batched: Tensor) -> bool:
    """Whether the first rows of a batch have the logits of single texts, but for rounding.

    The tolerance is relative to the largest logit: rounding is as large as the terms that a logit is the sum of, while
    the logit itself may be near 0.
    """
    tolerance = ROUNDING.get(loading.facts(model).dtype, 0.05) * batching_state(model).largest_logit
    return (single - batched[: len(single)]).abs().max().item() <= tolerance
