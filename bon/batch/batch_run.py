"""Best of n for every row of a file: prompts in, winners or training data out, with a journal to resume from.

Rows go through the flow in groups, which depend on the row numbers and settings alone, and row i draws from the random
streams (seed, i, candidate). So a run that is killed and resumed makes the same groups again, and its output is, byte
for byte, that of a run that nothing stopped.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from errno import ENAMETOOLONG
from functools import cached_property
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bon import __version__
from bon.batch import export_formats, resume_journal, writers
from bon.batch.export_formats import BEST, ExportFormat, Record
from bon.batch.input_rows import Dataset, Row, Survey, group_digest
from bon.batch.resume_journal import Journal
from bon.batch.writers import OutputRow
from bon.engines.base import Engine, defaults_of
from bon.errors import BonError, InputError, ScoringError, ServerFailureError, ServerUnavailableError
from bon.events import Done, Ended, Event, Note
from bon.messages import say
from bon.report import safe_files
from bon.result import Result
from bon.settings import Defaults, Request, Settings

if TYPE_CHECKING:  # scorers import torch, which takes seconds
    from bon.scorers.base import Scorer

#: Candidates of a group of rows at most; more in one group bring no more speed.
GROUP_CANDIDATES = 256
#: Rows of a group at most.
GROUP_ROWS = 64
#: Rows before a group, and as many after it, that are its neighbours.
NEIGHBOURS = 2
#: The most rows that are requested to see whether the server answers any.
ROWS_PROBED = 8
#: How often a server fails for a row, and answers another one after that, before the failure counts as the row's error.
ROW_FAILURES = 3
#: Notes that count the texts of a row, and the note that all rows with such a note get together.
NOTES_OF_ROWS = {"note.empty": "note.rows_with_empty", "note.unrated": "note.rows_with_unrated"}
#: Failed rows whose errors `Finished` names.
ERRORS_SHOWN = 5


def group_size(n: int) -> int:
    """Rows of a group where each has n candidates."""
    return max(1, min(GROUP_ROWS, GROUP_CANDIDATES // n))


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that go through the flow together.

    neighbours: rows of other groups. Where no row of this group is answered, whether one of these is answered tells an
    outage from rows that the server cannot answer.
    """

    rows: Sequence[Row]
    neighbours: Sequence[Row] = ()


