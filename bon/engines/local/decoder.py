"""One step of a causal language model for many rows at once: tokens in, logits out.

Two ways: prompts held once with memory laid out once, for every model that `fits` it; and the model's own cache, for
all others.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bon.engines.local import rotary
from bon.engines.local.prefix_cache import SharedPrefixCache, shared_attention
from bon.models import loading
from bon.models.limits import context_length, rope_parameters, vocabulary
from bon.models.running import compute, eval_mode

#: Layers, as configs name them, that compute a row the same beside rows of any length.
LAYERS = frozenset({"full_attention", "sliding_attention"})
#: The largest window that the trial of a model goes beyond, and the farthest position that it tries.
WINDOW, FAR = 64, 1 << 20

#: Whether steps on CUDA are captured as graphs. A program turns this off that has the GPU in another process for each
#: call, as on ZeroGPU: each would capture anew.
capture_graphs = True

_FITS: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
_WAYS: WeakKeyDictionary[Any, "_Way"] = WeakKeyDictionary()


def _accepts(model) -> frozenset[str]:
    return frozenset(inspect.signature(model.forward).parameters)


def _last(model) -> dict[str, int]:
    return {"logits_to_keep": 1} if "logits_to_keep" in _accepts(model) else {}


def _cache_name(model) -> str | None:
    """What the model's code calls its KV cache: transformers 5.24 has another name for it; None: it takes none."""
    return next((name for name in ("cache", "past_key_values") if name in _accepts(model)), None)


def _captures(model) -> bool:
    """Whether the model's device repeats a captured step faster than it takes one call after the other."""
    return capture_graphs and model.device.type == "cuda"


class SharedDecoder:
    """Reads tokens for rows that continue any prompts, each prompt held once.

    prompts: token ids. owners: each row's prompt. room: the most tokens that a row will read. shared: hold prompts
    once also where copies would be faster (None: not there). fixed: make all steps alike, so that they are captured
    as a CUDA graph (None: on CUDA); rows that ended are then carried along until half of all have.
    """

    def __init__(self, model, prompts: Sequence[Sequence[int]], owners: Sequence[int], room: int,
                 shared: bool | None = None, fixed: bool | None = None):
        self.model, self._more, self._name = model, _last(model), _cache_name(model)
        by_length: dict[int, list[int]] = {}
        for number, prompt in enumerate(prompts):
            by_length.setdefault(len(prompt), []).append(number)
        order = [number for numbers in by_length.values() for number in numbers]
        owners = [order.index(owner) for owner in owners]
        logits, caches = zip(*(self._prefill([prompts[i] for i in some]) for some in by_length.values()), strict=True)
        fixed = _captures(model) if fixed is None else fixed
        self.cache = SharedPrefixCache(caches, owners, room, shared, fixed)
        self._step = Captured()
        self._places = min(context_length(model) or math.inf, alike_up_to(model.config))
        self.logits = torch.cat(logits)[torch.tensor(owners, device=model.device)]

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Any]:
        ids = torch.tensor(prompts, device=self.model.device)
        out = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, **self._more)
        return out.logits[:, -1].float(), getattr(out, self._name)

    def read(self, tokens: Tensor) -> Tensor:
        """The logits [rows, vocabulary], in float32, after one more token per row [rows]; valid until the next."""
        self.cache.begin()
        with shared_attention(self.model):
            logits = self._step(self._read_fixed, tokens) if self.cache.fixed else self._forward(
                tokens, torch.tensor(self.cache.positions, device=tokens.device)
            )
        self.cache.grow()
        return logits

    def _forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        # Nothing is padded: a mask keeps models from looking for padding, and our attention makes nothing of it.
        mask = positions.new_ones(len(tokens), max(self.cache.positions) + 1)
        out = self.model(
            input_ids=tokens.unsqueeze(-1), position_ids=positions.unsqueeze(-1), attention_mask=mask, use_cache=True,
            **{self._name: self.cache}, **self._more,
        )
        return out.logits[:, -1].float()

    def _read_fixed(self, tokens: Tensor) -> Tensor:
        # Rows that ended and are carried along may have come past the last place that the model knows, or past the
        # one from which it computes all rows differently.
        positions = self.cache.plan.positions
        logits = self._forward(tokens, positions if self._places == math.inf else positions.clamp(max=self._places - 1))
        self.cache.plan.advance()
        return logits

    def join(self, other: "SharedDecoder") -> None:
        """Takes the rows of another decoder of the same model in, behind those that are here."""
        self.cache.join(other.cache)
        self._step = Captured()

    def carries(self, ended: int, rows: int) -> bool:
        """Whether rows that ended cost less than to lay out anew what is left."""
        return self.cache.fixed and 2 * ended < rows

    def keep(self, order: Sequence[int]) -> None:
        """Keeps the rows `order`; each stays where it is or comes from behind the new end."""
        self.cache.keep(order)
        self._step = Captured()


