"""What the built-in models share: the part of the interface of transformers' models that bon uses."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.configuration_utils import PreTrainedConfig


class BuiltInConfig(PreTrainedConfig):
    """A config with the values of a model's `config.json`.

    A class of its own, since bon changes a property of the classes of configs: see `bon.engines.local.prefix_cache`.
    """


class Output(NamedTuple):
    """What a model returns. cache: the keys and values of the tokens that it has read, where it was asked for them."""

    logits: Tensor
    cache: Cache | None = None


class BuiltInModel(nn.Module):
    """A model whose modules and weights are called as in its files, which are those of transformers' model.

    loader: the name of the class of transformers that loads such files. transposed: names of linear layers whose
    weights are [in, out] in the files.
    """

    loader: str
    transposed: tuple[str, ...] = ()
    config: PreTrainedConfig
    #: The model's config for generation, where its folder has one.
    generation_config: Any = None

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The number type of the weights."""
        return next(self.parameters()).dtype

    def num_parameters(self) -> int:
        """The number of weights, each counted once."""
        return sum(weight.numel() for weight in self.parameters())

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings of tokens."""
        raise NotImplementedError

    def tie_weights(self) -> None:
        """Lets modules that share their weights share them again, after they were replaced."""


def embedding(rows: int, width: int) -> nn.Embedding:
    """A table [rows, width] whose numbers are to be loaded.

    torch would fill it with random ones, and for that, without memory behind the table, import its compiler.
    """
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))
