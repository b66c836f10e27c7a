"""Names of models: the presets, and where files that travel with bon lie. Nothing is loaded here."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from bon.errors import InputError, ModelError


@dataclass(frozen=True, slots=True)
class Spec:
    """What a name stands for: generator and scorer as folder or Hub id, with a line for people."""

    name: str
    model: str
    scorer: str | None
    summary: str


def assets() -> Path:
    """The folder of models, scripts and styles: beside the package in a checkout, inside it in a wheel."""
    inside = Path(__file__).parent / "assets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "assets"


def presets() -> list[Spec]:
    """The models that have a short name."""
    own = assets() / "models"
    return [
        Spec(
            "embedded", str(own / "reviews"), str(own / "sentiment"),
            "a small model in the box that writes short English reviews, whatever is asked; needs no network",
        ),
        Spec(
            "gpt2-imdb", "lvwerra/gpt2-imdb", "lvwerra/distilbert-imdb",
            "GPT-2 tuned on film reviews, the classic of the best-of-N notebook; 0.8 GB from the Hub",
        ),
    ]


def find(name: str, scorer: str | None = None) -> Spec:
    """The specification of a preset, a folder or a Hub id, with `scorer` in place of its own where given.

    A preset's name as `scorer` means the preset's scorer. A model without a preset needs a scorer: without one,
    candidates are ranked by their mean log-probability. Raises `ModelError` for a folder without a model.
    """
    by_name = {spec.name: spec for spec in presets()}
    spec = by_name.get(name) or Spec(name, checked_place(name), None, "")
    wanted = by_name[scorer].scorer if scorer in by_name else scorer or spec.scorer or "logprob"
    return Spec(spec.name, spec.model, wanted if wanted == "logprob" else checked_place(wanted), spec.summary)


def checked_place(name: str) -> str:
    """`name` where it can be a folder with a model or a Hub id; else an error that says what is wrong."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"The folder {name} holds no model: there is no config.json in it.")
        return str(folder)
    if name.startswith((".", "/", "~", "\\")) or "\\" in name or folder.is_file():
        raise ModelError(f"There is no folder {name}. Give a folder that holds a model, a Hub id or a preset.")
    if not _like_hub_id(name):
        raise InputError("model", f"{name!r} is neither a preset ({_names()}) nor a folder nor a Hub id.")
    return name


def _like_hub_id(name: str) -> bool:
    allowed = set("-_.") | set("/")
    return name.count("/") <= 1 and all(c.isascii() and (c.isalnum() or c in allowed) for c in name) and all(
        part and not part.startswith((".", "-")) and not part.endswith((".", "-")) for part in name.split("/")
    )


def _names() -> str:
    return ", ".join(spec.name for spec in presets())


def state(place: str) -> str:
    """What of a model is on this machine: `here`, `partly here` or `not here`."""
    folder = Path(place) if Path(place).is_absolute() or Path(place).is_dir() else _snapshot(place)
    if folder is None or not (folder / "config.json").is_file():
        return "not here"
    return "here" if _weights_complete(folder) else "partly here"


def _snapshot(hub_id: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, "config.json")
    return Path(config).parent if isinstance(config, str) else None


def _weights_complete(folder: Path) -> bool:
    for index in folder.glob("*.index.json"):
        return all((folder / file).exists() for file in json.loads(index.read_text())["weight_map"].values())
    return any(file.stat().st_size > 0 for kind in ("*.safetensors", "*.bin") for file in folder.glob(kind))


def hub_is_off() -> bool:
    """Whether the environment says that the Hub must not be asked."""
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}
               for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
