"""The phrase bank: hand-written phrases in plain text files, by section and polarity."""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
HEADER = re.compile(r"\[([\w -]+)\]")
POLARITIES = frozenset({"pos", "neg", "warm", "cross", "luke", "any", "past", "same", "turn"})


@dataclass(frozen=True)
class Bank:
    """One file: its phrases by (section, polarity), and the tense of its verbs."""

    name: str
    tense: str
    sections: dict[tuple[str, str], tuple[str, ...]] = field(repr=False)

    def get(self, section: str, polarity: str = "") -> tuple[str, ...]:
        """The phrases of a section; none where the file has no such section."""
        return self.sections.get((section, polarity), ())


def read(path: Path) -> Bank:
    """Reads one file: `tense: past`, `[section polarity]` headers, a phrase a line, `#` comments."""
    tense, section = "present", ("", "")
    lines_of: dict[tuple[str, str], dict[str, None]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        header = HEADER.fullmatch(line)
        if header:
            section = _section(header[1].split())
        elif line.startswith("tense:"):
            tense = line.removeprefix("tense:").strip()
        elif line and not line.startswith("#"):
            lines_of.setdefault(section, {})[line] = None
    return Bank(path.stem, tense, {key: tuple(lines) for key, lines in lines_of.items()})


def _section(words: list[str]) -> tuple[str, str]:
    """`open turn neg` -> (open-turn, neg); `when` -> (when, "")."""
    if len(words) > 1 and words[-1] in POLARITIES:
        return "-".join(words[:-1]), words[-1]
    return "-".join(words), ""


@cache
def banks() -> dict[str, Bank]:
    """Every file of the phrase bank by its name."""
    return {path.stem: read(path) for path in sorted((HERE / "phrases").glob("*.txt"))}


@cache
def lexicon() -> Bank:
    """Words and expressions of praise and complaint."""
    return read(HERE / "lexicon.txt")


@cache
def sentences(*names: str, folder: str = "sentences") -> dict[str, tuple[str, ...]]:
    """Labelled sentences by polarity (pos, neg, warm, cross, luke), of the named files or of all.

    folder: `sentences` are the scorer's, `judged` the judge's, which the scorer has not seen.
    """
    out: dict[str, list[str]] = {}
    for path in sorted((HERE / folder).glob("*.txt")):
        if names and path.stem not in names:
            continue
        for (polarity, _), lines in read(path).sections.items():
            out.setdefault(polarity, []).extend(lines)
    return {polarity: tuple(dict.fromkeys(lines)) for polarity, lines in out.items()}


def held_out(name: str) -> list[tuple[str, bool]]:
    """The test or dev sentences, with whether each is positive; never trained on."""
    lines = (HERE / "held_out" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("\t") for line in lines)
    return [(text, label == "POSITIVE") for label, text in pairs]
