"""Results as files: what a spreadsheet, a mail or a slide takes. Texts are data: never markup."""

import csv
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from bon.compare.result import Comparison, Estimate, Row, winner
from bon.messages import say
from bon.report import comparison_chart, run_charts
from bon.report.json_text import json_text
from bon.report.numbers import number_words, score_words, unit_words
from bon.result import Candidate, Result, facts, text_words
from bon.settings import answered, continues

STYLE = """
:root{--bon-page:#f5f6f9;--bon-paper:#fff;--bon-ink:#14161d;--bon-soft:#4b5262;--bon-line:#e4e6ed;
--bon-accent:#4a3fd6;--bon-win-dot:#0a8674;--bon-mean:#a34a06;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--bon-page:#0e1015;--bon-paper:#161920;--bon-ink:#eceef4;--bon-soft:#b0b7c6;
--bon-line:#272c37;--bon-accent:#9d97ff;--bon-win-dot:#3fd0b6;--bon-mean:#f2b05c}}
body{margin:0 auto;max-width:960px;padding:32px 20px;background:var(--bon-page);color:var(--bon-ink);
font:16px/1.55 system-ui,sans-serif}
h1{font-size:26px;letter-spacing:-.02em}h2{font-size:18px;margin-top:36px}p{color:var(--bon-soft)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14.5px}
th,td{text-align:left;padding:8px 10px;border-bottom:1px solid var(--bon-line);vertical-align:top}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
figure{margin:16px 0;padding:16px;background:var(--bon-paper);border:1px solid var(--bon-line);border-radius:14px}
figcaption{font-weight:600;font-size:14px}
.turn{white-space:pre-wrap;margin:0 0 8px}.turn b{color:var(--bon-ink)}
.prompt{color:var(--bon-soft)}svg{width:100%;height:auto}
blockquote{margin:0 0 12px;font:400 26px/1.35 Charter,"Bitstream Charter",Cambria,Georgia,serif}
.big{font-size:34px;font-weight:650;letter-spacing:-.02em;color:var(--bon-ink)}
"""


def run_json(result: Result) -> str:
    """`Result.to_dict()` as JSON."""
    return json_text(result.to_dict(), ensure_ascii=False, indent=1) + "\n"


def run_csv(result: Result) -> str:
    """The candidates of a run, best first, a line each."""
    parts = sorted({part for c in result.candidates for part in c.parts})
    heads = ("rank", "index", "score", "tokens", "cap", "ended", "logprob", "judge")
    rows = ([getattr(c, name) for name in heads] + [c.parts.get(part) for part in parts] + [result.prompt, c.text]
            for c in result.candidates)
    return _csv([*heads, *(f"part: {part}" for part in parts), "prompt", "text"], rows)


