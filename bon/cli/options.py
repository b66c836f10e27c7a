"""Options that several commands have (settings, model, device), their values, and errors in one line."""

import argparse
from collections.abc import Iterable
from typing import Any, NoReturn

from bon.cli.output import print_to_stderr
from bon.engines.server.connection import check_url
from bon.errors import InputError
from bon.messages import say
from bon.models import presets
from bon.settings import Setting, Settings, declared, read_escapes, whole

PROGRAM = "python -m bon"
#: The exit status that shells give to a program ended by Ctrl+C.
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """A parser that prints an error in one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and ends the program with status 2."""
        print_to_stderr(f"{message}. See {PROGRAM} --help.")
        raise SystemExit(2)


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str] | None = None) -> None:
    """Adds an option for each of these settings, by default for all."""
    for name in names or declared():
        setting = declared()[name]
        action = "append" if setting.several else "store"
        flags = [f"-{name}"] * (len(name) == 1) + ["--" + name.replace("_", "-")]
        how = r"; one for each option, with \n for a line's end" if setting.several else ""
        help = f"{setting.help}{how} ({setting.described_default})".replace("%", "%%")
        # The last word alone, so that the usage fits a narrow terminal.
        metavar = name.upper().rpartition("_")[2]
        parser.add_argument(*flags, dest=name, metavar=metavar, help=help, action=action)


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Adds --device and --dtype."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps (the fastest on this machine)")
    parser.add_argument("--dtype",
                        help="number type: float32, bf16, float16 or int8 (the fastest that is exact enough)")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds --device, --dtype and --endpoint."""
    add_device_options(parser)
    parser.add_argument("--endpoint", metavar="URL", action="append",
                        help="an OpenAI-compatible server that has the model")


def add_encoding_option(parser: argparse.ArgumentParser) -> None:
    """Adds --encoding."""
    parser.add_argument("--encoding", metavar="NAME",
                        help="the encoding of the input, such as cp1252 (UTF-8, or that of its byte order mark)")


def settings_from(args: argparse.Namespace) -> Settings:
    """The settings of the arguments. Raises `InputError` for a value that cannot work."""
    texts = {name: text for name in declared() if (text := getattr(args, name, None)) is not None}
    return Settings.of({name: _value(declared()[name], text) for name, text in texts.items()})


def _value(setting: Setting, text: Any) -> Any:
    """A setting's value from the text of its option, or the texts where it may be given several times."""
    if setting.several:
        return tuple(map(read_escapes, text))
    return parse_number(text) if setting.numeric else text


def check_model_options(args: argparse.Namespace, settings: Settings) -> dict[str, str]:
    """The arguments `device`, `dtype` and `endpoint` that have a value.

    Raises `InputError` or `ModelError` for a model, a scorer or an address that cannot work, before torch is imported,
    which takes seconds.
    """
    endpoint, *others = args.endpoint or [None]
    if others:
        raise InputError("endpoint", say("error.endpoint_twice", first=endpoint, second=others[0]))
    presets.find("embedded" if endpoint is not None else settings.model_name, settings.scorer)
    options = {name: value for name in ("device", "dtype") if (value := getattr(args, name))}
    # An empty address, as of a variable that is not set, is refused: it must not mean a model that is loaded here.
    return options if endpoint is None else options | {"endpoint": check_url(endpoint)}


def parse_number(text: str) -> int | float | str:
    """The number that a text stands for; any other text as it is, which the setting's check then refuses."""
    for number_type in (int, float):
        try:
            return number_type(text)
        except ValueError:
            continue
    return text


def parse_whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """The whole numbers of a list with commas. Raises `InputError`, with the argument's name, for anything else."""
    return tuple(whole(name, parse_number(part), 1) for part in text.split(","))
