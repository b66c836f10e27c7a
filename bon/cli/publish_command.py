"""`python -m bon publish`: the page as a Hugging Face Space."""

import argparse
from pathlib import Path
from typing import Any

from huggingface_hub.utils import filter_repo_objects

from bon.assets_folder import assets_folder
from bon.cli.options import PROGRAM, Parser
from bon.errors import ModelError
from bon.messages import say
from bon.report import hub_writing

HELP = "this page as a Hugging Face Space"
#: What a Space runs, by the patterns of `upload_folder`, where a star takes slashes in.
NEEDED = ["app.py", "README.md", "LICENSE", "requirements.txt", "bon/*", "assets/*"]
#: What making the models again needs, and what running leaves behind.
LEFT_OUT = ["bon/training/*", "*__pycache__*", "*.pyc", ".*", "*/.*"]


def parser() -> Parser:
    """The command's options."""
    parser = Parser(prog=f"{PROGRAM} publish", allow_abbrev=False,
                    description="Puts this page, with the models in the box, on the Hub as a Space of yours.")
    parser.add_argument("space", metavar="USER/SPACE", help="the Space to make, or to bring up to date")
    parser.add_argument("--private", action="store_true", help="for you alone, where it is made anew")
    parser.add_argument("--dry-run", action="store_true", help="list the files and their sizes, and do nothing")
    return parser


def run(args: argparse.Namespace) -> int:
    """Sends the page, or lists what would be sent, and returns the exit status."""
    hub_writing.check_repo_id(args.space, "space")
    sent = files()
    if args.dry_run:
        for name, size in sent:
            print(f"{size:>12,}  {name}")
    total = f"{len(sent)} files, {sum(size for _, size in sent) / 1e6:.1f} MB"
    if args.dry_run:
        print(f"{total} for https://huggingface.co/spaces/{args.space}; nothing was sent.")
        return 0
    url = publish(args.space, args.private)
    print(f"{total} sent. The Space builds now: {url}")
    return 0


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