class Captured:
    """Calls of one function of a tensor that does the same work on the same memory each time, as a CUDA graph.

    The first call finds the memory, the second is captured and repeated from then on: one launch instead of one for
    each kernel. What cannot be captured, and all that is not on CUDA, is called every time. The function is given
    with each call, so that nothing here holds its owner.
    """

    def __init__(self):
        self._calls = 0
        self._graph: Any = None

    def __call__(self, work: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
        self._calls += 1
        if self._calls == 2 and tensor.device.type == "cuda":
            self._capture(work, tensor)
        if self._graph is None:
            return work(tensor)
        self._input.copy_(tensor)
        self._graph.replay()
        return self._output

    def _capture(self, work: Callable[[Tensor], Tensor], tensor: Tensor) -> None:
        self._input, graph = tensor.clone(), torch.cuda.CUDAGraph()
        try:
            # Other threads may use the device for work of their own meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._output = work(self._input)
            self._graph = graph
        except RuntimeError as error:  # the model's code asks the device for something on the way
            if loading.out_of_memory(error):
                raise


class _Way(NamedTuple):
    """How to read on: with the model's own cache, or all tokens anew; with the positions of the tokens, or without."""

    cached: bool = False
    positions: bool = False


class PlainDecoder:
    """Reads tokens with the model's own cache, widened to one row per candidate; prompts must be of equal length.

    Where the model has no cache, or one whose rows cannot be picked, all tokens are read again at each step.
    """

    def __init__(self, model, prompts: Sequence[Sequence[int]], owners: Sequence[int], use_cache: bool = True,
                 way: _Way | None = None):
        self.model, self._more, self._name = model, _last(model), _cache_name(model)
        self._way = way or (_way(model) if use_cache and self._name else _Way())
        self._rotated_by_length = rotary.limit(model.config) < math.inf
        self._growing = rotary.growing(model) if self._rotated_by_length else []
        ids = torch.tensor(prompts, device=model.device)
        rows = torch.tensor(owners, device=model.device)
        logits, self.cache = self._forward(ids, None)
        self.ids, self.logits = ids[rows], logits[rows]
        self._select(rows)

    def _forward(self, ids: Tensor, cache) -> tuple[Tensor, Any]:
        # Nothing is padded.
        mask, accepts, more = torch.ones_like(ids), _accepts(self.model), dict(self._more)
        if cache is not None and self._rotated_by_length and self._drops(ids, mask, cache):
            cache = None
        new = ids if cache is None else ids[:, -1:]
        if self._way.cached:
            more |= {self._name: cache, "use_cache": True}
        elif "use_cache" in accepts:
            more["use_cache"] = False
        if self._way.positions:
            positions = torch.arange(ids.shape[1] - new.shape[1], ids.shape[1], device=ids.device)
            more["position_ids"] = positions.repeat(len(ids), 1)
        # State-space models take a mask of what they read for one of the new tokens alone.
        if cache is None or "position_ids" in accepts:
            more["attention_mask"] = mask
        self._forget()  # others may have read longer texts meanwhile
        out = self.model(input_ids=new, **more)
        self._forget()
        return out.logits[:, -1].float(), getattr(out, self._name) if self._way.cached else None

    def _drops(self, ids: Tensor, mask: Tensor, cache) -> bool:
        """Whether the model's own generation reads all tokens again here, since what it cached no longer holds."""
        prepare = getattr(self.model, "prepare_inputs_for_generation", None)
        if prepare is None:
            return False
        inputs = prepare(
            ids, next_sequence_length=1, attention_mask=mask, use_cache=True, **{self._name: cache},
            # Asked for by earlier releases.
            cache_position=torch.arange(ids.shape[1] - 1, ids.shape[1], device=ids.device),
        )
        return inputs.get(self._name) is None

    def _forget(self) -> None:
        for module in self._growing:
            rotary.forget(module)

    def read(self, tokens: Tensor) -> Tensor:
        """The logits [rows, vocabulary], in float32, after one more token per row [rows]."""
        self.ids = torch.cat([self.ids, tokens.unsqueeze(-1)], dim=-1)
        logits, self.cache = self._forward(self.ids, self.cache)
        return logits

    def carries(self, ended: int, rows: int) -> bool:
        """Whether rows that ended stay in the batch."""
        return False

    def keep(self, order: Sequence[int]) -> None:
        """Keeps the rows `order`."""
        rows = torch.tensor(order, device=self.ids.device)
        self.ids = self.ids[rows]
        self._select(rows)

    def _select(self, rows: Tensor) -> None:
        # Beam search's way of picking rows is the one that most layers have in full, linear attention's too.
        if self._way.cached:
            self.cache.reorder_cache(rows)


def alike_up_to(config) -> float:
    """The most tokens of a row, its prompt included, up to which its logits do not depend on how long the rows beside
    it are; 0 where the config names layers or rotary embeddings that are not known here.
    """
    text = config.get_text_config()
    known = set(getattr(text, "layer_types", None) or ()) <= LAYERS and not getattr(text, "attention_chunk_size", None)
    return rotary.limit(config) if known else 0


def fits(model, tokens: int = 1) -> bool:
    """Whether `SharedDecoder` computes what the model itself computes, for rows of up to so many tokens with their
    prompts: by what its config says, and tried once per model on a few tokens.
    """
    if tokens > alike_up_to(model.config):
        return False
    if model not in _FITS:
        _FITS[model] = compute(lambda: _tried(model, lambda: _shares(model)))
    return _FITS[model]


def _way(model) -> _Way:
    """How `PlainDecoder` reads on: tried once per model."""
    if model not in _WAYS:
        way = _Way(cached=True, positions=_tried(model, lambda: _same_with_positions(model)))
        _WAYS[model] = way if _tried(model, lambda: _picks(model, way)) else _Way()
    return _WAYS[model]


def _tried(model, trial: Callable[[], bool]) -> bool:
    """What the trial of a model says; False where the model's code fails on what it is given."""
    try:
        with eval_mode(model), torch.inference_mode():
            return trial()
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return False


def _shares(model) -> bool:
    if _cache_name(model) is None or "position_ids" not in _accepts(model):
        return False
    lengths = [5, 2] if (window := _small_window(model.config)) is None else [window + 2, 2, max(1, window - 1)]
    prompts = [_some_tokens(model, n, seed) for seed, n in enumerate(lengths)]
    owners = [0, 1, 0, *range(2, len(lengths))]
    new = [_some_tokens(model, 2, 10 + row) for row in range(len(owners))]
    decoder = SharedDecoder(model, prompts, owners, 2, shared=True)
    seen = [decoder.read(torch.tensor(tokens, device=model.device)) for tokens in zip(*new, strict=True)]
    texts = [[*prompts[owner], *tokens] for owner, tokens in zip(owners, new, strict=True)]
    alone = [_logits(model, [text])[0, -2:] for text in texts]
    rows = zip(torch.stack(seen, 1), alone, strict=True)
    return all(_near(got, own, model) for got, own in rows) and _bears_far_rows(model, texts[1], alone[1])


def _bears_far_rows(model, text: Sequence[int], alone: Tensor) -> bool:
    """Whether a row at the last positions that the model knows leaves the logits of a row at the first ones alone."""
    if not rope_parameters(model.config):
        return True  # no positions but those of a table, row by row
    end = max(len(text), min(context_length(model) or 0, alike_up_to(model.config), FAR))
    positions = torch.tensor([range(len(text)), range(end - len(text), end)], device=model.device)
    return _near(_logits(model, [text, text], position_ids=positions)[0, -2:], alone, model)


def _same_with_positions(model) -> bool:
    """Whether the model takes positions, and takes them from 0 on where it is given none."""
    if "position_ids" not in _accepts(model):
        return False
    text = _some_tokens(model, 5, 0)
    positions = torch.arange(5, device=model.device).unsqueeze(0)
    return torch.equal(_logits(model, [text]), _logits(model, [text], position_ids=positions))


def _picks(model, way: _Way) -> bool:
    """Whether rows that a way has picked go on as they do where none is."""
    prompts, new = [_some_tokens(model, 5, seed) for seed in (0, 1)], [_some_tokens(model, 2, seed) for seed in (2, 3)]
    picked, plain = (PlainDecoder(model, prompts, owners, way=way) for owners in ([0, 1, 0], [0, 1]))
    first, second = torch.tensor(new, device=model.device).T
    picked.read(torch.cat([second[:1], first.flip(0)]))
    picked.keep([2, 1])
    plain.read(first)
    return _near(picked.read(second), plain.read(second), model)


def _small_window(config) -> int | None:
    """The smallest window of a config's layers, where few tokens go beyond it."""
    window = getattr(config.get_text_config(), "sliding_window", None)
    return window if isinstance(window, int) and 1 < window <= WINDOW else None


def _some_tokens(model, count: int, seed: int) -> list[int]:
    size = vocabulary(model)
    return [(3 + 8 * seed + (7 - 2 * seed) * i) % size for i in range(count)]


def _logits(model, texts: Sequence[Sequence[int]], **more) -> Tensor:
    """The model's own logits [texts, tokens, vocabulary] of texts of equal length."""
    ids = torch.tensor(texts, device=model.device)
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits.float()


def _near(got: Tensor, expected: Tensor, model) -> bool:
    # What computes something else gives other numbers altogether; what is allowed is the rounding of the number type.
    allowed = 1e-3 if loading.facts(model).dtype == "float32" else 0.1
    return bool((got - expected).norm() <= allowed * expected.norm())
