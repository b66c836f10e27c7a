"""`FileNames`: a visitor names a file by its place in the upload folder, as `HASH/NAME`, and in no other way.

Gradio would tell visitors the absolute paths of their files on the server, and take any path from them, or the address
of another server, which it would download. With this layer a name leads from the upload folder downwards, or nowhere.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gradio.utils import get_upload_folder
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bon.errors import InputError
from bon.messages import say
from bon.ui.hosting.layers.asgi import API, path_of, refusal, send_changed
from bon.ui.hosting.rate_limit import visitor_id
from bon.ui.hosting.uploads import Uploads, use

#: The beginnings of the routes that serve files; the second one is older.
FILE_ROUTES = (f"{API}/file=", f"{API}/file/")
#: The folder of the outputs of batches.
OUTPUTS = "bon-outputs"
#: A file in a folder; the name of one that a visitor uploaded, and of one that is served.
FILE = r"(?!\.\.?$)[^/\\]+"
UPLOADED = re.compile(rf"[0-9a-f]{{64}}/{FILE}")
SERVED = re.compile(rf"{UPLOADED.pattern}|{OUTPUTS}/[\w-]+/{FILE}")


class FileNames:
    """ASGI layer around the routes that serve and take files. uploads: gets the files that visitors send."""

    def __init__(self, app: ASGIApp, uploads: Uploads):
        self._app, self._uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope) if scope["type"] == "http" else ""
        if route := next(filter(path.startswith, FILE_ROUTES), None):
            name = path.removeprefix(route)
            if not (SERVED.fullmatch(name) and is_in_upload_folder(name)):  # Gradio's refusal would tell the path
                return await refusal(403, say("error.file_address"))(scope, receive, send)
            prefix = scope["path"].removesuffix(path)
            scope = {**scope, "path": f"{prefix}{FILE_ROUTES[0]}{absolute_path(name)}"}
        elif path.startswith(f"{API}/upload") and scope["method"] == "POST":
            send = self._send_names(send, visitor_id(Request(scope)))
        await self._app(scope, receive, send)

    def _send_names(self, send: Send, visitor: str) -> Send:
        """A `send` for the answer to an upload, which puts names in place of the paths."""

        def change(start: Message, body: bytes) -> tuple[Message, bytes]:
            if start["status"] != 200:
                return start, body
            paths = json.loads(body)
            for path in paths:
                self._uploads.add(visitor, Path(path))
            return start, json.dumps([name_of(path) for path in paths]).encode()

        return send_changed(send, change)


def absolute_path(name: str) -> str:
    """The path of the file that a visitor calls so."""
    return str(Path(get_upload_folder()) / name)


def is_in_upload_folder(name: str) -> bool:
    """Whether a visitor's name is that of a file, which is there itself and not by a link to another folder."""
    try:
        file = Path(absolute_path(name)).resolve()
        return file.is_file() and file.is_relative_to(Path(get_upload_folder()).resolve())
    except (OSError, ValueError):  # a name that no file can have
        return False


def name_of(path: str | Path) -> str:
    """A visitor's name for the file at this path."""
    return Path(path).relative_to(get_upload_folder()).as_posix()


def resolve_names(value: Any, arguments: Sequence[Any]) -> bool:
    """Puts absolute paths in place of the names of all files in a value of plain JSON types; whether there were any.

    arguments: those of its values that are for fields of files. Raises `InputError` for a file by any other name, with
    an address other than its own, or elsewhere, from where its path could come back in an answer.
    """
    waiting, found_files = [value], False
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            waiting += item.values()
            if "path" in item and "meta" in item:  # Gradio takes it for a file
                if not any(item is argument for argument in arguments):
                    raise InputError("file", say("error.file_address"))
                _resolve_name(item)
                found_files = True
    return found_files


def _resolve_name(file: dict[str, Any]) -> None:
    name, address = file["path"], file.get("url")
    is_own = address is None or (isinstance(address, str) and unquote(address).endswith(f"{FILE_ROUTES[0]}{name}"))
    if not (isinstance(name, str) and UPLOADED.fullmatch(name) and isinstance(file["meta"], dict) and is_own):
        raise InputError("file", say("error.file_address"))
    file.update(path=absolute_path(name), url=None)
    use(file["path"])