def _csv(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO(newline="")
    # Lines end as RFC 4180 has it, and so a lone carriage return within a text is quoted too.
    csv.writer(out).writerows([heads, *([harmless(cell) for cell in row] for row in rows)])
    return out.getvalue()


def harmless(cell: Any) -> Any:
    """A cell that a spreadsheet does not take for a formula (OWASP's list of first characters)."""
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ")[:1] in set("=+-@\t\r\n") else cell


def run_html(result: Result) -> str:
    """One page of a run that needs nothing else: the winner, what the extra samples bought, and every candidate."""
    best = next((c for c in result.candidates if c.score is not None and c.ended != "rejected"), None)
    unit, lift = unit_words(result.unit, result.target), ""
    if best and result.stats and len(result.candidates) > 1:
        lift = f", {number_words(best.score - result.stats.mean, 3, '+')} over one sample on average"
    figures = [("Every candidate's score", run_charts.strip(result)),
               ("What would N have bought?", run_charts.curve(result))]
    drawn = "".join(
        f"<figure><figcaption>{name}</figcaption>{svg}</figure>" for name, svg in figures if svg and best
    )
    rows = "".join(map(_candidate, result.candidates))
    settings = "; ".join(f"{k} {v}" for k, v in result.to_dict()["settings"].items() if v is not None)
    notes = "".join(f"<p>{escape(note)}</p>" for note in result.notes)
    answers = result.messages and not continues(result.messages)
    said = best and (_text("", best.text.strip()) if answers else _text(result.prompt, best.text))
    first = f"""<blockquote>{said}</blockquote>
<p><span class="big">{score_words(best.score)}</span> {escape(unit)}{lift}</p>""" if best else ""
    return _page("Best of N", f"""<h1>Best of {len(result.candidates)}</h1>
<p>{escape(result.model)}, scored by {escape(result.scorer)}</p>
{_thread(result)}{first}<p>{escape("; ".join(facts(result)))}.</p>{notes}{drawn}
<h2>Every candidate</h2>
<div class="scroll"><table><thead><tr><th>rank</th><th>score</th><th>text</th><th>tokens</th></tr></thead>
<tbody>{rows}</tbody></table></div>
<h2>Settings</h2><p>{escape(settings)}</p>""")


def _thread(result: Result) -> str:
    """What was said before the message that the candidates are or go on with."""
    before = answered(result.messages, "")[:-1] if result.messages else ()
    return "".join(f'<p class="turn"><b>{escape(said["role"])}</b> {escape(said["content"].strip())}</p>'
                   for said in before)


def _score(c: Candidate) -> str:
    return "–" if c.score is None else score_words(c.score)


def _candidate(c: Candidate) -> str:
    said = {"rejected": " (dropped)", "stopped": " (stopped)"}.get(c.ended or "", "")
    return (f'<tr><td class="n">{c.rank or ""}</td><td class="n">{_score(c)}</td><td>{escape(text_words(c))}</td>'
            f'<td class="n">{c.tokens}{said}</td></tr>')


def _text(prompt: str, text: str) -> str:
    return f'<span class="prompt">{escape(prompt)}</span>{escape(text)}'


def _page(title: str, body: str) -> str:
    """A page that asks for nothing: no script, no style and no picture from elsewhere."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>{STYLE}</style></head><body>
{body}
</body></html>
"""


def system(row: Row) -> str:
    """What a row of the table is called."""
    return say(f"comparison.system.{row.kind}", k=str(row.k))


def comparison_csv(comparison: Comparison) -> str:
    """The table of a comparison, a system a line."""
    heads = ["system", "score", "score_low", "score_high", "wins", "wins_low", "wins_high", "kl", "kl_kind",
             "kl_error", "kl_estimate", "judge", "judge_low", "judge_high", "tokens", "seconds"]
    return _csv(heads, ([
        system(row), *_three(row.score), *_three(row.wins), row.kl, kl_kind(row), row.kl_error, row.kl_estimate,
        *_three(row.judge or Estimate(None)), row.tokens, row.seconds,
    ] for row in comparison.rows()))


def _three(estimate: Estimate) -> list[float | None]:
    return [estimate.mean, estimate.low, estimate.high]


def kl_kind(row: Row) -> str:
    """Whether a row's KL is exact, measured or an upper bound."""
    if row.kl is None:
        return ""
    return {"base": "exact", "tuned": "measured"}.get(row.kind, "at most")


HEADS = tuple(f"comparison.head.{name}" for name in ("system", "score", "wins", "kl", "judge", "tokens", "seconds"))
#: What stands in a cell for a figure that there is none of.
NONE = ("–", "")
#: A cell of the table: a figure, and its interval, error or estimate, which is empty where there is none.
Cell = tuple[str, str]


def table(comparison: Comparison) -> tuple[list[str], list[list[Cell]]]:
    """The table for a reader, heads and rows: without the best of 1, which is the base, and without empty columns."""
    rows = [cells(row) for row in comparison.rows() if (row.kind, row.k) != ("best", 1)]
    kept = [i for i in range(len(HEADS)) if any(row[i] != NONE for row in rows)]
    return [say(HEADS[i]) for i in kept], [[row[i] for i in kept] for row in rows]


def cells(row: Row) -> list[Cell]:
    """A row of the table for a reader, in the order of `HEADS`."""
    return [
        (system(row), ""), _with_interval(row.score, 3), _with_interval(row.wins, 0, percent=True), _kl(row),
        _with_interval(row.judge, 3) if row.judge else NONE, (f"{row.tokens:.0f}", ""),
        NONE if row.seconds is None else (f"{row.seconds:.2f}", ""),
    ]


def _kl(row: Row) -> Cell:
    if row.kl is None:
        return NONE
    figure = {"exact": "0", "measured": f"{row.kl:.2f}", "at most": f"≤ {row.kl:.2f}"}[kl_kind(row)]
    if row.kl_error is not None:
        return figure, f"± {row.kl_error:.2f}"
    if row.kl_estimate is not None and row.kl - row.kl_estimate >= 0.005:
        return figure, say("comparison.kl_about", kl=f"{row.kl_estimate:.2f}")
    return figure, ""


def _with_interval(estimate: Estimate, decimals: int, percent: bool = False) -> Cell:
    scale, unit = (100, "%") if percent else (1, "")

    def number(value: float) -> str:
        return f"{scale * value:.{decimals}f}".replace("-", "−")

    interval = "" if estimate.low is None else f"[{number(estimate.low)}, {number(estimate.high)}]"
    return number(estimate.mean) + unit, interval


def _lines(comparison: Comparison) -> list[list[str]]:
    """The table with its heads as the first line, each cell in one text."""
    heads, rows = table(comparison)
    return [heads, *([" ".join(filter(None, cell)) for cell in row] for row in rows)]


def comparison_text(comparison: Comparison) -> str:
    """The table of a comparison for a terminal."""
    rows = _lines(comparison)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in rows]
    told = f"{title(comparison)}, 95% intervals over prompts in brackets"
    return "\n".join([told, "", *lines, "", comparison.sentence(), *(f"note: {note}" for note in comparison.notes)])


