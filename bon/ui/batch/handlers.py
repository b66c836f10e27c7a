"""`BatchHandlers`: what the Batch tab's events call to preview a file and to start, show, stop and resume batches."""

import asyncio
import dataclasses
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr
from typing_extensions import TypedDict  # of typing, pydantic takes it from Python 3.12 on

from bon import zerogpu
from bon.batch import export_formats, input_rows
from bon.batch.batch_run import group_size
from bon.batch.input_rows import Dataset
from bon.errors import InputError
from bon.messages import encode_messages, join, replace_text, say
from bon.settings import Settings, clean
from bon.ui.app_state import AppState
from bon.ui.batch import jobs
from bon.ui.batch.jobs import Order
from bon.ui.batch.journal_progress import prompt_text
from bon.ui.batch.views import batch_view, command
from bon.ui.generate.form_values import FIELDS, PAGE_SETTINGS, settings_of
from bon.ui.hosting.error_log import explain
from bon.ui.hosting.rate_limit import visitor_id
from bon.ui.view_types import View
from bon.ui.work.speed_estimate import format_estimate

if TYPE_CHECKING:  # imports torch, which takes seconds
    from bon.api import Sampler

#: The most rows of a batch in private mode; the command line takes more.
PRIVATE_ROWS = 10_000
#: The most batches that a browser keeps.
BATCHES_MAX = 8
#: More characters than a batch's key has.
KEY_MAX = 100
#: Prompts in a preview, and the most characters of each.
PREVIEW_ROWS, PREVIEW_TEXT_MAX = 3, 300
#: How many previews are made at the same time.
PREVIEWS_AT_ONCE = 2
#: The file name of pasted lines.
PASTED_NAME = "prompts.txt"
#: What the output is: results, or training data in one of the formats of the command line's --as.
RESULTS = ("results", *export_formats.TRAINING_FORMATS)
#: The endings of the files that can be written.
FORMATS = (".jsonl", ".csv", *((".parquet",) if find_spec("pyarrow") else ()))
#: The encodings that can be chosen for a file that is not UTF-8, with the keys of their names.
ENCODINGS = {
    "cp1252": "batch.encoding.western", "mac_roman": "batch.encoding.mac", "cp1250": "batch.encoding.central",
    "cp1251": "batch.encoding.cyrillic", "cp1253": "batch.encoding.greek", "cp1254": "batch.encoding.turkish",
    "cp1255": "batch.encoding.hebrew", "cp1256": "batch.encoding.arabic", "cp932": "batch.encoding.japanese",
    "gb18030": "batch.encoding.simplified", "big5": "batch.encoding.traditional", "cp949": "batch.encoding.korean",
}
#: The settings with a field on this tab, in order; the others are those of the Generate tab.
TAB_SETTINGS = ("n", "min_tokens", "max_tokens", "seed")
#: The settings of the Generate tab that this tab sums up in a line.
SHARED_SETTINGS = tuple(name for name, setting in PAGE_SETTINGS.items()
                        if name not in TAB_SETTINGS and setting.group in ("models", "sampling", "length"))


class Action(TypedDict):
    """What a visitor does to the batch with this key."""

    key: str
    do: Literal["stop", "resume", "remove"]


