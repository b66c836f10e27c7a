"""Results as files: what a spreadsheet, a mail or a slide takes. Texts are data: never markup."""

import csv
import io
from html import escape

from bon import figure
from bon.comparison import Comparison, Estimate, Row

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
.prompt{color:var(--bon-soft)}svg{width:100%;height:auto}
"""


def system(row: Row) -> str:
    """What a row of the table is called."""
    names = {"base": "base", "tuned": "tuned", "best": f"best of {row.k}", "worst": f"worst of {row.k}",
             "soft": f"soft best of {row.k}", "top": f"average of the best {row.k}"}
    return names[row.kind]


def comparison_csv(comparison: Comparison) -> str:
    """The table of a comparison, a system a line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["system", "score", "score_low", "score_high", "wins", "wins_low", "wins_high", "kl", "kl_kind",
                     "kl_error", "kl_estimate", "judge", "judge_low", "judge_high", "tokens", "seconds"])
    for row in comparison.rows():
        judge = row.judge or Estimate(None)
        writer.writerow([
            system(row), *_three(row.score), *_three(row.wins), row.kl, kl_kind(row), row.kl_error, row.kl_estimate,
            *_three(judge), row.tokens, row.seconds,
        ])
    return out.getvalue()


def _three(estimate: Estimate) -> list[float | None]:
    return [estimate.mean, estimate.low, estimate.high]


def kl_kind(row: Row) -> str:
    """Whether a row's KL is exact, measured or an upper bound."""
    if row.kl is None:
        return ""
    return {"base": "exact", "tuned": "measured"}.get(row.kind, "at most")


HEADS = ("system", "mean score", "wins against base", "KL, nats", "judge", "tokens", "seconds")


def table(comparison: Comparison) -> list[list[str]]:
    """The table for a reader, its heads first: without the best of 1, which is the base, and without empty columns."""
    rows = [words(row) for row in comparison.rows() if (row.kind, row.k) != ("best", 1)]
    kept = [i for i in range(len(HEADS)) if any(row[i] != "–" for row in rows)]
    return [[row[i] for i in kept] for row in (HEADS, *rows)]


def words(row: Row) -> list[str]:
    """A row of the table for a reader, in the order of `HEADS`."""
    kl = {"": "–", "exact": "0", "measured": f"{row.kl or 0:.2f}", "at most": f"≤ {row.kl or 0:.2f}"}[kl_kind(row)]
    if row.kl_error is not None:
        kl += f" ± {row.kl_error:.2f}"
    elif row.kl_estimate is not None and row.kl - row.kl_estimate >= 0.005:
        kl += f" (about {row.kl_estimate:.2f})"
    return [
        system(row), _with_interval(row.score, 3), _with_interval(row.wins, 0, percent=True), kl,
        _with_interval(row.judge, 3) if row.judge else "–", f"{row.tokens:.0f}",
        "–" if row.seconds is None else f"{row.seconds:.2f}",
    ]


def _with_interval(estimate: Estimate, decimals: int, percent: bool = False) -> str:
    scale, unit = (100, "%") if percent else (1, "")

    def number(value: float) -> str:
        return f"{scale * value:.{decimals}f}".replace("-", "−")

    if estimate.low is None:
        return number(estimate.mean) + unit
    return f"{number(estimate.mean)}{unit} [{number(estimate.low)}, {number(estimate.high)}]"


def comparison_text(comparison: Comparison) -> str:
    """The table of a comparison for a terminal."""
    rows = table(comparison)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in rows]
    told = f"{title(comparison)}, 95% intervals over prompts in brackets"
    return "\n".join([told, "", *lines, "", comparison.sentence(), *(f"note: {note}" for note in comparison.notes)])


def title(comparison: Comparison) -> str:
    """What was compared, in a line."""
    unit = f"{comparison.target} {comparison.unit}" if comparison.target else comparison.unit
    done, of = len(comparison.outcomes), comparison.prompts
    count = f"{done} of {of} prompts" if done < of else "1 prompt" if of == 1 else f"{of} prompts"
    return f"{count}, {comparison.base} scored by {comparison.scorer} ({unit}), n = {comparison.settings.n}"


def comparison_html(comparison: Comparison) -> str:
    """One page that needs nothing else: table, figure, and what was written for each prompt."""
    heads, *rows = table(comparison)
    heads = "".join(f"<th>{escape(head)}</th>" for head in heads)
    rows = "".join(
        "<tr>" + "".join(f'<td class="n">{escape(word)}</td>' for word in row) + "</tr>" for row in rows
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in comparison.notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Best of N, compared</title><style>{STYLE}</style></head><body>
<h1>Base, tuned and best of N</h1>
<p>{escape(title(comparison))}, seed {comparison.settings.seed}. 95% intervals over prompts in brackets. KL: 0 for the
base, measured with its standard error for the tuned model, an upper bound (and an estimate) for best of N.</p>
<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>
<figure>{figure.svg(comparison)}</figure>
<p>{escape(comparison.sentence()) if comparison.outcomes else ""}</p>{notes}
<h2>What was written</h2>
<div class="scroll"><table><thead><tr><th>base, one sample</th><th>tuned, one sample</th><th>best of
{comparison.settings.n}</th></tr></thead><tbody>{"".join(map(_written, comparison.outcomes))}</tbody></table></div>
</body></html>
"""


def _written(outcome) -> str:
    best = max(outcome.base, key=lambda c: (c.score, -c.index))
    shown = [outcome.base[0], outcome.tuned[0] if outcome.tuned else None, best]
    prompt = f'<span class="prompt">{escape(outcome.prompt)}</span>'
    cells = ("–" if c is None else f"{prompt}{escape(c.text)} <b>{c.score:.3f}</b>" for c in shown)
    return "<tr>" + "".join(f"<td>{text}</td>" for text in cells) + "</tr>"
