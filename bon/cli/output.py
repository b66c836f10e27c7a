"""What commands print and write: texts, the files that the output options name, and a line of progress."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

from bon.errors import BonError, InputError
from bon.messages import say
from bon.report import safe_files
from bon.result import printable, show_controls

T = TypeVar("T")


def print_text(text: str, stream: TextIO | None = None, flush: bool = False) -> None:
    """Prints a text to a stream, else to standard output.

    On a terminal, characters of models, servers and files that would control it are shown as their escapes. Files and
    pipes get the text as it is.
    """
    stream = stream or sys.stdout
    print(show_controls(text) if stream.isatty() else text, file=stream, flush=flush)


def print_to_stderr(message: str) -> None:
    """Prints one line to standard error."""
    print_text(printable("bon: " + " ".join(message.split()), escapes=sys.stderr.isatty()), sys.stderr)


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Adds --json, --csv and --html."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on one line")
    parser.add_argument("--csv", metavar="FILE", help="write the table as CSV")
    parser.add_argument("--html", metavar="FILE", help="write an HTML page that needs no other files")


def check_output_files(args: argparse.Namespace) -> None:
    """Raises `InputError` where --csv or --html names a file that cannot be written or that the command reads."""
    for name in filter(lambda name: getattr(args, name), ("csv", "html")):
        file, option = Path(getattr(args, name)), f"--{name}"
        try:
            if file.is_dir() or not safe_files.resolved(file).parent.is_dir():
                raise InputError(name, say("error.option_names_no_file", option=option, path=str(file)))
            for source in filter(None, (getattr(args, "file", None), getattr(args, "messages", None))):
                if file.exists() and Path(source).exists() and file.samefile(source):
                    raise InputError(name, say("error.output_is_input", path=str(file)))
            safe_files.check_writable(file)
        except OSError as error:
            raise InputError(name, _file_error("error.option_not_writable", option, file, error)) from error


def write_output_files(args: argparse.Namespace, makers: Mapping[str, Callable[[T], str]], result: T) -> None:
    """Writes the files that --csv and --html name; where one of them fails, the other is written all the same.

    makers: by the option's name, the function that makes the file's text from the result. Raises `BonError` for the
    last failure.
    """
    failure = None
    for name, make in makers.items():
        if file := getattr(args, name):
            try:
                Path(file).write_text(make(result), encoding="utf-8", newline="")
            except OSError as error:
                failure = BonError(_file_error("error.option_not_written", f"--{name}", file, error))
    if failure:
        raise failure


def _file_error(key: str, option: str, file: str | Path, error: OSError) -> str:
    return say(key, option=option, path=str(file), reason=str(error.strerror or error))


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """A context with a function that shows a line of progress on a terminal, over the line before.

    The line is cleared at the end. Without a terminal nothing is shown.
    """
    terminal = sys.stderr.isatty()

    def show(line: str) -> None:
        if terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        show("")
