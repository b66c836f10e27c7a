"""The result of a run in plain values (candidates, statistics, timing), and how a terminal and a notebook show it.

The texts of models are data: never markup.
"""

import dataclasses
import math
import re
import textwrap
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from bon.messages import describe
from bon.settings import Messages, Settings, continues

#: `Candidate.ended` of texts that were written to their end.
COMPLETE = ("eos", "length", "stop_string")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One continuation with its score.

    index: its number in the run, which keys its random stream. text: the continuation only. score: None before it is
    scored, and always where the scorer cannot rate the text (`bon.scorers.base.Scorer`). rank: 1 is best; None without
    a score.
    tokens: how many the text comes from, end of text not counted; the last may go beyond it. cap: the most that are
    generated, drawn at random.
    ended: `eos`, `length`, `stop_string`, `rejected`, `stopped`, or None while it is generated. full_text: all that was
    generated, where the run finishes sentences (`Settings.finish`), the length ended the text and some sentence is
    complete; the text then ends with the last complete one. tokens_left_out: how many generated tokens the text does
    not come from, for that reason or for a stop string.
    logprob: the sum of its tokens' log-probabilities under the raw model, nats, end of text not counted.
    sampled_logprob: the log-probability, nats, of sampling all that was generated under the settings, end of text or
    stop string counted.
    parts: the parts of a combined score, by scorer. judge: a second scorer's score, or None. certainty: the sum of its
    tokens' self-certainty (`bon.scorers.logprob`), where a scorer needs it. token_ids: of all that was generated.
    pieces: the text as the tokens extended it, each piece with the log-probability in nats of its tokens (several where
    they form one character). notes: sentences on how it was generated. whole: prompt and text decoded together, where
    the engine was told to. answerless: whether the model wrote its reasoning and nothing else, so that there is no text
    to score. logprob_incomplete: whether the server gave the log-probabilities of some of its tokens only. unrated:
    whether it is complete and the run's scorer cannot rate it. `Result.to_dict` leaves out the fields of `INTERNAL`.
    """

    index: int
    text: str = ""
    score: float | None = None
    rank: int | None = None
    tokens: int = 0
    cap: int = 0
    ended: str | None = None
    full_text: str | None = None
    tokens_left_out: int = 0
    logprob: float | None = None
    sampled_logprob: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    judge: float | None = None
    certainty: float | None = None
    token_ids: tuple[int, ...] = field(default=(), repr=False)
    pieces: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)
    whole: str | None = field(default=None, repr=False)
    answerless: bool = field(default=False, repr=False)
    logprob_incomplete: bool = field(default=False, repr=False)
    unrated: bool = field(default=False, repr=False)

    @property
    def empty(self) -> bool:
        """Whether its text is only white space."""
        return not self.text.strip()

    @property
    def cut(self) -> bool:
        """Whether its length ended it, and not at the end of a sentence as far as is known."""
        return self.ended == "length" and self.full_text is None

    @property
    def generated(self) -> int:
        """How many tokens were generated for it, end of text not counted."""
        return self.tokens + self.tokens_left_out

    @property
    def settled(self) -> bool:
        """Whether it is final: scored, dropped by early rejection, or complete with a text that gets no score."""
        unscorable = (self.empty or self.unrated) and self.ended in COMPLETE
        return self.score is not None or self.ended == "rejected" or unscorable


#: Fields of a candidate that other modules use and that are no part of a result's public form.
INTERNAL = frozenset({"sampled_logprob", "certainty", "token_ids", "pieces", "notes", "whole", "answerless",
                      "logprob_incomplete", "unrated"})


@dataclass(frozen=True, slots=True)
class Stats:
    """What best-of-N gains and costs, over the N scored candidates (`bon.stats.estimates` has the formulas).

    mean: the expected score of one sample. expected_best [N]: that of the best of k, for k = 1..N. kl_bound,
    kl_estimate: of the best of N from the model, nats; None where the formulas do not hold, as where some candidates
    have no score. win_rate: of the best of N against one fresh sample, an upper bound where scores tie; None under soft
    selection. Where the worst is selected, `expected_best` is that of the worst.
    """

    mean: float
    expected_best: tuple[float, ...]
    kl_bound: float | None
    kl_estimate: float | None
    win_rate: float | None


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds by stage, and tokens generated, in all and per second of prefill and decoding."""

    prefill: float = 0.0
    decode: float = 0.0
    score: float = 0.0
    total: float = 0.0
    tokens: int = 0
    tokens_per_second: float = 0.0


@dataclass(frozen=True)
class Result:
    """The result of a run: the candidates, best first, with the settings and models that made them.

    Candidates that early rejection dropped come after the complete ones, with the score that they had then; candidates
    without a score come last, with rank None: they were stopped before they had one, or their texts are empty.
    dtype: the number type of the model that wrote, by its name in `bon.load`; None where a server wrote, and in records
    of versions that did not keep it, which chose bf16 from 30 million parameters on where the processor has it, else
    float32. In another number type the same seed gives other texts.
    Prints as text in a terminal and as a table in a notebook.
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
    messages: Messages | None = None
    dtype: str | None = None

    @property
    def best(self) -> Candidate:
        """The winner. Raises `ValueError` when nothing was scored."""
        if not self.candidates or self.candidates[0].score is None or self.candidates[0].ended == "rejected":
            raise ValueError("No candidate was scored in full, so there is no best one.")
        return self.candidates[0]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain JSON types, as the command line and HTTP give it."""
        out = dataclasses.asdict(self)
        del out["dtype"]  # no promised name; it would change the files of batches
        out["candidates"] = [{k: v for k, v in c.items() if k not in INTERNAL} for c in out["candidates"]]
        out["settings"] = self.settings.to_dict()
        out |= {"notes": [str(note) for note in self.notes], "note_keys": [describe(note) for note in self.notes]}
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


