"""The form's values: the first ones, the request made from them, and what is wrong with them."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from bon.errors import InputError
from bon.messages import encode_messages, say
from bon.settings import (
    LinesField,
    Menu,
    NumberField,
    Request,
    Setting,
    Settings,
    Switch,
    declared,
    parse_digits,
    read_escapes,
    whole,
)
from bon.ui.hosting.deployment import Deployment

#: The settings on the page, in the order of their declarations.
PAGE_SETTINGS = {name: setting for name, setting in declared().items() if setting.control}
#: The names of the form's inputs, in order.
FIELDS = ("prompt", *PAGE_SETTINGS, "chat")
#: The most candidates of a run on the page.
PAGE_N_MAX = 256


def first_value(setting: Setting) -> Any:
    """The value of a setting's field when the page opens."""
    match setting.control:
        case NumberField():
            return setting.default
        case Switch(ticked=ticked):
            return ticked
    return setting.default or ""


def setting_value(setting: Setting, value: Any) -> Any:
    """A setting's value from its field's value; None for an empty field. Raises `InputError` for an empty number."""
    match setting.control:
        case NumberField():
            return setting.check(setting.name, value)
        case Switch(on):
            return on if value else setting.default
        case Menu():
            return value or None
        case LinesField():
            return tuple(read_escapes(line) for line in str(value or "").split("\n") if line)
    text = str(value or "").strip()
    return parse_digits(text) if setting.numeric and text.isdecimal() else text or None


def request_of(values: Mapping[str, Any], deployment: Deployment) -> Request:
    """The request of the form's values. Raises `InputError`, with the field's name, for a value that cannot work."""
    # Before `Settings`, which takes more than the page does; the error names the owner's number where that is less.
    owner_allows_fewer = deployment.public and deployment.n <= PAGE_N_MAX
    deployment.check_candidates(whole("n", values["n"], 1, None if owner_allows_fewer else PAGE_N_MAX))
    settings = {name: setting_value(setting, values.get(name)) for name, setting in PAGE_SETTINGS.items()}
    request = _request(values["prompt"], values.get("chat"), Settings.of(settings))
    deployment.check(request)
    return request


def settings_of(values: Mapping[str, Any], deployment: Deployment) -> Settings:
    """The settings of the form's values, for the prompts of a comparison or a batch.

    Settings that a comparison does not take have their first values, whatever the form holds. Raises as `request_of`.
    """
    others = {name: first_value(setting) for name, setting in PAGE_SETTINGS.items() if not setting.compared}
    return request_of({**values, **others, "prompt": "-", "chat": None}, deployment).settings


def _request(prompt: str, chat: Any, settings: Settings) -> Request:
    """The request of a text to continue, or of the next message of a chat.

    chat: the messages before it, the system message included; None, False or empty for a text to continue.
    """
    if not isinstance(chat, list):
        if chat:
            raise InputError("chat", say("error.chat"))
        return Request(prompt, settings)
    try:
        return Request(settings=settings, messages=(*chat, {"role": "user", "content": prompt}))
    except InputError as error:
        raise InputError("prompt", error.message) from error


def faults(values: Mapping[str, Any], deployment: Deployment) -> dict[str, str]:
    """The messages for all values of the form that cannot work, by field.

    `request_of` raises for one field at a time, so a field at fault gets a valid value and the rest is checked again.
    """
    valid = {name: first_value(setting) for name, setting in PAGE_SETTINGS.items()}
    valid |= {"prompt": "-", "chat": None, "model": deployment.model}
    values, messages = dict(values), dict[str, str]()
    for _ in range(2 * len(values)):
        try:
            request_of(values, deployment)
            break
        except InputError as error:
            # A field that is at fault with a valid value too is `prompt` after a long chat, or `min_tokens` above
            # `max_tokens`.
            name = error.field
            if name in messages:
                name = "chat" if name == "prompt" else "max_tokens"
            messages.setdefault(error.field, error.message)
            values[name] = valid[name]
    return messages


def validate(values: Mapping[str, Any], deployment: Deployment) -> list[dict[str, Any]]:
    """Gradio's validation of each field, in the order of `FIELDS`, with a message where the value cannot work."""
    messages = faults(values, deployment)
    return [gr.validate(name not in messages, encode_messages(messages.get(name, ""))) for name in FIELDS]
