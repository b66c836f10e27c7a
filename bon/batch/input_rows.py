"""The prompts of a batch: the rows of a file, one after the other, whatever its format.

CSV, JSONL and text come by the standard library, Parquet by pyarrow. No more than one row (of Parquet: a few hundred)
is in memory at a time.
"""

import csv
import hashlib
import json
import math
import string
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from bon.errors import InputError
from bon.messages import say
from bon.settings import clean

#: What a prompt's column is called, where nobody names it.
NAMES = ("prompt", "messages", "text", "query", "question", "instruction", "input")
#: Characters of a CSV cell at most: what is longer is a quotation mark that nobody closed.
CELL_MAX = 2**24


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number from 0, the prompt or the messages of a chat, and all columns of the file as they are.

    error: what is wrong with a row that cannot be read.
    """

    number: int
    prompt: str | None = None
    messages: Sequence[Mapping[str, str]] | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file holds: rows, how many of them cannot be read, the columns of all, and its size and SHA-256."""

    rows: int
    bad: int
    columns: tuple[str, ...]
    size: int
    sha256: str


class Dataset:
    """A file of prompts.

    path: .csv, .tsv, .jsonl, .ndjson, .parquet or .txt (a prompt a line). column: what holds the prompts (None: found
    by its name, or the only one); a list of messages in it is a chat. template: a text with column names in braces
    that makes each row's prompt, in place of a column. skip_bad: rows that cannot be read come with an error, where
    they raise one otherwise. Raises `InputError` for a file that holds no rows, is of another format, or where the
    prompts are not to be found.
    """

    def __init__(self, path: str | Path, column: str | None = None, template: str | None = None,
                 skip_bad: bool = False):
        self.path, self.template, self.skip_bad = Path(path), template, skip_bad
        if column is not None and template is not None:
            raise InputError("template", say("error.column_and_template"))
        self._read = _reader(self.path)
        first = next((row for row in self._raw() if isinstance(row, dict)), None)
        if first is None:
            next(self.rows(), None)  # says what is wrong with the first
            raise InputError("input", say("error.file_without_readable_rows" if skip_bad else "error.file_without_rows",
                                          path=str(path)))
        self._parts = None if template is None else _template(template, first)
        self.column = None if self._parts else _column(column, list(first))

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The rows from number `start` on. Raises `InputError` for one that cannot be read, unless `skip_bad`."""
        for number, raw in enumerate(islice(self._raw(), start, None), start):
            if isinstance(raw, dict):
                yield self._row(number, raw)
            elif self.skip_bad:
                yield Row(number, error=raw)
            else:
                raise InputError("input", say("error.unreadable_row", path=str(self.path), error=raw))

    def survey(self) -> Survey:
        """Reads the whole file once."""
        # Of the file before its rows are read: then what is edited meanwhile is not taken for what was read.
        digest, rows, bad, columns = self.sha256(), 0, 0, {}
        for row in self.rows():
            rows, bad = rows + 1, bad + (row.error is not None)
            columns.update(dict.fromkeys(row.columns))
        return Survey(rows, bad, tuple(columns), self.path.stat().st_size, digest)

    def sha256(self) -> str:
        """The SHA-256 of the file as it is now."""
        digest = hashlib.sha256()
        with _as_input_errors(self.path), open(self.path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        return digest.hexdigest()

    def _raw(self) -> Iterator[dict[str, Any] | str]:
        """The rows as mappings; in place of one that cannot be read, what is wrong with it."""
        try:
            with _as_input_errors(self.path):
                yield from self._read(self.path)
        except UnicodeDecodeError as error:
            raise InputError("input", say("error.file_not_utf8", path=str(self.path))) from error

    def _row(self, number: int, columns: dict[str, Any]) -> Row:
        if self._parts is not None:
            absent = [name for _, name in self._parts if name is not None and _is_missing(columns.get(name))]
            if absent:
                return Row(number, columns=columns, error=say("error.template_column_missing", column=absent[0]))
            prompt = "".join(text + ("" if name is None else str(columns[name])) for text, name in self._parts)
            return Row(number, clean(prompt), columns=columns)
        value = columns.get(self.column)
        if self.column.casefold() == "messages" and isinstance(value, str):
            value = _decoded(value)
        if isinstance(value, list):
            return Row(number, messages=value, columns=columns)
        if value is None or isinstance(value, str):
            return Row(number, clean(value or ""), columns=columns)
        return Row(number, columns=columns, error=say("error.prompt_of_wrong_type", type=type(value).__name__))


def _is_missing(value: Any) -> bool:
    """Whether a cell holds nothing; Parquet files from pandas have NaN there."""
    return value in (None, "") or (isinstance(value, float) and math.isnan(value))


@contextmanager
def _as_input_errors(path: Path) -> Iterator[None]:
    """Within it, what the system says of a file that it cannot read becomes an `InputError`."""
    try:
        yield
    except OSError as error:
        reason = str(error.strerror or error)
        raise InputError("input", say("error.file_unreadable", path=str(path), reason=reason)) from error


def digest(rows: Sequence[Row]) -> str:
    """A hash, 16 hexadecimal digits, of all that the results of these rows depend on where they are made together.

    That is the prompts and the rows that cannot be read; other columns do not count.
    """
    read = json.dumps([(row.number, row.prompt, row.messages, row.error) for row in rows], default=repr)
    return hashlib.sha256(read.encode()).hexdigest()[:16]


def columns(path: str | Path) -> list[str]:
    """The columns of a file's first row that can be read, for a choice among them."""
    path = Path(path)
    return list(next((row for row in _reader(path)(path) if isinstance(row, dict)), ()))


