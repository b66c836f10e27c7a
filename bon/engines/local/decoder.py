"""One decode step of a causal language model for many rows at once: tokens in, logits out.

`SharedDecoder` holds each prompt once and lays memory out once; it serves every model that it `fits`, and steps by a
runner of bon's own where `runner_of` finds one. `PlainDecoder` uses the model's own cache, or none, and serves all
others.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from bon.engines.local import rotary
from bon.engines.local.prefix_cache import FixedPlan, Prefill, SharedPrefixCache, prefill_in, shared_attention
from bon.engines.local.runner.choice import runner_for, understood
from bon.engines.local.runner.designs import Runner
from bon.models import loading
from bon.models.builtin.base import BuiltInModel
from bon.models.limits import context_length, rope_parameters, vocabulary
from bon.models.running import compute, eval_mode

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import Cache, PreTrainedConfig, PreTrainedModel

#: Types of layers, as configs name them, whose output for a row does not depend on the length of the other rows.
LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
#: The largest attention window that the trial of a model exceeds, and the farthest position that it tries.
MAX_TRIED_WINDOW, MAX_TRIED_POSITION = 64, 1 << 20
#: How far a runner's logits may be from the model's, relative to their norm, by the type of the model's numbers. With
#: SmolLM2 they were 7e-6 in float32; in bf16 and int8, where either is as far from the logits of float32, up to 0.13
#: and 0.06, after a text of two tokens, whose first states are hundreds of times larger than others. Other formulas
#: give errors of about 1.
RUNNER_ERROR = {"float32": 1e-4, "bf16": 0.25, "float16": 0.05, "int8": 0.25}
#: Whether steps on CUDA are captured as graphs. A program turns this off that has the GPU in another process for each
#: call, as on ZeroGPU: each would capture anew.
capture_graphs = True

_FITS: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()
_RUNNERS: WeakKeyDictionary[PreTrainedModel, _Tried] = WeakKeyDictionary()
_STEP_INPUTS: WeakKeyDictionary[PreTrainedModel, _StepInputs] = WeakKeyDictionary()


def _argument_names(model: PreTrainedModel) -> frozenset[str]:
    return frozenset(inspect.signature(model.forward).parameters)


def _last_logits_only(model: PreTrainedModel) -> dict[str, int]:
    """The argument that has the model compute the logits of the last token alone, where it takes one."""
    return {"logits_to_keep": 1} if "logits_to_keep" in _argument_names(model) else {}


def _cache_argument(model: PreTrainedModel) -> str | None:
    """The model's argument for its KV cache: transformers 5.24 renamed it; None where the model takes none."""
    return next((name for name in ("cache", "past_key_values") if name in _argument_names(model)), None)


def _captures(model: PreTrainedModel) -> bool:
    """Whether steps are captured as CUDA graphs, which replay faster than one kernel launch after the other."""
    return capture_graphs and model.device.type == "cuda"


