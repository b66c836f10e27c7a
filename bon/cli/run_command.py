"""`python -m bon PROMPT`: best of n for one prompt or chat."""

import argparse
import sys
from collections.abc import Generator
from contextlib import closing

from bon import __version__
from bon.cli.options import (
    INTERRUPTED,
    PROGRAM,
    Parser,
    add_model_options,
    add_settings,
    check_model_options,
    settings_from,
)
from bon.cli.output import (
    add_output_options,
    check_output_files,
    print_json,
    print_result,
    print_to_stderr,
    progress_line,
    write_output_files,
)
from bon.errors import EngineError, InputError
from bon.events import Done, Event, Note
from bon.messages import say
from bon.models import presets
from bon.models.files.memory import size_line
from bon.result import Result
from bon.settings import Request


def parser(commands: str) -> Parser:
    """The parser of a call without a command. commands: the line of the help on the commands."""
    parser = Parser(
        prog=PROGRAM, epilog=commands, allow_abbrev=False,
        description="Continues a prompt n times, scores every continuation, and prints them best first.",
    )
    parser.add_argument("prompt", nargs="?", help="the text to continue; - or nothing reads it from standard input")
    parser.add_argument("--chat", metavar="TEXT",
                        help="a message for the model to answer; needs a model with a chat template")
    parser.add_argument("--system", metavar="TEXT", help="with --chat: the system message")
    parser.add_argument("--messages", metavar="FILE", help="a chat as JSON: a list of objects with role and content")
    add_settings(parser)
    add_model_options(parser)
    parser.add_argument("--unconditional", action="store_true",
                        help="sample from the model's start token, without a prompt")
    add_output_options(parser)
    parser.add_argument("--version", action="version", version=f"bon {__version__}")
    return parser


def run(args: argparse.Namespace) -> int:
    """Runs the prompt, prints and writes the result, and returns the exit status."""
    from bon.report import result_files

    check_output_files(args)
    settings, messages = settings_from(args), _messages(args)
    is_piped = sys.stdin is not None and not sys.stdin.isatty()
    needs_prompt = args.prompt is None and messages is None and not args.unconditional
    prompt = _or_standard_input("-" if needs_prompt and is_piped else args.prompt)
    request = Request(prompt, settings, messages, unconditional=args.unconditional)
    options = check_model_options(args, settings)
    place = "" if "endpoint" in options else presets.find(settings.model_name).model
    result, end = _run_events(_events(request, options), size_line(settings.model_name, place))
    if result is not None:
        if args.json:
            print_json(result.to_dict())
        else:
            print_result(result)
        write_output_files(args, {"csv": result_files.run_csv, "html": result_files.run_html}, result)
    if isinstance(end, EngineError):
        raise end
    return INTERRUPTED if end else 0


def _messages(args: argparse.Namespace) -> list[dict[str, str]] | None:
    """The messages of --messages, or of --chat and --system; None without these options."""
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
    return [*system, {"role": "user", "content": _or_standard_input(args.chat)}]


def _or_standard_input(text: str | None) -> str | None:
    """The text, or for `-` all of standard input without the line end behind it.

    Raises `InputError` where that is empty or no text.
    """
    if text != "-":
        return text
    try:
        text = sys.stdin.read().removeprefix("\ufeff").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError("prompt", say("error.stdin_not_text")) from error
    if not text.strip():
        raise InputError("prompt", say("error.stdin_empty", program=PROGRAM))
    return text


def _events(request: Request, options: dict[str, str]) -> Generator[Event, None, None]:
    """The run's events. Models are loaded before the first one."""
    from bon import api

    yield from api.load_for(request.settings, **options).stream_request(request)


def _run_events(
    events: Generator[Event, None, None], first_line: str | None = None
) -> tuple[Result | None, KeyboardInterrupt | EngineError | None]:
    """The result, and what ended the run before it was complete: Ctrl+C, or an error of the engine.

    What had been generated before is kept; the result is None where that is nothing. first_line: what a terminal shows
    while the model is loaded.
    """
    from bon.run_state import RunState

    state = RunState()
    try:
        with progress_line() as show, closing(events):
            show(first_line or "")
            for event in events:
                if isinstance(event, Done):
                    return event.result, None
                state.add(event)
                if isinstance(event, Note) and event.urgent:
                    print_to_stderr(event.text)
                show(f"scored {state.scored} of {len(state.candidates)} ")
    except KeyboardInterrupt as interrupt:
        return (state.result(stopped=True) if state.started else None), interrupt
    except EngineError as error:
        state.add(Note(error.message))
        return (state.result(stopped=True) if any(c.text for c in state.candidates) else None), error
    raise AssertionError("a stream ends with Done")
