"""The views of a run, made from its `Result`, and the records that the browser keeps.

A view holds texts and positions, never markup; `assets/ui/run_view.js` draws it. Its rows keep the order of the
candidates' numbers, so that successive views differ only in what was generated between them; each row holds its rank.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import NotRequired, TypedDict  # of typing, pydantic takes it from Python 3.12 on

from bon.errors import InputError
from bon.messages import decode_messages, encode_messages, join, restore, say
from bon.report.axis import Axis, score_axis
from bon.report.json_text import json_text
from bon.report.numbers import format_number, format_percent, format_score, format_unit
from bon.result import Candidate, Result, Stats, Timing, at_most
from bon.run_state import mark_stopped
from bon.scorers.logprob import MeanLogprobScorer
from bon.settings import FLOAT_MAX, Settings, checked_messages
from bon.stats import estimates
from bon.ui.generate.markdown import markdown_of
from bon.ui.texts import model_label
from bon.ui.view_types import View, failed_view


class RecordValues(TypedDict):
    """The values of a record beside its settings, notes and messages, as `Result` has them."""

    prompt: str
    model: str
    scorer: str
    target: str | None
    unit: str
    candidates: tuple[Candidate, ...]
    stats: Stats | None
    timing: Timing
    dtype: NotRequired[str | None]


#: Checks their types, since a visitor can forge a record.
RECORD_VALUES, NOTES = TypeAdapter(RecordValues), TypeAdapter(list[str])


def empty_view() -> View:
    """The view before the first run, without a sample."""
    return {"phase": "empty", "title": say("empty.title"), "line": say("empty.line")}


def loading_view(line: str) -> View:
    """The view while a model is loaded."""
    return {"phase": "loading", "title": say("loading.title"), "line": line}


def sample_view(path: Path) -> View:
    """The view of the run in the file `path` (`Result.to_dict()`), labelled as a sample; `empty_view()` without it."""
    if not path.is_file():
        return empty_view()
    view = done_view(read_record(path.read_text(encoding="utf-8")))
    view.update(phase="sample", title=say("sample.title"), line=say("sample.line"))
    view["winner"]["tag"] = say("tag.sample", tag=view["winner"]["tag"])
    return view


def record(result: Result) -> dict[str, Any]:
    """The record of a run, from which the browser opens it again: `Result.to_dict()`, and of each candidate the
    sampling log-probability, for a new ranking, the pieces of its text, for its details, and whether it gets no score;
    and the number type.
    """
    out, by_index = {**result.to_dict(), "dtype": result.dtype}, {c.index: c for c in result.candidates}
    for values in out["candidates"]:
        candidate = by_index[values["index"]]
        pieces = [[text, round(logprob, 4)] for text, logprob in candidate.pieces]
        values |= {"sampled_logprob": candidate.sampled_logprob, "pieces": pieces, "unrated": candidate.unrated}
    return out


def draft(result: Result) -> str:
    """The record of a run under way, as if it were stopped now, as JSON text; without the pieces, its largest part."""
    values = record(mark_stopped(result))
    return json_text(values | {"candidates": [{**c, "pieces": []} for c in values["candidates"]]})


def read_record(text: str) -> Result:
    """The `Result` of the JSON text of its `record` or `to_dict()`. Raises `InputError` for any other text."""
    try:
        raw = json.loads(text)
        settings, messages = Settings(**raw["settings"]).filled(), raw.get("messages")
        values = RECORD_VALUES.validate_python(raw)
        _check_numbers(values["candidates"], values["stats"], values["timing"], settings.n)
        notes = _notes(NOTES.validate_python(raw.get("notes", [])), raw.get("note_keys"))
        chat = None if messages is None else checked_messages(messages)
        return Result(**values, settings=settings, notes=notes, messages=chat)
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise InputError("record", say("error.record")) from error


def _check_numbers(candidates: Sequence[Candidate], stats: Stats | None, timing: Timing, n: int) -> None:
    """Raises `ValueError` for more than `n` candidates, for statistics of none or of more, and for NaN, infinity and
    numbers close to it.
    """
    numbers: list[float | None] = [*(c.score for c in candidates), *dataclasses.astuple(timing)]
    if stats:
        numbers += [stats.mean, *stats.expected_best, stats.kl_bound, stats.kl_estimate, stats.win_rate]
    if len(candidates) > n or (stats and not 1 <= len(stats.expected_best) <= n):
        raise ValueError
    if not all(abs(number or 0) <= FLOAT_MAX for number in numbers):
        raise ValueError


def _notes(texts: Sequence[str], descriptions: Sequence[Any] | None) -> tuple[str, ...]:
    """A record's notes as messages with their keys, which older records lack. descriptions: see `bon.messages`."""
    descriptions = descriptions or [None] * len(texts)
    return tuple(restore(text, description) for text, description in zip(texts, descriptions, strict=True))


