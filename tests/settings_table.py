"""The table of settings in README.md, made from their declarations: `python -m tests.settings_table` writes it anew."""

import re
from pathlib import Path

from bon.settings import declared

README = Path(__file__).parents[1] / "README.md"
HEAD = "| keyword | what it is | default |\n|---|---|---|\n"


def table() -> str:
    """The table in Markdown: a line for each setting, in the order of `declared`."""
    return HEAD + "".join(
        f"| `{setting.name}` | {_in_markdown(setting.help)} | {setting.described_default} |\n"
        for setting in declared().values()
    )


def with_table(text: str) -> str:
    """The document with this table in place of the one that it has."""
    return re.sub(re.escape(HEAD) + r"(\|.*\n)*", lambda _: table(), text)


def _in_markdown(text: str) -> str:
    """The text with formulas as code: two stars would be emphasis."""
    return re.sub(r"\S*\*\S*", r"`\g<0>`", text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
