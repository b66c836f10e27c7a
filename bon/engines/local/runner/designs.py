"""The formulas of two designs of causal language models.

`Gpt2Runner` (Radford et al. 2019): learned positions, LayerNorm, one matrix for queries, keys and values, a
feed-forward layer. `LlamaRunner` (Touvron et al., arXiv 2302.13971, and the models that follow it): rotary positions
(Su et al., arXiv 2104.09864), RMSNorm, grouped queries (Ainslie et al., arXiv 2305.13245), a gated feed-forward layer.

Both read the model's own weights, of which they hold no copy. A block computes with rows, one for each token; what a
row attends to is passed to it: a text's tokens up to its own (`_Causal`), or those that `SharedPrefixCache` holds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    embedding,
    gelu,
    layer_norm,
    linear,
    relu,
    rms_norm,
    scaled_dot_product_attention,
    silu,
)

from bon.engines.local.prefix_cache import Prefill, PrefilledLayer, SharedPrefixCache
from bon.models.packed_linear import FastLinear, PartLinear

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedConfig, PreTrainedModel

Function: TypeAlias = Callable[[Tensor], Tensor]
#: From queries [rows, heads, dim], keys and values [rows, key heads, dim] and the scaling of scores to
#: [rows, heads x dim].
Attention: TypeAlias = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def _gelu_tanh(x: Tensor) -> Tensor:
    return gelu(x, approximate="tanh")


#: Activations by the names that configs give them.
ACTIVATIONS: dict[str, Function] = {
    "gelu": gelu, "gelu_new": _gelu_tanh, "gelu_pytorch_tanh": _gelu_tanh, "relu": relu, "silu": silu,
}


def product_of(layer: nn.Module) -> Function:
    """The function [..., in] -> [..., out] of a linear layer, by the weights that it has when called."""
    if isinstance(layer, FastLinear | PartLinear):
        return layer.forward
    if isinstance(layer, nn.Linear):
        return lambda x: linear(x, layer.weight, layer.bias)
    transposed: Any = layer  # a Conv1D of transformers, the other type that is let in: see `choice`
    return lambda x: linear(x, transposed.weight.t(), transposed.bias)


def joined_product_of(layers: Sequence[nn.Module]) -> Function:
    """The function of several linear layers of one input: their outputs one after the other."""
    wholes = {layer.whole for layer in layers if isinstance(layer, PartLinear)}
    if len(wholes) == 1 and all(isinstance(layer, PartLinear) for layer in layers):
        return product_of(wholes.pop())
    products = [product_of(layer) for layer in layers]
    return lambda x: torch.cat([product(x) for product in products], -1)


class _Causal:
    """Attention within texts of equal length, whose rows follow each other; keeps keys and values of each layer."""

    def __init__(self, texts: int) -> None:
        self._texts = texts
        self.layers: list[PrefilledLayer] = []

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """As `Attention`."""
        query, key, value = (part.unflatten(0, (self._texts, -1)).transpose(1, 2) for part in (query, key, value))
        self.layers.append(PrefilledLayer(key.contiguous(), value.contiguous()))
        grouped = query.shape[1] != key.shape[1]
        out = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
        return out.transpose(1, 2).flatten(2).flatten(0, 1)


class Runner(ABC):
    """Computes texts and decode steps of one model.

    reads_texts: whether `read` computes what the model does: not where layers attend within windows. logits: from
    states [..., size] to logits [..., vocabulary], in the model's number type.
    """

    logits: Function
    reads_texts: bool

    def __init__(self, logits: Function, reads_texts: bool = True) -> None:
        self.logits, self.reads_texts = logits, reads_texts

    def read(self, ids: Tensor) -> tuple[Tensor, Prefill]:
        """For tokens of texts [texts, tokens] the states [texts, tokens, size] that `logits` takes, and what steps that
        continue the texts attend to.
        """
        causal, positions = _Causal(len(ids)), torch.arange(ids.shape[1], device=ids.device).repeat(len(ids))
        states = self._states(ids.flatten(), positions, repeat(causal))
        return states.unflatten(0, ids.shape), Prefill(ids.shape[1], causal.layers)

    def step(self, tokens: Tensor, positions: Tensor, cache: SharedPrefixCache) -> Tensor:
        """The logits [rows, vocabulary] after tokens [rows] at positions [rows]; stores their keys and values in the
        cache.
        """
        return self.logits(self._states(tokens, positions, [layer.read for layer in cache.shared_layers]))

    @abstractmethod
    def _states(self, tokens: Tensor, positions: Tensor, attentions: Iterable[Attention]) -> Tensor:
        """The states [rows, size] after tokens [rows] at positions [rows], with the attention of each layer."""


class Gpt2Runner(Runner):
    """A model of GPT-2's design."""

    def __init__(self, model: PreTrainedModel) -> None:
        parts: Any = model  # a GPT2LMHeadModel, whose modules have no types of their own
        super().__init__(product_of(parts.lm_head))
        self._body = parts.transformer
        activation = ACTIVATIONS[model.config.activation_function]
        self._blocks = [_Gpt2Block(block, activation) for block in self._body.h]

    def _states(self, tokens: Tensor, positions: Tensor, attentions: Iterable[Attention]) -> Tensor:
        x = embedding(tokens, self._body.wte.weight) + embedding(positions, self._body.wpe.weight)
        for block, attention in zip(self._blocks, attentions, strict=False):
            x = block(x, attention)
        return _layer_norm(self._body.ln_f, x)


