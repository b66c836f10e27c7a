"""What the page shows of a run, as plain values: a `Result` goes in, a view (a dict of JSON types) comes out.

The view holds texts and positions, never markup; `assets/ui/` draws it. Rows keep the order of the candidates'
numbers, so that from one view to the next only what grew differs; the ranks say how they are sorted.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bon.errors import InputError
from bon.messages import decode_messages, encode_messages, join, restore, say
from bon.report.axis import Axis, score_axis
from bon.report.json_text import json_text
from bon.report.numbers import format_number, format_percent, format_score, format_unit
from bon.result import Candidate, Result, Stats, Timing, at_most
from bon.run_state import mark_stopped
from bon.settings import Settings, checked_messages
from bon.ui.view_types import View, failed


def empty() -> View:
    """Before anything has run and without a sample to show."""
    return {"phase": "empty", "title": say("empty.title"), "line": say("empty.line")}


def loading(model: str) -> View:
    """While a model is read from disk or network."""
    return {"phase": "loading", "title": say("loading.title"), "line": say("loading.line", model=model)}


def sample(path: Path) -> View:
    """The finished run kept in the file `path` (a `Result.to_dict()`), labelled as a sample; `empty()` without it."""
    if not path.is_file():
        return empty()
    shown = done(read(path.read_text(encoding="utf-8")))
    shown.update(phase="sample", title=say("sample.title"), line=say("sample.line"))
    shown["winner"]["tag"] = say("tag.sample", tag=shown["winner"]["tag"])
    return shown


def record(result: Result) -> dict[str, Any]:
    """All that is known of a run, for the browser to keep: `Result.to_dict()`, and of each candidate what its detail
    and a new ranking need.
    """
    out, more = result.to_dict(), {c.index: c for c in result.candidates}
    for c in out["candidates"]:
        pieces = more[c["index"]].pieces
        c |= {"sampled_logprob": more[c["index"]].sampled_logprob, "pieces": [[t, round(p, 4)] for t, p in pieces]}
    return out


def draft(result: Result) -> str:
    """The record of a run that goes on, as if it were stopped now; without its texts' pieces, which weigh most."""
    kept = record(mark_stopped(result))
    return json_text(kept | {"candidates": [{**c, "pieces": []} for c in kept["candidates"]]})


def read(text: str) -> Result:
    """The `Result` whose `record` or `to_dict()` was written as the JSON `text`.

    Raises `InputError` for anything else.
    """
    try:
        raw = json.loads(text)
        raw["settings"] = Settings(**raw["settings"]).filled()
        raw["candidates"] = tuple(Candidate(**c) for c in raw["candidates"])
        raw["stats"] = raw["stats"] and Stats(**raw["stats"])
        raw["timing"] = Timing(**raw["timing"])
        raw["notes"] = _notes(raw.get("notes", ()), raw.pop("note_keys", None))
        if raw.get("messages") is not None:
            raw["messages"] = checked_messages(raw["messages"])
        return Result(**raw)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError("record", say("error.record")) from error


def _notes(texts: Sequence[str], descriptions: Sequence[Any] | None) -> tuple[str, ...]:
    """A record's notes with their keys; an older record has none."""
    descriptions = descriptions or [None] * len(texts)
    return tuple(restore(text, description) for text, description in zip(texts, descriptions, strict=True))


def ended(result: Result) -> View:
    """The view of a run that has ended, in full or not."""
    return done(result) if all(c.settled for c in result.candidates) else halted(result)


def halted(result: Result) -> View:
    """A run that was stopped: what is done stays."""
    scored, n = scored_count(result), len(result.candidates)
    return _cut_short(writing(result), result, "stopped", say("stopped.title", done=scored, of=n), say("kept"))


def writing(result: Result) -> View:
    """A run that goes on."""
    n, scored = len(result.candidates), scored_count(result)
    tokens, to_do = progress(result.candidates)
    shown = common(result, "writing")
    shown.update(
        title=say("writing.title", done=scored, of=n),
        line=say("writing.line", n=tokens, most=to_do),
        progress=round(tokens / to_do, 3),
    )
    if shown["winner"]:
        shown["winner"]["tag"] = say("tag.leading")
    shown["curve"] = curve(result) if result.stats and not result.settings.reject else None
    return shown


def done(result: Result) -> View:
    """A run that has ended."""
    n = len(result.candidates)
    shown = common(result, "done")
    shown.update(title=say("done.title"), line=say("done.line", of=n, spent=spent(result.timing)))
    if shown["winner"]:
        shown["winner"]["tag"] = say(f"tag.{result.settings.select}", of=n) if n > 1 else say("tag.only")
        shown.update(insight(result))
    else:
        shown["line"] = spent(result.timing)
    return shown | {"record": record(result)}


