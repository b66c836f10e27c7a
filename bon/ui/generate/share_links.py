"""Share links: the form's values from the query string of the page's address.

`assets/ui/share_links.js` makes the links. Opening one fills in the form and runs nothing.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bon.messages import say
from bon.models import presets
from bon.settings import LinesField, NumberField, Switch, declared
from bon.ui.generate.form_values import FIELDS, PAGE_SETTINGS, faults
from bon.ui.hosting.deployment import Deployment

#: The labels of the built-in scorer, by which a link is checked before any scorer is loaded.
LABELS = ("POSITIVE", "NEGATIVE")
#: The right end of the slider for the number of candidates.
SLIDER_MAX = 64


def fill_form(query: Mapping[str, str], form: Mapping[str, Any], deployment: Deployment) -> dict[str, Any]:
    """The value of the notice above the form for a page with this query string. form: the fields' first values."""
    values, ignored = accept(query, form, deployment)
    if values:  # a switch that a link leaves out is off, whatever it is without a link
        values = {name: False for name in PAGE_SETTINGS if form[name] is True} | values
    return notice(form, values, ignored)


def notice(form: Mapping[str, Any], values: Mapping[str, Any] | None = None, ignored: Sequence[str] = ()
           ) -> dict[str, Any]:
    """The value of the notice above the form: whether a link filled in the form, with which values of which fields, and
    what of it was ignored.

    The page's scripts read there too: the fields' first values, those that links leave out, also of presets, the
    settings' values that each switch stands for, which fields hold texts on lines, and the largest N of the slider.
    """
    switches = {name: {"on": setting.control.on, "off": setting.default} for name, setting in PAGE_SETTINGS.items()
                if isinstance(setting.control, Switch)}
    lines = [name for name, setting in PAGE_SETTINGS.items() if isinstance(setting.control, LinesField)]
    of_presets = {spec.name: dict(spec.settings) for spec in presets.presets() if spec.settings}
    form_facts = {"first_values": dict(form), "defaults": {**form, **dict.fromkeys(switches, False)},
                  "presets": of_presets, "switches": switches, "lines": lines, "slider_max": SLIDER_MAX}
    return form_facts | {"linked": bool(values or ignored), "values": dict(values or {}), "ignored": list(ignored)}


def accept(query: Mapping[str, str], form: Mapping[str, Any], deployment: Deployment
           ) -> tuple[dict[str, Any], list[str]]:
    """The values that a query string gives to fields, and a message for each parameter that is ignored."""
    ignored = [message for name in query if (message := _unknown_message(name))]
    values = {name: _value(name, query[name]) for name in FIELDS if _holds(name, query.get(name, ""))}
    if (model := values.get("model")) and model == presets.short_name(model) and not deployment.is_on_server(model):
        values["model"] = presets.exact_name(model)  # as the menu has it
    if values:  # a link leaves out what its preset brings along
        values = deployment.preset_values(values.get("model", form["model"])) | values
    for name, setting in PAGE_SETTINGS.items():
        if isinstance(setting.control, Switch) and values.get(name) not in (None, True, False):
            on, off, value = _word(setting.control.on), _word(setting.default), repr(values.pop(name))
            ignored.append(say("link.switch", name=name, on=on, off=off, value=value))
    embedded = values.get("model", form["model"]) == "embedded" and "scorer" not in values
    if embedded and values.get("target", LABELS[0]) not in LABELS:
        ignored.append(say("link.target", value=repr(values.pop("target")), one=LABELS[0], other=LABELS[1]))
    while messages := faults({**form, **values}, deployment):
        for name, message in messages.items():
            # A field that the link does not name is at fault because of one that it names.
            cause = name if name in values else "chat" if name == "prompt" else "max_tokens"
            if values.pop(cause, None) is None:
                return values, ignored
            ignored.append(message)
    return values, ignored


def _holds(name: str, text: str) -> bool:
    """Whether a link's text gives a field a value; white space does only where the texts of lines may be of it."""
    return bool(text if name in PAGE_SETTINGS and isinstance(PAGE_SETTINGS[name].control, LinesField) else text.strip())


def _unknown_message(name: str) -> str:
    """Why a parameter is ignored: it is no field of the page, or looks like a misspelt one; else empty."""
    if name in declared() and name not in PAGE_SETTINGS:
        return say("link.elsewhere", name=name)
    close = [] if name in FIELDS else difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.8)
    return say("link.unknown", name=repr(name), meant=close[0]) if close else ""


def _value(name: str, text: str) -> Any:
    """A field's value from its text in a link. A text that is no number stays a text, which `faults` then refuses."""
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
        case LinesField():
            return text
        case Switch(on):
            return {_word(on): True, _word(setting.default): False}.get(text.strip(), text)
    return text.strip()


def _word(value: float | str) -> str:
    """A setting's value as a link has it."""
    return value if isinstance(value, str) else f"{value:g}"


def _chat(text: str) -> Any:
    """The messages of a link, where they are pairs of role and content; False for `0`, which turns the chat off.

    A text that cannot be parsed stays a text, which `faults` then refuses.
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
