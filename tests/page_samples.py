"""Makes the finished run and comparison that the page opens with anew: `python -m tests.page_samples`."""

import json

from bon import api
from bon.compare import comparison_run
from bon.compare.loading import load_models
from bon.compare.prompts import shipped_prompts
from bon.settings import Settings
from bon.ui import theme
from bon.ui.compare import comparison_view


def run():
    """The run on the Generate tab."""
    return api.load("embedded").run("This movie", n=16, seed=13, finish="sentence")


def comparison():
    """The comparison on the Compare tab: of the 32 built-in prompts."""
    return comparison_run.run(shipped_prompts(), load_models("embedded"), Settings(n=16, seed=7, finish="sentence"))


def main() -> None:
    """Writes both files."""
    (theme.folder() / "sample_run.json").write_text(json.dumps(run().to_dict(), indent=1, ensure_ascii=False) + "\n")
    (theme.folder() / "sample_comparison.json").write_text(comparison_view.sample_text(comparison()))


if __name__ == "__main__":
    main()
