"""What the Batch tab's events call: a file of prompts goes in, its preview and the batches of a browser come out."""

import dataclasses
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from bon import zerogpu
from bon.batch import export_formats, input_rows
from bon.batch.batch_run import group_size
from bon.batch.input_rows import Dataset, Row
from bon.errors import BonError, InputError
from bon.messages import encode_messages, join, replace_text, say
from bon.settings import Settings, clean
from bon.ui.app_state import AppState
from bon.ui.batch import jobs
from bon.ui.batch.jobs import Order
from bon.ui.batch.views import batch_view, command
from bon.ui.generate.form_values import FIELDS, PAGE_SETTINGS, settings_of
from bon.ui.hosting.error_log import UNEXPECTED, report
from bon.ui.hosting.rate_limit import visitor_id
from bon.ui.view_types import View
from bon.ui.work.speed_estimate import format_estimate

#: Rows of a batch on a private page; more are for the command line.
PRIVATE_ROWS = 10_000
#: Batches that a browser keeps.
KEPT = 8
PREVIEWED = 3
#: What pasted lines are called as a file.
PASTED = "prompts.txt"
#: What a batch brings home: as on the command line, where the first is what no --as is.
RESULTS = ("results", *export_formats.TRAINING_FORMATS)
#: The formats that can be written here.
FORMATS = (".jsonl", ".csv", *((".parquet",) if find_spec("pyarrow") else ()))
#: The settings that have a field on this tab, in order; the others are as on the Generate tab.
TAB_SETTINGS = ("n", "min_tokens", "max_tokens", "seed")
#: Those of the others that this tab names.
SHARED_SETTINGS = tuple(name for name, setting in PAGE_SETTINGS.items()
                        if name not in TAB_SETTINGS and setting.group in ("models", "sampling", "length"))


