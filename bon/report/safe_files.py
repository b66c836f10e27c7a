"""Files that are written whole or not at all, and the question, asked before the work, whether they can be written."""

import os
from collections.abc import Callable
from pathlib import Path


def target(place: Path) -> Path:
    """The file that is written under this name: of a symbolic link what it leads to."""
    return Path(os.path.realpath(place))


def scratch(place: Path) -> Path:
    """Where a file is written before it is put in its place: beside it, since only there it is put in one go."""
    file = target(place)
    return file.with_name(file.name + ".writing")


def put(place: Path, write: Callable[[Path], None]) -> None:
    """Writes a file beside its place and puts it there in one go; a symbolic link stays one. Raises `OSError`."""
    begun = scratch(place)
    try:
        write(begun)
        with open(begun, "rb+") as file:
            os.fsync(file)
        os.replace(begun, target(place))
    finally:
        begun.unlink(missing_ok=True)


def check_opens(place: Path) -> None:
    """Raises `OSError` where no file of this name can be opened for writing. What is there stays as it is."""
    new = not place.exists()
    if new or place.is_file():  # to open a pipe may take until somebody reads it
        with open(place, "ab"):
            pass
    if new:
        target(place).unlink(missing_ok=True)
