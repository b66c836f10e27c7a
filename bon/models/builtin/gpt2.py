"""GPT-2 (Radford et al. 2019), which the built-in language models are."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from transformers.cache_utils import Cache, DynamicCache
from transformers.configuration_utils import PreTrainedConfig

from bon.models.builtin.base import BuiltInModel, Output, embedding


class Gpt2(BuiltInModel):
    """A causal language model of GPT-2's design, with the tanh approximation of GELU."""

    loader = "AutoModelForCausalLM"
    transposed: tuple[str, ...] = ("c_attn", "c_proj", "c_fc")
    transformer: "_Body"
    lm_head: nn.Linear

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.transformer = _Body(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """As `BuiltInModel.tie_weights`."""
        self.lm_head.weight = self.transformer.wte.weight

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings of tokens."""
        return self.transformer.wte

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None,
                cache: Cache | None = None, use_cache: bool = False, logits_to_keep: int = 0) -> Output:
        """The logits [rows, tokens, vocabulary] of tokens [rows, tokens], or of the last `logits_to_keep` of them.

        attention_mask: of ones; no row is padded, or only behind its end, where the others do not look. cache: of the
        tokens before these.
        """
        if use_cache and cache is None:
            cache = DynamicCache()
        if position_ids is None:
            before = cache.get_seq_length() if cache is not None else 0
            position_ids = torch.arange(before, before + input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        x = self.transformer(input_ids, position_ids, cache)
        return Output(self.lm_head(x[:, -logits_to_keep:]), cache if use_cache else None)


class _Body(nn.Module):
    wte: nn.Embedding
    wpe: nn.Embedding
    h: nn.ModuleList
    ln_f: nn.LayerNorm

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.wte = embedding(config.vocab_size, config.n_embd)
        self.wpe = embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(_Block(config, number) for number in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(self, tokens: Tensor, positions: Tensor, cache: Cache | None) -> Tensor:
        x = self.wte(tokens) + self.wpe(positions)
        for block in self.h:
            x = block(x, cache)
        return self.ln_f(x)


class _Block(nn.Module):
    def __init__(self, config: PreTrainedConfig, number: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = _Attention(config, number)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = _FeedForward(config)

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.mlp(self.ln_2(x))


class _Attention(nn.Module):
    def __init__(self, config: PreTrainedConfig, number: int) -> None:
        super().__init__()
        self.num_heads, self.number = config.n_head, number
        self.scaling = (config.n_embd // config.n_head) ** -0.5
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        rows, tokens, width = x.shape
        query, key, value = self.c_attn(x).view(rows, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        if cache is not None:
            key, value = cache.update(key, value, self.number)
        return self.c_proj(self._attended(query, key, value, cache).reshape(rows, tokens, width))

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, cache: Cache | None) -> Tensor:
        """Attention [rows, tokens, heads, dim], by the cache's layer where that has one of its own."""
        layer: Any = cache and cache.layers[self.number]
        if hasattr(layer, "attend"):
            return layer.attend(query, key, value, self.scaling)
        queries, keys = query.shape[2], key.shape[2]
        mask = None
        if 1 < queries < keys:  # each query sees all that was read before these tokens
            mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=1 < queries == keys, scale=self.scaling
        ).transpose(1, 2)


class _FeedForward(nn.Module):
    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(gelu(self.c_fc(x), approximate="tanh"))
