"""The page: what stands where, and what is wired to what."""

import json
from typing import Any

import gradio as gr
from gradio import component_meta

from bon import messages, zerogpu
from bon.assets_folder import assets_folder
from bon.messages import say
from bon.models import presets
from bon.settings import SELECTIONS
from bon.ui import deployment, endpoint, error_log, share_links, theme
from bon.ui.batch import batch_page
from bon.ui.compare import comparison_view
from bon.ui.generate import handlers, run_view
from bon.ui.generate.form_fields import FIELDS, check
from bon.ui.texts import label
from bon.ui.work.speed_estimate import estimated

EXAMPLES = ("This movie", "The hotel room", "My new phone", "I was surprised that", "Dear management,")
#: Of messages, where a model answers.
QUESTIONS = ("Which film tonight?", "A hotel by the sea", "Why is the sky blue?", "A birthday wish")
#: Gradio's own word for "no endpoint, no spinner": what is public is `/best_of_n` alone.
PRIVATE = {"api_visibility": "private"}
QUIET = {**PRIVATE, "show_progress": "hidden"}
TABS = ("tab.generate", "tab.compare", "tab.batch", "tab.history", "tab.about")
#: What the line over the settings sums up, in the order in which `bon.summed` (page.js) takes it.
SUMMED = ("min_tokens", "max_tokens", "temperature", "top_p", "top_k", "seed", "reject", "select", "softness")
#: Runs of page and endpoint that are decoded together on the one device; more wait in line.
TURNS = {"concurrency_id": "device", "concurrency_limit": 8}


# For every component class Gradio writes a type stub beside its module, a folder that is not ours to write into.
component_meta.create_or_modify_pyi = lambda *_: None
error_log.keep_servers_quiet()


class Drawn(gr.HTML):
    """A value of plain JSON types that a script of ours draws, with `textContent` only.

    `draw` names a function of the scripts, called as bon.draw(element, props, watch, server, trigger). The template is
    empty on purpose: Gradio would evaluate text in it as JavaScript.
    """

    # Gradio makes it anew without its value where an update leaves that out.
    def __init__(self, value: Any = None, draw: str = "", scripts: tuple[str, ...] = (), **kwargs: Any):
        super().__init__(
            value, html_template="", js_on_load=f"bon.{draw}(element, props, watch, server, trigger);",
            head=theme.script(*scripts), apply_default_css=False, **kwargs,
        )

    def postprocess(self, value: Any) -> Any:
        """Sends the value, its texts to be said in the visitor's language."""
        return messages.encode_messages(value)

    def api_info(self) -> dict[str, Any]:
        """Any JSON."""
        return {}


class ViewOfRun(Drawn):
    """A view made by `bon.ui.generate.run_view`."""

    def postprocess(self, value: run_view.View) -> Any:
        """Packs the view for its way to the browser."""
        return run_view.pack(value)

    def preprocess(self, payload: Any) -> run_view.View:
        """The view that the browser has."""
        return run_view.unpack(payload)


class Labels(gr.Radio):
    """A choice of labels that may be made, by a link, before the scorer is loaded that has them."""

    is_template = True  # to the browser it is a gr.Radio

    def preprocess(self, payload: Any) -> Any:
        """The label as it is: the run says what is wrong with it."""
        return payload


def build() -> gr.Blocks:
    """The page, ready to launch, as the environment says at the moment (`bon.ui.deployment`)."""
    here = deployment.read()
    uploads = {"delete_cache": (3600, 86_400)}  # seconds: how often they are looked at, and how old they may be
    with gr.Blocks(title=say("page.title"), analytics_enabled=False, fill_width=True, **uploads) as page:
        chips = header()
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab(label(TABS[0]), id="generate") as first:
                form, view = generate_tab()
            with gr.Tab(label(TABS[1]), id="compare") as compare:
                compare_tab(form)
            with gr.Tab(label(TABS[2]), id="batch") as batch:
                batch_tab(batch, form)
            with gr.Tab(label(TABS[3]), id="history") as history:
                Drawn(None, "history", ("dom.js", "pair.js", "history.js"), elem_id="history")
            with gr.Tab(label(TABS[4]), id="about") as about:
                about_tab()
        wire(page, form, view, chips)
        about.select(None, [form[name] for name in FIELDS], None, js="(...all) => bon.code(...all)", **QUIET)
        tabs = [first, compare, batch, history, about]
        page.load(None, None, tabs, js=f"() => bon.tabs(...{json.dumps(TABS)})", **QUIET)
        endpoints()
    # Told of a Space, Gradio's page fetches fonts and a portrait of its owner from elsewhere.
    page.space_id = None
    return page.queue(max_size=here.queue)


