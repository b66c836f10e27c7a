"""The journal of a batch: the records of an unfinished run, in a file beside its output.

The first line is the plan, on which every byte of the output depends; then comes a record for each row of the input,
in order. Records are added a group of rows at a time and reach the disk before the next group begins: a run that dies
leaves whole groups and at most one torn group, which is cut off when the run is resumed. Each record carries the digest
of its group's rows, so a group whose rows have changed since is cut off too, with everything after it.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bon.errors import BonError, InputError
from bon.messages import join, say
from bon.report.json_text import json_text
from bon.settings import Settings, clean

if sys.platform != "win32":
    import fcntl

Plan = dict[str, Any]


def journal_path(output: Path) -> Path:
    """Where the journal of an output is."""
    return output.with_name(output.name + ".partial")


def count_records(output: Path) -> int:
    """How many rows have a record in the journal of an output; 0 where there is none that can be read."""
    try:
        with open(journal_path(output), "rb") as file:
            return max(0, sum(line.endswith(b"\n") for line in file) - 1)  # the first is the plan
    except OSError:
        return 0


class Journal:
    """The journal of one output, locked against a second run; a context manager that closes it.

    plan: of this run. resume: continue what is there, where there is anything. digests: for each row of the input as it
    is now, that of its group. unnamed: the values of settings that the plan leaves open (None), unless the journal that
    is continued has them; a seed is drawn. `done`: rows with a record. Raises `InputError` where another run has locked
    it, the plans differ or the file cannot be opened.
    """

    path: Path
    output: Path
    plan: Plan
    done: int

    def __init__(self, output: Path, plan: Plan, resume: bool = False, digests: Iterable[str] = (),
                 unnamed: Mapping[str, Any] | None = None):
        self._unnamed = {"seed": None, **(unnamed or {})}
        self.path, self.output, self.plan = journal_path(output), output, dict(plan)
        self.done = 0
        try:
            # Unbuffered, so that what a full disk refused is not written later.
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            reason = str(error.strerror)
            raise InputError("output", say("error.output_not_writable", path=str(self.path), reason=reason)) from error
        try:
            self._lock()
            if not (resume and self._resume(digests)):
                self._start()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Puts records on the disk. Raises `BonError` where it is full; earlier records stay."""
        self._write("".join(json_text(record) + "\n" for record in records))
        self.done += len(records)

    def records(self) -> Iterator[dict[str, Any]]:
        """The records, in the order of their rows."""
        with open(self.path, "rb") as file:
            next(file)
            yield from map(parse_record, file)

    def remove(self) -> None:
        """Deletes the file, once the output is complete."""
        self.path.unlink(missing_ok=True)

    def _lock(self) -> None:
        if sys.platform == "win32":  # there nothing keeps two runs from writing the same output
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError("output", say("error.output_being_written", path=str(self.output))) from error

    def _start(self) -> None:
        os.ftruncate(self._file, 0)
        self._complete_plan(self._unnamed | {"seed": Settings().with_seed().seed})
        self._write(json_text(self.plan) + "\n")

    def _resume(self, digests: Iterable[str]) -> bool:
        """Keeps the whole groups whose rows are unchanged and cuts the file off behind them.

        Returns False where not even the plan is whole. Raises `InputError` for another plan, and for the journal of a
        version that wrote no digests.
        """
        with open(self.path, "rb") as file:
            before = _parsed_line(first := file.readline())
            if before is None:
                return False
            self._check_plan(before)
            end = position = len(first)
            for number, (line, digest) in enumerate(zip(file, digests, strict=False), start=1):
                record = _parsed_line(line) or {}
                if number == 1 and record.get("row") == 0 and "digest" not in record:
                    raise InputError("resume", say("error.journal_without_digests", path=str(self.output)))
                if (record.get("row"), record.get("digest")) != (number - 1, digest):
                    break
                position += len(line)
                if number % self.plan["batch"] == 0 or number == self.plan["rows"]:
                    self.done, end = number, position
        os.ftruncate(self._file, end)
        return True

    def _check_plan(self, before: Plan) -> None:
        """Raises `InputError` where the journal's plan differs from this run's, which takes from there what it leaves
        open.
        """
        # A setting that an older journal does not name had its default.
        before = Settings().filled().to_dict() | before
        self._complete_plan(before)
        names = dict.fromkeys([*before, *self.plan])
        different = [name for name in names if before.get(name) != self.plan.get(name)]
        if different:
            differences = join((say("error.plan_differs_in", name=name, before=_short_json(before.get(name)),
                                      now=_short_json(self.plan.get(name))) for name in different), "; ")
            raise InputError("resume", say("error.plan_differs", path=str(self.output), differences=differences))

    def _complete_plan(self, values: Mapping[str, Any]) -> None:
        """Puts values in place of those that the plan leaves open."""
        self.plan |= {name: values[name] for name in self._unnamed if self.plan[name] is None}

    def _write(self, text: str) -> None:
        data = text.encode()
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:
            raise BonError(say("error.journal_not_written", path=str(self.path), reason=str(error.strerror),
                               done=str(self.done), resume="--resume")) from error


def parse_record(line: bytes) -> dict[str, Any]:
    """The record of a line, with U+FFFD for lone surrogates, which a journal holds escaped and an output cannot."""
    return json.loads(clean(json.dumps(json.loads(line), ensure_ascii=False)) if b"\\ud" in line else line)


def _parsed_line(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line that was written to its end; None for any other line."""
    try:
        value = json.loads(line) if line.endswith(b"\n") else None
    except (RecursionError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _short_json(value: Any) -> str:
    text = json_text(value)
    return text if len(text) <= 40 else text[:36] + "...\""
