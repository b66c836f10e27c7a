"""What Gradio must not do with visitors' requests, whatever route it takes them by: `guard_gradio`.

It downloads no address, and an upload is one file, which leaves nothing on the disk unless it arrives whole. The
server takes no address from headers and bounds connections, and `senders` alone answers other websites.
"""

import contextlib
import os
from types import SimpleNamespace
from typing import Any, NoReturn

from gradio import http_server, processing_utils, route_utils, routes
from gradio.route_utils import GradioMultiPartParser
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from bon.errors import InputError
from bon.messages import say
from bon.ui.hosting.connections import server_config
from bon.ui.hosting.sessions import Sessions

#: The field in which Gradio looks for uploaded files.
FIELD = "files"


def guard_gradio() -> None:
    """Replaces Gradio's downloads, reader of uploads, CORS headers, holder of sessions, and options of its server."""
    for module, name in (
        (processing_utils, "async_ssrf_protected_get"), (processing_utils, "async_ssrf_protected_download"),
        (processing_utils, "ssrf_protected_download"), (processing_utils, "save_url_to_cache"),
        (processing_utils, "unsafe_download"), (route_utils, "secure_url_stream_response"),
        (routes, "secure_url_stream_response"),
    ):
        assert callable(getattr(module, name))
        setattr(module, name, _refuse_to_fetch)
    for module in (route_utils, routes):
        vars(module)["GradioMultiPartParser"] = OneFileParser
    vars(routes).update(CustomCORSMiddleware=_leave_out, StateHolder=Sessions)
    vars(http_server)["uvicorn"] = SimpleNamespace(Config=server_config)


def _refuse_to_fetch(*_: Any, **__: Any) -> NoReturn:
    raise InputError("file", say("error.file_address"))


def _leave_out(app: ASGIApp, **_: Any) -> ASGIApp:
    """In place of a layer: the application that would be in it."""
    return app


class OneFileParser(GradioMultiPartParser):
    """Reads an upload of one file in the field `FIELD`, and deletes what it wrote where that fails."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **{**options, "max_files": 1, "max_fields": 0})

    def on_headers_finished(self) -> None:
        """Refuses a file in another field, which nothing would read or delete."""
        super().on_headers_finished()
        if self._current_part.field_name != FIELD:
            raise HTTPException(400, say("error.upload", field=FIELD))

    async def parse(self) -> FormData:
        """The form of the request: one file, all of which has arrived."""
        try:
            form = await super().parse()
            if not form:
                raise HTTPException(400, say("error.upload", field=FIELD))
            return form
        except BaseException:
            for file in self._files_to_close_on_error:
                file.close()
                with contextlib.suppress(OSError):
                    os.unlink(file.name)
            raise
