"""`python -m bon publish`: the page as a Hugging Face Space."""

import argparse
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.utils import filter_repo_objects

from bon.assets_folder import assets_folder
from bon.cli.options import PROGRAM, Parser
from bon.cli.output import print_text
from bon.errors import ModelError
from bon.messages import say
from bon.report import hub_writing

HELP = "publish this page as a Hugging Face Space"
#: The files that a Space needs, in the patterns of `upload_folder`, where a star matches slashes too.
NEEDED = ["app.py", "README.md", "LICENSE", "requirements.txt", "bon/*", "assets/*"]
#: Of these the files that are not sent: what makes the built-in models, caches and hidden files.
LEFT_OUT = ["bon/training/*", "*__pycache__*", "*.pyc", ".*", "*/.*"]


def parser() -> Parser:
    """The command's options."""
    parser = Parser(prog=f"{PROGRAM} publish", allow_abbrev=False,
                    description="Publishes this page, with the built-in models, as a Space on the Hugging Face Hub.")
    parser.add_argument("space", metavar="USER/SPACE", help="the Space to create or to update")
    parser.add_argument("--private", action="store_true", help="make a new Space private")
    parser.add_argument("--dry-run", action="store_true", help="list the files and their sizes, and send nothing")
    return parser


def run(args: argparse.Namespace) -> int:
    """Sends the page, or lists the files, and returns the exit status."""
    hub_writing.check_repo_id(args.space, "space")
    sizes = files()
    if args.dry_run:
        for name, size in sizes:
            print_text(f"{size:>12,}  {name}")
    total = f"{len(sizes)} files, {sum(size for _, size in sizes) / 1e6:.1f} MB"
    if args.dry_run:
        print_text(f"{total} for https://huggingface.co/spaces/{args.space}; nothing was sent.")
        return 0
    url = publish(args.space, args.private)
    print_text(f"{total} sent. The Space builds now: {url}")
    return 0


def folder() -> Path:
    """The root of the checkout of this package. Raises `ModelError` where the package is installed without one."""
    root = assets_folder().parent
    if not (root / "app.py").is_file():
        raise ModelError(say("error.no_checkout"))
    return root


def files() -> list[tuple[str, int]]:
    """The files to send, each with its size in bytes."""
    root = folder()
    candidates = sorted(file.relative_to(root).as_posix() for name in {pattern.split("/")[0] for pattern in NEEDED}
                     for file in ([root / name] if (root / name).is_file() else (root / name).rglob("*"))
                     if file.is_file())
    names = filter_repo_objects(candidates, allow_patterns=NEEDED, ignore_patterns=LEFT_OUT)
    return [(name, (root / name).stat().st_size) for name in names]


def publish(space: str, private: bool = False, api: HfApi | None = None) -> str:
    """Creates the Space where there is none, sends the files in one commit, and returns the Space's address.

    api: None for one with this machine's token. Raises `InputError` for an invalid name or where there is no token, and
    `BonError` with the Hub's answer where it refuses.
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
