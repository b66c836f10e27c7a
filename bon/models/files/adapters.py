"""Adapters in the format of peft: which files they have, what they change, and which of them bon reads."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from bon.errors import ModelError
from bon.messages import say

CONFIG = "adapter_config.json"
#: Files that hold an adapter's weights, the one that peft prefers first.
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
#: Names of the heads that classifiers have in place of the layer that gives a token's logits.
CLASSIFIER_HEADS = {"score", "classifier", "classification_head"}
#: Options with which a layer's output is no product of its input with merged weights, or which import other packages.
NOT_MERGEABLE = ("alora_invocation_tokens", "arrow_config", "megatron_config")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter. place: what to call it. base: what its config calls the model that it changes. revision: of the
    base on the Hub, where the config names one.
    """

    folder: str
    place: str
    base: str
    revision: str
    options: dict[str, Any]


def weights_file(files: Sequence[str]) -> str | None:
    """The one of an adapter's files that holds its weights; None where it is missing."""
    return next((name for name in WEIGHTS if name in files), None)


def weights_path(folder: str) -> str | None:
    """The path of the file with an adapter's weights; None where it is missing or empty."""
    name = weights_file([path.name for path in _files(folder) if path.stat().st_size])
    return os.path.join(folder, name) if name else None


def read_adapter(folder: str, place: str) -> Adapter:
    """The adapter in a folder. Raises `ModelError` for a config that is damaged or that names no base."""
    try:
        options = json.loads(Path(folder, CONFIG).read_text(encoding="utf-8"))
        has_type = isinstance(options["peft_type"], str)
    except (OSError, ValueError, KeyError, TypeError):
        has_type = False
    if not has_type:
        raise ModelError(say("error.adapter_config", model=place))
    base = options.get("base_model_name_or_path")
    if not (isinstance(base, str) and base):
        raise ModelError(say("error.adapter_without_base", model=place))
    return Adapter(folder, place, base, str(options.get("revision") or ""), options)


def check_adapter(adapter: Adapter) -> None:
    """Raises `ModelError` for an adapter that is no LoRA adapter of a model that writes, or that cannot be merged."""
    options, place = adapter.options, adapter.place
    if (peft_type := options["peft_type"]) != "LORA":
        raise ModelError(say("error.adapter_type", model=place, type=peft_type))
    task = options.get("task_type")
    if task == "SEQ_CLS" or CLASSIFIER_HEADS.intersection(options.get("modules_to_save") or ()):
        raise ModelError(say("error.adapter_classifier", model=place))
    if task not in (None, "CAUSAL_LM"):
        raise ModelError(say("error.adapter_task", model=place, task=str(task)))
    for option in NOT_MERGEABLE:
        if options.get(option):
            raise ModelError(say("error.adapter_option", model=place, option=option))
    if weights_path(adapter.folder) is None:
        raise ModelError(say("error.adapter_weights_missing", model=place, files=", ".join(WEIGHTS)))


def in_subfolders(folder: str) -> list[str]:
    """The configs of adapters in a folder's subfolders, as paths within the folder."""
    return sorted(f"{path.parent.name}/{CONFIG}" for path in Path(folder).glob(f"*/{CONFIG}"))


def content_digest(folder: str) -> str:
    """A text that differs for adapters whose config or weights differ."""
    digest = sha256()
    for path in _files(folder):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def version(folder: str) -> str:
    """A text that changes when an adapter's files are written anew; empty for folders without an adapter."""
    return " ".join(f"{facts.st_mtime_ns} {facts.st_size}" for facts in map(Path.stat, _files(folder)))


def _files(folder: str) -> list[Path]:
    """The config of an adapter and its weights, as far as they are in the folder."""
    return [path for path in (Path(folder, name) for name in (CONFIG, *WEIGHTS)) if path.is_file()]
