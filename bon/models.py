"""Names of models: the presets, and where files that travel with bon lie. Nothing is loaded here."""

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from bon.errors import InputError, ModelError
from bon.messages import assets, say

#: The files that hold weights, in the order in which they are preferred, and the index that lists them when many.
WEIGHTS = (
    (re.compile(r"model(-\d+-of-\d+)?\.safetensors"), "model.safetensors.index.json"),
    (re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin"), "pytorch_model.bin.index.json"),
)
#: What the config of a bag of n-grams calls its kind (`bon.scorers.ngrams`); it needs no tokenizer.
NGRAMS = "ngrams"
#: A tokenizer is any of these.
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model",
              "sentencepiece.bpe.model")


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
    own = assets() / "models"
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
        "judge": (spec or presets()[0]).judge, "weak": str(assets() / "models" / "weak"),
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
            raise ModelError(say("error.folder_without_model", folder=name))
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
    tokenized = kind == NGRAMS or any((folder / file).is_file() for file in TOKENIZERS)
    complete = _weights_complete(folder) and tokenized
    return "here" if complete else "partly here"


def snapshot(hub_id: str) -> Path | None:
    """The folder of the Hub's cache with the latest files of a model that came to this machine, or None."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, "config.json")
    return Path(config).parent if isinstance(config, str) else None


def _weights_complete(folder: Path) -> bool:
    return any(_complete(folder, kind, folder / index) for kind, index in WEIGHTS)


def _complete(folder: Path, kind: re.Pattern[str], index: Path) -> bool:
    if not index.is_file():
        return any(kind.fullmatch(file.name) and file.is_file() and file.stat().st_size for file in folder.iterdir())
    try:
        files = set(json.loads(index.read_text())["weight_map"].values())
    except (ValueError, KeyError, AttributeError):
        return False
    return all((folder / file).is_file() for file in files)


def needed(files: list[str]) -> list[str]:
    """Of the files of a model on the Hub those that loading it reads: safetensors where there are any.

    Without weights among them the list is empty.
    """
    for kind, index in WEIGHTS:
        weights = [file for file in files if kind.fullmatch(file)]
        if weights:
            indexes = {other for _, other in WEIGHTS if other != index}
            return weights + [file for file in files if _is_small(file) and file not in indexes]
    return []


def _is_small(file: str) -> bool:
    top = "/" not in file or file.startswith("additional_chat_templates/")
    return top and file.endswith((".json", ".txt", ".model", ".jinja", ".tiktoken"))


def hub_is_off() -> bool:
    """Whether the environment says that the Hub must not be asked."""
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}
               for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
