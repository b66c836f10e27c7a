"""Attention over prompts that are held once for all of their candidates.

The keys and values of a prompt are stored once (bifurcated attention, Athiwaratkun et al., arXiv 2403.08845) and read
once per step for all of its rows; each row's own keys and values lie in memory that is laid out once. The two parts
are attended to apart and joined by their log-sum-exp, which is exact. It serves every transformers model whose layers
call the attention that the model's config names, with full or sliding windows.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import proxy

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

#: What transformers calls this attention.
NAME = "bon_shared_prefix"
#: Added to the score of what a row must not see; finite, so a row that sees nothing of a part gives it weight 0.
HIDDEN = -1e30

#: Tokens of prompts, counted for each row, up to which one attention over copies is faster than two that are joined.
FEW = 512
#: Whether torch has its attention kernel for processors that also gives the sums of the scores.
ON_PROCESSORS = hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")


class Unsupported(Exception):
    """The model's attention is of a kind that only its own code can compute."""


class SharedPrefixCache(Cache):
    """The KV cache of rows that continue a few prompts.

    prefilled: caches as the model's own prefill left them, each of one or more prompts of equal length.
    owners: for each row the number of its prompt, counted through all of them. room: the most tokens of its own that a
    row will store. shared: hold prompts once; None: where that saves time, else copy them to the rows' own parts.
    fixed: let each step do the same work on the same memory, so that it can be captured and repeated.
    Raises `Unsupported` for caches with other layers than full and sliding attention.
    """

    def __init__(self, prefilled: Sequence[Cache], owners: Sequence[int], room: int, shared: bool | None = None,
                 fixed: bool = False):
        if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for c in prefilled for layer in c.layers):
            raise Unsupported("a cache of another kind")
        lengths = [cache.get_seq_length() for cache in prefilled for _ in cache.layers[0].keys]
        cut = any(layer.keys.shape[2] < cache.get_seq_length() for cache in prefilled for layer in cache.layers)
        self.shared = cut or (len(owners) * max(lengths) > FEW if shared is None else shared)
        self.owners, self.fixed = list(owners), fixed
        #: Tokens of each prompt, and of each row beside it.
        self.lengths = lengths if self.shared else [0] * len(lengths)
        self.own = [0 if self.shared else lengths[owner] for owner in owners]
        stacks = zip(*(cache.layers for cache in prefilled), strict=True)
        # Layers and plans know their cache without holding it: so its memory is free as soon as nobody reads on.
        super().__init__(layers=[_Layer(proxy(self), stack, len(owners), room) for stack in stacks])
        self.device = self.layers[0].keys.device
        self._group()

    @property
    def room(self) -> int:
        """Tokens that a row's own part holds at most."""
        return self.layers[0].keys.shape[2]

    @property
    def positions(self) -> list[int]:
        """The position of the token that each row reads next."""
        return [self.lengths[owner] + own for owner, own in zip(self.owners, self.own, strict=True)]

    def keep(self, order: Sequence[int]) -> None:
        """Keeps the rows `order`, in this order; each stays where it is or comes from behind the new end."""
        moves = [(to, at) for to, at in enumerate(order) if to != at]
        for layer in self.layers:
            layer.keep(len(order), moves)
        self.owners, self.own = [self.owners[i] for i in order], [self.own[i] for i in order]
        self._group()

    def join(self, other: "SharedPrefixCache") -> None:
        """Takes another cache's prompts and rows in, behind those that are here; what nobody continues is dropped."""
        kept = sorted(set(self.owners))
        longest = max(self.lengths[i] for i in kept)
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.join(theirs, kept, longest)
        self.owners = [kept.index(owner) for owner in self.owners] + [len(kept) + owner for owner in other.owners]
        self.lengths, self.own = [self.lengths[i] for i in kept] + other.lengths, self.own + other.own
        # Copied prompts are empty here, and the last one that is held once may just have been dropped.
        self.shared = any(self.lengths)
        self._group()

    def begin(self) -> None:
        """Before the model reads one token per row."""
        if not self.fixed:
            self.plan = _Plan(proxy(self))

    def grow(self) -> None:
        """After the model has read one token per row: every row is one token longer."""
        # Rows that ended may stay for a while where memory is fixed: they write to their last place again and again.
        most = self.room - 1 if self.fixed else self.room
        self.own = [min(own + 1, most) for own in self.own]

    def _group(self) -> None:
        """Rows by prompt, each prompt's filled up to the most that any has: what makes one product per prompt."""
        rows_of = [[i for i, owner in enumerate(self.owners) if owner == p] for p in range(len(self.lengths))]
        most = max(map(len, rows_of))
        self.slots = torch.tensor([[*rows, *[0] * (most - len(rows))] for rows in rows_of], device=self.device)
        place = {row: p * most + r for p, rows in enumerate(rows_of) for r, row in enumerate(rows)}
        self.places = torch.tensor([place[i] for i in range(len(self.owners))], device=self.device)
        if self.fixed:
            self.plan = _FixedPlan(proxy(self))

    def by_prompt(self, rows: Tensor) -> Tensor:
        """[rows, heads, group, dim] -> [prompts, heads, rows of the prompt x group, dim]."""
        if len(self.lengths) == 1:
            return rows.transpose(0, 1).flatten(1, 2).unsqueeze(0)
        return rows[self.slots].transpose(1, 2).flatten(2, 3)

    def by_row(self, grouped: Tensor, group: int) -> Tensor:
        """The way back: [prompts, heads, rows of the prompt x group, ...] -> [rows, heads, group, ...]."""
        apart = grouped.unflatten(2, (-1, group)).transpose(1, 2).flatten(0, 1)
        return apart if len(self.lengths) == 1 else apart[self.places]