def endpoints() -> None:
    """What is public: the endpoint `/best_of_n`, and the same as the one tool of the MCP server."""
    if theme.serves_agents():
        # The first of two functions of one name keeps the name as a tool; of no type that MCP knows, the other is none.
        gr.api(endpoint.tool, api_name="best_of_n_as_json", **TURNS)
        endpoint.best_of_n._mcp_type = "endpoint"
    gr.api(endpoint.best_of_n, api_name="best_of_n", **TURNS)


def fragment(name: str) -> gr.HTML:
    """A fixed piece of the page, from `assets/ui/`; a script puts its texts in."""
    return gr.HTML(theme.read(f"{name}.html"), elem_id=name, js_on_load="bon.dress(element);")


def line(text: str, elem_id: str) -> Drawn:
    """A line of text that may change."""
    return Drawn(text, "line", elem_id=elem_id)


def header() -> gr.HTML:
    """Name, one line, and the chips that say what runs."""
    with gr.Row(elem_id="header"):
        fragment("brand")
        shown = [say("chip.model", name=deployment.here().model), say("chip.loading")]
        chips = Drawn(shown, "chips", ("dom.js", "chips.js"), elem_id="chips")
        fragment("present")
        Drawn(None, "speaks", elem_id="language")
        return chips


def generate_tab() -> tuple[dict[str, Any], gr.HTML]:
    """The form on the left, the result on the right."""
    with gr.Row(elem_id="main"):
        with gr.Column(elem_id="form", scale=0, min_width=300):
            notice = Drawn(None, "linked", ("dom.js", "share.js"), elem_id="linked")
            form = {**prompt_fields(), **run_fields(), **settings_fields(), "notice": notice}
            notice.value = share_links.notice({name: form[name].value for name in FIELDS})
        with gr.Column(elem_id="result", scale=1, min_width=300):
            scripts = ("dom.js", "status.js", "tip.js", "charts.js", "files.js", "actions.js", "detail.js", "board.js",
                       "share.js", "store.js", "view.js")
            view = ViewOfRun(
                run_view.sample(theme.folder() / "sample.json"), "view", scripts, elem_id="view",
                server_functions=[handlers.opened, handlers.ranked, handlers.exported],
            )
    return form, view


def compare_tab(form: dict[str, Any]) -> None:
    """Base, tuned and best of N side by side: over one prompt, some, or those in the box."""
    with gr.Row(elem_id="compare-form"):
        texts = gr.Textbox(
            "", **named("compare.prompts"), lines=1, max_lines=8, placeholder=EXAMPLES[0], elem_id="compare-prompts",
            scale=4, min_width=240,
        )
        n = gr.Number(16, label=label("compare.n"), elem_id="compare-n", min_width=84, scale=0)
        start = gr.Button(label("compare.start"), variant="primary", elem_id="compare-start", min_width=120, scale=0)
        stop = gr.Button(label("stop"), elem_id="compare-stop", min_width=84, scale=0)
    shown = comparison_view.sample(theme.folder() / "comparison.json")
    view = Drawn(shown, "compare", ("dom.js", "status.js", "files.js", "compare.js"), elem_id="comparison")
    run = start.click(
        handlers.compare, [texts, n, *(form[name] for name in FIELDS)], view,
        show_progress="minimal", show_progress_on=view, **TURNS, **PRIVATE,
    )
    stop.click(None, cancels=[run], **QUIET)
    run.failure(comparison_view.stopped, view, view, queue=False, **QUIET)


