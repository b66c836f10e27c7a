"""The journal of a batch: what an unfinished run has come to, in a file beside its output.

The first line is the plan, on which every byte of the output depends; then comes a record for each row of the input,
in order. Records are added a batch at a time and reach the disk before the next one begins, so that a run that dies
at any moment leaves whole batches and at most one torn one, which is cut off. Each record carries the digest of its
batch's rows, so that a batch of rows that are others by now is cut off too, and all behind it.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bon.errors import BonError, InputError
from bon.messages import join, say
from bon.report.json_text import json_text
from bon.settings import Settings, declared

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows: there two runs of one output are the user's own care
    flock = None

Plan = Mapping[str, Any]


def place(output: Path) -> Path:
    """Where the journal of an output is."""
    return output.with_name(output.name + ".partial")


class Journal:
    """The journal of one output, held against a second run; a context manager.

    plan: of this run. resume: go on with what is there, where there is anything; a plan without a seed then takes that
    one's. digests: for each row of the input as it is now, that of its batch. Raises `InputError` where another run
    holds it, the plans differ or the file cannot be opened.
    """

    def __init__(self, output: Path, plan: Plan, resume: bool = False, digests: Iterable[str] = ()):
        self.path, self.output, self.plan = place(output), output, dict(plan)
        self.done = 0
        try:
            # Unbuffered, so that what a full disk refused is not written later.
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            reason = str(error.strerror)
            raise InputError("output", say("error.output_not_writable", path=str(self.path), reason=reason)) from error
        try:
            self._hold()
            if not (resume and self._go_on(digests)):
                self._begin()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        os.close(self._file)

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Puts records on the disk. Raises `BonError` where it takes no more; what it held before it still holds."""
        self._write("".join(json_text(record) + "\n" for record in records))
        self.done += len(records)

    def records(self) -> Iterator[dict[str, Any]]:
        """The records, in the order of their rows."""
        with open(self.path, "rb") as file:
            next(file)
            yield from map(json.loads, file)

    def remove(self) -> None:
        """Deletes it: the output is complete."""
        self.path.unlink(missing_ok=True)

    def _hold(self) -> None:
        try:
            if flock:
                flock(self._file, LOCK_EX | LOCK_NB)
        except OSError as error:
            raise InputError("output", say("error.output_being_written", path=str(self.output))) from error

    def _begin(self) -> None:
        os.ftruncate(self._file, 0)
        if self.plan["seed"] is None:
            self.plan["seed"] = Settings().with_seed().seed
        self._write(json_text(self.plan) + "\n")

    def _go_on(self, digests: Iterable[str]) -> bool:
        """Takes in what whole batches there are of rows that are as they were; False where not even the plan is whole.
        """
        with open(self.path, "rb") as file:
            before = _whole(first := file.readline())
            if before is None:
                return False
            self._check(before)
            ends = at = len(first)
            for number, (line, digest) in enumerate(zip(file, digests, strict=False), start=1):
                record = _whole(line) or {}
                if number == 1 and record.get("row") == 0 and "digest" not in record:
                    raise InputError("resume", say("error.journal_without_digests", path=str(self.output)))
                if (record.get("row"), record.get("digest")) != (number - 1, digest):
                    break
                at += len(line)
                if number % self.plan["batch"] == 0 or number == self.plan["rows"]:
                    self.done, ends = number, at
        os.ftruncate(self._file, ends)
        return True

    def _check(self, before: Plan) -> None:
        # A setting that an older journal does not name had its default.
        before = {name: setting.default for name, setting in declared().items()} | before
        if self.plan["seed"] is None:
            self.plan["seed"] = before["seed"]
        names = dict.fromkeys([*before, *self.plan])
        apart = [name for name in names if before.get(name) != self.plan.get(name)]
        if apart:
            differences = join((say("error.plan_differs_in", name=name, before=_short(before.get(name)),
                                      now=_short(self.plan.get(name))) for name in apart), "; ")
            raise InputError("resume", say("error.plan_differs", path=str(self.output), differences=differences))

    def _write(self, text: str) -> None:
        left = text.encode()
        try:
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError as error:
            raise BonError(say("error.journal_not_written", path=str(self.path), reason=str(error.strerror),
                               done=str(self.done), resume="--resume")) from error


def _whole(line: bytes) -> dict[str, Any] | None:
    """The object of a line that was written to its end."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _short(value: Any) -> str:
    text = json_text(value)
    return text if len(text) <= 40 else text[:36] + "...\""
