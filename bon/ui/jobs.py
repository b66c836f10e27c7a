"""The page's batches: each in a folder of its own, done by a thread of its own, whoever looks on.

A folder's name is what finds a batch again, so it cannot be guessed. It holds the input, the output or its journal,
and `job.json`, which says what was asked for and how it ended: a batch that had only begun when the server died is
found as interrupted, and goes on from its journal.
"""

import json
import os
import re
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from bon import batch, forms, partial
from bon.batch import Finished, Progress, Task
from bon.dataset import Dataset
from bon.engines.base import Engine, Job, Step
from bon.errors import BonError, InputError, LimitError
from bon.schema import Settings
from bon.ui.journal import report
from bon.ui.texts import say

#: Batches that go on at the same time; their rows take turns.
MOST = 4
#: Seconds after which a batch that does not go on is deleted: a stranger's, and anybody's.
DAY, MONTH = 86_400, 30 * 86_400
#: What `secrets.token_urlsafe(24)` gives.
ID = re.compile(r"[\w-]{32}", re.ASCII)
#: The latest winners and the first errors that are shown, and how much of their texts.
SHOWN, LONG = 5, 1000


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

    def task(self, folder: Path, resume: bool = False) -> Task:
        """The task in this folder. Raises `InputError` where it cannot work."""
        form = forms.FORMS.get(self.form, forms.BEST)
        dataset = Dataset(folder / self.input, self.column, skip_bad=True)
        return Task(dataset, folder / self.output, Settings.of(self.settings), form, resume=resume)


class Tally:
    """What the journal of a batch says: read on as it grows."""

    def __init__(self, task: Task):
        self._rows, self._file, self._at = task.dataset.rows(), partial.place(task.output), 0
        self._best = self._plain = 0.0
        self._scored = self.done = self.failed = 0
        self._plan: dict[str, Any] = {}
        self._latest: deque[dict[str, Any]] = deque(maxlen=SHOWN)
        self._errors: list[dict[str, Any]] = []

    def read_on(self) -> "Tally":
        """Takes in the whole records that have come since."""
        with open(self._file, "rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if self._at:
                    self._add(json.loads(line))
                else:
                    self._plan = json.loads(line)
                self._at += len(line)
        return self

    def _add(self, record: Mapping[str, Any]) -> None:
        row = next(self._rows)
        self.done += 1
        if "error" in record:
            self.failed += 1
            if len(self._errors) < SHOWN:
                self._errors.append({"row": row.number, "error": record["error"][:LONG]})
            return
        best = record["candidates"][0]
        self._scored += 1
        self._best += best["score"]
        self._plain += record.get("mean", best["score"])
        prompt = row.prompt if row.messages is None else row.messages[-1]["content"]
        self._latest.append({"row": row.number, "prompt": prompt[:LONG], "text": best["text"][:LONG],
                             "score": best["score"]})

    def told(self) -> dict[str, Any]:
        """Rows done and failed, winners, errors, the mean scores of winners and of all candidates, and their unit."""
        many = self._scored
        means = {"best": self._best / many, "plain": self._plain / many} if many else {}
        unit = {name: self._plan.get(name) for name in ("unit", "target")}
        return {"done": self.done, "failed": self.failed, "latest": list(self._latest), "errors": self._errors,
                **means, **unit}


class _Halted(BaseException):
    """Ends the work within a step; not an `Exception`, which would count as the rows' fault."""


class _Halting:
    """An engine that stops at its next step once it is told to."""

    def __init__(self, engine: Engine, halt: threading.Event):
        self._engine, self._halt = engine, halt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, jobs: Sequence[Job]) -> Iterator[Step]:
        with closing(self._engine.generate(jobs)) as steps:
            for step in steps:
                if self._halt.is_set():
                    raise _Halted
                yield step


