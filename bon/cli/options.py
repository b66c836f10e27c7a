"""What the commands' arguments have in common: parser, settings, the place of the model, one line for what is wrong."""

import argparse
import sys

from bon.engines.server.connection import check_url
from bon.models import presets
from bon.result import printable
from bon.settings import Settings, whole

#: Options that become settings of the same name.
SETTINGS = {
    "n": "candidates, 1 to 4096 (16)",
    "target": "the scorer's label to look for (POSITIVE)",
    "min_tokens": "least cap of a candidate's length (8)",
    "max_tokens": "largest cap of a candidate's length (32)",
    "temperature": "above 0 (1.0)",
    "top_p": "in (0, 1], 1 is off (1.0)",
    "top_k": "0 is off (0)",
    "seed": "repeats a run (a fresh one, shown in the result)",
    "model": "preset, Hub id or folder (embedded)",
    "scorer": "preset, Hub id, folder, logprob, self-certainty, judge, weak, 0.7*judge+0.3*logprob (the model's own)",
    "unit": "probability, logit or margin (probability)",
    "keep": "how many ranked candidates to show (all)",
    "select": "who comes first: best, worst or soft (best)",
    "softness": "of soft selection, in the score's unit: small is nearly the best (0.1)",
    "reject": "share of the candidates dropped at each checkpoint of early rejection (0: off)",
}
NUMBERS = {"n", "min_tokens", "max_tokens", "temperature", "top_p", "top_k", "seed", "keep", "softness", "reject"}
#: The exit status that shells give to a program ended by Ctrl+C.
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Reports what is wrong in one line."""

    def error(self, message: str):
        print_to_stderr(f"{message}. See python -m bon --help.")
        raise SystemExit(2)


def print_to_stderr(message: str) -> None:
    """Prints one line to standard error."""
    print(printable("bon: " + " ".join(message.split())), file=sys.stderr)


def add_settings(parser: argparse.ArgumentParser, names, endpoint: bool = False) -> None:
    """Adds the options of these settings, and those of the device and the number type; also of an endpoint."""
    for name in names:
        flags = ["-n", "--n"] if name == "n" else ["--" + name.replace("_", "-")]
        parser.add_argument(*flags, dest=name, metavar=name.upper() if name != "n" else "N", help=SETTINGS[name])
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (the fastest)")
    parser.add_argument("--dtype", help="float32, bf16, float16, int8 (the fastest that is exact enough)")
    if endpoint:
        parser.add_argument("--endpoint", metavar="URL", help="an OpenAI-compatible server that has the model")


def given_settings(args: argparse.Namespace, names) -> dict:
    """The settings that were given, numbers as numbers."""
    return {name: number_in(value) if name in NUMBERS else value
            for name in names if (value := getattr(args, name)) is not None}


def checked_place(args: argparse.Namespace, settings: Settings) -> dict:
    """Where and how the model is to run, as far as it was given: device, number type, endpoint.

    Raises an error for a model, a scorer or an endpoint that cannot be, before torch is imported, which takes seconds.
    """
    presets.find("embedded" if args.endpoint else settings.model, settings.scorer)
    if args.endpoint:
        check_url(args.endpoint)
    return {name: getattr(args, name) for name in ("device", "dtype", "endpoint") if getattr(args, name)}


def number_in(text: str):
    """The number that the text says; a text that says none goes on as it is, for the settings to refuse."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def numbers_in(name: str, text: str) -> tuple[int, ...]:
    """The whole numbers of a list with commas, or an `InputError` that names the argument."""
    return tuple(whole(name, number_in(part), 1) for part in text.split(","))