class SharedDecoder:
    """Reads tokens for rows that continue any prompts, each prompt held once.

    prompts: token ids. owners: the number of each row's prompt. room: the most tokens that a row will read. shared:
    hold prompts once even where copying them to each row would be faster (None: only where it is not). fixed: make all
    steps alike, so that they can be captured as a CUDA graph (None: where `capture_graphs` holds on CUDA); rows that
    ended are then carried along until half of all have. runner: computes the steps in place of the model's own code.
    """

    model: PreTrainedModel
    cache: SharedPrefixCache
    logits: Tensor

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], owners: Sequence[int], room: int,
                 shared: bool | None = None, fixed: bool | None = None, runner: Runner | None = None) -> None:
        self._runner = runner
        cache_argument = _cache_argument(model)
        assert cache_argument is not None  # no model without one `fits`
        self.model, self._cache_argument, self._last_only = model, cache_argument, _last_logits_only(model)
        by_length: dict[int, list[int]] = {}
        for number, prompt in enumerate(prompts):
            by_length.setdefault(len(prompt), []).append(number)
        order = [number for numbers in by_length.values() for number in numbers]
        owners = [order.index(owner) for owner in owners]
        logits, prefills = zip(
            *(self._prefill([prompts[i] for i in numbers]) for numbers in by_length.values()), strict=True
        )
        fixed = _captures(model) if fixed is None else fixed
        self.cache = SharedPrefixCache(prefills, owners, room, shared, fixed)
        self._step = Captured()
        self._positions_end = min(context_length(model) or math.inf, alike_up_to(model.config))
        self.logits = torch.cat(logits)[torch.tensor(owners, device=model.device)]

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Prefill]:
        """The last token's logits [prompts, vocabulary] and the keys and values of prompts of equal length."""
        ids = torch.tensor(prompts, device=self.model.device)
        if self._runner and self._runner.reads_texts:
            states, prefill = self._runner.read(ids)
            return self._runner.logits(states[:, -1]).float(), prefill
        out = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, **self._last_only)
        return out.logits[:, -1].float(), prefill_in(getattr(out, self._cache_argument))

    def read(self, tokens: Tensor) -> Tensor:
        """The logits [rows, vocabulary], in float32, after one more token per row [rows]; valid until the next call."""
        self.cache.begin_step()
        with nullcontext() if self._runner else shared_attention(self.model):
            logits = self._step(self._read_fixed, tokens) if self.cache.fixed else self._forward(
                tokens, torch.tensor(self.cache.positions, device=tokens.device)
            )
        self.cache.grow()
        return logits

    def _forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        if self._runner:
            return self._runner.step(tokens, positions, self.cache).float()
        # Nothing is padded: a mask keeps models from looking for padding, and the shared attention does not read it.
        mask = positions.new_ones(len(tokens), max(self.cache.positions) + 1)
        out = self.model(
            input_ids=tokens.unsqueeze(-1), position_ids=positions.unsqueeze(-1), attention_mask=mask, use_cache=True,
            **{self._cache_argument: self.cache}, **self._last_only,
        )
        return out.logits[:, -1].float()

    def _read_fixed(self, tokens: Tensor) -> Tensor:
        """One step that does the same work on the same memory each time, for `Captured`."""
        plan = self.cache.plan
        assert isinstance(plan, FixedPlan)  # the cache is `fixed`
        positions = plan.positions
        # Rows that ended and are carried along may be past the model's last position, or past the one from which it
        # computes all rows differently.
        if self._positions_end != math.inf:
            positions = positions.clamp(max=self._positions_end - 1)
        logits = self._forward(tokens, positions)
        plan.advance()
        return logits

    def join(self, other: SharedDecoder) -> None:
        """Adds the rows of another decoder of the same model, behind those that are here."""
        self.cache.join(other.cache)
        self._step = Captured()

    def carries(self, ended: int, rows: int) -> bool:
        """Whether to read on for `ended` of `rows` rows, since that costs less than to capture the others' step."""
        return self.cache.fixed and 2 * ended < rows

    def keep(self, order: Sequence[int]) -> None:
        """Keeps the rows `order`; each stays where it is or comes from behind the new end."""
        self.cache.keep(order)
        self._step = Captured()


