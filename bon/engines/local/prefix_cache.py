"""A KV cache that holds each prompt once for all of its rows, and the attention over it.

The keys and values of a prompt are stored once (bifurcated attention, Athiwaratkun et al., arXiv 2403.08845) and read
once per step for all of its rows; each row's own keys and values are in memory that is laid out once. Attention over
the two parts is computed separately and combined by their log-sum-exp, which is exact. It serves every transformers
model whose layers call the attention that the model's config names, with full or sliding windows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from inspect import getattr_static
from typing import TYPE_CHECKING, NamedTuple
from weakref import proxy

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from bon.models.builtin.base import BuiltInModel

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedConfig, PreTrainedModel

#: The name of this attention in transformers, and a config's property with the name of its model's attention.
ATTENTION, CONFIG_ATTENTION = "bon_shared_prefix", "_attn_implementation"
#: The attribute by which the attention finds the layer of the cache that its keys come from.
LAYER = "bon_layer"
#: Added to the scores of tokens that a row must not see; finite, so a part of which a row sees nothing has weight 0.
HIDDEN = -1e30

#: Tokens of prompts, counted once per row, up to which one attention over copies is faster than two that are combined.
FEW = 512
#: Whether torch has the attention kernel for processors that also returns the log-sum-exp of the scores.
HAS_CPU_KERNEL = hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")


class Unsupported(Exception):
    """The model's attention is of a type that only its own code can compute."""


class PrefilledLayer(NamedTuple):
    """One layer of a prefill: keys and values [prompts, heads, tokens, dim], and its sliding window."""

    keys: Tensor
    values: Tensor
    window: int | None = None


class Prefill(NamedTuple):
    """What the layers keep of prompts with so many tokens each."""

    tokens: int
    layers: Sequence[PrefilledLayer]


def prefill_in(cache: Cache) -> Prefill:
    """What is in a cache of transformers. Raises `Unsupported` where a layer has neither full nor sliding attention."""
    layers = []
    for layer in cache.layers:
        if not isinstance(layer, DynamicLayer) or type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise Unsupported(f"a cache with layers of type {type(layer).__name__}")
        assert layer.keys is not None  # the cache was prefilled
        assert layer.values is not None
        layers.append(PrefilledLayer(layer.keys, layer.values, getattr(layer, "sliding_window", None)))
    return Prefill(cache.get_seq_length(), layers)


