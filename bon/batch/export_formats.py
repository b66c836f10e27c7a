"""The formats of a batch's output: the winner of each row, or training data for TRL's trainers.

Pure functions from a row of the input and its record, which is what a batch keeps of a result, to rows of the output.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from bon.batch.input_rows import Dataset, Row, Survey
from bon.errors import InputError
from bon.messages import describe, restore, say
from bon.result import Candidate, Result
from bon.settings import Settings, answered
from bon.stats import estimates

#: What a batch keeps of a row: plain JSON types.
Record = dict[str, Any]
#: Columns that TRL's trainers read: a column of the input with such a name gets another one.
TRAINER_COLUMNS = frozenset({
    "prompt", "completion", "chosen", "rejected", "messages", "conversations", "text", "label", "labels", "margin",
    "tools", "images", "image", "videos", "chat_template_kwargs", "input_ids", "attention_mask", "completion_mask",
    "assistant_masks", "seq_lengths",
})
#: Why a row of the input has none in the output.
LEFT_OUT_REASONS = {
    "failed": "that failed", "equal": "with equal texts", "margin": "with too small a difference in score",
    "same": "in which no candidate scores above another",
}


@dataclass(frozen=True, slots=True)
class ExportedRows:
    """The rows of the output that one record becomes; where it becomes none, a key of `LEFT_OUT_REASONS`."""

    rows: Sequence[dict[str, Any]] = ()
    left_out: str | None = None


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A format of the output.

    name: as `--as` has it, None for the winners. columns: those that it adds to the input's. needed: from ranked
    candidates to those whose texts it needs. export: makes rows of a row, its record and the least margin.
    """

    name: str | None
    columns: tuple[str, ...]
    needed: Callable[[Sequence[Candidate]], Sequence[Candidate]]
    export: Callable[[Row, Record, float], ExportedRows]

    @property
    def for_training(self) -> bool:
        """Whether it is meant for a trainer, which takes no rows that failed."""
        return self.name is not None

    def check(self, settings: Settings, margin: float) -> None:
        """Raises `InputError` for settings under which the output would be empty or useless."""
        if self.name == "preference" and (settings.n < 2 or settings.select != "best"):
            raise InputError("as", say("error.preference_needs_two"))
        if self.name == "scored" and settings.n < 2:
            raise InputError("as", say("error.scored_needs_two"))
        if margin < 0 or (margin and self.name != "preference"):
            raise InputError("margin", say("error.margin"))
        if settings.keep is not None and self.name != "scored":
            raise InputError("keep", say("error.keep_without_scored"))


def result_record(row: int, result: Result, export_format: ExportFormat, keep: int | None = None) -> Record:
    """What is kept of a result, which holds all candidates.

    keep: how many of those that the format needs (None: all).
    """
    complete = [c for c in result.candidates if c.score is not None and c.ended != "rejected"]
    candidates = [{"text": c.text, "score": c.score, "tokens": c.tokens, "ended": c.ended}
                  for c in export_format.needed(complete)[:keep]]
    record: Record = {"row": row, "candidates": candidates, "n": result.settings.n}
    if result.stats:  # none after early rejection, which leaves no plain sample
        record["mean"] = result.stats.mean
    if export_format.name == "scored":
        record["limit"] = _label_threshold([c.score for c in complete if c.score is not None])
    if result.notes:
        record |= {"notes": [str(note) for note in result.notes], "note_keys": list(map(describe, result.notes))}
    return record


def _label_threshold(scores: Sequence[float]) -> float | None:
    """The score above which a candidate's label is true: the mean; None where all scores are equal."""
    return estimates.mean(scores) if scores and min(scores) < max(scores) else None


def no_score_note(result: Result) -> str | None:
    """The note of a result of which no text has a score; None for any other."""
    keys = ("note.all_empty", "note.all_empty_at_stop", "note.all_unrated")
    return next((note for note in result.notes if getattr(note, "key", "") in keys), None)


def failure_record(row: int, error: str) -> Record:
    """The record of a row that failed."""
    return {"row": row, "error": str(error), "error_key": describe(error)}


def record_notes(record: Record) -> list[str]:
    """The notes of a record, as messages where it has their keys."""
    return list(map(restore, record.get("notes", ()), record.get("note_keys") or repeat(None)))


def record_error(record: Record) -> str:
    """The error of a record, as a message where it has its key."""
    return restore(record["error"], record.get("error_key"))


def output_columns(export_format: ExportFormat, dataset: Dataset, survey: Survey) -> list[str]:
    """The columns of the output."""
    example = Row(0, columns=dict.fromkeys(survey.columns))
    return list(_with_input_columns(export_format, dataset, example, dict.fromkeys(export_format.columns)))


