"""The presets, and what a model's name stands for: a folder or a Hub id, with its scorer. Nothing is loaded here."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bon.assets_folder import assets_folder
from bon.errors import InputError, ModelError
from bon.messages import say
from bon.settings import FLOAT_MAX

#: Files that hold weights, the preferred format first, each with the index that lists them where there are several.
WEIGHTS = (
    (re.compile(r"model(-\d+-of-\d+)?\.safetensors"), "model.safetensors.index.json"),
    (re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin"), "pytorch_model.bin.index.json"),
)
#: The model type in the config of a bag of n-grams (`bon.scorers.ngrams`).
NGRAMS = "ngrams"
#: Types of models whose tokenizers, of words or of characters, have no vocabulary in a file.
WITHOUT_VOCABULARY = (NGRAMS, "canine", "perceiver")
#: Names of files that hold a tokenizer.
TOKENIZERS = re.compile(
    r"tokenizer\.json|tekken\.json|(entity_|target_)?vocab(-src|-tgt)?\.json|(vocab|dict)\.txt"
    r"|.+\.(model|spm|codes|tiktoken|tokenizer)"
)
#: Endings of the small files that loading reads.
SMALL = (".json", ".txt", ".jinja", ".model", ".spm", ".codes", ".tiktoken", ".tokenizer")

#: The weight of a scorer in a sum.
WEIGHT = re.compile(r"-?\d+(\.\d+)?")

#: Names of scorers that need no model of their own.
FREE = ("logprob", "self-certainty")


@dataclass(frozen=True, slots=True)
class Spec:
    """What a name stands for: generator and scorer as folder or Hub id, with a line for people.

    For comparisons, None where there is none: tuned, the generator tuned for high scores; judge, a second scorer of
    another type, which never selects. settings: the values of settings that hold with this model where nobody names
    others, by the settings' names.
    """

    name: str
    model: str
    scorer: str
    summary: str
    tuned: str | None = None
    judge: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def presets() -> list[Spec]:
    """The models that have a short name."""
    models = assets_folder() / "models"
    return [
        Spec(
            "embedded", str(models / "reviews"), str(models / "sentiment"),
            "a small built-in model that writes short English reviews, whatever is asked; needs no network",
            str(models / "reviews-positive"), str(models / "judge"),
        ),
        Spec(
            "gpt2-imdb", "lvwerra/gpt2-imdb", "lvwerra/distilbert-imdb",
            "GPT-2 tuned on film reviews, the classic of the best-of-N notebook; 0.8 GB from the Hub",
            "lvwerra/gpt2-imdb-pos-v2",
        ),
        Spec(
            "smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct", "logprob",
            "SmolLM2 135M, a small chat model that answers in English",
            settings={"temperature": 0.6, "top_p": 0.9, "min_tokens": 16, "max_tokens": 96},
        ),
    ]


def names() -> str:
    """The presets' names, for a sentence."""
    return ", ".join(spec.name for spec in presets())


def find(name: str, scorer: str | None = None) -> Spec:
    """The specification of a preset, a folder or a Hub id, with `scorer` in place of its own where given.

    A preset's name as `scorer` means the preset's scorer, `judge` the preset's judge, `weak` the built-in scorer that
    is easily fooled. A model without a preset needs a scorer: without one, candidates are ranked by their mean
    log-probability. Raises `ModelError` for a folder without a model, `InputError` for a name that can be neither.
    """
    spec = {spec.name: spec for spec in presets()}.get(name) or Spec(name, checked_place(name), "logprob", "")
    parts = weighted(scorer or "")
    for part in dict.fromkeys(part for _, part in parts):
        scorer_place(part, spec)
    return replace(spec, scorer=scorer if scorer and parts else scorer_place(scorer or spec.scorer, spec))


def scorer_place(scorer: str, spec: Spec | None = None) -> str:
    """A scorer's folder or Hub id, or one of `FREE` as it is. Raises as `find`."""
    by_name = {preset.name: preset.scorer for preset in presets()} | {
        "judge": (spec or presets()[0]).judge, "weak": str(assets_folder() / "models" / "weak"),
    }
    place = by_name.get(scorer) or scorer
    return place if place in FREE else checked_place(place, "scorer")


def weighted(scorer: str) -> list[tuple[float, str]]:
    """The weights and names of a sum such as `0.7*embedded+0.3*logprob`; none where the name is no sum.

    Raises `InputError` for a sum with a term that is no number times a name, or whose number is too large.
    """
    if "*" not in scorer or os.path.isdir(scorer):
        return []
    parts = []
    for term in scorer.split("+"):
        weight, _, name = map(str.strip, term.partition("*"))
        if not (name and WEIGHT.fullmatch(weight)):
            raise InputError("scorer", say("error.not_a_sum_of_scorers", value=repr(_shortened(scorer))))
        parts.append((checked_weight(name, float(weight)), name))
    return parts


