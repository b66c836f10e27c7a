"""`python -m bon bench`: the speed of this machine, beside other programs."""

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bon.bench import processor
from bon.cli.options import PROGRAM, Parser, parse_whole_numbers
from bon.cli.output import print_json, print_text, progress_line
from bon.errors import InputError, ModelError
from bon.messages import say
from bon.settings import whole

#: What is measured beside peers: models, and what a user waits for.
PARTS_OF_PEERS = ("gpt2-small", "smollm2", "page", "start", "users")


def parser() -> Parser:
    """The command's options."""
    parser = Parser(prog=f"{PROGRAM} bench",
                    description="Measures the speed on this machine, in turns with transformers or, with --peers, with "
                    "all programs that a user would run instead: what they take as a multiple of bon's time.")
    parser.add_argument("--peers", action="store_true",
                        help="measure bon beside all programs that a user would run instead, and what a user waits for")
    parser.add_argument("--only", metavar="PARTS",
                        help=f"of --peers, with commas between: {', '.join(PARTS_OF_PEERS)} (all)")
    parser.add_argument("--isa", choices=tuple(processor.SWITCHES),
                        help="of --peers: hold all programs to the instructions of AVX2")
    parser.add_argument("--peer-python", metavar="PYTHON", default="",
                        help="of --peers: a Python interpreter with the other programs, or several with commas between")
    parser.add_argument("--folder", metavar="DIR",
                        help="of --peers: keep the models and what other programs convert them to in DIR")
    parser.add_argument("--dtype", default="auto",
                        help="number types of bon, with commas between: float32, bf16, int8 (the fastest)")
    parser.add_argument("--peer-dtype", default="float32",
                        help="number type of transformers: float32 or bf16 (float32)")
    parser.add_argument("--turns", type=int, help="how often each program is measured (3; of --users 9)")
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
    parser.add_argument("--model", default="embedded",
                        help="the model of --users and --quality, for which others rate their own texts (embedded)")
    parser.add_argument("--batch", type=int, metavar="PROMPTS",
                        help="measure a batch of PROMPTS prompts against single runs")
    parser.add_argument("--quality", action="store_true",
                        help="measure what number types cost in quality, on the built-in models")
    parser.add_argument("--number-types", action="store_true",
                        help="print which number types processors get by default, and which this machine is")
    parser.add_argument("--json", action="store_true", help="print a JSON object per line")
    return parser


def _parts(text: str | None) -> tuple[str, ...]:
    """The parts of the measurement beside peers that `--only` names, in their order; all without it."""
    named = PARTS_OF_PEERS if text is None else tuple(text.split(","))
    if unknown := set(named) - set(PARTS_OF_PEERS):
        raise InputError("only", say("error.not_one_of", name="only", names=", ".join(PARTS_OF_PEERS),
                                     value=", ".join(map(repr, sorted(unknown)))))
    return tuple(part for part in PARTS_OF_PEERS if part in named)


def _print_peers(args: argparse.Namespace, parts: Sequence[str], dtypes: Sequence[str], turns: int) -> int:
    """Measures bon beside its peers, prints each table as soon as it is measured, and returns the exit status."""
    from bon.bench import peer_table, waiting_times

    pythons = tuple(filter(None, args.peer_python.split(",")))
    with tempfile.TemporaryDirectory() as scratch, progress_line() as show:
        folder = Path(args.folder or scratch)
        table = peer_table.PeerTable(peer_table.PEERS, folder, dtypes, turns, pythons, args.isa, show)
        for name in (part for part in parts if part in peer_table.MODELS):
            cells = table.measure(name)
            if args.json:
                for cell in cells:
                    print_json(dataclasses.asdict(cell), flush=True)
            else:
                print_text("\n".join([*table.markdown(name, cells), ""]), flush=True, fold=False)
        waits = [part for part in parts if part in waiting_times.WAITS]
        if waits and not args.json:
            print_text(waiting_times.HEADING, fold=False)
        for wait in (wait for part in waits for wait in waiting_times.WAITS[part](args.isa)):
            if args.json:
                print_json(dataclasses.asdict(wait), flush=True)
            else:
                print_text(wait.markdown(), flush=True, fold=False)
        if args.json:
            print_json(dataclasses.asdict(table.record) | {"processor": processor.description(), "isa": args.isa})
        else:
            print_text("\n".join(["", *table.footer()]), fold=False)
    return 0


def run(args: argparse.Namespace) -> int:
    """Measures, prints each row as soon as it is measured, and returns the exit status."""
    from bon.bench import batch_speed, experiments, random_models, speed_table, timed_process

    # Checked before torch is imported, which takes seconds.
    counts, prompt_lengths, lengths = (
        parse_whole_numbers(name, getattr(args, name)) for name in ("n", "prompt_tokens", "lengths")
    )
    turns = 3 if args.turns is None else whole("turns", args.turns, 1)
    parts = _parts(args.only)
    users = None if args.users is None else whole("users", args.users, 1)
    batch_prompts = None if args.batch is None else whole("batch", args.batch, 1)
    if args.models and not all((Path(args.models) / name / "config.json").is_file() for name in ("gpt2", "distilbert")):
        raise ModelError(say("error.folder_without_two_models", path=args.models))

    if args.number_types:
        from bon.models.number_types import table

        for line in table.markdown():
            print_text(line, fold=False)
        return 0
    measurements = [
        *(experiments.rejection() if args.rejection else ()),
        *(() if not args.quality else experiments.quality() if args.model == "embedded"
          else experiments.quality_of_generator(args.model)),
        *([experiments.users(users, turns=args.turns or 9, model=args.model)] if users else ()),
        *([batch_speed.throughput(batch_prompts)] if batch_prompts else ()),
    ]
    if measurements:
        for measurement in measurements:
            print_json(dataclasses.asdict(measurement))
        return 0
    dtypes = args.dtype.split(",")
    if args.peers:
        return _print_peers(args, parts, dtypes, turns)
    if args.models:
        generator, scorer = (Path(args.models) / name for name in ("gpt2", "distilbert"))
        for work in (timed_process.Work(generator, scorer, n, tokens, lengths)
                     for tokens in prompt_lengths for n in counts):
            for dtype in dtypes:
                print_json(speed_table.time_bon(work, dtype), flush=True)
        return 0
    sizes = args.sizes.split(",")
    if unknown := set(sizes) - set(random_models.SIZES):
        raise InputError("sizes", say("error.unknown_sizes", sizes=", ".join(random_models.SIZES),
                                      unknown=", ".join(sorted(unknown))))
    rows = speed_table.table(dtypes, turns, sizes, counts, prompt_lengths, lengths, args.peer_dtype)
    if args.json:
        for row in rows:
            print_json(dataclasses.asdict(row), flush=True)
    else:
        for line in speed_table.markdown(rows):
            print_text(line, flush=True, fold=False)
    return 0
