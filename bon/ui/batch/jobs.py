"""The page's batches: each has a folder and a thread, and runs whether or not a browser watches.

The folder's name is the batch's id. Whoever has the batch's key, `ID.SECRET`, may see, stop, resume and remove it; the
server keeps only a hash of the secret. The key of a batch that an older version began is its id alone. The folder holds
the input, the output or its journal, and `job.json` with the batch's `Order`, how it ended and the hash. Nothing is
served from it: the output of a batch that is done is linked into a folder of the same name in `outputs_root`. A batch
that was running when the server died has the phase `interrupted` in `job.json`, and resumes from its journal.
"""

import dataclasses
import hashlib
import hmac
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
from typing import TYPE_CHECKING, Any

from gradio.utils import get_upload_folder

from bon.batch import batch_run, export_formats
from bon.batch.batch_run import Finished, Task
from bon.batch.input_rows import Dataset
from bon.errors import BonError, InputError, LimitError
from bon.messages import encode_messages, replace_text, say
from bon.report.json_text import json_text
from bon.report.safe_files import write_atomically
from bon.settings import Settings
from bon.ui.batch.journal_progress import JournalProgress
from bon.ui.hosting import sizes
from bon.ui.hosting.error_log import UNEXPECTED, log_failure
from bon.ui.hosting.layers.file_names import OUTPUTS
from bon.ui.work.model_loading import is_ready
from bon.ui.work.priority import Halt, Preempt, PreemptibleEngine, WaitingRuns

if TYPE_CHECKING:  # these import torch, which takes seconds
    from bon.api import Sampler
    from bon.scorers.base import Scorer

#: Returns the future of a batch's sampler.
Loader = Callable[[], "Future[Sampler]"]
#: The most batches that run at the same time; their groups of rows take turns.
RUNNING_MAX = 4
#: Seconds without a change after which a batch that is not running is deleted: in public mode, and in private mode.
DAY, MONTH = 86_400, 30 * 86_400
#: The form of an id, which `secrets.token_urlsafe(24)` makes.
ID = re.compile(r"[\w-]{32}", re.ASCII)


def root() -> Path:
    """The parent of the batches' folders, which Gradio is told not to serve though it is in its upload folder."""
    return Path(get_upload_folder()) / "bon-batches"


def outputs_root() -> Path:
    """The parent of the folders from which the outputs of batches are served."""
    return Path(get_upload_folder()) / OUTPUTS


@dataclass(frozen=True, slots=True)
class Order:
    """What a batch is to do, in plain JSON types.

    name: of the visitor's file. input, output: file names in the batch's folder. settings: those of `bon.Settings`, the
    seed included. column: of the prompts. form: the name of the training format, or None for results. rows, bad: how
    many rows the input has, and how many of them cannot be read. created: seconds since 1970. encoding: of the input;
    see `bon.batch.Dataset`.
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
    encoding: str | None = None

    def dataset(self, folder: Path) -> Dataset:
        """The input in the batch's folder."""
        return Dataset(folder / self.input, self.column, skip_bad=True, encoding=self.encoding)

    def task(self, folder: Path, resume: bool = False) -> Task:
        """The task in the batch's folder. Raises `InputError` where it cannot work."""
        export_format, settings = export_formats.format_named(self.form), Settings.of(self.settings).filled()
        return Task(self.dataset(folder), folder / self.output, settings, export_format, resume=resume)


