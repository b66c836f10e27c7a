"""Where the files that travel with bon are: texts, models, prompts, scripts and styles."""

from pathlib import Path


def assets_folder() -> Path:
    """The folder `assets`: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "assets"  # in a checkout it holds a note alone
    return inside if (inside / "text").is_dir() else package.parent / "assets"
