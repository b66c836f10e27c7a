"""CSV as people have it: which sign divides its cells, which lines are rows, and where a quotation mark was not closed.

Quotation marks are read by the standard library's `csv`, a record at a time.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TextIO

from bon.errors import InputError
from bon.messages import say
from bon.report.csv_text import ESCAPED, YES, unescape_cell, unescape_head

#: The signs that may divide the cells of a .csv file, the usual ones first.
DELIMITERS = ",;\t|"
#: The most characters of a cell: a longer one begins with a quotation mark that is never closed.
CELL_MAX = 2**24
#: A character that no text has, as the delimiter of a file with a single column.
UNIT_SEPARATOR = "\x1f"
#: What a blank cell may hold.
SPACES = "\ufeff \t\r\n\xa0"
#: Lines without a character, which `csv` reads one at a time.
EMPTY_LINES = ("\n", "\r\n", "\r")
#: The most characters of a heading that an error shows.
HEADING_SHOWN = 200
#: The line with which Excel is told the delimiter, before the heading.
_DELIMITER_LINE = re.compile(r'"?sep=([^"\w\r\n])"?[\s,;|]*', re.IGNORECASE)

#: A record: the number of its first line; its cells, or what is wrong with it; and its text.
Record = tuple[int, list[str] | str, str]


class DelimitedText:
    """A CSV file. open_text: opens it, with `newline=""`. delimiters: the signs that may divide its cells."""

    def __init__(self, path: Path, open_text: Callable[[], AbstractContextManager[TextIO]], delimiters: str):
        self._path, self._open, self._delimiters = path, open_text, delimiters
        csv.field_size_limit(CELL_MAX)

    def rows(self) -> Iterator[dict[str, str] | str]:
        """Its rows by column, or in place of one that cannot be read what is wrong with it.

        Blank lines, lines of nothing but delimiters and columns without a name and a cell are left out, as in a
        spreadsheet. Raises `InputError` for a heading that cannot be read or names a column twice.
        """
        delimiter = self._delimiter
        with self._open() as file:
            records = self._table(file, delimiter)
            _, heads, text = next(records, (0, [], ""))
            columns = [] if isinstance(heads, str) else _column_names(heads)
            escaped_by = columns.index(ESCAPED) if ESCAPED in columns else None
            if isinstance(heads, str) or len(set(columns)) < len(columns):
                heading = text.strip()[:HEADING_SHOWN]
                raise InputError("input", say("error.csv_heading", path=str(self._path), heading=heading))
            for line, cells, _ in records:
                if isinstance(cells, str):
                    yield cells
                elif not _fits(cells, len(columns)):
                    key = "error.csv_cells" if len(cells) > len(columns) else "error.csv_cells_missing"
                    yield say(key, line=str(line), cells=str(len(_without_blank_end(cells))),
                              columns=str(len(columns)), delimiter=repr(delimiter))
                elif escaped_by is None:
                    yield dict(zip(columns, cells, strict=False))
                else:
                    yield _unescaped(columns, cells, escaped_by)

    def _table(self, file: TextIO, delimiter: str) -> Iterator[Record]:
        """The records of the heading and of the rows, without blank ones and Excel's line."""
        width = 0
        for line, cells, text in _records(file, delimiter):
            if not cells or (_is_blank(text, delimiter) and (delimiter in text or width != 1)):
                continue
            if not width and _DELIMITER_LINE.fullmatch(text.strip("\ufeff\r\n")):
                width = -1  # at most one such line
                continue
            if width <= 0:
                width = len(cells)
            yield line, cells, text

    @cached_property
    def _delimiter(self) -> str:
        """Excel's delimiter, where the file names one; else the sign that every line has as often as the heading.

        Where there are several, the one that makes most columns; where there is none, the one that most lines have so
        often.
        """
        with self._open() as file:
            first = next((line for line in file if not _is_blank(line, self._delimiters)), "")
        if named := _DELIMITER_LINE.fullmatch(first.strip("\r\n")):
            return named[1]
        signs = [sign for sign in self._delimiters if sign in first]
        fits = {sign: fit for sign in signs if (fit := self._fit(sign, first, alone=len(signs) == 1))}
        # Of a single column, whose rows may hold any of the signs that its heading lacks.
        absent = next((sign for sign in self._delimiters if sign not in first), UNIT_SEPARATOR)
        return max(fits, key=lambda sign: fits[sign]) if fits else absent

    def _fit(self, delimiter: str, heading: str, alone: bool) -> tuple[float, int] | None:
        """The share of the rows that this delimiter cuts into the heading's columns, and the number of these.

        None where it does not cut the heading, or only at a comma as in a sentence, and no row. alone: whether the
        share does not matter, since there is no other sign.
        """
        with self._open() as file:
            records = self._table(file, delimiter)
            _, heads, _ = next(records, (0, [], ""))
            if isinstance(heads, str) or len(heads) < 2:
                return None
            columns, rows, fitting = len(_without_blank_end(heads)), 0, 0
            divides = heading.count(f"{delimiter} ") < heading.count(delimiter)
            for _, cells, text in records:
                divides = divides or delimiter in text
                if alone and divides:
                    break
                rows, fitting = rows + 1, fitting + (not isinstance(cells, str) and _fits(cells, columns))
        return (fitting / rows if rows else 1.0, columns) if divides else None


