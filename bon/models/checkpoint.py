"""What lies in a model's folder, and whether transformers reads all of it: where it would go on with wrong numbers or a
wrong vocabulary, a `ModelError` says what is the matter.
"""

import importlib.metadata
import inspect
import os
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from bon.errors import ModelError
from bon.messages import say
from bon.models import presets
from bon.models.limits import vocabulary

#: How the text begins that stands in a repository for a file that Git LFS keeps elsewhere.
POINTER = b"version https://git-lfs.github.com/spec/"
#: Types of numbers, as safetensors calls them, that are the weights themselves.
PLAIN = {"F64", "F32", "F16", "BF16"}
#: Parts of the names of weights that belong to an adapter.
ADAPTER = re.compile(r"(^|[._])(lora|adapters?|adaption|ia3|prompt_encoder|prompt_embeddings|base_layer)([._]|$)")
#: What some files hold although models work it out by themselves, and the scales of a cache in a type that is not used.
NOT_LEARNED = re.compile(r"(position_ids|inv_freq|masked_bias|_extra_state|\b(k|v|kv)_scale)$")
#: A tokenizer with fewer than this share of the model's tokens has not read its vocabulary.
FEW_TOKENS = 0.1
#: What transformers says where it goes on but the results may be wrong, and what of that does no harm here: loading
#: checks the keys itself, and no text depends on the special tokens that a config gets wrong.
DOUBTS = re.compile(r"incorrect|(unexpected|undefined) behavio|must (be|have)|does not match|corrupt", re.IGNORECASE)
HARMLESS = re.compile(r"LOAD REPORT|^Model config: |seem corrupted")


def check_files(folder: str, place: str) -> None:
    """An error for a folder without weights or without some of them, or with a file that is none."""
    files = presets.present(folder)
    if not presets.weights(files):
        raise ModelError(presets.other_format(place, files) or say("error.folder_without_weights", folder=place))
    for file in presets.needed(files):
        if _begins(os.path.join(folder, file), POINTER):
            raise ModelError(say("error.file_is_pointer", model=place, file=file))
    if missing := presets.missing_weights(folder):
        raise ModelError(say("error.weights_incomplete", model=place, file=missing))


def _begins(file: str, start: bytes) -> bool:
    with open(file, "rb") as opened:
        return opened.read(len(start)) == start


def check_numbers(folder: str, config: Any, place: str) -> str | None:
    """The method by which the weights are quantised; None where they are plain numbers. An error where it is unknown.

    A method that can do so is told to give the weights as plain numbers: bon has number types of its own.
    """
    quantization = _quantization(config)
    if quantization is None:
        if stored := next(_packed(folder, place), None):
            raise ModelError(say("error.weights_packed", model=place, weight=stored[0], type=stored[1]))
        return None
    method = _method(quantization)
    if method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise ModelError(say("error.quantization_unknown", model=place, method=method))
    if "dequantize" in inspect.signature(AUTO_QUANTIZATION_CONFIG_MAPPING[method].__init__).parameters:
        quantization["dequantize"] = True
    return method


def _quantization(config: Any) -> dict[str, Any] | None:
    for part in (config, config.get_text_config()):
        if (quantization := getattr(part, "quantization_config", None)) is not None:
            return quantization
    return None


def _method(quantization: dict[str, Any]) -> str:
    """The name of a method as transformers has it; all that there is where it has no name."""
    bits = next((bits for bits in ("4bit", "8bit") if quantization.get(f"load_in_{bits}")), None)
    return f"bitsandbytes_{bits}" if bits else str(quantization.get("quant_method") or quantization)


def _packed(folder: str, place: str) -> Iterator[tuple[str, str]]:
    """The names and types of weights that are stored as bytes or whole numbers."""
    for file in presets.weights(presets.present(folder)):
        for name, type_name in _types(os.path.join(folder, file), place):
            if type_name not in PLAIN and name.endswith("weight"):  # masks and places are whole numbers by nature
                yield name, type_name


def _types(path: str, place: str) -> Iterator[tuple[str, str]]:
    """The name and type of each tensor in a file of weights; none of a file in torch's oldest format."""
    if path.endswith(".safetensors"):
        try:
            with safe_open(path, framework="pt") as file:
                names = file.keys()
                yield from [(name, file.get_slice(name).get_dtype()) for name in names]
        except SafetensorError as error:
            name = os.path.basename(path)
            raise ModelError(say("error.weights_broken", model=place, file=name, error=str(error))) from error
    elif zipfile.is_zipfile(path):
        for name, tensor in torch.load(path, map_location="meta", mmap=True, weights_only=True).items():
            if isinstance(tensor, torch.Tensor):
                plain = tensor.is_floating_point() and tensor.element_size() > 1
                yield name, "F32" if plain else str(tensor.dtype).removeprefix("torch.")


