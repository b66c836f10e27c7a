"""Whether memory has room for a model, and sizes in bytes as text."""

import functools
import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from bon.errors import ModelError
from bon.messages import Message, say
from bon.models.files.gguf_header import read_header
from bon.models.files.gguf_names import gguf_path, is_gguf

#: The files in which Linux says how much memory a container may use and how much it does, and of what.
CGROUP = Path("/sys/fs/cgroup")


def memory_of(place: str) -> int:
    """About how many bytes of memory loading the GGUF file of a place takes; 0 for other places, and where it is not
    here.
    """
    path = gguf_path(place) if is_gguf(place) else None
    return _memory_of(path) if path else 0


@functools.lru_cache(maxsize=32)
def _memory_of(path: str) -> int:
    with suppress(ModelError):
        return read_header(path, path).loading_bytes
    return 0


def size_line(model: str, place: str) -> Message | None:
    """The size of a GGUF file, and the memory that loading it takes, in a sentence; None for other places. model: its
    name.
    """
    needed = memory_of(place)
    if not needed:
        return None
    size = format_bytes(os.path.getsize(gguf_path(place) or place))
    return say("loading.size", model=model, size=size, memory=format_bytes(needed))


def check_room(needed: int, place: str) -> None:
    """Raises `ModelError` where loading a model, which takes so many bytes, needs more memory than is free."""
    free = free_bytes()
    if free is not None and needed > free:
        raise ModelError(say("error.gguf_too_large", model=place, needed=format_bytes(needed), free=format_bytes(free)))


def free_bytes(cgroup: Path = CGROUP) -> int | None:
    """The bytes that this process may still use: of the machine and, in a container, of its share; None: not known."""
    if not find_spec("psutil"):
        return None
    import psutil

    free = psutil.virtual_memory().available
    with suppress(OSError, ValueError, KeyError):  # ValueError: the limit is "max"
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        # Files that were read count as used, until the memory is wanted.
        free = min(free, limit - used + int(statistics["inactive_file"]))
    return max(0, free)


def format_bytes(size: int) -> str:
    """A size as `98 MB`, `0.5 GB` or `28 GB`."""
    if size < 1e8:
        return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    return f"{size / 1e9:.1f} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"
