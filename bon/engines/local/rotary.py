"""Rotary embeddings whose frequencies depend on the length of the text: from where on, and which they began with.

Two kinds do: LongRoPE (Ding et al., arXiv 2402.13753), with other frequencies for the whole text past a length, and
dynamic NTK scaling, with others for each length past one. transformers computes them for the longest row of a call.
"""

import math
from typing import Any

from bon.models.limits import rope_parameters

#: Kinds, as configs name them, whose frequencies are those of a text of any length.
ALIKE = frozenset({"default", "linear", "yarn", "llama3", "proportional"})


def limit(config) -> float:
    """The most tokens of a text, its prompt included, up to which the frequencies are those of any shorter one:
    infinite where they always are, 0 for kinds that are not known here.
    """
    rope, text = rope_parameters(config), config.get_text_config()
    # One for all layers, or one for each type of layer.
    parts = [part for part in rope.values() if isinstance(part, dict)] or [rope]
    return min(_limit(part, text) for part in parts)


def _limit(rope: dict[str, Any], text) -> float:
    rope_type, most = rope.get("rope_type") or rope.get("type"), getattr(text, "max_position_embeddings", None) or 0
    if rope_type == "longrope":
        return int(rope.get("original_max_position_embeddings")
                   or getattr(text, "original_max_position_embeddings", None) or most)
    if rope_type == "dynamic":
        return max(0, int(most) - 1)  # at the limit itself the frequencies of a longer text are kept
    return math.inf if rope_type is None or rope_type in ALIKE else 0


def growing(model) -> list[Any]:
    """The model's modules that keep the frequencies of the longest text that they have read."""
    return [module for module in model.modules() if "dynamic" in str(getattr(module, "rope_type", ""))]


def forget(module) -> None:
    """Brings back the frequencies that a growing module has in a model that has read nothing."""
    for name in [name for name in (*module._buffers, *vars(module)) if name.endswith("original_inv_freq")]:
        layers, frequencies = name.removesuffix("original_inv_freq"), getattr(module, name)
        setattr(module, f"{layers}inv_freq", frequencies.to(getattr(module, f"{layers}inv_freq").device))
        setattr(module, f"{layers}max_seq_len_cached", module.original_max_seq_len)