class SharedPrefixCache(Cache):
    """The KV cache of rows that continue a few prompts.

    prefills: of all prompts, each of one or more prompts of equal length.
    owners: for each row the number of its prompt, counted through all caches. room: the most tokens after its prompt
    that a row will store. shared: hold prompts once; None: where that saves time, else copy them to each of their rows.
    fixed: let each step do the same work on the same memory, so that it can be captured and replayed.
    """

    shared: bool
    owners: list[int]
    fixed: bool
    shared_layers: list[SharedLayer]
    prompt_lengths: list[int]
    row_lengths: list[int]
    device: torch.device
    slots: Tensor
    places: Tensor

    plan: StepPlan | FixedPlan

    def __init__(self, prefills: Sequence[Prefill], owners: Sequence[int], room: int, shared: bool | None = None,
                 fixed: bool = False) -> None:
        lengths = [tokens for tokens, layers in prefills for _ in range(len(layers[0].keys))]
        # A sliding window has dropped tokens from the cache, so a row could not hold a copy of its prompt in place.
        dropped = any(layer.keys.shape[2] < tokens for tokens, layers in prefills for layer in layers)
        self.shared = dropped or (len(owners) * max(lengths) > FEW if shared is None else shared)
        self.owners, self.fixed = list(owners), fixed
        #: Tokens of each prompt that is held once, and tokens that each row holds itself.
        self.prompt_lengths = lengths if self.shared else [0] * len(lengths)
        self.row_lengths = [0 if self.shared else lengths[owner] for owner in owners]
        by_layer = zip(*(prefill.layers for prefill in prefills), strict=True)
        # Layers and plans hold weak references to the cache: so its memory is free as soon as no decoder uses it.
        self.shared_layers = [SharedLayer(proxy(self), prompts, len(owners), room) for prompts in by_layer]
        super().__init__(layers=[*self.shared_layers])
        self.device = self.shared_layers[0].keys.device
        self._group_rows()

    @property
    def room(self) -> int:
        """The most tokens that a row can hold itself."""
        return self.shared_layers[0].keys.shape[2]

    @property
    def positions(self) -> list[int]:
        """The position of the token that each row reads next."""
        return [self.prompt_lengths[owner] + n for owner, n in zip(self.owners, self.row_lengths, strict=True)]

    def keep(self, order: Sequence[int]) -> None:
        """Keeps the rows `order`, in this order; each stays where it is or comes from behind the new end."""
        moves = [(to, at) for to, at in enumerate(order) if to != at]
        for layer in self.shared_layers:
            layer.keep(len(order), moves)
        self.owners, self.row_lengths = [self.owners[i] for i in order], [self.row_lengths[i] for i in order]
        self._group_rows()

    def join(self, other: SharedPrefixCache) -> None:
        """Adds another cache's prompts and rows, behind those that are here; prompts without rows are dropped."""
        kept = sorted(set(self.owners))
        longest = max(self.prompt_lengths[i] for i in kept)
        for layer, joining in zip(self.shared_layers, other.shared_layers, strict=True):
            layer.join(joining, kept, longest)
        self.owners = [kept.index(owner) for owner in self.owners] + [len(kept) + owner for owner in other.owners]
        self.prompt_lengths = [self.prompt_lengths[i] for i in kept] + other.prompt_lengths
        self.row_lengths = self.row_lengths + other.row_lengths
        # Copied prompts have length 0 here, and the last one that is held once may just have been dropped.
        self.shared = any(self.prompt_lengths)
        self._group_rows()

    def begin_step(self) -> None:
        """Prepares the cache for a step in which the model reads one token per row."""
        if not self.fixed:
            self.plan = StepPlan(proxy(self))

    def grow(self) -> None:
        """Counts the token per row that the model has just read."""
        # Rows that ended may stay for a while where memory is fixed: they overwrite their last token again and again.
        most = self.room - 1 if self.fixed else self.room
        self.row_lengths = [min(n + 1, most) for n in self.row_lengths]

    def _group_rows(self) -> None:
        """Indexes rows by prompt, each prompt's rows padded to the most of any: so one matrix product per prompt does.

        `slots` [prompts, most rows]: the rows of each prompt. `places` [rows]: where each row is in them, flattened.
        """
        rows_of = [[i for i, owner in enumerate(self.owners) if owner == p] for p in range(len(self.prompt_lengths))]
        most = max(map(len, rows_of))
        self.slots = torch.tensor([[*rows, *[0] * (most - len(rows))] for rows in rows_of], device=self.device)
        place = {row: p * most + r for p, rows in enumerate(rows_of) for r, row in enumerate(rows)}
        self.places = torch.tensor([place[i] for i in range(len(self.owners))], device=self.device)
        if self.fixed:
            self.plan = FixedPlan(proxy(self))

    def by_prompt(self, rows: Tensor) -> Tensor:
        """[rows, heads, group, dim] -> [prompts, heads, rows of the prompt x group, dim]."""
        if len(self.prompt_lengths) == 1:
            return rows.transpose(0, 1).flatten(1, 2).unsqueeze(0)
        return rows[self.slots].transpose(1, 2).flatten(2, 3)

    def by_row(self, grouped: Tensor, group: int) -> Tensor:
        """The inverse: [prompts, heads, rows of the prompt x group, ...] -> [rows, heads, group, ...]."""
        by_slot = grouped.unflatten(2, (-1, group)).transpose(1, 2).flatten(0, 1)
        return by_slot if len(self.prompt_lengths) == 1 else by_slot[self.places]


