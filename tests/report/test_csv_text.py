"""CSV that a spreadsheet may open: whatever the texts, no cell is a formula, and bon reads them back equal."""

import csv
import io
import random
import re
import unicodedata

import pytest

from bon.report.csv_text import ESCAPED, csv_text, escape_cell, escape_head, unescape_cell, unescape_head

#: What makes cells, formulas, splits and escapes.
ALPHABET = [*"=+-@\t\r\n;,'\"| a1.e5＝＋－＠﹢é", "\0", "\x0b", "\xa0", "\u200b", "\u2028", "\u3000", "\ufeff"]


def random_texts(count: int, seed: int = 7) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(ALPHABET, k=draw.randrange(9))) for _ in range(count)]


def runs(cell: str) -> bool:
    """Whether a spreadsheet could take a cell for a formula, however it treats what stands before the sign."""
    skipped = cell.lstrip("".join({c for c in cell if unicodedata.category(c)[0] in "CZ"}))
    if unicodedata.normalize("NFKC", skipped)[:1] not in tuple("=+-@"):
        return False
    try:
        float(skipped)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(("text", "escaped"), [
    ("=1+1", "'=1+1"), ("\0=1", "'\0=1"), ("\ufeff=1", "'\ufeff=1"), ("\xa0=1", "'\xa0=1"), ("＝1", "'＝1"),
    ("1;=2", "1;'=2"), ("1\t@x", "1\t'@x"), ("1\r\n+x", "1\r\n'+x"), ('1;"=2"', "1;'\"=2\""), (" - x", "' - x"),
    ("\tx", "'\tx"), ("\nx", "'\nx"), ("'=1", "''=1"), ("''=1", "'''=1"), ("\u200b＠x", "'\u200b＠x"),
    ("'", "'"), ("'tis", "'tis"), ("a=1", "a=1"), ("1; 2\n\n3", "1; 2\n\n3"), ("", ""),
    ("-5", "-5"), ("+1e3", "+1e3"), ("-.5", "-.5"), ("1;-5;x", "1;'-5;x"), ("-5;x", "'-5;x"),
    ("-5x", "'-5x"), ("-inf", "'-inf"),
])
def test_an_apostrophe_stands_wherever_a_formula_could_begin(text, escaped):
    assert escape_cell(text) == escaped
    assert unescape_cell(escaped) == text


def test_escaping_is_undone_exactly_for_any_text():
    for text in random_texts(20_000):
        assert unescape_cell(escape_cell(text)) == text
        assert unescape_head(escape_head(text)) == text


def test_no_spreadsheet_finds_a_formula_at_whatever_sign_it_splits():
    texts = random_texts(3000)
    table = csv_text(["text", "more"], [texts[i:i + 2] for i in range(0, 3000, 2)])
    for delimiter in ",;\t":
        csv_cells = [cell for row in csv.reader(io.StringIO(table, newline=""), delimiter=delimiter) for cell in row]
        assert not list(filter(runs, csv_cells))
    for sign in ";\t\r\n":  # of a reader that heeds a quotation mark only at the start of a cell
        lines = [re.sub(r"[\r\n]", " ", piece) for piece in table.split(sign)]
        pieces = [(next(csv.reader([line], delimiter="\x1f"), None) or [""])[0] for line in lines]
        assert not list(filter(runs, pieces))


def test_every_cell_is_quoted_and_a_table_without_formulas_has_no_other_column():
    assert csv_text(["a", "b"], [["x", -5], [None, 0.5]]) == '"a","b"\r\n"x","-5"\r\n"","0.5"\r\n'


def test_only_rows_with_escaped_cells_are_marked():
    assert csv_text(["a"], [["=x"], ["'x"]]) == f'"a","{ESCAPED}"\r\n"\'=x","yes"\r\n"\'x",""\r\n'
    assert csv_text([ESCAPED, "=a"], [["x", "y"]]) == f'"\'{ESCAPED}","\'=a","{ESCAPED}"\r\n"x","y",""\r\n'
