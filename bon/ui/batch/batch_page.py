"""The Batch tab: a file of prompts goes in, its preview and the batches that the visitor's browser knows come out.

What is shown are plain values, which `assets/ui/batch.js` draws. The work itself is done by `bon.ui.batch.jobs`.
"""

import dataclasses
import re
import shlex
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from bon import zerogpu
from bon.batch import export_formats, input_rows
from bon.batch.batch_run import failures_path, group_size
from bon.batch.input_rows import Dataset, Row
from bon.errors import BonError, InputError
from bon.messages import encode_messages, join, replace_text, say
from bon.report.numbers import format_duration, format_score, format_unit
from bon.settings import Settings, clean
from bon.ui import deployment, rate_limit
from bon.ui.batch import jobs
from bon.ui.batch.jobs import Batch, Order
from bon.ui.error_log import UNEXPECTED, report
from bon.ui.generate.form_fields import FIELDS, settings_of
from bon.ui.generate.run_view import View
from bon.ui.work import model_loading, speed_estimate

#: Rows of a batch on a private page; more are for the command line.
PRIVATE_ROWS = 10_000
#: Batches that a browser keeps.
KEPT = 8
PREVIEWED = 3
#: What pasted lines are called as a file.
PASTED = "prompts.txt"
#: What a batch brings home: as on the command line, where the first is what no --as is.
RESULTS = ("results", *export_formats.TRAINING_FORMATS)
#: The fields of this tab, in order; the rest is as on the Generate tab.
OWN = ("n", "min_tokens", "max_tokens", "seed")
#: Those of that tab that this one names, in the order in which `bon.shared` (batch.js) takes them.
SHARED = ("target", "temperature", "top_p", "top_k", "model", "scorer")

batches = jobs.Batches()


def endings() -> list[str]:
    """The formats that can be written here."""
    return [".jsonl", ".csv", *([".parquet"] if find_spec("pyarrow") else [])]


def rows_max() -> int:
    """The most rows that the page takes."""
    here = deployment.here()
    return here.rows if here.public else PRIVATE_ROWS


def tend() -> None:
    """From now on deletes, once an hour, what nobody has looked after for too long."""

    def sweep() -> None:
        while True:
            batches.sweep(jobs.DAY if deployment.here().public else jobs.MONTH)
            time.sleep(3600)

    threading.Thread(target=sweep, name="sweep", daemon=True).start()


def limit() -> str:
    """What the page takes, in a line."""
    return say("batch.limit.public" if deployment.here().public else "batch.limit", n=rows_max())


# What is about to be done.


def preview(file: str | None, pasted: str, column: str | None = None) -> tuple[View, dict, int]:
    """What a file holds, or the pasted lines; the choice of its columns; and its rows."""
    if not file and not (pasted or "").strip():
        return {}, gr.update(choices=[], value=None, visible=False), 0
    try:
        with _given(file, pasted) as path:
            return _previewed(path, column)
    except BonError as error:
        return {"error": _named(error, file)}, gr.update(visible=False), 0
    except Exception as error:
        report("A file could not be looked at", error)
        return {"error": UNEXPECTED}, gr.update(visible=False), 0


def _previewed(path: Path, column: str | None) -> tuple[View, dict, int]:
    _check_kind(path)
    try:
        data = Dataset(path, column, skip_bad=True)
    except InputError as error:
        if error.field != "prompt_column":
            raise
        choice = gr.update(choices=input_rows.column_names(path), value=None, visible=True)
        return {"title": say("batch.choose")}, choice, 0
    survey = data.survey()
    choice = gr.update(choices=list(survey.columns), value=data.column, visible=len(survey.columns) > 1)
    if survey.rows > rows_max():
        told = {"error": say("error.rows", n=survey.rows, most=rows_max()), "command": command(path.name)}
        return told, choice, 0
    bad = say("batch.bad", n=survey.unreadable) if survey.unreadable else ""
    column = say("batch.column", name=data.column) if len(survey.columns) > 1 else ""
    prompts = [said for row, _ in zip(data.rows(), range(PREVIEWED), strict=False) if (said := _prompt(row))]
    told = {"title": say("batch.rows", n=survey.rows), "line": join([column, bad]), "prompts": prompts}
    return told, choice, survey.rows


def _check_kind(path: Path) -> None:
    if deployment.here().public and path.suffix.lower() == ".parquet":  # a few bytes of it may become any number
        raise InputError("input", say("error.parquet"))


