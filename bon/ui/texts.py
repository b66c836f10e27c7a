"""The page's texts: one table per language, `assets/ui/text/*.json`, which are all that a language takes.

Python says everything in English, as a `Said`: a text that also knows its key in the tables. On its way to the page it
becomes key and values (`carried`), and `assets/ui/texts.js` says it in the visitor's language. What the rest of bon
says, in errors and notes, is English text alone; the scripts find it among the tables' `core.` texts.
"""

import functools
import json
from collections.abc import Iterable
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

from bon.models import assets
from bon.wording import label_words

#: A text, or one for each plural form that the language has: `one`, `other`, ... by the value named `n`.
Table = dict[str, str | dict[str, str]]
ENGLISH = "en"
#: How a text begins that the browser has to make; no prompt and no model's text is ever taken for one.
MARK = "\x02"


class Said(str):
    """An English text that knows how it was made: `key` and `values`, or the `parts` that stand with commas."""

    key: str = ""
    values: dict[str, Any]
    parts: tuple[str, ...] = ()


@functools.cache
def tables() -> dict[str, Table]:
    """The tables by language tag, English first."""
    files = sorted((assets() / "ui" / "text").glob("*.json"), key=lambda file: (file.stem != ENGLISH, file.stem))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def say(key: str, **values: Any) -> Said:
    """The text of `key`. Whole numbers among the values are grouped; the one named `n` chooses the plural form."""
    text = tables()[ENGLISH][key]
    if not isinstance(text, str):
        text = text["one" if values["n"] == 1 else "other"]
    said = Said(text.format(**{k: f"{v:,}" if isinstance(v, int) else v for k, v in values.items()}))
    said.key, said.values = key, values
    return said


def joined(parts: Iterable[str]) -> Said:
    """The texts with commas between them; empty ones are left out."""
    kept = tuple(filter(None, parts))
    said = Said(", ".join(kept))
    said.parts = kept
    return said


def known(key: str, word: str) -> str:
    """The text of `key` where the tables have it, else the word itself."""
    return say(key) if key in tables()[ENGLISH] else word


def unit_of(unit: str, target: str | None) -> str:
    """The score's unit for a reader: `probability of positive`."""
    named = known(f"unit.{unit}", unit)
    return say("unit.of", unit=named, label=label_of(target)) if target else named


def label_of(label: str) -> str:
    """A scorer's label for a reader."""
    return known(f"label.{label_words(label)}", label_words(label))


def carried(value: Any) -> Any:
    """A value of plain JSON types in which each `Said` has become what `revived` and the scripts take for one.

    A text still, in which Gradio, sending what has changed, finds nothing to change in part.
    """
    if isinstance(value, Said):
        how = {"key": value.key, "values": value.values} if value.key else {"parts": value.parts}
        return MARK + json.dumps(carried(how))
    if isinstance(value, dict):
        return {k: carried(v) for k, v in value.items()}
    return [carried(v) for v in value] if isinstance(value, list | tuple) else value


def revived(value: Any) -> Any:
    """The value that was `carried`."""
    if isinstance(value, str) and value.startswith(MARK):
        how = revived(json.loads(value[1:]))
        return joined(how["parts"]) if "parts" in how else say(how["key"], **how["values"])
    if isinstance(value, dict):
        return {k: revived(v) for k, v in value.items()}
    return [revived(v) for v in value] if isinstance(value, list) else value


def label(key: str, otherwise: str = "") -> str:
    """A text for Gradio's own components, which say it in the visitor's language; `otherwise` for an unknown key."""
    return str(I18nData(key)) if key in tables()[ENGLISH] else otherwise


def translations() -> gr.I18n:
    """The texts without values, for Gradio's own components; `common.` ones are those that it lacks itself."""
    return gr.I18n(**{
        tag: {key: text for key, text in table.items() if isinstance(text, str) and "{" not in text}
        for tag, table in tables().items()
    })
