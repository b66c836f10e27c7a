"""Running models: whose turn it is to compute, and the state that a model is in meanwhile.

One caller computes at a time, and where there are many, always in the same thread: threads that compute at once stall
each other, and each that computes in turn wakes helper threads of its own. A single caller computes in its own thread.
"""

import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

Result = TypeVar("Result")

#: The design of each class of models whose steps bon computes itself, by the class's module and name: none is imported
#: for this alone. See `bon.engines.local.runner`.
DESIGNS = {
    ("bon.models.builtin.gpt2", "Gpt2"): "gpt2",
    ("transformers.models.gpt2.modeling_gpt2", "GPT2LMHeadModel"): "gpt2",
    ("transformers.models.llama.modeling_llama", "LlamaForCausalLM"): "llama",
    ("transformers.models.qwen2.modeling_qwen2", "Qwen2ForCausalLM"): "llama",
    ("transformers.models.qwen3.modeling_qwen3", "Qwen3ForCausalLM"): "llama",
    ("transformers.models.mistral.modeling_mistral", "MistralForCausalLM"): "llama",
    ("transformers.models.gemma.modeling_gemma", "GemmaForCausalLM"): "gemma",
}
#: The layers of these designs that read one input, by their names in one module.
JOINED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
#: The attribute with the facts of a model that bon has loaded (`bon.models.loading.Facts`).
FACTS = "bon_facts"

_LOCK = threading.RLock()
_this_thread = threading.local()
_THREAD = ThreadPoolExecutor(1, "compute", initializer=lambda: setattr(_this_thread, "computes", True))
_counting = threading.Lock()
_callers = 0


@contextmanager
def caller() -> Iterator[None]:
    """Counts a caller whose work may take turns with others' work for as long as it is inside."""
    global _callers
    with _counting:
        _callers += 1
    try:
        yield
    finally:
        with _counting:
            _callers -= 1


def compute(work: Callable[[], Result]) -> Result:
    """What `work` returns or raises, while nobody else computes."""
    if _callers <= 1 or getattr(_this_thread, "computes", False):
        return _locked(work)
    return _THREAD.submit(_locked, work).result()


def _locked(work: Callable[[], Result]) -> Result:
    with _LOCK:
        # What `work` computes within itself stays in this thread: another would wait for the lock that is held here.
        before, _this_thread.computes = getattr(_this_thread, "computes", False), True
        try:
            return work()
        finally:
            _this_thread.computes = before


def loaded_by_bon(model: nn.Module) -> bool:
    """Whether bon has loaded a model, and nobody else uses it."""
    return hasattr(model, FACTS)


def design_of(model: nn.Module) -> str | None:
    """The name of a model's design in `DESIGNS`."""
    return DESIGNS.get((type(model).__module__, type(model).__qualname__))


def joined_layers(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The names of a model's layers that read one input: `JOINED` where its design is known."""
    return JOINED if design_of(model) else ()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; afterwards each of its modules is in the mode that it was in before."""
    if loaded_by_bon(model) and not model.training:  # all of its modules are in eval mode
        yield
        return
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def keep_attention_type(model: nn.Module) -> Iterator[None]:
    """Undoes the change of modules that switch to another type of attention for a short text and then stay with it."""
    before = [(module, {**vars(module), "_modules": dict(module._modules), "_buffers": dict(module._buffers)})
              for module in model.modules() if "attention_type" in vars(module)]
    try:
        yield
    finally:
        for module, state in before:
            vars(module).update(state)


def takes_mask(model: nn.Module) -> bool:
    """Whether the model's code takes an attention mask."""
    parameters = inspect.signature(model.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return takes_any or "attention_mask" in parameters