def ended_view(result: Result) -> View:
    """The view of a run that has ended, complete or stopped."""
    return done_view(result) if all(c.settled for c in result.candidates) else stopped_view(result)


def stopped_view(result: Result) -> View:
    """The view of a run that was stopped: the candidates so far stay."""
    scored, n = scored_count(result), len(result.candidates)
    return _incomplete_view(result, "stopped", say("stopped.title", done=scored, of=n), say("kept"))


def writing_view(result: Result) -> View:
    """The view of a run under way."""
    n, scored = len(result.candidates), scored_count(result)
    tokens, max_tokens = progress(result.candidates)
    view = _common_view(result, "writing")
    view.update(
        title=say("writing.title", done=scored, of=n),
        line=say("writing.line", n=tokens, most=max_tokens),
        progress=round(tokens / max_tokens, 3),
    )
    if view["winner"]:
        view["winner"]["tag"] = say("tag.leading")
    view["curve"] = curve(result, result.stats) if result.stats and not result.settings.reject else None
    return _with_markdown(view)


def done_view(result: Result) -> View:
    """The view of a complete run."""
    n = len(result.candidates)
    view = _common_view(result, "done")
    view.update(title=say("done.title"), line=say("done.line", of=n, spent=timing_line(result.timing)))
    if view["winner"]:
        view["winner"]["tag"] = say(f"tag.{result.settings.select}", of=n) if n > 1 else say("tag.only")
        view.update(insight(result))
    else:
        view["line"] = timing_line(result.timing)
    return _with_markdown(view) | {"record": record(result)}


def view_after_stop(view: View, result: Result | None) -> View:
    """The view to show when the visitor stops a run. view, result: the last that the run yielded."""
    if view.get("phase") == "loading":
        return {"phase": "stopped", "title": say("stopped.early"), "line": say("stopped.unbegun")}
    return stopped_view(result) if view.get("phase") == "writing" and result else view


def failed_run_view(result: Result | None, message: str) -> View:
    """The view of a run that failed, with the reason: the candidates so far stay. result: None before there were any.
    """
    if result is None:
        return failed_view(message)
    scored = scored_count(result)
    kept = say("broken.kept" if scored else "broken.none", done=scored, of=len(result.candidates))
    return {**_incomplete_view(result, "failed", say("broken.title"), kept), "error": message}


def _incomplete_view(result: Result, phase: str, title: str, line: str) -> View:
    """The view of a run that ended before it was complete: no candidate is still written or scored."""
    view = _with_markdown({**writing_view(result), "phase": phase})
    rows = [{**row, "state": "stopped"} if row["state"] in ("writing", "scoring") else row for row in view["rows"]]
    winner = view["winner"] and {**view["winner"], "tag": say("tag.scored", n=view["scored"])}
    return {**view, "phase": phase, "title": title, "line": line, "progress": None, "rows": rows, "winner": winner,
            "record": record(mark_stopped(result))}


def _with_markdown(view: View) -> View:
    """The view of a run, with the Markdown of a chat's answers in their rows: the best ones first.

    Under way, only the leading one is shown in full.
    """
    if view["messages"] is None:
        return view
    rows, leading = view["rows"], view["winner"] and view["winner"]["index"]
    in_full = [row for i, row in enumerate(rows) if i == leading] if view["phase"] == "writing" else rows
    best_first = sorted(in_full, key=lambda row: (row["rank"] is None, row["rank"] or 0))
    for row, nodes in zip(best_first, markdown_of([row["text"].strip() for row in best_first]), strict=True):
        if nodes:
            row["markdown"] = nodes
    return view


def _common_view(result: Result, phase: str) -> View:
    """The part of the view that runs under way and complete runs have in common."""
    axis = score_axis(scores(result), result.unit)
    return {
        "phase": phase,
        "prompt": result.prompt,
        "messages": result.messages and list(result.messages),
        "n": len(result.candidates),
        "scored": scored_count(result),
        "unit": format_unit(result.unit, result.target),
        "winner": winner(result),
        "axis": {"ticks": [list(mark) for mark in axis.marks()]},
        "mean": result.stats and mean_mark(result.stats, axis),
        "rows": [row(c, axis) for c in sorted(result.candidates, key=lambda c: c.index)],
        "notes": list(result.notes),
    }


