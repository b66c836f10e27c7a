"""The page's batches: each in a folder of its own, done by a thread of its own, whoever looks on.

A folder's name is what finds a batch again, so it cannot be guessed. It holds the input, the output or its journal,
and `job.json`, which says what was asked for and how it ended: a batch that had only begun when the server died is
found as interrupted, and goes on from its journal.
"""

import dataclasses
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from bon.batch import batch_run, export_formats
from bon.batch.batch_run import Finished, Task
from bon.batch.input_rows import Dataset
from bon.errors import BonError, InputError, LimitError
from bon.messages import encode_messages, replace_text, say
from bon.report.json_text import json_text
from bon.settings import Settings
from bon.ui.batch.journal_progress import JournalProgress
from bon.ui.hosting.error_log import UNEXPECTED, report
from bon.ui.work.model_loading import is_ready
from bon.ui.work.priority import Halt, WaitingRuns, Yield, YieldingEngine

#: Batches that go on at the same time; their rows take turns.
MOST = 4
#: Seconds after which a batch that does not go on is deleted: a stranger's, and anybody's.
DAY, MONTH = 86_400, 30 * 86_400
#: What `secrets.token_urlsafe(24)` gives.
ID = re.compile(r"[\w-]{32}", re.ASCII)


def root() -> Path:
    """Where the folders are: within Gradio's own, from which it serves downloads."""
    return Path(get_upload_folder()) / "bon-batches"


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for, in plain JSON types.

    name: the file's, for its owner. input, output: file names in the folder. settings: as `bon.Settings`, with their
    seed. rows, bad: of the input. created: seconds since 1970.
    """

    name: str
    input: str
    output: str
    settings: Mapping[str, Any]
    column: str | None
    form: str | None
    rows: int
    bad: int
    created: float

    def dataset(self, folder: Path) -> Dataset:
        """The input in this folder."""
        return Dataset(folder / self.input, self.column, skip_bad=True)

    def task(self, folder: Path, resume: bool = False) -> Task:
        """The task in this folder. Raises `InputError` where it cannot work."""
        form, settings = export_formats.format_named(self.form), Settings.of(self.settings)
        return Task(self.dataset(folder), folder / self.output, settings, form, resume=resume)


class Batch:
    """One batch. `order`: what was asked for. `end`: how it ended, as `job.json` has it."""

    def __init__(self, folder: Path, order: Order, end: Mapping[str, Any] | None = None):
        self.folder, self.id, self.order, self.end = folder, folder.name, order, end or {}
        self.owner: str | None = None
        self._rows_before: int | None = None
        self._started_at = 0.0
        self._halt, self._phase_after_halt = threading.Event(), "stopped"
        self._thread: threading.Thread | None = None
        self._progress: dict[str, Any] | None = None

    @classmethod
    def read(cls, folder: Path) -> "Batch":
        """The batch that was begun in this folder. Raises what a file that is not there, or another's, does."""
        kept = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        return cls(folder, Order(**kept["order"]), kept["end"])

    @property
    def is_running(self) -> bool:
        """Whether its thread lives."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def phase(self) -> str:
        """loading, running, stopping; else stopped, interrupted, failed or done."""
        if not self.is_running:
            return self.end["phase"]
        return "stopping" if self._halt.is_set() else "loading" if self._rows_before is None else "running"

    @property
    def progress(self) -> dict[str, Any]:
        """What it has come to: see `JournalProgress.values`."""
        if self._progress is None:
            self._progress = self.end.get("told") or self._journal_progress().read_on().values()
        return self._progress

    def _journal_progress(self) -> JournalProgress:
        return JournalProgress(self.order.dataset(self.folder), self.folder / self.order.output)

    def begin(self, task: Task, load: Callable[[], Future], shared: "Shared", owner: str | None) -> None:
        """Starts its thread. load: gives the `bon.Sampler` to come."""
        self.owner, self._rows_before = owner, None
        self._halt.clear()
        self.save("interrupted")  # which it is, should nothing else be saved
        self._thread = threading.Thread(target=self._work, args=(task, load, shared), name="batch", daemon=True)
        self._thread.start()

    def stop(self, phase: str = "stopped") -> None:
        """Has it stop within a step, and be found as `phase` from then on."""
        self._phase_after_halt = phase
        self._halt.set()

    def join(self, seconds: float | None = None) -> None:
        """Returns once its thread has ended, or after so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    def save(self, phase: str, **more: Any) -> None:
        """Keeps how it ended."""
        self.end = {"phase": phase, **more}
        begun = self.folder / "job.json.writing"
        begun.write_text(json_text({"order": dataclasses.asdict(self.order), "end": self.end}), encoding="utf-8")
        os.replace(begun, self.folder / "job.json")

    def explain(self, error: BonError) -> str:
        """What an error says on the page: no path of the server's, no option of the command line."""
        if isinstance(error, InputError) and error.field == "resume":
            return say("error.batch.changed")
        message = replace_text(error.message, str(self.folder / self.order.input), self.order.name)
        message = replace_text(message, f"{self.folder}{os.sep}", "")
        return replace_text(message, "--resume", say("batch.resume"))

    def _work(self, task: Task, load: Callable[[], Future], shared: "Shared") -> None:
        try:
            self._run(task, self._sampler(load()), shared)
        except Halt:
            self.save(self._phase_after_halt)
        except BonError as error:
            self.save("failed", error=encode_messages(self.explain(error)))
        except Exception as error:
            report("A batch failed", error)
            self.save("failed", error=encode_messages(UNEXPECTED))

    def _sampler(self, loading: Future) -> Any:
        while not is_ready(loading, 0.1):
            if self._halt.is_set():
                raise Halt
        return loading.result()

    def _run(self, task: Task, sampler: Any, shared: "Shared") -> None:
        engine = YieldingEngine(sampler.engine, self._halt, shared.waiting)
        self._started_at = time.monotonic()
        while True:
            try:
                return self._run_rows(task, engine, sampler.scorer, shared)
            except Yield:
                engine.yields = False
                shared.waiting.let_pass()
                task = dataclasses.replace(task, resume=True)

    def _run_rows(self, task: Task, engine: YieldingEngine, scorer: Any, shared: "Shared") -> None:
        """Runs the rows that are left, some at a time, in turns with other batches."""
        journal = None
        with closing(batch_run.stream(task, engine, scorer, self._deliver)) as events:
            while True:
                with shared.turn:
                    event = next(events)
                if isinstance(event, Finished):
                    return
                journal = journal or self._journal_progress()  # by the first event the journal is mended
                self._set_progress(journal.read_on().values())
                engine.yields = engine.yields or event.done_now > 0
                if self._halt.is_set():
                    raise Halt
                time.sleep(0.005)  # a lock is not fair: so the next one in line gets it
                shared.waiting.let_pass()

    def _set_progress(self, progress: dict[str, Any]) -> None:
        self._progress = progress
        if self._rows_before is None:
            self._rows_before = progress["done"]

    def _deliver(self, finished: Finished) -> None:
        self.save("done", told=self._progress, seconds=time.monotonic() - self._started_at, written=finished.written,
                  left_out=finished.left_out, notes=encode_messages(finished.notes))

    @property
    def rate(self) -> float | None:
        """Rows per second since it was begun or resumed; None before any are done."""
        rows = self.progress["done"] - (self._rows_before or 0)
        return rows / (time.monotonic() - self._started_at) if rows > 0 else None