class Captured:
    """Calls a function of a tensor, which does the same work on the same memory each time, as a CUDA graph.

    The first call allocates the memory, the second is captured and replayed from then on: one launch instead of one
    for each kernel. A function that cannot be captured, or is not on CUDA, is called every time. It is passed with
    each call, so that this object does not keep its owner alive.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

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
            # Other threads may use the device meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._output = work(self._input)
            self._graph = graph
        except RuntimeError as error:  # the model's code waits for the device on the way
            if loading.out_of_memory(error):
                raise


class _StepInputs(NamedTuple):
    """What a `PlainDecoder` passes to its model at each step.

    cache: the model's argument for its KV cache; None: all tokens are read again at each step. positions: whether the
    positions of the tokens are passed.
    """

    cache: str | None = None
    positions: bool = False


class PlainDecoder:
    """Reads tokens with the model's own cache, widened to one row per candidate; prompts must be of equal length.

    Where the model has no cache, or one whose rows cannot be selected, all tokens are read again at each step.
    """

    model: PreTrainedModel
    ids: Tensor
    logits: Tensor

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], owners: Sequence[int],
                 use_cache: bool = True, inputs: _StepInputs | None = None) -> None:
        self.model, self._last_only = model, _last_logits_only(model)
        self._inputs = inputs or (_step_inputs(model) if use_cache else _StepInputs())
        self._length_matters = rotary.limit(model.config) < math.inf
        self._dynamic_rotary = rotary.dynamic_modules(model) if self._length_matters else []
        ids = torch.tensor(prompts, device=model.device)
        rows = torch.tensor(owners, device=model.device)
        logits, self.cache = self._forward(ids, None)
        self.ids, self.logits = ids[rows], logits[rows]
        self._select(rows)

    def _forward(self, ids: Tensor, cache: Cache | None) -> tuple[Tensor, Cache | None]:
        """The logits [rows, vocabulary] after the last of the tokens [rows, tokens], and the cache of all of them."""
        mask, names = torch.ones_like(ids), _argument_names(self.model)  # nothing is padded
        if cache is not None and self._length_matters and self._invalidates(ids, mask, cache):
            cache = None
        new = ids if cache is None else ids[:, -1:]
        inputs: dict[str, object] = dict(self._last_only)
        if self._inputs.cache:
            inputs |= {self._inputs.cache: cache, "use_cache": True}
        elif "use_cache" in names:
            inputs["use_cache"] = False
        if self._inputs.positions:
            positions = torch.arange(ids.shape[1] - new.shape[1], ids.shape[1], device=ids.device)
            inputs["position_ids"] = positions.repeat(len(ids), 1)
        # State-space models take a mask of the tokens that they have read for one of the new tokens alone.
        if cache is None or "position_ids" in names:
            inputs["attention_mask"] = mask
        self._reset_rotary()  # others may have read longer texts meanwhile
        out = self.model(input_ids=new, **inputs)
        self._reset_rotary()
        return out.logits[:, -1].float(), getattr(out, self._inputs.cache) if self._inputs.cache else None

    def _invalidates(self, ids: Tensor, mask: Tensor, cache: Cache) -> bool:
        """Whether transformers' own generation reads all tokens again here, since the cached keys no longer hold."""
        prepare = getattr(self.model, "prepare_inputs_for_generation", None)
        if prepare is None or self._inputs.cache is None:
            return False
        inputs = prepare(
            ids, next_sequence_length=1, attention_mask=mask, use_cache=True, **{self._inputs.cache: cache},
            # Earlier releases need this.
            cache_position=torch.arange(ids.shape[1] - 1, ids.shape[1], device=ids.device),
        )
        return inputs.get(self._inputs.cache) is None

    def _reset_rotary(self) -> None:
        for module in self._dynamic_rotary:
            rotary.reset(module)

    def read(self, tokens: Tensor) -> Tensor:
        """The logits [rows, vocabulary], in float32, after one more token per row [rows]."""
        self.ids = torch.cat([self.ids, tokens.unsqueeze(-1)], dim=-1)
        logits, self.cache = self._forward(self.ids, self.cache)
        return logits

    def carries(self, ended: int, rows: int) -> bool:
        """Whether rows that ended stay in the batch: never."""
        return False

    def keep(self, order: Sequence[int]) -> None:
        """Keeps the rows `order`."""
        rows = torch.tensor(order, device=self.ids.device)
        self.ids = self.ids[rows]
        self._select(rows)

    def _select(self, rows: Tensor) -> None:
        if self._inputs.cache is not None:
            assert self.cache is not None  # a model that returns none fails its trial here
            # The only row selection that most types of layers implement in full, linear attention included.
            self.cache.reorder_cache(rows)  # type: ignore[arg-type]  # torch gives tensors no class by their dtype


