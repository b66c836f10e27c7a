"""Writing to the Hugging Face Hub: names, the token, and what the Hub says, in words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from bon.errors import BonError, InputError
from bon.messages import say


def check_name(name: str, kind: str) -> None:
    """Raises `InputError` for a name that no repository can have. kind: `Space` or `dataset`."""
    part = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
    if not re.fullmatch(f"{part}/{part}", name) or "--" in name or ".." in name or len(name) > 96:
        key = "error.not_a_space_name" if kind == "Space" else "error.not_a_dataset_name"
        raise InputError(kind.lower(), say(key, name=repr(name)))


def writing() -> HfApi:
    """The Hub with the token of this machine. Raises `InputError` where there is none."""
    if not get_token():
        raise InputError("token", say("error.no_hub_token"))
    return HfApi()


@contextmanager
def told(name: str) -> Iterator[None]:
    """Within it, what the Hub answers to writing to `name` becomes an `InputError` or a `BonError` in words."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise InputError("token", say("error.hub_token_may_not_write", name=name)) from error
        raise BonError(say("error.hub_status_on_writing", status=str(status))) from error
    except Exception as error:  # each layer of the network raises its own; the reader needs one sentence
        raise BonError(say("error.hub_unreachable_for_writing", error=f"{type(error).__name__}: {error}")) from error