def _decoded(value: str) -> Any:
    """The messages that a cell of text holds as JSON, or the text as it is."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _column(wanted: str | None, columns: Sequence[str]) -> str:
    if wanted is not None:
        if wanted not in columns:
            raise InputError("prompt_column", say("error.no_such_column", column=repr(wanted),
                                                  columns=", ".join(columns)))
        return wanted
    found = [column for name in NAMES for column in columns if column.strip().casefold() == name]
    if not found and len(columns) > 1:
        raise InputError("prompt_column", say("error.no_prompt_column", columns=", ".join(columns)))
    return (found or columns)[0]


def _template(template: str, columns: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """The template's pieces: a text, and the column whose value follows it."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InputError("template", say("error.template_unreadable", error=str(error))) from error
    names = [name for _, name, _, _ in parsed if name is not None]
    odd = [name for _, name, spec, conversion in parsed if name is not None and (spec or conversion)]
    unknown = odd or [name for name in names if name not in columns]
    if unknown or not names:
        values = {"example": f"{{{next(iter(columns))}}}", "columns": ", ".join(columns)}
        raise InputError("template", say("error.template_names_no_such_column", name=f"{{{unknown[0]}}}", **values)
                         if unknown else say("error.template_names_no_column", **values))
    return [(text, name) for text, name, _, _ in parsed]


# The formats: each reader yields a mapping for a row, or what is wrong with it.


def _reader(path: Path):
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet, ".txt": _lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError("input", say("error.input_of_unknown_ending", path=str(path), endings=", ".join(readers)))
    with _as_input_errors(path):
        if not path.is_file():
            raise InputError("input", say("error.no_such_file", path=str(path)))
        with open(path, "rb") as file:
            start = file.read(8192)
    if reader is not _parquet and b"\0" in start:
        utf16 = start[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise InputError("input", say("error.file_in_utf16" if utf16 else "error.file_not_text", path=str(path)))
    return reader


def _lines(path: Path) -> Iterator[dict[str, Any] | str]:
    with open(path, encoding="utf-8-sig") as file:
        yield from ({"prompt": text} for line in file if (text := line.strip()))


def _jsonl(path: Path) -> Iterator[dict[str, Any] | str]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if text := line.strip():
                yield _object(number, text)


def _object(number: int, line: str) -> dict[str, Any] | str:
    try:
        row = json.loads(line, parse_constant=lambda _: None)
        if "\\ud" in line.lower():  # half of a character of two, which no file can hold
            row = json.loads(clean(json.dumps(row, ensure_ascii=False)))
    except (ValueError, RecursionError) as error:
        at_column = isinstance(error, json.JSONDecodeError)
        reason = say("error.json_column", fault=error.msg, column=str(error.colno)) if at_column else str(error)
        return say("error.line_not_json", line=str(number), reason=reason)
    if not isinstance(row, dict):
        return say("error.line_no_json_object", line=str(number), example='{"prompt": "This movie"}')
    return row


def _csv(path: Path) -> Iterator[dict[str, Any] | str]:
    csv.field_size_limit(CELL_MAX)
    with open(path, encoding="utf-8-sig", newline="") as file:
        start = next(filter(str.strip, iter(file.readline, "")), "")
        file.seek(0)
        marks = "\t" if path.suffix.lower() == ".tsv" else ",;\t"
        delimiter = max(marks, key=lambda mark: len(next(csv.reader([start], delimiter=mark), ())))
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        heads = next(filter(None, _cells(reader)), [])
        if isinstance(heads, str) or len(set(heads)) < len(heads):
            raise InputError("input", say("error.csv_heading", path=str(path), heading=start.strip()))
        for cells in filter(None, _cells(reader)):
            if isinstance(cells, list) and len(cells) != len(heads):
                cells = say("error.csv_cells", line=str(reader.line_num), cells=str(len(cells)),
                            columns=str(len(heads)), delimiter=repr(delimiter))
            yield cells if isinstance(cells, str) else dict(zip(heads, cells, strict=True))


def _cells(reader) -> Iterator[list[str] | str]:
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield say("error.csv_line", line=str(reader.line_num), error=str(error))


def _parquet(path: Path) -> Iterator[dict[str, Any] | str]:
    arrow = pyarrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                yield from batch.to_pylist()
    except arrow.ArrowException as error:
        raise InputError("input", say("error.no_parquet_file", path=str(path), error=str(error))) from error


def pyarrow() -> Any:
    """The pyarrow package with its Parquet part. Raises `InputError` where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("parquet", say("error.no_pyarrow")) from error
    return pyarrow
