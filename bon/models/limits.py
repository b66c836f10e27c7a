"""What a model can take: how many positions, and which token ids. What its config does not say is found by trying."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bon.models.builtin.base import BuiltInModel
from bon.models.running import compute, eval_mode, keep_attention_type, takes_mask

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedConfig, PreTrainedModel

#: What configs call the most tokens that their model takes; -1 stands for no limit.
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")

_CONTEXT_LENGTHS: WeakKeyDictionary[PreTrainedModel, int | None] = WeakKeyDictionary()


def context_length(model: PreTrainedModel) -> int | None:
    """The most tokens of one text: as the config says, or fewer where a table of position embeddings ends before.

    None where neither sets a limit. Some tables begin with rows for padding, so a text has fewer positions than the
    config says. Models with tables are tried once, on a few tokens, but for the built-in ones; rotary embeddings have
    none.
    """
    if model not in _CONTEXT_LENGTHS:
        stated = _stated_positions(model.config)
        is_exact = isinstance(model, BuiltInModel) or rope_parameters(model.config)
        tables_end = None if is_exact else compute(lambda: _end_of_tables(model, stated))
        _CONTEXT_LENGTHS[model] = stated if tables_end is None else tables_end
    return _CONTEXT_LENGTHS[model]


def _stated_positions(config: PreTrainedConfig) -> int | None:
    """The most tokens of a text by the config alone; None where it names no positive whole number."""
    text = config.get_text_config()
    return next((n for name in POSITIONS if isinstance(n := getattr(text, name, None), int) and n > 0), None)


def rope_parameters(config: PreTrainedConfig) -> dict[str, Any]:
    """What a config says of its model's rotary embeddings; empty where it has none."""
    text = config.get_text_config()
    return getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}


def vocabulary(model: PreTrainedModel) -> int | None:
    """How many token ids the model has an embedding for; None where it does not say."""
    try:
        return getattr(model.get_input_embeddings(), "num_embeddings", None)
    except (AttributeError, NotImplementedError):
        return None


def pad_id(model: PreTrainedModel) -> int | None:
    """The id that the model takes for padding; None where its config names none, or one that it cannot read."""
    pad, size = model.config.get_text_config().pad_token_id, vocabulary(model)
    return pad if pad is not None and pad >= 0 and (size is None or pad < size) else None


def _end_of_tables(model: PreTrainedModel, stated: int | None) -> int | None:
    """The most tokens that the tables of positions have rows for, where that is less than `stated`; else None.

    A table whose last row in use moves on by one from one token to two may be one of positions. Tables of distances
    do so too at first, so the length that would be one too many is tried.
    """
    one, two = _lookups(model, 1).last_rows, _lookups(model, 2).last_rows
    ends = sorted(table[1] - last + 1 for table, last in two.items() if last == one.get(table, last) + 1)
    return next((end for end in ends if end < (stated or end + 1) and _lookups(model, end + 1).out_of_range), None)


class _Lookups(TorchDispatchMode):
    """Records the last row that is looked up in each embedding, by address and length; refuses rows that it lacks.

    A processor refuses them by itself. A GPU could not be used any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last_rows: dict[tuple[int, int], int] = {}
        self.out_of_range = False

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.ops.aten.embedding.default, torch.ops.aten.gather.default):
            embeds = func is torch.ops.aten.embedding.default
            rows, last = args[0].shape[0 if embeds else args[1]], int(args[1 if embeds else 2].max())
            self.out_of_range = last >= rows
            if self.out_of_range:
                raise IndexError(last)
            if embeds:
                table = args[0].data_ptr(), rows
                self.last_rows[table] = max(last, self.last_rows.get(table, 0))
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def _lookups(model: PreTrainedModel, length: int) -> _Lookups:
    """What the model looks up for a text of so many equal tokens."""
    lookups = _Lookups()
    token = (vocabulary(model) or 8) // 2  # special tokens are at the ends; padding may have no position
    token += token == pad_id(model)
    # Where the model cannot read such a text, what it looked up until then counts.
    with suppress(Exception), eval_mode(model), keep_attention_type(model), lookups:
        ids = torch.full((1, length), token, device=model.device)
        # Past the hooks on the model, whose owner did not ask for this call.
        model.forward(input_ids=ids, **({"attention_mask": torch.ones_like(ids)} if takes_mask(model) else {}))
    return lookups