def _records(file: TextIO, delimiter: str) -> Iterator[Record]:
    """The records of a file. After one that cannot be read it goes on at the line behind its quotation mark's."""
    lines = _Lines(file)
    reader, number = csv.reader(lines, delimiter=delimiter, strict=True), 1
    while True:
        lines.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number += lines.blank
            text = "".join(lines.taken)
            opened = _unclosed_quote(text, delimiter)
            ahead = 0 if opened is None else len(_LINE_END.findall(text, 0, opened))
            line = str(number + ahead)
            yield number + ahead, (say("error.csv_line", line=line, error=str(error)) if opened is None else
                                   say("error.csv_quote", line=line)), text
            lines.give_back(lines.taken[ahead + 1:])
            reader, number = csv.reader(lines, delimiter=delimiter, strict=True), number + ahead + 1
        else:
            number += lines.blank
            yield number, cells, "".join(lines.taken)
            number += len(lines.taken)


class _Lines:
    """The lines of a file, which can be given back to be read again.

    taken: the lines of the record that is read. blank: how many empty ones were left out before it.
    """

    def __init__(self, file: TextIO):
        self._file, self._returned = file, deque[str]()
        self.taken: list[str] = []
        self.blank = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._file)
        while not self.taken and line in EMPTY_LINES:
            self.blank += 1
            line = self._returned.popleft() if self._returned else next(self._file)
        self.taken.append(line)
        return line

    def begin_record(self) -> None:
        """The next line is the first one of a record."""
        self.taken.clear()
        self.blank = 0

    def give_back(self, lines: Sequence[str]) -> None:
        """These come next."""
        self._returned.extendleft(reversed(lines))


_LINE_END = re.compile(r"\r\n|\r|\n")


def _unclosed_quote(text: str, delimiter: str) -> int | None:
    """Where the quotation mark is that opens a cell of this record and is not closed before a delimiter or the end."""
    cell = re.compile(rf'"[^"]*(?:""[^"]*)*"(?=[{re.escape(delimiter)}\r\n]|\Z)|(?!")[^{re.escape(delimiter)}]*')
    at = 0
    while at <= len(text):
        whole = cell.match(text, at)
        if whole is None:
            return at
        at = whole.end() + 1
    return None


def _is_blank(text: str, delimiters: str) -> bool:
    """Whether a line holds nothing but these signs and spaces; an empty text in quotation marks is something."""
    return not text.strip(delimiters + SPACES)


def _without_blank_end(cells: Sequence[str]) -> list[str]:
    """The cells up to the last one that is not blank, as spreadsheets write empty columns behind the others."""
    count = len(cells)
    while count > 1 and not cells[count - 1].strip():
        count -= 1
    return list(cells[:count])


def _column_names(heads: Sequence[str]) -> list[str]:
    """The names of the columns: of those without a name, all but the first are called after their place."""
    names = _without_blank_end(heads)
    first = names.index("") if "" in names else None
    return [name or ("" if i == first else f"column {i + 1}") for i, name in enumerate(names)]


def _fits(cells: Sequence[str], columns: int) -> bool:
    """Whether a row has a cell for each column, and nothing in cells behind them."""
    return len(cells) >= columns and not any(cell.strip() for cell in cells[columns:])


def _unescaped(columns: Sequence[str], cells: Sequence[str], escaped_by: int) -> dict[str, str]:
    """A row of a file that bon wrote, as it was before `bon.report.csv_text` escaped it."""
    unescape = unescape_cell if cells[escaped_by] == YES else str
    return {unescape_head(columns[i]): unescape(cells[i]) for i in range(len(columns)) if i != escaped_by}
