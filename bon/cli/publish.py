"""The page as a Hugging Face Space: which files it needs, and sending them there."""

from pathlib import Path
from typing import Any

from huggingface_hub.utils import filter_repo_objects

from bon.assets_folder import assets_folder
from bon.errors import ModelError
from bon.messages import say
from bon.report import hub_writing

#: What a Space runs, by the patterns of `upload_folder`, where a star takes slashes in.
NEEDED = ["app.py", "README.md", "LICENSE", "requirements.txt", "bon/*", "assets/*"]
#: What making the models again needs, and what running leaves behind.
LEFT_OUT = ["bon/training/*", "*__pycache__*", "*.pyc", ".*", "*/.*"]


def folder() -> Path:
    """The checkout that this package is in. Raises `ModelError` where it is installed without one."""
    found = assets_folder().parent
    if not (found / "app.py").is_file():
        raise ModelError(say("error.no_checkout"))
    return found


def files() -> list[tuple[str, int]]:
    """The files that are sent, each with its size in bytes."""
    root = folder()
    present = sorted(file.relative_to(root).as_posix() for name in {pattern.split("/")[0] for pattern in NEEDED}
                     for file in ([root / name] if (root / name).is_file() else (root / name).rglob("*"))
                     if file.is_file())
    kept = filter_repo_objects(present, allow_patterns=NEEDED, ignore_patterns=LEFT_OUT)
    return [(name, (root / name).stat().st_size) for name in kept]


def publish(space: str, private: bool = False, api: Any = None) -> str:
    """Makes the Space where there is none, sends the files in one commit, and returns its address.

    api: a `huggingface_hub.HfApi`, or None for one with the token of this machine. Raises `InputError` for a name that
    cannot be or where there is no token, and `BonError` with the Hub's answer where it refuses.
    """
    hub_writing.check_repo_id(space, "space")
    api = api or hub_writing.authorized_api()
    with hub_writing.hub_errors(space):
        url = api.create_repo(space, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=space, repo_type="space", folder_path=folder(), allow_patterns=NEEDED, ignore_patterns=LEFT_OUT,
            commit_message="Bring the page up to date",
        )
    return str(url)
