"""The prompts of a batch: the rows of a file, one after the other, whatever its format.

CSV, JSONL and text are read by the standard library, Parquet by pyarrow. Files are streamed: one row is in memory at a
time, of Parquet a few hundred.
"""

import codecs
import hashlib
import json
import math
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from bon.batch.chat_values import chat, chat_or_text
from bon.batch.delimited_text import DELIMITERS, DelimitedText
from bon.compare.text_encoding import check_encoding, encoding_of, wrong_encoding
from bon.errors import InputError
from bon.messages import say
from bon.settings import clean

#: Names of a column that holds prompts, tried in this order where nobody names one.
PROMPT_COLUMNS = ("prompt", "messages", "text", "query", "question", "instruction", "input")
#: Bytes at a file's start that tell a binary file, and the share of control characters among them that only such have.
START, BINARY_SHARE = 8192, 0.25

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
    """Facts of a whole file: its rows, how many of them cannot be read, how many are chats, all columns, size in bytes
    and SHA-256.
    """

    rows: int
    unreadable: int
    chats: int
    columns: tuple[str, ...]
    size: int
    sha256: str

    @property
    def holds_chats(self) -> bool:
        """Whether all rows that can be read are chats."""
        return self.chats > 0 and self.chats + self.unreadable == self.rows

    @property
    def is_mixed(self) -> bool:
        """Whether some of the rows that can be read are chats and others are not."""
        return self.chats > 0 and not self.holds_chats


