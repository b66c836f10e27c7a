"""Components that the tabs share, and options for their events."""

import functools
from collections.abc import Callable
from typing import Any, get_type_hints

import gradio as gr
from gradio import component_meta
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from bon import messages
from bon.errors import BonError
from bon.messages import say
from bon.ui import theme
from bon.ui.hosting import error_log
from bon.ui.hosting.gradio_guards import guard_gradio
from bon.ui.texts import label

#: Options of events that the API does not offer: it has `/best_of_n` only.
PRIVATE: Any = {"api_visibility": "private"}
#: The same, without a progress indicator.
QUIET: Any = {**PRIVATE, "show_progress": "hidden"}
#: Options of events that run on the device: so many runs are decoded together, and further ones wait in the queue.
DEVICE_QUEUE: Any = {"concurrency_id": "device", "concurrency_limit": 8}

# Gradio would write a type stub for each component class into the folder of its module, which may be read-only.
component_meta.create_or_modify_pyi = lambda *_: None
error_log.keep_servers_quiet()
guard_gradio()


class ScriptView(gr.HTML):
    """A component whose value, of plain JSON types, a script of the page draws, with `textContent` only.

    draw: the name of a function in the scripts, called as bon.draw(element, props, watch, server, trigger). The HTML
    template is empty, since Gradio would evaluate text in it as JavaScript.
    """

    # The value has a default because Gradio constructs the component again without it for some updates.
    def __init__(self, value: Any = None, draw: str = "", **options: Any):
        # In a task of its own, since Gradio calls it before the components around this one are part of the page.
        draws = f"setTimeout(() => bon.{draw}(element, props, watch, server, trigger));"
        super().__init__(value, html_template="", js_on_load=draws, apply_default_css=False, **options)

    def postprocess(self, value: Any) -> Any:
        """The value with its messages encoded, so that the browser shows them in the visitor's language."""
        return messages.encode_messages(value)

    def api_info(self) -> dict[str, Any]:
        """The schema of the value: any JSON."""
        return {}


def server_functions(*methods: Callable[..., Any]) -> list[Callable[..., Any]]:
    """Functions that call these methods, for `gr.HTML(server_functions=...)`, which sets attributes on functions.

    They answer 400, with one line, to a first argument that is not of its annotated type, since anyone can call them
    with any value, and where the method raises a `BonError`.
    """

    def as_function(method: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(method)
        argument = TypeAdapter(hints[next(iter(hints))])

        @functools.wraps(method)
        def function(value: Any, *more: Any) -> Any:
            try:
                return method(argument.validate_python(value, strict=True), *more)
            except ValidationError as error:
                fault = error.errors()[0]
                place = ".".join(map(str, fault["loc"])) or "data"
                raise HTTPException(400, say("error.server_value", place=place, fault=fault["msg"])) from error
            except BonError as error:
                raise HTTPException(400, error.message) from error

        return function

    return [as_function(method) for method in methods]


def fragment(name: str, elem_id: str | None = None) -> gr.HTML:
    """The HTML file of this name in `assets/ui/`; a script fills in its texts in the visitor's language."""
    return gr.HTML(theme.read(f"{name}.html"), elem_id=elem_id, js_on_load="bon.fillTexts(element);")


def text_line(text: str, elem_id: str) -> gr.HTML:
    """A component that shows a line of text."""
    return ScriptView(text, "textLine", elem_id=elem_id)


def label_and_info(key: str) -> Any:
    """The options `label` and, where the tables have a text for it, `info` of a field."""
    info = label(f"{key}.info")
    return {"label": label(key)} | ({"info": info} if info else {})
