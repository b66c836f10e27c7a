"""Translated texts for Gradio's own components, which look them up by key in the visitor's language."""

import gradio as gr
from gradio.i18n import I18nData

from bon.messages import ENGLISH, tables


def label(key: str, otherwise: str = "") -> str:
    """A reference to the text of `key`, which Gradio translates in the browser; `otherwise` for an unknown key."""
    return str(I18nData(key)) if key in tables()[ENGLISH] else otherwise


def translations() -> gr.I18n:
    """The tables of texts for Gradio, without those that take values or have plural forms.

    Keys that begin with `common.` are Gradio's own: texts that its translations lack.
    """
    return gr.I18n(**{
        tag: {key: text for key, text in table.items() if isinstance(text, str) and "{" not in text}
        for tag, table in tables().items()
    })
