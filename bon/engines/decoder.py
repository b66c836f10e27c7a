"""One step of a causal language model for many rows at once: tokens in, logits out.

Two ways: prompts held once with memory laid out once, for every model that `fits` it; and the model's own cache, for
all others.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from bon import loading, zerogpu
from bon.computing import compute
from bon.engines.prefix import SharedPrefixCache, shared_attention

_FITS: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


@contextmanager
def eval_mode(model):
    """The model in eval mode; afterwards each of its modules is in the mode that it was in before."""
    if hasattr(model, "bon_facts") and not model.training:  # loaded by us, for nothing else
        yield
        return
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _accepts(model) -> frozenset[str]:
    return frozenset(inspect.signature(model.forward).parameters)


def _last(model) -> dict[str, int]:
    return {"logits_to_keep": 1} if "logits_to_keep" in _accepts(model) else {}


def _cache_name(model) -> str | None:
    """What the model's code calls its KV cache: transformers 5.24 has another name for it; None: it takes none."""
    return next((name for name in ("cache", "past_key_values") if name in _accepts(model)), None)


def _captures(model) -> bool:
    """Whether the model's device repeats a captured step faster than it takes one call after the other."""
    return model.device.type == "cuda" and not zerogpu.is_on()


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
        self._places, self._step = context(model.config), Captured()
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
        # Rows that ended and are carried along may have come past the last place that the model knows.
        positions = self.cache.plan.positions
        logits = self._forward(tokens, positions if self._places is None else positions.clamp(max=self._places - 1))
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


class PlainDecoder:
    """Reads tokens with the model's own cache, widened to one row per candidate; prompts must be of equal length.

    Without a cache, or with one whose rows cannot be picked, all tokens are read again at each step.
    """

    def __init__(self, model, prompts: Sequence[Sequence[int]], owners: Sequence[int], use_cache: bool = True):
        self.model, self._more, self._name = model, _last(model), _cache_name(model)
        self._cached = use_cache and self._name is not None
        ids = torch.tensor(prompts, device=model.device)
        rows = torch.tensor(owners, device=model.device)
        logits, self.cache = self._forward(ids, ids, None)
        self.ids, self.logits = ids[rows], logits[rows]
        self._select(rows)

    def _forward(self, ids: Tensor, new: Tensor, cache) -> tuple[Tensor, Any]:
        more = dict(self._more)
        if self._cached:
            more |= {self._name: cache, "use_cache": True}
        elif "use_cache" in _accepts(self.model):
            more["use_cache"] = False
        # Nothing is padded. State-space models take a mask of what they read for one of the new tokens alone.
        if cache is None or "position_ids" in _accepts(self.model):
            more["attention_mask"] = torch.ones_like(ids)
        out = self.model(input_ids=new if self._cached else ids, **more)
        return out.logits[:, -1].float(), getattr(out, self._name, None) if self._cached else None

    def read(self, tokens: Tensor) -> Tensor:
        """The logits [rows, vocabulary], in float32, after one more token per row [rows]."""
        new = tokens.unsqueeze(-1)
        self.ids = torch.cat([self.ids, new], dim=-1)
        logits, self.cache = self._forward(self.ids, new, self.cache)
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
        # Beam search's way of picking rows is the one that every kind of layer has in full, linear attention's too.
        self._cached = self._cached and hasattr(self.cache, "reorder_cache")
        if self._cached:
            self.cache.reorder_cache(rows)
        else:
            self.cache = None


def context(config, model=None) -> int | None:
    """The most tokens that a model of this config reads; None where it sets no limit.

    model: whose table of positions counts too, where it keeps a row for padding and numbers places from behind it.
    """
    text = config.get_text_config()
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")
    limits = [limit for name in names if isinstance(limit := getattr(text, name, None), int) and limit > 0][:1]
    for name, part in model.named_modules() if model else ():
        if isinstance(part, nn.Embedding) and "position" in name.rpartition(".")[2] and part.padding_idx is not None:
            limits.append(part.num_embeddings - part.padding_idx - 1)
    return min(limits, default=None)


def fits(model) -> bool:
    """Whether `SharedDecoder` computes what the model itself computes: tried once per model, on a few tokens."""
    if model not in _FITS:
        _FITS[model] = compute(lambda: _tried(model))
    return _FITS[model]


def _tried(model) -> bool:
    with eval_mode(model), torch.inference_mode():
        return _same(model)


def _same(model) -> bool:
    if _cache_name(model) is None or "position_ids" not in _accepts(model):
        return False
    size = model.get_input_embeddings().num_embeddings
    prompts = [[(3 + 7 * i) % size for i in range(5)], [(11 + 5 * i) % size for i in range(2)]]
    owners, new = [0, 1, 0], [[(2 + i) % size, (9 + 3 * i) % size] for i in range(3)]
    try:
        decoder = SharedDecoder(model, prompts, owners, 2, shared=True)
        seen = [decoder.read(torch.tensor(tokens, device=model.device)) for tokens in zip(*new, strict=True)]
        for row, (owner, tokens) in enumerate(zip(owners, new, strict=True)):
            ids = torch.tensor([[*prompts[owner], *tokens]], device=model.device)
            expected = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -2:].float()
            got = torch.stack([logits[row] for logits in seen])
            # Another attention gives other numbers altogether; what is allowed is the rounding of the number type.
            allowed = 1e-3 if loading.facts(model).dtype == "float32" else 0.1
            if not (got - expected).norm() <= allowed * expected.norm():
                return False
    except Exception as error:  # whatever the model's code makes of a cache that it does not know
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return False
    return True
