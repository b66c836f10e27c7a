"""Names of GGUF files: paths, and `USER/REPO:FILE.gguf` for files on the Hub."""

import os
from importlib.util import find_spec
from pathlib import Path

from bon.messages import Message, say

#: How many files an error lists at most.
LISTED = 12


def is_gguf(name: str) -> bool:
    """Whether a name is that of a GGUF file."""
    return name.lower().endswith(".gguf")


def hub_file(place: str) -> tuple[str, str]:
    """The repository and the file of `USER/REPO:FILE.gguf`; of any other place, the place and an empty text.

    `C:\\FILE.gguf` and `C:FILE.gguf` are paths.
    """
    repository, _, file = place.partition(":")
    names_file = len(repository) > 1 and is_gguf(file) and "\\" not in file
    names_file &= all(part not in ("", ".", "..") for part in file.split("/"))
    return (repository, file) if names_file else (place, "")


def unnamed_file(place: str, files: list[str]) -> Message | None:
    """The error for a place without a GGUF file's name where a model's weights are GGUF files alone, which it lists;
    None where there is none.
    """
    gguf_files = sorted(filter(is_gguf, files))
    if not gguf_files:
        return None
    listed = ", ".join(gguf_files[:LISTED]) + (", ..." if len(gguf_files) > LISTED else "")
    example = os.path.join(place, gguf_files[0]) if os.path.isdir(place) else f"{place}:{gguf_files[0]}"
    return say("error.only_gguf", model=place, files=listed, example=example)


def gguf_path(place: str) -> str | None:
    """The path of the GGUF file that a place names, in the Hub's cache if it is on the Hub; None where it is not here.
    """
    from huggingface_hub import try_to_load_from_cache

    repository, file = hub_file(place)
    path = try_to_load_from_cache(repository, file) if file else place
    return path if isinstance(path, str) and os.path.isfile(path) else None


def packaged_file(package: str) -> str | None:
    """The path of the GGUF file that an installed package brings; None where it is not installed or has none."""
    spec = find_spec(package.replace("-", "_"))
    folders = spec.submodule_search_locations if spec else None
    return next((str(file) for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)