def checked_weight(name: str, weight: float) -> float:
    """The weight of a scorer in a sum. Raises `InputError` for NaN, and for one with which sums may be infinite."""
    if not abs(weight) <= FLOAT_MAX:
        raise InputError("scorer", say("error.scorer_weight", name=_shortened(name), most=f"{FLOAT_MAX:g}"))
    return weight


def checked_place(name: str, field: str = "model") -> str:
    """A folder's full path, or the Hub id that `name` is.

    Raises `ModelError` for a folder that is absent or holds no model, `InputError`, with `field`, for other names.
    """
    # os.path returns False where pathlib raises: for names too long, with NUL, in folders that cannot be read.
    folder = os.path.expanduser(name)
    if os.path.isdir(folder):
        if not os.path.isfile(os.path.join(folder, "config.json")):
            files = present(folder)
            raise ModelError(other_format(name, files) or say("error.folder_without_model", folder=name))
        return os.path.abspath(folder)
    if name.startswith((".", "/", "~", "\\")) or "\\" in name or os.path.isfile(folder):
        raise ModelError(say("error.no_such_folder", folder=_shortened(name)))
    if not _is_hub_id(name):
        raise InputError(field, say("error.not_a_model_name", value=repr(_shortened(name)), names=names()))
    return name


def _shortened(name: str) -> str:
    return name if len(name) <= 200 else name[:200] + "..."


def _is_hub_id(name: str) -> bool:
    parts = name.split("/")
    well_formed = all(re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?", part) for part in parts)
    return well_formed and len(parts) <= 2 and len(name) <= 96 and "--" not in name and ".." not in name


def state(place: str) -> str:
    """How much of a model, or of a scorer, is on this machine: `here`, `partly here` or `not here`."""
    if place in FREE:
        return "here"
    folder = Path(place) if os.path.isabs(place) or os.path.isdir(place) else snapshot(place)
    if folder is None or not (folder / "config.json").is_file():
        return "not here"
    model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    files = present(str(folder))
    tokenized = model_type in WITHOUT_VOCABULARY or any(map(TOKENIZERS.fullmatch, files))
    complete = weights(files) and missing_weights(str(folder)) is None and tokenized
    return "here" if complete else "partly here"


def snapshot(hub_id: str) -> Path | None:
    """The folder of the Hub's cache with the latest files of a model that were downloaded; None where none were."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, "config.json")
    return Path(config).parent if isinstance(config, str) else None


def present(folder: str) -> list[str]:
    """The names of the files in a folder, without broken links and empty files."""
    paths = {name: os.path.join(folder, name) for name in sorted(os.listdir(folder))}
    return [name for name, path in paths.items() if os.path.isfile(path) and os.path.getsize(path)]


def weights(files: list[str]) -> list[str]:
    """Those of a model's files that hold its weights: safetensors where there are any."""
    return next(filter(None, ([file for file in files if form.fullmatch(file)] for form, _ in WEIGHTS)), [])


def missing_weights(folder: str) -> str | None:
    """A file that the weights' index lists and the folder lacks, or the index itself; None where no file is missing."""
    files = present(folder)
    for form, index in WEIGHTS:
        if index.removesuffix(".index.json") in files:
            return None
        if index in files or any(map(form.fullmatch, files)):
            try:
                listed = set(json.loads(Path(folder, index).read_text(encoding="utf-8"))["weight_map"].values())
            except (OSError, ValueError, KeyError, AttributeError):
                return index
            return min(listed.difference(files), default=None)
    return None


def needed(files: list[str]) -> list[str]:
    """Those of a model's files, on the Hub or in a folder, that loading reads; none where there are no weights."""
    if not weights(files):
        return []
    form = next(form for form, _ in WEIGHTS if form.fullmatch(weights(files)[0]))
    other_indexes = {index for other, index in WEIGHTS if other is not form}
    return weights(files) + [file for file in files if _is_small(file) and file not in other_indexes]


def _is_small(file: str) -> bool:
    top = "/" not in file or file.startswith("additional_chat_templates/")
    return top and file.endswith(SMALL)


def other_format(place: str, files: list[str]) -> str | None:
    """The error for a model whose files are an adapter or GGUF instead of weights; None for other files."""
    if "adapter_config.json" in files:
        return say("error.only_adapter", model=place)
    return say("error.only_gguf", model=place) if any(file.endswith(".gguf") for file in files) else None


def hub_is_off() -> bool:
    """Whether the environment forbids to call the Hub."""
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}
               for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