class BatchHandlers:
    """The Batch tab's events."""

    def __init__(self, state: AppState):
        self._state = state

    @property
    def _rows_max(self) -> int:
        deployment = self._state.deployment
        return deployment.rows if deployment.public else PRIVATE_ROWS

    def rows_limit(self) -> str:
        """What the page takes, in a line."""
        return say("batch.limit.public" if self._state.deployment.public else "batch.limit", n=self._rows_max)

    def preview(self, file: str | None, pasted: str, column: str | None = None) -> tuple[View, dict[str, Any], int]:
        """What a file holds, or the pasted lines; the choice of its columns; and its rows."""
        if not file and not (pasted or "").strip():
            return {}, gr.update(choices=[], value=None, visible=False), 0
        try:
            with _input_file(file, pasted) as path:
                return self._preview(path, column)
        except BonError as error:
            return {"error": _with_file_name(error, file)}, gr.update(visible=False), 0
        except Exception as error:
            report("A file could not be looked at", error)
            return {"error": UNEXPECTED}, gr.update(visible=False), 0

    def _preview(self, path: Path, column: str | None) -> tuple[View, dict[str, Any], int]:
        """As `preview`, of a file that is there."""
        self._check_format(path)
        try:
            dataset = Dataset(path, column, skip_bad=True)
        except InputError as error:
            if error.field != "prompt_column":
                raise
            choice = gr.update(choices=input_rows.column_names(path), value=None, visible=True)
            return {"title": say("batch.choose")}, choice, 0
        survey = dataset.survey()
        choice = gr.update(choices=list(survey.columns), value=dataset.column, visible=len(survey.columns) > 1)
        if survey.rows > self._rows_max:
            error = say("error.rows", n=survey.rows, most=self._rows_max)
            return {"error": error, "command": command(path.name)}, choice, 0
        bad = say("batch.bad", n=survey.unreadable) if survey.unreadable else ""
        column = say("batch.column", name=dataset.column) if dataset.column and len(survey.columns) > 1 else ""
        prompts = [text for row, _ in zip(dataset.rows(), range(PREVIEWED), strict=False) if (text := _prompt(row))]
        view = {"title": say("batch.rows", n=survey.rows), "line": join([column, bad]), "prompts": prompts}
        return view, choice, survey.rows

    def _check_format(self, path: Path) -> None:
        if self._state.deployment.public and path.suffix.lower() == ".parquet":  # few bytes of it may become any number
            raise InputError("input", say("error.parquet"))

    def estimate(self, rows: int, n: Any, least: Any, most: Any, model: str, scorer: str | None) -> str:
        """How long so many rows will take here; nothing where that is not known."""
        try:
            settings = Settings(n=n, min_tokens=least, max_tokens=most, model=model, scorer=scorer or None)
            together = max(1, min(group_size(settings.n), rows or 0))
            seconds = self._state.speeds.seconds(dataclasses.replace(settings, n=settings.n * together))
        except InputError:
            return ""
        return format_estimate(seconds * rows / together if seconds and rows else None)

    def start(self, visitor: gr.Request, file: str | None, pasted: str, column: str | None, form: str, ending: str,
              *values: Any) -> View:
        """Begins a batch: its id, or what is wrong.

        values: of `TAB_SETTINGS`, then of the form's `FIELDS`.
        """
        try:
            if not file and not (pasted or "").strip():
                raise InputError("input", say("error.batch.nothing"))
            of_tab = dict(zip(TAB_SETTINGS, values[: len(TAB_SETTINGS)], strict=True))
            of_form = dict(zip(FIELDS, values[len(TAB_SETTINGS):], strict=True))
            settings = settings_of(of_form | of_tab, self._state.deployment).filled().with_seed()
            self._check(settings)

            def put(folder: Path) -> Order:
                path = _put(folder, file, pasted)
                name = Path(file).name if file else PASTED
                try:
                    return self._order(path, name, column if file else None, form, ending, settings, visitor)
                except InputError as error:
                    raise InputError(error.field, replace_text(error.message, str(path), name)) from error

            batch = self._state.batches.start(put, lambda: self._load(settings), self._owner(visitor))
            return {"started": batch.id}
        except BonError as error:
            return {"error": error.message, "at": time.time()}
        except Exception as error:
            report("A batch could not be begun", error)
            return {"error": UNEXPECTED, "at": time.time()}

    def _check(self, settings: Settings) -> None:
        if zerogpu.is_on():
            raise InputError("input", say("batch.zerogpu"))
        self._state.deployment.check_names(settings.model, settings.scorer)

    def _order(self, path: Path, name: str, column: str | None, form: str, ending: str, settings: Settings,
               visitor: gr.Request) -> Order:
        """What is asked for. Raises `InputError` or `LimitError` where the page does not take it."""
        deployment = self._state.deployment
        self._check_format(path)
        dataset = Dataset(path, column, skip_bad=True)
        survey = dataset.survey()
        if survey.rows > self._rows_max:
            raise InputError("input", say("error.rows", n=survey.rows, most=self._rows_max))
        for row in dataset.rows() if deployment.public else ():
            deployment.check_size(len(row.prompt or str(row.messages or "")), settings)
        deployment.admit(visitor, survey.rows)
        trains = form if form in export_formats.TRAINING_FORMATS else None
        stem = re.sub(r"[^\w-]+", "-", Path(name).stem)[:40].strip("-") or "prompts"
        output = f"{stem}.{trains or 'best'}{ending if ending in FORMATS else FORMATS[0]}"
        return Order(name, path.name, output, dataclasses.asdict(settings), dataset.column, trains, survey.rows,
                     survey.unreadable, time.time())

    def _owner(self, visitor: gr.Request) -> str | None:
        deployment = self._state.deployment
        return visitor_id(visitor, deployment.spaces) if deployment.public else None

    def _load(self, settings: Settings) -> Future:
        return self._state.models.load(settings)

    def views(self, ids: Sequence[str]) -> list[View]:
        """The batches of these ids, which a browser keeps."""
        batches = [(name, self._state.batches.find(name)) for name in list(ids)[:KEPT]]
        return encode_messages([batch_view(batch) if batch else {"id": str(name)[:64], "phase": "gone"}
                        for name, batch in batches])

    def act(self, action: Mapping[str, str], visitor: gr.Request) -> View:
        """Stops, resumes or removes a batch. action: its `id`, and what to `do`."""
        batch, message = self._state.batches.find(action["id"]), ""
        if batch is None:
            return {"id": "", "phase": "gone"}
        try:
            if action["do"] == "stop":
                batch.stop()
            elif action["do"] == "remove":
                self._state.batches.remove(batch)
                return {"id": batch.id, "phase": "gone"}
            elif action["do"] == "resume":
                settings = Settings.of(batch.order.settings).filled()
                self._check(settings)
                if not batch.is_running:
                    self._state.deployment.admit(visitor, batch.order.rows - batch.progress["done"])
                self._state.batches.resume(batch, lambda: self._load(settings), self._owner(visitor))
        except BonError as error:
            message = error.message
        except Exception as error:
            report("A batch could not be resumed", error)
            message = UNEXPECTED
        return encode_messages(batch_view(batch) | ({"error": message} if message else {}))


def _prompt(row: Row) -> str:
    if row.messages is None:
        return str(row.error or row.prompt or "")[:300]
    last = row.messages[-1] if row.messages else ""
    return str(last.get("content") if isinstance(last, dict) else last)[:300]


@contextmanager
def _input_file(file: str | None, pasted: str) -> Iterator[Path]:
    """The uploaded file, or the pasted lines as a file that is there for a while."""
    if file:
        yield Path(file)
        return
    jobs.root().mkdir(parents=True, exist_ok=True, mode=0o700)
    with TemporaryDirectory(dir=jobs.root()) as folder:
        yield _put(Path(folder), None, pasted)


def _put(folder: Path, file: str | None, pasted: str) -> Path:
    """Copies the uploaded file, or writes the pasted lines, into a batch's folder."""
    if file:
        path = folder / f"input{Path(file).suffix.lower()}"
        try:
            shutil.copyfile(file, path)
        except FileNotFoundError:  # uploads are deleted after a day
            raise InputError("input", say("error.batch.gone")) from None
    else:
        path = folder / "input.txt"
        path.write_text(clean(pasted or ""), encoding="utf-8")
    return path


def _with_file_name(error: BonError, file: str | None) -> str:
    """An error's message with the file's name in place of where the server keeps it."""
    return replace_text(error.message, file, Path(file).name) if file else error.message
