"""`build` puts the page together: header, tabs and HTTP interface."""

import json

import gradio as gr

from bon import zerogpu
from bon.messages import say
from bon.ui import http_interface, theme
from bon.ui.about_tab import about_tab
from bon.ui.app_state import AppState
from bon.ui.batch.layout import batch_tab
from bon.ui.compare.layout import compare_tab
from bon.ui.components import DEVICE_QUEUE, QUIET, ScriptView, fragment
from bon.ui.generate.form_values import FIELDS
from bon.ui.generate.layout import GenerateTab
from bon.ui.hosting.fair_queue import share_places
from bon.ui.texts import label, model_label

TABS = ("tab.generate", "tab.compare", "tab.batch", "tab.history", "tab.about")


def build(state: AppState) -> gr.Blocks:
    """The page, ready to launch. state: shared by all handlers."""
    title = say("page.title")
    with gr.Blocks(title=title, analytics_enabled=False, fill_width=True) as page:
        chips = _header(state.deployment.model)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab(label(TABS[0]), id="generate") as generate:
                generate_tab = GenerateTab(state)
            with gr.Tab(label(TABS[1]), id="compare") as compare:
                compare_tab(state, compare, generate_tab.form)
            with gr.Tab(label(TABS[2]), id="batch") as batch:
                batch_tab(state, batch, generate_tab.form)
            with gr.Tab(label(TABS[3]), id="history") as history:
                ScriptView(None, "historyList", elem_id="history")
            with gr.Tab(label(TABS[4]), id="about") as about:
                about_tab()
        generate_tab.wire(page, chips)
        fields = [generate_tab.form[name] for name in FIELDS]
        about.select(None, fields, None, js="(...values) => bon.fillCodeSamples(...values)", **QUIET)
        tabs = [generate, compare, batch, history, about]
        page.load(None, None, tabs, js=f"() => bon.tabNames(...{json.dumps(TABS)})", **QUIET)
        _offer_over_http(state)
    # With the id of a Space, Gradio's page would fetch fonts and the owner's portrait from other hosts.
    page.space_id = None
    vars(page)["deployment"] = state.deployment
    page.queue(max_size=state.deployment.queue, api_open=False)
    if not zerogpu.is_on():
        share_places(page)
    return page


def _header(model: str) -> ScriptView:
    """Lays the header out; returns the component of its chips, which name model, scorer and device."""
    with gr.Row(elem_id="header"):
        fragment("brand", "brand")
        loading = [say("chip.model", name=model_label(model)), say("chip.loading")]
        chips = ScriptView(loading, "headerChips", elem_id="chips")
        fragment("present_button", "present")
        ScriptView(None, "languageSelect", elem_id="language")
    return chips


def _offer_over_http(state: AppState) -> None:
    """Offers `/best_of_n`, and the same as the one tool of the MCP server."""
    best_of_n = http_interface.best_of_n(state)
    if theme.serves_agents():
        # Gradio names a tool after its function, and both functions have the same name: an `_mcp_type` that MCP does
        # not know keeps the second one from becoming a tool.
        gr.api(http_interface.tool(best_of_n), api_name="best_of_n_as_json", **DEVICE_QUEUE)
        vars(best_of_n)["_mcp_type"] = "http interface"
    gr.api(best_of_n, api_name="best_of_n", **DEVICE_QUEUE)
