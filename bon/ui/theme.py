"""The page's look: Gradio's theme in the page's colours, and the styles and scripts of `assets/ui/`."""

import hmac
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from bon import messages
from bon.assets_folder import assets_folder
from bon.messages import say
from bon.ui import texts
from bon.ui.app_state import AppState
from bon.ui.batch import jobs
from bon.ui.first_paint import FirstPaint
from bon.ui.hosting import sizes
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.layers.stack import layers, server_options

SANS = ("-apple-system", "BlinkMacSystemFont", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Noto Sans Mono", "Liberation Mono", "monospace")

#: The page's colour (see colours.css) for each variable of Gradio's theme.
COLOURS = {
    "body_background_fill": "page",
    "body_text_color": "ink",
    "body_text_color_subdued": "soft",
    "background_fill_primary": "paper",
    "background_fill_secondary": "page",
    "block_background_fill": "paper",
    "block_label_text_color": "ink",
    "block_title_text_color": "ink",
    "block_info_text_color": "soft",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "color_accent": "accent",
    "input_background_fill": "page",
    "input_background_fill_focus": "page",
    "input_border_color": "edge",
    "input_border_color_focus": "accent",
    "input_placeholder_color": "faint",
    "button_primary_background_fill": "accent",
    "button_primary_background_fill_hover": "accent-strong",
    "button_primary_text_color": "accent-ink",
    "button_secondary_background_fill": "paper",
    "button_secondary_background_fill_hover": "hover",
    "button_secondary_border_color": "edge",
    "button_secondary_text_color": "ink",
    "slider_color": "accent",
    "link_text_color": "accent",
    "error_text_color": "bad",
    "error_border_color": "bad",
    "error_background_fill": "bad-bg",
}


#: Style sheets of the whole page: of two rules that are equally specific, the later one applies.
PAGE_STYLES = (
    "colours.css", "page.css", "header.css", "form.css", "settings.css", "about.css", "chat_field.css", "results.css",
    "charts.css", "winner_card.css", "markdown.css", "run_facts.css", "candidate_rows.css", "candidate_detail.css",
    "run_view.css", "comparison_view.css", "batch_tab.css", "notices.css", "history_list.css", "run_pair.css",
    "present_mode.css",
)
#: Scripts that others need while they are loaded, in the order in which they run; all others follow.
FIRST_SCRIPTS = ("browser_storage.js", "texts.js", "dom.js")


def folder() -> Path:
    """The folder of the page's scripts, styles and HTML."""
    return assets_folder() / "ui"


def theme() -> gr.themes.Base:
    """Gradio's base theme with the page's colours and the system's fonts."""
    colours = {name: f"var(--bon-{ours})" for name, ours in COLOURS.items()}
    base = gr.themes.Base(font=SANS, font_mono=MONO, radius_size=gr.themes.sizes.radius_lg)
    dark = {f"{name}_dark": value for name, value in colours.items() if hasattr(base, f"{name}_dark")}
    return base.set(**colours, **dark)


def read(name: str) -> str:
    """The text of a file in `assets/ui/`."""
    return (folder() / name).read_text(encoding="utf-8")


def scripts() -> str:
    """The page's scripts as one: the tables of texts, which they read, and every script of `assets/ui/`."""
    names = [*FIRST_SCRIPTS, *sorted({file.name for file in folder().glob("*.js")} - set(FIRST_SCRIPTS))]
    tables = json.dumps(messages.tables(), ensure_ascii=False)
    return f"(window.bon ??= {{}}).tables = {tables};\n" + "\n".join(map(read, names))


def style_tags(*names: str) -> str:
    """The styles of these names as tags for the page's head.

    Gradio's option `css` would put its container before every selector.
    """
    return "\n".join(f"<style>\n{read(name)}\n</style>" for name in names)


def first_paint(deployment: Deployment) -> Middleware:
    """The middleware `FirstPaint` with its arguments."""
    head = style_tags("colours.css", "first_paint.css")
    body = read("first_paint.html").replace("<!-- brand -->", read("brand.html"))
    return Middleware(FirstPaint, head=head, body=body, scripts=scripts(), spaces=deployment.spaces)


def serves_agents() -> bool:
    """Whether the page is also an MCP server: where `gradio[mcp]` is installed."""
    return find_spec("mcp") is not None


def launch_options(state: AppState) -> dict[str, Any]:
    """The arguments of `Blocks.launch` for a page of this state."""
    deployment = state.deployment
    return {
        "theme": theme(),
        "head": style_tags(*PAGE_STYLES),
        "i18n": texts.translations(),
        "app_kwargs": {"middleware": [*layers(deployment, state.uploads), first_paint(deployment)], **server_options()},
        "ssr_mode": False,  # a Node server in front of the layers would answer some requests itself
        "blocked_paths": [str(jobs.root())],
        "max_file_size": sizes.file_bytes(deployment),
        "favicon_path": folder() / "favicon.svg",
        "footer_links": ["api"],
        "run_history": False,
        # Gradio asks nobody for a password there.
        "mcp_server": serves_agents() and not deployment.password,
        **_password_options(deployment.password),
    }


def _password_options(password: str | None) -> dict[str, Any]:
    if not password:
        return {}

    def is_right(_name: str, attempt: str) -> bool:
        return hmac.compare_digest(attempt.encode(), password.encode())

    return {"auth": is_right, "auth_message": say("login.message")}
