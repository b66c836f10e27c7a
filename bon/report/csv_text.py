"""CSV that spreadsheets read as data, and that bon reads back equal: no cell becomes a formula.

A text that a spreadsheet would run gets an apostrophe before it, and so does one that could be mistaken for such a
text, since it begins with apostrophes itself. Rows with such texts say so in the column `ESCAPED`, which the file has
if there are any: whoever reads it takes one apostrophe off, and reads every other row as it is.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

#: The column that says which rows have escaped cells, and what it says of them.
ESCAPED, YES = "bon_escaped", "yes"

#: Characters with which a spreadsheet's formula begins (OWASP, "CSV Injection"), and those that Unicode's compatibility
#: normalization (NFKC) makes of them, such as full-width forms.
_SIGNS = r"=+\-@" + "\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u207a\u207c\u208a\u208c"
#: What spreadsheets drop or skip at a cell's beginning: spaces, control and format characters.
_SKIPPED = ("\\x00-\\x08\\x0b\\x0c\\x0e-\\x20\\x7f-\\xa0\\xad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f"
            "\u3000\ufe00-\ufe0f\ufeff\ufff9-\ufffb")
#: A cell that is a number, which no spreadsheet runs.
_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z"
#: What is behind the place of an apostrophe: at a cell's beginning, and after a sign at which a spreadsheet may split.
_AT_START = rf"(?!{_NUMBER})(?='*[{_SKIPPED}]*[{_SIGNS}\t\r\n])"
_AFTER_SPLIT = rf"(?='*[{_SKIPPED}\"]*[{_SIGNS}])"
_ESCAPE = re.compile(rf"\A{_AT_START}|(?<=[;\t\r\n]){_AFTER_SPLIT}")
_UNESCAPE = re.compile(rf"\A'{_AT_START}|(?<=[;\t\r\n])'{_AFTER_SPLIT}")


def escape_cell(text: str) -> str:
    """The text with an apostrophe wherever a spreadsheet could begin a formula: at its start, and after `;`, tab or
    line end, where a spreadsheet that splits there begins a cell. A text that is a number stays as it is.
    """
    return _ESCAPE.sub("'", text)


def unescape_cell(text: str) -> str:
    """The inverse of `escape_cell`."""
    return _UNESCAPE.sub("", text)


def escape_head(name: str) -> str:
    """As `escape_cell`, of a column's name: one that is `ESCAPED` itself gets an apostrophe too."""
    return f"'{name}" if name.lstrip("'") == ESCAPED else escape_cell(name)


def unescape_head(name: str) -> str:
    """The inverse of `escape_head`."""
    return name[1:] if name.startswith("'") and name.lstrip("'") == ESCAPED else unescape_cell(name)


def write_table(file: TextIO, heads: Sequence[str], rows: Callable[[], Iterable[Sequence[Any]]]) -> int:
    """Writes a table as CSV, with quotation marks around every cell, and returns the number of rows with escaped cells.

    file: opened with `newline=""`. rows: gives the rows below the heads, each time that it is called the same ones.
    """
    escaped_heads = [escape_head(head) for head in heads]
    has_escaped = escaped_heads != list(heads) or any(_escape_row(row)[1] for row in rows())
    # Lines end as RFC 4180 has it. A lone carriage return, or a `;`, within a text is quoted, as everything is.
    out = csv.writer(file, quoting=csv.QUOTE_ALL)
    out.writerow([*escaped_heads, ESCAPED] if has_escaped else escaped_heads)
    count = 0
    for row in rows():
        cells, escaped = _escape_row(row)
        count += escaped
        out.writerow([*cells, YES if escaped else ""] if has_escaped else cells)
    return count


def _escape_row(row: Sequence[Any]) -> tuple[list[Any], bool]:
    """The row with escaped texts, and whether there are any."""
    cells = [escape_cell(cell) if isinstance(cell, str) else cell for cell in row]
    return cells, cells != list(row)


def csv_text(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The table as CSV: see `write_table`."""
    table, out = list(rows), io.StringIO(newline="")
    write_table(out, heads, lambda: table)
    return out.getvalue()
