"""`python -m bon models`: the presets, and which of their models are on this machine."""

import argparse

from bon.cli.options import PROGRAM, Parser
from bon.cli.output import print_text
from bon.models import presets
from bon.report.json_text import json_text

HELP = "list the presets and which of their models are on this machine"


def parser() -> Parser:
    """The command's options."""
    parser = Parser(prog=f"{PROGRAM} models",
                    description="Lists the presets, and which of their models are on this machine.")
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    return parser


def run(args: argparse.Namespace) -> int:
    """Prints the presets and returns the exit status."""
    rows = [
        {"name": spec.name, "summary": spec.summary} | {
            key: value for role in ("model", "scorer", "tuned", "judge") if (source := getattr(spec, role))
            for key, value in ((role, source), (f"{role}_state", presets.state(source)))
        }
        for spec in presets.presets()
    ]
    if args.json:
        print_text(json_text({"models": rows}))
        return 0
    for row in rows:
        print_text(f"{row['name']}: {row['summary']}")
        print_text(f"  writes: {row['model']} ({row['model_state']})")
        print_text(f"  scores: {row['scorer']} ({row['scorer_state']})")
        for role, title in (("tuned", "tuned counterpart"), ("judge", "judge")):
            if role in row:
                print_text(f"  {title}: {row[role]} ({row[role + '_state']})")
    print_text("Any other causal language model: its Hub id, or a folder, as --model; a scorer likewise as --scorer.")
    print_text(f"Scorers without a model of their own: {', '.join(presets.FREE)}.")
    return 0
