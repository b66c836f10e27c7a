"""A result as people see it outside the page: in a terminal and in a notebook. Texts are data: never markup."""

import math
import textwrap
import unicodedata
from html import escape

from bon.schema import Candidate, Result, continues

#: Invisible characters that belong to the text: what joins letters and emoji, what marks a direction, flags.
_JOINERS = {"\u200c", "\u200d", "\u200e", "\u200f", *map(chr, range(0xE0020, 0xE0080))}


def printable(text: str) -> str:
    """`text` on one line, without characters that could steer a terminal or turn the rest of the line around."""
    return "".join(c if c.isprintable() or c in _JOINERS else _instead(c) for c in text)


def _instead(c: str) -> str:
    blank = c in "\r\n\t" or unicodedata.category(c) in ("Zs", "Zl", "Zp")
    return " " if blank else "\ufffd"


def at_most(value: float, digits: int = 2) -> str:
    """An upper bound, rounded up so that it stays one."""
    scale = 10**digits
    return f"{math.ceil(value * scale - 1e-9) / scale:.{digits}f}"


def facts(result: Result) -> list[str]:
    """What the extra samples bought, in short sentences."""
    stats, timing, n = result.stats, result.timing, sum(c.score is not None for c in result.candidates)
    out = []
    if stats:
        out += [
            f"one sample scores {stats.mean:.3f} on average",
            f"the best of {len(stats.expected_best)} scores {stats.expected_best[-1]:.3f}",
        ]
        if stats.kl_bound is not None:
            out.append(f"at most {at_most(stats.kl_bound)} nats of KL from the model")
    out.append(f"{timing.tokens} tokens in {timing.total:.2f} s, seed {result.settings.seed}")
    return out if n else out[-1:]


def as_text(result: Result, width: int = 88) -> str:
    """The winner, the runners-up and the facts as plain text."""
    head = f"{_of_what(result)}  ({result.model}, scored by {result.scorer})"
    rows = [_row(c, width) for c in result.candidates]
    prompt = textwrap.fill(printable(result.prompt), width, initial_indent="prompt: ", subsequent_indent=" " * 8)
    notes = [f"note: {note}" for note in result.notes]
    whole = "\n".join([head, prompt, "", *rows, "", "; ".join(facts(result)) + ".", *notes])
    # Names of models and labels are data too.
    return "\n".join(printable(line) for line in whole.split("\n"))


def _of_what(result: Result) -> str:
    looked_for = f"{result.target} {result.unit}" if result.target else result.unit
    return f"best of {result.settings.n} by {looked_for}"


def text_words(c: Candidate) -> str:
    """The text of a candidate, or words in its place where it is empty."""
    return "(no text)" if c.empty else c.text


def _row(c: Candidate, width: int) -> str:
    head = f"{c.rank or '-':>4}  {'   -  ' if c.score is None else f'{c.score:6.3f}'}  "
    text = printable(text_words(c)).strip()
    if c.ended == "rejected":
        text += f" (dropped after {c.tokens} tokens)"
    return textwrap.fill(text, width, initial_indent=head, subsequent_indent=" " * len(head))


def as_html(result: Result) -> str:
    """A table for notebooks, in a style of its own that reads on light and dark."""
    cell = 'style="text-align:left;vertical-align:top;padding:4px 10px"'
    # An answer is no continuation of its question.
    answers = result.messages and not continues(result.messages)
    prompt = "" if answers else f'<span style="opacity:.55">{escape(result.prompt)}</span>'
    rows = "".join(
        f"<tr><td {cell}>{c.rank or ''}</td><td {cell}><b>{'' if c.score is None else f'{c.score:.3f}'}</b></td>"
        f'<td {cell}>{prompt}{escape(text_words(c))}</td>'
        f"<td {cell}>{c.tokens}{' (dropped)' if c.ended == 'rejected' else ''}</td></tr>"
        for c in result.candidates
    )
    heads = "".join(f"<th {cell}>{h}</th>" for h in ("rank", escape(result.unit), "text", "tokens"))
    said = escape("; ".join(facts(result)) + ". " + " ".join(result.notes))
    return (
        f"<div><p><b>{escape(_of_what(result))}</b> ({escape(result.model)}, scored by {escape(result.scorer)})</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table><p>{said}</p></div>"
    )
