"""Rows into files: JSONL, CSV and Parquet, a few thousand rows in memory at a time."""

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from bon.batch.input_rows import import_pyarrow
from bon.errors import InputError
from bon.messages import Message, say
from bon.report.csv_text import ESCAPED, write_table
from bon.report.json_text import json_text
from bon.settings import clean

#: Rows of a Parquet file's row group.
ROW_GROUP = 4096

#: A row of the output by column.
OutputRow = dict[str, Any]
#: Writes rows with these columns to a path, and returns what a reader of the file should know. It may iterate over the
#: rows more than once.
Writer = Callable[[Iterable[OutputRow], Sequence[str], Path], Sequence[Message]]


def writer(path: Path) -> Writer:
    """The writer for a file's ending. Raises `InputError` for another ending, and for Parquet without pyarrow."""
    writers: dict[str, Writer] = {
        ".jsonl": write_jsonl, ".ndjson": write_jsonl, ".csv": write_csv, ".parquet": write_parquet,
    }
    write = writers.get(path.suffix.lower())
    if write is None:
        raise InputError("output", say("error.output_of_unknown_ending", path=str(path), endings=", ".join(writers)))
    if write is write_parquet:
        import_pyarrow()
    return write


def write_jsonl(rows: Iterable[OutputRow], columns: Sequence[str], path: Path) -> Sequence[Message]:
    """One JSON object a line; null stands for numbers that are not finite."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(clean(_json(row)) + "\n")
    return ()


def write_csv(rows: Iterable[OutputRow], columns: Sequence[str], path: Path) -> Sequence[Message]:
    """CSV for spreadsheets: what they would take for a formula begins with an apostrophe, and the file says so."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        heads = list(map(clean, columns))
        escaped = write_table(file, heads, lambda: ([_csv_cell(row.get(column)) for column in columns] for row in rows))
    return [say("note.csv_escaped", n=escaped, column=ESCAPED)] if escaped else []


def _csv_cell(value: Any) -> Any:
    """Numbers and nothing as they are, everything else as text; lists and objects are JSON."""
    if value is None or isinstance(value, int | float):
        return value
    return clean(value if isinstance(value, str) else _json(value) if isinstance(value, list | dict) else
                 str(_json_type(value) if isinstance(value, bytes) else value))


def _json(value: Any) -> str:
    return json_text(value, ensure_ascii=False, default=_json_type)


def _json_type(value: Any) -> Any:
    """A JSON type for a value that Parquet files can hold and JSON cannot: a text, or the lists of an array."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.tolist() if hasattr(value, "tolist") else str(value)


def write_parquet(rows: Iterable[OutputRow], columns: Sequence[str], path: Path) -> Sequence[Message]:
    """Parquet by pyarrow. A column has the type of all its values, or is JSON text where they share none."""
    arrow = import_pyarrow()
    types: dict[str, Any] = {column: arrow.null() for column in columns}
    for group in _row_groups(rows):
        for column, type_ in types.items():
            types[column] = _common_type(arrow, type_, [row.get(column) for row in group])
    types = {column: arrow.string() if type_ in (None, arrow.null()) else type_ for column, type_ in types.items()}
    try:
        _write_table(arrow, rows, types, path)
    except (arrow.ArrowException, OverflowError, TypeError):  # rare, so values are not tried out beforehand
        _write_table(arrow, rows, {column: type_ if _can_hold(arrow, type_, column, rows) else arrow.string()
                                   for column, type_ in types.items()}, path)
    return ()


def _write_table(arrow: ModuleType, rows: Iterable[OutputRow], types: dict[str, Any], path: Path) -> None:
    schema = arrow.schema(list(types.items()))
    with arrow.parquet.ParquetWriter(path, schema) as file:
        for group in _row_groups(rows):
            columns = [_array(arrow, column, schema.field(column).type, group) for column in types]
            file.write_table(arrow.table(columns, schema))


def _common_type(arrow: ModuleType, type_: Any, values: Sequence[Any]) -> Any:
    """The Arrow type that holds all that `type_` holds and the values too; None where there is none."""
    if type_ is None:
        return None
    try:
        both = [arrow.schema([("", type_)]), arrow.schema([("", arrow.infer_type(values))])]
        return arrow.unify_schemas(both, promote_options="permissive").field(0).type
    except (arrow.ArrowException, OverflowError):
        return None


def _can_hold(arrow: ModuleType, type_: Any, column: str, rows: Iterable[OutputRow]) -> bool:
    """Whether Parquet can hold a column's values in this type."""
    try:
        for group in _row_groups(rows):
            table = arrow.table({column: _array(arrow, column, type_, group)})
            arrow.parquet.write_table(table, arrow.BufferOutputStream())
    except (arrow.ArrowException, OverflowError, TypeError):
        return False
    return True


def _array(arrow: ModuleType, column: str, type_: Any, rows: Sequence[OutputRow]) -> Any:
    """A column of these rows as an Arrow array; in a column of text, values of other types are JSON."""
    def cell(value: Any) -> Any:
        as_json = type_ == arrow.string() and value is not None and not isinstance(value, str)
        return _json(value) if as_json else value

    return arrow.array([cell(row.get(column)) for row in rows], type_)


def _row_groups(rows: Iterable[OutputRow]) -> Iterator[list[OutputRow]]:
    it = iter(rows)
    while group := list(islice(it, ROW_GROUP)):
        yield [_encodable(row) for row in group]


def _encodable(value: Any) -> Any:
    """The value without lone surrogates in its texts, which no file can hold."""
    if isinstance(value, str):
        return value if value.isascii() else clean(value)
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return list(map(_encodable, value)) if isinstance(value, list) else value
