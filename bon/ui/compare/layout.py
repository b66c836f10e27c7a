"""The Compare tab: base, tuned and best of N side by side."""

from typing import Any

import gradio as gr

from bon.ui import theme
from bon.ui.app_state import AppState
from bon.ui.compare import comparison_view
from bon.ui.compare.handlers import CompareHandlers
from bon.ui.components import DEVICE_QUEUE, PRIVATE, QUIET, ScriptView, label_and_info, text_line
from bon.ui.generate.form import EXAMPLES
from bon.ui.generate.form_values import FIELDS
from bon.ui.texts import label


def compare_tab(state: AppState, tab: gr.Tab, form: dict[str, Any]) -> None:
    """Lays the tab out and connects its events. form: the Generate tab's components, whose settings apply here too."""
    handlers = CompareHandlers(state)
    with gr.Row(elem_id="compare-form"):
        texts = gr.Textbox(
            "", **label_and_info("compare.prompts"), lines=1, max_lines=8, placeholder=EXAMPLES[0],
            elem_id="compare-prompts", scale=4, min_width=240,
        )
        n = gr.Number(form["n"].value, label=label("compare.n"), elem_id="compare-n", min_width=84, scale=0)
        start = gr.Button(label("compare.start"), variant="primary", elem_id="compare-start", min_width=120, scale=0)
        stop = gr.Button(label("stop"), elem_id="compare-stop", min_width=84, scale=0)
        estimate = text_line("", "compare-estimate")
    sample = comparison_view.sample_view(theme.folder() / "sample_comparison.json")
    view = ScriptView(sample, "comparisonView", elem_id="comparison")
    run = start.click(
        handlers.compare, [texts, n, *(form[name] for name in FIELDS)], view,
        show_progress="minimal", show_progress_on=view, **DEVICE_QUEUE, **PRIVATE,
    )
    stop.click(None, cancels=[run], **QUIET)
    sizes = [texts, n, *(form[name] for name in ("min_tokens", "max_tokens", "model", "scorer"))]
    gr.on([tab.select, texts.change, n.change], handlers.estimate, sizes, estimate, queue=False,
          trigger_mode="always_last", **QUIET)
    run.failure(comparison_view.stopped_view, view, view, queue=False, **QUIET)
