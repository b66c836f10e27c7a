"""The prompts of a batch: the rows of a file, one after the other, whatever its format.

CSV, JSONL and text are read by the standard library, Parquet by pyarrow. Files are streamed: one row is in memory at a
time, of Parquet a few hundred.
"""

import csv
import hashlib
import json
import math
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from bon.errors import InputError
from bon.messages import say
from bon.settings import clean

#: Names of a column that holds prompts, tried in this order where nobody names one.
PROMPT_COLUMNS = ("prompt", "messages", "text", "query", "question", "instruction", "input")
#: The most characters of a CSV cell: a longer one begins with a quotation mark that is never closed.
CELL_MAX = 2**24

#: The cells of a row by column.
Columns = dict[str, Any]
#: What a reader yields: a row, or in place of one that cannot be read what is wrong with it.
RawRow = Columns | str


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
    """Facts of a whole file: its rows, how many of them cannot be read, all columns, size in bytes and SHA-256."""

    rows: int
    unreadable: int
    columns: tuple[str, ...]
    size: int
    sha256: str


class Dataset:
    """A file of prompts.

    path: .csv, .tsv, .jsonl, .ndjson, .parquet or .txt (a prompt a line). column: the one that holds the prompts (None:
    found by its name, or the only one); a list of messages in it is a chat. template: a text with column names in
    braces that makes each row's prompt, in place of a column. skip_bad: whether a row that cannot be read comes with
    an error instead of raising one. Raises `InputError` for a file without rows or of another format, and where no
    column can be taken for the prompts.
    """

    path: Path
    column: str | None
    template: str | None
    skip_bad: bool

    def __init__(self, path: str | Path, column: str | None = None, template: str | None = None,
                 skip_bad: bool = False):
        self.path, self.template, self.skip_bad = Path(path), template, skip_bad
        if column is not None and template is not None:
            raise InputError("template", say("error.column_and_template"))
        self._read = _reader(self.path)
        first = next((row for row in self._raw_rows() if isinstance(row, dict)), None)
        if first is None:
            next(self.rows(), None)  # raises the error of the first row
            raise InputError("input", say("error.file_without_readable_rows" if skip_bad else "error.file_without_rows",
                                          path=str(path)))
        self.column = None
        self._make_row: Callable[[int, Columns], Row]
        if template is None:
            self.column = _prompt_column(column, list(first))
            self._make_row = _ColumnRows(self.column)
        else:
            self._make_row = _TemplateRows(template, first)

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The rows from number `start` on. Raises `InputError` for one that cannot be read, unless `skip_bad`."""
        for number, raw in enumerate(islice(self._raw_rows(), start, None), start):
            if isinstance(raw, dict):
                yield self._make_row(number, raw)
            elif self.skip_bad:
                yield Row(number, error=raw)
            else:
                raise InputError("input", say("error.unreadable_row", path=str(self.path), error=raw))

    def survey(self) -> Survey:
        """Reads the whole file once."""
        # Hashed before its rows are read: a file that is edited meanwhile then differs from its hash.
        sha256 = self.sha256()
        rows, unreadable, columns = 0, 0, dict[str, None]()
        for row in self.rows():
            rows, unreadable = rows + 1, unreadable + (row.error is not None)
            columns.update(dict.fromkeys(row.columns))
        return Survey(rows, unreadable, tuple(columns), self.path.stat().st_size, sha256)

    def sha256(self) -> str:
        """The SHA-256 of the file as it is now."""
        sha256 = hashlib.sha256()
        with _os_errors_as_input_errors(self.path), open(self.path, "rb") as file:
            while block := file.read(2**20):
                sha256.update(block)
        return sha256.hexdigest()

    def _raw_rows(self) -> Iterator[RawRow]:
        try:
            with _os_errors_as_input_errors(self.path):
                yield from self._read(self.path)
        except UnicodeDecodeError as error:
            raise InputError("input", say("error.file_not_utf8", path=str(self.path))) from error


class _ColumnRows:
    """Makes rows whose prompts stand in one column: as texts, as lists of messages, or as such a list in JSON."""

    def __init__(self, column: str):
        self._column = column

    def __call__(self, number: int, columns: Columns) -> Row:
        value = columns.get(self._column)
        if self._column.casefold() == "messages" and isinstance(value, str):
            value = _parsed_or_text(value)
        if isinstance(value, list):
            return Row(number, messages=value, columns=columns)
        if value is None or isinstance(value, str):
            return Row(number, clean(value or ""), columns=columns)
        return Row(number, columns=columns, error=say("error.prompt_of_wrong_type", type=type(value).__name__))


def _parsed_or_text(cell: str) -> Any:
    """The value that a cell of text holds as JSON, or the text as it is."""
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


class _TemplateRows:
    """Makes rows whose prompts are a template, filled with the row's cells.

    columns: of a row that shows their names. Raises `InputError` for a template that names others, or none.
    """

    def __init__(self, template: str, columns: Columns):
        try:
            fields = list(string.Formatter().parse(template))
        except ValueError as error:
            raise InputError("template", say("error.template_unreadable", error=str(error))) from error
        names = [name for _, name, _, _ in fields if name is not None]
        formatted = [name for _, name, spec, conversion in fields if name is not None and (spec or conversion)]
        unknown = formatted or [name for name in names if name not in columns]
        if unknown or not names:
            values = {"example": f"{{{next(iter(columns))}}}", "columns": ", ".join(columns)}
            raise InputError("template", say("error.template_names_no_such_column", name=f"{{{unknown[0]}}}", **values)
                             if unknown else say("error.template_names_no_column", **values))
        #: The template in pieces: a text, and the column whose cell follows it.
        self._pieces = [(text, name) for text, name, _, _ in fields]

    def __call__(self, number: int, columns: Columns) -> Row:
        for _, name in self._pieces:
            if name is not None and _is_missing(columns.get(name)):
                return Row(number, columns=columns, error=say("error.template_column_missing", column=name))
        prompt = "".join(text + ("" if name is None else str(columns[name])) for text, name in self._pieces)
        return Row(number, clean(prompt), columns=columns)


def _is_missing(value: Any) -> bool:
    """Whether a cell holds nothing; Parquet files from pandas have NaN there."""
    return value in (None, "") or (isinstance(value, float) and math.isnan(value))


@contextmanager
def _os_errors_as_input_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = str(error.strerror or error)
        raise InputError("input", say("error.file_unreadable", path=str(path), reason=reason)) from error


def group_digest(rows: Sequence[Row]) -> str:
    """A hash, 16 hexadecimal digits, of all that the results of a group of rows depend on.

    That is the prompts and the rows that cannot be read; other columns do not count.
    """
    contents = json.dumps([(row.number, row.prompt, row.messages, row.error) for row in rows], default=repr)
    return hashlib.sha256(contents.encode()).hexdigest()[:16]


def column_names(path: str | Path) -> list[str]:
    """The columns of a file's first row that can be read, for a choice among them."""
    path = Path(path)
    return list(next((row for row in _reader(path)(path) if isinstance(row, dict)), ()))