def batch_tab(tab: gr.Tab, form: dict[str, Any]) -> None:
    """A file of prompts in, a file of winners or of training data out."""
    if zerogpu.is_on():
        line(say("batch.zerogpu"), "batch-elsewhere")
        return
    with gr.Column(elem_id="batch-form"):
        with gr.Row():
            file = gr.File(label=label("batch.file"), height=140, elem_id="batch-file", scale=1, min_width=240)
            pasted = gr.Textbox(
                "", **named("batch.paste"), lines=4, max_lines=4, placeholder="\n".join(EXAMPLES[:3]),
                elem_id="batch-paste", scale=1, min_width=240,
            )
        preview = Drawn({}, "batchPreview", scripts := ("dom.js", "status.js", "batch.js"), elem_id="batch-preview")
        rows = gr.State(0)
        chosen = batch_fields()
        with gr.Row(elem_id="batch-go"):
            start = gr.Button(label("batch.start"), variant="primary", elem_id="batch-start", min_width=120, scale=0)
            estimate = line("", "batch-estimate")
        shared = line("", "batch-shared")
        line(batch_page.limit(), "batch-limit")
    view = Drawn({}, "batch", scripts, elem_id="batch", server_functions=[batch_page.seen, batch_page.act])
    column = chosen["column"]
    looked_at = [preview, column, rows]
    found = {"trigger_mode": "always_last", "concurrency_limit": None, **QUIET}
    gr.on([file.change, pasted.change], batch_page.preview, [file, pasted], looked_at, **found)
    column.input(batch_page.preview, [file, pasted, column], looked_at, **found)
    sizes = [*(chosen[name] for name in batch_page.OWN[:3]), form["model"], form["scorer"]]
    gr.on(
        [rows.change, *(field.change for field in sizes)], batch_page.estimated, [rows, *sizes], estimate, queue=False,
        **found,
    )
    start.click(
        batch_page.start, [file, pasted, *chosen.values(), *(form[name] for name in FIELDS)], view,
        concurrency_limit=None, **QUIET,
    )
    same = [form[name] for name in batch_page.SHARED]
    tab.select(None, same, shared, js="(...all) => bon.shared(...all)", **QUIET)


def batch_fields() -> dict[str, Any]:
    """What is wanted of each row and of them all, in the order of `batched.start`."""
    narrow = {"min_width": 96, "scale": 1}
    plain = {"filterable": False, **narrow}
    with gr.Row(elem_id="batch-settings"):
        column = gr.Dropdown([], label=label("batch.column.choose"), visible=False, elem_id="batch-column", **narrow)
        results = [(label(f"batch.as.{name}"), name) for name in batch_page.RESULTS]
        form = gr.Dropdown(results, value="results", label=label("batch.as"), elem_id="batch-as", **plain)
        kinds = [(ending[1:].upper(), ending) for ending in batch_page.endings()]
        ending = gr.Dropdown(kinds, value=".jsonl", label=label("batch.format"), elem_id="batch-format", **plain)
        n = gr.Number(16, label=label("compare.n"), elem_id="batch-n", **narrow)
        low = gr.Number(8, label=label("form.min_tokens"), elem_id="batch-min", **narrow)
        high = gr.Number(32, label=label("form.max_tokens"), elem_id="batch-max", **narrow)
        seed = gr.Textbox(
            "", label=label("form.seed"), placeholder=label("batch.fresh"), max_lines=1, elem_id="batch-seed", **narrow
        )
    return {"column": column, "form": form, "ending": ending, "n": n, "min_tokens": low, "max_tokens": high,
            "seed": seed}


def about_tab() -> None:
    """How it works, the present settings as code, and the cards of the models in the box."""
    with gr.Row(elem_id="about-columns"):
        with gr.Column(min_width=300):
            fragment("how")
            Drawn(None, "play", ("dom.js", "tip.js", "charts.js", "actions.js", "about.js"), elem_id="play")
            fragment("about")
            model_cards()
        with gr.Column(min_width=300):
            fragment("code")


def model_cards() -> None:
    """The cards of the models in the box, in English as they are, without the samples at their ends."""
    for folder in ("reviews", "sentiment", "reviews-positive", "judge", "weak"):
        card = (assets_folder() / "models" / folder / "README.md").read_text(encoding="utf-8")
        _, _, text = card.split("---\n", 2)[-1].strip().partition("\n")
        with gr.Accordion(label(f"card.{folder}"), open=False, elem_classes="card"):
            gr.Markdown(text.split("\n## The first", 1)[0].strip())