class Dataset:
    """A file of prompts.

    path: .csv, .tsv, .jsonl, .ndjson, .parquet or .txt (a prompt a line). column: the one that holds the prompts (None:
    found by its name among those of all rows, or the only one); a list of messages in it, also as JSON or as Python
    prints it, is a chat. template: a text with column names in braces that makes each row's prompt, in place of a
    column. skip_bad: whether a row that cannot be read comes with an error instead of raising one. encoding: of text
    (None: UTF-8, or what a byte order mark tells, which also overrules it). Raises `InputError` for a file without rows
    or of another format or encoding, and where no column can be taken for the prompts.
    """

    path: Path
    column: str | None
    template: str | None
    skip_bad: bool
    encoding: str | None

    def __init__(self, path: str | Path, column: str | None = None, template: str | None = None,
                 skip_bad: bool = False, encoding: str | None = None):
        self.path, self.template, self.skip_bad, self.encoding = Path(path), template, skip_bad, encoding
        if column is not None and template is not None:
            raise InputError("template", say("error.column_and_template"))
        self._file = _InputFile(self.path, encoding)
        columns = self._file.columns()
        if not columns:
            if isinstance(first := next(self._file.rows(), None), str) and not skip_bad:
                raise self._unreadable_row(first)
            raise InputError("input", say("error.file_without_readable_rows" if skip_bad else "error.file_without_rows",
                                          path=str(path)))
        self.column = None
        self._make_row: Callable[[int, Columns], Row]
        if template is None:
            self.column = _prompt_column(column, columns)
            self._make_row = _ColumnRows(self.column)
        else:
            self._make_row = _TemplateRows(template, columns)

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The rows from number `start` on. Raises `InputError` for one that cannot be read, unless `skip_bad`."""
        for number, raw in enumerate(islice(self._file.rows(), start, None), start):
            if isinstance(raw, dict):
                yield self._make_row(number, raw)
            elif self.skip_bad:
                yield Row(number, error=raw)
            else:
                raise self._unreadable_row(raw)

    def _unreadable_row(self, error: str) -> InputError:
        return InputError("input", say("error.unreadable_row", path=str(self.path), error=error))

    def survey(self) -> Survey:
        """Reads the whole file once."""
        # Hashed before its rows are read: a file that is edited meanwhile then differs from its hash.
        sha256 = self.sha256()
        rows, unreadable, chats, columns = 0, 0, 0, dict[str, None]()
        for row in self.rows():
            rows, unreadable = rows + 1, unreadable + (row.error is not None)
            chats += row.messages is not None
            columns.update(dict.fromkeys(row.columns))
        return Survey(rows, unreadable, chats, tuple(columns), self.path.stat().st_size, sha256)

    def sha256(self) -> str:
        """The SHA-256 of the file as it is now."""
        sha256 = hashlib.sha256()
        with _os_errors_as_input_errors(self.path), open(self.path, "rb") as file:
            while block := file.read(2**20):
                sha256.update(block)
        return sha256.hexdigest()


class _ColumnRows:
    """Makes rows whose prompts stand in one column, as texts or as chats."""

    def __init__(self, column: str):
        self._column, self._only_chats = column, column.strip().casefold() == "messages"

    def __call__(self, number: int, columns: Columns) -> Row:
        value = columns.get(self._column)
        if _is_missing(value):
            return Row(number, "", columns=columns)
        try:
            if isinstance(value, str):
                value = chat_or_text(clean(value), self._only_chats)
            elif isinstance(value, list):
                value = chat(value)
        except InputError as error:
            return Row(number, columns=columns, error=error.message)
        if isinstance(value, str):
            return Row(number, value, columns=columns)
        if isinstance(value, list):
            return Row(number, messages=value, columns=columns)
        return Row(number, columns=columns, error=say("error.prompt_of_wrong_type", type=type(value).__name__))


class _TemplateRows:
    """Makes rows whose prompts are a template, filled with the row's cells.

    columns: those of the file. Raises `InputError` for a template that names others, or none.
    """

    def __init__(self, template: str, columns: Sequence[str]):
        try:
            fields = list(string.Formatter().parse(template))
        except ValueError as error:
            raise InputError("template", say("error.template_unreadable", error=str(error))) from error
        names = [name for _, name, _, _ in fields if name is not None]
        formatted = [name for _, name, spec, conversion in fields if name is not None and (spec or conversion)]
        unknown = formatted or [name for name in names if name not in columns]
        if unknown or not names:
            values = {"example": f"{{{columns[0]}}}", "columns": ", ".join(columns)}
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


def column_names(path: str | Path, encoding: str | None = None) -> list[str]:
    """The columns of a file, for a choice among them. Raises `InputError` for a file that cannot be read."""
    return _InputFile(Path(path), encoding).columns()


def has_more_rows(path: str | Path, most: int, encoding: str | None = None) -> bool:
    """Whether a file has more rows than `most`, of which it reads one more. Raises `InputError` as `Dataset` does."""
    return next(islice(_InputFile(Path(path), encoding).rows(), most, None), None) is not None


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


class _InputFile:
    """A file of rows in the format that its ending tells.

    encoding: of text; see `Dataset`. Raises `InputError` for another ending, no file, an unknown encoding and content
    that is not text.
    """

    def __init__(self, path: Path, encoding: str | None):
        self._path, self._ending = path, path.suffix.lower()
        readers: dict[str, Callable[[], Iterator[RawRow]]] = {
            ".csv": DelimitedText(path, partial(self._open, newline=""), DELIMITERS).rows,
            ".tsv": DelimitedText(path, partial(self._open, newline=""), "\t").rows,
            ".jsonl": self._jsonl, ".ndjson": self._jsonl, ".parquet": partial(_parquet, path), ".txt": self._lines,
        }
        if self._ending not in readers:
            raise InputError("input", say("error.input_of_unknown_ending", path=str(path), endings=", ".join(readers)))
        self._read = readers[self._ending]
        if encoding is not None:
            check_encoding(encoding)
        with _os_errors_as_input_errors(path):
            if not path.is_file():
                raise InputError("input", say("error.no_such_file", path=str(path)))
            with open(path, "rb") as file:
                start = file.read(START)
        self._encoding = encoding_of(start, encoding)
        with self._encoding_errors_as_input_errors():
            if self._ending != ".parquet" and _is_binary(start, self._encoding):
                raise InputError("input", say("error.file_not_text", path=str(path)))

    def rows(self) -> Iterator[RawRow]:
        """Its rows. Raises `InputError` where the system refuses, and for text in another encoding."""
        with self._encoding_errors_as_input_errors(), _os_errors_as_input_errors(self._path):
            yield from self._read()

    @contextmanager
    def _encoding_errors_as_input_errors(self) -> Iterator[None]:
        try:
            yield
        except UnicodeError as error:
            raise wrong_encoding(str(self._path), self._encoding) from error

    def columns(self) -> list[str]:
        """The columns of all rows that can be read; only of JSON objects do the first row's not say them all."""
        rows = (row for row in self.rows() if isinstance(row, dict))
        return list(dict.fromkeys(
            column for row in islice(rows, None if self._read == self._jsonl else 1) for column in row))

    def _open(self, newline: str | None = None) -> TextIO:
        return open(self._path, encoding=self._encoding, newline=newline)

    def _lines(self) -> Iterator[RawRow]:
        with self._open() as file:
            yield from ({"prompt": text} for line in file if (text := line.strip()))

    def _jsonl(self) -> Iterator[RawRow]:
        with self._open() as file:
            for number, line in enumerate(file, start=1):
                if text := line.strip():
                    yield _json_object(number, text)


def _is_binary(start: bytes, encoding: str) -> bool:
    """Whether a file that begins so holds zeros as binary files do; a text may hold a few."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(start)
    if "\0" not in text:
        return False
    controls = sum(character < " " and character not in "\t\r\n\f" for character in text)
    return "\ufffd" in text or controls > BINARY_SHARE * len(text)


def _json_object(number: int, line: str) -> RawRow:
    """A line of JSONL as a row that any file can hold: NaN and what float64 cannot hold become null, and half a
    surrogate pair U+FFFD.
    """
    try:
        row = json.loads(line, parse_constant=lambda _: None, parse_float=_finite)
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


def _finite(text: str) -> float | None:
    return number if math.isfinite(number := float(text)) else None


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
