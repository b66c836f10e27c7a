"""Which texts a sequence-classification model can read in one batch without changing each other's logits.

Nothing here goes by the name of an architecture. What its config does not say is found by trying.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bon.models import loading
from bon.models.running import eval_mode, keep_attention_type, takes_mask

#: How far rounding may move a logit, relative to the largest one, by number type.
ROUNDING = {"float32": 1e-3, "float16": 0.01, "bf16": 0.05, "int8": 0.05}


class Sharing(Enum):
    """Which texts a model may read in one batch without changing each other's logits."""

    PADDED = "any, padded"
    EQUAL_LENGTH = "those of equal length"
    NONE = "none"


class Tokens(NamedTuple):
    """The token ids of one text. head, tail: how many special tokens frame it."""

    ids: list[int]
    head: int = 0
    tail: int = 0

    def cut(self, most: int) -> "Tokens":
        """The text without its beginning, in at most so many tokens, in the same frame."""
        end = len(self.ids) - self.tail
        start = max(self.head, end - (most - self.head - self.tail))
        return self._replace(ids=self.ids[: self.head] + self.ids[start:])


@dataclass(eq=False)
class Findings:
    """What was found out by trying a model. It must not hold the model, which else would never be let go of.

    width: the widest batch, in tokens, whose logits were compared with those of texts alone. largest: the largest
    absolute logit so far.
    """

    sharing: Sharing = Sharing.PADDED
    width: int = 0
    largest: float = 0.0


_FINDINGS: WeakKeyDictionary[Any, Findings] = WeakKeyDictionary()


def findings_of(model) -> Findings:
    """What was found out about a model so far."""
    return _FINDINGS.setdefault(model, Findings())


@torch.inference_mode()
def logits(model, texts: Sequence[Tokens], width: int, pad: int, unasked: bool = False) -> Tensor:
    """Logits [texts, labels] in float32 on the processor, of one batch that is padded to `width` tokens.

    unasked: past the hooks on the model, whose owner did not ask for this call.
    """
    batch = {"input_ids": [text.ids + [pad] * (width - len(text.ids)) for text in texts]}
    if takes_mask(model):
        batch["attention_mask"] = [[1] * len(text.ids) + [0] * (width - len(text.ids)) for text in texts]
    tensors = {name: torch.tensor(rows).to(model.device) for name, rows in batch.items()}
    with eval_mode(model), keep_attention_type(model):
        out = model.forward(**tensors) if unasked else model(**tensors)
    return out.logits.float().cpu()


def check_sharing(model, text: Tokens, width: int, pad: int) -> None:
    """Compares the logits of texts alone with those in a batch that is padded to `width` tokens, and keeps the finding.

    text: the longest of the batch; the shorter ones are cut from it. Only a width above all before is tried, since what
    changes nothing in a wide batch does not in a narrow one. Some models read longer texts in another way, so there is
    a text of about the last width, one of twice its length and so on. All are odd, for models that read by groups.
    """
    findings = findings_of(model)
    if findings.sharing is not Sharing.PADDED or width <= findings.width:
        return
    lengths = [length for i in range(width.bit_length()) if (length := (max(4, findings.width) << i) - 1) < width]
    texts = [text.cut(length) for length in lengths if text.head + text.tail < length < len(text.ids)]
    if not texts and len(text.ids) == width:
        return
    with suppress(Exception):  # where the model cannot read such texts there is nothing to compare
        alone = torch.cat([logits(model, [short], len(short.ids), pad, unasked=True) for short in texts or [text]])
        beside = logits(model, [*texts, text], width, pad, unasked=True)
        findings.largest = max(findings.largest, largest(beside))
        if _same(model, alone, beside):
            findings.width = width
            return
        findings.sharing = Sharing.EQUAL_LENGTH
        short = (texts or [text])[-1]
        backwards = Tokens(short.ids[::-1])
        if not _same(model, alone[-1:], logits(model, [short, backwards], len(short.ids), pad, unasked=True)):
            findings.sharing = Sharing.NONE


def largest(values: Tensor) -> float:
    """The largest absolute value; NaN counts as 0."""
    return values.nan_to_num().abs().max().item()


def _same(model, alone: Tensor, beside: Tensor) -> bool:
    # Relative to the largest logit, since rounding goes by the terms of the sum that a logit is: it may be near 0.
    allowed = ROUNDING.get(loading.facts(model).dtype, 0.05) * findings_of(model).largest
    return (alone - beside[: len(alone)]).abs().max().item() <= allowed