class _Gpt2Block:
    def __init__(self, block: Any, activation: Function) -> None:
        self._before_attention, self._before_feed_forward, self._activation = block.ln_1, block.ln_2, activation
        self._heads, self._scaling = block.attn.num_heads, block.attn.scaling
        self._into_attention, self._from_attention = product_of(block.attn.c_attn), product_of(block.attn.c_proj)
        self._up, self._down = product_of(block.mlp.c_fc), product_of(block.mlp.c_proj)

    def __call__(self, x: Tensor, attention: Attention) -> Tensor:
        mixed = self._into_attention(_layer_norm(self._before_attention, x))
        query, key, value = mixed.view(len(x), 3, self._heads, -1).unbind(1)
        x = x + self._from_attention(attention(query, key, value, self._scaling))
        return x + self._down(self._activation(self._up(_layer_norm(self._before_feed_forward, x))))


def _layer_norm(module: nn.LayerNorm, x: Tensor) -> Tensor:
    return layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)


class LlamaRunner(Runner):
    """A model of Llama's design: Llama, Qwen2, Qwen3 (whose heads have norms), Mistral, Gemma.

    gemma: whether norms multiply by 1 + their weights, and embeddings are scaled.
    """

    def __init__(self, model: PreTrainedModel, gemma: bool = False) -> None:
        parts: Any = model  # of one of these families, whose modules have no types of their own
        super().__init__(product_of(parts.lm_head), not _has_windows(model.config))
        self._body = parts.model
        self._scaled = gemma
        norm = _gemma_norm if gemma else _norm
        self._last_norm = norm(self._body.norm)
        activation = ACTIVATIONS[model.config.hidden_act]
        self._blocks = [_LlamaBlock(block, norm, activation) for block in self._body.layers]

    def _states(self, tokens: Tensor, positions: Tensor, attentions: Iterable[Attention]) -> Tensor:
        x = embedding(tokens, self._body.embed_tokens.weight)
        if self._scaled:
            x = x * self._body.embed_tokens.embed_scale.to(x.dtype)
        turn = self._turns(positions, x.dtype)
        for block, attention in zip(self._blocks, attentions, strict=False):
            x = block(x, turn, attention)
        return self._last_norm(x)

    def _turns(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The cosines and sines [rows, 1, dim] by which `_rotated` turns heads at these positions.

        The sines of the first half are negative: so half of a head turns with the other half by one product.
        """
        rotary = self._body.rotary_emb
        angles = positions.unsqueeze(-1) * rotary.inv_freq.float()
        cosines, sines = angles.cos() * rotary.attention_scaling, angles.sin() * rotary.attention_scaling
        both = torch.cat([cosines, cosines], -1), torch.cat([-sines, sines], -1)
        return both[0].to(dtype).unsqueeze(1), both[1].to(dtype).unsqueeze(1)


def _has_windows(config: PreTrainedConfig) -> bool:
    """Whether a layer attends to the last tokens alone."""
    if types := getattr(config, "layer_types", None):
        return "sliding_attention" in types
    return getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)


class _LlamaBlock:
    def __init__(self, block: Any, norm: Callable[[Any], Function], activation: Function) -> None:
        attention, feed_forward = block.self_attn, block.mlp
        self._before_attention = norm(block.input_layernorm)
        self._before_feed_forward = norm(block.post_attention_layernorm)
        self._activation, self._dim, self._scaling = activation, attention.head_dim, attention.scaling
        self._key_heads = attention.k_proj.out_features // self._dim
        self._into_attention = joined_product_of([attention.q_proj, attention.k_proj, attention.v_proj])
        self._of_query = norm(attention.q_norm) if hasattr(attention, "q_norm") else None
        self._of_key = norm(attention.k_norm) if hasattr(attention, "k_norm") else None
        self._from_attention = product_of(attention.o_proj)
        self._gate_and_up = joined_product_of([feed_forward.gate_proj, feed_forward.up_proj])
        self._down = product_of(feed_forward.down_proj)

    def __call__(self, x: Tensor, turn: tuple[Tensor, Tensor], attention: Attention) -> Tensor:
        mixed = self._into_attention(self._before_attention(x)).view(len(x), -1, self._dim)
        both, value = mixed[:, : -self._key_heads], mixed[:, -self._key_heads :]
        if self._of_query and self._of_key:
            query, key = both[:, : -self._key_heads], both[:, -self._key_heads :]
            both = torch.cat([self._of_query(query), self._of_key(key)], 1)
        both = _rotated(both, turn)
        query, key = both[:, : -self._key_heads], both[:, -self._key_heads :]
        x = x + self._from_attention(attention(query, key, value, self._scaling))
        gate, up = self._gate_and_up(self._before_feed_forward(x)).chunk(2, -1)
        return x + self._down(self._activation(gate).mul_(up))


def _rotated(heads: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Heads [rows, heads, dim] turned by their row's angles."""
    cosines, sines = turn
    return torch.addcmul(heads * cosines, heads.roll(heads.shape[-1] // 2, -1), sines)


def _norm(module: Any) -> Function:
    return lambda x: rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)


def _gemma_norm(module: Any) -> Function:
    return lambda x: rms_norm(x.float(), module.weight.shape, 1.0 + module.weight.float(), module.eps).to(x.dtype)