def pack(view: View) -> dict[str, Any]:
    """The view as the browser gets it: the candidates' texts as a list; the rest, the record and the draft as JSON.

    Gradio sends differences: of each text only what was appended, and the rest as one value.
    """
    rows = [{k: v for k, v in row.items() if k != "text"} for row in view.get("rows", ())]
    rest = {k: v for k, v in view.items() if k not in ("record", "draft")} | ({"rows": rows} if "rows" in view else {})
    return {
        "view": json_text(encode_messages(rest)), "texts": [row["text"] for row in view.get("rows", ())],
        "record": json_text(view["record"]) if "record" in view else "", "draft": view.get("draft", ""),
    }


def unpack(packed: Mapping[str, Any] | None) -> View:
    """The inverse of `pack`; `empty_view()` for None."""
    if not packed:
        return empty_view()
    view = decode_messages(json.loads(packed["view"]))
    for row, text in zip(view.get("rows", ()), packed["texts"], strict=True):
        row["text"] = text
    return view | ({"record": json.loads(packed["record"])} if packed.get("record") else {})


def scored_count(result: Result) -> int:
    """How many candidates have a score."""
    return sum(c.score is not None for c in result.candidates)


def progress(candidates: Sequence[Candidate]) -> tuple[int, int]:
    """The tokens generated so far, and the most that there can be: an ended candidate gets no more."""
    return (sum(c.generated for c in candidates),
            max(1, sum(c.generated if c.ended else c.cap for c in candidates)))


def row(c: Candidate, axis: Axis) -> dict[str, Any]:
    """A candidate's row. `share` is the position of its score on the axis, 0 to 1."""
    return {
        "text": c.text,
        "tokens": c.tokens,
        "rank": c.rank,
        "score": None if c.score is None else format_score(c.score),
        "share": None if c.score is None else axis.share(c.score),
        "state": state(c),
        "cut": c.cut,
    }


def state(c: Candidate) -> str:
    """A candidate's state: `writing`, `scoring`, `scored`, `empty` (or else without a score), or `rejected` by early
    rejection.
    """
    if c.ended == "rejected":
        return "rejected"
    if c.score is None and c.settled:
        return "empty"
    return "scored" if c.score is not None else "scoring" if c.ended else "writing"


def winner(result: Result) -> dict[str, Any] | None:
    """The best candidate so far, or None before the first score."""
    best = result.candidates[0] if result.candidates else None
    if best is None or best.score is None or best.ended == "rejected":
        return None
    facts = [[say("fact.candidate", number=best.index), say("tip.candidate")], [say("tokens", n=best.tokens), ""]]
    if best.logprob is not None:
        facts.append([say("fact.logprob", value=format_number(best.logprob, 1)), say("tip.logprob")])
    facts.append([say("fact.seed", seed=str(result.settings.seed)), say("tip.seed")])
    lift = format_number(best.score - result.stats.mean, 3, "+") if result.stats else ""
    return {"index": best.index, "score": format_score(best.score), "lift": lift, "facts": facts}


def mean_mark(stats: Stats, axis: Axis) -> dict[str, Any]:
    """The mean score, the expected score of one sample, with its position on the axis."""
    return {"share": axis.share(stats.mean), "score": format_score(stats.mean)}


def insight(result: Result) -> View:
    """What the additional candidates gained: the facts under the winner, and the curve of the expected best of k."""
    if result.stats is None:
        return {"facts": savings(result), "curve": None}
    return {"facts": facts(result, result.stats), "curve": curve(result, result.stats)}


def savings(result: Result) -> list[dict[str, str]]:
    """The facts of a run with early rejection: what it spent. `facts` has estimates, which hold without it only."""
    candidates, max_tokens = result.candidates, sum(c.cap for c in result.candidates)
    dropped, tokens = sum(c.ended == "rejected" for c in candidates), sum(c.generated for c in candidates)
    return [
        {"value": format_score(result.best.score), "label": say("fact.best", of=len(candidates)), "tip": ""},
        {"value": f"{dropped}", "label": say("fact.dropped"), "tip": say("tip.dropped")},
        {"value": say("number", value=tokens), "label": say("fact.written"), "tip": ""},
        {"value": say("number", value=max_tokens), "label": say("fact.most"), "tip": say("tip.most")},
    ]


