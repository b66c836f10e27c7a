"""The presets, and what a model's name stands for: a folder or a Hub id, with its scorer. Nothing is loaded here."""

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from bon.assets_folder import assets_folder
from bon.errors import InputError, ModelError
from bon.messages import say

#: The files that hold weights, in the order in which they are preferred, and the index that lists them when many.
WEIGHTS = (
    (re.compile(r"model(-\d+-of-\d+)?\.safetensors"), "model.safetensors.index.json"),
    (re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin"), "pytorch_model.bin.index.json"),
)
#: What the config of a bag of n-grams calls its kind (`bon.scorers.ngrams`).
NGRAMS = "ngrams"
#: Kinds of models whose tokenizers, of words or of characters, have no vocabulary in a file.
WITHOUT_VOCABULARY = (NGRAMS, "canine", "perceiver")
#: A tokenizer is any of these.
TOKENIZERS = re.compile(
    r"tokenizer\.json|tekken\.json|(entity_|target_)?vocab(-src|-tgt)?\.json|(vocab|dict)\.txt"
    r"|.+\.(model|spm|codes|tiktoken|tokenizer)"
)
#: What the small files end in that loading reads.
SMALL = (".json", ".txt", ".jinja", ".model", ".spm", ".codes", ".tiktoken", ".tokenizer")

#: Names of scorers that need no model of their own.
FREE = ("logprob", "self-certainty")


@dataclass(frozen=True, slots=True)
class Spec:
    """What a name stands for: generator and scorer as folder or Hub id, with a line for people.

    tuned: the generator's counterpart that was tuned for the scorer's taste. judge: a second scorer of another kind,
    which only watches. Both to compare with; None where there is none.
    """

    name: str
    model: str
    scorer: str | None
    summary: str
    tuned: str | None = None
    judge: str | None = None


def presets() -> list[Spec]:
    """The models that have a short name."""
    own = assets_folder() / "models"
    return [
        Spec(
            "embedded", str(own / "reviews"), str(own / "sentiment"),
            "a small model in the box that writes short English reviews, whatever is asked; needs no network",
            str(own / "reviews-positive"), str(own / "judge"),
        ),
        Spec(
            "gpt2-imdb", "lvwerra/gpt2-imdb", "lvwerra/distilbert-imdb",
            "GPT-2 tuned on film reviews, the classic of the best-of-N notebook; 0.8 GB from the Hub",
            "lvwerra/gpt2-imdb-pos-v2",
        ),
    ]


def names() -> str:
    """The presets' names, for a sentence."""
    return ", ".join(spec.name for spec in presets())


def find(name: str, scorer: str | None = None) -> Spec:
    """The specification of a preset, a folder or a Hub id, with `scorer` in place of its own where given.

    A preset's name as `scorer` means the preset's scorer, `judge` the preset's judge, `weak` the scorer in the box that
    is easily fooled. A model without a preset needs a scorer: without one, candidates are ranked by their mean
    log-probability. Raises `ModelError` for a folder without a model, `InputError` for a name that can be neither.
    """
    spec = {spec.name: spec for spec in presets()}.get(name) or Spec(name, checked_place(name), None, "")
    parts = weighted(scorer or "")
    place = scorer if parts else scorer_place(scorer or spec.scorer or "logprob", spec)
    for _, part in parts:
        scorer_place(part, spec)
    return replace(spec, scorer=place)


def scorer_place(scorer: str, spec: Spec | None = None) -> str:
    """Where a scorer's files are: its folder or Hub id, or one of `FREE` as it is."""
    by_name = {preset.name: preset.scorer for preset in presets()} | {
        "judge": (spec or presets()[0]).judge, "weak": str(assets_folder() / "models" / "weak"),
    }
    wanted = by_name.get(scorer) or scorer
    return wanted if wanted in FREE else checked_place(wanted, "scorer")


def weighted(scorer: str) -> list[tuple[float, str]]:
    """The weights and names of a sum such as `0.7*embedded+0.3*logprob`; none where the name is no such sum."""
    if "*" not in scorer or os.path.isdir(scorer):
        return []
    parts = [re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*\*\s*(\S.*?)\s*", part) for part in scorer.split("+")]
    if not all(parts):
        raise InputError("scorer", say("error.not_a_sum_of_scorers", value=repr(_short(scorer))))
    return [(float(part[1]), part[2]) for part in parts]


def checked_place(name: str, field: str = "model") -> str:
    """A folder's full path or a Hub id, where `name` can be one; else an error that says what is wrong."""
    # os.path answers False where pathlib raises: names too long, with NUL, behind closed doors.
    folder = os.path.expanduser(name)
    if os.path.isdir(folder):
        if not os.path.isfile(os.path.join(folder, "config.json")):
            files = present(folder)
            raise ModelError(other_format(name, files) or say("error.folder_without_model", folder=name))
        return os.path.abspath(folder)
    if name.startswith((".", "/", "~", "\\")) or "\\" in name or os.path.isfile(folder):
        raise ModelError(say("error.no_such_folder", folder=_short(name)))
    if not _like_hub_id(name):
        raise InputError(field, say("error.not_a_model_name", value=repr(_short(name)), names=names()))
    return name


def _short(name: str) -> str:
    return name if len(name) <= 200 else name[:200] + "..."


def _like_hub_id(name: str) -> bool:
    parts = name.split("/")
    well_formed = all(re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?", part) for part in parts)
    return well_formed and len(parts) <= 2 and len(name) <= 96 and "--" not in name and ".." not in name


def state(place: str) -> str:
    """What of a model is on this machine: `here`, `partly here` or `not here`."""
    folder = Path(place) if os.path.isabs(place) or os.path.isdir(place) else snapshot(place)
    if folder is None or not (folder / "config.json").is_file():
        return "not here"
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    files = present(str(folder))
    tokenized = kind in WITHOUT_VOCABULARY or any(map(TOKENIZERS.fullmatch, files))
    complete = weights(files) and missing_weights(str(folder)) is None and tokenized
    return "here" if complete else "partly here"


def snapshot(hub_id: str) -> Path | None:
    """The folder of the Hub's cache with the latest files of a model that came to this machine, or None."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, "config.json")
    return Path(config).parent if isinstance(config, str) else None


def present(folder: str) -> list[str]:
    """The names of the files in a folder; links to nothing and empty files are left out."""
    paths = {name: os.path.join(folder, name) for name in sorted(os.listdir(folder))}
    return [name for name, path in paths.items() if os.path.isfile(path) and os.path.getsize(path)]


def weights(files: list[str]) -> list[str]:
    """Of a model's files those that hold its weights: safetensors where there are any."""
    return next(filter(None, ([file for file in files if form.fullmatch(file)] for form, _ in WEIGHTS)), [])


def missing_weights(folder: str) -> str | None:
    """A file that the weights' index lists and the folder lacks, or the index itself; None where all are there."""
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
    """Of the files of a model on the Hub or in a folder those that loading reads; none where there are no weights."""
    if not weights(files):
        return []
    form = next(form for form, _ in WEIGHTS if form.fullmatch(weights(files)[0]))
    other_indexes = {index for other, index in WEIGHTS if other is not form}
    return weights(files) + [file for file in files if _is_small(file) and file not in other_indexes]


def _is_small(file: str) -> bool:
    top = "/" not in file or file.startswith("additional_chat_templates/")
    return top and file.endswith(SMALL)


def other_format(place: str, files: list[str]) -> str | None:
    """What to say of a model with these files, on the Hub or in a folder, that holds something else than weights."""
    if "adapter_config.json" in files:
        return say("error.only_adapter", model=place)
    return say("error.only_gguf", model=place) if any(file.endswith(".gguf") for file in files) else None


def hub_is_off() -> bool:
    """Whether the environment says that the Hub must not be asked."""
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}
               for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