def named(key: str) -> dict[str, str]:
    """A field's label and the line under it."""
    return {"label": label(key), "info": label(f"{key}.info")}


def prompt_fields() -> dict[str, Any]:
    """The prompt, what stands before it where it is a message of a chat, and examples of both."""
    chat = Drawn(None, "chat", ("dom.js", "chat.js"), elem_id="chat")
    chats = Drawn({"model": deployment.here().model, "chats": None}, "chats", elem_id="chats")
    prompt = gr.Textbox(
        EXAMPLES[0], label=label("form.prompt"), info=label(f"hint.{deployment.here().model}", label("hint")),
        placeholder=label("form.prompt.empty"), lines=2, max_lines=8, elem_id="prompt",
    )
    fragment("back")
    with gr.Row(elem_id="examples"):
        for text in EXAMPLES + QUESTIONS:
            kind = ["example", "question" if text in QUESTIONS else "beginning"]
            chip = gr.Button(text, size="sm", elem_classes=kind, min_width=0, scale=0)
            chip.click(None, None, prompt, js=f"() => {text!r}", **QUIET)
    chat.input(None, None, prompt, js="() => bon.asked()", **QUIET)
    return {"prompt": prompt, "chat": chat, "chats": chats}


def run_fields() -> dict[str, Any]:
    """How many, what for, and the two buttons."""
    with gr.Column(elem_id="candidates"):
        said = label("form.n")
        n = gr.Number(16, label=said, elem_id="n", min_width=80)
        slider = gr.Slider(1, 64, 16, step=1, label=said, show_label=False, buttons=[], elem_id="n-slider")
    slider.input(None, slider, n, js="(n) => n", **QUIET)
    n.input(None, n, slider, js="(n) => Math.min(64, Math.max(1, n ?? 1))", **QUIET)
    labels = [(label("label.positive"), "POSITIVE"), (label("label.negative"), "NEGATIVE")]
    target = Labels(labels, value="POSITIVE", label=label("form.target"), elem_id="target")
    with gr.Row(elem_id="buttons"):
        generate = gr.Button(label("form.generate"), variant="primary", elem_id="generate", min_width=0, scale=3)
        stop = gr.Button(label("stop"), elem_id="stop", min_width=0, scale=1)
    fragment("keys")
    estimate = line("", "estimate")
    if limits := deployment.here().words():
        line(limits, "limits")
    return {"estimate": estimate, "n": n, "slider": slider, "target": target, "generate": generate, "stop": stop}


def settings_fields() -> dict[str, Any]:
    """The line that sums the settings up, and the settings under it."""
    summary = gr.Button(label("form.settings"), elem_id="settings-line")
    with gr.Column(elem_id="settings"):
        return {"summary": summary, **sampling_fields(), **model_fields()}


def sampling_fields() -> dict[str, Any]:
    """How texts are drawn."""
    narrow = {"min_width": 100}
    with gr.Row():
        low = gr.Number(8, label=label("form.min_tokens"), elem_id="min_tokens", **narrow)
        high = gr.Number(32, label=label("form.max_tokens"), elem_id="max_tokens", **narrow)
    temperature = gr.Number(1, **named("form.temperature"), step=0.1, elem_id="temperature", **narrow)
    with gr.Row():
        top_p = gr.Number(1, **named("form.top_p"), step=0.05, elem_id="top_p", **narrow)
        top_k = gr.Number(0, **named("form.top_k"), elem_id="top_k", **narrow)
    with gr.Row(elem_id="seed-row"):
        # Not a gr.Number: an empty one shows and sends 0.
        seed = gr.Textbox(
            "", label=label("form.seed"), placeholder=label("form.seed.empty"), max_lines=1, elem_id="seed", **narrow
        )
        dice = gr.Button(label("form.dice"), elem_id="dice", min_width=0, scale=0)
    dice.click(None, None, seed, js="() => String(Math.floor(Math.random() * 2 ** 32))", **QUIET)
    reject = gr.Checkbox(False, **named("form.reject"), elem_id="reject")
    with gr.Row():
        rules = [(label(f"select.{rule}"), rule) for rule in SELECTIONS]
        select = gr.Dropdown(rules, value="best", label=label("form.select"), elem_id="select", **narrow)
        softness = gr.Number(0.1, **named("form.softness"), step=0.05, elem_id="softness", **narrow)
    fields = {"min_tokens": low, "max_tokens": high, "temperature": temperature, "top_p": top_p, "top_k": top_k}
    return {**fields, "seed": seed, "reject": reject, "select": select, "softness": softness}


