"""What a batch brings home: the winner of each row, or rows that TRL's trainers take.

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
#: Columns that mean something to TRL's trainers: a column of the input with such a name gets another one.
TRAINERS = frozenset({
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
class Made:
    """The rows that one record became; where it became none, the reason, one of `LEFT_OUT_REASONS`."""

    rows: Sequence[dict[str, Any]] = ()
    left_out: str | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """One of the forms of the output.

    columns: its own, besides those of the input. kept: the candidates whose texts it needs. make: from a row, its
    record and the least margin to rows.
    """

    name: str | None
    columns: tuple[str, ...]
    kept: Callable[[Sequence[Candidate]], Sequence[Candidate]]
    make: Callable[[Row, Record, float], Made]

    @property
    def trains(self) -> bool:
        """Whether it is meant for a trainer, which takes no rows that failed."""
        return self.name is not None

    def check(self, settings: Settings, margin: float) -> None:
        """Raises `InputError` for settings under which it would be empty or say nothing."""
        if self.name == "preference" and (settings.n < 2 or settings.select != "best"):
            raise InputError("as", say("error.preference_needs_two"))
        if self.name == "scored" and settings.n < 2:
            raise InputError("as", say("error.scored_needs_two"))
        if margin < 0 or (margin and self.name != "preference"):
            raise InputError("margin", say("error.margin"))
        if settings.keep is not None and self.name != "scored":
            raise InputError("keep", say("error.keep_without_scored"))


def record(row: int, result: Result, form: Form, keep: int | None = None) -> Record:
    """What is kept of a result, which holds all candidates. keep: how many of those that the form needs (None: all)."""
    whole = [c for c in result.candidates if c.score is not None and c.ended != "rejected"]
    kept = [{"text": c.text, "score": c.score, "tokens": c.tokens, "ended": c.ended} for c in form.kept(whole)[:keep]]
    out = {"row": row, "candidates": kept, "n": result.settings.n}
    if result.stats:  # after early rejection there are none: those that are left are no plain samples
        out["mean"] = result.stats.mean
    if form.name == "scored":
        out["limit"] = _limit([c.score for c in whole])
    if result.notes:
        out |= {"notes": [str(note) for note in result.notes], "note_keys": list(map(describe, result.notes))}
    return out


def _limit(scores: Sequence[float]) -> float | None:
    """The score above which a candidate's label is true: the mean; None where none scores above another."""
    return estimates.mean(scores) if scores and min(scores) < max(scores) else None


def why_nothing_is_kept(result: Result) -> str | None:
    """The note of a result that says why nothing in it has a score; None where something has."""
    return next((note for note in result.notes if getattr(note, "key", "") == "note.all_empty"), None)


def failure(row: int, error: str) -> Record:
    """The record of a row that failed."""
    return {"row": row, "error": str(error), "error_key": describe(error)}


def notes_of(record: Record) -> list[str]:
    """The notes of a record, as messages where it has their keys."""
    return list(map(restore, record.get("notes", ()), record.get("note_keys") or repeat(None)))


def error_of(record: Record) -> str:
    """The error of a record, as a message where it has its key."""
    return restore(record["error"], record.get("error_key"))


def columns(form: Form, dataset: Dataset, survey: Survey) -> list[str]:
    """The columns of the output."""
    example = Row(0, columns=dict.fromkeys(survey.columns))
    return list(_with_input(form, dataset, example, dict.fromkeys(form.columns)))


def rows(form: Form, dataset: Dataset, row: Row, record: Record, margin: float = 0.0) -> Made:
    """The rows of the output that one row of the input became."""
    if "error" in record and form.trains:
        return Made(left_out="failed")
    made = form.make(row, record, margin)
    return Made([_with_input(form, dataset, row, own) for own in made.rows], made.left_out)


def _with_input(form: Form, dataset: Dataset, row: Row, own: dict[str, Any]) -> dict[str, Any]:
    """A row with the columns of the input before its own, renamed where the names collide.

    For a trainer the prompt is in a column of that name, and nowhere else; else it stays in its column.
    """
    taken = set(own) | (TRAINERS if form.trains else set())
    carried = {name: value for name, value in row.columns.items() if not form.trains or name != dataset.column}
    if not form.trains and dataset.template is not None:
        own = {"prompt": row.prompt, **own}
        taken.add("prompt")
    renamed = dict(zip(_renamed(carried, taken), carried.values(), strict=True))
    return {**own, **renamed} if form.trains else {**renamed, **own}


def _renamed(names: Iterable[str], taken: set[str]) -> list[str]:
    """The names, with `input_` before those that are taken, as often as it needs."""
    taken, out = taken | set(), []
    for name in names:
        while name in taken:
            name = f"input_{name}"
        taken.add(name)
        out.append(name)
    return out


def _prompt(row: Row) -> str | list[dict[str, str]]:
    return row.prompt if row.messages is None else answered(row.messages, "")[:-1]


def _answer(row: Row, text: str) -> str | list[dict[str, str]]:
    return text if row.messages is None else answered(row.messages, text)[-1:]


def _best(row: Row, record: Record, _: float) -> Made:
    if "error" in record:
        return Made([dict.fromkeys(BEST.columns) | {"error": record["error"]}])
    best = record["candidates"][0]
    return Made([{
        "completion": best["text"], "score": best["score"], "mean_score": record.get("mean"), "n": record["n"],
        "tokens": best["tokens"], "ended": best["ended"], "error": None,
    }])


def _sft(row: Row, record: Record, _: float) -> Made:
    best = record["candidates"][0]
    return Made([{"row": row.number, "prompt": _prompt(row), "completion": _answer(row, best["text"]),
                  "score": best["score"]}])


def _preference(row: Row, record: Record, margin: float) -> Made:
    best, worst = record["candidates"][0], record["candidates"][-1]
    apart = best["score"] - worst["score"]
    if best["text"] == worst["text"]:
        return Made(left_out="equal")
    if apart <= 0 or apart < margin:
        return Made(left_out="margin")
    return Made([{
        "row": row.number, "prompt": _prompt(row), "chosen": _answer(row, best["text"]),
        "rejected": _answer(row, worst["text"]), "score_chosen": best["score"], "score_rejected": worst["score"],
        "margin": apart,
    }])


def _scored(row: Row, record: Record, _: float) -> Made:
    limit = record["limit"]
    if limit is None:
        return Made(left_out="same")
    return Made([{
        "row": row.number, "prompt": _prompt(row), "completion": _answer(row, c["text"]), "score": c["score"],
        "label": c["score"] > limit,
    } for c in record["candidates"]])


def _first(ranked: Sequence[Candidate]) -> Sequence[Candidate]:
    return ranked[:1]


def _ends(ranked: Sequence[Candidate]) -> Sequence[Candidate]:
    return ranked[0], ranked[-1]


def _all(ranked: Sequence[Candidate]) -> Sequence[Candidate]:
    return ranked


BEST = Form(None, ("completion", "score", "mean_score", "n", "tokens", "ended", "error"), _first, _best)
SFT = Form("sft", ("row", "prompt", "completion", "score"), _first, _sft)
PREFERENCE = Form("preference", ("row", "prompt", "chosen", "rejected", "score_chosen", "score_rejected", "margin"),
                  _ends, _preference)
SCORED = Form("scored", ("row", "prompt", "completion", "score", "label"), _all, _scored)
#: The forms for trainers, by the names of `--as`.
FORMS = {form.name: form for form in (SFT, PREFERENCE, SCORED)}
