"""The About tab: how best-of-N works, the form's settings as code, and the cards of the built-in models."""

import gradio as gr

from bon.assets_folder import assets_folder
from bon.ui.components import ScriptView, fragment
from bon.ui.texts import label

MODELS = ("reviews", "sentiment", "reviews-positive", "judge", "weak")


def about_tab() -> None:
    """Lays the tab out."""
    with gr.Row(elem_id="about-columns"):
        with gr.Column(min_width=300):
            fragment("about_sampling")
            ScriptView(None, "samplingDemo", elem_id="play")
            fragment("about_models")
            _model_cards()
        with gr.Column(min_width=300):
            fragment("code_samples")


def _model_cards() -> None:
    """The models' cards, in English, without YAML header, title and the samples at the end."""
    for folder in MODELS:
        card = (assets_folder() / "models" / folder / "README.md").read_text(encoding="utf-8")
        _, _, text = card.split("---\n", 2)[-1].strip().partition("\n")
        with gr.Accordion(label(f"card.{folder}"), open=False, elem_classes="card"):
            gr.Markdown(text.split("\n## The first", 1)[0].strip())
