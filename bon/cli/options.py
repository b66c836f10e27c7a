"""What the commands' arguments have in common: settings, model, device, and one line for what is wrong."""

import argparse
import sys
from collections.abc import Iterable
from typing import NoReturn

from bon.engines.server.connection import check_url
from bon.models import presets
from bon.result import printable
from bon.settings import Settings, declared, whole

PROGRAM = "python -m bon"
#: The exit status that shells give to a program ended by Ctrl+C.
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Reports what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and ends the program with status 2."""
        print_to_stderr(f"{message}. See {PROGRAM} --help.")
        raise SystemExit(2)


def print_to_stderr(message: str) -> None:
    """Prints one line to standard error."""
    print(printable("bon: " + " ".join(message.split())), file=sys.stderr)


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str] | None = None) -> None:
    """Adds the options of these settings, by default of all."""
    for name in names or declared():
        setting = declared()[name]
        flags = [f"-{name}"] * (len(name) == 1) + ["--" + name.replace("_", "-")]
        help = f"{setting.help} ({setting.described_default})".replace("%", "%%")
        parser.add_argument(*flags, dest=name, metavar=name.upper(), help=help)


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Adds --device and --dtype."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (the fastest)")
    parser.add_argument("--dtype", help="float32, bf16, float16, int8 (the fastest that is exact enough)")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds --device, --dtype and --endpoint."""
    add_device_options(parser)
    parser.add_argument("--endpoint", metavar="URL", help="an OpenAI-compatible server that has the model")


def settings_from(args: argparse.Namespace) -> Settings:
    """The settings that the arguments name; numbers in the texts become numbers. Raises `InputError`."""
    texts = {name: text for name in declared() if (text := getattr(args, name, None)) is not None}
    return Settings.of({name: number_in(text) if declared()[name].numeric else text for name, text in texts.items()})


def check_model_options(args: argparse.Namespace, settings: Settings) -> dict[str, str]:
    """The device, the number type and the server's address, as far as they are named.

    Raises an error for a model, a scorer or an address that cannot be, before torch is imported, which takes seconds.
    """
    presets.find("embedded" if args.endpoint else settings.model or "embedded", settings.scorer)
    if args.endpoint:
        check_url(args.endpoint)
    return {name: getattr(args, name) for name in ("device", "dtype", "endpoint") if getattr(args, name)}


def number_in(text: str) -> int | float | str:
    """The number in a text; any other text stays as it is, for a check to refuse."""
    for number_type in (int, float):
        try:
            return number_type(text)
        except ValueError:
            continue
    return text


def numbers_in(name: str, text: str) -> tuple[int, ...]:
    """The whole numbers of a list with commas, or an `InputError` that names the argument."""
    return tuple(whole(name, number_in(part), 1) for part in text.split(","))
