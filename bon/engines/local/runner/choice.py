"""Which models a runner serves: those that bon loaded itself and of which it knows every part.

A model of another class, with a setting that is not known here, or changed by a hook, an adapter or a wrapper, is run
by transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules import module as torch_module

from bon.engines.local import rotary
from bon.engines.local.runner.designs import ACTIVATIONS, Gpt2Runner, LlamaRunner, Runner
from bon.models.packed_linear import HalfLinear, Int8Linear, PackedLinear, PartLinear
from bon.models.running import design_of, loaded_by_bon

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedConfig, PreTrainedModel

#: The runner of each design.
RUNNERS: dict[str, Callable[[PreTrainedModel], Runner]] = {
    "gpt2": Gpt2Runner, "llama": LlamaRunner, "gemma": lambda model: LlamaRunner(model, gemma=True),
}
#: Fields of configs that change nothing in a decode step, or that its formulas read from the model's parts.
KNOWN = frozenset({
    # Of every model: names, ids of tokens, what calls return, and how training begins.
    "_model_name_or_path", "_name_or_path", "architectures", "bos_token_id", "chunk_size_feed_forward", "dtype",
    "eos_token_id", "id2label", "initializer_range", "is_encoder_decoder", "label2id", "model_type",
    "output_attentions", "output_hidden_states", "pad_token_id", "problem_type", "return_dict", "task_specific_params",
    "tie_word_embeddings", "transformers_version", "unk_token_id", "use_cache", "vocab_size",
    # Sizes of GPT-2, rates of dropout, and a head for classification.
    "attn_pdrop", "embd_pdrop", "layer_norm_epsilon", "n_ctx", "n_embd", "n_head", "n_inner", "n_layer", "n_positions",
    "resid_pdrop", "scale_attn_by_inverse_layer_idx", "scale_attn_weights", "summary_activation",
    "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
    # Sizes of Llama; windows are those of the cache's layers.
    "attention_bias", "attention_dropout", "head_dim", "hidden_size", "intermediate_size", "layer_types",
    "max_position_embeddings", "max_window_layers", "mlp_bias", "num_attention_heads", "num_hidden_layers",
    "num_key_value_heads", "pretraining_tp", "rms_norm_eps", "rope_parameters", "sliding_window", "use_sliding_window",
})
#: Fields that a step does not follow, unless they are off; and what a file of SmolLM2 says besides.
KNOWN_IF_OFF = frozenset({
    "add_cross_attention", "reorder_and_upcast_attn", "rope_interleaved", "use_bidirectional_attention",
})
ACTIVATION_FIELDS = frozenset({"activation_function", "hidden_act"})
#: Types of modules of which a step computes what they compute; besides those of the model's own file and of
#: transformers.
TYPES = frozenset({
    nn.Linear, nn.Embedding, nn.LayerNorm, nn.Dropout, nn.ModuleList, nn.GELU, nn.SiLU, nn.ReLU, PackedLinear,
    HalfLinear, Int8Linear, PartLinear,
})


def runner_for(model: PreTrainedModel) -> Runner:
    """A runner of a model that is `understood`, not yet compared with it."""
    return RUNNERS[design_of(model) or ""](model)


def understood(model: PreTrainedModel) -> bool:
    """Whether bon loaded the model and nothing in it is unknown here; hooks and adapters may come at any time."""
    known_class = loaded_by_bon(model) and design_of(model) in RUNNERS
    return known_class and _config_is_known(model.config) and modules_are_known(model)


def modules_are_known(model: PreTrainedModel, *more: type[nn.Module]) -> bool:
    """Whether all of a model's modules are of types that are known, none quantised and none changed by a hook.

    more: types beside those of the model's own file, `TYPES` and transformers' activations.
    """
    if getattr(model, "is_quantized", False):
        return False
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        return False
    family = type(model).__module__
    return all((type(module) in more or _is_known(module, family)) and not _is_changed(module)
               for module in model.modules())


@cache
def _library_types() -> frozenset[type[nn.Module]]:
    """The types of transformers of which a step computes what they compute."""
    from transformers import activations
    from transformers.pytorch_utils import Conv1D

    return frozenset({Conv1D, *(type(activations.ACT2FN[name]) for name in ACTIVATIONS)})


def _is_known(module: nn.Module, family: str) -> bool:
    return type(module) in TYPES or type(module).__module__ == family or type(module) in _library_types()


def _is_changed(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _config_is_known(config: PreTrainedConfig) -> bool:
    fields = config.to_dict()
    for name, value in fields.items():
        changes_nothing = name in KNOWN or (name in KNOWN_IF_OFF and not value)
        if not changes_nothing and not (name in ACTIVATION_FIELDS and value in ACTIVATIONS):
            return False
    return rotary.limit(config) == float("inf")
