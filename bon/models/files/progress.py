"""How far downloads from the Hub are, for those who wait for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from huggingface_hub.utils import tqdm

#: The downloads under way, by place.
_DOWNLOADS: dict[str, "Download"] = {}


@dataclass(slots=True)
class Download:
    """A download under way: the bytes that are here, and all of them; 0 where their number is not known."""

    done: int = 0
    total: int = 0


def download_of(place: str) -> Download | None:
    """The download of a place; None where none is under way."""
    return _DOWNLOADS.get(place)


@contextmanager
def counted(place: str, total: int) -> Iterator[type[tqdm]]:
    """A context in which the download of a place is known. Gives the class of progress bars that counts its bytes."""
    download = _DOWNLOADS[place] = Download(total=total)

    class Bar(tqdm):
        """The Hub's own bar, which shows itself on a terminal alone."""

        def __init__(self, *args: Any, **options: Any):
            self._bytes = 0 if options.get("unit") == "B" else None
            super().__init__(*args, **options)

        def update(self, n: float | None = 1) -> bool | None:
            """Counts bytes. There is a bar for those that were received and one for those that were written."""
            if self._bytes is not None:
                self._bytes += int(n or 0)
                download.done = max(download.done, self._bytes)
            return super().update(n)

    try:
        yield Bar
    finally:
        _DOWNLOADS.pop(place, None)