@dataclass(slots=True)
class _Plan:
    """What the layers share within one step: where rows write, and what is hidden from them."""

    cache: SharedPrefixCache
    longest: int = field(init=False)
    where: int | tuple[Tensor, Tensor] = field(init=False)
    _hidden: dict = field(default_factory=dict)

    def __post_init__(self):
        own = self.cache.own
        self.longest = max(own) + 1
        # Rows of one age write to one place, with no index tensors.
        even = min(own) == max(own)
        self.where = own[0] if even else tuple(torch.tensor([range(len(own)), own], device=self.cache.device))

    def hidden(self, window: int | None) -> tuple[Tensor | None, Tensor | None]:
        """Masks to add to the scores over prompts [rows, tokens] and own parts [rows, tokens]; None: all is seen."""
        if window not in self._hidden:
            self._hidden[window] = self._over_prompts(window), self._over_own(window)
        return self._hidden[window]

    def _over_prompts(self, window: int | None) -> Tensor | None:
        cache = self.cache
        ends = _ends(cache, window)
        inside = window is None or max(own + 1 - window + end for own, end in zip(cache.own, ends, strict=True)) <= 0
        if len({_kept(n, window) for n in cache.lengths}) == 1 and inside:
            return None
        own, ends = (torch.tensor(numbers, device=cache.device) for numbers in (cache.own, ends))
        return _hidden_of_prompts(cache, window, own, ends)

    def _over_own(self, window: int | None) -> Tensor | None:
        if isinstance(self.where, int) and (window is None or self.longest <= window):
            return None
        return _hidden_of_own(self.longest, window, torch.tensor(self.cache.own, device=self.cache.device))


class _FixedPlan:
    """The same for steps that are all alike: every number is on the device, every shape stays."""

    def __init__(self, cache: SharedPrefixCache):
        self.cache, self.longest = cache, cache.room
        self.own = torch.tensor(cache.own, device=cache.device)
        self._ends = {window: torch.tensor(_ends(cache, window), device=cache.device)
                      for window in {None, *(layer.window for layer in cache.layers)}}
        self.where = (torch.arange(len(cache.own), device=cache.device), self.own)

    @property
    def positions(self) -> Tensor:
        """The position of the token that each row reads next."""
        return self._ends[None] + self.own

    def hidden(self, window: int | None) -> tuple[Tensor | None, Tensor | None]:
        """As `_Plan.hidden`."""
        alike = window is None and len(set(self.cache.lengths)) == 1
        over_prompts = None if alike else _hidden_of_prompts(self.cache, window, self.own, self._ends[window])
        return over_prompts, _hidden_of_own(self.longest, window, self.own)

    def advance(self) -> None:
        """One token further, on the device; see `SharedPrefixCache.grow`."""
        self.own.add_(1).clamp_(max=self.longest - 1)


def _kept(length: int, window: int | None) -> int:
    """How many of a prompt's tokens a layer stores."""
    return length if window is None else min(length, window - 1)


