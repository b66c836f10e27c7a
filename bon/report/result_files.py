"""A run's result as JSON, CSV and one HTML page. Texts are data: never markup."""

from html import escape

from bon.report import run_charts
from bon.report.csv_text import csv_text
from bon.report.html_page import html_page, number_cell, prompt_and_text
from bon.report.json_text import json_text
from bon.report.numbers import format_number, format_score, format_unit
from bon.result import Candidate, Result, end_words, facts, text_words
from bon.settings import answered, continues


def run_json(result: Result) -> str:
    """`Result.to_dict()` as JSON."""
    return json_text(result.to_dict(), ensure_ascii=False, indent=1) + "\n"


def run_csv(result: Result) -> str:
    """The candidates of a run, best first, a line each."""
    parts = sorted({part for c in result.candidates for part in c.parts})
    heads = ("rank", "index", "score", "tokens", "cap", "ended", "logprob", "judge")
    rows = ([getattr(c, name) for name in heads] + [c.parts.get(part) for part in parts] + [result.prompt, c.text]
            for c in result.candidates)
    return csv_text([*heads, *(f"part: {part}" for part in parts), "prompt", "text"], rows)


def run_html(result: Result) -> str:
    """One page of a run that needs nothing else: the winner, what the extra samples bought, and every candidate."""
    unit = format_unit(result.unit, result.target)
    rows = "".join(map(_candidate_row, result.candidates))
    settings = "; ".join(f"{k} {v}" for k, v in result.settings.to_dict().items() if v not in (None, []))
    notes = "".join(f"<p>{escape(note)}</p>" for note in result.notes)
    best = next((c for c in result.candidates if c.score is not None and c.ended != "rejected"), None)
    return html_page("Best of N", f"""<h1>Best of {len(result.candidates)}</h1>
<p>{escape(result.model)}, scored by {escape(result.scorer)}</p>
{_thread(result)}{_winner(result, best, unit) if best else ""}<p>{escape("; ".join(facts(result)))}.</p>{notes}{
    _figures(result) if best else ""}
<h2>Every candidate</h2>
<div class="scroll"><table><thead><tr><th>rank</th><th>score</th><th>text</th><th>tokens</th></tr></thead>
<tbody>{rows}</tbody></table></div>
<h2>Settings</h2><p>{escape(settings)}</p>""")


def _thread(result: Result) -> str:
    """The messages of a chat before the one that the candidates are or continue."""
    before = answered(result.messages, "")[:-1] if result.messages else ()
    return "".join(f'<p class="turn"><b>{escape(turn["role"])}</b> {escape(turn["content"].strip())}</p>'
                   for turn in before)


def _winner(result: Result, best: Candidate, unit: str) -> str:
    """The best text, its score, and how much that is above the mean of all candidates."""
    answers = result.messages and not continues(result.messages)
    quote = prompt_and_text("", best.text.strip()) if answers else prompt_and_text(result.prompt, best.text)
    lift = ""
    if best.score is not None and result.stats and len(result.candidates) > 1:
        lift = f", {format_number(best.score - result.stats.mean, 3, '+')} over one sample on average"
    return f"""<blockquote>{quote}{_end(best)}</blockquote>
<p><span class="big">{escape(format_score(best.score))}</span> {escape(unit)}{lift}</p>"""


def _figures(result: Result) -> str:
    """The charts, each for a wide and for a narrow screen, of which the page shows one."""
    extreme = "worst" if result.settings.select == "worst" else "best"
    draw_of = {"Every candidate's score": run_charts.strip, f"Expected {extreme} score by N": run_charts.curve}
    charts = {caption: (draw(result), draw(result, run_charts.NARROW_WIDTH)) for caption, draw in draw_of.items()}
    return "".join(
        f"<figure><figcaption>{caption}</figcaption>"
        f'<div class="wide">{wide.markup()}</div><div class="narrow">{narrow.markup()}</div></figure>'
        for caption, (wide, narrow) in charts.items() if wide and narrow)


def _candidate_row(c: Candidate) -> str:
    return (f'<tr>{number_cell(c.rank or "")}{number_cell(format_score(c.score))}'
            f'<td>{escape(text_words(c))}{_end(c)}</td>{number_cell(str(c.tokens))}</tr>')


def _end(c: Candidate) -> str:
    return f' <small class="end">({escape(words)})</small>' if (words := end_words(c)) else ""
