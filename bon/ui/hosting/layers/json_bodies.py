"""`JsonBodies`: checks a request's JSON before anything is built from it, and the listener or component that it names.

The shape of the text is checked before it is parsed: a few megabytes of brackets would become gigabytes of lists.
"""

import inspect
import json
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, TypeVar

import gradio as gr
from gradio.block_function import BlockFunction
from starlette.types import ASGIApp, Receive, Scope, Send

from bon.errors import InputError
from bon.messages import say
from bon.settings import clean
from bon.ui.hosting import sizes
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.layers.asgi import API, path_of, read_body, receive_again, refusal
from bon.ui.hosting.layers.file_names import resolve_names

T = TypeVar("T")
#: The deepest nesting; what the page sends has less than ten levels.
DEPTH_MAX = 64
#: All bytes but brackets.
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
#: The routes that take forms instead.
FORM_ROUTES = (f"{API}/upload", "/login")


class Refusal(Exception):
    """A request that is refused. status: of the answer. line: its text."""

    status: int
    line: str

    def __init__(self, status: int, line: str):
        super().__init__(line)
        self.status, self.line = status, line


class JsonBodies:
    """ASGI layer around all routes that take JSON."""

    def __init__(self, app: ASGIApp, deployment: Deployment):
        self._app, self._deployment = app, deployment

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or path_of(scope).startswith(FORM_ROUTES):
            return await self._app(scope, receive, send)
        body = await read_body(receive)
        if body is None:
            return
        try:
            body = self._checked(scope, body)
        except Refusal as error:
            return await refusal(error.status, error.line)(scope, receive, send)
        await self._app(scope, receive_again(body, receive), send)

    def _checked(self, scope: Scope, body: bytes) -> bytes:
        """The body to hand on, with texts that can be encoded and the paths of files. Raises `Refusal`."""
        try:
            check_shape(body, sizes.json_values(self._deployment))
            text = body.decode()
            values = json.loads(text, parse_int=_whole_number) if text else None
            if has_halves := "\\ud" in text.lower():  # of surrogate pairs, which no answer can hold
                values = json.loads(clean(json.dumps(values, ensure_ascii=False)))
            files = []
            # Gradio's page sends a file's event with the file; no listener reads what an event brings.
            had_event = isinstance(values, dict) and values.pop("event_data", None) is not None
            if isinstance(values, dict) and (
                    listener := check_target(path_of(scope), values, scope["app"].get_blocks())):
                files = _file_arguments(values, listener)
            has_files = resolve_names(values, files)
        except InputError as error:
            raise Refusal(400, error.message) from error
        except ValueError as error:
            raise Refusal(400, say("error.json_body")) from error
        return json.dumps(values).encode() if has_files or has_halves or had_event else body


def check_shape(body: bytes, most: float) -> None:
    """Raises `InputError` for JSON of more than `most` values, or nested too deeply, without parsing it."""
    body = body.replace(rb"\\", b"").replace(rb'\"', b"")
    if body.count(b'"') > 4 * most:
        raise InputError("body", say("error.json_values", most=most))
    outside = b"".join(body.split(b'"')[::2])  # of texts
    if sum(map(outside.count, (b",", b"[", b"{"))) > most:
        raise InputError("body", say("error.json_values", most=most))
    levels = accumulate(1 if bracket in b"[{" else -1 for bracket in outside.translate(None, NO_BRACKETS))
    if max(levels, default=0) > DEPTH_MAX:
        raise InputError("body", say("error.json_depth", most=DEPTH_MAX))


def check_target(path: str, values: Mapping[str, Any], blocks: Any) -> BlockFunction | None:
    """The listener that a request calls; None where it calls none.

    values: of the request. blocks: the page. Raises `Refusal` for a listener or a component that the page lacks, or
    that this route does not call.
    """
    route, _, name = path.removeprefix(f"{API}/").rstrip("/").partition("/")
    if route == "component_server" and _by_number(values.get("component_id"), blocks.blocks) is None:
        raise Refusal(404, say("error.no_such_component"))
    if route not in ("call", "run", "api") and (route, name) != ("queue", "join"):
        return None
    listener = _listener(name.removeprefix("v2/"), values if route != "call" else {}, blocks.fns)
    if listener is None or (route == "call" and listener.api_visibility == "private"):
        raise Refusal(404, say("error.no_such_listener"))
    if route in ("run", "api") and listener.queue:
        raise Refusal(404, say("error.call_instead", route=f"{API}/call/{listener.api_name}")
                      if listener.api_visibility == "public" else say("error.no_such_listener"))
    if name.startswith("v2/"):
        check_arguments(values, listener)
    elif not isinstance(values.get("data"), list) or len(values["data"]) != len(listener.inputs):
        raise Refusal(400, say("error.inputs", n=len(listener.inputs)))
    return listener


def _file_arguments(values: Mapping[str, Any], listener: BlockFunction) -> list[Any]:
    """The arguments of a call that are for fields of files."""
    arguments = zip(values.get("data") or [], listener.inputs, strict=False)
    return [argument for argument, field in arguments if isinstance(field, gr.File)]


def check_arguments(arguments: Mapping[str, Any], listener: BlockFunction) -> None:
    """Raises `Refusal` for an argument that the listener's function does not have."""
    parameters = inspect.signature(listener.fn).parameters if listener.fn else ()
    names = list(parameters)[:len(listener.inputs)]  # the visitor comes after them
    for name in arguments:
        if name not in names:
            raise Refusal(400, say("error.no_such_setting", name=repr(name)[:80], names=", ".join(names)))


def _whole_number(digits: str) -> int:
    """A number of a JSON text. Raises `InputError` for one of more than 64 bits, which no answer could hold."""
    if len(digits) > 20 or not -(2**63) <= (number := int(digits)) < 2**64:
        raise InputError("body", say("error.json_number"))
    return number


def _listener(name: str, values: Mapping[str, Any], listeners: Mapping[int, BlockFunction]) -> BlockFunction | None:
    """The listener that Gradio would call: by its number where there is one, else by its name."""
    number = values.get("fn_index")
    if number is not None:
        return _by_number(number, listeners)
    return next((listener for listener in listeners.values() if listener.api_name == name), None)


def _by_number(number: Any, numbered: Mapping[int, T]) -> T | None:
    return numbered.get(number) if type(number) is int else None