def stopped(view: View, result: Result | None) -> View:
    """The last view of a run that was stopped, made final; `result` is what it had come to."""
    if view.get("phase") == "loading":
        return {"phase": "stopped", "title": say("stopped.early"), "line": say("stopped.unbegun")}
    return halted(result) if view.get("phase") == "writing" and result else view


def broken(result: Result | None, message: str) -> View:
    """The last view of a run that failed midway, with the reason: what was done stays."""
    if result is None:
        return failed(message)
    scored = scored_count(result)
    kept = say("broken.kept" if scored else "broken.none", done=scored, of=len(result.candidates))
    return {**_cut_short(writing(result), result, "failed", say("broken.title"), kept), "error": message}


def _cut_short(view: View, result: Result, phase: str, title: str, line: str) -> View:
    rows = [{**row, "state": "stopped"} if row["state"] in ("writing", "scoring") else row for row in view["rows"]]
    winner = view["winner"] and {**view["winner"], "tag": say("tag.scored", n=view["scored"])}
    said = {"phase": phase, "title": title, "line": line, "progress": None}
    return {**view, **said, "rows": rows, "winner": winner, "record": record(mark_stopped(result))}


def common(result: Result, phase: str) -> View:
    """What the views of a running and of an ended run share."""
    axis = score_axis([c.score for c in result.candidates if c.score is not None], result.unit)
    return {
        "phase": phase,
        "prompt": result.prompt,
        "messages": result.messages and list(result.messages),
        "n": len(result.candidates),
        "scored": scored_count(result),
        "unit": format_unit(result.unit, result.target),
        "winner": winner(result),
        "axis": {"ticks": [list(mark) for mark in axis.marks()]},
        "mean": mean_mark(result, axis),
        "rows": [row(c, axis) for c in sorted(result.candidates, key=lambda c: c.index)],
        "notes": list(result.notes),
    }


def pack(view: View) -> dict[str, Any]:
    """The view as it travels: the texts as a list, record and draft of the run and the rest as JSON texts.

    Gradio then sends only what was appended to each text, and the browser has few values to watch.
    """
    rows = [{k: v for k, v in row.items() if k != "text"} for row in view.get("rows", ())]
    own = {k: v for k, v in view.items() if k not in ("record", "draft")}
    rest = encode_messages(own | ({"rows": rows} if "rows" in view else {}))
    kept = json_text(view["record"]) if "record" in view else ""
    texts = [row["text"] for row in view.get("rows", ())]
    return {"view": json_text(rest), "texts": texts, "record": kept, "draft": view.get("draft", "")}


def unpack(packed: Mapping[str, Any] | None) -> View:
    """The view that `pack` packed."""
    if not packed:
        return empty()
    view = decode_messages(json.loads(packed["view"]))
    for row, text in zip(view.get("rows", ()), packed["texts"], strict=True):
        row["text"] = text
    return view | ({"record": json.loads(packed["record"])} if packed.get("record") else {})


def scored_count(result: Result) -> int:
    """How many candidates have their score."""
    return sum(c.score is not None for c in result.candidates)


def progress(candidates: Sequence[Candidate]) -> tuple[int, int]:
    """Tokens written, and tokens to write at most: an ended candidate counts with what it has."""
    return sum(c.tokens for c in candidates), max(1, sum(c.tokens if c.ended else c.cap for c in candidates))


def row(c: Candidate, axis: Axis) -> dict[str, Any]:
    """One candidate: its text, its score and where that lies on the axis (0 to 1)."""
    return {
        "text": c.text,
        "tokens": c.tokens,
        "rank": c.rank,
        "score": None if c.score is None else format_score(c.score),
        "share": None if c.score is None else axis.share(c.score),
        "state": state(c),
        "cut": c.ended == "length",
    }


