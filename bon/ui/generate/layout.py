"""`GenerateTab`: the form on the left, the result on the right, and the wiring of their events."""

from typing import Any

import gradio as gr

from bon.ui import theme
from bon.ui.app_state import AppState
from bon.ui.components import DEVICE_QUEUE, PRIVATE, QUIET, ScriptView, server_functions
from bon.ui.generate import run_view, share_links
from bon.ui.generate.form import SUMMARIZED, WITH_DEFAULTS, defaults_as_json, form
from bon.ui.generate.form_values import FIELDS
from bon.ui.generate.handlers import GenerateHandlers


class RunView(ScriptView):
    """A component that shows a view made by `bon.ui.generate.run_view`."""

    def postprocess(self, value: Any) -> Any:
        """The view in the form that the browser gets."""
        return run_view.pack(value)

    def preprocess(self, payload: Any) -> Any:
        """The view that the browser shows; the first one for a value that is no view."""
        try:
            return run_view.unpack(payload)
        except (AttributeError, KeyError, TypeError, ValueError):
            return run_view.empty_view()


class GenerateTab:
    """The tab's components and handlers. form: see `form.form`."""

    form: dict[str, Any]

    def __init__(self, state: AppState):
        self._handlers = GenerateHandlers(state)
        self._deployment = state.deployment
        with gr.Row(elem_id="main"):
            with gr.Column(elem_id="form", scale=0, min_width=300):
                self.form = form(state.deployment)
            with gr.Column(elem_id="result", scale=1, min_width=300):
                sample = run_view.sample_view(theme.folder() / "sample_run.json")
                functions = server_functions(self._handlers.open_record, self._handlers.rerank, self._handlers.export)
                self._view = RunView(sample, "runView", elem_id="view", server_functions=functions)

    def wire(self, page: gr.Blocks, chips: gr.HTML) -> None:
        """Connects the events. chips: the header's component that names model, scorer and device."""
        run = self._wire_run(page)
        self._wire_settings(page)
        self._wire_defaults()
        self._wire_models(run, *self._wire_links(page), chips)

    def _wire_run(self, page: gr.Blocks) -> Any:
        """Generate, Stop, and the estimate under them."""
        form, handlers, view = self.form, self._handlers, self._view
        result = gr.State()  # of the run under way, for `view_after_stop`
        run = form["generate"].click(
            handlers.generate, [form[name] for name in FIELDS], [view, result], validator=handlers.validate,
            show_progress="minimal", show_progress_on=view, **DEVICE_QUEUE, **PRIVATE,
        )
        form["stop_button"].click(None, cancels=[run], **QUIET)
        sizes = [form[name] for name in ("model", "scorer", "n", "min_tokens", "max_tokens")]
        estimate: Any = {"fn": handlers.estimate, "inputs": sizes, "outputs": form["estimate"], "queue": False, **QUIET}
        gr.on([page.load, *(field.change for field in sizes)], trigger_mode="always_last", **estimate)
        run.success(**estimate)
        run.failure(run_view.view_after_stop, [view, result], view, queue=False, **QUIET)
        return run

    def _wire_settings(self, page: gr.Blocks) -> None:
        """The line that sums the settings up, and ranking again by another label or rule without a new run."""
        rules = [self.form[name] for name in ("target", "select", "softness")]
        gr.on([rule.input for rule in rules], None, rules, js="(...rules) => bon.rerank(...rules)", **QUIET)
        summarized = [self.form[name] for name in SUMMARIZED]
        gr.on(
            [page.load, *(field.change for field in summarized)], None, summarized, self.form["summary"],
            js=f"(...values) => bon.summarize({defaults_as_json(self.form, SUMMARIZED)}, values)", **QUIET,
        )

    def _wire_defaults(self) -> None:
        """Puts the values that hold with a model into the fields that the visitor has not set, and says whose they are.
        """
        names, fields = list(WITH_DEFAULTS), [self.form[name] for name in WITH_DEFAULTS]
        origins = self.form["origins"]
        show = gr.Button("Defaults", elem_id="defaults", visible="hidden")
        shown = show.click(None, fields, [*fields, origins], js=f"(...values) => bon.defaultValues({names}, ...values)",
                           **QUIET)
        shown.then(None, None, None, js="() => bon.defaultsShown()", **QUIET)
        gr.on([field.change for field in fields], None, fields, origins,
              js=f"(...values) => bon.originLine({names}, ...values)", **QUIET)

    def _wire_links(self, page: gr.Blocks) -> tuple[Any, Any]:
        """Fills in the form: from the link when the page opens, and later from the page's scripts (`bon.fillForm`).

        Returns both events.
        """
        fields = [*(self.form[name] for name in FIELDS), self.form["slider"]]
        first, notice = {name: self.form[name].value for name in FIELDS}, self.form["notice"]

        def fill_form(request: gr.Request) -> dict[str, Any]:
            return share_links.fill_form(dict(request.query_params or {}), first, self._deployment)

        enter = gr.Button("Enter", elem_id="enter", visible="hidden")
        entered = enter.click(None, None, fields, js="() => bon.formValuesToFill()", **QUIET)
        entered.then(None, None, None, js="() => bon.formFilled()", **QUIET)
        speak = gr.Button("Speak", elem_id="speak", visible="hidden")
        speak.click(None, fields[:-1], None, js="(...values) => bon.switchLanguage(...values)", **QUIET)
        filled = page.load(fill_form, None, notice, concurrency_limit=None, **QUIET)
        opened = filled.then(None, [notice, *fields[:-1]], fields,
                            js="(...values) => bon.valuesOnOpening(...values)", **QUIET)
        opened.then(None, None, None, js="() => bon.formOpened()", **QUIET)
        # Without an answer the form stays as it is, and a held press must go on all the same.
        filled.failure(None, None, None, js="() => bon.formOpened()", **QUIET)
        return opened, entered

    def _wire_models(self, run: Any, opened: Any, entered: Any, chips: gr.HTML) -> None:
        """Loads model and scorer when the visitor chooses one, or runs them, or presses a button before the page knows
        them (`early_press.js`); some when the page opens.

        `change` is no choice: a link changes them too.
        """
        model, scorer, target = self.form["model"], self.form["scorer"], self.form["target"]
        fields = ([model, scorer, target], [chips, target, self.form["chats"]])
        options: Any = {"concurrency_limit": None, **QUIET}
        opened.then(self._handlers.prepare_unasked, *fields, **options)
        entered.then(self._handlers.prepare, *fields, **options)
        run.success(self._handlers.prepare, *fields, **options)
        prepare = gr.Button("Prepare", elem_id="prepare", visible="hidden")
        prepared = prepare.click(self._handlers.prepare, *fields, **options)
        for ended in (prepared.success, prepared.failure):
            ended(None, self.form["chats"], None, js="(support) => bon.modelPrepared(support)", **QUIET)
        choice = gr.Button("Choice", elem_id="choice", visible="hidden")
        choice.click(None, [model, scorer], None, js="(...chosen) => bon.proceedWith(...chosen)", **QUIET)
        model.input(None, None, None, js="() => bon.keepValues(false)", **QUIET)
        gr.on([model.input, scorer.input], self._handlers.prepare, *fields, trigger_mode="always_last", **options)