#: Invisible characters that are part of a text: joiners of letters and emoji, direction marks, flags.
#: The columns of a result's text.
WIDTH = 88
_INVISIBLE = {"\u200c", "\u200d", "\u200e", "\u200f", *map(chr, range(0xE0020, 0xE0080))}
#: Characters that control a terminal or reorder a line: C0 without tabs and line ends, DEL, C1, and Unicode's
#: embeddings, overrides and isolates.
_CONTROLS = re.compile("\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str, escapes: bool = False) -> str:
    """`text` on one line, without characters that could control a terminal or reverse the rest of the line.

    escapes: show such a character as its escape, `\\x1b`, rather than as U+FFFD.
    """
    return "".join(c if c.isprintable() or c in _INVISIBLE else _replacement(c, escapes) for c in text)


def _replacement(c: str, escapes: bool) -> str:
    if c in "\r\n\t" or unicodedata.category(c) in ("Zs", "Zl", "Zp"):
        return " "
    return _escape(c) if escapes else "\ufffd"


def show_controls(text: str) -> str:
    """`text` with every character that could control a terminal as its escape, `\\x1b`; tabs and line ends stay."""
    return _CONTROLS.sub(lambda match: _escape(match[0]), text)


def _escape(c: str) -> str:
    return c.encode("unicode_escape").decode()


def at_most(value: float, digits: int = 2) -> str:
    """An upper bound with so many decimals, rounded up so that it remains a bound."""
    scale = 10**digits
    return f"{math.ceil(value * scale - 1e-9) / scale:.{digits}f}"


def facts(result: Result) -> list[str]:
    """What the extra samples gained and cost, in short phrases."""
    stats, timing, out = result.stats, result.timing, []
    if stats and any(c.score is not None for c in result.candidates):
        out += [
            f"one sample scores {stats.mean:.3f} on average",
            f"the {_extreme(result)} of {len(stats.expected_best)} scores {stats.expected_best[-1]:.3f}",
        ]
        if stats.kl_bound is not None:
            out.append(f"at most {at_most(stats.kl_bound)} nats of KL from the model")
    out.append(f"{timing.tokens} tokens in {timing.total:.2f} s, seed {result.settings.seed}")
    return out


def as_text(result: Result, width: int = WIDTH, escapes: bool = False) -> str:
    """The winner, the runners-up and the facts as plain text, wrapped at `width` columns.

    escapes: as in `printable`.
    """
    head = f"{_title(result)}  ({result.model}, scored by {result.scorer})"
    rows = [_row(c, width, escapes) for c in result.candidates]
    prompt = printable(result.prompt, escapes)
    prompt = textwrap.fill(prompt, width, initial_indent="prompt: ", subsequent_indent=" " * 8)
    notes = [f"note: {note}" for note in result.notes]
    text = "\n".join([head, prompt, "", *rows, "", "; ".join(facts(result)) + ".", *notes])
    # Names of models and labels are data too.
    return "\n".join(printable(line, escapes) for line in text.split("\n"))


def _title(result: Result) -> str:
    score = f"{result.target} {result.unit}" if result.target else result.unit
    return f"{_extreme(result)} of {result.settings.n} by {score}"


def _extreme(result: Result) -> str:
    """Which candidate the figures are of."""
    return "worst" if result.settings.select == "worst" else "best"


def text_words(c: Candidate) -> str:
    """The text of a candidate, or a placeholder where it is empty."""
    return "(no text)" if c.empty else c.text


def end_words(c: Candidate) -> str:
    """How a text ended, where that was not where its model or its last sentence ends; else empty."""
    how = {"rejected": "dropped after", "stopped": "stopped after", "length": "cut at" if c.cut else ""}
    verb = how.get(c.ended or "", "")
    return verb and f"{verb} {c.tokens} {'token' if c.tokens == 1 else 'tokens'}"


def _row(c: Candidate, width: int, escapes: bool) -> str:
    head = f"{c.rank or '-':>4}  {'   -  ' if c.score is None else f'{c.score:6.3f}'}  "
    text = printable(text_words(c), escapes).strip()
    if words := end_words(c):
        text += f" ({words})"
    return textwrap.fill(text, width, initial_indent=head, subsequent_indent=" " * len(head))


def _faint(text: str) -> str:
    return f'<span style="opacity:.55">{escape(text)}</span>'


def as_html(result: Result) -> str:
    """A table for notebooks, legible on light and dark."""
    cell = 'style="text-align:left;vertical-align:top;padding:4px 10px"'
    # In a chat the prompt is a question, which the text answers rather than continues.
    is_answer = result.messages and not continues(result.messages)
    prompt = "" if is_answer else _faint(result.prompt)
    rows = "".join(
        f"<tr><td {cell}>{escape(str(c.rank or ''))}</td>"
        f"<td {cell}><b>{'' if c.score is None else f'{c.score:.3f}'}</b></td>"
        f"<td {cell}>{prompt}{escape(text_words(c))}{_faint(f' ({end_words(c)})') if end_words(c) else ''}</td>"
        f"<td {cell}>{escape(str(c.tokens))}</td></tr>"
        for c in result.candidates
    )
    heads = "".join(f"<th {cell}>{h}</th>" for h in ("rank", escape(result.unit), "text", "tokens"))
    footer = escape("; ".join(facts(result)) + ". " + " ".join(result.notes))
    return (
        f"<div><p><b>{escape(_title(result))}</b> ({escape(result.model)}, scored by {escape(result.scorer)})</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table><p>{footer}</p></div>"
    )