def facts(result: Result, stats: Stats) -> list[dict[str, str]]:
    """The facts under the winner, up to four: each a value, a label, and an explanation or an empty text."""
    n = scored_count(result)
    tip = say("tip.nats") if result.unit == MeanLogprobScorer.unit else ""
    out = [
        {"value": format_score(stats.expected_best[-1]), "label": say(f"fact.{extreme(result)}", of=n), "tip": tip},
        {"value": format_score(stats.mean), "label": say("fact.mean"), "tip": say("tip.mean")},
    ]
    if result.settings.select == "soft":
        drawn = result.candidates[0].score
        place = 1 + sum(score > drawn for score in scores(result)) if drawn is not None else None
        out = [
            {"value": f"{place}", "label": say("fact.place", of=n), "tip": ""},
            {"value": format_score(soft_mean(result)), "label": say("fact.soft"), "tip": say("tip.soft")},
            *reversed(out),
        ]
    if stats.win_rate is not None:
        rate, label = format_percent(stats.win_rate), say("fact.wins" if extreme(result) == "best" else "fact.below")
        out.append({"value": rate, "label": label, "tip": say("tip.wins", of=n)})
    if stats.kl_bound is not None:
        bound = f"≤ {at_most(stats.kl_bound)}" if stats.kl_bound > 0 else "0"
        out.append({"value": bound, "label": say("fact.kl"), "tip": say("tip.kl")})
    return out


def scores(result: Result) -> list[float]:
    """The scores of the candidates that have one."""
    return [c.score for c in result.candidates if c.score is not None]


def soft_mean(result: Result) -> float:
    """The expected score of a candidate drawn by soft selection."""
    return estimates.soft_best(scores(result), result.settings.softness)


def extreme(result: Result) -> str:
    """Which candidate the figures are of: `best`, or `worst` where the worst is selected."""
    return "worst" if result.settings.select == "worst" else "best"


def curve(result: Result, stats: Stats) -> dict[str, Any]:
    """The curve of the expected best of k, at k = 2^(i/4), rounded, and at k = N."""
    values = stats.expected_best
    axis = score_axis(scores(result), result.unit)
    ks = sorted({round(2 ** (i / 4)) for i in range(4 * int(math.log2(len(values))) + 1)} | {len(values)})
    return {
        "points": [[k, axis.share(values[k - 1]), format_score(values[k - 1])] for k in ks],
        "ticks": [list(mark) for mark in axis.marks(2 if len(axis.ticks) > 4 else 1)],
        "caption": curve_caption(result, values),
        "word": extreme(result),
        "holds_winner": result.settings.select != "soft",
    }


def curve_caption(result: Result, values: Sequence[float]) -> str:
    """The caption: the number of candidates after which 90% of the change is reached, or under soft selection what its
    draws score on average, which no point of the curve shows. values: `Stats.expected_best`.
    """
    if result.settings.select == "soft":
        return say("curve.soft", value=format_score(soft_mean(result)))
    change = values[-1] - values[0]
    if len(values) < 3 or abs(change) <= 1e-9:
        return say("curve.flat")
    enough = next(k for k, value in enumerate(values, start=1) if abs(value - values[0]) >= 0.9 * abs(change))
    key = "curve.enough" if change > 0 else "curve.enough.worst"
    return say(key, n=enough, of=len(values), gain=format_number(change, 3, "+"))


def timing_line(timing: Timing) -> str:
    """Seconds, tokens and speed in a line."""
    speed = say("speed", value=round(timing.tokens_per_second)) if timing.tokens_per_second else ""
    return join([f"{timing.total:.2f} s", say("tokens", n=timing.tokens), speed])


def chips(engine: Mapping[str, Any], scorer: str) -> list[str]:
    """The header's chips: model with size, scorer, device with number type. engine: `Engine.describe()`."""
    size = engine.get("parameters")
    name = model_label(engine["name"])
    model = f"{name} {format_size(size)}" if size else name
    device, dtype = str(engine["device"]), str(engine["dtype"]).removeprefix("torch.")
    short = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}.get(dtype, dtype)
    return [say("chip.model", name=model), say("chip.scorer", name=model_label(scorer)), f"{device.upper()}, {short}"]


def format_size(parameters: int) -> str:
    """A number of parameters as `4.8M`, `124M` or `1.7B`."""
    value, unit = (parameters / 1e9, "B") if parameters >= 1e9 else (parameters / 1e6, "M")
    return f"{value:.1f}{unit}" if value < 10 else f"{value:.0f}{unit}"
