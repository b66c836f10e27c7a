"""What happens when something is done on the page's tabs Generate and Compare: check, load, stream, show."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gradio as gr

from bon import zerogpu
from bon.compare.prompts import checked_prompts, shipped_prompts
from bon.errors import BonError
from bon.messages import say
from bon.report import result_files
from bon.report.numbers import lower_label
from bon.result import Result
from bon.settings import Request
from bon.ui import deployment
from bon.ui.compare import comparison_view
from bon.ui.error_log import UNEXPECTED, log, report
from bon.ui.generate import run_view, updates
from bon.ui.generate.form_fields import FIELDS, request_of, settings_of
from bon.ui.texts import label
from bon.ui.work import model_loading, runs, zerogpu_runs
from bon.ui.work.priority import guests

#: Seconds between two drafts of a run, by which the browser keeps it should the server not live to end it.
DRAFT_EVERY = 2.0


def generate(visitor: gr.Request, *values: Any) -> Iterator[tuple[run_view.View, Result | None]]:
    """One run for the page: views, from the first word to the last, each with the result that it shows."""
    result, draft, drawn_up = None, "", time.monotonic()
    try:
        request = request_of(dict(zip(FIELDS, values, strict=True)))
        deployment.here().admit(visitor)
        for phase, result in runs.snapshots(request):
            if phase == "writing" and time.monotonic() - drawn_up >= DRAFT_EVERY:
                draft, drawn_up = run_view.draft(result), time.monotonic()
            yield show(phase, result, request) | {"draft": draft}, result
    except BonError as error:
        yield run_view.broken(result, error.message) | {"field": getattr(error, "field", None)}, result
    except Exception as error:
        report("A run failed", error)
        yield run_view.broken(result, UNEXPECTED), result


def show(phase: str, result: Result | None, request: Request) -> run_view.View:
    """The view of one snapshot."""
    if result is None:
        return run_view.loading(request.settings.model)
    return run_view.done(result) if phase == "done" else run_view.writing(result)


def opened(record: str) -> dict[str, Any]:
    """The packed view of a run that the browser kept."""
    return _packed(lambda: run_view.ended(run_view.read(record)))


def ranked(asked: dict[str, Any], visitor: gr.Request) -> dict[str, Any]:
    """The packed view of a run that has ended, ranked by another label or rule, with no new generation.

    asked: the run's `record`, `target`, `select` and `softness`.
    """

    def view() -> run_view.View:
        result = run_view.read(asked["record"])
        deployment.here().check_record(result)
        deployment.here().admit(visitor)
        return run_view.ended(runs.ranked(result, asked["target"] or None, asked["select"], asked["softness"]))

    return _packed(view)


def exported(asked: dict[str, str]) -> str:
    """A run as a file. asked: its `record`, and the `kind`: json, csv or html."""
    make = {"json": result_files.run_json, "csv": result_files.run_csv, "html": result_files.run_html}[asked["kind"]]
    return make(run_view.read(asked["record"]))


def _packed(view: Callable[[], run_view.View]) -> dict[str, Any]:
    try:
        return run_view.pack(view())
    except BonError as error:
        return run_view.pack(run_view.failed(error.message))
    except Exception as error:
        report("A run could not be shown again", error)
        return run_view.pack(run_view.failed(UNEXPECTED))


def compare(visitor: gr.Request, text: str, n: Any, *values: Any) -> Iterator[run_view.View]:
    """One comparison for the page, over the lines of `text`; without any, over the prompts in the box.

    values: of the form's `FIELDS`, whose settings hold here too.
    """
    showing = None
    try:
        settings = settings_of(dict(zip(FIELDS, values, strict=True)) | {"n": n})
        prompts = checked_prompts(text.splitlines()) if (text or "").strip() else shipped_prompts()
        deployment.here().check_prompts(prompts, settings)
        deployment.here().admit(visitor, len(prompts))
        if zerogpu.is_on():
            yield from zerogpu_runs.compare(prompts, settings)
            return
        waiting = model_loading.later(model_loading.comparison_models, settings)
        while not model_loading.arrived(waiting):
            yield comparison_view.loading()
        events = updates.comparison(prompts, waiting.result(), settings)
        showing = comparison_view.Showing(len(prompts))
        with guests.one(), closing(events):
            yield from updates.views(showing, events)
    except Exception as error:
        if not isinstance(error, BonError):
            report("A comparison failed", error)
        message = error.message if isinstance(error, BonError) else UNEXPECTED
        yield showing.view("failed", message) if showing else run_view.failed(message)


def prepare(model: str, scorer: str | None, target: str | None = None) -> Iterator[tuple[Any, Any, Any]]:
    """Loads what was chosen and says what it is: the header's chips, the labels that can be looked for, and for the
    entry which model it is and whether that one chats.

    target: the label that is chosen now; it stays where the scorer has it.
    """
    model = model or deployment.here().model
    try:
        waiting = model_loading.load(model, scorer or None)
        if not model_loading.arrived(waiting):
            yield [say("chip.model", name=model), say("chip.loading")], gr.skip(), gr.skip()
        sampler = waiting.result()
    except Exception as error:
        if model == deployment.here().model and isinstance(error, BonError):  # what the operator named, not a visitor
            log.warning("%s cannot be loaded: %s", model, error)
        elif not isinstance(error, BonError):
            report("A model could not be loaded", error)
        yield [say("chip.model", name=model), say("chip.missing")], gr.skip(), gr.skip()
        return
    facts = sampler.engine.describe()
    told = run_view.chips(facts, sampler.scorer.name)
    yield told, targets(sampler.scorer, target), {"model": model, "chats": bool(facts.get("chats"))}


def targets(scorer: Any, chosen: str | None = None) -> dict:
    """The choice of labels to look for; hidden where the scorer has none."""
    labels = sorted(scorer.targets, key=lambda name: name != scorer.target)
    choices = [(label(f"label.{lower_label(name)}", lower_label(name)), name) for name in labels]
    value = {} if chosen in labels else {"value": scorer.target}
    return gr.update(choices=choices, visible=bool(labels), **value)