@dataclass(frozen=True)
class Task:
    """A batch to run.

    output: .jsonl, .csv or .parquet. format: what each row becomes. margin: least difference in score of a preference,
    in the score's unit. resume: continue an unfinished run, where there is one. overwrite: replace what is there.
    Raises `InputError` for everything that can be checked before models are loaded; for that it reads the whole input.
    """

    dataset: Dataset
    output: Path
    settings: Settings
    format: ExportFormat = BEST
    margin: float = 0.0
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        self.format.check(self.settings, self.margin)
        writers.writer(self.output)
        self._check_files()
        self._check_nothing_is_lost()
        self.survey  # noqa: B018  raises for an input that cannot be read

    @property
    def output_files(self) -> list[Path]:
        """The files that there are in the end: the output, and of training data the list of failed rows."""
        return [self.output, failures_path(self.output)] if self.format.for_training else [self.output]

    def _check_files(self) -> None:
        """Raises `InputError` where a file to write is the input, is no regular file or cannot be written."""
        journal = resume_journal.journal_path(self.output)
        try:
            for path in (*self.output_files, journal, *map(safe_files.scratch_path, self.output_files)):
                file = safe_files.resolved(path)
                if not file.parent.is_dir() or file.is_symlink() or (path.exists() and not path.is_file()):
                    raise InputError("output", say("error.output_is_no_file", path=str(path)))
                if path.exists() and path.samefile(self.dataset.path):
                    raise InputError("output", say("error.output_is_input", path=str(path)))
            for path in (*self.output_files, safe_files.resolved(self.output)):
                # As long as the longest name that is made from it: `.partial` and `.writing` have as many letters.
                safe_files.check_writable(path.with_name(path.name + ".testing"))
            if journal.exists():
                safe_files.check_writable(journal)
        except OSError as error:
            key = "error.output_name_too_long" if error.errno == ENAMETOOLONG else "error.output_not_writable"
            reason = str(error.strerror or error)
            raise InputError("output", say(key, path=str(self.output), reason=reason)) from error

    def _check_nothing_is_lost(self) -> None:
        """Raises `InputError` where the run would replace a file and neither resumes nor may overwrite."""
        if self.resume or self.overwrite:
            return
        if resume_journal.journal_path(self.output).exists():
            raise InputError("output", say("error.output_unfinished", path=str(self.output), resume="--resume"))
        for path in self.output_files:
            if path.exists():
                raise InputError("output", say("error.output_exists", path=str(path)))

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to resume."""
        return self.resume and self.output.exists() and not resume_journal.journal_path(self.output).exists()

    @cached_property
    def survey(self) -> Survey:
        """The facts of the input, read once."""
        return self.dataset.survey()

    def unnamed(self, defaults: Defaults) -> dict[str, Any]:
        """The values that hold where the settings name none; None where those of chats and other prompts differ and the
        input holds both, since each row then has its own.
        """
        of_chats, of_texts = (defaults.fill(self.settings, is_chat).to_dict() for is_chat in (True, False))
        values = of_chats if self.survey.holds_chats else of_texts
        return {name: None if self.survey.is_mixed and of_chats[name] != of_texts[name] else value
                for name, value in values.items() if getattr(self.settings, name) is None}

    @property
    def group_size(self) -> int:
        """Rows of a group."""
        return group_size(self.settings.n)

    def groups(self, start: int = 0) -> Iterator[Group]:
        """The rows of the input in groups, from row `start` on, at which a group begins."""
        first = max(0, start - NEIGHBOURS)
        rows = self.dataset.rows(first)
        before, following = list(islice(rows, start - first)), list[Row]()
        while group := [*following, *islice(rows, self.group_size - len(following))]:
            following = list(islice(rows, min(NEIGHBOURS, self.group_size)))
            yield Group(group, (*before, *following))
            before = [*before, *group][-NEIGHBOURS:]

    def rows_with_digests(self) -> Iterator[tuple[Row, str]]:
        """All rows of the input, each with the digest of its group."""
        for group in self.groups():
            digest = group_digest(group.rows)
            yield from ((row, digest) for row in group.rows)

    def plan(self, workers: "Workers") -> dict[str, Any]:
        """All that the output depends on, in plain JSON types; None for values that nobody named."""
        return {
            **self.settings.to_dict(), **workers.describe(),
            "as": self.format.name, "margin": self.margin, "batch": self.group_size,
            "input's size": self.survey.size, "input's SHA-256": self.survey.sha256, "rows": self.survey.rows,
            "prompt column": self.dataset.column, "template": self.dataset.template,
            "skip_bad": self.dataset.skip_bad, "encoding": self.dataset.encoding, "version": __version__,
        }


class Workers(Protocol):
    """What runs the rows: this process (`LocalWorker`), or processes on a cluster (`bon.batch.ray_workers`)."""

    def describe(self) -> dict[str, Any]:
        """What the output depends on of models and machines, in plain JSON types."""

    def defaults(self) -> Defaults:
        """The values that the model brings along."""

    def map(self, groups: Iterable[Group], settings: Settings, export_format: ExportFormat) -> Iterator[list[Record]]:
        """The `make_records` of each group of rows, in their order."""


#: Is told, while a group of rows is under way, what delays it.
Tell = Callable[[str], None]


def tell_nobody(_: str) -> None:
    """Where nobody watches."""


@dataclass(frozen=True, slots=True)
class LocalWorker:
    """This process as the only worker."""

    engine: Engine
    scorer: "Scorer"
    tell: Tell = tell_nobody

    def describe(self) -> dict[str, Any]:
        """Names, target and unit; device and number type; the digest of an adapter."""
        of_engine = {name: value for name, value in self.engine.describe().items()
                     if name in ("device", "dtype", "adapter")}
        return {"model": self.engine.name, "scorer": self.scorer.name, "target": self.scorer.target,
                "unit": self.scorer.unit, **of_engine}

    def defaults(self) -> Defaults:
        """The engine's."""
        return defaults_of(self.engine)

    def map(self, groups: Iterable[Group], settings: Settings, export_format: ExportFormat) -> Iterator[list[Record]]:
        """The `make_records` of each group of rows, one group after the other."""
        return (make_records(group, self.engine, self.scorer, settings, export_format, self.tell) for group in groups)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is: rows done, of all rows, and how many of the done ones failed.

    done_now, seconds: rows done, and time spent, since this run began; a resumed run begins with rows done.
    """

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
    def seconds_left(self) -> float | None:
        """Seconds that the rest will take at this rate; None before any rows are done."""
        return (self.rows - self.done) / self.rate if self.rate else None


@dataclass(frozen=True, slots=True)
class Finished:
    """The output is complete.

    plan: what it depends on. rows, failed: of the input. written: rows of the output. left_out: how many rows of the
    input have no row there, by the keys of `export_formats.LEFT_OUT_REASONS`. errors: of the first `ERRORS_SHOWN`
    failed rows, by row. notes: what the reader should know.
    """

    plan: dict[str, Any]
    rows: int
    failed: int
    written: int
    left_out: dict[str, int]
    errors: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


#: What a batch yields while it runs.
BatchEvents = Generator[Progress | Finished, None, None]


def stream(task: Task, engine: Engine, scorer: "Scorer",
           deliver: Callable[[Finished], None] | None = None, tell: Tell = tell_nobody) -> BatchEvents:
    """Runs the task in this process: see `stream_with`. tell: is told what delays a group of rows."""
    return stream_with(LocalWorker(engine, scorer, tell), task, deliver)


def stream_with(workers: Workers, task: Task, deliver: Callable[[Finished], None] | None = None) -> BatchEvents:
    """Runs the task: yields a `Progress` before the first group and after each, then `Finished`.

    Closing the iterator stops within a step; a later task with `resume` starts again with the group that was cut short.
    deliver: called when the output is complete, before the journal is deleted, so that after a delivery that fails the
    task can be resumed too. Raises `InputError` where the unfinished run had another plan, `BonError` where the disk is
    full, `ServerUnavailableError` where a server answers no row, and what the engine raises where every row of a group
    and its neighbours fail.
    """
    digests = (digest for _, digest in task.rows_with_digests())
    plan = task.plan(workers)
    unnamed = {name: value for name, value in task.unnamed(workers.defaults()).items() if plan[name] is None}
    with Journal(task.output, plan, task.resume, digests, unnamed) as journal:
        settings = task.settings.named(**{name: journal.plan[name] for name in ("seed", *unnamed)})
        failed = sum("error" in record for record in journal.records())
        done_before, start = journal.done, time.perf_counter()
        yield Progress(done_before, task.survey.rows, failed, 0, 0.0)
        try:
            for records in workers.map(task.groups(done_before), settings, task.format):
                journal.add(records)
                failed += sum("error" in record for record in records)
                seconds = time.perf_counter() - start
                yield Progress(journal.done, task.survey.rows, failed, journal.done - done_before, seconds)
        except ServerUnavailableError as error:
            raise ServerUnavailableError(say("error.batch_stopped", error=error.message, done=str(journal.done),
                                             rows=str(task.survey.rows), resume="--resume")) from error
        finished = _write_output(task, journal)
        if deliver:
            deliver(finished)
        journal.remove()
        yield finished


#: What becomes of a row: its result, or the error that is its own.
Outcome = Result | Exception


def make_records(group: Group, engine: Engine, scorer: "Scorer", settings: Settings, export_format: ExportFormat,
                 tell: Tell = tell_nobody) -> list[Record]:
    """The records of one group of rows, in their order; they depend on the arguments alone, whichever process runs it.

    settings: with their seed. A row that fails becomes a record of its error. Each record carries the digest of these
    rows, since the file may have changed when it is read again. Raises `ServerUnavailableError` where a server answers
    no row, and what the engine raises where all of these rows fail in it and the neighbours do too, since then the
    engine and not a row is at fault.
    """
    requests: dict[int, Request] = {}
    outcomes: dict[int, Outcome] = {}
    for row in group.rows:
        try:
            requests[row.number] = _request(row, engine, settings)
        except InputError as error:
            outcomes[row.number] = error
    run = _GroupRun(list(requests.values()), group.neighbours, engine, scorer, settings, tell)
    outcomes.update(zip(requests, run.outcomes(), strict=True))
    digest = group_digest(group.rows)
    return [_record(row.number, outcomes[row.number], export_format, settings.keep) | {"digest": digest}
            for row in group.rows]


def _request(row: Row, engine: Engine, settings: Settings) -> Request:
    """The request of a row. Raises `InputError` for a row that cannot be read or does not fit the model."""
    from bon import flow

    if row.error:
        raise InputError("input", row.error)
    messages = None if row.messages is None else tuple(row.messages)
    filled = defaults_of(engine).fill(settings, messages is not None)
    keep_all = dataclasses.replace(filled, keep=None)  # the mean is over all candidates, however many are written
    request = Request(row.prompt, keep_all, messages=messages, query=row.number)
    flow.encode_fitting(request, engine, filled.lengths[1])
    return request


@dataclass(slots=True)
class _GroupRun:
    """The run of a group of rows, which finds out whether a row or the engine is at fault where something fails."""

    requests: Sequence[Request]
    neighbours: Sequence[Row]
    engine: Engine
    scorer: "Scorer"
    settings: Settings
    tell: Tell

    def outcomes(self) -> list[Outcome]:
        """The results of the rows together; where that fails, of each alone, so that only the rows at fault fail."""
        if len(self.requests) > 1:
            try:
                return list(self._results(self.requests))
            except ServerUnavailableError:
                raise
            except ServerFailureError as error:
                first, *_, last = (str(request.query) for request in self.requests)
                self.tell(say("note.rows_one_by_one", first=first, last=last, error=error.message))
            except Exception:  # a scorer or an engine may raise anything, and does so again for the row at fault
                pass
        outcomes: list[Outcome] = []
        for request in self.requests:
            answered = [other for other, outcome in zip(self.requests, outcomes, strict=False)
                        if isinstance(outcome, Result)]
            outcomes.append(self._outcome_alone(request, answered))
        engine_errors = [outcome for outcome in outcomes
                         if isinstance(outcome, Exception) and not isinstance(outcome, InputError | ScoringError)]
        outside = self._neighbour_requests()
        comparable = len(self.requests) > 1 or outside
        if engine_errors and len(engine_errors) == len(outcomes) and comparable and not self._any_completed(outside):
            raise engine_errors[0]
        return outcomes

    def _results(self, requests: Sequence[Request]) -> Iterator[Result]:
        """The results of these rows together, with nobody else's."""
        return (event.result for event in self._events(requests) if isinstance(event, Done))

    def _events(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        """The events of these rows. Passes on at once, and once for all rows, the notes that tell of a delay."""
        from bon import flow

        with closing(flow.stream_many(requests, self.engine, self.scorer, watched=False)) as events:
            for number, event in events:
                if number == 0 and isinstance(event, Note) and event.urgent:
                    self.tell(event.text)
                yield event

    def _outcome_alone(self, request: Request, answered: Sequence[Request]) -> Outcome:
        """The result of one row, or the error that is its own.

        answered: rows of the group that the server has answered. Raises `ServerUnavailableError` where it answers none.
        """
        for failures in range(1, ROW_FAILURES + 1):
            try:
                (result,) = self._results([request])
                return result
            except ServerUnavailableError:
                raise
            except ServerFailureError as error:
                if not self._any_answered(self._others(request, answered)):
                    raise ServerUnavailableError(say("error.no_row_answered", error=error.message)) from error
                if failures == ROW_FAILURES:
                    return error
            except Exception as error:  # a scorer or an engine may raise anything
                return error
        raise AssertionError("the last failure is returned")

    def _others(self, request: Request, answered: Sequence[Request]) -> list[Request]:
        """Rows other than this one, of which one is answered unless the server is down: at most `ROWS_PROBED`.

        The rest is spread over the group, since rows that the server cannot answer often follow each other.
        """
        rest = [other for other in self.requests if other is not request and other not in answered]
        chosen = [*answered[-2:], *self._neighbour_requests()]
        count = ROWS_PROBED - len(chosen)
        return [*chosen, *rest[:: max(1, -(-len(rest) // count))]]

    def _neighbour_requests(self) -> list[Request]:
        """The requests of the neighbours that can be read and fit the model."""
        requests = []
        for row in self.neighbours:
            with suppress(InputError):
                requests.append(_request(row, self.engine, self.settings))
        return requests

    def _any_answered(self, requests: Sequence[Request]) -> bool:
        """Whether the engine completes a candidate of any of these rows."""
        if not requests:
            return False
        try:
            with closing(self._events(self._single(requests))) as events:
                return any(isinstance(event, Ended) for event in events)
        except ServerUnavailableError:
            raise
        except Exception:  # an engine may raise anything
            return False

    def _any_completed(self, requests: Sequence[Request]) -> bool:
        """Whether any of these rows comes to a result, its score included: each is tried alone until one does."""
        for request in self._single(requests):
            try:
                list(self._results([request]))
                return True
            except ServerUnavailableError:
                raise
            except Exception:  # a scorer or an engine may raise anything
                continue
        return False

    def _single(self, requests: Sequence[Request]) -> list[Request]:
        """The same prompts with one candidate each."""
        settings = dataclasses.replace(self.settings, n=1, reject=0.0, keep=None)
        return [request.with_settings(settings) for request in requests]


def _record(row: int, outcome: Outcome, export_format: ExportFormat, keep: int | None) -> Record:
    if isinstance(outcome, BonError):
        return export_formats.failure_record(row, outcome.message)
    if isinstance(outcome, Exception):
        return export_formats.failure_record(row, f"{type(outcome).__name__}: {outcome}")
    if note := export_formats.no_score_note(outcome):
        return export_formats.failure_record(row, note)
    return export_formats.result_record(row, outcome, export_format, keep)


@dataclass(slots=True)
class _Summary:
    """Counts, errors and notes of the rows that were written."""

    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    errors: dict[int, str] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    rows_by_note: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row, record: Record, exported: export_formats.ExportedRows) -> None:
        """Counts one row of the input."""
        self.written += len(exported.rows)
        self.left_out.update([exported.left_out] if exported.left_out else [])
        notes = export_formats.record_notes(record)
        for note in notes:
            if (key := getattr(note, "key", "")) in NOTES_OF_ROWS:
                self.rows_by_note[key] += 1
            else:
                self.notes[note] = None
        if "error" in record and len(self.errors) < ERRORS_SHOWN:
            self.errors[row.number] = export_formats.record_error(record)

    def all_notes(self) -> tuple[str, ...]:
        """What the reader should know of the rows."""
        return (*self.notes, *(say(NOTES_OF_ROWS[key], n=count) for key, count in self.rows_by_note.items()))


class _Output:
    """The rows of the output, made from input and journal at each iteration; `summary` is of the latest."""

    def __init__(self, task: Task, journal: Journal):
        self._task, self._journal = task, journal
        self.summary = _Summary()

    def __iter__(self) -> Iterator[OutputRow]:
        self.summary = _Summary()
        for pair, record in zip_longest(self._task.rows_with_digests(), self._journal.records()):
            if pair is None or record is None or record["digest"] != pair[1]:
                raise _input_changed(self._task)
            row, _ = pair
            exported = export_formats.output_rows(
                self._task.format, self._task.dataset, row, record, self._task.margin)
            self.summary.add(row, record, exported)
            yield from exported.rows


def _write_output(task: Task, journal: Journal) -> Finished:
    """Writes the output, and of training data the list of failed rows, from a journal that holds every row."""
    _check_unchanged(task)
    output, columns = _Output(task, journal), export_formats.output_columns(task.format, task.dataset, task.survey)

    notes: list[str] = []

    def write(path: Path) -> None:
        notes.extend(writers.writer(task.output)(output, columns, path))
        _check_unchanged(task)  # again, since writing reads the input

    _write_file(task.output, write)
    failed = sum("error" in record for record in journal.records())
    if task.format.for_training:
        failures_path(task.output).unlink(missing_ok=True)
    if task.format.for_training and failed:
        errors = ({name: value for name, value in record.items() if name != "digest"}
                  for record in journal.records() if "error" in record)
        _write_file(failures_path(task.output), lambda path: writers.write_jsonl(errors, (), path))
    summary = output.summary
    return Finished(journal.plan, task.survey.rows, failed, summary.written, dict(summary.left_out), summary.errors,
                    (*summary.all_notes(), *notes))


def _check_unchanged(task: Task) -> None:
    """Raises `BonError` where the input is not the file that was surveyed."""
    try:
        unchanged = task.dataset.sha256() == task.survey.sha256
    except InputError:  # it was deleted
        unchanged = False
    if not unchanged:
        raise _input_changed(task)


def _input_changed(task: Task) -> BonError:
    return BonError(say("error.input_changed", path=str(task.dataset.path), resume="--resume"))


def failures_path(output: Path) -> Path:
    """The file of failed rows beside training data, which has no place for their errors."""
    return output.with_name(output.name + ".failed.jsonl")


def _write_file(path: Path, write: Callable[[Path], object]) -> None:
    try:
        safe_files.write_atomically(path, write)
    except OSError as error:
        raise BonError(say("error.output_not_written", path=str(path), reason=str(error.strerror or error),
                           resume="--resume")) from error


def estimate_seconds(task: Task, engine: Engine, scorer: "Scorer", tell: Tell = tell_nobody) -> float:
    """Seconds that the whole task will take, by its first group, which is run twice: the first time warms up.

    tell: as of `stream`.
    """
    group, settings = next(task.groups()), task.settings.named(**task.unnamed(defaults_of(engine))).with_seed()
    for _ in range(2):
        start = time.perf_counter()
        make_records(group, engine, scorer, settings, task.format, tell)
    return (time.perf_counter() - start) / len(group.rows) * task.survey.rows