def _prompt(row: Row) -> str:
    if row.messages is None:
        return (row.error or row.prompt)[:300]
    last = row.messages[-1] if row.messages else ""
    return str(last.get("content") if isinstance(last, dict) else last)[:300]


@contextmanager
def _given(file: str | None, pasted: str) -> Iterator[Path]:
    """What was given, as a file."""
    if file:
        yield Path(file)
        return
    jobs.root().mkdir(parents=True, exist_ok=True, mode=0o700)
    with TemporaryDirectory(dir=jobs.root()) as folder:
        yield _put(Path(folder), None, pasted)


def _put(folder: Path, file: str | None, pasted: str) -> Path:
    if file:
        place = folder / f"input{Path(file).suffix.lower()}"
        try:
            shutil.copyfile(file, place)
        except FileNotFoundError:  # uploads are deleted after a day
            raise InputError("input", say("error.batch.gone")) from None
    else:
        place = folder / "input.txt"
        place.write_text(clean(pasted or ""), encoding="utf-8")
    return place


def _named(error: BonError, file: str | None) -> str:
    """What an error says, with the file's name in place of where the server keeps it."""
    return replace_text(error.message, file, Path(file).name) if file else error.message


def estimated(rows: int, n: Any, low: Any, high: Any, model: str, scorer: str | None) -> str:
    """How long so many rows will take here; nothing where that is not known."""
    try:
        one = Settings(n=n, min_tokens=low, max_tokens=high, model=model, scorer=scorer or None)
        together = max(1, min(group_size(one.n), rows or 0))
        seconds = speed_estimate.speeds.seconds(dataclasses.replace(one, n=one.n * together))
    except InputError:
        return ""
    return speed_estimate.words(seconds and rows and seconds * rows / together)