def _ends(cache: SharedPrefixCache, window: int | None) -> list[int]:
    """For each row, how many of its prompt's tokens a layer stores."""
    return [_kept(cache.lengths[owner], window) for owner in cache.owners]


def _hidden_of_prompts(cache: SharedPrefixCache, window: int | None, own: Tensor, ends: Tensor) -> Tensor:
    columns = torch.arange(max(_kept(n, window) for n in cache.lengths), device=own.device)
    hidden = columns >= ends.unsqueeze(-1)
    if window is not None:
        # What of the stored tokens lies before the window of a row that is `own` tokens past the prompt.
        hidden |= columns < (own + 1 - window + ends).unsqueeze(-1)
    return hidden * HIDDEN


def _hidden_of_own(longest: int, window: int | None, own: Tensor) -> Tensor:
    columns, last = torch.arange(longest, device=own.device), own.unsqueeze(-1)
    hidden = columns > last
    if window is not None:
        hidden |= columns <= last - window
    return hidden * HIDDEN


def _mask(hidden: Tensor, dtype: torch.dtype, group: int) -> Tensor:
    """[rows, tokens] -> [rows, 1, group, tokens], finite in float16 too: what is hidden whole has a finite sum."""
    return hidden[:, None, None].clamp(min=torch.finfo(dtype).min).to(dtype).expand(-1, -1, group, -1)


class _Layer(CacheLayerMixin):
    """One layer: prompts [prompts, heads, tokens, dim] filled up on the right, own parts [rows, heads, room, dim]."""

    def __init__(self, cache: SharedPrefixCache, prefilled: Sequence[DynamicLayer], rows: int, room: int):
        super().__init__()
        self.cache, self.rows = cache, rows
        self.window = getattr(prefilled[0], "sliding_window", None)
        if self.window == 1:
            raise Unsupported("a window of one token")  # transformers keeps all of them
        self.prompt_keys = _stacked([layer.keys for layer in prefilled])
        self.prompt_values = _stacked([layer.values for layer in prefilled])
        self.keys, self.values = self._own(self.prompt_keys, room), self._own(self.prompt_values, room)
        if not cache.shared:
            self.prompt_keys, self.prompt_values = self.prompt_keys[:, :, :0], self.prompt_values[:, :, :0]
        self.is_initialized = True

    def _own(self, prompts: Tensor, room: int) -> Tensor:
        copied = 0 if self.cache.shared else prompts.shape[2]
        # Zeros, since what is hidden still meets a weight of 0, and 0 times what lay in memory may be no number.
        # In float32 on processors: torch's kernel there takes four times as long for single queries in bf16.
        kept_in = torch.float32 if prompts.device.type == "cpu" else prompts.dtype
        own = prompts.new_zeros(self.rows, prompts.shape[1], copied + room, prompts.shape[3], dtype=kept_in)
        if copied:
            own[:, :, :copied] = prompts[self.cache.owners]
        return own

    def update(self, key_states: Tensor, value_states: Tensor, *_, **__) -> tuple[Tensor, Tensor]:
        """Stores one token per row and returns the rows' own parts; the attention finds the prompts by their mark."""
        plan = self.cache.plan
        keys, values = self.keys[: self.rows], self.values[: self.rows]
        if isinstance(plan.where, int):
            keys[:, :, plan.where], values[:, :, plan.where] = key_states[:, :, 0], value_states[:, :, 0]
        else:
            keys[plan.where[0], :, plan.where[1]] = key_states[:, :, 0].to(keys.dtype)
            values[plan.where[0], :, plan.where[1]] = value_states[:, :, 0].to(values.dtype)
        seen = keys[:, :, : plan.longest]
        seen.bon_layer = self
        return seen, values[:, :, : plan.longest]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """[rows, heads, 1, dim] -> [rows, 1, heads, dim]."""
        rows, heads, _, dim = query.shape
        group = heads // key.shape[1]
        query = query.view(rows, key.shape[1], group, dim)
        over_prompts, over_own = self.cache.plan.hidden(self.window)
        if over_own is not None:
            over_own = _mask(over_own, key.dtype, group)
        own, own_sum = attention(query.to(key.dtype), key, value, over_own, scaling)
        if not self.cache.shared:
            return own.reshape(rows, 1, heads, -1).to(query.dtype)
        if over_prompts is not None:
            over_prompts = self.cache.by_prompt(_mask(over_prompts, query.dtype, group))
        prompt, prompt_sum = attention(
            self.cache.by_prompt(query), self.prompt_keys, self.prompt_values, over_prompts, scaling
        )
        prompt, prompt_sum = self.cache.by_row(prompt, group), self.cache.by_row(prompt_sum, group)
        weight = (prompt_sum - own_sum).sigmoid().unsqueeze(-1).to(own.dtype)
        return own.lerp(prompt.to(own.dtype), weight).reshape(rows, 1, heads, -1).to(query.dtype)

    def keep(self, rows: int, moves: Sequence[tuple[int, int]]) -> None:
        """Moves rows within the memory and forgets those behind the first `rows`."""
        self.rows = rows
        for to, at in moves:
            self.keys[to], self.values[to] = self.keys[at], self.values[at]

    def join(self, other: "_Layer", kept: Sequence[int], longest: int) -> None:
        """Takes another layer's prompts and rows in, behind the rows that are here and the prompts `kept`, of which
        the longest has so many tokens.
        """
        width = longest if self.window is None else min(longest, self.window - 1)
        self.prompt_keys = _stacked([self.prompt_keys[kept, :, :width], other.prompt_keys])
        self.prompt_values = _stacked([self.prompt_values[kept, :, :width], other.prompt_values])
        self.keys = _stacked([self.keys[: self.rows], other.keys[: other.rows]])
        self.values = _stacked([self.values[: self.rows], other.values[: other.rows]])
        self.rows += other.rows

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: all memory is there from the start."""

    def get_seq_length(self) -> int:
        """The most tokens that a row and its prompt have together."""
        return max(self.cache.positions)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """What a mask would cover; none is made."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    out = first.new_zeros(sum(len(p) for p in parts), first.shape[1], max(p.shape[2] for p in parts), first.shape[3])
    at = 0
    for part in parts:
        out[at : at + len(part), :, : part.shape[2]] = part
        at += len(part)
    return out


