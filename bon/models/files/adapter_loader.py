"""Merges LoRA adapters into their models, through peft."""

import dataclasses
import importlib.metadata
import os
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict, load_peft_weights
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel

from bon.errors import ModelError
from bon.messages import Message, say
from bon.models.files.adapters import Adapter, weights_path
from bon.models.limits import vocabulary

#: The largest share of the logits by which merged weights may change them: more than rounding in float32 explains.
ROUNDING = 1e-4


def read_weights(adapter: Adapter) -> dict[str, torch.Tensor]:
    """The adapter's weights by the names in its file. Raises `ModelError` for a damaged file."""
    try:
        return load_peft_weights(adapter.folder, device="cpu")
    except SafetensorError as error:
        file = os.path.basename(weights_path(adapter.folder) or "")
        raise ModelError(say("error.weights_broken", model=adapter.place, file=file, error=str(error))) from error


def merged(model: PreTrainedModel, adapter: Adapter, weights: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """The model, whose own weights are changed, with the adapter's weights merged into them.

    The model must be in float32, and nobody else's. Raises `ModelError` where the adapter does not fit it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft warns of is checked here
        config = peft.LoraConfig.from_pretrained(adapter.folder)
        config.inference_mode = True
        _resize_vocabulary(model, weights)
        try:
            with_adapter: Any = peft.get_peft_model(model, config)
        except ValueError as error:
            if "not found in the base model" not in str(error):
                raise
            layers = config.target_modules
            listed = layers if isinstance(layers, str) else ", ".join(sorted(layers or ()))
            raise _misfit(adapter, say("adapter.other_layers", layers=listed)) from error
        _load(with_adapter, adapter, weights)
        return _merge(with_adapter.eval(), adapter)


def unknown_options(adapter: Adapter) -> list[str]:
    """The options of an adapter that this version of peft does not know, and would ignore."""
    options = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    return sorted(name for name, value in adapter.options.items() if name not in options and value)


def peft_version() -> str:
    """The version of peft that is installed."""
    return importlib.metadata.version("peft")


def _resize_vocabulary(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Gives the model as many tokens as an adapter has embeddings for, where it brings all those of its tokens."""
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = [name for name, module in model.named_modules() if module in tables]
    stored = [weights.get(f"base_model.model.{name}.weight") for name in names]
    rows = {len(table) for table in stored if table is not None}
    tied = model.config.get_text_config().tie_word_embeddings
    if rows and rows != {vocabulary(model)} and len(rows) == 1 and (tied or None not in stored):
        model.resize_token_embeddings(rows.pop(), mean_resizing=False)


def _load(with_adapter: Any, adapter: Adapter, weights: Mapping[str, torch.Tensor]) -> None:
    """Loads the weights, each of which must have its place and every place its weight."""
    expected = get_peft_model_state_dict(with_adapter, save_embedding_layers=False)
    for name in sorted(expected.keys() & weights.keys()):
        stored, needed = (" x ".join(map(str, table[name].shape)) for table in (weights, expected))
        if stored != needed:
            raise _misfit(adapter, say("adapter.shape", weight=name, stored=stored, expected=needed))
    for name in sorted(expected.keys() - weights.keys()):
        raise _misfit(adapter, say("adapter.missing", weight=name))
    report = with_adapter.load_adapter(adapter.folder, "default", torch_device="cpu")
    for name in sorted(report.unexpected_keys):
        raise _misfit(adapter, say("adapter.no_layer", weight=name.replace(".default.", ".")))


def _merge(with_adapter: Any, adapter: Adapter) -> PreTrainedModel:
    """The model with merged weights, after a look at whether it computes what it computed before."""
    text = torch.arange(8).unsqueeze(0) % (vocabulary(with_adapter.get_base_model()) or 1)
    with torch.inference_mode():
        before = with_adapter(input_ids=text).logits
    if _untie(with_adapter):
        with_adapter.get_base_model().config.get_text_config().tie_word_embeddings = False
    try:
        model = with_adapter.merge_and_unload(safe_merge=True).eval()
    except ValueError as error:  # numbers that are not finite
        raise ModelError(say("error.adapter_not_finite", model=adapter.place)) from error
    with torch.inference_mode():
        after = model(input_ids=text).logits
    if not (after - before).norm() <= ROUNDING * before.norm():
        raise ModelError(say("error.adapter_not_merged", model=adapter.place, base=adapter.base))
    return model


def _untie(with_adapter: nn.Module) -> bool:
    """Gives each layer that the adapter changes a weight of its own where it shares it, as the output layer does with
    the embeddings: the adapter changes one of the two. Returns whether there were any.
    """
    uses = Counter(weight.data_ptr() for module in with_adapter.modules()
                   for weight in module._parameters.values() if weight is not None)
    untied = False
    for module in with_adapter.modules():
        if isinstance(module, BaseTunerLayer):
            layer: Any = module.get_base_layer()
            if uses[layer.weight.data_ptr()] > 1:
                layer.weight, untied = nn.Parameter(layer.weight.clone(), requires_grad=False), True
    return untied


def _misfit(adapter: Adapter, reason: Message) -> ModelError:
    return ModelError(say("error.adapter_does_not_fit", model=adapter.place, base=adapter.base, reason=reason))
