"""Best of n for every row of a file: prompts in, winners or training data out, with a journal to go on from.

Rows go through the flow in batches of a fixed number, made from the row numbers alone, and row i draws from the random
streams (seed, i, candidate). So a run that was killed meets the same batches again, and its output is that of a run
that was not.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from errno import ENAMETOOLONG
from functools import cached_property
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bon import __version__
from bon.batch import export_formats, input_rows, resume_journal, writers
from bon.batch.export_formats import BEST, Form, Record
from bon.batch.input_rows import Dataset, Row, Survey
from bon.batch.resume_journal import Journal
from bon.engines.base import Engine
from bon.errors import BonError, InputError, ScoringError
from bon.messages import say
from bon.report import safe_files
from bon.result import Result
from bon.settings import Request, Settings

if TYPE_CHECKING:  # scorers bring torch, which takes seconds
    from bon.scorers.base import Scorer

#: Candidates that a batch holds where rows have fewer; rows beyond these bring no more speed.
CANDIDATES = 256
ROWS_MAX = 64


@dataclass(frozen=True)
class Task:
    """What a batch is to do.

    output: .jsonl, .csv or .parquet. form: what becomes of each row. margin: least difference in score of a preference,
    in the score's unit. resume: go on with an unfinished run, where there is one. overwrite: replace what is there.
    Raises `InputError` for what can be known to fail before any model is loaded, the whole input read once among it.
    """

    dataset: Dataset
    output: Path
    settings: Settings
    form: Form = BEST
    margin: float = 0.0
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", self.settings.filled())
        self.form.check(self.settings, self.margin)
        writers.writer(self.output)
        self._check_files()
        self._check_room()
        self.survey  # noqa: B018  what is wrong with the input is said now

    @property
    def results(self) -> list[Path]:
        """The files that there will be in the end: the output, and of training data the list of failures."""
        return [self.output, failures(self.output)] if self.form.trains else [self.output]

    def _check_files(self) -> None:
        """Nothing that the task writes is the input or anything but a file, and all of it can be written."""
        begun = resume_journal.place(self.output)
        try:
            for place in (*self.results, begun, *map(safe_files.scratch_path, self.results)):
                target = safe_files.resolved(place)
                if not target.parent.is_dir() or target.is_symlink() or (place.exists() and not place.is_file()):
                    raise InputError("output", say("error.output_is_no_file", path=str(place)))
                if place.exists() and place.samefile(self.dataset.path):
                    raise InputError("output", say("error.output_is_input", path=str(place)))
            for place in (*self.results, safe_files.resolved(self.output)):
                # With an ending as long as the longest of all.
                safe_files.check_writable(place.with_name(place.name + ".testing"))
            if begun.exists():
                safe_files.check_writable(begun)
        except OSError as error:
            key = "error.output_name_too_long" if error.errno == ENAMETOOLONG else "error.output_not_writable"
            reason = str(error.strerror or error)
            raise InputError("output", say(key, path=str(self.output), reason=reason)) from error

    def _check_room(self) -> None:
        if self.resume or self.overwrite:
            return
        if resume_journal.place(self.output).exists():
            raise InputError("output", say("error.output_unfinished", path=str(self.output), resume="--resume"))
        for place in self.results:
            if place.exists():
                raise InputError("output", say("error.output_exists", path=str(place)))

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to resume."""
        return self.resume and self.output.exists() and not resume_journal.place(self.output).exists()

    @cached_property
    def survey(self) -> Survey:
        """What the input holds."""
        return self.dataset.survey()

    @property
    def batch(self) -> int:
        """Rows of a batch."""
        return max(1, min(ROWS_MAX, CANDIDATES // self.settings.n))

    def batches(self, start: int = 0) -> Iterator[list[Row]]:
        """The rows of the input from number `start` on, where a batch begins, in batches."""
        rows = self.dataset.rows(start)
        return iter(lambda: list(islice(rows, self.batch)), [])

    def rows(self) -> Iterator[tuple[Row, str]]:
        """All rows of the input, each with the digest of its batch."""
        for batch in self.batches():
            digest = input_rows.digest(batch)
            yield from ((row, digest) for row in batch)

    def plan(self, workers: "Workers") -> dict[str, Any]:
        """All that the output depends on, in plain JSON types."""
        return {
            **dataclasses.asdict(self.settings), **workers.describe(),
            "as": self.form.name, "margin": self.margin, "batch": self.batch,
            "input's size": self.survey.size, "input's SHA-256": self.survey.sha256, "rows": self.survey.rows,
            "prompt column": self.dataset.column, "template": self.dataset.template,
            "skip_bad": self.dataset.skip_bad, "version": __version__,
        }


class Workers(Protocol):
    """Where the rows are worked on: here (`Here`), or by many processes (`bon.batch.ray_workers`)."""

    def describe(self) -> dict[str, Any]:
        """What the output depends on of models and machines, in plain JSON types."""

    def map(self, batches: Iterable[Sequence[Row]], settings: Settings, form: Form) -> Iterator[list[Record]]:
        """The `records` of each batch of rows, in their order."""


@dataclass(frozen=True, slots=True)
class Here:
    """This process as the only worker."""

    engine: Engine
    scorer: "Scorer"

    def describe(self) -> dict[str, Any]:
        """Names, target and unit; device and number type."""
        kind = {name: value for name, value in self.engine.describe().items() if name in ("device", "dtype")}
        return {"model": self.engine.name, "scorer": self.scorer.name, "target": self.scorer.target,
                "unit": self.scorer.unit, **kind}

    def map(self, batches: Iterable[Sequence[Row]], settings: Settings, form: Form) -> Iterator[list[Record]]:
        """The `records` of each batch of rows, one batch after the other."""
        return (records(rows, self.engine, self.scorer, settings, form) for rows in batches)


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows that are done, of all; how many of them failed; those done and the seconds spent since this run began."""

    done: int
    rows: int
    failed: int
    done_now: int
    seconds: float

    @property
    def rate(self) -> float | None:
        """Rows per second of this run; None before any are done."""
        return self.done_now / self.seconds if self.done_now else None

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take at this rate; None before it is known."""
        return (self.rows - self.done) / self.rate if self.rate else None


@dataclass(frozen=True, slots=True)
class Finished:
    """The output is complete.

    plan: what it depends on. rows, failed: of the input. written: rows of the output. left_out: how many rows of the
    input have no row there, by the keys of `export_formats.LEFT_OUT_REASONS`. errors: the first five, by row. notes:
    what the reader should know.
    """

    plan: dict[str, Any]
    rows: int
    failed: int
    written: int
    left_out: dict[str, int]
    errors: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def stream(task: Task, engine: Engine, scorer: "Scorer",
           deliver: Callable[[Finished], None] | None = None) -> Iterator[Progress | Finished]:
    """Does the task in this process: see `stream_by`."""
    return stream_by(Here(engine, scorer), task, deliver)


def stream_by(workers: Workers, task: Task,
              deliver: Callable[[Finished], None] | None = None) -> Iterator[Progress | Finished]:
    """Does the task: a `Progress` before the first batch and after each, then `Finished`.

    Closing the iterator stops within a step; a later task with `resume` goes on with the batch that was begun.
    deliver: called when the output is complete, before the journal goes, so that a delivery that fails is resumed too.
    Raises `InputError` where the unfinished run was another one, `BonError` where the disk is full, and what the
    engine raises where no row of a batch can be worked on.
    """
    digests = (digest for _, digest in task.rows())
    with Journal(task.output, task.plan(workers), task.resume, digests) as journal:
        settings = dataclasses.replace(task.settings, seed=journal.plan["seed"])
        failed = sum("error" in record for record in journal.records())
        begun, start = journal.done, time.perf_counter()
        yield Progress(begun, task.survey.rows, failed, 0, 0.0)
        for made in workers.map(task.batches(begun), settings, task.form):
            journal.add(made)
            failed += sum("error" in record for record in made)
            seconds = time.perf_counter() - start
            yield Progress(journal.done, task.survey.rows, failed, journal.done - begun, seconds)
        finished = _write(task, journal)
        if deliver:
            deliver(finished)
        journal.remove()
        yield finished


def records(rows: Sequence[Row], engine: Engine, scorer: "Scorer", settings: Settings, form: Form) -> list[Record]:
    """The records of one batch of rows, in their order: a pure function, wherever it runs.

    settings: with their seed. A row that fails becomes a record of its error. Each record carries the digest of these
    rows, since the file may be another when it is read again. Raises what the engine raises where it fails at every
    single row of several, which is no row's fault.
    """
    requests: dict[int, Request] = {}
    errors: dict[int, Exception] = {}
    for row in rows:
        try:
            requests[row.number] = _request(row, engine, settings)
        except InputError as error:
            errors[row.number] = error
    results = dict(zip(requests, _results(list(requests.values()), engine, scorer), strict=True))
    out, digest = [], input_rows.digest(rows)
    for row in rows:
        result = errors.get(row.number) or results[row.number]
        error = _said(result) if isinstance(result, Exception) else export_formats.why_nothing_is_kept(result)
        record = export_formats.failure(row.number, error) if error else (
            export_formats.record(row.number, result, form, settings.keep))
        out.append(record | {"digest": digest})
    return out


def _request(row: Row, engine: Engine, settings: Settings) -> Request:
    from bon import flow

    if row.error:
        raise InputError("input", row.error)
    every = dataclasses.replace(settings, keep=None)  # the mean is of all, whatever number of them is written
    request = Request(row.prompt, every, messages=row.messages, query=row.number)
    flow.check_fits(len(engine.encode(request)), settings.lengths[1], engine)
    return request


def _results(requests: Sequence[Request], engine: Engine, scorer: "Scorer") -> list[Result | Exception]:
    """The results of rows together; where that fails, of each alone, so that only those at fault fail."""
    from bon import flow

    try:
        return flow.run_many(requests, engine, scorer) if requests else []
    except Exception as error:  # a scorer or an engine may raise anything
        if len(requests) == 1:
            return [error]
    alone = [_results([request], engine, scorer)[0] for request in requests]
    if all(isinstance(result, Exception) and not isinstance(result, InputError | ScoringError) for result in alone):
        raise alone[0]
    return alone


def _said(error: Exception) -> str:
    return error.message if isinstance(error, BonError) else f"{type(error).__name__}: {error}"


class _Output:
    """The rows of the output, made from input and journal; can be gone through again and again."""

    def __init__(self, task: Task, journal: Journal):
        self._task, self._journal = task, journal

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.written, self.left_out = 0, Counter()
        self.errors: dict[int, str] = {}
        self.notes: dict[str, None] = {}
        self.with_empty = 0
        nothing = (None, None)
        for (row, digest), record in zip_longest(self._task.rows(), self._journal.records(), fillvalue=nothing):
            if row is None or record is nothing or record["digest"] != digest:
                raise _changed(self._task)
            made = export_formats.rows(self._task.form, self._task.dataset, row, record, self._task.margin)
            self.left_out.update([made.left_out] if made.left_out else [])
            notes = export_formats.notes_of(record)
            # Each row counts its own empty texts: of all rows one number says enough.
            of_empty = {note for note in notes if getattr(note, "key", "") == "note.empty"}
            self.with_empty += bool(of_empty)
            self.notes |= dict.fromkeys(note for note in notes if note not in of_empty)
            if "error" in record and len(self.errors) < 5:
                self.errors[row.number] = export_formats.error_of(record)
            self.written += len(made.rows)
            yield from made.rows

    def all_notes(self) -> tuple[str, ...]:
        """What the reader should know of the rows."""
        return (*self.notes, *([say("note.rows_with_empty", n=self.with_empty)] if self.with_empty else ()))


def _write(task: Task, journal: Journal) -> Finished:
    _check_unchanged(task)
    output, columns = _Output(task, journal), export_formats.columns(task.form, task.dataset, task.survey)

    def write(path: Path) -> None:
        writers.writer(task.output)(output, columns, path)
        _check_unchanged(task)  # nor while it was read for this

    _put(task.output, write)
    failed = sum("error" in record for record in journal.records())
    if task.form.trains:
        failures(task.output).unlink(missing_ok=True)
    if task.form.trains and failed:
        errors = ({name: value for name, value in record.items() if name != "digest"}
                  for record in journal.records() if "error" in record)
        _put(failures(task.output), lambda path: writers.jsonl(errors, (), path))
    return Finished(journal.plan, task.survey.rows, failed, output.written, dict(output.left_out), output.errors,
                    output.all_notes())


def _check_unchanged(task: Task) -> None:
    try:
        unchanged = task.dataset.sha256() == task.survey.sha256
    except InputError:  # it is gone
        unchanged = False
    if not unchanged:
        raise _changed(task)


def _changed(task: Task) -> BonError:
    return BonError(say("error.input_changed", path=str(task.dataset.path), resume="--resume"))


def failures(output: Path) -> Path:
    """Where the errors of the rows go that training data has no place for."""
    return output.with_name(output.name + ".failed.jsonl")


def _put(place: Path, write: Callable[[Path], None]) -> None:
    try:
        safe_files.write_atomically(place, write)
    except OSError as error:
        raise BonError(say("error.output_not_written", path=str(place), reason=str(error.strerror or error),
                           resume="--resume")) from error


def estimate(task: Task, engine: Engine, scorer: "Scorer") -> float:
    """Seconds that the whole task will take, by its first batch, which is done twice: the first time warms up."""
    some = list(islice(task.dataset.rows(), task.batch))
    for _ in range(2):
        start = time.perf_counter()
        records(some, engine, scorer, task.settings.with_seed(), task.form)
    return (time.perf_counter() - start) / len(some) * task.survey.rows