class Batch:
    """One batch. folder, id: where it is, and the folder's name. end: how it ended, as in `job.json`: its `phase`, and
    what `save` was passed.

    secret_hash: the `hash_of` of its key's secret; None for a batch without one. owner: in public mode the visitor that
    started or resumed it, as `rate_limit.visitor_id` names one. delay: why the rows under way take long; empty where
    nothing is known.
    """

    delay: str

    folder: Path
    id: str
    order: Order
    end: Mapping[str, Any]

    def __init__(self, folder: Path, order: Order, end: Mapping[str, Any] | None = None,
                 secret_hash: str | None = None):
        self.folder, self.id, self.order, self.end = folder, folder.name, order, end or {}
        self._secret_hash = secret_hash
        self.owner: str | None = None
        self._rows_before: int | None = None
        self._started_at = 0.0
        self._halt, self._phase_after_halt = threading.Event(), "stopped"
        self._thread: threading.Thread | None = None
        self._progress: dict[str, Any] | None = None
        self.delay = ""

    @classmethod
    def read(cls, folder: Path) -> "Batch":
        """The batch of this folder's `job.json`.

        Raises `OSError` where there is none, `ValueError`, `KeyError` or `TypeError` where it is another file.
        """
        job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        return cls(folder, Order(**job["order"]), job["end"], job.get("secret_hash"))

    def opens_with(self, secret: str) -> bool:
        """Whether this is the secret of its key; of a batch without one, whether it is empty."""
        return hmac.compare_digest(hash_of(secret), hash_of("") if self._secret_hash is None else self._secret_hash)

    @property
    def bytes(self) -> int:
        """How much its files take on the disk; those that are served are links to them."""
        with suppress(OSError):  # it may be deleted meanwhile
            return sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())
        return 0

    @property
    def is_running(self) -> bool:
        """Whether its thread is running."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def phase(self) -> str:
        """`loading`, `running` or `stopping`; after its end `stopped`, `interrupted`, `failed` or `done`."""
        if not self.is_running:
            return str(self.end["phase"])
        return "stopping" if self._halt.is_set() else "loading" if self._rows_before is None else "running"

    @property
    def progress(self) -> dict[str, Any]:
        """How far it is: see `JournalProgress.values`."""
        if self._progress is None:
            self._progress = self.end.get("told") or self._journal_progress().read_new_records().values()
        return self._progress

    def _journal_progress(self) -> JournalProgress:
        return JournalProgress(self.order.dataset(self.folder), self.folder / self.order.output)

    def begin(self, task: Task, load: Loader, shared: "Shared", owner: str | None) -> None:
        """Starts its thread. load: returns the future of a `bon.Sampler`."""
        self.owner, self._rows_before, self.delay = owner, None, ""
        self._halt.clear()
        self.save("interrupted")  # holds if the server dies before the batch ends
        self._thread = threading.Thread(target=self._work, args=(task, load, shared), name="batch", daemon=True)
        self._thread.start()

    def stop(self, phase: str = "stopped") -> None:
        """Asks the thread to stop, which it does within a step; `phase` is the batch's phase afterwards."""
        self._phase_after_halt = phase
        self._halt.set()

    def join(self, seconds: float | None = None) -> None:
        """Waits until its thread has ended, for at most so many seconds (None: without a limit)."""
        if self._thread is not None:
            self._thread.join(seconds)

    def save(self, phase: str, **more: Any) -> None:
        """Writes `job.json` with how the batch ended."""
        self.end = {"phase": phase, **more}
        unfinished = self.folder / "job.json.writing"
        job = {"order": dataclasses.asdict(self.order), "end": self.end, "secret_hash": self._secret_hash}
        unfinished.write_text(json_text(job), encoding="utf-8")
        os.replace(unfinished, self.folder / "job.json")

    def served_outputs(self) -> list[Path]:
        """The files of a batch that is done, in the folder from which they are served."""
        output, folder = self.folder / self.order.output, outputs_root() / self.id
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        complete = [file for file in (output, batch_run.failures_path(output)) if file.exists()]
        for file in complete:
            _link_or_copy(file, folder / file.name)
        return [folder / file.name for file in complete]

    def explain(self, error: BonError) -> str:
        """The error's message for the page, without the server's paths and the command line's options."""
        if isinstance(error, InputError) and error.field == "resume":
            return say("error.batch.changed")
        message = replace_text(error.message, str(self.folder / self.order.input), self.order.name)
        message = replace_text(message, f"{self.folder}{os.sep}", "")
        return replace_text(message, "--resume", say("batch.resume"))

    def _work(self, task: Task, load: Loader, shared: "Shared") -> None:
        """The thread: runs the task and saves how it ended."""
        try:
            self._run(task, self._sampler(load()), shared)
        except Halt:
            self.save(self._phase_after_halt)
        except BonError as error:
            self.save("failed", error=encode_messages(self.explain(error)))
        except Exception as error:
            log_failure("A batch failed", error)
            self.save("failed", error=encode_messages(UNEXPECTED))

    def _sampler(self, loading: "Future[Sampler]") -> "Sampler":
        while not is_ready(loading, 0.1):
            if self._halt.is_set():
                raise Halt
        return loading.result()

    def _run(self, task: Task, sampler: "Sampler", shared: "Shared") -> None:
        """Runs the task, and resumes it where a visitor's run has preempted it."""
        engine = PreemptibleEngine(sampler.engine, self._halt, shared.waiting)
        self._started_at = time.monotonic()
        while True:
            try:
                return self._run_rows(task, engine, sampler.scorer, shared)
            except Preempt:
                engine.preemptible = False
                shared.waiting.wait_until_idle()
                task = dataclasses.replace(task, resume=True)

    def _run_rows(self, task: Task, engine: PreemptibleEngine, scorer: "Scorer", shared: "Shared") -> None:
        """Runs the remaining rows, a group at a time, in turns with other batches."""
        journal = None
        with closing(batch_run.stream(task, engine, scorer, self._deliver, self._set_delay)) as events:
            while True:
                self._wait_for_turn(shared.turn)
                try:
                    event = next(events)
                finally:
                    shared.turn.release()
                if isinstance(event, Finished):
                    return
                journal = journal or self._journal_progress()  # after the first event, when the journal is repaired
                self._set_progress(journal.read_new_records().values())
                engine.preemptible = engine.preemptible or event.done_now > 0
                if self._halt.is_set():
                    raise Halt
                time.sleep(0.005)  # so that a batch that waits for the lock gets it: locks are not fair
                shared.waiting.wait_until_idle()

    def _wait_for_turn(self, turn: threading.Lock) -> None:
        """Takes the lock. Raises `Halt` where the batch is stopped while others have it."""
        while not turn.acquire(timeout=0.1):
            if self._halt.is_set():
                raise Halt

    def _set_delay(self, message: str) -> None:
        self.delay = message

    def _set_progress(self, progress: dict[str, Any]) -> None:
        self._progress, self.delay = progress, ""
        if self._rows_before is None:
            self._rows_before = progress["done"]

    def _deliver(self, finished: Finished) -> None:
        self.save("done", told=self._progress, seconds=time.monotonic() - self._started_at, written=finished.written,
                  left_out=finished.left_out, notes=encode_messages(finished.notes))

    @property
    def rate(self) -> float | None:
        """Rows per second since it was started or resumed; None before any are done."""
        rows = self.progress["done"] - (self._rows_before or 0)
        return rows / (time.monotonic() - self._started_at) if rows > 0 else None


