"""Writing to the Hugging Face Hub: repository names, the token, and the Hub's errors as this package's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from bon.errors import BonError, InputError
from bon.messages import say


def check_repo_id(repo_id: str, repo_type: Literal["space", "dataset"]) -> None:
    """Raises `InputError` for an id that is not OWNER/NAME by the Hub's rules."""
    try:
        validate_repo_id(repo_id)
        valid = repo_id.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        key = "error.not_a_space_name" if repo_type == "space" else "error.not_a_dataset_name"
        raise InputError(repo_type, say(key, name=repr(repo_id)))


def authorized_api() -> HfApi:
    """The Hub with the token of this machine. Raises `InputError` where there is none."""
    if not get_token():
        raise InputError("token", say("error.no_hub_token"))
    return HfApi()


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Within it, an error of writing to `repo_id` becomes an `InputError` (the token may not) or a `BonError`."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise InputError("token", say("error.hub_token_may_not_write", name=repo_id)) from error
        raise BonError(say("error.hub_status_on_writing", status=str(status))) from error
    except Exception as error:  # each layer of the network raises its own; the reader needs one sentence
        raise BonError(say("error.hub_unreachable_for_writing", error=f"{type(error).__name__}: {error}")) from error