def output_rows(export_format: ExportFormat, dataset: Dataset, row: Row, record: Record,
                margin: float = 0.0) -> ExportedRows:
    """The rows of the output that one row of the input becomes."""
    if "error" in record and export_format.for_training:
        return ExportedRows(left_out="failed")
    exported = export_format.export(row, record, margin)
    rows = [_with_input_columns(export_format, dataset, row, cells) for cells in exported.rows]
    return ExportedRows(rows, exported.left_out)


def _with_input_columns(export_format: ExportFormat, dataset: Dataset, row: Row,
                        cells: dict[str, Any]) -> dict[str, Any]:
    """A row of the output: the cells of its format, and the columns of the input, renamed where the names collide.

    For a trainer the prompt is in a column of that name, and nowhere else; else it stays in its column.
    """
    taken, copied = set(cells), dict(row.columns)
    if export_format.for_training:
        taken |= TRAINER_COLUMNS
        copied = {name: value for name, value in copied.items() if name != dataset.column}
    elif dataset.template is not None:
        cells = {"prompt": row.prompt, **cells}
        taken.add("prompt")
    renamed = dict(zip(_free_names(copied, taken), copied.values(), strict=True))
    return {**cells, **renamed} if export_format.for_training else {**renamed, **cells}


def _free_names(names: Iterable[str], taken: set[str]) -> list[str]:
    """The names, with `input_` before those that are taken, as often as it needs."""
    taken, free = set(taken), []
    for name in names:
        while name in taken:
            name = f"input_{name}"
        taken.add(name)
        free.append(name)
    return free


def _prompt(row: Row) -> str | list[dict[str, str]] | None:
    return row.prompt if row.messages is None else answered(row.messages, "")[:-1]


def _answer(row: Row, text: str) -> str | list[dict[str, str]]:
    return text if row.messages is None else answered(row.messages, text)[-1:]


def _best(row: Row, record: Record, _: float) -> ExportedRows:
    if "error" in record:
        return ExportedRows([dict.fromkeys(BEST.columns) | {"error": record["error"]}])
    best = record["candidates"][0]
    return ExportedRows([{
        "completion": best["text"], "score": best["score"], "mean_score": record.get("mean"), "n": record["n"],
        "tokens": best["tokens"], "ended": best["ended"], "error": None,
    }])


def _sft(row: Row, record: Record, _: float) -> ExportedRows:
    best = record["candidates"][0]
    return ExportedRows([{
        "row": row.number, "prompt": _prompt(row), "completion": _answer(row, best["text"]), "score": best["score"],
    }])


def _preference(row: Row, record: Record, margin: float) -> ExportedRows:
    """The best and the worst text as a pair, unless the texts are equal or their scores too close."""
    best, worst = record["candidates"][0], record["candidates"][-1]
    difference = best["score"] - worst["score"]
    if best["text"] == worst["text"]:
        return ExportedRows(left_out="equal")
    if difference <= 0 or difference < margin:
        return ExportedRows(left_out="margin")
    return ExportedRows([{
        "row": row.number, "prompt": _prompt(row), "chosen": _answer(row, best["text"]),
        "rejected": _answer(row, worst["text"]), "score_chosen": best["score"], "score_rejected": worst["score"],
        "margin": difference,
    }])


def _scored(row: Row, record: Record, _: float) -> ExportedRows:
    threshold = record["limit"]
    if threshold is None:
        return ExportedRows(left_out="same")
    return ExportedRows([{
        "row": row.number, "prompt": _prompt(row), "completion": _answer(row, c["text"]), "score": c["score"],
        "label": c["score"] > threshold,
    } for c in record["candidates"]])


def _best_alone(ranked: Sequence[Candidate]) -> Sequence[Candidate]:
    return ranked[:1]


def _best_and_worst(ranked: Sequence[Candidate]) -> Sequence[Candidate]:
    return ranked[0], ranked[-1]


def _all(ranked: Sequence[Candidate]) -> Sequence[Candidate]:
    return ranked


BEST = ExportFormat(None, ("completion", "score", "mean_score", "n", "tokens", "ended", "error"), _best_alone, _best)
SFT = ExportFormat("sft", ("row", "prompt", "completion", "score"), _best_alone, _sft)
PREFERENCE = ExportFormat(
    "preference", ("row", "prompt", "chosen", "rejected", "score_chosen", "score_rejected", "margin"), _best_and_worst,
    _preference,
)
SCORED = ExportFormat("scored", ("row", "prompt", "completion", "score", "label"), _all, _scored)
#: The formats of training data, by the names of `--as`.
TRAINING_FORMATS = {"sft": SFT, "preference": PREFERENCE, "scored": SCORED}


def format_named(name: str | None) -> ExportFormat:
    """The format of training data of this name, or the winners for any other."""
    return TRAINING_FORMATS.get(name or "", BEST)
