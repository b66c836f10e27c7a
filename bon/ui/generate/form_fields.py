"""The page's fields: what they are called, the request that they make, and what is wrong with them."""

import dataclasses
from typing import Any

import gradio as gr

from bon.errors import InputError
from bon.messages import encode_messages, say
from bon.settings import Request, Settings, whole
from bon.ui import deployment

#: The page's inputs, in order; each is named as in `Settings`.
FIELDS = (
    "prompt", "n", "target", "min_tokens", "max_tokens", "temperature", "top_p", "top_k", "seed", "model", "scorer",
    "reject", "select", "softness", "chat",
)
#: What the page's switch for early rejection stands for.
REJECT = 0.5
PAGE_N_MAX = 256


def request_of(values: dict[str, Any]) -> Request:
    """The page's inputs as a request. Raises `InputError` with the field at fault."""
    own = ("prompt", "chat")
    given = {name: value for name, value in values.items() if name not in own and value not in (None, "")}
    if "n" in values:
        given["n"] = whole("n", values["n"], 1, PAGE_N_MAX)
    if given.get("seed", "").strip().isdecimal():
        given["seed"] = int(given["seed"])
    for name in ("min_tokens", "max_tokens", "temperature", "top_p", "top_k", "softness"):
        given[name] = values[name]
    given["reject"] = REJECT if values.get("reject") else 0
    request = asked(values["prompt"], values.get("chat"), Settings.of(given))
    deployment.here().check(request)
    return request


def settings_of(values: dict[str, Any]) -> Settings:
    """The settings alone, for the best continuations of prompts that stand elsewhere, with none dropped early.

    Raises `InputError` with the field at fault.
    """
    return request_of({**values, "prompt": "-", "reject": False, "select": "best", "chat": None}).settings


def asked(prompt: str, chat: Any, settings: Settings) -> Request:
    """What the entry asks for: a text to continue, or the next message of a chat.

    chat: what was said before, as messages, the system's among them; nothing where the entry is a text.
    """
    if not isinstance(chat, list):
        if chat:
            raise InputError("chat", say("error.chat"))
        return Request(prompt, settings)
    try:
        return Request(settings=settings, messages=[*chat, {"role": "user", "content": prompt}])
    except InputError as error:
        raise InputError("prompt", error.message) from error


def faults(values: dict[str, Any]) -> dict[str, str]:
    """What is wrong with the page's inputs: field -> message, all of them at once."""
    good = {f.name: f.default for f in dataclasses.fields(Settings)}
    good |= {"prompt": "-", "chat": None, "model": deployment.here().model}
    values, found = dict(values), {}
    for _ in range(2 * len(values)):
        try:
            request_of(values)
            break
        except InputError as error:
            # At fault again although it has its default: then what it is measured against, the most tokens, is.
            again = error.field in found
            found.setdefault(error.field, error.message)
            name = "max_tokens" if again else error.field
            values[name] = good[name]
    return found


def check(*values: Any) -> list[dict]:
    """Gradio's validator: a message beside each field that cannot work."""
    found = faults(dict(zip(FIELDS, values, strict=True)))
    return [gr.validate(name not in found, encode_messages(found.get(name, ""))) for name in FIELDS]
