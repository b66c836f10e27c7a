"""Components that the page's tabs are made of, and what every event of the page says to Gradio."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio import component_meta

from bon import messages
from bon.ui import theme
from bon.ui.hosting import error_log
from bon.ui.texts import label

#: For events that are no endpoint of their own: what is public is `/best_of_n` alone.
PRIVATE: Any = {"api_visibility": "private"}
#: The same, without a spinner.
QUIET: Any = {**PRIVATE, "show_progress": "hidden"}
#: Runs of page and HTTP interface that are decoded together on the one device; more wait in line.
DEVICE_QUEUE: Any = {"concurrency_id": "device", "concurrency_limit": 8}

# For every component class Gradio writes a type stub beside its module, a folder that is not ours to write into.
component_meta.create_or_modify_pyi = lambda *_: None
error_log.keep_servers_quiet()


class Drawn(gr.HTML):
    """A value of plain JSON types that a script of ours draws, with `textContent` only.

    `draw` names a function of the scripts, called as bon.draw(element, props, watch, server, trigger). The template is
    empty on purpose: Gradio would evaluate text in it as JavaScript.
    """

    # Gradio makes it anew without its value where an update leaves that out.
    def __init__(self, value: Any = None, draw: str = "", scripts: Sequence[str] = (), **options: Any):
        super().__init__(
            value, html_template="", js_on_load=f"bon.{draw}(element, props, watch, server, trigger);",
            head=theme.script(*scripts), apply_default_css=False, **options,
        )

    def postprocess(self, value: Any) -> Any:
        """Sends the value, its texts to be said in the visitor's language."""
        return messages.encode_messages(value)

    def api_info(self) -> dict[str, Any]:
        """Any JSON."""
        return {}


def server_functions(*methods: Callable[..., Any]) -> list[Callable[..., Any]]:
    """Methods as functions, for `gr.HTML(server_functions=...)`, which marks them and cannot mark methods."""

    def as_function(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def function(*values: Any, **named: Any) -> Any:
            return method(*values, **named)

        return function

    return [as_function(method) for method in methods]


def fragment(name: str) -> gr.HTML:
    """A fixed piece of the page, from `assets/ui/`; a script puts its texts in."""
    return gr.HTML(theme.read(f"{name}.html"), elem_id=name, js_on_load="bon.dress(element);")


def line(text: str, elem_id: str) -> Drawn:
    """A line of text that may change."""
    return Drawn(text, "line", elem_id=elem_id)


def label_and_info(key: str) -> Any:
    """A field's label, and the line under it where there is one."""
    info = label(f"{key}.info")
    return {"label": label(key)} | ({"info": info} if info else {})
