"""The Batch tab: a file of prompts in, a file of winners or of training data out."""

from typing import Any

import gradio as gr

from bon import zerogpu
from bon.messages import say
from bon.ui.app_state import AppState
from bon.ui.batch.handlers import ENCODINGS, FORMATS, RESULTS, SHARED_SETTINGS, TAB_SETTINGS, BatchHandlers
from bon.ui.components import QUIET, ScriptView, label_and_info, server_functions, text_line
from bon.ui.generate.form import EXAMPLES, defaults_as_json
from bon.ui.generate.form_values import FIELDS
from bon.ui.texts import label


def batch_tab(state: AppState, tab: gr.Tab, form: dict[str, Any]) -> None:
    """Lays the tab out and connects its events. form: the Generate tab's components, whose settings apply here too."""
    if zerogpu.is_on():
        text_line(say("batch.zerogpu"), "batch-elsewhere")
        return
    handlers = BatchHandlers(state)
    with gr.Column(elem_id="batch-form"):
        with gr.Row():
            file = gr.File(label=label("batch.file"), height=140, elem_id="batch-file", scale=1, min_width=240)
            pasted = gr.Textbox(
                "", **label_and_info("batch.paste"), lines=4, max_lines=4, placeholder="\n".join(EXAMPLES[:3]),
                elem_id="batch-paste", scale=1, min_width=240,
            )
        preview = ScriptView({}, "batchPreview", elem_id="batch-preview")
        rows = gr.State(0)
        fields = _fields(form)
        with gr.Row(elem_id="batch-go"):
            start = gr.Button(label("batch.start"), variant="primary", elem_id="batch-start", min_width=120, scale=0)
            estimate = text_line("", "batch-estimate")
        shared = text_line("", "batch-shared")
        text_line(handlers.rows_limit(), "batch-limit")
    functions = server_functions(handlers.views, handlers.act)
    view = ScriptView({}, "batchView", elem_id="batch", server_functions=functions)
    encoding, column = fields["encoding"], fields["column"]
    previewed = [preview, column, encoding, rows]
    latest: Any = {"trigger_mode": "always_last", "concurrency_limit": None, **QUIET}
    previews: Any = {"fn": handlers.preview_in_turn, "outputs": previewed, **latest}
    gr.on([file.change, pasted.change], inputs=[file, pasted], **previews)
    gr.on([encoding.input, column.input], inputs=[file, pasted, column, encoding], **previews)
    sizes = [fields["n"], fields["min_tokens"], fields["max_tokens"], form["model"], form["scorer"]]
    gr.on(
        [rows.change, *(field.change for field in sizes)], handlers.estimate, [rows, *sizes], estimate, queue=False,
        **latest,
    )
    start.click(
        handlers.start, [file, pasted, *fields.values(), *(form[name] for name in FIELDS)], view,
        concurrency_limit=None, **QUIET,
    )
    _follow_generate_tab(tab, form, preview, [fields["min_tokens"], fields["max_tokens"]], shared)


def _follow_generate_tab(tab: gr.Tab, form: dict[str, Any], preview: ScriptView, lengths: list[gr.Number],
                         shared: gr.HTML) -> None:
    """Fills in the lengths that hold with the Generate tab's model for the prompts of the preview, and the line that
    sums up the settings of that tab.
    """
    defaults = gr.Button("Lengths", elem_id="batch-defaults", visible="hidden")
    gr.on(
        [defaults.click, preview.change, tab.select], None, [preview, *lengths], lengths,
        js="(preview, ...lengths) => bon.batchLengths(preview, ...lengths)", **QUIET,
    )
    js = f"(...values) => bon.summarizeShared({defaults_as_json(form, SHARED_SETTINGS)}, values)"
    tab.select(None, [form[name] for name in SHARED_SETTINGS], shared, js=js, **QUIET)


def _fields(form: dict[str, Any]) -> dict[str, Any]:
    """The fields of the tab's settings, in the order of `BatchHandlers.start`."""
    narrow: Any = {"min_width": 96, "scale": 1}
    fixed: Any = {"filterable": False, **narrow}
    with gr.Row(elem_id="batch-settings"):
        encodings = [(label(key), name) for name, key in ENCODINGS.items()]
        encoding = gr.Dropdown(encodings, value=None, label=label("batch.encoding"), visible=False,
                               elem_id="batch-encoding", **fixed)
        column = gr.Dropdown([], label=label("batch.column.choose"), visible=False, elem_id="batch-column", **narrow)
        results = [(label(f"batch.as.{name}"), name) for name in RESULTS]
        output = gr.Dropdown(results, value=RESULTS[0], label=label("batch.as"), elem_id="batch-as", **fixed)
        endings = [(ending[1:].upper(), ending) for ending in FORMATS]
        ending = gr.Dropdown(endings, value=FORMATS[0], label=label("batch.format"), elem_id="batch-format", **fixed)
        n, min_tokens, max_tokens = (form[name].value for name in TAB_SETTINGS[:3])
        numbers = {
            "n": gr.Number(n, label=label("compare.n"), elem_id="batch-n", **narrow),
            "min_tokens": gr.Number(min_tokens, label=label("form.min_tokens"), elem_id="batch-min", **narrow),
            "max_tokens": gr.Number(max_tokens, label=label("form.max_tokens"), elem_id="batch-max", **narrow),
        }
        seed = gr.Textbox(
            "", label=label("form.seed"), placeholder=label("batch.fresh"), max_lines=1, elem_id="batch-seed", **narrow
        )
    return {"encoding": encoding, "column": column, "result": output, "ending": ending, **numbers, "seed": seed}