def command(name: str, order: Order | None = None) -> str:
    """The same on the command line."""
    words = ["python", "-m", "bon", "batch", name, order.output if order else "results.jsonl"]
    if order:
        words += ["--prompt-column", order.column] if order.column and not name.endswith(".txt") else []
        words += ["--as", order.form] if order.form in export_formats.TRAINING_FORMATS else []
        words += ["--skip-bad"] if order.bad else []
        plain = Settings()
        given = {name: value for name, value in order.settings.items() if value != getattr(plain, name)}
        given.pop("target" if given.get("target") == "POSITIVE" else "", None)
        words += [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(words)


# The batches themselves.


def start(visitor: gr.Request, file: str | None, pasted: str, column: str | None, form: str, ending: str,
          *values: Any) -> View:
    """Begins a batch: its id, or what is wrong.

    values: of `OWN`, then of the form's `FIELDS`.
    """
    try:
        if not file and not (pasted or "").strip():
            raise InputError("input", say("error.batch.nothing"))
        own = dict(zip(OWN, values[: len(OWN)], strict=True))
        shared = dict(zip(FIELDS, values[len(OWN):], strict=True))
        settings = settings_of(shared | own).with_seed()
        _check_here(settings)

        def put(folder: Path) -> Order:
            path = _put(folder, file, pasted)
            name = Path(file).name if file else PASTED
            try:
                return _order(path, name, column if file else None, form, ending, settings, visitor)
            except InputError as error:
                raise InputError(error.field, replace_text(error.message, str(path), name)) from error

        made = batches.start(put, lambda: _load(settings), _owner(visitor))
        return {"started": made.id}
    except BonError as error:
        return {"error": error.message, "at": time.time()}
    except Exception as error:
        report("A batch could not be begun", error)
        return {"error": UNEXPECTED, "at": time.time()}


def _check_here(settings: Settings) -> None:
    if zerogpu.is_on():
        raise InputError("input", say("batch.zerogpu"))
    deployment.here().check_names(settings.model, settings.scorer)


def _order(path: Path, name: str, column: str | None, form: str, ending: str, settings: Settings,
           visitor: gr.Request) -> Order:
    """What is asked for, as far as it can be had here."""
    here = deployment.here()
    _check_kind(path)
    data = Dataset(path, column, skip_bad=True)
    survey = data.survey()
    if survey.rows > rows_max():
        raise InputError("input", say("error.rows", n=survey.rows, most=rows_max()))
    for row in data.rows() if here.public else ():
        here.check_size(len(row.prompt or str(row.messages or "")), settings.n, settings.max_tokens)
    here.admit(visitor, survey.rows)
    form = form if form in export_formats.TRAINING_FORMATS else None
    stem = re.sub(r"[^\w-]+", "-", Path(name).stem)[:40].strip("-") or "prompts"
    output = f"{stem}.{form or 'best'}{ending if ending in endings() else endings()[0]}"
    return Order(name, path.name, output, dataclasses.asdict(settings), data.column, form, survey.rows,
                 survey.unreadable, time.time())


def _owner(visitor: gr.Request) -> str | None:
    here = deployment.here()
    return rate_limit.who(visitor, here.spaces) if here.public else None


def _load(settings: Settings) -> Any:
    return model_loading.load(settings.model, settings.scorer, target=settings.target, unit=settings.unit)


def seen(ids: Sequence[str]) -> list[View]:
    """What the batches of these ids, which a browser keeps, have come to."""
    found = [(name, batches.find(name)) for name in list(ids)[:KEPT]]
    return encode_messages([view(one) if one else {"id": str(name)[:64], "phase": "gone"} for name, one in found])


def act(asked: Mapping[str, str], visitor: gr.Request) -> View:
    """Stops, resumes or removes a batch. asked: its `id`, and what to `do`."""
    found, error = batches.find(asked["id"]), ""
    if found is None:
        return {"id": "", "phase": "gone"}
    try:
        if asked["do"] == "stop":
            found.stop()
        elif asked["do"] == "remove":
            batches.remove(found)
            return {"id": found.id, "phase": "gone"}
        elif asked["do"] == "resume":
            settings = Settings.of(found.order.settings)
            _check_here(settings)
            if not found.goes_on:
                deployment.here().admit(visitor, found.order.rows - found.told["done"])
            batches.resume(found, lambda: _load(settings), _owner(visitor))
    except BonError as wrong:
        error = wrong.message
    except Exception as wrong:
        report("A batch could not be resumed", wrong)
        error = UNEXPECTED
    return encode_messages(view(found) | ({"error": error} if error else {}))


# What is shown of one.


def view(one: Batch) -> View:
    """A batch for the page."""
    phase, told, order = one.phase, one.told, one.order
    shown: View = {
        "id": one.id, "phase": phase, "name": order.name, "created": order.created, "seed": str(order.settings["seed"]),
        "title": say(f"batch.{phase}", done=told["done"], n=order.rows),
        "line": _line(one), "progress": 1 if phase == "done" else told["done"] / order.rows,
        "facts": _facts(told, order), "errors": told["errors"],
        "latest": [{**winner, "score": format_score(winner["score"])} for winner in reversed(told["latest"])],
        "failed": told["failed"], "error": one.end.get("error", "") if phase == "failed" else "",
        "command": command(order.name, order),
    }
    return shown | (_outcome(one) if phase == "done" else {})


def _line(one: Batch) -> str:
    if one.phase == "running":
        if not (rate := one.rate):
            return ""
        left = (one.order.rows - one.told["done"]) / rate
        return join([say("batch.rate", rate=f"{rate:.1f}"), say("batch.left", time=format_duration(left))])
    if one.phase == "done":
        return join([say("batch.rows", n=one.order.rows), format_duration(one.end["seconds"])])
    return {"loading": say("compare.first"), "stopped": say("kept"), "failed": say("kept"),
            "interrupted": say("batch.kept")}.get(one.phase, "")


def _facts(told: Mapping[str, Any], order: Order) -> list[View]:
    facts = []
    if "best" in told:
        unit = format_unit(told["unit"], told["target"])
        facts = [{"value": format_score(told["best"]), "name": say("batch.mean", unit=unit)}]
    if "plain" in told:
        facts.append({"value": format_score(told["plain"]), "name": say("fact.mean")})
    return [*facts, {"value": say("number", value=told["failed"]), "name": say("batch.failures", n=told["failed"])},
            {"value": say("number", value=order.settings["n"]), "name": say("batch.each")}]


def _outcome(one: Batch) -> View:
    """The files of a batch that is done, and what its owner should know."""
    output = one.folder / one.order.output
    files = [{"path": str(file), "name": file.name, "size": file.stat().st_size}
             for file in (output, failures_path(output)) if file.exists()]
    left = [say(f"batch.left_out.{reason}", n=count) for reason, count in one.end["left_out"].items()]
    formula = [say("batch.apostrophe")] if one.order.form and output.suffix == ".csv" else []
    return {"files": files, "notes": [say("batch.written", n=one.end["written"]), *left, *formula, *one.end["notes"]]}
