"""The entry point of the command line: chooses the command, and turns errors into exit statuses."""

import difflib
import importlib
import os
import shlex
import sys
import traceback

from bon import configure_threads
from bon.cli import run_command
from bon.cli.options import INTERRUPTED, PROGRAM
from bon.cli.output import print_text, print_to_stderr
from bon.errors import BonError, InputError, ModelError
from bon.messages import say

#: What each command does. Its module in `bon.cli`, NAME_command, is imported when the command is called, since some
#: take long to import; it has `parser()` and `run(args)`, which returns the exit status.
COMMANDS = {
    "page": "the page in a browser",
    "models": "list the presets and which of their models are on this machine, or get one",
    "bench": "measure the speed on this machine, beside other programs",
    "compare": "compare base model, tuned model and best of n",
    "batch": "best of n for every row of a file, as results or training data",
    "publish": "publish this page as a Hugging Face Space",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns the exit status.

    0; 2 for input that cannot work; 1 for a failed run; 130 after Ctrl+C, when the results so far are printed.
    """
    configure_threads()
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        status = _run(argv)
        sys.stdout.flush()
        return status
    except SystemExit as stop:  # of argparse, after --help too
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _report(error)


def _run(argv: list[str]) -> int:
    """Runs the command that the first argument names; any other call is a prompt, also `-- models`."""
    if argv and argv[0] in COMMANDS:
        command = importlib.import_module(f"bon.cli.{argv[0]}_command")
        return command.run(command.parser().parse_args(argv[1:]))
    if argv and (name := _command_meant(argv[0])):
        raise InputError("prompt", say("error.command_meant", word=argv[0], name=name, program=PROGRAM))
    parser = run_command.parser(_commands_help())
    args, others = parser.parse_known_args(argv)
    if others and args.prompt is not None and not any(word.startswith("-") for word in others):
        prompt = " ".join([args.prompt, *others])
        raise InputError("prompt", say("error.prompt_unquoted", example=f"{PROGRAM} {shlex.quote(prompt)}"))
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    return run_command.run(args)


def _command_meant(word: str) -> str | None:
    """The command that a first argument is probably meant for: another form of its name, or a misspelt one."""
    lower = word.lower()
    if not lower.isalpha():
        return None
    forms = [name for name in COMMANDS if lower.startswith(name) or (len(lower) > 3 and name.startswith(lower))]
    return next(iter([*forms, *difflib.get_close_matches(lower, COMMANDS, n=1, cutoff=0.81)]), None)


def _commands_help() -> str:
    commands = ", ".join(f"{PROGRAM} {name} ({help})" for name, help in COMMANDS.items())
    return f"Commands: {commands}. {PROGRAM} -- models takes `models` as a prompt."


def _report(error: Exception) -> int:
    """Prints an error in one line, or where it arose in Python's development mode, and returns the exit status."""
    if isinstance(error, BonError):
        print_to_stderr(str(error))
        return 2 if isinstance(error, InputError | ModelError) else 1
    if sys.flags.dev_mode:
        print_text("".join(traceback.format_exception(error)), sys.stderr, fold=False)
        return 1
    print_to_stderr(f"{type(error).__name__}: {error} (python -X dev -m bon shows where)")
    return 1