def model_fields() -> dict[str, Any]:
    """Which model writes and which one scores."""
    here = deployment.here()
    names = list(here.models) if here.public else [spec.name for spec in presets.presets()]
    default = deployment.here().model
    free = {"allow_custom_value": True, "info": label("form.listed" if here.public else "form.named")}
    model = gr.Dropdown(
        names if default in names else [*names, default], value=default, label=label("form.model"), elem_id="model",
        **free,
    )
    scorers = [(label("scorer.own"), ""), (label("scorer.logprob"), "logprob"), (label("scorer.weak"), "weak")]
    if here.scorer and here.scorer not in ("logprob", "weak"):
        scorers.append((here.scorer, here.scorer))
    scorer = gr.Dropdown(scorers, value=here.scorer or "", label=label("form.scorer"), elem_id="scorer", **free)
    return {"model": model, "scorer": scorer}


def wire(page: gr.Blocks, form: dict[str, Any], view: gr.HTML, chips: gr.HTML) -> None:
    """Generate, Stop, and what happens when the page is opened or another model is chosen."""
    result = gr.State()  # what the view shows, for when it is stopped
    run = form["generate"].click(
        handlers.generate, [form[name] for name in FIELDS], [view, result], validator=check,
        show_progress="minimal", show_progress_on=view, **TURNS, **PRIVATE,
    )
    form["stop"].click(None, cancels=[run], **QUIET)
    sizes = [form[name] for name in ("model", "scorer", "n", "min_tokens", "max_tokens")]
    told = {"fn": estimated, "inputs": sizes, "outputs": form["estimate"], "queue": False, **QUIET}
    gr.on([page.load, *(field.change for field in sizes)], trigger_mode="always_last", **told)
    run.success(**told)
    run.failure(run_view.stopped, [view, result], view, queue=False, **QUIET)
    rules = [form[name] for name in ("target", "select", "softness")]
    gr.on([rule.input for rule in rules], None, rules, js="(...rules) => bon.rerank(...rules)", **QUIET)
    summed = [form[name] for name in SUMMED]
    gr.on(
        [page.load, *(field.change for field in summed)], None, summed, form["summary"],
        js="(...all) => bon.summed(...all)", **QUIET,
    )
    filled = fill_in(page, form)
    model, scorer, target = form["model"], form["scorer"], form["target"]
    prepare = (handlers.prepare, [model, scorer, target], [chips, target, form["chats"]])
    filled.then(*prepare, concurrency_limit=None, **QUIET)
    gr.on([model.change, scorer.change], *prepare, concurrency_limit=None, trigger_mode="always_last", **QUIET)


def fill_in(page: gr.Blocks, form: dict[str, Any]) -> Any:
    """The form as a link says when the page is opened, and as the browser's own scripts say (bon.enter) later."""
    fields = [*(form[name] for name in FIELDS), form["slider"]]
    first = {name: form[name].value for name in FIELDS}

    def linked(request: gr.Request) -> list[Any]:
        return share_links.linked(first, request)

    enter = gr.Button("Enter", elem_id="enter", visible="hidden")
    enter.click(None, None, fields, js="() => bon.entering()", **QUIET).then(
        None, None, None, js="() => bon.entered()", **QUIET
    )
    speak = gr.Button("Speak", elem_id="speak", visible="hidden")
    speak.click(None, fields[:-1], None, js="(...all) => bon.leave(...all)", **QUIET)
    opened = page.load(linked, None, [*fields, form["notice"]], concurrency_limit=None, **QUIET)
    return opened.then(None, None, fields, js="() => bon.returned()", **QUIET)
