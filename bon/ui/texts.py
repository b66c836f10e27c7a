"""Translated texts for Gradio's own components, which look them up by key in the visitor's language."""

import re

import gradio as gr
from gradio.i18n import I18nData

from bon.messages import ENGLISH, tables

#: The folders before the last part of a path, also of one in a sum of scorers (`0.5*/models/judge+...`).
_FOLDERS = re.compile(r"(^|[*+] ?)(?=[./~\\]|[A-Za-z]:[/\\])[^*+]*[/\\](?=[^/\\*+ ])")


def label(key: str, otherwise: str = "") -> str:
    """A reference to the text of `key`, which Gradio translates in the browser; `otherwise` for an unknown key."""
    return str(I18nData(key)) if key in tables()[ENGLISH] else otherwise


def model_label(name: str) -> str:
    """A model or scorer for readers: of folders and files on the server's disk the last part of the path."""
    return _FOLDERS.sub(r"\1", name)


def translations() -> gr.I18n:
    """The tables of texts for Gradio, without those that take values or have plural forms.

    Keys that begin with `common.` are Gradio's own: texts that its translations lack.
    """
    return gr.I18n(**{
        tag: {key: text for key, text in table.items() if isinstance(text, str) and "{" not in text}
        for tag, table in tables().items()
    })
