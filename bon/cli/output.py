"""What commands print and write: texts, the files that the output options name, and a line of progress."""

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

from bon.errors import BonError, InputError
from bon.messages import say
from bon.report import safe_files
from bon.report.json_text import json_text
from bon.result import WIDTH, Result, as_text, printable, show_controls

T = TypeVar("T")
#: Colours of a terminal, in bold.
RED, GREEN = "1;31", "1;32"
#: The narrowest text: on a terminal that is narrower, its lines are broken.
WIDTH_MIN = 24
#: The rank and score of the best candidate in the text of a result.
_BEST_SCORE = re.compile(r"^   1 {2}[ \d.-]{6,}(?=  )", re.MULTILINE)


def print_text(text: str, stream: TextIO | None = None, flush: bool = False,
               decorate: Callable[[str], str] = str, fold: bool = True) -> None:
    """Prints a text to a stream, else to standard output. decorate: adds colours, once nothing else can.

    On a terminal, characters of models, servers and files that would control it are shown as their escapes, and lines
    that are wider are folded, unless `fold` is False. Files and pipes get the text as it is.
    """
    stream = stream or sys.stdout
    if stream.isatty():
        text = show_controls(text)
        text = _folded(text, _columns(stream)) if fold else text
    print(decorate(text), file=stream, flush=flush)


def print_json(value: object, flush: bool = False) -> None:
    """Prints a value as JSON on one line, however wide the terminal is."""
    print_text(json_text(value), flush=flush, fold=False)


def print_to_stderr(message: str) -> None:
    """Prints one line to standard error."""
    line = printable("bon: " + " ".join(message.split()), escapes=sys.stderr.isatty())
    print_text(line, sys.stderr, decorate=lambda text: coloured(sys.stderr, "bon:", RED) + text.removeprefix("bon:"))


def print_result(result: Result) -> None:
    """Prints a run's result as text, on a terminal not wider than that, and with the winner's score in colour."""
    terminal = sys.stdout.isatty()
    width = min(WIDTH, _columns(sys.stdout)) if terminal else WIDTH
    text = as_text(result, width, escapes=terminal)

    def decorate(text: str) -> str:
        return _BEST_SCORE.sub(lambda match: coloured(sys.stdout, match[0], GREEN), text, count=1)

    print_text(_folded(text, width) if terminal else text, decorate=decorate)


def table_width() -> int | None:
    """The most columns of a table on standard output; None where that is no terminal."""
    return _columns(sys.stdout) if sys.stdout.isatty() else None


def _columns(terminal: TextIO) -> int:
    """The columns of a terminal, or what COLUMNS says; `WIDTH` where neither is known."""
    columns = os.environ.get("COLUMNS", "")
    count = int(columns) if columns.isdecimal() else os.get_terminal_size(terminal.fileno()).columns
    return max(WIDTH_MIN, count) if count else WIDTH


def _folded(text: str, width: int) -> str:
    """The text with its wider lines folded at spaces, what follows indented by two more than the line's beginning."""
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip(" "))] + "  " * line.startswith(" ")
        wide = len(line) > width
        lines.append(textwrap.fill(line, width, subsequent_indent=indent, break_on_hyphens=False) if wide else line)
    return "\n".join(lines)


def coloured(stream: TextIO, text: str, colour: str) -> str:
    """The text in a colour where the stream shows colours.

    That is a terminal, unless NO_COLOR has a value or TERM is dumb; with FORCE_COLOR any stream.
    """
    wanted = os.environ.get("FORCE_COLOR") or (stream.isatty() and os.environ.get("TERM") != "dumb")
    return f"\033[{colour}m{text}\033[0m" if wanted and not os.environ.get("NO_COLOR") else text


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

    Of a line that is wider than the terminal, its beginning is shown. The line is cleared at the end. Without a
    terminal nothing is shown.
    """
    terminal = sys.stderr.isatty()

    def show(line: str) -> None:
        if terminal:
            print(f"\r\033[K{line[: _columns(sys.stderr) - 1]}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        show("")
