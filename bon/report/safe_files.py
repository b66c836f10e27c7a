"""Files that are written whole or not at all, and a check, before the work, that they can be written."""

import os
from collections.abc import Callable
from pathlib import Path


def resolved(path: Path) -> Path:
    """The file that is written under this name: of a symbolic link the one that it leads to."""
    return Path(os.path.realpath(path))


def scratch_path(path: Path) -> Path:
    """Where a file is written before it is renamed to `path`: in the same folder, where renaming is atomic."""
    file = resolved(path)
    return file.with_name(file.name + ".writing")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Has `write` make a scratch file, then renames it to `path`; a symbolic link stays one. Raises `OSError`."""
    scratch = scratch_path(path)
    try:
        write(scratch)
        with open(scratch, "rb+") as file:
            os.fsync(file)
        os.replace(scratch, resolved(path))
    finally:
        scratch.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raises `OSError` where no file of this name can be opened for writing; an existing file stays as it is."""
    new = not path.exists()
    if new or path.is_file():  # opening a pipe may block until somebody reads it
        with open(path, "ab"):
            pass
    if new:
        resolved(path).unlink(missing_ok=True)
