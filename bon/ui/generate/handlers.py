"""What the Generate tab's events call: check, load, stream, show."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from bon.errors import BonError, InputError
from bon.messages import say
from bon.report import result_files
from bon.report.numbers import lower_label
from bon.result import Result
from bon.settings import Request, Settings
from bon.ui.app_state import AppState
from bon.ui.generate import form_values, run_view
from bon.ui.generate.form_values import FIELDS
from bon.ui.hosting.error_log import UNEXPECTED, log, report
from bon.ui.texts import label
from bon.ui.view_types import View, failed
from bon.ui.work.model_loading import is_ready
from bon.ui.work.speed_estimate import format_estimate

#: Seconds between two drafts of a run, by which the browser keeps it should the server not live to end it.
DRAFT_EVERY = 2.0


class GenerateHandlers:
    """The Generate tab's events."""

    def __init__(self, state: AppState):
        self._state = state

    def validate(self, *values: Any) -> list[dict[str, Any]]:
        """For Gradio: what is wrong with the form's fields. values: of `FIELDS`."""
        return form_values.validate(dict(zip(FIELDS, values, strict=True)), self._state.deployment)

    def generate(self, visitor: gr.Request, *values: Any) -> Iterator[tuple[View, Result | None]]:
        """One run: views, from the first word to the last, each with the result that it shows. values: of `FIELDS`."""
        result, draft, drafted_at = None, "", time.monotonic()
        try:
            request = form_values.request_of(dict(zip(FIELDS, values, strict=True)), self._state.deployment)
            self._state.deployment.admit(visitor)
            for phase, result in self._state.runs.snapshots(request):
                if phase == "writing" and result and time.monotonic() - drafted_at >= DRAFT_EVERY:
                    draft, drafted_at = run_view.draft(result), time.monotonic()
                yield _view(phase, result, request) | {"draft": draft}, result
        except BonError as error:
            yield run_view.broken(result, error.message) | {"field": getattr(error, "field", None)}, result
        except Exception as error:
            report("A run failed", error)
            yield run_view.broken(result, UNEXPECTED), result

    def open_record(self, record: str) -> dict[str, Any]:
        """The packed view of a run that the browser kept."""
        return _packed(lambda: run_view.ended(run_view.read(record)))

    def rerank(self, choice: dict[str, Any], visitor: gr.Request) -> dict[str, Any]:
        """The packed view of a run that has ended, ranked by another label or rule, with no new generation.

        choice: the run's `record`, `target`, `select` and `softness`.
        """

        def view() -> View:
            result, deployment = run_view.read(choice["record"]), self._state.deployment
            deployment.check_record(result)
            deployment.admit(visitor)
            rules = (choice["target"] or None, choice["select"], choice["softness"])
            return run_view.ended(self._state.runs.rerank(result, *rules))

        return _packed(view)

    def export(self, choice: dict[str, str]) -> str:
        """A run as a file. choice: its `record`, and the `format`: json, csv or html."""
        make = {"json": result_files.run_json, "csv": result_files.run_csv, "html": result_files.run_html}
        return make[choice["format"]](run_view.read(choice["record"]))

    def prepare(self, model: str | None, scorer: str | None, target: str | None = None) -> Iterator[tuple[Any, ...]]:
        """Loads model and scorer and describes them: the header's chips, the labels that can be looked for, and for the
        entry which model it is and whether that one chats.

        target: the label that is chosen; it stays where the scorer has it.
        """
        deployment = self._state.deployment
        model = model or deployment.model
        try:
            loading = self._state.models.load(Settings(model=model, scorer=scorer or None))
            if not is_ready(loading):
                yield [say("chip.model", name=model), say("chip.loading")], gr.skip(), gr.skip()
            sampler = loading.result()
        except Exception as error:
            if model == deployment.model and isinstance(error, BonError):  # what the operator named, not a visitor
                log.warning("%s cannot be loaded: %s", model, error)
            elif not isinstance(error, BonError):
                report("A model could not be loaded", error)
            yield [say("chip.model", name=model), say("chip.missing")], gr.skip(), gr.skip()
            return
        engine = sampler.engine.describe()
        chips = run_view.chips(engine, sampler.scorer.name)
        yield chips, targets(sampler.scorer, target), {"model": model, "chats": bool(engine.get("chats"))}

    def estimate(self, model: str | None, scorer: str | None, n: Any, least: Any, most: Any) -> str:
        """How long a run of this size will take here; nothing where it is not known or the numbers are none."""
        try:
            model = model or self._state.deployment.model
            settings = Settings(n=n, min_tokens=least, max_tokens=most, model=model, scorer=scorer or None)
        except InputError:
            return ""
        return format_estimate(self._state.speeds.seconds(settings))


def _view(phase: str, result: Result | None, request: Request) -> View:
    """The view of one snapshot."""
    if result is None:
        return run_view.loading(request.settings.model or "")
    return run_view.done(result) if phase == "done" else run_view.writing(result)


def _packed(view: Callable[[], View]) -> dict[str, Any]:
    try:
        return run_view.pack(view())
    except BonError as error:
        return run_view.pack(failed(error.message))
    except Exception as error:
        report("A run could not be shown again", error)
        return run_view.pack(failed(UNEXPECTED))


def targets(scorer: Any, target: str | None = None) -> dict[str, Any]:
    """The choice of labels to look for; hidden where the scorer has none."""
    labels = sorted(scorer.targets, key=lambda name: name != scorer.target)
    choices = [(label(f"label.{lower_label(name)}", lower_label(name)), name) for name in labels]
    value = {} if target in labels else {"value": scorer.target}
    return gr.update(choices=choices, visible=bool(labels), **value)
