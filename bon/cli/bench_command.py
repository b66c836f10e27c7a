"""`python -m bon bench`: the speed of this machine, beside other programs."""

import argparse
import dataclasses
from pathlib import Path

from bon.cli.options import PROGRAM, Parser, parse_whole_numbers
from bon.cli.output import print_json, print_text
from bon.errors import InputError, ModelError
from bon.messages import say
from bon.settings import whole


def parser() -> Parser:
    """The command's options."""
    parser = Parser(prog=f"{PROGRAM} bench",
                    description="Measures the speed table on this machine, in turns with transformers and others: "
                    "seconds per query of four, and what the others take as a multiple of bon's time.")
    parser.add_argument("--dtype", default="auto",
                        help="number types of bon, with commas between: float32, bf16, int8 (the fastest)")
    parser.add_argument("--peer-dtype", default="float32",
                        help="number type of transformers: float32 or bf16 (float32)")
    parser.add_argument("--turns", type=int, default=3, help="how often each program is measured (3)")
    parser.add_argument("--peer-python", metavar="PYTHON",
                        help="a Python interpreter with trl 0.23.1 and ctranslate2, to measure them too")
    parser.add_argument("--sizes", default="embedded,gpt2-small",
                        help="sizes of the models, which have random weights (embedded,gpt2-small)")
    parser.add_argument("-n", "--n", default="1,4,16,64", help="numbers of candidates (1,4,16,64)")
    parser.add_argument("--prompt-tokens", default="8,256", help="lengths of the prompt, in tokens (8,256)")
    parser.add_argument("--models", metavar="DIR",
                        help="measure bon alone, on the models in DIR/gpt2 and DIR/distilbert")
    parser.add_argument("--lengths", default="28,31,37,16", help="tokens of each query's continuations (28,31,37,16)")
    parser.add_argument("--rejection", action="store_true", help="measure early rejection, on the built-in models")
    parser.add_argument("--users", type=int, metavar="COUNT",
                        help="measure COUNT callers of one model at the same time")
    parser.add_argument("--batch", type=int, metavar="PROMPTS",
                        help="measure a batch of PROMPTS prompts against single runs")
    parser.add_argument("--quality", action="store_true",
                        help="measure what number types cost in quality, on the built-in models")
    parser.add_argument("--json", action="store_true", help="print a JSON object per line")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measures, prints each row as soon as it is measured, and returns the exit status."""
    from bon.bench import batch_speed, experiments, random_models, speed_table

    # Checked before torch is imported, which takes seconds.
    counts, prompt_lengths, lengths = (
        parse_whole_numbers(name, getattr(args, name)) for name in ("n", "prompt_tokens", "lengths")
    )
    turns = whole("turns", args.turns, 1)
    users = None if args.users is None else whole("users", args.users, 1)
    batch_prompts = None if args.batch is None else whole("batch", args.batch, 1)
    if args.models and not all((Path(args.models) / name / "config.json").is_file() for name in ("gpt2", "distilbert")):
        raise ModelError(say("error.folder_without_two_models", path=args.models))

    measurements = [
        *(experiments.rejection() if args.rejection else ()), *(experiments.quality() if args.quality else ()),
        *([experiments.users(users)] if users else ()),
        *([batch_speed.throughput(batch_prompts)] if batch_prompts else ()),
    ]
    if measurements:
        for measurement in measurements:
            print_json(dataclasses.asdict(measurement))
        return 0
    dtypes = args.dtype.split(",")
    if args.models:
        for work in (speed_table.Work(Path(args.models), n, tokens, lengths)
                     for tokens in prompt_lengths for n in counts):
            for dtype in dtypes:
                print_json(speed_table.time_bon(work, dtype), flush=True)
        return 0
    sizes = args.sizes.split(",")
    if unknown := set(sizes) - set(random_models.SIZES):
        raise InputError("sizes", say("error.unknown_sizes", sizes=", ".join(random_models.SIZES),
                                      unknown=", ".join(sorted(unknown))))
    rows = speed_table.table(dtypes, turns, args.peer_python, sizes, counts, prompt_lengths, lengths, args.peer_dtype)
    if args.json:
        for row in rows:
            print_json(dataclasses.asdict(row), flush=True)
    else:
        for line in speed_table.markdown(rows):
            print_text(line, flush=True, fold=False)
    return 0