def hash_of(secret: str) -> str:
    """The hash of the secret in a batch's key. A secret is random and too long to be found by trying."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _link_or_copy(file: Path, place: Path) -> None:
    """Puts a file at another place too, unless it is there already."""
    if place.exists():
        return
    try:
        os.link(file, place)
    except FileExistsError:  # by another request
        pass
    except OSError:  # a file system without links
        write_atomically(place, lambda unfinished: shutil.copyfile(file, unfinished))


class Shared:
    """What all batches share: the lock by which their groups of rows take turns, and the visitors' runs to wait for."""

    waiting: WaitingRuns
    turn: threading.Lock

    def __init__(self, waiting: WaitingRuns):
        self.waiting, self.turn = waiting, threading.Lock()


class Batches:
    """All batches of this server."""

    def __init__(self, waiting: WaitingRuns):
        self._by_id: dict[str, Batch] = {}
        self._lock, self._shared = threading.RLock(), Shared(waiting)

    def start(self, make_order: Callable[[Path], Order], load: Loader, owner: str | None = None
              ) -> tuple[Batch, str]:
        """Starts a batch; returns it and its key.

        make_order: writes the input into the batch's folder and returns the order. owner: in public mode the visitor,
        who may have one running batch, and `VISITOR_BYTES` of others. Raises `LimitError` where too many run or too
        much is kept, and what `make_order` and `Order.task` raise.
        """
        with self._lock:
            self._admit(owner)
        folder, secret = root() / secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        folder.mkdir(parents=True, mode=0o700)
        try:
            order = make_order(folder)
            task, batch = order.task(folder), Batch(folder, order, secret_hash=hash_of(secret))
            with self._lock:
                self._admit(owner)
                batch.begin(task, load, self._shared, owner)
                self._by_id[batch.id] = batch
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return batch, f"{batch.id}.{secret}"

    def resume(self, batch: Batch, load: Loader, owner: str | None = None) -> None:
        """Resumes a batch that was stopped or interrupted or has failed; does nothing for one that runs or is done."""
        with self._lock:
            if batch.is_running or batch.phase == "done":
                return
            self._admit(owner)
            batch.begin(batch.order.task(batch.folder, resume=True), load, self._shared, owner)

    def find(self, key: str) -> Batch | None:
        """The batch of this key, or None. key: any text that a browser sends."""
        batch_id, _, secret = key.partition(".")
        batch = self._find(batch_id) if ID.fullmatch(batch_id) else None
        return batch if batch and batch.opens_with(secret) else None

    def _find(self, batch_id: str) -> Batch | None:
        """The batch of this id, or None."""
        with self._lock:
            if batch_id not in self._by_id:
                try:
                    batch = Batch.read(root() / batch_id)
                    batch.phase, batch.progress  # noqa: B018  raise where job.json or the journal is another file
                    self._by_id[batch_id] = batch
                except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError):
                    return None
            return self._by_id[batch_id]

    def remove(self, batch: Batch) -> None:
        """Stops the batch and deletes its folder. Where the system refuses, raises `OSError` and keeps the batch."""
        batch.stop()
        batch.join()
        with self._lock:
            for folder in (outputs_root() / batch.id, batch.folder):
                with suppress(FileNotFoundError):
                    shutil.rmtree(folder)
            self._by_id.pop(batch.id, None)

    def sweep(self, age: float) -> None:
        """Deletes the batches that are not running and have not changed for `age` seconds."""
        for folder in [path for path in root().glob("*") if path.is_dir()]:
            with suppress(OSError), self._lock:  # another process may delete files meanwhile
                batch = self._by_id.get(folder.name)
                latest = max(path.stat().st_mtime for path in [folder, *folder.iterdir()])
                if time.time() - latest > age and not (batch and batch.is_running):
                    self._by_id.pop(folder.name, None)
                    shutil.rmtree(folder, ignore_errors=True)
        for folder in outputs_root().glob("*"):
            if not (root() / folder.name).exists():
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Stops all batches before the server ends; they can be resumed afterwards."""
        running = [batch for batch in self._by_id.values() if batch.is_running]
        for batch in running:
            batch.stop("interrupted")
        for batch in running:
            batch.join(5)

    def _admit(self, owner: str | None) -> None:
        """Raises `LimitError` where no further batch may run."""
        running = [batch for batch in self._by_id.values() if batch.is_running]
        if owner is not None and any(batch.owner == owner for batch in running):
            raise LimitError(say("error.batch.one"))
        if owner is not None and sum(b.bytes for b in self._by_id.values() if b.owner == owner) > sizes.VISITOR_BYTES:
            raise LimitError(say("error.batch.kept", most=sizes.VISITOR_BYTES // sizes.MB))
        if len(running) >= RUNNING_MAX:
            raise LimitError(say("error.batch.many", most=RUNNING_MAX))
