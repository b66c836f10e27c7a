"""The form's values: what its fields hold at first, the request that they make, and what is wrong with them."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from bon.errors import InputError
from bon.messages import encode_messages, say
from bon.settings import Menu, NumberField, Request, Setting, Settings, Switch, declared, whole
from bon.ui.hosting.deployment import Deployment

#: The settings on the page, in the order of their declarations.
PAGE_SETTINGS = {name: setting for name, setting in declared().items() if setting.control}
#: The form's inputs, in order.
FIELDS = ("prompt", *PAGE_SETTINGS, "chat")
#: The most candidates of a run on the page.
PAGE_N_MAX = 256


def first_value(setting: Setting) -> Any:
    """What the field of a setting holds at first."""
    match setting.control:
        case NumberField():
            return setting.default
        case Switch():
            return False
    return setting.default or ""


def setting_value(setting: Setting, value: Any) -> Any:
    """The setting that a field's value means; None where it names none. Raises `InputError` for an empty number."""
    match setting.control:
        case NumberField():
            return setting.check(setting.name, value)
        case Switch(on):
            return on if value else setting.default
        case Menu():
            return value or None
    text = str(value or "").strip()
    return int(text) if setting.numeric and text.isdecimal() else text or None


def request_of(values: Mapping[str, Any], deployment: Deployment) -> Request:
    """The form's values as a request. Raises `InputError` with the field at fault."""
    settings: dict[str, Any] = {"n": whole("n", values["n"], 1, PAGE_N_MAX)}
    settings |= {name: setting_value(setting, values.get(name)) for name, setting in PAGE_SETTINGS.items()}
    request = _request(values["prompt"], values.get("chat"), Settings.of(settings))
    deployment.check(request)
    return request


def settings_of(values: Mapping[str, Any], deployment: Deployment) -> Settings:
    """The settings alone, for prompts that stand elsewhere: a comparison or a batch keeps every candidate's best.

    Raises `InputError` with the field at fault.
    """
    others = {name: first_value(setting) for name, setting in PAGE_SETTINGS.items() if not setting.compared}
    return request_of({**values, **others, "prompt": "-", "chat": None}, deployment).settings


def _request(prompt: str, chat: Any, settings: Settings) -> Request:
    """A text to continue, or the next message of a chat.

    chat: the messages before it, the system's among them; nothing where the entry is a text.
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
    """What is wrong with the form's values: field -> message, all of them at once."""
    good = {name: first_value(setting) for name, setting in PAGE_SETTINGS.items()}
    good |= {"prompt": "-", "chat": None, "model": deployment.model}
    values, messages = dict(values), dict[str, str]()
    for _ in range(2 * len(values)):
        try:
            request_of(values, deployment)
            break
        except InputError as error:
            # At fault again although it has its default: then the most tokens, which it is measured against, are.
            name = "max_tokens" if error.field in messages else error.field
            messages.setdefault(error.field, error.message)
            values[name] = good[name]
    return messages


def validate(values: Mapping[str, Any], deployment: Deployment) -> list[dict[str, Any]]:
    """For Gradio's validator: a message beside each field that cannot work."""
    messages = faults(values, deployment)
    return [gr.validate(name not in messages, encode_messages(messages.get(name, ""))) for name in FIELDS]
