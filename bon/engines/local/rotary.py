"""Rotary embeddings whose frequencies depend on the length of the text: from which length on, and how to reset them.

Two types do: LongRoPE (Ding et al., arXiv 2402.13753), with other frequencies for the whole text past a length, and
dynamic NTK scaling, with others for each length past one. transformers computes them for the longest row of a call.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import nn

from bon.models.limits import rope_parameters

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedConfig, PreTrainedModel

#: Types, as configs name them, whose frequencies are the same for texts of any length.
LENGTH_INDEPENDENT = frozenset({"default", "linear", "yarn", "llama3", "proportional"})


def limit(config: PreTrainedConfig) -> float:
    """The most tokens of a text, its prompt included, up to which the frequencies are those of any shorter one:
    infinite where they always are, 0 for types that bon does not know.
    """
    rope, text = rope_parameters(config), config.get_text_config()
    # Either one set of parameters for all layers, or one for each type of layer.
    parts = [part for part in rope.values() if isinstance(part, dict)] or [rope]
    return min(_limit(part, text) for part in parts)


def _limit(rope: dict[str, Any], text: PreTrainedConfig) -> float:
    rope_type, most = rope.get("rope_type") or rope.get("type"), getattr(text, "max_position_embeddings", None) or 0
    if rope_type == "longrope":
        return int(rope.get("original_max_position_embeddings")
                   or getattr(text, "original_max_position_embeddings", None) or most)
    if rope_type == "dynamic":
        return max(0, int(most) - 1)  # at the limit itself the frequencies of a longer text are kept
    return math.inf if rope_type is None or rope_type in LENGTH_INDEPENDENT else 0


def dynamic_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The model's modules that keep the frequencies of the longest text that they have read."""
    return [module for module in model.modules() if "dynamic" in str(getattr(module, "rope_type", ""))]


def reset(module: nn.Module) -> None:
    """Gives a dynamic module the frequencies that it has before it has read any text."""
    for name in [name for name in (*module._buffers, *vars(module)) if name.endswith("original_inv_freq")]:
        prefix, frequencies = name.removesuffix("original_inv_freq"), getattr(module, name)
        setattr(module, f"{prefix}inv_freq", frequencies.to(getattr(module, f"{prefix}inv_freq").device))
        setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
