"""`python -m bon compare`: base model, tuned model and best of n over many prompts."""

import argparse
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

from bon.cli.options import (
    INTERRUPTED,
    PROGRAM,
    Parser,
    add_device_options,
    add_encoding_option,
    add_settings,
    settings_from,
)
from bon.cli.output import (
    add_output_options,
    check_output_files,
    print_json,
    print_text,
    progress_line,
    table_width,
    write_output_files,
)
from bon.errors import InputError
from bon.messages import say
from bon.models import presets
from bon.settings import UNITS, declared

if TYPE_CHECKING:
    from bon.compare.events import PromptDone, PromptProgress
    from bon.compare.result import Comparison



def parser() -> Parser:
    """The command's options."""
    parser = Parser(prog=f"{PROGRAM} compare", allow_abbrev=False,
                    description="Compares base model, tuned model and best of n over prompts.")
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="a text to continue (the 32 built-in prompts)")
    parser.add_argument("--file", help="a text file with one prompt per line")
    add_encoding_option(parser)
    add_settings(parser, [name for name, setting in declared().items() if setting.compared])
    add_device_options(parser)
    parser.add_argument("--endpoint", help=argparse.SUPPRESS)  # to say what to do instead
    parser.add_argument("--tuned", help="the tuned model: preset, Hub id, folder, LoRA adapter, or none (the preset's)")
    parser.add_argument("--judge", help="a second scorer, which selects nothing: as --scorer, or none (the preset's)")
    add_output_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Runs the comparison, prints and writes the result, and returns the exit status."""
    if args.endpoint is not None:
        raise InputError("endpoint", say("error.compare_on_server"))
    check_output_files(args)
    if args.file and args.prompts:
        raise InputError("prompts", say("error.prompts_and_file"))
    if args.encoding is not None and not args.file:
        raise InputError("encoding", say("error.encoding_without_file"))
    settings = settings_from(args)
    presets.find(settings.model_name, settings.scorer)

    from bon.compare import comparison_files, comparison_run
    from bon.compare.loading import load_models
    from bon.compare.prompts import read_prompts, shipped_prompts

    prompts = read_prompts(args.file, args.encoding) if args.file else args.prompts or shipped_prompts()
    options = {name: value for name in ("device", "dtype", "target", "unit") if (value := getattr(args, name))}
    models = load_models(settings.model_name, args.tuned, settings.scorer, args.judge, **options)
    if models.scorer.unit in UNITS:
        settings = settings.named(unit=models.scorer.unit)
    comparison, complete = _last_comparison(comparison_run.stream(prompts, models, settings), len(prompts))
    if comparison is not None:
        if args.json:
            print_json(comparison.to_dict())
        else:
            print_text(comparison_files.comparison_text(comparison, table_width()))
        makers = {"csv": comparison_files.comparison_csv, "html": comparison_files.comparison_html}
        write_output_files(args, makers, comparison)
    return 0 if complete else INTERRUPTED


def _last_comparison(
    events: Generator["PromptProgress | PromptDone", None, None], count: int
) -> tuple["Comparison | None", bool]:
    """The comparison of the prompts that are done, and whether these are all: Ctrl+C stops it before."""
    from bon.compare.events import PromptDone

    comparison = None
    try:
        with progress_line() as show, closing(events):
            for event in events:
                if isinstance(event, PromptDone):
                    comparison = event.comparison
                    show(f"{len(comparison.samples)} of {count} prompts ")
        return comparison, True
    except KeyboardInterrupt:
        return comparison, False
