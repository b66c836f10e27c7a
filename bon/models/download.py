"""A model's files, from a folder or downloaded from the Hub, and the errors where neither has them."""

import os
from collections.abc import Iterator

from huggingface_hub import HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from bon.errors import ModelError
from bon.messages import say
from bon.models import checkpoint, presets


def folder(place: str) -> str:
    """The folder with a model's files: `place` itself, or the Hub's cache, with the missing files downloaded.

    The newest version on the Hub is taken; where the Hub does not answer, a complete copy in the cache. Raises
    `ModelError` where there is none.
    """
    if os.path.isabs(place) or os.path.isdir(place):
        return presets.checked_place(place)
    timeout = 3 if presets.state(place) == "here" else 10
    try:
        info = HfApi().model_info(place, timeout=timeout)
    except Exception as error:
        return _cached_copy(place, _why_unreachable(place, error), error)
    names = [file.rfilename for file in info.siblings or ()]
    files = presets.needed(names)
    if "config.json" not in files:
        raise ModelError(presets.other_format(place, names) or say("error.hub_without_weights", model=place))
    try:
        return snapshot_download(place, allow_patterns=files)
    except Exception as error:
        return _cached_copy(place, _why_broken_off(place, error), error)


def _cached_copy(place: str, message: str, error: Exception) -> str:
    """The folder of a complete copy in the Hub's cache. Raises `ModelError` with the message where there is none."""
    if presets.state(place) == "here":
        return str(presets.snapshot(place))
    raise ModelError(message) from error


def _why_unreachable(place: str, error: Exception) -> str:
    if refusal := _why_refused(place, error):
        return refusal
    if presets.hub_is_off():
        return say("error.hub_off", model=place)
    if _status(error) == 401 and get_token():
        return say("error.hub_token_invalid", model=place)
    return say("error.hub_unreachable", model=place, error=_one_line(error))


def _why_broken_off(place: str, error: Exception) -> str:
    return _why_refused(place, error) or say("error.download_broken_off", model=place, error=_one_line(error))


def _why_refused(place: str, error: Exception) -> str | None:
    # By type, not by status: a proxy's 403 says nothing about the model.
    refusal = next((e for e in error_chain(error) if isinstance(e, RepositoryNotFoundError)), None)
    if refusal is None:
        return None
    with_token = ".with_token" if get_token() else ""
    if isinstance(refusal, GatedRepoError):
        return say(f"error.hub_gated{with_token}", model=place, url=f"{constants.ENDPOINT}/{place}")
    return say(f"error.hub_refused{with_token}", model=place, names=presets.names())


def _one_line(error: Exception) -> str:
    status = _status(error)
    return say("error.hub_status", status=str(status)) if status else checkpoint.in_one_line(error)


def _status(error: Exception) -> int | None:
    """The HTTP status of the Hub's answer that caused an error; None where no answer did."""
    return next((e.response.status_code for e in error_chain(error) if isinstance(e, HfHubHTTPError)), None)


def error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
