"""Checks that transformers reads all of a model's files: where it would go on with wrong numbers or a wrong vocabulary,
a `ModelError` says why.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import re
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from bon.errors import ModelError
from bon.messages import say
from bon.models import presets
from bon.models.files import adapters
from bon.models.limits import vocabulary

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

#: How a Git LFS pointer begins: the text that a repository holds in place of a large file.
POINTER = b"version https://git-lfs.github.com/spec/"
#: Number types, as safetensors calls them, of weights that are not quantised.
PLAIN = {"F64", "F32", "F16", "BF16"}
#: Parts of the names of weights that belong to an adapter.
ADAPTER = re.compile(r"(^|[._])(lora|adapters?|adaption|ia3|prompt_encoder|prompt_embeddings|base_layer)([._]|$)")
#: Tensors that models compute themselves, and the scales of a KV cache in a number type that bon does not use.
NOT_LEARNED = re.compile(r"(position_ids|inv_freq|masked_bias|_extra_state|\b(k|v|kv)_scale)$")
#: A tokenizer with fewer than this share of the model's tokens was loaded without its vocabulary.
FEW_TOKENS = 0.1
#: Warnings of transformers that results may be wrong, and those of them that are harmless here: loading checks the keys
#: itself, and no text depends on the special tokens that a config gets wrong.
DOUBTS = re.compile(r"incorrect|(unexpected|undefined) behavio|must (be|have)|does not match|corrupt", re.IGNORECASE)
HARMLESS = re.compile(r"LOAD REPORT|^Model config: |seem corrupted")


def check_files(folder: str, place: str) -> None:
    """Raises `ModelError` for a folder without weights or without some of them, with an adapter beside them, or with a
    Git LFS pointer in a file.
    """
    files = presets.present(folder)
    if not presets.weights(files):
        raise ModelError(presets.other_format(place, files) or say("error.folder_without_weights", folder=place))
    if adapters.CONFIG in files:  # transformers would load both, or the adapter's own base
        raise ModelError(say("error.adapter_beside_weights", model=place))
    for file in presets.needed(files):
        check_no_pointer(os.path.join(folder, file), place)
    if missing := presets.missing_weights(folder):
        raise ModelError(say("error.weights_incomplete", model=place, file=missing))


def check_no_pointer(path: str, place: str) -> None:
    """Raises `ModelError` for a file whose content Git LFS has not fetched."""
    if _begins(path, POINTER):
        raise ModelError(say("error.file_is_pointer", model=place, file=os.path.basename(path)))


def _begins(file: str, start: bytes) -> bool:
    with open(file, "rb") as opened:
        return opened.read(len(start)) == start


def check_quantization(folder: str, config: PreTrainedConfig, place: str) -> str | None:
    """The method by which the weights are quantised, or None. Raises `ModelError` where transformers has no such one.

    A method that can do so is told to dequantise the weights: bon has number types of its own.
    """
    quantization = _quantization(config)
    if quantization is None:
        if stored := next(_packed(folder, place), None):
            raise ModelError(say("error.weights_packed", model=place, weight=stored[0], type=stored[1]))
        return None
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    method = _method(quantization)
    if method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise ModelError(say("error.quantization_unknown", model=place, method=method))
    if "dequantize" in inspect.signature(AUTO_QUANTIZATION_CONFIG_MAPPING[method]).parameters:
        quantization["dequantize"] = True
    return method


def _quantization(config: PreTrainedConfig) -> dict[str, Any] | None:
    for part in (config, config.get_text_config()):
        if (quantization := getattr(part, "quantization_config", None)) is not None:
            return quantization
    return None


def _method(quantization: dict[str, Any]) -> str:
    """The name of a quantization method in transformers; the whole configuration where it has none."""
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


def check_report(model: PreTrainedModel, report: dict[str, Any], place: str, kind: str) -> None:
    """Raises `ModelError` for weights that transformers reports as left out or filled with random numbers.

    Weights of layers that the model does not have, such as another head, do no harm.
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


def _in_layer(model: PreTrainedModel, layers: set[str], key: str) -> bool:
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


def check_vocabulary_files(tokenizer: PreTrainedTokenizerBase, folder: str, place: str) -> None:
    """Raises `ModelError` where the files of the vocabulary are missing: transformers makes an empty one then."""
    if getattr(tokenizer, "vocab_files_names", None) and not _vocabularies(folder):
        raise ModelError(say("error.tokenizer_missing", model=place))


def check_vocabulary_size(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, place: str) -> None:
    """Raises `ModelError` for a tokenizer that knows hardly any of the model's tokens."""
    size = vocabulary(model)
    if size is not None and len(tokenizer) < FEW_TOKENS * size:
        raise ModelError(say("error.tokenizer_without_vocabulary", model=place, known=str(len(tokenizer)),
                             size=str(size)))


def _vocabularies(folder: str) -> list[str]:
    return [file for file in presets.present(folder) if presets.TOKENIZERS.fullmatch(file)]


def why_no_tokenizer(folder: str, place: str, error: Exception) -> str:
    """Why a tokenizer cannot be loaded: a missing file, a missing package, or the text of the error."""
    files = _vocabularies(folder)
    if not files:
        return say("error.tokenizer_missing", model=place)
    for file in [] if "tokenizer.json" in files else files:
        if file.endswith((".model", ".spm")):
            # SentencePiece's format begins with the mark of its first field; the other is a list of tokens in base64.
            binary = _begins(os.path.join(folder, file), b"\n")
            if missing := not_installed(["sentencepiece", "protobuf"] if binary else ["tiktoken"]):
                return say("error.tokenizer_needs_package", model=place, file=file, package=" ".join(missing))
    return say("error.tokenizer_unreadable", model=place, error=in_one_line(error))


def not_installed(packages: list[str]) -> list[str]:
    """Those of the packages that are not installed."""
    return [package for package in packages if not [*importlib.metadata.distributions(name=package)]]


def why_not_converted(warnings: list[str]) -> dict[str, str] | None:
    """The weight that transformers' loading report says could not be converted, and the reason; None: there is none."""
    for report in warnings:
        weight = re.search(r"^(\S+)\s*\| CONVERSION", report, re.MULTILINE)
        reason = re.search(r"^\w*(?:Error|Exception): (.+)$", report, re.MULTILINE)
        if weight:
            return {"weight": weight[1], "error": reason[1].rstrip(".") if reason else "?"}
    return None


def doubts(warnings: list[str], tokenizer: PreTrainedTokenizerBase, place: str) -> tuple[str, ...]:
    """Notes with transformers' warnings that results may be wrong, of which no check here has made an error."""
    pre_tokenizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "pre_tokenizer", None)
    splits = "Split" in str(pre_tokenizer)  # where no pattern splits texts, a warning of a wrong pattern is harmless
    lines = [
        warning.strip().splitlines()[0] for warning in dict.fromkeys(warnings)
        if DOUBTS.search(warning) and not HARMLESS.search(warning) and (splits or "regex pattern" not in warning)
    ]
    return tuple(say("note.library_doubts", model=place, warning=line) for line in lines)


def in_one_line(error: Exception) -> str:
    """An error's first line, with the second where the first ends in a colon; with its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or isinstance(error, KeyError):
        return f"{type(error).__name__} {error}".strip()
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])
