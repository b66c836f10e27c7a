"""What a batch has come to so far, from its journal."""

import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bon.batch import export_formats, resume_journal
from bon.batch.input_rows import Dataset
from bon.messages import encode_messages, shorten

#: The latest winners and the first errors that are shown, and how much of their texts.
SHOWN, LONG = 5, 1000


class JournalProgress:
    """What the journal of a batch says: read on as it grows."""

    def __init__(self, dataset: Dataset, output: Path):
        self._rows, self._file, self._at = dataset.rows(), resume_journal.journal_path(output), 0
        self._best = 0.0
        self._plain: float | None = 0.0
        self._scored = self.done = self.failed = 0
        self._plan: dict[str, Any] = {}
        self._latest: deque[dict[str, Any]] = deque(maxlen=SHOWN)
        self._errors: list[dict[str, Any]] = []

    def read_on(self) -> "JournalProgress":
        """Takes in the whole records that have come since."""
        if not self._file.exists():
            return self
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
                error = shorten(export_formats.record_error(record), LONG)
                self._errors.append({"row": row.number, "error": encode_messages(error)})
            return
        best = record["candidates"][0]
        self._scored += 1
        self._best += best["score"]
        self._plain = None if self._plain is None or "mean" not in record else self._plain + record["mean"]
        prompt = row.prompt if row.messages is None else row.messages[-1]["content"]
        self._latest.append({"row": row.number, "prompt": prompt[:LONG], "text": best["text"][:LONG],
                             "score": best["score"]})

    def values(self) -> dict[str, Any]:
        """Rows done and failed, winners, errors, mean scores and their unit: of the winners, and of all candidates if
        every row has it.
        """
        many = self._scored
        means = {"best": self._best / many} if many else {}
        means |= {"plain": self._plain / many} if many and self._plain is not None else {}
        unit = {name: self._plan.get(name) for name in ("unit", "target")}
        return {"done": self.done, "failed": self.failed, "latest": list(self._latest), "errors": self._errors,
                **means, **unit}
