"""Where the settings of this checkout are found: `python -m tests.support.places_of_settings` prints it as JSON.

A test runs it in a copy of the project in which a few more settings are declared, whose values its argument holds.
"""

import dataclasses
import inspect
import json
import sys
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bon
from bon.batch.batch_run import Task
from bon.batch.input_rows import Dataset
from bon.batch.resume_journal import Journal
from bon.cli import batch_command, compare_command, options, run_command
from bon.errors import InputError
from bon.settings import Settings, declared
from bon.ui import http_interface
from bon.ui.app_state import AppState
from bon.ui.batch.handlers import SHARED_SETTINGS
from bon.ui.batch.jobs import Order
from bon.ui.batch.views import command
from bon.ui.generate import run_view, share_links
from bon.ui.generate.form import SUMMARIZED
from bon.ui.generate.form_values import FIELDS, PAGE_SETTINGS, faults, first_value, request_of, settings_of
from bon.ui.hosting.deployment import Deployment
from bon.ui.page import build
from tests import settings_table

RUN = {"n": 2, "min_tokens": 1, "max_tokens": 3, "seed": 7}


def places(values: dict[str, Any], fields: dict[str, Any], wrong: dict[str, Any]) -> dict[str, Any]:
    """What each place makes of the settings' `values`, which the form holds as `fields`, and of `wrong` values."""
    state = AppState(Deployment())
    form = {name: first_value(setting) for name, setting in PAGE_SETTINGS.items()}
    form |= {"prompt": "This movie", "chat": None, "target": "POSITIVE", "model": "embedded"}
    query = {name: str(value) for name, value in values.items()}
    http = http_interface.best_of_n(state)
    record = deque(http("This movie", **RUN, **values), maxlen=1).pop()
    older = record | {"settings": {name: value for name, value in record["settings"].items() if name not in values}}
    settings = dataclasses.asdict(Settings(**RUN, **values).filled())
    order = Order("in.csv", "in.csv", "out.jsonl", settings, None, None, rows=1, bad=0, created=0.0)
    linked, ignored = share_links.accept(query, form, state.deployment)
    return {
        "package": str(Path(bon.__file__).parent),
        "declared": list(declared()),
        "settings": _chosen(Settings.of(values), values),
        "refused": [_refused_field(name, value) for name, value in wrong.items()],
        "refused on the form": sorted(faults(form | wrong, state.deployment)),
        "commands": {module.__name__.rpartition(".")[2]: parser.format_help()
                     for module, parser in _parsers().items()},
        "command's settings": _chosen(_settings_of_command(values), values),
        "HTTP parameters": list(inspect.signature(http).parameters), "HTTP description": http.__doc__,
        "fields": list(FIELDS), "summarized": list(SUMMARIZED),
        "components": _components(state),
        "form's request": _chosen(request_of(form | fields, state.deployment).settings, values),
        "comparison's settings": _chosen(settings_of(form | fields, state.deployment), values),
        "link": linked, "ignored of the link": [str(message) for message in ignored],
        "record": _chosen(run_view.read_record(json.dumps(record)).settings, values),
        "older record": _chosen(run_view.read_record(json.dumps(older)).settings, values),
        "named on the batch tab": list(SHARED_SETTINGS), "batch's command": command("in.csv", order),
        "batch's settings": _chosen(Settings.of(order.settings), values), "journal": _journal(values),
        "table": settings_table.table(),
    }


def _chosen(settings: Settings, names: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in names}


def _refused_field(name: str, value: Any) -> str | None:
    try:
        Settings.of({name: value})
    except InputError as error:
        return error.field
    return None


def _parsers() -> dict[Any, options.Parser]:
    return {run_command: run_command.parser(""), batch_command: batch_command.parser(),
            compare_command: compare_command.parser()}


def _settings_of_command(values: dict[str, Any]) -> Settings:
    arguments = [part for name, value in values.items() for part in (f"--{name}", str(value))]
    return options.settings_from(run_command.parser("").parse_args(["This movie", *arguments]))


def _components(state: AppState) -> dict[str, Any]:
    """The page's components by their id: type, label, and value."""
    components = build(state).get_config_file()["components"]
    return {component["props"]["elem_id"]: [component["type"], component["props"].get("label"),
                                            component["props"].get("value")]
            for component in components if component["props"].get("elem_id")}


def _journal(values: dict[str, Any]) -> list[str | None]:
    """The fields at fault where the journal of an older version is resumed with the defaults, and with `values`."""
    class Nowhere:
        def describe(self) -> dict[str, Any]:
            return {}

    outcomes: list[str | None] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "in.txt"
        path.write_text("This movie\n", encoding="utf-8")
        for name, value in {"": None, **values}.items():
            output = Path(folder) / f"out{name}.jsonl"
            plan, changed = (Task(Dataset(path), output, Settings(**RUN, **more)).plan(Nowhere())
                             for more in ({}, {name: value} if name else {}))
            unnamed = Settings().filled().to_dict()
            with Journal(output, {key: kept for key, kept in plan.items() if key not in values}, unnamed=RUN):
                pass
            try:
                with Journal(output, changed, resume=True, unnamed=unnamed):
                    outcomes.append(None)
            except InputError as error:
                outcomes.append(name if f"{name} " in error.message else error.message)
    return outcomes


if __name__ == "__main__":
    print(json.dumps(places(*json.loads(sys.argv[1]))))