def alike_up_to(config: PreTrainedConfig) -> float:
    """The most tokens of a row, its prompt included, up to which its logits do not depend on how long the rows beside
    it are; 0 where the config names types of layers or rotary embeddings that bon does not know.
    """
    text = config.get_text_config()
    layer_types = set(getattr(text, "layer_types", None) or ())
    if layer_types <= LAYER_TYPES and not getattr(text, "attention_chunk_size", None):
        return rotary.limit(config)
    return 0


def fits(model: PreTrainedModel, tokens: int = 1) -> bool:
    """Whether `SharedDecoder` computes what the model itself computes, for rows of up to so many tokens with their
    prompts: by what its config says, and, but for the built-in models, tried once per model on a few tokens.
    """
    if tokens > alike_up_to(model.config):
        return False
    if model not in _FITS:
        _FITS[model] = isinstance(model, BuiltInModel) or compute(lambda: _passes(model, lambda: _shares(model)))
    return _FITS[model]


class _Tried(NamedTuple):
    """The modules of a model, itself left out, when a runner was compared with it, and the runner where it passed."""

    modules: list[nn.Module]
    runner: Runner | None


def runner_of(model: PreTrainedModel) -> Runner | None:
    """A runner that computes what the model computes, which it `fits`; None where there is none.

    It is compared with the model once, and again after one of the model's modules was replaced; the runners of the
    built-in models are compared by tests.
    """
    if not understood(model):
        return None
    _, *modules = model.modules()
    tried = _RUNNERS.get(model)
    if tried is None or tried.modules != modules:
        runner = runner_for(model)
        passes = isinstance(model, BuiltInModel) or compute(lambda: _passes(model, lambda: _runs_alike(model, runner)))
        _RUNNERS[model] = tried = _Tried(modules, runner if passes else None)
    return tried.runner


def _runs_alike(model: PreTrainedModel, runner: Runner) -> bool:
    """Whether a runner's steps give the logits of the model's own, after prompts of different lengths."""
    trial = _trial(model)
    decoders = [SharedDecoder(model, trial.prompts, trial.owners, len(trial.steps), True, runner=chosen)
                for chosen in (None, runner)]
    pairs = [[decoder.logits for decoder in decoders]]
    pairs += [[decoder.read(tokens) for decoder in decoders] for tokens in trial.steps]
    allowed = RUNNER_ERROR[loading.facts(model).dtype]
    return all(bool((expected - logits).norm() <= allowed * expected.norm()) for expected, logits in pairs)


def _step_inputs(model: PreTrainedModel) -> _StepInputs:
    """What `PlainDecoder` passes to the model at each step: tried once per model."""
    if model not in _STEP_INPUTS:
        cached = _StepInputs(_cache_argument(model), _passes(model, lambda: _same_with_positions(model)))
        selects = cached.cache is not None and _passes(model, lambda: _selects_rows(model, cached))
        _STEP_INPUTS[model] = cached if selects else _StepInputs()
    return _STEP_INPUTS[model]


def _passes(model: PreTrainedModel, trial: Callable[[], bool]) -> bool:
    """The result of a trial of the model; False where the model's code fails on the trial's inputs."""
    try:
        with eval_mode(model), torch.inference_mode():
            return trial()
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return False


def _shares(model: PreTrainedModel) -> bool:
    """Whether rows of different prompts and lengths get the logits from `SharedDecoder` that they get alone."""
    if _cache_argument(model) is None or "position_ids" not in _argument_names(model):
        return False
    trial = _trial(model)
    decoder = SharedDecoder(model, trial.prompts, trial.owners, len(trial.steps), shared=True)
    together = torch.stack([decoder.read(tokens) for tokens in trial.steps], 1)
    continuations = torch.stack(trial.steps, 1).tolist()
    texts = [[*trial.prompts[owner], *tokens] for owner, tokens in zip(trial.owners, continuations, strict=True)]
    alone = [_logits(model, [text])[0, -2:] for text in texts]
    same = all(_near(shared, single, model) for shared, single in zip(together, alone, strict=True))
    return same and _bears_far_rows(model, texts[1], alone[1])


