"""`python -m bon publish`: the page as a Hugging Face Space."""

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, metadata_load, metadata_save
from huggingface_hub.utils import filter_repo_objects

from bon.assets_folder import assets_folder
from bon.cli.options import PROGRAM, Parser
from bon.cli.output import print_text
from bon.errors import InputError, ModelError
from bon.messages import say
from bon.models import presets
from bon.models.files.memory import format_bytes
from bon.report import hub_writing

#: The files that a Space needs, in the patterns of `upload_folder`, where a star matches slashes too.
NEEDED = ["app.py", "README.md", "LICENSE", "requirements.txt", "bon/*", "assets/*"]
#: Of these the files that are not sent: what makes the built-in models, caches and hidden files.
LEFT_OUT = ["bon/training/*", "*__pycache__*", "*.pyc", ".*", "*/.*"]


def parser() -> Parser:
    """The command's options."""
    parser = Parser(prog=f"{PROGRAM} publish", allow_abbrev=False,
                    description="Publishes this page, with the built-in models, as a Space on the Hugging Face Hub.")
    parser.add_argument("space", metavar="USER/SPACE", help="the Space to create or to update")
    parser.add_argument("--model", metavar="PRESET", help="the preset that the page opens with (embedded)")
    parser.add_argument("--private", action="store_true", help="make a new Space private")
    parser.add_argument("--dry-run", action="store_true", help="list the files and their sizes, and send nothing")
    return parser


def run(args: argparse.Namespace) -> int:
    """Sends the page, or lists the files, and returns the exit status."""
    hub_writing.check_repo_id(args.space, "space")
    sizes, spec = files(), preset_from_hub(args.model)
    if args.dry_run:
        for name, size in sizes:
            print_text(f"{size:>12,}  {name}")
    if spec:
        _print_needs(spec, args.private)
    total = f"{len(sizes)} files, {sum(size for _, size in sizes) / 1e6:.1f} MB"
    if args.dry_run:
        print_text(f"{total} for https://huggingface.co/spaces/{args.space}; nothing was sent.")
        return 0
    url = publish(args.space, args.private, spec)
    print_text(f"{total} sent. The Space builds now: {url}")
    return 0


def preset_from_hub(name: str | None) -> presets.Spec | None:
    """The preset of a name, from the Hub; None for no name and the built-in models. Raises `InputError` for others."""
    spec = presets.preset(name or "embedded")
    if spec is None:
        raise InputError("model", say("error.publish_model", value=repr(name), names=presets.names()))
    return None if spec.built_in else presets.from_hub(spec)


def variables(spec: presets.Spec, private: bool) -> dict[str, str]:
    """The variables of a Space that opens with a preset. One that anybody may visit is in public mode."""
    names = {"BON_MODEL": spec.name, "BON_MODELS": f"embedded,{spec.name}"}
    return names if private else names | {"BON_PUBLIC": "1"}


def _print_needs(spec: presets.Spec, private: bool) -> None:
    settings = ", ".join(f"{name}={value}" for name, value in variables(spec, private).items())
    places = " and ".join(_places(spec))
    print_text(f"The Space's variables: {settings}. Its build downloads {places}, {format_bytes(spec.download)}.")
    if spec.needs:
        print_text(f"On the free CPU hardware (2 cores, 16 GB) {spec.name} needs {spec.needs}.")


def _places(spec: presets.Spec) -> list[str]:
    """The Hub ids of a preset's model and scorer."""
    return [place for place in (spec.model, spec.scorer) if place not in presets.FREE]


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


def publish(space: str, private: bool = False, spec: presets.Spec | None = None, api: HfApi | None = None) -> str:
    """Creates the Space where there is none, sends the files in one commit, and returns the Space's address.

    spec: the preset that the page opens with; its variables are set first, and the Space's build downloads its files.
    api: None for one with this machine's token. Raises `InputError` for an invalid name or where there is no token, and
    `BonError` with the Hub's answer where it refuses.
    """
    hub_writing.check_repo_id(space, "space")
    api = api or hub_writing.authorized_api()
    with hub_writing.hub_errors(space), TemporaryDirectory() as copy:
        url = api.create_repo(space, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        for name, value in variables(spec, private).items() if spec else ():
            api.add_space_variable(space, name, value)
        api.upload_folder(
            repo_id=space, repo_type="space", folder_path=_with_downloads(spec, Path(copy), api) if spec else folder(),
            allow_patterns=NEEDED, ignore_patterns=LEFT_OUT, commit_message="Bring the page up to date",
        )
    return str(url)


def _with_downloads(spec: presets.Spec, copy: Path, api: HfApi) -> Path:
    """A copy of the files to send whose front matter tells the Space's build to download the files of a preset."""
    for name, _ in files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder() / name, copy / name)
    downloads = []
    for place in _places(spec):
        names = [sibling.rfilename for sibling in api.model_info(place).siblings or ()]
        downloads.append(f"{place} {','.join(presets.needed(names))}")
    readme = copy / "README.md"
    metadata_save(readme, {**(metadata_load(readme) or {}), "preload_from_hub": downloads})
    return copy
