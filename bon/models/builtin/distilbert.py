"""DistilBERT (Sanh et al., arXiv 1910.01108), which the built-in sentiment classifier is."""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu, scaled_dot_product_attention
from transformers.configuration_utils import PreTrainedConfig

from bon.models.builtin.base import BuiltInModel, Output, embedding

EPSILON = 1e-12


class DistilBert(BuiltInModel):
    """A sequence classifier of DistilBERT's design."""

    loader = "AutoModelForSequenceClassification"
    distilbert: "_Body"
    pre_classifier: nn.Linear
    classifier: nn.Linear

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.distilbert = _Body(config)
        self.pre_classifier = nn.Linear(config.dim, config.dim)
        self.classifier = nn.Linear(config.dim, len(config.id2label or {}))

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings of tokens."""
        return self.distilbert.embeddings.word_embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Output:
        """The logits [texts, labels] of tokens [texts, tokens]. attention_mask: 1 for tokens, 0 for padding."""
        mask = None if attention_mask is None or bool(attention_mask.all()) else attention_mask[:, None, None].bool()
        x = self.distilbert(input_ids, mask)
        return Output(self.classifier(relu(self.pre_classifier(x[:, 0]))))


class _Body(nn.Module):
    embeddings: "_Embeddings"
    transformer: nn.Module

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.embeddings, self.transformer = _Embeddings(config), _Layers(config)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        return self.transformer(self.embeddings(tokens), mask)


class _Embeddings(nn.Module):
    word_embeddings: nn.Embedding
    position_embeddings: nn.Embedding
    LayerNorm: nn.LayerNorm

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.word_embeddings = embedding(config.vocab_size, config.dim)
        self.position_embeddings = embedding(config.max_position_embeddings, config.dim)
        self.LayerNorm = nn.LayerNorm(config.dim, eps=EPSILON)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self.LayerNorm(self.word_embeddings(tokens) + self.position_embeddings(positions))


class _Layers(nn.Module):
    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Block(config) for _ in range(config.n_layers))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for block in self.layer:
            x = block(x, mask)
        return x


class _Block(nn.Module):
    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.sa_layer_norm = nn.LayerNorm(config.dim, eps=EPSILON)
        self.ffn = _FeedForward(config)
        self.output_layer_norm = nn.LayerNorm(config.dim, eps=EPSILON)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.sa_layer_norm(self.attention(x, mask) + x)
        return self.output_layer_norm(self.ffn(x) + x)


class _Attention(nn.Module):
    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.q_lin = nn.Linear(config.dim, config.dim)
        self.k_lin = nn.Linear(config.dim, config.dim)
        self.v_lin = nn.Linear(config.dim, config.dim)
        self.out_lin = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for layer in (self.q_lin, self.k_lin, self.v_lin)
        )
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out_lin(attended.transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.lin1 = nn.Linear(config.dim, config.hidden_dim)
        self.lin2 = nn.Linear(config.hidden_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(gelu(self.lin1(x)))
