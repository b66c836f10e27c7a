"""The formulas of two designs of causal language models, for one token per row.

`Gpt2Runner` (Radford et al. 2019): learned positions, LayerNorm, one matrix for queries, keys and values, a
feed-forward layer. `LlamaRunner` (Touvron et al., arXiv 2302.13971, and the models that follow it): rotary positions
(Su et al., arXiv 2104.09864), RMSNorm, grouped queries (Ainslie et al., arXiv 2305.13245), a gated feed-forward layer.

Both read the model's own weights, of which they hold no copy, and attend through the layers of `SharedPrefixCache`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, layer_norm, linear, relu, rms_norm, silu

from bon.engines.local.prefix_cache import SharedLayer, SharedPrefixCache
from bon.models.packed_linear import Int8Linear, PackedLinear, products

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedModel

Function: TypeAlias = Callable[[Tensor], Tensor]


def _gelu_tanh(x: Tensor) -> Tensor:
    return gelu(x, approximate="tanh")


#: Activations by the names that configs give them.
ACTIVATIONS: dict[str, Function] = {
    "gelu": gelu, "gelu_new": _gelu_tanh, "gelu_pytorch_tanh": _gelu_tanh, "relu": relu, "silu": silu,
}


class Runner(Protocol):
    """Computes decode steps of one model."""

    def step(self, tokens: Tensor, positions: Tensor, cache: SharedPrefixCache) -> Tensor:
        """The logits [rows, vocabulary], in the model's number type, after tokens [rows] at positions [rows]; stores
        their keys and values in the cache.
        """


def product_of(layer: nn.Module) -> Function:
    """The function [rows, in] -> [rows, out] of a linear layer, by the weights that it has when called."""
    if isinstance(layer, PackedLinear | Int8Linear):
        return layer.forward
    if isinstance(layer, nn.Linear):
        return lambda x: linear(x, layer.weight, layer.bias)
    transposed: Any = layer  # a Conv1D of transformers, the other type that is let in: see `choice`
    return lambda x: linear(x, transposed.weight.t(), transposed.bias)


def products_of(layers: Sequence[nn.Module]) -> Callable[[Tensor], Sequence[Tensor]]:
    """The function of one input for several linear layers that read it."""
    rounded = [layer for layer in layers if isinstance(layer, Int8Linear)]
    if len(rounded) == len(layers):
        return lambda x: products(rounded, x)
    each = [product_of(layer) for layer in layers]
    return lambda x: [product(x) for product in each]


class Gpt2Runner:
    """Steps of a model of GPT-2's design."""

    def __init__(self, model: PreTrainedModel) -> None:
        parts: Any = model  # a GPT2LMHeadModel, whose modules have no types of their own
        self._body = parts.transformer
        self._head = product_of(parts.lm_head)
        activation = ACTIVATIONS[model.config.activation_function]
        self._blocks = [_Gpt2Block(block, activation) for block in self._body.h]

    def step(self, tokens: Tensor, positions: Tensor, cache: SharedPrefixCache) -> Tensor:
        """As `Runner.step`."""
        x = embedding(tokens, self._body.wte.weight) + embedding(positions, self._body.wpe.weight)
        for block, layer in zip(self._blocks, cache.shared_layers, strict=True):
            x = block(x, layer)
        return self._head(_layer_norm(self._body.ln_f, x))


class _Gpt2Block:
    def __init__(self, block: Any, activation: Function) -> None:
        self._before_attention, self._before_feed_forward, self._activation = block.ln_1, block.ln_2, activation
        self._heads, self._scaling = block.attn.num_heads, block.attn.scaling
        self._into_attention, self._from_attention = product_of(block.attn.c_attn), product_of(block.attn.c_proj)
        self._up, self._down = product_of(block.mlp.c_fc), product_of(block.mlp.c_proj)

    def __call__(self, x: Tensor, layer: SharedLayer) -> Tensor:
        mixed = self._into_attention(_layer_norm(self._before_attention, x))
        query, key, value = mixed.view(len(x), 3, self._heads, -1).unbind(1)
        keys, values = layer.store(key, value)
        attended = layer.attend(query.unsqueeze(2), keys, values, self._scaling)
        x = x + self._from_attention(attended.reshape(x.shape))
        return x + self._down(self._activation(self._up(_layer_norm(self._before_feed_forward, x))))


