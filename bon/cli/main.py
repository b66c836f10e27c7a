"""The command line: arguments -> request -> print."""

import argparse
import dataclasses
import os
import sys
from contextlib import closing
from pathlib import Path

from bon import __version__, configure_threads
from bon.cli.options import (
    INTERRUPTED,
    SETTINGS,
    Parser,
    add_settings,
    checked_place,
    given_settings,
    numbers_in,
    print_to_stderr,
)
from bon.errors import BonError, InputError, ModelError
from bon.events import Done
from bon.messages import say
from bon.models import presets
from bon.report import hub_writing, safe_files
from bon.report.json_text import json_text
from bon.settings import UNITS, Request, Settings, whole


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns the exit status.

    0; 2 for input that cannot work; 1 for a failed run; 130 after Ctrl+C, with what was done until then printed.
    """
    configure_threads()
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        commands = {"models": _models, "bench": _bench, "compare": _compare, "publish": _publish,
                    "batch": _batch, "page": _page}
        command = commands.get(argv[0]) if argv else None
        status = command(argv[1:]) if command else _best(argv)
        sys.stdout.flush()
        return status
    except SystemExit as stop:  # argparse ends so, after --help too
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> int:
    if isinstance(error, BonError):
        print_to_stderr(str(error))
        return 2 if isinstance(error, InputError | ModelError) else 1
    if sys.flags.dev_mode:
        raise error
    print_to_stderr(f"{type(error).__name__}: {error} (python -X dev -m bon shows where)")
    return 1


def _best(argv: list[str]) -> int:
    from bon.report import result_files

    args = _parser().parse_args(argv)
    _check_files(args)
    settings, chat = given_settings(args, SETTINGS), _chat(args)
    checked = Request(args.prompt, Settings.of(settings), chat, unconditional=args.unconditional).settings
    kind = checked_place(args, checked)
    if chat is not None:
        kind["messages"] = chat
    result, finished = _run(args.prompt, args.unconditional, kind, settings, show=sys.stderr.isatty())
    if result is not None:

        print(json_text(result.to_dict()) if args.json else result)
        _write_files(args, {"csv": result_files.run_csv, "html": result_files.run_html}, result)
    return 0 if finished else INTERRUPTED


def _chat(args: argparse.Namespace) -> list | None:
    """The messages that were given, or None."""
    if args.messages and (args.chat or args.system):
        raise InputError("messages", say("error.messages_and_chat"))
    if args.messages:
        from bon.compare.prompts import read_messages

        return read_messages(args.messages)
    if args.chat is None:
        if args.system:
            raise InputError("system", say("error.system_without_chat"))
        return None
    system = [{"role": "system", "content": args.system}] if args.system else []
    return [*system, {"role": "user", "content": args.chat}]


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on one line")
    parser.add_argument("--csv", metavar="FILE", help="write the table to a file")
    parser.add_argument("--html", metavar="FILE", help="write a page that needs nothing else to a file")


def _check_files(args: argparse.Namespace) -> None:
    """What can be known of the files before the work: that they can be written, and are not what is read."""
    for name in filter(lambda name: getattr(args, name), ("csv", "html")):
        file, option = Path(getattr(args, name)), f"--{name}"
        try:
            if file.is_dir() or not safe_files.resolved(file).parent.is_dir():
                raise InputError(name, say("error.option_names_no_file", option=option, path=str(file)))
            for read in filter(None, (getattr(args, "file", None), getattr(args, "messages", None))):
                if file.exists() and Path(read).exists() and file.samefile(read):
                    raise InputError(name, say("error.output_is_input", path=str(file)))
            safe_files.check_writable(file)
        except OSError as error:
            raise InputError(name, _file_error("error.option_not_writable", option, file, error)) from error


def _write_files(args: argparse.Namespace, makers: dict, found) -> None:
    """Writes each file that was asked for. One that fails does not keep the others from being written."""
    failed = None
    for name, make in makers.items():
        if file := getattr(args, name):
            try:
                Path(file).write_text(make(found), encoding="utf-8", newline="")
            except OSError as error:
                failed = BonError(_file_error("error.option_not_written", f"--{name}", file, error))
    if failed:
        raise failed


def _file_error(key: str, option: str, file: str | Path, error: OSError) -> str:
    return say(key, option=option, path=str(file), reason=str(error.strerror or error))


def _run(prompt, unconditional, kind, settings, show):
    """The result, and whether the run came to its end; Ctrl+C keeps what is done."""
    from bon import api
    from bon.run_state import RunState

    state = RunState()
    try:
        events = api.stream(prompt, unconditional=unconditional, **kind, **settings)
        with closing(events):
            for event in events:
                if isinstance(event, Done):
                    return event.result, True
                state.add(event)
                if show:
                    print(f"\rscored {state.scored} of {len(state.candidates)} ", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        return (state.result(stopped=True) if state.started else None), False
    finally:
        if show:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    raise AssertionError("a stream ends with Done")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m bon",
        description="Continue a prompt n times, score every continuation, print them best first.",
        epilog="Also: python -m bon page (the page in a browser), "
        "python -m bon models (the presets and what of them is on this machine), "
        "python -m bon bench (how fast it is here, beside others), "
        "python -m bon compare (base, tuned and best of n side by side), "
        "python -m bon batch (a file of prompts in, results or training data out), "
        "python -m bon publish (this page as a Hugging Face Space). "
        "python -m bon -- models takes `models` as a prompt.",
        allow_abbrev=False,
    )
    parser.add_argument("prompt", nargs="?", help="the text to continue")
    parser.add_argument("--chat", metavar="TEXT", help="a message to answer, for a model that has a chat template")
    parser.add_argument("--system", metavar="TEXT", help="with --chat: how the model is to answer")
    parser.add_argument("--messages", metavar="FILE", help="a chat as JSON: a list of objects with role and content")
    add_settings(parser, SETTINGS, endpoint=True)
    parser.add_argument("--unconditional", action="store_true", help="sample from the model's start token, no prompt")
    _add_files(parser)
    parser.add_argument("--version", action="version", version=f"bon {__version__}")
    return parser


#: Settings that a comparison takes.
COMPARISON_SETTINGS = ("n", "target", "min_tokens", "max_tokens", "temperature", "top_p", "top_k", "seed", "softness",
                       "model", "scorer", "unit")


def _compare(argv: list[str]) -> int:
    from bon.compare import comparison_files, comparison_run

    parser = Parser(prog="python -m bon compare", allow_abbrev=False,
                    description="Base, tuned and best of n side by side, over the prompts given or those in the box.")
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="a text to continue (the 32 in the box)")
    parser.add_argument("--file", help="a text file with one prompt a line")
    add_settings(parser, COMPARISON_SETTINGS)
    parser.add_argument("--tuned", help="the tuned model: preset, Hub id, folder, or none (the preset's)")
    parser.add_argument("--judge", help="a second scorer that only watches: as --scorer, or none (the preset's)")
    _add_files(parser)
    args = parser.parse_args(argv)
    _check_files(args)
    if args.file and args.prompts:
        raise InputError("prompts", say("error.prompts_and_file"))
    given = given_settings(args, COMPARISON_SETTINGS)
    checked = Settings.of(given)
    presets.find(checked.model, checked.scorer)

    from bon.compare.loading import load_models
    from bon.compare.prompts import read_prompts, shipped_prompts

    prompts = read_prompts(args.file) if args.file else args.prompts or shipped_prompts()
    kind = {name: getattr(args, name) for name in ("device", "dtype", "target", "unit") if getattr(args, name)}
    models = load_models(checked.model, args.tuned, checked.scorer, args.judge, **kind)
    unit = models.scorer.unit if models.scorer.unit in UNITS else checked.unit
    settings = dataclasses.replace(checked, unit=unit)
    found, finished = _drained(comparison_run.stream(prompts, models, settings), len(prompts))
    if found is not None:
        print(json_text(found.to_dict()) if args.json else comparison_files.comparison_text(found))
        _write_files(args, {"csv": comparison_files.comparison_csv, "html": comparison_files.comparison_html}, found)
    return 0 if finished else INTERRUPTED


def _drained(events, count: int):
    """The last comparison, and whether it is complete; Ctrl+C keeps the prompts that are done."""
    from bon.compare.events import PromptDone

    found, show = None, sys.stderr.isatty()
    try:
        with closing(events):
            for event in events:
                if isinstance(event, PromptDone):
                    found = event.comparison
                    if show:
                        done = len(found.samples)
                        print(f"\r{done} of {count} prompts ", end="", file=sys.stderr, flush=True)
        return found, True
    except KeyboardInterrupt:
        return found, False
    finally:
        if show:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _batch(argv: list[str]) -> int:
    from bon.cli.batch_command import batch

    return batch(argv)


def _page(argv: list[str]) -> int:
    parser = Parser(
        prog="python -m bon page", allow_abbrev=False,
        description="Serves the page in a browser until Ctrl+C. GRADIO_SERVER_NAME and GRADIO_SERVER_PORT hold its "
        "address and port (127.0.0.1, the first free one from 7860).",
    )
    parser.parse_args(argv)

    from bon.ui.launch import serve

    serve()
    return 0


def _models(argv: list[str]) -> int:
    parser = Parser(prog="python -m bon models", description="The presets, and what of them is on this machine.")
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    args = parser.parse_args(argv)
    rows = [
        {"name": spec.name, "summary": spec.summary} | {
            key: value for role in ("model", "scorer", "tuned", "judge") if (place := getattr(spec, role))
            for key, value in ((role, place), (f"{role}_state", presets.state(place)))
        }
        for spec in presets.presets()
    ]
    if args.json:
        print(json_text({"models": rows}))
        return 0
    for row in rows:
        print(f"{row['name']}: {row['summary']}")
        print(f"  writes: {row['model']} ({row['model_state']})")
        print(f"  scores: {row['scorer']} ({row['scorer_state']})")
        for role, words in (("tuned", "tuned counterpart"), ("judge", "judge")):
            if role in row:
                print(f"  {words}: {row[role]} ({row[role + '_state']})")
    print("Any other causal language model: its Hub id, or a folder, as --model; a scorer likewise as --scorer.")
    print(f"Scorers without a model of their own: {', '.join(presets.FREE)}.")
    return 0


def _bench(argv: list[str]) -> int:
    from bon.bench import speed_table

    parser = Parser(prog="python -m bon bench",
                    description="The speed table of this machine, in turns with transformers (and others). "
                    "Seconds per query of four; what the others take, in multiples of ours.")
    parser.add_argument("--dtype", default="auto", help="float32, bf16, int8, or several with commas (the fastest)")
    parser.add_argument("--peer-dtype", default="float32", help="of transformers: float32 or bf16 (float32)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each contestant (3)")
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
    args = parser.parse_args(argv)
    # Said before torch is imported, which takes seconds.
    counts, prompts, lengths = (numbers_in(name, getattr(args, name)) for name in ("n", "prompt_tokens", "lengths"))
    turns = whole("turns", args.turns, 1)
    users = None if args.users is None else whole("users", args.users, 1)
    prompts_of_batch = None if args.batch is None else whole("batch", args.batch, 1)
    if args.models and not all((Path(args.models) / name / "config.json").is_file() for name in ("gpt2", "distilbert")):
        raise ModelError(say("error.folder_without_two_models", path=args.models))


    found = [*(speed_table.rejection() if args.rejection else ()), *(speed_table.quality() if args.quality else ()),
             *([speed_table.users(users)] if users else ()),
             *(_throughput(prompts_of_batch) if prompts_of_batch else ())]
    if found:
        print(*(json_text(dataclasses.asdict(figures)) for figures in found), sep="\n")
        return 0
    dtypes = args.dtype.split(",")
    if args.models:
        for work in (speed_table.Work(Path(args.models), n, prompt, lengths) for prompt in prompts for n in counts):
            for dtype in dtypes:
                print(json_text(speed_table.ours(work, dtype)), flush=True)
        return 0
    sizes = args.sizes.split(",")
    if unknown := set(sizes) - set(speed_table.SIZES):
        raise InputError("sizes", say("error.unknown_sizes", sizes=", ".join(speed_table.SIZES),
                                      unknown=", ".join(sorted(unknown))))
    rows = speed_table.table(dtypes, turns, args.peer_python, sizes, counts, prompts, lengths, args.peer_dtype)
    shown = (json_text(dataclasses.asdict(row)) for row in rows) if args.json else speed_table.markdown(rows)
    for text in shown:
        print(text, flush=True)
    return 0


def _throughput(prompts: int) -> list:

    from bon.bench import batch_speed

    return [batch_speed.throughput(prompts)]


def _publish(argv: list[str]) -> int:
    from bon.cli import publish

    parser = Parser(prog="python -m bon publish", allow_abbrev=False,
                    description="Puts this page, with the models in the box, on the Hub as a Space of yours.")
    parser.add_argument("space", metavar="USER/SPACE", help="the Space to make, or to bring up to date")
    parser.add_argument("--private", action="store_true", help="for you alone, where it is made anew")
    parser.add_argument("--dry-run", action="store_true", help="list the files and their sizes, and do nothing")
    args = parser.parse_args(argv)


    hub_writing.check_repo_id(args.space, "space")
    files = publish.files()
    if args.dry_run:
        for name, size in files:
            print(f"{size:>12,}  {name}")
    total = f"{len(files)} files, {sum(size for _, size in files) / 1e6:.1f} MB"
    if args.dry_run:
        print(f"{total} for https://huggingface.co/spaces/{args.space}; nothing was sent.")
        return 0
    url = publish.publish(args.space, args.private)
    print(f"{total} sent. The Space builds now: {url}")
    return 0
