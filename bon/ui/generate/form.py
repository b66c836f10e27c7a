"""The form of the Generate tab: prompt, candidates, and a field for each setting, made from its declaration."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import gradio as gr

from bon.models import presets
from bon.models.files.memory import format_bytes
from bon.settings import OF_MODELS, LinesField, Menu, NumberField, Setting, Switch
from bon.ui.components import QUIET, ScriptView, fragment, label_and_info, text_line
from bon.ui.generate.form_values import FIELDS, PAGE_SETTINGS, first_value
from bon.ui.generate.share_links import SLIDER_MAX, notice
from bon.ui.hosting.deployment import Deployment
from bon.ui.texts import label, model_label

EXAMPLES = ("This movie", "The hotel room", "My new phone", "I was surprised that", "Dear management,")
#: Examples for models that answer messages.
QUESTIONS = ("Which film tonight?", "A hotel by the sea", "Why is the sky blue?", "A birthday wish")
#: The settings that are shown even where the others are folded.
FIRST_VIEW = ("n", "target")
#: The groups of the other settings, from top to bottom.
GROUPS = ("length", "sampling", "stopping", "choosing", "models")
#: The settings that the line above them sums up.
SUMMARIZED = tuple(name for group in GROUPS[:-1] for name, setting in PAGE_SETTINGS.items()
                   if setting.group == group and name not in FIRST_VIEW)
#: The fields' elements have the settings' names for ids, but for these.
ELEMENT_IDS = {"stop": "stop-strings"}  # `stop` is the button's
#: The settings whose values a model may bring along.
WITH_DEFAULTS = ("min_tokens", "max_tokens", *OF_MODELS)
#: The least width of a setting's field, in pixels.
FIELD_WIDTH = 100


class Labels(gr.Radio):
    """A choice of labels. A link may choose one before the scorer is loaded and its labels are listed."""

    is_template = True  # to the browser it is a gr.Radio

    def preprocess(self, payload: Any) -> Any:
        """The label, which need not be listed: the run checks it."""
        return payload


def form(deployment: Deployment) -> dict[str, Any]:
    """Lays the form out. Returns its components by name: those of `FIELDS`, slider, buttons, lines and link notice."""
    link_notice = ScriptView(None, "linkNotice", elem_id="linked")
    components = {**_prompt(deployment), **_first_view(deployment), **_settings(deployment), "notice": link_notice}
    link_notice.value = notice({name: components[name].value for name in FIELDS})
    return components


def defaults_as_json(components: dict[str, Any], names: Iterable[str]) -> str:
    """The values of these settings that links leave out, by name, for the page's scripts."""
    defaults = components["notice"].value["defaults"]
    return json.dumps({name: defaults[name] for name in names})


def _prompt(deployment: Deployment) -> dict[str, Any]:
    """The prompt, the messages before it in a chat, and examples of both."""
    chat = ScriptView(None, "chatField", elem_id="chat")
    chats = ScriptView({"model": deployment.model, "chats": None}, "chatSupport", elem_id="chats")
    hint = label(f"hint.{presets.short_name(deployment.model)}", label("hint"))
    prompt = gr.Textbox(
        EXAMPLES[0], label=label("form.prompt"), info=hint,
        placeholder=label("form.prompt.empty"), lines=2, max_lines=8, elem_id="prompt",
    )
    fragment("back_button", "back")
    with gr.Row(elem_id="examples"):
        for text in EXAMPLES + QUESTIONS:
            classes = ["example", "question" if text in QUESTIONS else "beginning"]
            chip = gr.Button(text, size="sm", elem_classes=classes, min_width=0, scale=0)
            chip.click(None, None, prompt, js=f"() => {text!r}", **QUIET)
    chat.input(None, None, prompt, js="() => bon.promptField()", **QUIET)
    return {"prompt": prompt, "chat": chat, "chats": chats}


def _first_view(deployment: Deployment) -> dict[str, Any]:
    """Number of candidates, target, and the buttons Generate and Stop."""
    with gr.Column(elem_id="candidates"):
        n_label, n_value = label("form.n"), first_value(PAGE_SETTINGS["n"])
        n = gr.Number(n_value, label=n_label, elem_id="n", min_width=80)
        slider = gr.Slider(
            1, SLIDER_MAX, n_value, step=1, label=n_label, show_label=False, buttons=[], elem_id="n-slider"
        )
    slider.input(None, slider, n, js="(n) => n", **QUIET)
    n.input(None, n, slider, js="(n) => bon.sliderValue(n)", **QUIET)
    labels = [(label("label.positive"), "POSITIVE"), (label("label.negative"), "NEGATIVE")]
    target = Labels(labels, value="POSITIVE", label=label("form.target"), elem_id="target")
    with gr.Row(elem_id="buttons"):
        generate = gr.Button(label("form.generate"), variant="primary", elem_id="generate", min_width=0, scale=3)
        stop = gr.Button(label("stop"), elem_id="stop", min_width=0, scale=1)
    fragment("shortcut_hint", "keys")
    estimate = text_line("", "estimate")
    if limits := deployment.limits():
        text_line(limits, "limits")
    return {"estimate": estimate, "n": n, "slider": slider, "target": target, "generate": generate, "stop_button": stop}