def _layer_norm(module: nn.LayerNorm, x: Tensor) -> Tensor:
    return layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)


class LlamaRunner:
    """Steps of a model of Llama's design: Llama, Qwen2, Qwen3 (whose heads have norms), Mistral, Gemma.

    gemma: whether norms multiply by 1 + their weights, and embeddings are scaled.
    """

    def __init__(self, model: PreTrainedModel, gemma: bool = False) -> None:
        parts: Any = model  # of one of these families, whose modules have no types of their own
        self._body, self._head = parts.model, product_of(parts.lm_head)
        self._scaled = gemma
        norm = _gemma_norm if gemma else _norm
        self._last_norm = norm(self._body.norm)
        activation = ACTIVATIONS[model.config.hidden_act]
        self._blocks = [_LlamaBlock(block, norm, activation) for block in self._body.layers]

    def step(self, tokens: Tensor, positions: Tensor, cache: SharedPrefixCache) -> Tensor:
        """As `Runner.step`."""
        x = embedding(tokens, self._body.embed_tokens.weight)
        if self._scaled:
            x = x * self._body.embed_tokens.embed_scale.to(x.dtype)
        turn = self._turns(positions, x.dtype)
        for block, layer in zip(self._blocks, cache.shared_layers, strict=True):
            x = block(x, turn, layer)
        return self._head(self._last_norm(x))

    def _turns(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The cosines and sines [rows, 1, dim] by which `_rotated` turns heads at these positions.

        The sines of the first half are negative: so half of a head turns with the other half by one product.
        """
        rotary = self._body.rotary_emb
        angles = positions.unsqueeze(-1) * rotary.inv_freq.float()
        cosines, sines = angles.cos() * rotary.attention_scaling, angles.sin() * rotary.attention_scaling
        both = torch.cat([cosines, cosines], -1), torch.cat([-sines, sines], -1)
        return both[0].to(dtype).unsqueeze(1), both[1].to(dtype).unsqueeze(1)


class _LlamaBlock:
    def __init__(self, block: Any, norm: Callable[[Any], Function], activation: Function) -> None:
        attention, feed_forward = block.self_attn, block.mlp
        self._before_attention = norm(block.input_layernorm)
        self._before_feed_forward = norm(block.post_attention_layernorm)
        self._activation, self._dim, self._scaling = activation, attention.head_dim, attention.scaling
        self._into_attention = products_of([attention.q_proj, attention.k_proj, attention.v_proj])
        self._of_query = norm(attention.q_norm) if hasattr(attention, "q_norm") else None
        self._of_key = norm(attention.k_norm) if hasattr(attention, "k_norm") else None
        self._from_attention = product_of(attention.o_proj)
        self._gate_and_up = products_of([feed_forward.gate_proj, feed_forward.up_proj])
        self._down = product_of(feed_forward.down_proj)

    def __call__(self, x: Tensor, turn: tuple[Tensor, Tensor], layer: SharedLayer) -> Tensor:
        heads = (len(x), -1, self._dim)
        query, key, value = (part.view(heads) for part in self._into_attention(self._before_attention(x)))
        if self._of_query and self._of_key:
            query, key = self._of_query(query), self._of_key(key)
        keys, values = layer.store(_rotated(key, turn), value)
        attended = layer.attend(_rotated(query, turn).unsqueeze(2), keys, values, self._scaling)
        x = x + self._from_attention(attended.reshape(len(x), -1))
        gate, up = self._gate_and_up(self._before_feed_forward(x))
        return x + self._down(self._activation(gate) * up)


def _rotated(heads: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Heads [rows, heads, dim] turned by their row's angles."""
    cosines, sines = turn
    return torch.addcmul(heads * cosines, heads.roll(heads.shape[-1] // 2, -1), sines)


def _norm(module: Any) -> Function:
    return lambda x: rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)


def _gemma_norm(module: Any) -> Function:
    return lambda x: rms_norm(x.float(), module.weight.shape, 1.0 + module.weight.float(), module.eps).to(x.dtype)
