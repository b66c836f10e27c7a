"""`JournalProgress`: how far a batch of the page is, read from its journal."""

import json
from collections import deque
from pathlib import Path
from typing import Any

from bon.batch import export_formats, resume_journal
from bon.batch.export_formats import Record
from bon.batch.input_rows import Dataset, Row
from bon.messages import encode_messages, shorten

#: How many of the latest winners and of the first errors are shown, and the most characters of each of their texts.
EXAMPLES_MAX, TEXT_MAX = 5, 1000


class JournalProgress:
    """The figures of a batch's journal, which is read further as it grows."""

    done: int
    failed: int

    def __init__(self, dataset: Dataset, output: Path):
        self._rows, self._file, self._bytes_read = dataset.rows(), resume_journal.journal_path(output), 0
        self._sum_of_best = 0.0
        self._sum_of_means: float | None = 0.0  # None where a record lacks the mean of its row's candidates
        self._scored = self.done = self.failed = 0
        self._plan: dict[str, Any] = {}
        self._latest: deque[dict[str, Any]] = deque(maxlen=EXAMPLES_MAX)
        self._errors: list[dict[str, Any]] = []

    def read_new_records(self) -> "JournalProgress":
        """Reads the records that were completed since the last call."""
        if not self._file.exists():
            return self
        with open(self._file, "rb") as file:
            file.seek(self._bytes_read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if self._bytes_read:
                    self._add(resume_journal.parse_record(line))
                else:
                    self._plan = json.loads(line)
                self._bytes_read += len(line)
        return self

    def _add(self, record: Record) -> None:
        """Counts the record of the next row of the input."""
        # The journal of an older version may have more rows, where that version read other rows in the same file.
        row = next(self._rows, Row(self.done))
        self.done += 1
        if "error" in record:
            self.failed += 1
            if len(self._errors) < EXAMPLES_MAX:
                error = shorten(export_formats.record_error(record), TEXT_MAX)
                self._errors.append({"row": row.number, "error": encode_messages(error)})
            return
        best = record["candidates"][0]
        self._scored += 1
        self._sum_of_best += best["score"]
        if self._sum_of_means is not None:
            self._sum_of_means = self._sum_of_means + record["mean"] if "mean" in record else None
        self._latest.append({"row": row.number, "prompt": prompt_text(row)[:TEXT_MAX],
                             "text": best["text"][:TEXT_MAX], "score": best["score"]})

    def values(self) -> dict[str, Any]:
        """The figures in plain JSON types: `done` and `failed` rows; the `latest` winners; the first `errors`; the mean
        score of the winners (`best`) and of all candidates (`plain`, if every row has it) with `unit` and `target`.
        """
        means = {"best": self._sum_of_best / self._scored} if self._scored else {}
        if self._scored and self._sum_of_means is not None:
            means["plain"] = self._sum_of_means / self._scored
        unit = {name: self._plan.get(name) for name in ("unit", "target")}
        return {"done": self.done, "failed": self.failed, "latest": list(self._latest), "errors": self._errors,
                **means, **unit}


def prompt_text(row: Row) -> str:
    """A row's prompt as a reader sees it: of a chat the last message, of a row that cannot be read its error."""
    if row.messages is None:
        return str(row.error or row.prompt or "")
    last = row.messages[-1] if row.messages else ""
    return str(last.get("content") if isinstance(last, dict) else last)