def _settings(deployment: Deployment) -> dict[str, Any]:
    """The line that sums the settings up, and under it a row of fields for each row of settings."""
    # Without a text of Gradio's, which would take the place of the line's where the page changes the language.
    components: dict[str, Any] = {"summary": gr.Button("", elem_id="settings-line")}
    with gr.Column(elem_id="settings"):
        components["origins"] = text_line("", "origins")
        for row in _rows():
            if len(row) == 1 and row[0].name != "seed":
                components[row[0].name] = _field(row[0], deployment)
                continue
            with gr.Row(elem_id=f"{row[0].name}-row"):
                components |= {setting.name: _field(setting, deployment) for setting in row}
                if row[0].name == "seed":
                    dice = gr.Button(label("form.dice"), elem_id="dice", min_width=0, scale=0)
                    roll = "() => String(Math.floor(Math.random() * 2 ** 32))"
                    dice.click(None, None, components["seed"], js=roll, **QUIET)
    return components


def _rows() -> Iterator[list[Setting]]:
    """The settings under the line, a list for each row of the form."""
    for group in GROUPS:
        row: list[Setting] = []
        for setting in PAGE_SETTINGS.values():
            if setting.group == group and setting.name not in FIRST_VIEW:
                if row and not setting.beside:
                    yield row
                    row = []
                row.append(setting)
        if row:
            yield row


def _field(setting: Setting, deployment: Deployment) -> Any:
    """The component of a setting."""
    element_id = ELEMENT_IDS.get(setting.name, setting.name)
    options: Any = {"elem_id": element_id, "min_width": FIELD_WIDTH, **label_and_info(setting.label)}
    if setting.name in ("model", "scorer"):
        return {"model": _model, "scorer": _scorer}[setting.name](deployment)
    match setting.control:
        case NumberField(step):
            return gr.Number(first_value(setting), step=step, **options)
        case Switch():
            return gr.Checkbox(first_value(setting), elem_classes="switch", **options)
        case Menu(choices):
            labeled_choices = [(label(f"{setting.name}.{choice}"), choice) for choice in choices]
            return gr.Dropdown(labeled_choices, value=first_value(setting), **options)
        case LinesField():
            return gr.Textbox(first_value(setting), placeholder=label(f"{setting.label}.empty"), lines=2, **options)
    # Whole numbers that may be empty, such as a seed, are text boxes too: an empty gr.Number shows and sends 0.
    return gr.Textbox(first_value(setting), placeholder=label(f"{setting.label}.empty"), max_lines=1, **options)


def _model(deployment: Deployment) -> gr.Dropdown:
    names = list(deployment.models) if deployment.public else [spec.exact_name for spec in presets.presets()]
    choices = dict.fromkeys([*names, deployment.model])
    return gr.Dropdown(
        [(_menu_label(name), name) for name in choices], value=deployment.model, label=label("form.model"),
        elem_id="model", **_free_text(deployment, "form.model"),
    )


def _menu_label(name: str) -> str:
    """A model's name in the menu: of a preset that does not come with bon, with its size; ↓ where it is downloaded."""
    spec = presets.preset(name)
    if spec is None or spec.built_in:
        return model_label(name)
    size = presets.local_bytes(spec.model)
    return f"{spec.name} · {format_bytes(size) if size else '↓ ' + format_bytes(spec.download)}"


def _scorer(deployment: Deployment) -> gr.Dropdown:
    choices = [(label("scorer.own"), ""), (label("scorer.logprob"), "logprob"), (label("scorer.weak"), "weak")]
    if deployment.scorer and deployment.scorer not in ("logprob", "weak"):
        choices.append((deployment.scorer, deployment.scorer))
    return gr.Dropdown(
        choices, value=deployment.scorer or "", label=label("form.scorer"), elem_id="scorer",
        **_free_text(deployment, "form.scorer"),
    )


def _free_text(deployment: Deployment, key: str) -> Any:
    return {"allow_custom_value": True, "info": label(f"{key}.{'listed' if deployment.public else 'named'}")}