def attention(
    query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None, scaling: float
) -> tuple[Tensor, Tensor]:
    """Softmax attention [batch, heads, queries, dim] with the log-sum-exp of its scores [batch, heads, queries]."""
    if ON_PROCESSORS and query.device.type == "cpu" and query.shape[-1] == value.shape[-1]:
        # torch's own kernel for processors, which its public function wraps and whose sums that function drops.
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, False, attn_mask=hidden, scale=scaling
        )
    scores = (query @ key.transpose(-1, -2)).float() * scaling
    if hidden is not None:
        scores = scores + hidden
    sums = scores.logsumexp(-1)
    return (scores - sums.unsqueeze(-1)).exp().to(value.dtype) @ value, sums


def _attend(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **more):
    """What transformers calls in place of its own attention."""
    layer = getattr(key, "bon_layer", None)
    changes = any(more.get(name) is not None for name in ("softcap", "s_aux", "position_bias", "sinks"))
    if layer is None or attention_mask is not None or dropout or changes:
        raise Unsupported(type(module).__name__)
    return layer.attend(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling), None


AttentionInterface.register(NAME, _attend)


#: `configs`: the ids of the configs that name this module's attention to the current thread.
_DECODING = threading.local()


@contextmanager
def shared_attention(model) -> Iterator[None]:
    """Within it the model's layers call the attention of this module, in this thread alone.

    All callers of a model ask one config for the name of the attention. It stays as it is; what it answers depends on
    who asks.
    """
    configs, before = list(_with_parts(model.config)), getattr(_DECODING, "configs", frozenset())
    for config in configs:
        _answer_by_thread(type(config))
    _DECODING.configs = before | {id(config) for config in configs}
    try:
        yield
    finally:
        _DECODING.configs = before


def _with_parts(config) -> Iterator[Any]:
    """A config and those of its parts."""
    yield config
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if part is not None:
            yield from _with_parts(part)


def _answer_by_thread(config_class: type) -> None:
    """Makes configs of a class name this module's attention to threads that are inside `shared_attention`."""
    named = config_class._attn_implementation
    if getattr(named.fget, "by_thread", False):
        return

    def answer(config):
        return NAME if id(config) in getattr(_DECODING, "configs", ()) else named.fget(config)

    answer.by_thread = True
    config_class._attn_implementation = property(answer, named.fset)
