"""Loads the models in `assets/models/`. Their files are bon's own, and tests compare each with transformers' model."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import GenerationConfig
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from bon.assets_folder import assets_folder
from bon.models.builtin.base import BuiltInConfig, BuiltInModel
from bon.models.builtin.distilbert import DistilBert
from bon.models.builtin.gpt2 import Gpt2

#: The classes by the architecture that a `config.json` names.
CLASSES: dict[str, type[BuiltInModel]] = {"GPT2LMHeadModel": Gpt2, "DistilBertForSequenceClassification": DistilBert}


def built_in_class(folder: str, loader: str) -> type[BuiltInModel] | None:
    """The class of a built-in model that transformers' class `loader` would load too; None for other folders."""
    path = Path(folder).resolve()
    if path.parent != (assets_folder() / "models").resolve():
        return None
    architectures = json.loads((path / "config.json").read_text(encoding="utf-8")).get("architectures", [None])
    model_class = CLASSES.get(architectures[0])
    return model_class if model_class and model_class.loader == loader else None


def load(model_class: type[BuiltInModel], folder: str) -> tuple[BuiltInModel, TokenizersBackend]:
    """The model in float32 on the processor, in eval mode, and its tokenizer."""
    with torch.device("meta"):  # without memory: its weights come from the files, and no random number is drawn
        model = model_class(BuiltInConfig.from_pretrained(folder, local_files_only=True))
    weights = {name: weight.float() for file in Path(folder).glob("*.safetensors")
               for name, weight in load_file(file).items()}
    for name in weights:
        if name.split(".")[-2] in model.transposed and weights[name].ndim == 2:
            weights[name] = weights[name].t().contiguous()
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    if lacking := [name for name, weight in model.named_parameters() if weight.is_meta]:
        raise ValueError(f"{folder} lacks {lacking[0]}")
    if (Path(folder) / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model.eval(), TokenizersBackend.from_pretrained(folder, local_files_only=True)