def state(c: Candidate) -> str:
    """What a candidate is at: being written, being scored, scored, empty and hence without a score, or dropped by
    early rejection.
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
    facts = [[say("fact.candidate", number=best.index + 1), ""], [say("tokens", n=best.tokens), ""]]
    if best.logprob is not None:
        facts.append([say("fact.logprob", value=format_number(best.logprob, 1)), say("tip.logprob")])
    facts.append([say("fact.seed", seed=str(result.settings.seed)), say("tip.seed")])
    lift = format_number(best.score - result.stats.mean, 3, "+") if result.stats else ""
    return {"index": best.index, "score": format_score(best.score), "lift": lift, "facts": facts}


def mean_mark(result: Result, axis: Axis) -> dict[str, Any] | None:
    """The mean score, which stands for one sample, on the axis."""
    return result.stats and {"share": axis.share(result.stats.mean), "score": format_score(result.stats.mean)}


def insight(result: Result) -> View:
    """What the extra candidates bought: the four facts and the curve."""
    if result.stats is None:
        return {"facts": savings(result), "curve": None}
    return {"facts": facts(result), "curve": curve(result)}


def savings(result: Result) -> list[dict[str, str]]:
    """What early rejection spent, in place of figures that hold for plain best-of-N only."""
    all_of_them, most = result.candidates, sum(c.cap for c in result.candidates)
    dropped, tokens = sum(c.ended == "rejected" for c in all_of_them), sum(c.tokens for c in all_of_them)
    return [
        {"value": format_score(result.best.score), "label": say("fact.best", of=len(all_of_them)), "tip": ""},
        {"value": f"{dropped}", "label": say("fact.dropped"), "tip": say("tip.dropped")},
        {"value": say("number", value=tokens), "label": say("fact.written"), "tip": ""},
        {"value": say("number", value=most), "label": say("fact.most"), "tip": say("tip.most")},
    ]


def facts(result: Result) -> list[dict[str, str]]:
    """The four numbers under the winner: each a value, a label and, where it needs one, an explanation."""
    n, stats = scored_count(result), result.stats
    out = [
        {"value": format_score(stats.expected_best[-1]), "label": say(f"fact.{extreme(result)}", of=n), "tip": ""},
        {"value": format_score(stats.mean), "label": say("fact.mean"), "tip": say("tip.mean")},
    ]
    if stats.win_rate is not None:
        rate, label = format_percent(stats.win_rate), say("fact.wins" if extreme(result) == "best" else "fact.below")
        out.append({"value": rate, "label": label, "tip": say("tip.wins", of=n)})
    if stats.kl_bound is not None:
        bound = f"≤ {at_most(stats.kl_bound)}" if stats.kl_bound > 0 else "0"
        out.append({"value": bound, "label": say("fact.kl"), "tip": say("tip.kl")})
    return out


def extreme(result: Result) -> str:
    """What the figures are of: the best, or the worst where that is selected."""
    return "worst" if result.settings.select == "worst" else "best"


def curve(result: Result) -> dict[str, Any]:
    """The expected best of k for k = 1..N, at no more places than the eye needs."""
    values = result.stats.expected_best
    axis = score_axis([c.score for c in result.candidates if c.score is not None], result.unit)
    ks = sorted({round(2 ** (i / 4)) for i in range(4 * int(math.log2(len(values))) + 1)} | {len(values)})
    return {
        "points": [[k, axis.share(values[k - 1]), format_score(values[k - 1])] for k in ks],
        "ticks": [list(mark) for mark in axis.marks(2 if len(axis.ticks) > 4 else 1)],
        "caption": curve_caption(values),
        "word": extreme(result),
    }


def curve_caption(values: Sequence[float]) -> str:
    """The curve in words: after how many candidates most of the gain is there."""
    gain = values[-1] - values[0]
    if len(values) < 3 or gain <= 1e-9:
        return say("curve.flat")
    enough = next(k for k, value in enumerate(values, start=1) if value - values[0] >= 0.9 * gain)
    return say("curve.enough", n=enough, of=len(values), gain=format_number(gain, 3, "+"))


def spent(timing: Timing) -> str:
    """Time, tokens and speed in words."""
    speed = say("speed", value=round(timing.tokens_per_second)) if timing.tokens_per_second else ""
    return join([f"{timing.total:.2f} s", say("tokens", n=timing.tokens), speed])


def chips(engine: Mapping[str, Any], scorer: str) -> list[str]:
    """What runs the page, for its header: model with size, scorer, device and number type."""
    size = engine.get("parameters")
    model = f"{engine['name']} {size_words(size)}" if size else engine["name"]
    device, dtype = str(engine["device"]), str(engine["dtype"]).removeprefix("torch.")
    short = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}.get(dtype, dtype)
    return [say("chip.model", name=model), say("chip.scorer", name=scorer), f"{device.upper()}, {short}"]


def size_words(parameters: int) -> str:
    """`4.8M`, `124M`, `1.7B`."""
    value, unit = (parameters / 1e9, "B") if parameters >= 1e9 else (parameters / 1e6, "M")
    return f"{value:.1f}{unit}" if value < 10 else f"{value:.0f}{unit}"