@dataclass(slots=True)
class StepPlan:
    """What the layers share within one step: where rows store their token, and the masks.

    longest: the most tokens that a row holds itself after the step. where: the place of the new token in the rows' own
    memory, one for all rows or [rows] and [places].
    """

    cache: SharedPrefixCache
    longest: int = field(init=False)
    where: int | tuple[Tensor, Tensor] = field(init=False)
    _masks: dict[int | None, tuple[Tensor | None, Tensor | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = self.cache.row_lengths
        self.longest = max(lengths) + 1
        # Rows of equal length store to one place, with no index tensors.
        if min(lengths) == max(lengths):
            self.where = lengths[0]
        else:
            rows, places = torch.tensor([range(len(lengths)), lengths], device=self.cache.device)
            self.where = rows, places

    def masks(self, window: int | None) -> tuple[Tensor | None, Tensor | None]:
        """Masks to add to the scores over prompts [rows, tokens] and rows' own tokens [rows, tokens].

        None where no token is hidden. window: of the layer's sliding attention, in tokens.
        """
        if window not in self._masks:
            self._masks[window] = self._prompt_mask(window), self._own_mask(window)
        return self._masks[window]

    def _prompt_mask(self, window: int | None) -> Tensor | None:
        cache = self.cache
        stored = _stored_by_row(cache, window)
        inside = window is None or max(n + 1 - window + s for n, s in zip(cache.row_lengths, stored, strict=True)) <= 0
        if len({_stored(n, window) for n in cache.prompt_lengths}) == 1 and inside:
            return None
        row_lengths, ends = (torch.tensor(counts, device=cache.device) for counts in (cache.row_lengths, stored))
        return _prompt_mask(cache, window, row_lengths, ends)

    def _own_mask(self, window: int | None) -> Tensor | None:
        if isinstance(self.where, int) and (window is None or self.longest <= window):
            return None
        return _own_mask(self.longest, window, torch.tensor(self.cache.row_lengths, device=self.cache.device))


class FixedPlan:
    """The same for steps that are all alike: every number is on the device, and every shape stays the same."""

    cache: SharedPrefixCache
    longest: int
    row_lengths: Tensor
    where: tuple[Tensor, Tensor]

    def __init__(self, cache: SharedPrefixCache) -> None:
        self.cache, self.longest = cache, cache.room
        self.row_lengths = torch.tensor(cache.row_lengths, device=cache.device)
        self._ends = {window: torch.tensor(_stored_by_row(cache, window), device=cache.device)
                      for window in {None, *(layer.window for layer in cache.shared_layers)}}
        self.where = (torch.arange(len(cache.row_lengths), device=cache.device), self.row_lengths)

    @property
    def positions(self) -> Tensor:
        """The position of the token that each row reads next."""
        return self._ends[None] + self.row_lengths

    def masks(self, window: int | None) -> tuple[Tensor | None, Tensor | None]:
        """As `StepPlan.masks`."""
        all_seen = window is None and len(set(self.cache.prompt_lengths)) == 1
        prompt_mask = None if all_seen else _prompt_mask(self.cache, window, self.row_lengths, self._ends[window])
        return prompt_mask, _own_mask(self.longest, window, self.row_lengths)

    def advance(self) -> None:
        """Counts one more token per row, on the device; see `SharedPrefixCache.grow`."""
        self.row_lengths.add_(1).clamp_(max=self.longest - 1)


def _stored(length: int, window: int | None) -> int:
    """How many of a prompt's tokens a layer stores."""
    return length if window is None else min(length, window - 1)


def _stored_by_row(cache: SharedPrefixCache, window: int | None) -> list[int]:
    """For each row, how many of its prompt's tokens a layer stores."""
    return [_stored(cache.prompt_lengths[owner], window) for owner in cache.owners]


def _prompt_mask(cache: SharedPrefixCache, window: int | None, row_lengths: Tensor, ends: Tensor) -> Tensor:
    """The mask over prompts [rows, tokens]. row_lengths: each row's own tokens. ends: its prompt's stored tokens."""
    columns = torch.arange(max(_stored(n, window) for n in cache.prompt_lengths), device=ends.device)
    hidden = columns >= ends.unsqueeze(-1)
    if window is not None:
        # Stored tokens that are before the window of a row that is so many tokens past the prompt.
        hidden |= columns < (row_lengths + 1 - window + ends).unsqueeze(-1)
    return hidden * HIDDEN


def _own_mask(longest: int, window: int | None, row_lengths: Tensor) -> Tensor:
    """The mask over rows' own tokens [rows, longest]."""
    columns, last = torch.arange(longest, device=row_lengths.device), row_lengths.unsqueeze(-1)
    hidden = columns > last
    if window is not None:
        hidden |= columns <= last - window
    return hidden * HIDDEN


def _expanded(mask: Tensor, dtype: torch.dtype, group: int) -> Tensor:
    """[rows, tokens] -> [rows, 1, group, tokens], finite in float16 too: a row whose tokens are all hidden then has a
    finite sum.
    """
    return mask[:, None, None].clamp(min=torch.finfo(dtype).min).to(dtype).expand(-1, -1, group, -1)


class SharedLayer(CacheLayerMixin):
    """One layer: prompts [prompts, heads, tokens, dim] padded on the right, rows' own [rows, heads, room, dim]."""

    cache: SharedPrefixCache
    rows: int
    window: int | None
    prompt_keys: Tensor
    prompt_values: Tensor
    keys: Tensor
    values: Tensor

    def __init__(self, cache: SharedPrefixCache, prefilled: Sequence[PrefilledLayer], rows: int, room: int) -> None:
        super().__init__()
        self.cache, self.rows = cache, rows
        self.window = prefilled[0].window
        if self.window == 1:
            raise Unsupported("a window of one token")  # transformers keeps all of them
        self.prompt_keys = _stacked([layer.keys for layer in prefilled])
        self.prompt_values = _stacked([layer.values for layer in prefilled])
        self.keys, self.values = self._allocate(self.prompt_keys, room), self._allocate(self.prompt_values, room)
        if not cache.shared:
            self.prompt_keys, self.prompt_values = self.prompt_keys[:, :, :0], self.prompt_values[:, :, :0]
        self.is_initialized = True

    def _allocate(self, prompts: Tensor, room: int) -> Tensor:
        """The rows' own memory, which begins with copies of their prompts where these are not shared."""
        copied = 0 if self.cache.shared else prompts.shape[2]
        # Zeros, since hidden tokens still get a weight of 0, and 0 times uninitialised memory may be NaN.
        # In float32 on processors: torch's kernel there takes four times as long for single queries in bf16.
        dtype = torch.float32 if prompts.device.type == "cpu" else prompts.dtype
        memory = prompts.new_zeros(self.rows, prompts.shape[1], copied + room, prompts.shape[3], dtype=dtype)
        if copied:
            memory[:, :, :copied] = prompts[self.cache.owners]
        return memory

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Stores one token per row and returns the rows' own keys and values, which name this layer for `_attend`."""
        keys, values = self.store(key_states[:, :, 0], value_states[:, :, 0])
        setattr(keys, LAYER, self)
        return keys, values

    def store(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Stores one token per row [rows, heads, dim] and returns the rows' own keys and values."""
        plan = self.cache.plan
        keys, values = self.keys[: self.rows], self.values[: self.rows]
        if isinstance(plan.where, int):
            keys[:, :, plan.where], values[:, :, plan.where] = key, value
        else:
            keys[plan.where[0], :, plan.where[1]] = key.to(keys.dtype)
            values[plan.where[0], :, plan.where[1]] = value.to(values.dtype)
        return keys[:, :, : plan.longest], values[:, :, : plan.longest]

    def read(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Stores one token per row and attends from it: [rows, heads, dim], [rows, key heads, dim] twice ->
        [rows, heads x dim].
        """
        return self.attend(query.unsqueeze(2), *self.store(key, value), scaling).flatten(1)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attention of one query per row over its prompt and its own tokens.

        query: [rows, heads, 1, dim]. key, value: the rows' own, [rows, key heads, tokens, dim]. Returns
        [rows, 1, heads, dim]. scaling: of the scores.
        """
        rows, heads, _, dim = query.shape
        group = heads // key.shape[1]
        query = query.view(rows, key.shape[1], group, dim)
        prompt_mask, row_mask = self.cache.plan.masks(self.window)
        if row_mask is not None:
            row_mask = _expanded(row_mask, key.dtype, group)
        over_row, row_sum = attention(query.to(key.dtype), key, value, row_mask, scaling)
        if not self.cache.shared:
            return over_row.reshape(rows, 1, heads, -1).to(query.dtype)
        if prompt_mask is not None:
            prompt_mask = self.cache.by_prompt(_expanded(prompt_mask, query.dtype, group))
        over_prompt, prompt_sum = attention(
            self.cache.by_prompt(query), self.prompt_keys, self.prompt_values, prompt_mask, scaling
        )
        over_prompt, prompt_sum = self.cache.by_row(over_prompt, group), self.cache.by_row(prompt_sum, group)
        weight = (prompt_sum - row_sum).sigmoid().unsqueeze(-1).to(over_row.dtype)
        return over_row.lerp(over_prompt.to(over_row.dtype), weight).reshape(rows, 1, heads, -1).to(query.dtype)

    def keep(self, rows: int, moves: Sequence[tuple[int, int]]) -> None:
        """Moves rows within the memory, as (to, from), and drops those behind the first `rows`."""
        self.rows = rows
        for to, source in moves:
            self.keys[to], self.values[to] = self.keys[source], self.values[source]

    def join(self, other: SharedLayer, kept: Sequence[int], longest: int) -> None:
        """Adds another layer's prompts and rows, behind the rows that are here and the prompts `kept`, of which the
        longest has so many tokens.
        """
        width = longest if self.window is None else min(longest, self.window - 1)
        self.prompt_keys = _stacked([self.prompt_keys[kept, :, :width], other.prompt_keys])
        self.prompt_values = _stacked([self.prompt_values[kept, :, :width], other.prompt_values])
        self.keys = _stacked([self.keys[: self.rows], other.keys[: other.rows]])
        self.values = _stacked([self.values[: self.rows], other.values[: other.rows]])
        self.rows += other.rows

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Does nothing: all memory is allocated from the start."""

    def get_seq_length(self) -> int:
        """The most tokens that a row and its prompt have together."""
        return max(self.cache.positions)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The length and offset of a mask, which transformers asks for; it makes none here."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """-1: no limit."""
        return -1


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Tensors [n, heads, tokens, dim] as one along n, padded with zeros to the most tokens."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    out = first.new_zeros(sum(len(p) for p in parts), first.shape[1], max(p.shape[2] for p in parts), first.shape[3])
    start = 0
    for part in parts:
        out[start : start + len(part), :, : part.shape[2]] = part
        start += len(part)
    return out


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
) -> tuple[Tensor, Tensor]:
    """Softmax attention [batch, heads, queries, dim] with the log-sum-exp of its scores [batch, heads, queries]."""
    if HAS_CPU_KERNEL and query.device.type == "cpu" and query.shape[-1] == value.shape[-1]:
        # torch's public function wraps this kernel and drops the log-sum-exp that it returns.
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, False, attn_mask=mask, scale=scaling
        )
    scores = (query @ key.transpose(-1, -2)).float() * scaling
    if mask is not None:
        scores = scores + mask
    sums = scores.logsumexp(-1)
    return (scores - sums.unsqueeze(-1)).exp().to(value.dtype) @ value, sums


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, **options: object,
) -> tuple[Tensor, None]:
    """The attention that transformers calls in place of its own, with its signature.

    Raises `Unsupported` for options that change the scores.
    """
    layer = getattr(key, LAYER, None)
    changes = any(options.get(name) is not None for name in ("softcap", "s_aux", "position_bias", "sinks"))
    if layer is None or attention_mask is not None or dropout or changes:
        raise Unsupported(type(module).__name__)
    return layer.attend(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling), None


@cache
def _register_attention() -> None:
    """Makes this module's attention known to transformers, once."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attend)


class _Decoding(threading.local):
    """configs: the ids of the configs that name this module's attention to the current thread."""

    configs: frozenset[int] = frozenset()


_DECODING = _Decoding()


@contextmanager
def shared_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within it the model's layers call the attention of this module, in this thread alone.

    All threads read the attention's name from one config, which is not changed: its answer depends on the thread.
    """
    if isinstance(model, BuiltInModel):  # its layers call the attention of the cache by themselves
        yield
        return
    _register_attention()
    configs, before = list(_config_parts(model.config)), _DECODING.configs
    for config in configs:
        _name_attention_by_thread(type(config))
    _DECODING.configs = before | {id(config) for config in configs}
    try:
        yield
    finally:
        _DECODING.configs = before


def _config_parts(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """A config and all configs within it."""
    yield config
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if part is not None:
            yield from _config_parts(part)


class _AttentionByThread(property):
    """A config's property that names this module's attention to threads inside `shared_attention`."""


def _name_attention_by_thread(config_class: type[PreTrainedConfig]) -> None:
    """Replaces the property with the attention's name in a class of configs, once."""
    before = getattr_static(config_class, CONFIG_ATTENTION)
    if isinstance(before, _AttentionByThread):
        return

    def attention_name(config: PreTrainedConfig) -> str | None:
        return ATTENTION if id(config) in _DECODING.configs else before.fget(config)

    setattr(config_class, CONFIG_ATTENTION, _AttentionByThread(attention_name, before.fset))
