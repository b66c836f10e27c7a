"""What a run came to, in plain values: candidates, statistics, timing; and how it reads in a terminal and a notebook.

The texts of models are data: never markup.
"""

import dataclasses
import math
import textwrap
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from bon.messages import described
from bon.settings import Settings, continues


@dataclass(frozen=True, slots=True)
class Candidate:
    """One continuation and what became of it.

    index: its number in the run (and the key of its random stream). rank: 1 is best; None while unscored. score: None
    before it is rated, and for good where the text is empty (`bon.scorers.Scorer`).
    text: the continuation only. tokens: generated, end of text not counted. cap: its drawn length.
    ended: `eos`, `length`, `rejected`, `stopped`, or None while it is being written.
    logprob: sum of its tokens' log-probabilities under the raw model, nats, end of text not counted.
    sampled_logprob: log-probability of drawing it under temperature, top-k and top-p, end of text counted.
    parts: the parts of a combined score. judge: a second scorer's opinion, or None. certainty: the sum of its tokens'
    self-certainty (`bon.scorers.SelfCertaintyScorer`), where a scorer asks for it. token_ids: what was generated, for
    callers that decode for themselves. pieces: the text in pieces as the tokens brought it, each with its
    log-probability in nats (of the tokens together that make up one character). notes: what the reader of the result
    should know of how it was made. whole: prompt and text decoded as one, where a caller wants that. `Result.to_dict`
    leaves the fields of `INTERNAL` out.
    """

    index: int
    text: str = ""
    score: float | None = None
    rank: int | None = None
    tokens: int = 0
    cap: int = 0
    ended: str | None = None
    logprob: float | None = None
    sampled_logprob: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    judge: float | None = None
    certainty: float | None = None
    token_ids: tuple[int, ...] = field(default=(), repr=False)
    pieces: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)
    whole: str | None = field(default=None, repr=False)

    @property
    def empty(self) -> bool:
        """Whether its text is nothing but white space."""
        return not self.text.strip()

    @property
    def settled(self) -> bool:
        """Whether nothing more becomes of it: it has its score, was dropped, or is complete without a text to rate."""
        return self.score is not None or self.ended == "rejected" or (self.empty and self.ended in ("eos", "length"))


#: Fields of a candidate that serve other modules and are no part of a result's public names.
INTERNAL = frozenset({"sampled_logprob", "certainty", "token_ids", "pieces", "notes", "whole"})


@dataclass(frozen=True, slots=True)
class Stats:
    """What best-of-N bought, over the N scored candidates (see `bon.stats.estimates` for each formula).

    mean: one sample, on average. expected_best: for k = 1..N. kl_bound, kl_estimate: nats, or None where the
    formula does not apply (empty texts have no score, so the scored are no plain sample). win_rate: of the best of N
    against one fresh sample, an upper bound where scores tie; None under soft selection. Where the worst is selected,
    all of them are of the worst.
    """

    mean: float
    expected_best: tuple[float, ...]
    kl_bound: float | None
    kl_estimate: float | None
    win_rate: float | None


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds by stage, of all the work up to now, and tokens generated per second of prefill and decoding."""

    prefill: float = 0.0
    decode: float = 0.0
    score: float = 0.0
    total: float = 0.0
    tokens: int = 0
    tokens_per_second: float = 0.0


@dataclass(frozen=True)
class Result:
    """A run's outcome: the candidates, best first, and what the numbers rest on.

    Candidates that early rejection dropped come after the complete ones, with the score that they had then; candidates
    without a score come last, with rank None: they were stopped before they had one, or their texts are empty.
    Shows itself as text in a terminal and as a table in a notebook.
    """

    prompt: str
    model: str
    scorer: str
    target: str | None
    unit: str
    settings: Settings
    candidates: tuple[Candidate, ...]
    stats: Stats | None
    timing: Timing
    notes: tuple[str, ...] = ()
    messages: tuple[Mapping[str, str], ...] | None = None

    @property
    def best(self) -> Candidate:
        """The winner. Raises `ValueError` when nothing was scored."""
        if not self.candidates or self.candidates[0].score is None or self.candidates[0].ended == "rejected":
            raise ValueError("No candidate was scored in full, so there is no best one.")
        return self.candidates[0]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain JSON types, under the names that the command line and HTTP use too."""
        out = dataclasses.asdict(self)
        out["candidates"] = [{k: v for k, v in c.items() if k not in INTERNAL} for c in out["candidates"]]
        out |= {"notes": [str(note) for note in self.notes], "note_keys": [described(note) for note in self.notes]}
        if self.stats:
            out["stats"]["expected_best"] = list(self.stats.expected_best)
        if self.messages is None:
            del out["messages"]
        else:
            out["messages"] = list(out["messages"])
        return out

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)


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