class BatchHandlers:
    """The Batch tab's events."""

    def __init__(self, state: AppState):
        self._state = state
        self._preview_turns = asyncio.Semaphore(PREVIEWS_AT_ONCE)

    @property
    def _rows_max(self) -> int:
        deployment = self._state.deployment
        return deployment.rows if deployment.public else PRIVATE_ROWS

    def rows_limit(self) -> str:
        """The line that states how many rows the page takes."""
        return say("batch.limit.public" if self._state.deployment.public else "batch.limit", n=self._rows_max)

    async def preview_in_turn(self, *arguments: Any) -> tuple[View, dict[str, Any], dict[str, Any], int]:
        """`preview`, beside at most one other, and in a thread that no visitor's run waits for."""
        async with self._preview_turns:
            return await asyncio.to_thread(self.preview, *arguments)

    def preview(self, file: str | None, pasted: str, column: str | None = None, encoding: str | None = None
                ) -> tuple[View, dict[str, Any], dict[str, Any], int]:
        """Of a file or pasted lines the preview, updates of the menus of columns and encodings, and the number of rows.

        The encoding can be chosen where the file is not UTF-8.
        """
        no_column, encodings = gr.update(visible=False), gr.update(value=encoding, visible=encoding is not None)
        if not file and not (pasted or "").strip():
            return {}, gr.update(choices=[], value=None, visible=False), encodings, 0
        try:
            with _input_file(file, pasted) as path:
                view, columns, rows = self._preview(path, column, encoding)
                return view, columns, encodings, rows
        except Exception as error:
            if getattr(error, "field", None) == "encoding":
                encodings = gr.update(value=encoding, visible=True)
            message = explain("A file could not be previewed", error)
            if file:
                message = _with_name(message, file, Path(file).name)
            return {"error": message}, no_column, encodings, 0

    def _preview(self, path: Path, column: str | None, encoding: str | None) -> tuple[View, dict[str, Any], int]:
        """`preview` for a file, without the update of the encodings. Raises what reading it raises."""
        try:
            dataset = self._dataset(path, column, encoding)
        except InputError as error:
            if error.key == "error.more_rows":
                own_machine = command(path.name, encoding=encoding)
                return {"error": error.message, "command": own_machine}, gr.update(visible=False), 0
            if error.field != "prompt_column":
                raise
            choice = gr.update(choices=input_rows.column_names(path, encoding), value=None, visible=True)
            return {"title": say("batch.choose")}, choice, 0
        survey = dataset.survey()
        choice = gr.update(choices=list(survey.columns), value=dataset.column, visible=len(survey.columns) > 1)
        unreadable = say("batch.bad", n=survey.unreadable) if survey.unreadable else ""
        column_name = say("batch.column", name=dataset.column) if dataset.column and len(survey.columns) > 1 else ""
        prompts = [prompt_text(row)[:PREVIEW_TEXT_MAX] for row in islice(dataset.rows(), PREVIEW_ROWS)]
        mixed = say("batch.mixed") if survey.is_mixed else ""
        title, line = say("batch.rows", n=survey.rows), join([column_name, unreadable, mixed])
        view = {"title": title, "line": line, "prompts": list(filter(None, prompts)), "chats": survey.holds_chats}
        return view, choice, survey.rows

    def _dataset(self, path: Path, column: str | None = None, encoding: str | None = None) -> Dataset:
        """The rows of a file. Raises `InputError` for one that cannot be read or has more rows than the page takes, for
        an encoding that the page does not offer, and for Parquet in public mode, where a few bytes could unpack to any
        number of rows.
        """
        if self._state.deployment.public and path.suffix.lower() == ".parquet":
            raise InputError("input", say("error.parquet"))
        if encoding is not None and encoding not in ENCODINGS:
            raise InputError("encoding", say("error.unknown_encoding", name=encoding))
        if input_rows.has_more_rows(path, self._rows_max, encoding):
            raise InputError("input", say("error.more_rows", most=self._rows_max))
        return Dataset(path, column, skip_bad=True, encoding=encoding)

    def estimate(self, rows: int, n: Any, min_tokens: Any, max_tokens: Any, model: str, scorer: str | None) -> str:
        """The text of how long so many rows will take; empty where that is not known."""
        try:
            settings = Settings(n=n, min_tokens=min_tokens, max_tokens=max_tokens, model=model, scorer=scorer or None)
            group = max(1, min(group_size(settings.n), rows or 0))
            seconds = self._state.speeds.seconds(dataclasses.replace(settings, n=settings.n * group))
        except InputError:
            return ""
        return format_estimate(seconds * rows / group if seconds and rows else None)

    def start(self, visitor: gr.Request, file: str | None, pasted: str, encoding: str | None, column: str | None,
              result: str, ending: str, *values: Any) -> View:
        """Starts a batch; returns its key, or an error.

        encoding: one of `ENCODINGS`, or None for UTF-8. result: one of `RESULTS`. ending: one of `FORMATS`. values: of
        `TAB_SETTINGS`, then of the form's `FIELDS`.
        """
        try:
            if not file and not (pasted or "").strip():
                raise InputError("input", say("error.batch.nothing"))
            tab_values = dict(zip(TAB_SETTINGS, values[: len(TAB_SETTINGS)], strict=True))
            form_values = dict(zip(FIELDS, values[len(TAB_SETTINGS):], strict=True))
            settings = settings_of(form_values | tab_values, self._state.deployment).filled().with_seed()
            self._check(settings)

            def make_order(folder: Path) -> Order:
                path = _write_input(folder, file, pasted)
                name = Path(file).name if file else PASTED_NAME
                try:
                    dataset = self._dataset(path, column, encoding) if file else self._dataset(path)
                    return self._order(dataset, name, result, ending, settings, visitor)
                except InputError as error:
                    raise InputError(error.field, _with_name(error.message, str(path), name)) from error

            _, key = self._state.batches.start(make_order, lambda: self._load(settings), self._owner(visitor))
            if file and self._state.deployment.public:  # strangers' files stay no longer than they are needed
                self._state.uploads.release(visitor_id(visitor), Path(file))
            return {"started": key}
        except Exception as error:
            return {"error": explain("A batch could not be started", error), "at": time.time()}

    def _check(self, settings: Settings) -> None:
        """Raises `InputError` where this page runs no batches, or does not offer the model or the scorer."""
        if zerogpu.is_on():
            raise InputError("input", say("batch.zerogpu"))
        self._state.deployment.check_names(settings.model, settings.scorer)

    def _order(self, dataset: Dataset, name: str, result: str, ending: str, settings: Settings,
               visitor: gr.Request) -> Order:
        """The order of a new batch. Raises `InputError` or `LimitError` where the page does not take it."""
        deployment = self._state.deployment
        survey = dataset.survey()
        for row in dataset.rows() if deployment.public else ():
            deployment.check_size(len(row.prompt or str(row.messages or "")), settings)
        deployment.admit(visitor, survey.rows)
        training_format = result if result in export_formats.TRAINING_FORMATS else None
        stem = re.sub(r"[^\w-]+", "-", Path(name).stem)[:40].strip("-") or "prompts"
        output = f"{stem}.{training_format or 'best'}{ending if ending in FORMATS else FORMATS[0]}"
        return Order(name, dataset.path.name, output, settings.to_dict(), dataset.column, training_format,
                     survey.rows, survey.unreadable, time.time(), dataset.encoding)

    def _owner(self, visitor: gr.Request) -> str | None:
        return visitor_id(visitor) if self._state.deployment.public else None

    def _load(self, settings: Settings) -> "Future[Sampler]":
        return self._state.models.load(settings)

    def views(self, keys: list[str]) -> list[View]:
        """The views of the batches with these keys; of an unknown key the phase is `gone`."""
        batches = [(key, self._state.batches.find(key)) for key in keys[:BATCHES_MAX]]
        return encode_messages([batch_view(batch) | {"key": key} if batch else _gone(key) for key, batch in batches])

    def act(self, action: Action, visitor: gr.Request) -> View:
        """Stops, resumes or removes a batch and returns its view."""
        key, message = action["key"], ""
        batch = self._state.batches.find(key)
        if batch is None:
            return _gone(key)
        try:
            if action["do"] == "stop":
                batch.stop()
            elif action["do"] == "remove":
                self._state.batches.remove(batch)
                return _gone(key)
            else:
                settings = Settings.of(batch.order.settings).filled()
                self._check(settings)
                if not batch.is_running:
                    self._state.deployment.admit(visitor, batch.order.rows - batch.progress["done"])
                self._state.batches.resume(batch, lambda: self._load(settings), self._owner(visitor))
        except Exception as error:
            message = explain("A batch could not be resumed or removed", error)
        return encode_messages(batch_view(batch) | {"key": key} | ({"error": message} if message else {}))