class Batch:
    """One batch. `order`: what was asked for. `end`: how it ended, as `job.json` has it. `progress`: of this run."""

    def __init__(self, folder: Path, order: Order, end: Mapping[str, Any] | None = None):
        self.folder, self.id, self.order, self.end = folder, folder.name, order, end or {}
        self.owner: str | None = None
        self.progress: Progress | None = None
        self._halt, self._halted = threading.Event(), "stopped"
        self._thread: threading.Thread | None = None
        self._told: dict[str, Any] | None = None

    @classmethod
    def read(cls, folder: Path) -> "Batch":
        """The batch that was begun in this folder. Raises what a file that is not there, or another's, does."""
        kept = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        return cls(folder, Order(**kept["order"]), kept["end"])

    @property
    def goes_on(self) -> bool:
        """Whether its thread lives."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def phase(self) -> str:
        """loading, running, stopping; else stopped, interrupted, failed or done."""
        if not self.goes_on:
            return self.end["phase"]
        return "stopping" if self._halt.is_set() else "running" if self.progress else "loading"

    @property
    def told(self) -> dict[str, Any]:
        """What it has come to: see `Tally.told`."""
        if self._told is None:
            self._told = self.end.get("told") or self._read()
        return self._told

    def _read(self) -> dict[str, Any]:
        task = self.order.task(self.folder)
        tally = Tally(task)
        return (tally.read_on() if partial.place(task.output).exists() else tally).told()

    def begin(self, task: Task, load: Callable[[], Future], turn: threading.Lock, owner: str | None) -> None:
        """Starts its thread. load: gives the `bon.Sampler` to come. turn: held for each batch of rows."""
        self.owner, self.progress = owner, None
        self._halt.clear()
        self.save("interrupted")  # which it is, should nothing else be saved
        self._thread = threading.Thread(target=self._work, args=(task, load, turn), name="batch", daemon=True)
        self._thread.start()

    def stop(self, phase: str = "stopped") -> None:
        """Has it stop within a step, and be found as `phase` from then on."""
        self._halted = phase
        self._halt.set()

    def join(self, seconds: float | None = None) -> None:
        """Returns once its thread has ended, or after so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    def save(self, phase: str, **more: Any) -> None:
        """Keeps how it ended."""
        self.end = {"phase": phase, **more}
        begun = self.folder / "job.json.writing"
        begun.write_text(json.dumps({"order": asdict(self.order), "end": self.end}), encoding="utf-8")
        os.replace(begun, self.folder / "job.json")

    def worded(self, error: BonError) -> str:
        """What an error says, in the page's words: no path of the server's, no option of the command line."""
        if isinstance(error, InputError) and error.field == "resume":
            return str(say("error.batch.changed"))
        said = str(error).replace(str(self.folder / self.order.input), self.order.name)
        return said.replace(f"{self.folder}{os.sep}", "").replace("--resume", "Resume")

    def _work(self, task: Task, load: Callable[[], Future], turn: threading.Lock) -> None:
        try:
            self._run(task, self._loaded(load()), turn)
        except _Halted:
            self.save(self._halted)
        except BonError as error:
            self.save("failed", error=self.worded(error))
        except Exception as error:
            report("A batch failed", error)
            self.save("failed", error=str(say("error.unexpected")))

    def _loaded(self, waiting: Future) -> Any:
        while not wait([waiting], timeout=0.1).done:
            if self._halt.is_set():
                raise _Halted
        return waiting.result()

    def _run(self, task: Task, sampler: Any, turn: threading.Lock) -> None:
        tally, engine = None, _Halting(sampler.engine, self._halt)

        def deliver(finished: Finished) -> None:
            self.save("done", told=self._told, seconds=self.progress.seconds, written=finished.written,
                      left_out=finished.left_out, notes=list(finished.notes))

        with closing(batch.stream(task, engine, sampler.scorer, deliver)) as events:
            while True:
                with turn:
                    event = next(events)
                if isinstance(event, Finished):
                    return
                tally = tally or Tally(task)  # by the first event the journal is mended
                self._told, self.progress = tally.read_on().told(), event
                if self._halt.is_set():
                    raise _Halted
                time.sleep(0.005)  # a lock is not fair: the next one in line gets it


class Batches:
    """All batches of this server."""

    def __init__(self) -> None:
        self._known: dict[str, Batch] = {}
        self._lock, self._turn = threading.RLock(), threading.Lock()
        self._swept = 0.0

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
            task, made = order.task(folder), Batch(folder, order)
            with self._lock:
                self._admit(owner)
                made.begin(task, load, self._turn, owner)
                self._known[made.id] = made
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return made

    def resume(self, found: Batch, load: Callable[[], Future], owner: str | None = None) -> None:
        """Goes on with a batch that was stopped, interrupted or has failed; nothing where it goes on or is done."""
        with self._lock:
            if found.goes_on or found.phase == "done":
                return
            self._admit(owner)
            found.begin(found.order.task(found.folder, resume=True), load, self._turn, owner)

    def find(self, name: Any) -> Batch | None:
        """The batch of this id, or None."""
        if not (isinstance(name, str) and ID.fullmatch(name)):
            return None
        with self._lock:
            try:
                return self._known.get(name) or self._known.setdefault(name, Batch.read(root() / name))
            except (OSError, ValueError, KeyError, TypeError):
                return None

    def remove(self, found: Batch) -> None:
        """Stops it and deletes all of it."""
        found.stop()
        found.join()
        with self._lock:
            self._known.pop(found.id, None)
            shutil.rmtree(found.folder, ignore_errors=True)

    def sweep(self, age: float) -> None:
        """Deletes what has not changed for so many seconds; looks at most once an hour."""
        if time.time() - self._swept < 3600:
            return
        self._swept = time.time()
        for folder in [f for f in root().glob("*") if f.is_dir()]:
            latest = max((file.stat().st_mtime for file in [folder, *folder.iterdir()]), default=0)
            known = self._known.get(folder.name)
            if time.time() - latest > age and not (known and known.goes_on):
                self._known.pop(folder.name, None)
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Has all of them stop, as it is when the server goes, to go on later."""
        going = [one for one in self._known.values() if one.goes_on]
        for one in going:
            one.stop("interrupted")
        for one in going:
            one.join(5)

    def _admit(self, owner: str | None) -> None:
        going = [one for one in self._known.values() if one.goes_on]
        if owner is not None and any(one.owner == owner for one in going):
            raise LimitError(say("error.batch.one"))
        if len(going) >= MOST:
            raise LimitError(say("error.batch.many", most=MOST))