def _prompt_column(name: str | None, columns: Sequence[str]) -> str:
    """The column `name`, or where that is None the one that `PROMPT_COLUMNS` names first, or the only one."""
    if name is not None:
        if name not in columns:
            raise InputError("prompt_column", say("error.no_such_column", column=repr(name),
                                                  columns=", ".join(columns)))
        return name
    matches = [column for usual in PROMPT_COLUMNS for column in columns if column.strip().casefold() == usual]
    if not matches and len(columns) > 1:
        raise InputError("prompt_column", say("error.no_prompt_column", columns=", ".join(columns)))
    return (matches or columns)[0]


# The readers of the formats.


def _reader(path: Path) -> Callable[[Path], Iterator[RawRow]]:
    """The reader for a file's ending. Raises `InputError` for another ending, no file, and binary or UTF-16 content."""
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet, ".txt": _lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError("input", say("error.input_of_unknown_ending", path=str(path), endings=", ".join(readers)))
    with _os_errors_as_input_errors(path):
        if not path.is_file():
            raise InputError("input", say("error.no_such_file", path=str(path)))
        with open(path, "rb") as file:
            start = file.read(8192)
    if reader is not _parquet and b"\0" in start:
        utf16 = start[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise InputError("input", say("error.file_in_utf16" if utf16 else "error.file_not_text", path=str(path)))
    return reader


def _lines(path: Path) -> Iterator[RawRow]:
    with open(path, encoding="utf-8-sig") as file:
        yield from ({"prompt": text} for line in file if (text := line.strip()))


def _jsonl(path: Path) -> Iterator[RawRow]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if text := line.strip():
                yield _json_object(number, text)


def _json_object(number: int, line: str) -> RawRow:
    """A line of JSONL as a row that any file can hold: NaN becomes null, half a surrogate pair U+FFFD."""
    try:
        row = json.loads(line, parse_constant=lambda _: None)
        if "\\ud" in line.lower():  # half of a surrogate pair, which no file can hold
            row = json.loads(clean(json.dumps(row, ensure_ascii=False)))
    except json.JSONDecodeError as error:
        reason = say("error.json_column", fault=error.msg, column=str(error.colno))
        return say("error.line_not_json", line=str(number), reason=reason)
    except (ValueError, RecursionError) as error:
        return say("error.line_not_json", line=str(number), reason=str(error))
    if not isinstance(row, dict):
        return say("error.line_no_json_object", line=str(number), example='{"prompt": "This movie"}')
    return row


def _csv(path: Path) -> Iterator[RawRow]:
    """Rows of a CSV file; its delimiter is the one that cuts the heading into most columns."""
    csv.field_size_limit(CELL_MAX)
    with open(path, encoding="utf-8-sig", newline="") as file:
        heading = next(filter(str.strip, iter(file.readline, "")), "")
        file.seek(0)
        delimiters = "\t" if path.suffix.lower() == ".tsv" else ",;\t"
        delimiter = max(delimiters, key=lambda mark: len(next(csv.reader([heading], delimiter=mark), ())))
        lines = _csv_lines(file, delimiter)
        _, columns = next(lines, (0, []))
        if isinstance(columns, str) or len(set(columns)) < len(columns):
            raise InputError("input", say("error.csv_heading", path=str(path), heading=heading.strip()))
        for number, cells in lines:
            if isinstance(cells, str):
                yield cells
            elif len(cells) != len(columns):
                yield say("error.csv_cells", line=str(number), cells=str(len(cells)), columns=str(len(columns)),
                          delimiter=repr(delimiter))
            else:
                yield dict(zip(columns, cells, strict=True))


def _csv_lines(file: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """The number of each line that is not blank, with its cells or with what is wrong with it."""
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, say("error.csv_line", line=str(reader.line_num), error=str(error))
        else:
            if cells:
                yield reader.line_num, cells


def _parquet(path: Path) -> Iterator[RawRow]:
    arrow = import_pyarrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            for group in file.iter_batches(batch_size=256):
                yield from group.to_pylist()
    except arrow.ArrowException as error:
        raise InputError("input", say("error.no_parquet_file", path=str(path), error=str(error))) from error


def import_pyarrow() -> ModuleType:
    """The pyarrow package with its Parquet part. Raises `InputError` where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("parquet", say("error.no_pyarrow")) from error
    return pyarrow
