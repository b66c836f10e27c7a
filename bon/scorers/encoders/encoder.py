"""A classifier of BERT's design (Devlin et al., arXiv 1810.04805) for texts of any lengths in one call.

The tokens of all texts stand in one tensor [tokens, width], one text behind the other: no token is padding. Only
attention tells texts apart. The last block computes the first token of each text alone, since no logit depends on the
others. All weights are the model's own, of which no copy is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, layer_norm, scaled_dot_product_attention

from bon.engines.local.runner.designs import ACTIVATIONS, Function, product_of
from bon.models.packed_linear import MANY_ROWS, PackedLinear

#: In bf16 on processors, attention over this many tokens or more is faster as plain matrix products of a few heads at a
#: time, whose scores fit the cache: 6.5 us per token against 11 of torch's kernel with 280 tokens, on Zen 5.
LONG, HEADS_TOGETHER = 128, 4


@dataclass(frozen=True)
class Block:
    """The layers of one block. up: with the activation behind it."""

    query: Function
    key: Function
    value: Function
    out: Function
    attention_norm: nn.LayerNorm
    up: Function
    down: Function
    last_norm: nn.LayerNorm


@dataclass(frozen=True)
class Encoder:
    """A model's parts.

    embeddings: the module with the tables of words, positions and, where there are any, types of tokens. padding: the
    id of RoBERTa's padding, behind which its positions begin, and which has one of its own; None for the others. head:
    from the last block's output for each text's first token to logits.
    """

    embeddings: Any
    padding: int | None
    blocks: Sequence[Block]
    heads: int
    head: Function

    @torch.inference_mode()
    def logits(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Logits [texts, labels] in float32 on the processor, of texts' token ids; equally long ones side by side are
        faster.
        """
        lengths = [len(text) for text in texts]
        device = self.embeddings.word_embeddings.weight.device
        ids = torch.tensor([token for text in texts for token in text], device=device)
        x = self._embedded(ids, torch.cat([self._positions(torch.tensor(text)) for text in texts]).to(device))
        for block in self.blocks[:-1]:
            x = self._feed_forward(block, x, self._attended(block, x, lengths))
        firsts = torch.tensor([0, *lengths[:-1]], device=device).cumsum(0)
        first = self._attended(self.blocks[-1], x, lengths, firsts)
        return self.head(self._feed_forward(self.blocks[-1], x[firsts], first)).float().cpu()

    def _positions(self, text: Tensor) -> Tensor:
        if self.padding is None:
            return torch.arange(len(text))
        is_token = (text != self.padding).long()
        return is_token.cumsum(0) * is_token + self.padding

    def _embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        tables = self.embeddings
        x = embedding(ids, tables.word_embeddings.weight)
        if hasattr(tables, "token_type_embeddings"):
            x = x + tables.token_type_embeddings.weight[0]
        return _normed(tables.LayerNorm, x + embedding(positions, tables.position_embeddings.weight))

    def _attended(self, block: Block, x: Tensor, lengths: Sequence[int], firsts: Tensor | None = None) -> Tensor:
        """What attention adds [tokens, width], or [texts, width] for the texts' first tokens, at `firsts`."""
        query, key, value = block.query(x if firsts is None else x[firsts]), block.key(x), block.value(x)
        parts, at, text = [], 0, 0
        for length, group in groupby(lengths):
            texts = len([*group])
            queries = length if firsts is None else 1
            rows, start = slice(at, at + texts * length), at if firsts is None else text
            at, text = at + texts * length, text + texts
            parts.append(_attention(*(
                states.view(texts, -1, self.heads, states.shape[-1] // self.heads).transpose(1, 2)
                for states in (query[start : start + texts * queries], key[rows], value[rows])
            )).transpose(1, 2).reshape(texts * queries, -1))
        return block.out(torch.cat(parts) if len(parts) > 1 else parts[0])

    def _feed_forward(self, block: Block, x: Tensor, attended: Tensor) -> Tensor:
        x = _normed(block.attention_norm, x + attended)
        return _normed(block.last_norm, x + block.down(block.up(x)))


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention [texts, heads, tokens, dim] of texts of equal length."""
    if query.dtype != torch.bfloat16 or query.device.type != "cpu" or query.shape[2] < LONG:
        return scaled_dot_product_attention(query, key, value)
    query = query * query.shape[-1] ** -0.5
    groups = zip(*(states.split(HEADS_TOGETHER, 1) for states in (query, key, value)), strict=True)
    parts = [(few @ keys.transpose(-1, -2)).softmax(-1) @ values for few, keys, values in groups]
    return torch.cat(parts, 1)


def _normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def activated(layer: nn.Module, name: str) -> Function:
    """The function of a linear layer with an activation behind it, in one kernel where there is one."""
    if name == "gelu" and isinstance(layer, PackedLinear):
        product = torch.ops.mkldnn._linear_pointwise
        return lambda x: torch.cat([
            product(part, layer.packed, layer.bias, "gelu", [], "none") for part in x.split(MANY_ROWS)
        ])
    product_alone, activation = product_of(layer), ACTIVATIONS[name]
    return lambda x: activation(product_alone(x))


Design = Callable[[Any], Encoder]
