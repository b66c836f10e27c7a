"""The entry point of the command line: chooses the command, and turns errors into exit statuses."""

import os
import sys
import traceback

from bon import configure_threads
from bon.cli import (
    batch_command,
    bench_command,
    compare_command,
    models_command,
    page_command,
    publish_command,
    run_command,
)
from bon.cli.options import INTERRUPTED, PROGRAM
from bon.cli.output import print_text, print_to_stderr
from bon.errors import BonError, InputError, ModelError

#: The commands by name. Each module has `parser()`, `run(args)`, which returns the exit status, and the line `HELP`.
COMMANDS = {
    "page": page_command, "models": models_command, "bench": bench_command, "compare": compare_command,
    "batch": batch_command, "publish": publish_command,
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
    if argv and (command := COMMANDS.get(argv[0])):
        return command.run(command.parser().parse_args(argv[1:]))
    return run_command.run(run_command.parser(_commands_help()).parse_args(argv))


def _commands_help() -> str:
    commands = ", ".join(f"{PROGRAM} {name} ({command.HELP})" for name, command in COMMANDS.items())
    return f"Commands: {commands}. {PROGRAM} -- models takes `models` as a prompt."


def _report(error: Exception) -> int:
    """Prints an error in one line, or where it arose in Python's development mode, and returns the exit status."""
    if isinstance(error, BonError):
        print_to_stderr(str(error))
        return 2 if isinstance(error, InputError | ModelError) else 1
    if sys.flags.dev_mode:
        print_text("".join(traceback.format_exception(error)), sys.stderr)
        return 1
    print_to_stderr(f"{type(error).__name__}: {error} (python -X dev -m bon shows where)")
    return 1
