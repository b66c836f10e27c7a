"""Links that carry settings: the query string of the page's address goes in, what the form begins with comes out.

`assets/ui/share.js` makes such links. Opening one fills the form in and runs nothing.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from bon.messages import say
from bon.settings import NumberField, Switch, declared
from bon.ui.generate.form_values import FIELDS, PAGE_SETTINGS, faults
from bon.ui.hosting.deployment import Deployment

#: The labels of the scorer in the box, to which a link can be held before any scorer is loaded.
LABELS = ("POSITIVE", "NEGATIVE")
#: The most candidates that the slider shows.
SLIDER_MAX = 64


def fill_form(query: Mapping[str, str], form: Mapping[str, Any], deployment: Deployment) -> list[Any]:
    """For each of the form's fields what the link says; the slider; and the notice that tells of the link.

    form: what the fields hold at first.
    """
    values, ignored = accept(query, form, deployment)
    slider = min(SLIDER_MAX, values["n"]) if "n" in values else gr.skip()
    linked = notice(form, bool(values or ignored), ignored)
    return [*(values.get(name, gr.skip()) for name in FIELDS), slider, linked]


def notice(form: Mapping[str, Any], linked: bool = False, ignored: list[str] | None = None) -> dict[str, Any]:
    """What `assets/ui/share.js` shows above the form, and what scripts need to know of the form: the first values of
    its fields, which links leave out, and for each switch the number that it stands for.
    """
    switches = {name: setting.control.on for name, setting in PAGE_SETTINGS.items()
                if isinstance(setting.control, Switch)}
    return {"defaults": dict(form), "switches": switches, "linked": linked, "ignored": ignored or []}


def accept(query: Mapping[str, str], form: Mapping[str, Any], deployment: Deployment
           ) -> tuple[dict[str, Any], list[str]]:
    """The fields that a query string fills in, and in words what was ignored of it, field by field."""
    ignored = [message for name in query if (message := _why_unknown(name))]
    values = {name: _value(name, query[name]) for name in FIELDS if query.get(name, "").strip()}
    for name, setting in PAGE_SETTINGS.items():
        if isinstance(setting.control, Switch) and values.get(name) not in (None, True, False):
            on, value = f"{setting.control.on:g}", repr(values.pop(name))
            ignored.append(say("link.switch", name=name, on=on, off=f"{setting.default:g}", value=value))
    embedded = values.get("model", form["model"]) == "embedded" and "scorer" not in values
    if embedded and values.get("target", LABELS[0]) not in LABELS:
        ignored.append(say("link.target", value=repr(values.pop("target")), one=LABELS[0], other=LABELS[1]))
    while messages := faults({**form, **values}, deployment):
        for name, message in messages.items():
            # At fault without standing in the link: what it is measured against or goes with does.
            blamed = name if name in values else "chat" if name == "prompt" else "max_tokens"
            if values.pop(blamed, None) is None:
                return values, ignored
            ignored.append(message)
    return values, ignored


def _why_unknown(name: str) -> str:
    """Why a parameter fills no field; nothing for one that does, or that others put into the address."""
    if name in declared() and name not in PAGE_SETTINGS:
        return say("link.elsewhere", name=name)
    close = [] if name in FIELDS else difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.8)
    return say("link.unknown", name=repr(name), meant=close[0]) if close else ""


def _value(name: str, text: str) -> Any:
    """A field's value. A text that is none where a number is due stays a text, and is found at fault as such."""
    if name == "prompt":
        return text
    if name == "chat":
        return _chat(text)
    setting = PAGE_SETTINGS[name]
    match setting.control:
        case NumberField():
            try:
                value = float(text)
            except ValueError:
                return text
            return int(value) if value.is_integer() else value
        case Switch(on):
            return {f"{on:g}": True, f"{setting.default:g}": False}.get(text.strip(), text)
    return text.strip()


def _chat(text: str) -> Any:
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
    return chat if readable and all(isinstance(part, str) for pair in pairs for part in pair) else text
