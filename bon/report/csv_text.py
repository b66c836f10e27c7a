"""CSV that spreadsheets read as data: no cell becomes a formula."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def csv_text(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The table as CSV, with `escape_formula` applied to each cell below the heads."""
    out = io.StringIO(newline="")
    # Lines end as RFC 4180 has it, and so a lone carriage return within a text is quoted too.
    csv.writer(out).writerows([heads, *([escape_formula(cell) for cell in row] for row in rows)])
    return out.getvalue()


def escape_formula(cell: Any) -> Any:
    """A cell that a spreadsheet does not take for a formula (OWASP's list of first characters)."""
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ")[:1] in set("=+-@\t\r\n") else cell
