"""`python -m bon bench`: how fast this machine is, beside others."""

import argparse
import dataclasses
from pathlib import Path

from bon.cli.options import PROGRAM, Parser, numbers_in
from bon.errors import InputError, ModelError
from bon.messages import say
from bon.report.json_text import json_text
from bon.settings import whole

HELP = "how fast it is here, beside others"


def parser() -> Parser:
    """The command's options."""
    parser = Parser(prog=f"{PROGRAM} bench",
                    description="The speed table of this machine, in turns with transformers (and others). "
                    "Seconds per query of four; what the others take, in multiples of ours.")
    parser.add_argument("--dtype", default="auto", help="float32, bf16, int8, or several with commas (the fastest)")
    parser.add_argument("--peer-dtype", default="float32", help="of transformers: float32 or bf16 (float32)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each program (3)")
    parser.add_argument("--peer-python", metavar="PYTHON", help="a Python with trl 0.23.1 and ctranslate2")
    parser.add_argument("--sizes", default="embedded,gpt2-small", help="of the models, with random weights")
    parser.add_argument("-n", "--n", default="1,4,16,64", help="candidates (1,4,16,64)")
    parser.add_argument("--prompt-tokens", default="8,256", help="length of the prompt (8,256)")
    parser.add_argument("--models", metavar="DIR", help="a folder with gpt2 and distilbert: time bon alone on these")
    parser.add_argument("--lengths", default="28,31,37,16", help="tokens of each query's continuations (28,31,37,16)")
    parser.add_argument("--rejection", action="store_true", help="measure early rejection on the embedded models")
    parser.add_argument("--users", type=int, metavar="COUNT", help="measure so many callers of one model at once")
    parser.add_argument("--batch", type=int, metavar="PROMPTS", help="measure a batch of so many against single runs")
    parser.add_argument("--quality", action="store_true", help="measure what number types cost on these models")
    parser.add_argument("--json", action="store_true", help="print JSON, an object a line")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measures and prints figures, a row as soon as it is there."""
    from bon.bench import batch_speed, experiments, random_models, speed_table

    # Said before torch is imported, which takes seconds.
    counts, prompts, lengths = (numbers_in(name, getattr(args, name)) for name in ("n", "prompt_tokens", "lengths"))
    turns = whole("turns", args.turns, 1)
    users = None if args.users is None else whole("users", args.users, 1)
    prompts_of_batch = None if args.batch is None else whole("batch", args.batch, 1)
    if args.models and not all((Path(args.models) / name / "config.json").is_file() for name in ("gpt2", "distilbert")):
        raise ModelError(say("error.folder_without_two_models", path=args.models))


    found = [*(experiments.rejection() if args.rejection else ()), *(experiments.quality() if args.quality else ()),
             *([experiments.users(users)] if users else ()),
             *([batch_speed.throughput(prompts_of_batch)] if prompts_of_batch else ())]
    if found:
        print(*(json_text(dataclasses.asdict(figures)) for figures in found), sep="\n")
        return 0
    dtypes = args.dtype.split(",")
    if args.models:
        for work in (speed_table.Work(Path(args.models), n, prompt, lengths) for prompt in prompts for n in counts):
            for dtype in dtypes:
                print(json_text(speed_table.time_bon(work, dtype)), flush=True)
        return 0
    sizes = args.sizes.split(",")
    if unknown := set(sizes) - set(random_models.SIZES):
        raise InputError("sizes", say("error.unknown_sizes", sizes=", ".join(random_models.SIZES),
                                      unknown=", ".join(sorted(unknown))))
    rows = speed_table.table(dtypes, turns, args.peer_python, sizes, counts, prompts, lengths, args.peer_dtype)
    shown = (json_text(dataclasses.asdict(row)) for row in rows) if args.json else speed_table.markdown(rows)
    for text in shown:
        print(text, flush=True)
    return 0