def check_report(model: nn.Module, report: dict[str, Any], place: str, kind: str) -> None:
    """An error for what transformers reports to have left out or filled with random numbers, by the name of a weight.

    What belongs to layers that the model does not have, such as another head, does no harm.
    """
    layers = {name for name, part in model.named_modules() if not [*part.children()] and [*part.parameters()]}
    unread = [key for key in sorted(report["unexpected_keys"]) if ADAPTER.search(key) or _in_layer(model, layers, key)]
    if unread:
        adapter = next(filter(ADAPTER.search, unread), None)
        key = "error.weights_with_adapter" if adapter else "error.weights_unread"
        raise ModelError(say(key, model=place, weight=adapter or unread[0]))
    if report["mismatched_keys"]:
        weight, stored, expected = min(report["mismatched_keys"])
        raise ModelError(say("error.weights_of_another_size", model=place, weight=weight, stored=_shape(stored),
                             expected=_shape(expected)))
    if report["missing_keys"]:
        raise ModelError(say("error.weights_missing", model=place, kind=kind, weight=min(report["missing_keys"])))


def _in_layer(model: nn.Module, layers: set[str], key: str) -> bool:
    """Whether a key of a file names a part of one of the model's innermost layers: a scale, a bias, an adapter."""
    if NOT_LEARNED.search(key):
        return False
    for name in (key, f"{getattr(model, 'base_model_prefix', '')}.{key}"):
        parts = name.split(".")
        if any(".".join(parts[:length]) in layers for length in range(1, len(parts))):
            return True
    return False


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape)) or "1"


def check_tokenizer(model: nn.Module, tokenizer: Any, folder: str, place: str) -> None:
    """An error for a tokenizer without its vocabulary: transformers makes an empty one where files are missing."""
    if getattr(tokenizer, "vocab_files_names", None) and not _vocabularies(folder):
        raise ModelError(say("error.tokenizer_missing", model=place))
    size = vocabulary(model)
    if size is not None and len(tokenizer) < FEW_TOKENS * size:
        raise ModelError(say("error.tokenizer_without_vocabulary", model=place, known=str(len(tokenizer)),
                             size=str(size)))


def _vocabularies(folder: str) -> list[str]:
    return [file for file in presets.present(folder) if presets.TOKENIZERS.fullmatch(file)]


def why_no_tokenizer(folder: str, place: str, error: Exception) -> str:
    """What keeps a tokenizer from being read: a file that is missing, a package, or what the error says."""
    files = _vocabularies(folder)
    if not files:
        return say("error.tokenizer_missing", model=place)
    for file in [] if "tokenizer.json" in files else files:
        if file.endswith((".model", ".spm")):
            # SentencePiece's format begins with the mark of its first field; the other is a list of tokens in base64.
            binary = _begins(os.path.join(folder, file), b"\n")
            if absent := _absent(["sentencepiece", "protobuf"] if binary else ["tiktoken"]):
                return say("error.tokenizer_needs_package", model=place, file=file, package=" ".join(absent))
    return say("error.tokenizer_unreadable", model=place, error=in_one_line(error))


def _absent(packages: list[str]) -> list[str]:
    return [package for package in packages if not [*importlib.metadata.distributions(name=package)]]


def why_not_converted(warnings: list[str]) -> dict[str, str] | None:
    """Of a report in which transformers could not put weights together: the weight's name, and the reason."""
    for report in warnings:
        weight = re.search(r"^(\S+)\s*\| CONVERSION", report, re.MULTILINE)
        reason = re.search(r"^\w*(?:Error|Exception): (.+)$", report, re.MULTILINE)
        if weight:
            return {"weight": weight[1], "error": reason[1].rstrip(".") if reason else "?"}
    return None


def doubts(warnings: list[str], tokenizer: Any, place: str) -> tuple[str, ...]:
    """Notes of what transformers said about results that may be wrong, where nothing here has made an error of it."""
    pre_tokenizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "pre_tokenizer", None)
    splits = "Split" in str(pre_tokenizer)  # where no pattern splits texts, a warning of a wrong one is of no account
    lines = [
        warning.strip().splitlines()[0] for warning in dict.fromkeys(warnings)
        if DOUBTS.search(warning) and not HARMLESS.search(warning) and (splits or "regex pattern" not in warning)
    ]
    return tuple(say("note.library_doubts", model=place, warning=line) for line in lines)


def in_one_line(error: Exception) -> str:
    """What an error says in its first line, with the second where the first announces it; its type where it is bare."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or isinstance(error, KeyError):
        return f"{type(error).__name__} {error}".strip()
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])
