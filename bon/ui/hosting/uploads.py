"""`Uploads`: the files that visitors upload, each until an hour after its last use."""

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock

from gradio.utils import get_upload_folder

#: How long an upload stays after its last use, in seconds.
KEPT_SECONDS = 3600
#: The name of a folder of one upload, by its contents' hash.
HASH = re.compile(r"[0-9a-f]{64}")


class Uploads:
    """Who uploaded which files, and when files go.

    Equal files of several visitors are one file on the disk, which goes with the last of them. What is known of
    visitors is in memory alone; a file's last use is the time of its last change on the disk, so that a server that
    was killed leaves nothing for good. most_bytes: of the uploads of one visitor.
    """

    def __init__(self, most_bytes: float):
        self._most_bytes, self._lock, self._paths_by_visitor = most_bytes, Lock(), dict[str, list[Path]]()

    def add(self, visitor: str, path: Path) -> None:
        """Takes a file that a visitor has uploaded. The visitor's oldest ones go where all together are too large."""
        with self._lock:
            paths = self._paths_by_visitor.setdefault(visitor, [])
            paths[:] = [other for other in paths if other != path and other.exists()] + [path]
            use(path)
            while len(paths) > 1 and sum(map(_size, paths)) > self._most_bytes:
                self._release(visitor, paths[0])

    def release(self, visitor: str, path: Path) -> None:
        """Deletes a file that a visitor needs no longer, unless another one has uploaded the same."""
        with self._lock:
            self._release(visitor, path)

    def sweep(self) -> None:
        """Deletes all uploads, also those of earlier servers, that were last used an hour ago or longer."""
        with self._lock:
            for folder in Path(get_upload_folder()).glob("*"):
                if HASH.fullmatch(folder.name):
                    for path in folder.glob("*"):
                        with suppress(OSError):
                            if time.time() - path.stat().st_mtime >= KEPT_SECONDS:
                                _delete(path)
            for visitor, paths in list(self._paths_by_visitor.items()):
                paths[:] = [path for path in paths if path.exists()]
                if not paths:
                    del self._paths_by_visitor[visitor]

    def _release(self, visitor: str, path: Path) -> None:
        paths = self._paths_by_visitor.get(visitor, [])
        if path in paths:
            paths.remove(path)
            if not any(path in others for others in self._paths_by_visitor.values()):
                _delete(path)


def use(path: str | Path) -> None:
    """Marks a file as used now; one that is gone stays gone."""
    with suppress(OSError):
        os.utime(path)


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _delete(path: Path) -> None:
    """Deletes an upload and the folder that it leaves empty."""
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()