def title(comparison: Comparison) -> str:
    """What was compared, in a line."""
    unit = comparison.unit
    if comparison.target:
        unit = say(f"comparison.unit.{comparison.unit}", target=comparison.target)
    done, of = len(comparison.outcomes), comparison.prompts
    key = "comparison.prompts" if done == of else "comparison.prompts_done"
    count = say(key, n=of, done=str(done), of=str(of))
    return say(
        "comparison.title", prompts=count, model=comparison.base, scorer=comparison.scorer, unit=unit,
        n=str(comparison.settings.n),
    )


def comparison_html(comparison: Comparison) -> str:
    """One page that needs nothing else: table, figure, and what was written for each prompt."""
    heads, *rows = _lines(comparison)
    heads = "".join(f"<th>{escape(head)}</th>" for head in heads)
    rows = "".join(
        "<tr>" + "".join(f'<td class="n">{escape(word)}</td>' for word in row) + "</tr>" for row in rows
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in comparison.notes)
    return _page("Best of N, compared", f"""<h1>Base, tuned and best of N</h1>
<p>{escape(title(comparison))}, seed {comparison.settings.seed}. 95% intervals over prompts in brackets. KL: 0 for the
base, measured with its standard error for the tuned model, an upper bound (and an estimate) for best of N.</p>
<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>
<figure>{comparison_chart.svg(comparison)}</figure>
<p>{escape(comparison.sentence())}</p>{notes}
<h2>What was written</h2>
<div class="scroll"><table><thead><tr><th>base, one sample</th><th>tuned, one sample</th><th>best of
{comparison.settings.n}</th></tr></thead><tbody>{"".join(map(_written, comparison.outcomes))}</tbody></table></div>""")


def _written(outcome) -> str:
    shown = [outcome.base[0], outcome.tuned[0] if outcome.tuned else None, winner(outcome.base)]
    cells = ("–" if c is None else f"{_text(outcome.prompt, text_words(c))} <b>{_score(c)}</b>" for c in shown)
    return "<tr>" + "".join(f"<td>{text}</td>" for text in cells) + "</tr>"