class Shared:
    """What batches share: their turns at the rows, and the visitors' runs that they let go first."""

    def __init__(self, waiting: WaitingRuns):
        self.waiting, self.turn = waiting, threading.Lock()


class Batches:
    """All batches of this server."""

    def __init__(self, waiting: WaitingRuns):
        self._by_id: dict[str, Batch] = {}
        self._lock, self._shared = threading.RLock(), Shared(waiting)

    def start(self, put: Callable[[Path], Order], load: Callable[[], Future], owner: str | None = None) -> Batch:
        """Begins a batch. put: brings the input into a folder and says what is asked for.

        owner: a stranger, who may have one at a time. Raises `LimitError` where there are enough, and what `put` and
        `Order.task` raise.
        """
        with self._lock:
            self._admit(owner)
        folder = root() / secrets.token_urlsafe(24)
        folder.mkdir(parents=True, mode=0o700)
        try:
            order = put(folder)
            task, batch = order.task(folder), Batch(folder, order)
            with self._lock:
                self._admit(owner)
                batch.begin(task, load, self._shared, owner)
                self._by_id[batch.id] = batch
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return batch

    def resume(self, batch: Batch, load: Callable[[], Future], owner: str | None = None) -> None:
        """Goes on with a batch that was stopped, interrupted or has failed; nothing where it goes on or is done."""
        with self._lock:
            if batch.is_running or batch.phase == "done":
                return
            self._admit(owner)
            batch.begin(batch.order.task(batch.folder, resume=True), load, self._shared, owner)

    def find(self, name: Any) -> Batch | None:
        """The batch of this id, or None."""
        if not (isinstance(name, str) and ID.fullmatch(name)):
            return None
        with self._lock:
            if name not in self._by_id:
                try:
                    batch = Batch.read(root() / name)
                    batch.progress  # noqa: B018  raises now what reading it raises
                    self._by_id[name] = batch
                except (OSError, ValueError, KeyError, TypeError):
                    return None
            return self._by_id[name]

    def remove(self, batch: Batch) -> None:
        """Stops it and deletes all of it."""
        batch.stop()
        batch.join()
        with self._lock:
            self._by_id.pop(batch.id, None)
            shutil.rmtree(batch.folder, ignore_errors=True)

    def sweep_hourly(self, public: bool) -> None:
        """Once an hour from now on, deletes what has not changed for a month, or for a day where strangers come."""

        def sweep() -> None:
            while True:
                self.sweep(DAY if public else MONTH)
                time.sleep(3600)

        threading.Thread(target=sweep, name="sweep", daemon=True).start()

    def sweep(self, age: float) -> None:
        """Deletes what has not changed for so many seconds and does not go on."""
        for folder in [place for place in root().glob("*") if place.is_dir()]:
            with suppress(OSError), self._lock:  # what somebody else deletes meanwhile is gone too
                known = self._by_id.get(folder.name)
                latest = max(place.stat().st_mtime for place in [folder, *folder.iterdir()])
                if time.time() - latest > age and not (known and known.is_running):
                    self._by_id.pop(folder.name, None)
                    shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Has all of them stop, as it is when the server goes, to go on later."""
        running = [batch for batch in self._by_id.values() if batch.is_running]
        for batch in running:
            batch.stop("interrupted")
        for batch in running:
            batch.join(5)

    def _admit(self, owner: str | None) -> None:
        running = [batch for batch in self._by_id.values() if batch.is_running]
        if owner is not None and any(batch.owner == owner for batch in running):
            raise LimitError(say("error.batch.one"))
        if len(running) >= MOST:
            raise LimitError(say("error.batch.many", most=MOST))
