"""Links that carry settings: the query string of the page's address goes in, what the form begins with comes out.

`assets/ui/share.js` makes such links. Opening one fills the form in and runs nothing.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from bon.messages import say
from bon.ui.generate.form_fields import FIELDS, faults

TEXTS = ("prompt", "target", "seed", "model", "scorer", "select")
#: Settings that Python, command line and endpoint have and the page has not.
ELSEWHERE = ("unit", "keep")
#: The labels of the scorer in the box, to which a link can be held before any scorer is loaded.
LABELS = ("POSITIVE", "NEGATIVE")


def linked(form: Mapping[str, Any], request: gr.Request) -> list[Any]:
    """For each of the form's fields what the link says, and the notice that tells of it.

    form: what the fields hold at first.
    """
    given, ignored = accepted(dict(request.query_params or {}), form)
    told = notice(form, bool(given or ignored), ignored)
    slider = min(64, given["n"]) if "n" in given else gr.skip()
    return [*(given.get(name, gr.skip()) for name in FIELDS), slider, told]


def notice(form: Mapping[str, Any], linked: bool = False, ignored: list[str] | None = None) -> dict[str, Any]:
    """What `assets/ui/share.js` shows above the form, and the defaults that its links leave out."""
    return {"defaults": dict(form), "linked": linked, "ignored": ignored or []}


def accepted(query: Mapping[str, str], form: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The fields that a query string fills in, and in words what was ignored of it, field by field."""
    ignored = [said for name in query if (said := unknown(name))]
    given = {name: value_of(name, query[name]) for name in FIELDS if query.get(name, "").strip()}
    if given.get("reject") not in (None, True, False):
        ignored.append(say("link.reject", value=repr(given.pop("reject"))))
    embedded = given.get("model", form["model"]) == "embedded" and "scorer" not in given
    if embedded and given.get("target", LABELS[0]) not in LABELS:
        ignored.append(say("link.target", value=repr(given.pop("target")), one=LABELS[0], other=LABELS[1]))
    while found := faults({**form, **given}):
        for name, said in found.items():
            # At fault without being given: what it is measured against or goes with is.
            blamed = name if name in given else "chat" if name == "prompt" else "max_tokens"
            if given.pop(blamed, None) is None:
                return given, ignored
            ignored.append(said)
    return given, ignored


def unknown(name: str) -> str:
    """What there is to say of a parameter that fills no field: nothing where it is meant for somebody else."""
    if name in ELSEWHERE:
        return say("link.elsewhere", name=name)
    close = [] if name in FIELDS else difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.8)
    return say("link.unknown", name=repr(name), meant=close[0]) if close else ""


def value_of(name: str, text: str) -> Any:
    """A field's value; what is no number where one is due stays a text, and is found at fault as such."""
    if name == "prompt":
        return text
    if name == "chat":
        return chat_of(text)
    if name in TEXTS:
        return text.strip()
    if name == "reject":
        return {"0.5": True, "0": False}.get(text.strip(), text)
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() else value


def chat_of(text: str) -> Any:
    """The messages that stand in a link as pairs of role and content; False for `0`, a text that is no chat.

    What cannot be read stays a text, and is found at fault as such.
    """
    if text.strip() == "0":
        return False
    try:
        pairs = json.loads(text)
        chat = [{"role": role, "content": content} for role, content in pairs]
    except (RecursionError, TypeError, ValueError):
        return text
    readable = isinstance(pairs, list) and all(isinstance(pair, list) for pair in pairs)
    return chat if readable and all(isinstance(said, str) for pair in pairs for said in pair) else text