def _gone(key: str) -> View:
    """The view of a batch that is not there, or opens with another key."""
    return {"key": key[:KEY_MAX], "phase": "gone"}


@contextmanager
def _input_file(file: str | None, pasted: str) -> Iterator[Path]:
    """A context with the path of the uploaded file, or of a temporary file of the pasted lines."""
    if file:
        if not Path(file).exists():
            raise _gone_upload()
        yield Path(file)
        return
    jobs.root().mkdir(parents=True, exist_ok=True, mode=0o700)
    with TemporaryDirectory(dir=jobs.root()) as folder:
        yield _write_input(Path(folder), None, pasted)


def _write_input(folder: Path, file: str | None, pasted: str) -> Path:
    """Copies the uploaded file, or writes the pasted lines, into a folder; returns the path there."""
    if file:
        path = folder / f"input{Path(file).suffix.lower()}"
        try:
            shutil.copyfile(file, path)
        except FileNotFoundError:
            raise _gone_upload() from None
    else:
        path = folder / "input.txt"
        path.write_text(clean(pasted or ""), encoding="utf-8")
    return path


def _gone_upload() -> InputError:
    """The error on an upload that is deleted: on a public page once a batch has it, else an hour after its last use."""
    return InputError("input", say("error.batch.gone"))


def _with_name(message: str, path: str, name: str) -> str:
    """A message for the page, with the visitor's name of a file in place of its path on the server."""
    if getattr(message, "key", None) == "error.file_not_utf8":
        return say("error.batch.encoding", name=name)
    return replace_text(message, path, name)
