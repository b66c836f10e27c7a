"""What a sequence-classification model can read: how many tokens, which ids, and which texts side by side.

Nothing here goes by the name of an architecture. What its config does not say is found by trying.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bon.engines.local.decoder import eval_mode
from bon.models import loading
from bon.models.limits import stated_positions, vocabulary
from bon.models.running import compute

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
    absolute logit so far. limit: the most tokens of a text, once `limit_known`.
    """

    sharing: Sharing = Sharing.PADDED
    width: int = 0
    largest: float = 0.0
    limit_known: bool = False
    limit: int | None = None


_FINDINGS: WeakKeyDictionary[Any, Findings] = WeakKeyDictionary()


def findings_of(model) -> Findings:
    """What was found out about a model so far."""
    return _FINDINGS.setdefault(model, Findings())


def pad_id(model) -> int | None:
    """The id that the model takes for padding; None where its config names none, or one that it cannot read."""
    pad, size = model.config.get_text_config().pad_token_id, vocabulary(model)
    return pad if pad is not None and pad >= 0 and (size is None or pad < size) else None


def longest(model) -> int | None:
    """The most tokens of one text: as the config says, or fewer where the model's tables of positions end before.

    Some tables begin with rows for padding, so that a text has fewer places than the config says.
    """
    findings = findings_of(model)
    if not findings.limit_known:
        stated = stated_positions(model.config)
        end = compute(lambda: _end_of_tables(model, stated))
        findings.limit, findings.limit_known = stated if end is None else end, True
    return findings.limit


def _end_of_tables(model, stated: int | None) -> int | None:
    """The most tokens that the tables of positions have rows for, where that is less than `stated`; else None.

    A table whose last row in use moves on by one from one token to two may be one of positions. Tables of distances
    do so too at first, so the length that would be one too many is tried.
    """
    one, two = _lookups(model, 1).rows, _lookups(model, 2).rows
    ends = sorted(place[1] - last + 1 for place, last in two.items() if last == one.get(place, last) + 1)
    return next((end for end in ends if end < (stated or end + 1) and _lookups(model, end + 1).ended), None)


class _Lookups(TorchDispatchMode):
    """Records the last row that is looked up in each embedding, by address and length; refuses lookups behind the end.

    A processor refuses them by itself. A GPU could not be used any more.
    """

    def __init__(self):
        super().__init__()
        self.rows: dict[tuple[int, int], int] = {}
        self.ended = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.embedding.default, torch.ops.aten.gather.default):
            embeds = func is torch.ops.aten.embedding.default
            rows, last = args[0].shape[0 if embeds else args[1]], int(args[1 if embeds else 2].max())
            self.ended = last >= rows
            if self.ended:
                raise IndexError(last)
            if embeds:
                place = args[0].data_ptr(), rows
                self.rows[place] = max(last, self.rows.get(place, 0))
        return func(*args, **(kwargs or {}))


def _lookups(model, length: int) -> _Lookups:
    """What the model looks up for a text of so many equal tokens."""
    lookups = _Lookups()
    token = (vocabulary(model) or 8) // 2  # special tokens are at the ends; padding may have no place of its own
    ids = [token + (token == pad_id(model))] * length
    # Where the model cannot read such a text, what it looked up until then counts.
    with suppress(Exception), lookups:
        logits(model, [Tokens(ids)], length, 0, unasked=True)
    return lookups


@torch.inference_mode()
def logits(model, texts: Sequence[Tokens], width: int, pad: int, unasked: bool = False) -> Tensor:
    """Logits [texts, labels] in float32 on the processor, of one batch that is padded to `width` tokens.

    unasked: past the hooks on the model, whose owner did not ask for this call.
    """
    accepted = inspect.signature(model.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    batch = {"input_ids": [text.ids + [pad] * (width - len(text.ids)) for text in texts]}
    if "attention_mask" in accepted or takes_any:
        batch["attention_mask"] = [[1] * len(text.ids) + [0] * (width - len(text.ids)) for text in texts]
    tensors = {name: torch.tensor(rows).to(model.device) for name, rows in batch.items()}
    with eval_mode(model), _attention_kept(model):
        out = model.forward(**tensors) if unasked else model(**tensors)
    return out.logits.float().cpu()


@contextmanager
def _attention_kept(model) -> Iterator[None]:
    """Undoes the change of modules that take another kind of attention for a short text and then stay with it."""
    before = [(module, {**vars(module), "_modules": dict(module._modules), "_buffers": dict(module._buffers)})
              for module in model.modules() if "attention_type" in vars(module)]
    try:
        yield
    finally:
        for module, state in before:
            vars(module).update(state)


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
