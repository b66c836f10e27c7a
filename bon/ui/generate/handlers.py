"""`GenerateHandlers`: what the Generate tab's events call to check, run, rank again, export and load."""

import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr
from typing_extensions import TypedDict  # of typing, pydantic takes it from Python 3.12 on

from bon.engines.base import defaults_of
from bon.errors import BonError, InputError
from bon.messages import say
from bon.report import result_files
from bon.report.numbers import lower_label
from bon.result import Result
from bon.settings import Request, Settings
from bon.ui.app_state import AppState
from bon.ui.generate import form_values, run_view
from bon.ui.generate.form_values import FIELDS
from bon.ui.hosting import sizes
from bon.ui.hosting.error_log import explain, log_failure
from bon.ui.hosting.layers.json_bodies import check_shape
from bon.ui.texts import label, model_label
from bon.ui.view_types import View, failed_view
from bon.ui.work.model_loading import is_ready, wait_line, wait_words
from bon.ui.work.speed_estimate import format_estimate

if TYPE_CHECKING:  # imports torch, which takes seconds
    from bon.scorers.base import Scorer

#: Seconds between two drafts of a run, which the browser keeps in case the server dies before the run ends.
DRAFT_EVERY = 2.0


class Ranking(TypedDict):
    """A run's record, and how to rank its candidates."""

    record: str
    target: str | None
    select: str
    softness: float


class Export(TypedDict):
    """A run's record, and the format of the file to make of it."""

    record: str
    format: Literal["json", "csv", "html"]


class GenerateHandlers:
    """The Generate tab's events."""

    def __init__(self, state: AppState):
        self._state = state

    def validate(self, *values: Any) -> list[dict[str, Any]]:
        """Gradio's validation of each field of the form. values: of `FIELDS`."""
        return form_values.validate(dict(zip(FIELDS, values, strict=True)), self._state.deployment)

    def generate(self, visitor: gr.Request, *values: Any) -> Generator[tuple[View, Result | None], None, None]:
        """Runs the form's request: yields views, each with the result that it shows. values: of `FIELDS`."""
        result, draft, drafted_at = None, "", time.monotonic()
        try:
            request = form_values.request_of(dict(zip(FIELDS, values, strict=True)), self._state.deployment)
            self._state.deployment.admit(visitor)
            for phase, result in self._state.runs.snapshots(request):
                if phase == "writing" and result and time.monotonic() - drafted_at >= DRAFT_EVERY:
                    draft, drafted_at = run_view.draft(result), time.monotonic()
                yield _view(phase, result, request) | {"draft": draft}, result
        except Exception as error:
            view = run_view.failed_run_view(result, explain("A run failed", error))
            yield view | {"field": getattr(error, "field", None)}, result

    def open_record(self, record: str) -> dict[str, Any]:
        """The packed view of a run from the record that the browser kept."""
        return _pack_or_explain(lambda: run_view.ended_view(self._read_record(record)))

    def rerank(self, choice: Ranking, visitor: gr.Request) -> dict[str, Any]:
        """The packed view of a run that has ended, ranked by another label or rule, with no new generation."""

        def view() -> View:
            result, deployment = self._read_record(choice["record"]), self._state.deployment
            deployment.check_names(result.settings.model or deployment.model, result.settings.scorer)
            deployment.admit(visitor)
            return run_view.ended_view(self._state.runs.rerank(
                result, choice["target"] or None, choice["select"], choice["softness"]))

        return _pack_or_explain(view)

    def export(self, choice: Export) -> str:
        """The text of a run's file. Raises as `_read_record`."""
        make = {"json": result_files.run_json, "csv": result_files.run_csv, "html": result_files.run_html}
        return make[choice["format"]](self._read_record(choice["record"]))

    def _read_record(self, record: str) -> Result:
        """The run of a record. Raises `InputError` for one that cannot be read, or is larger than this page's runs."""
        check_shape(record.encode(errors="replace"), sizes.record_values(self._state.deployment))
        result = run_view.read_record(record)
        self._state.deployment.check_record(result)
        return result

    def prepare_unasked(self, model: str | None, scorer: str | None, target: str | None = None
                        ) -> Iterator[tuple[Any, ...]]:
        """`prepare` of what a link may have put into the form: loads nothing that needs the network or a folder."""
        if self._state.deployment.is_at_hand(model, scorer):
            yield from self.prepare(model, scorer, target)
        else:
            yield [say("chip.model", name=model_label(str(model))), say("chip.waiting")], gr.skip(), gr.skip()

    def prepare(self, model: str | None, scorer: str | None, target: str | None = None) -> Iterator[tuple[Any, ...]]:
        """Loads model and scorer; yields the header's chips, an update of the menu of labels, and for the chat field
        the model's name, whether it answers chats, and the values that it brings along for chats and for plain texts.

        target: the selected label, which stays selected where the scorer has it.
        """
        deployment = self._state.deployment
        model = model or deployment.model
        try:
            loading = self._state.models.load(Settings(model=model, scorer=scorer or None))
            shown = ""
            while not is_ready(loading):
                if (words := wait_words(model)) != shown:
                    yield [say("chip.model", name=model_label(model)), words], gr.skip(), gr.skip()
                shown = words
            sampler = loading.result()
        except Exception as error:
            if not isinstance(error, BonError):
                log_failure("A model could not be loaded", error)
            yield [say("chip.model", name=model_label(model)), say("chip.missing")], gr.skip(), gr.skip()
            return
        engine = sampler.engine.describe()
        chips = run_view.chips(engine, sampler.scorer.name)
        defaults = {name: deployment.limited(defaults_of(sampler.engine).by_source(name == "chat"))
                    for name in ("chat", "text")}
        support = {"model": model, "scorer": scorer, "chats": bool(engine.get("chats")), "defaults": defaults}
        yield chips, _target_update(sampler.scorer, target), support

    def estimate(self, model: str | None, scorer: str | None, n: Any, min_tokens: Any, max_tokens: Any) -> str:
        """The text of how long a run of this size will take; empty where that is not known or a number is invalid."""
        try:
            model = model or self._state.deployment.model
            settings = Settings(n=n, min_tokens=min_tokens, max_tokens=max_tokens, model=model, scorer=scorer or None)
        except InputError:
            return ""
        return format_estimate(self._state.speeds.seconds(settings))


def _view(phase: str, result: Result | None, request: Request) -> View:
    """The view of a snapshot (`runs.LoadingSnapshots`)."""
    if result is None:
        return run_view.loading_view(wait_line(request.settings.model_name))
    return run_view.done_view(result) if phase == "done" else run_view.writing_view(result)


def _pack_or_explain(make_view: Callable[[], View]) -> dict[str, Any]:
    """The packed view that a function makes, or where it raises, one with the error's message."""
    try:
        return run_view.pack(make_view())
    except Exception as error:
        return run_view.pack(failed_view(explain("A record could not be shown", error)))


def _target_update(scorer: "Scorer", target: str | None) -> dict[str, Any]:
    """An update of the menu of labels, the scorer's target first; hidden where the scorer has no labels."""
    labels = sorted(scorer.targets, key=lambda name: name != scorer.target)
    choices = [(label(f"label.{lower_label(name)}", lower_label(name)), name) for name in labels]
    value = {} if target in labels else {"value": scorer.target}
    return gr.update(choices=choices, visible=bool(labels), **value)
