"""Writing to the Hugging Face Hub: names, the token, and what the Hub says, in words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from bon.errors import BonError, InputError


def check_name(name: str, kind: str) -> None:
    """Raises `InputError` for a name that no repository can have. kind: `Space` or `dataset`."""
    part = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
    if not re.fullmatch(f"{part}/{part}", name) or "--" in name or ".." in name or len(name) > 96:
        raise InputError(kind.lower(), f"{name!r} is no name of a {kind}. Give USER/{kind.upper()}, such as "
                         "ada/best-of-n.")


def writing() -> HfApi:
    """The Hub with the token of this machine. Raises `InputError` where there is none."""
    if not get_token():
        raise InputError("token", "There is no token of the Hub here. Log in with `hf auth login`, or set HF_TOKEN "
                         "to one that may write.")
    return HfApi()


@contextmanager
def told(name: str) -> Iterator[None]:
    """Within it, what the Hub answers to writing to `name` becomes an `InputError` or a `BonError` in words."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise InputError("token", f"The Hub does not let this token write to {name}. Take one that may write, and "
                             "a name under your own user or organisation.") from error
        raise BonError(f"The Hub answered with status {status}. Try again later.") from error
    except Exception as error:  # each layer of the network raises its own; the reader needs one sentence
        raise BonError(f"The Hub could not be reached ({type(error).__name__}: {error}). Try again where there is a "
                       "network: what has arrived is not sent twice.") from error
