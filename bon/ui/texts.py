"""The texts of Gradio's own components, which look them up by key in the visitor's language."""

import gradio as gr
from gradio.i18n import I18nData

from bon.messages import ENGLISH, tables


def label(key: str, otherwise: str = "") -> str:
    """A text for Gradio's own components, which say it in the visitor's language; `otherwise` for an unknown key."""
    return str(I18nData(key)) if key in tables()[ENGLISH] else otherwise


def translations() -> gr.I18n:
    """The texts without values, for Gradio's own components; `common.` ones are those that it lacks itself."""
    return gr.I18n(**{
        tag: {key: text for key, text in table.items() if isinstance(text, str) and "{" not in text}
        for tag, table in tables().items()
    })
