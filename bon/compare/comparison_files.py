"""A comparison as a table, as CSV, as text for a terminal and as one HTML page."""

from html import escape

from bon.compare import comparison_chart
from bon.compare.result import Comparison, Estimate, PromptSamples, Row
from bon.compare.systems import winner
from bon.messages import say
from bon.report.csv_text import csv_text
from bon.report.html_page import html_page, number_cell, prompt_and_text
from bon.report.numbers import format_number, format_score
from bon.result import text_words

HEADS = tuple(f"comparison.head.{name}" for name in ("system", "score", "wins", "kl", "judge", "tokens", "seconds"))
#: A cell of the table: a figure, and its interval, error or estimate, which is empty where there is none.
Cell = tuple[str, str]
#: The cell of a figure that was not measured.
NO_FIGURE: Cell = ("–", "")


def system(row: Row) -> str:
    """The name of a row's system."""
    return say(f"comparison.system.{row.kind}", k=str(row.k))


def comparison_csv(comparison: Comparison) -> str:
    """The table with all its figures, a system a line."""
    heads = ["system", "score", "score_low", "score_high", "wins", "wins_low", "wins_high", "kl", "kl_kind",
             "kl_error", "kl_estimate", "judge", "judge_low", "judge_high", "tokens", "seconds"]
    return csv_text(heads, ([
        system(row), *_with_ends(row.score), *_with_ends(row.wins), row.kl, kl_kind(row), row.kl_error,
        row.kl_estimate, *_with_ends(row.judge), row.tokens, row.seconds,
    ] for row in comparison.rows()))


def _with_ends(estimate: Estimate | None) -> list[float | None]:
    return [estimate.mean, estimate.low, estimate.high] if estimate else [None, None, None]


def kl_kind(row: Row) -> str:
    """Whether a row's KL is exact, measured or an upper bound (`at most`); empty without a KL."""
    if row.kl is None:
        return ""
    return {"base": "exact", "tuned": "measured"}.get(row.kind, "at most")


def table(comparison: Comparison) -> tuple[list[str], list[list[Cell]]]:
    """The table for a reader, heads and rows: without the best of 1, which is the base, and without empty columns."""
    rows = [cells(row) for row in comparison.rows() if (row.kind, row.k) != ("best", 1)]
    kept = [i for i in range(len(HEADS)) if any(row[i] != NO_FIGURE for row in rows)]
    return [say(HEADS[i]) for i in kept], [[row[i] for i in kept] for row in rows]


def cells(row: Row) -> list[Cell]:
    """A row of the table for a reader, in the order of `HEADS`."""
    return [
        (system(row), ""), _with_interval(row.score, 3), _with_interval(row.wins, 0, percent=True), _kl(row),
        _with_interval(row.judge, 3) if row.judge else NO_FIGURE, (f"{row.tokens:.0f}", ""),
        NO_FIGURE if row.seconds is None else (f"{row.seconds:.2f}", ""),
    ]


def _kl(row: Row) -> Cell:
    if row.kl is None:
        return NO_FIGURE
    figure = {"exact": "0", "measured": f"{row.kl:.2f}", "at most": f"≤ {row.kl:.2f}"}[kl_kind(row)]
    if row.kl_error is not None:
        return figure, f"± {row.kl_error:.2f}"
    if row.kl_estimate is not None and row.kl - row.kl_estimate >= 0.005:
        return figure, say("comparison.kl_about", kl=f"{row.kl_estimate:.2f}")
    return figure, ""


def _with_interval(estimate: Estimate, decimals: int, percent: bool = False) -> Cell:
    scale, unit = (100, "%") if percent else (1, "")

    def number(value: float) -> str:
        return format_number(scale * value, decimals)

    ends = "" if estimate.low is None or estimate.high is None else f"[{number(estimate.low)}, {number(estimate.high)}]"
    return number(estimate.mean) + unit, ends


def _joined_cells(comparison: Comparison) -> list[list[str]]:
    """The table with its heads as the first line, figure and interval of each cell in one text."""
    heads, rows = table(comparison)
    return [heads, *([" ".join(filter(None, cell)) for cell in row] for row in rows)]


def comparison_text(comparison: Comparison, width: int | None = None) -> str:
    """The table of a comparison for a terminal of this many columns, None for any number.

    Where the table is wider, the intervals stand under their figures; where that is too, each system is a paragraph.
    """
    heads, rows = table(comparison)
    lines = _aligned(_joined_cells(comparison))
    if width is not None and max(map(len, lines)) > width:
        lines = _aligned([heads, *(list(line) for row in rows for line in zip(*row, strict=True))])
    if width is not None and max(map(len, lines)) > width:
        lines = []
        for system_cell, *figures in rows:
            pairs = [[f"  {head}", " ".join(cell).rstrip()] for head, cell in zip(heads[1:], figures, strict=True)]
            lines += [system_cell[0], *_aligned(pairs)]
    heading = f"{title(comparison)}, 95% intervals over prompts in brackets"
    return "\n".join([heading, "", *lines, "", comparison.sentence(), *(f"note: {note}" for note in comparison.notes)])


def _aligned(rows: list[list[str]]) -> list[str]:
    """A line for each row, with the cells of a column under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def title(comparison: Comparison) -> str:
    """The number of prompts, the models, the scorer and its unit, in a line."""
    unit = comparison.unit
    if comparison.target:
        unit = say(f"comparison.unit.{comparison.unit}", target=comparison.target)
    done, of = len(comparison.samples), comparison.prompts
    key = "comparison.prompts" if done == of else "comparison.prompts_done"
    count = say(key, n=of, done=str(done), of=str(of))
    return say(
        "comparison.title", prompts=count, model=comparison.base, scorer=comparison.scorer, unit=unit,
        n=str(comparison.settings.n),
    )


def comparison_html(comparison: Comparison) -> str:
    """One page that needs nothing else: the table, the chart, and each prompt with what the systems wrote."""
    heads, *rows = _joined_cells(comparison)
    head_cells = "".join(f"<th>{escape(head)}</th>" for head in heads)
    lines = "".join(f"<tr>{''.join(map(number_cell, row))}</tr>" for row in rows)
    notes = "".join(f"<p>{escape(note)}</p>" for note in comparison.notes)
    chart = comparison_chart.chart(comparison)
    return html_page("Best of N, compared", f"""<h1>Base, tuned and best of N</h1>
<p>{escape(title(comparison))}, seed {comparison.settings.seed}. 95% intervals over prompts in brackets. KL: 0 for the
base, measured with its standard error for the tuned model, an upper bound (and an estimate) for best of N.</p>
<div class="scroll"><table><thead><tr>{head_cells}</tr></thead><tbody>{lines}</tbody></table></div>
<figure style="max-width:520px">{chart.markup() if chart else ""}</figure>
<p>{escape(comparison.sentence())}</p>{notes}
<h2>What was written</h2>
<div class="scroll"><table><thead><tr><th>base, one sample</th><th>tuned, one sample</th><th>best of
{comparison.settings.n}</th></tr></thead><tbody>{"".join(map(_texts_row, comparison.samples))}</tbody></table>
</div>""")


def _texts_row(sample: PromptSamples) -> str:
    candidates = [sample.base[0], sample.tuned[0] if sample.tuned else None, winner(sample.base)]
    cells = ("–" if c is None else
             f"{prompt_and_text(sample.prompt, text_words(c))} <b>{escape(format_score(c.score))}</b>"
             for c in candidates)
    return "<tr>" + "".join(f"<td>{text}</td>" for text in cells) + "</tr>"
