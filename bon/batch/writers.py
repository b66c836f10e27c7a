"""Rows into files: JSONL, CSV and Parquet, a few rows in memory at a time."""

import csv
import datetime
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bon.batch.input_rows import pyarrow
from bon.errors import InputError
from bon.messages import say
from bon.report.csv_text import escape_formula
from bon.report.json_text import json_text

#: Rows of a Parquet file's row group.
GROUP = 4096


def writer(path: Path):
    """What writes files of this ending: a function of rows, columns and a path. The rows may be gone through often.

    Raises `InputError` for an ending that has none, and for Parquet without pyarrow.
    """
    writers = {".jsonl": jsonl, ".ndjson": jsonl, ".csv": table, ".parquet": parquet}
    found = writers.get(path.suffix.lower())
    if found is None:
        raise InputError("output", say("error.output_of_unknown_ending", path=str(path), endings=", ".join(writers)))
    if found is parquet:
        pyarrow()
    return found


def jsonl(rows: Iterable[dict[str, Any]], columns: Sequence[str], path: Path) -> None:
    """One JSON object a line; null stands for numbers that are not finite."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(_json(row) + "\n")


def table(rows: Iterable[dict[str, Any]], columns: Sequence[str], path: Path) -> None:
    """CSV for spreadsheets: what they would take for a formula begins with an apostrophe."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow([escape_formula(column) for column in columns])
        for row in rows:
            out.writerow([_cell(row.get(column)) for column in columns])


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return _json(value)
    return value if isinstance(value, str) and _is_number(value) else escape_formula(value)


def _is_number(text: str) -> bool:
    """Whether a text that begins like a formula is a mere number, such as -5."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _json(value: Any) -> str:
    return json_text(value, ensure_ascii=False, default=plain)


def plain(value: Any) -> Any:
    """A JSON type for a value that Parquet files can hold and JSON cannot: a text, or lists of an array."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.tolist() if hasattr(value, "tolist") else str(value)


def parquet(rows: Iterable[dict[str, Any]], columns: Sequence[str], path: Path) -> None:
    """Parquet by pyarrow. The types are those of all values; a column of several kinds becomes JSON text."""
    arrow = pyarrow()
    kinds: dict[str, Any] = {column: arrow.null() for column in columns}
    for group in _groups(rows):
        for column, kind in kinds.items():
            kinds[column] = _common(arrow, kind, [row.get(column) for row in group])
    kinds = {column: arrow.string() if kind in (None, arrow.null()) else kind for column, kind in kinds.items()}
    try:
        _write(arrow, rows, kinds, path)
    except (arrow.ArrowException, OverflowError, TypeError):  # rare, so it is not looked for beforehand
        _write(arrow, rows, {column: kind if _holds(arrow, kind, column, rows) else arrow.string()
                             for column, kind in kinds.items()}, path)


def _write(arrow, rows: Iterable[dict[str, Any]], kinds: dict[str, Any], path: Path) -> None:
    schema = arrow.schema(list(kinds.items()))
    with arrow.parquet.ParquetWriter(path, schema) as file:
        for group in _groups(rows):
            file.write_table(arrow.table(
                [arrow.array([_fitting(row.get(column), schema.field(column).type, arrow) for row in group],
                             schema.field(column).type) for column in kinds], schema))


def _common(arrow, kind: Any, values: Sequence[Any]) -> Any:
    """A type for values of the type `kind` and these; None: there is none but text."""
    if kind is None:
        return None
    try:
        both = [arrow.schema([("", kind)]), arrow.schema([("", arrow.infer_type(values))])]
        return arrow.unify_schemas(both, promote_options="permissive").field(0).type
    except (arrow.ArrowException, OverflowError):
        return None


def _holds(arrow, kind: Any, column: str, rows: Iterable[dict[str, Any]]) -> bool:
    """Whether Parquet can hold a column's values in this type."""
    try:
        for group in _groups(rows):
            values = arrow.array([_fitting(row.get(column), kind, arrow) for row in group], kind)
            arrow.parquet.write_table(arrow.table({column: values}), arrow.BufferOutputStream())
    except (arrow.ArrowException, OverflowError, TypeError):
        return False
    return True


def _fitting(value: Any, kind: Any, arrow) -> Any:
    if kind == arrow.string() and value is not None and not isinstance(value, str):
        return _json(value)
    return value


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    it = iter(rows)
    while group := list(islice(it, GROUP)):
        yield group