class _Trial(NamedTuple):
    """Prompts, the number of each row's prompt, and the tokens [rows] that the rows read at each step."""

    prompts: list[list[int]]
    owners: list[int]
    steps: list[Tensor]


def _trial(model: PreTrainedModel) -> _Trial:
    """A few tokens of prompts of different lengths, past the model's attention window where it is small."""
    lengths = [5, 2] if (window := _small_window(model.config)) is None else [window + 2, 2, max(1, window - 1)]
    owners = [0, 1, 0, *range(2, len(lengths))]
    continuations = [_trial_tokens(model, 2, 10 + row) for row in range(len(owners))]
    return _Trial(
        [_trial_tokens(model, n, seed) for seed, n in enumerate(lengths)], owners,
        [torch.tensor(tokens, device=model.device) for tokens in zip(*continuations, strict=True)],
    )


def _bears_far_rows(model: PreTrainedModel, text: Sequence[int], alone: Tensor) -> bool:
    """Whether a row at the model's last positions leaves the logits of a row at the first ones as they are `alone`."""
    if not rope_parameters(model.config):
        return True  # positions come from a table, if at all, row by row
    most = min(context_length(model) or 0, alike_up_to(model.config), MAX_TRIED_POSITION)
    end = max(len(text), int(most))
    positions = torch.tensor([range(len(text)), range(end - len(text), end)], device=model.device)
    return _near(_logits(model, [text, text], position_ids=positions)[0, -2:], alone, model)


def _same_with_positions(model: PreTrainedModel) -> bool:
    """Whether the model takes positions, and counts them from 0 where none are passed."""
    if "position_ids" not in _argument_names(model):
        return False
    text = _trial_tokens(model, 5, 0)
    positions = torch.arange(5, device=model.device).unsqueeze(0)
    return torch.equal(_logits(model, [text]), _logits(model, [text], position_ids=positions))


def _selects_rows(model: PreTrainedModel, inputs: _StepInputs) -> bool:
    """Whether rows that were selected from the cache get the same logits as those of a cache left whole."""
    prompts = [_trial_tokens(model, 5, seed) for seed in (0, 1)]
    continuations = [_trial_tokens(model, 2, seed) for seed in (2, 3)]
    selected, whole = (PlainDecoder(model, prompts, owners, inputs=inputs) for owners in ([0, 1, 0], [0, 1]))
    first, second = torch.tensor(continuations, device=model.device).T
    selected.read(torch.cat([second[:1], first.flip(0)]))
    selected.keep([2, 1])
    whole.read(first)
    return _near(selected.read(second), whole.read(second), model)


def _small_window(config: PreTrainedConfig) -> int | None:
    """The smallest attention window of a config's layers, where a trial of a few tokens can exceed it."""
    window = getattr(config.get_text_config(), "sliding_window", None)
    return window if isinstance(window, int) and 1 < window <= MAX_TRIED_WINDOW else None


def _trial_tokens(model: PreTrainedModel, count: int, seed: int) -> list[int]:
    size = vocabulary(model)
    if size is None:
        raise ValueError("no vocabulary")  # for `_passes`: such a model is not tried
    return [(3 + 8 * seed + (7 - 2 * seed) * i) % size for i in range(count)]


def _logits(model: PreTrainedModel, texts: Sequence[Sequence[int]], **inputs: Tensor) -> Tensor:
    """The model's own logits [texts, tokens, vocabulary] of texts of equal length."""
    ids = torch.tensor(texts, device=model.device)
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).logits.float()


def _near(logits: Tensor, expected: Tensor, model: PreTrainedModel) -> bool:
    # A wrong computation gives other numbers altogether; what is allowed is the rounding of the number type.
    allowed = 1e-3 if loading.facts(model).dtype == "float32" else 0.1
    return bool((logits - expected).norm() <= allowed * expected.norm())
