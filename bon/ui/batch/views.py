"""The view of one batch, which `assets/ui/batch_view.js` draws, and its command line."""

import shlex
from collections.abc import Mapping
from typing import Any

from bon.batch import export_formats
from bon.messages import join, say
from bon.report.numbers import format_duration, format_score, format_unit
from bon.settings import declared, write_escapes
from bon.ui.batch.jobs import Batch, Order
from bon.ui.hosting.layers.file_names import name_of
from bon.ui.view_types import View


def batch_view(batch: Batch) -> View:
    """The view of a batch; the page needs the batch's key beside it."""
    phase, progress, order = batch.phase, batch.progress, batch.order
    view: View = {
        "phase": phase, "name": order.name, "created": order.created,
        "seed": str(order.settings["seed"]),
        "title": say(f"batch.{phase}", done=progress["done"], n=order.rows),
        "line": _line(batch), "progress": 1 if phase == "done" else progress["done"] / order.rows,
        "facts": _facts(progress, order), "errors": progress["errors"],
        "latest": [{**winner, "score": format_score(winner["score"])} for winner in reversed(progress["latest"])],
        "failed": progress["failed"], "error": batch.end.get("error", "") if phase == "failed" else "",
        "command": command(order.name, order, order.encoding),
    }
    return view | (_outcome(batch) if phase == "done" else {})


def _line(batch: Batch) -> str:
    """The line under the title: speed and time left, or what becomes of the rows that are done."""
    if batch.phase == "running":
        if batch.delay:
            return batch.delay
        if not (rate := batch.rate):
            return ""
        left = (batch.order.rows - batch.progress["done"]) / rate
        return join([say("batch.rate", rate=f"{rate:.1f}"), say("batch.left", time=format_duration(left))])
    if batch.phase == "done":
        return join([say("batch.rows", n=batch.order.rows), format_duration(batch.end["seconds"])])
    return {"loading": say("compare.first"), "stopped": say("kept"), "failed": say("kept"),
            "interrupted": say("batch.kept")}.get(batch.phase, "")


def _facts(progress: Mapping[str, Any], order: Order) -> list[View]:
    """The figures under the title, each a value with its name. progress: see `JournalProgress.values`."""
    facts = []
    if "best" in progress:
        unit = format_unit(progress["unit"], progress["target"])
        facts = [{"value": format_score(progress["best"]), "name": say("batch.mean", unit=unit)}]
    if "plain" in progress:
        facts.append({"value": format_score(progress["plain"]), "name": say("fact.mean")})
    failed = progress["failed"]
    return [*facts, {"value": say("number", value=failed), "name": say("batch.failures", n=failed)},
            {"value": say("number", value=order.settings["n"]), "name": say("batch.each")}]


def _outcome(batch: Batch) -> View:
    """The files of a batch that is done, and its notes."""
    files = [{"path": name_of(file), "name": file.name, "size": file.stat().st_size}
             for file in batch.served_outputs()]
    left_out = [say(f"batch.left_out.{reason}", n=count) for reason, count in batch.end["left_out"].items()]
    failed = batch.progress["failed"]
    with_errors = failed and batch.order.form not in export_formats.TRAINING_FORMATS
    written = say("batch.written_with_errors" if with_errors else "batch.written", n=batch.end["written"],
                  failed=failed)
    return {"files": files, "notes": [written, *left_out, *batch.end["notes"]]}


def command(name: str, order: Order | None = None, encoding: str | None = None) -> str:
    """The command that runs the same batch on the command line. name, encoding: of the input. order: None leaves
    settings out.
    """
    parts = ["python", "-m", "bon", "batch", name, order.output if order else "results.jsonl"]
    parts += ["--encoding", encoding] if encoding else []
    if order:
        parts += ["--prompt-column", order.column] if order.column and not name.endswith(".txt") else []
        parts += ["--as", order.form] if order.form in export_formats.TRAINING_FORMATS else []
        parts += ["--skip-bad"] if order.bad else []
        for setting, value in order.settings.items():
            for text in map(write_escapes, value) if declared()[setting].several else [str(value)]:
                if value != declared()[setting].default and (setting, value) != ("target", "POSITIVE"):
                    parts += [f"--{setting.replace('_', '-')}", text]
    return shlex.join(parts)
