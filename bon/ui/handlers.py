"""What happens when the page is used or the endpoint is called: check, load, stream, show.

Page and endpoint read the same `snapshots`; the one draws them as views, the other sends them as dicts. torch comes
in with the first model, on a thread of its own, so that the page answers at once.
"""

import dataclasses
import functools
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from typing import Any

import gradio as gr

from bon import zerogpu
from bon.errors import BonError, InputError
from bon.prompts import checked_prompts, shipped_prompts
from bon.schema import Done, Event, Request, Result, Settings, Wrote, whole
from bon.state import RunState
from bon.ui import borrowed, deployment, estimate, render
from bon.ui.guests import guests
from bon.ui.journal import log, report
from bon.ui.texts import label, say
from bon.wording import label_words

#: The page's inputs, in order; each is named as in `Settings`.
FIELDS = (
    "prompt", "n", "target", "min_tokens", "max_tokens", "temperature", "top_p", "top_k", "seed", "model", "scorer",
    "reject", "select", "softness", "chat",
)
#: What the page's switch for early rejection stands for.
REJECT = 0.5
PAGE_N_MAX = 256
#: Seconds between two updates of a view: what an eye still takes for writing, and a browser for nothing.
EVERY = 0.1
#: Seconds between two drafts of a run, by which the browser keeps it should the server not live to end it.
DRAFT_EVERY = 2.0
UNEXPECTED = say("error.unexpected")

speeds = estimate.Speeds()
_loaders = ThreadPoolExecutor(max_workers=16, thread_name_prefix="load")


def default_model() -> str:
    """The page's model before anyone chooses: the one in the box, or what BON_MODEL names."""
    return deployment.here().model


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
        raise InputError("prompt", str(error)) from error


def faults(values: dict[str, Any]) -> dict[str, str]:
    """What is wrong with the page's inputs: field -> message, all of them at once."""
    good = {f.name: f.default for f in dataclasses.fields(Settings)}
    good |= {"prompt": "-", "chat": None, "model": default_model()}
    values, found = dict(values), {}
    for _ in range(2 * len(values)):
        try:
            request_of(values)
            break
        except InputError as error:
            # At fault again although it has its default: then what it is measured against, the most tokens, is.
            again = error.field in found
            found.setdefault(error.field, str(error))
            name = "max_tokens" if again else error.field
            values[name] = good[name]
    return found


def check(*values: Any) -> list[dict]:
    """Gradio's validator: a message beside each field that cannot work."""
    found = faults(dict(zip(FIELDS, values, strict=True)))
    return [gr.validate(name not in found, found.get(name, "")) for name in FIELDS]


def generate(visitor: gr.Request, *values: Any) -> Iterator[tuple[render.View, Result | None]]:
    """One run for the page: views, from the first word to the last, each with the result that it shows."""
    result, draft, drawn_up = None, "", time.monotonic()
    try:
        request = request_of(dict(zip(FIELDS, values, strict=True)))
        deployment.here().admit(visitor)
        for phase, result in snapshots(request):
            if phase == "writing" and time.monotonic() - drawn_up >= DRAFT_EVERY:
                draft, drawn_up = render.draft(result), time.monotonic()
            yield show(phase, result, request) | {"draft": draft}, result
    except BonError as error:
        yield render.broken(result, str(error)) | {"field": getattr(error, "field", None)}, result
    except Exception as error:
        report("A run failed", error)
        yield render.broken(result, UNEXPECTED), result


def show(phase: str, result: Result | None, request: Request) -> render.View:
    """The view of one snapshot."""
    if result is None:
        return render.loading(request.settings.model)
    return render.done(result) if phase == "done" else render.writing(result)


def opened(record: str) -> dict[str, Any]:
    """The packed view of a run that the browser kept."""
    return _packed(lambda: render.ended(render.read(record)))


def ranked(asked: dict[str, Any], visitor: gr.Request) -> dict[str, Any]:
    """The packed view of a run that has ended, ranked by another label or rule, with no new generation.

    asked: the run's `record`, `target`, `select` and `softness`.
    """

    def view() -> render.View:
        result = render.read(asked["record"])
        settings = result.settings
        deployment.here().check_record(result)
        deployment.here().admit(visitor)
        rules = (asked["target"] or None, asked["select"], asked["softness"])
        if zerogpu.is_on():
            return render.ended(borrowed.rerank(result, *rules))
        return render.ended(reranked(load(settings.model, settings.scorer).result(), result, *rules))

    return _packed(view)


def reranked(sampler: Any, result: Result, target: str | None, select: str, softness: float) -> Result:
    """A run ranked by another label, where the scorer has any, or rule."""
    target = target if sampler.scorer.targets else None
    return sampler.rerank(result, target=target, select=select, softness=softness)


def exported(asked: dict[str, str]) -> str:
    """A run as a file. asked: its `record`, and the `kind`: json, csv or html."""
    from bon import export

    make = {"json": export.run_json, "csv": export.run_csv, "html": export.run_html}[asked["kind"]]
    return make(render.read(asked["record"]))


def _packed(view: Callable[[], render.View]) -> dict[str, Any]:
    try:
        return render.pack(view())
    except BonError as error:
        return render.pack(render.failed(str(error)))
    except Exception as error:
        report("A run could not be shown again", error)
        return render.pack(render.failed(UNEXPECTED))


def best_of_n(
    prompt: str = "",
    n: int = 16,
    target: str | None = None,
    min_tokens: int = 8,
    max_tokens: int = 32,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int | None = None,
    model: str | None = None,
    scorer: str | None = None,
    keep: int | None = None,
    unit: str = "probability",
    reject: float = 0.0,
    select: str = "best",
    softness: float = 0.1,
    messages: list[dict[str, str]] | None = None,
    visitor: gr.Request | None = None,
) -> Iterator[dict]:
    """Continue the prompt n times, score every continuation, return them best first.

    The result grows while the run goes on; the last one is complete.

    Args:
        prompt: the beginning of a text, which the model continues; empty where messages are given.
        n: how many continuations, 1 to 4096.
        target: the scorer's label to look for the most of; none means POSITIVE.
        min_tokens: the least a continuation's cap can be; each cap is drawn between this and max_tokens.
        max_tokens: the most a continuation's cap can be.
        temperature: above 0; below 1 plays safe, above 1 takes risks.
        top_p: above 0, at most 1; 1 is off.
        top_k: 0 is off.
        seed: the same seed gives the same continuations; none draws a fresh one, which the result names.
        model: a preset, a folder or a Hub id; none is the page's own.
        scorer: a preset, a folder or a Hub id; none is the model's own.
        keep: how many of the ranked continuations to return; none is all.
        unit: of the score: probability, logit or margin.
        reject: 0, or the share of the unfinished continuations that is dropped at each checkpoint, below 1.
        select: who comes first: best, worst, or soft, a draw that favours high scores.
        softness: of that draw, in the score's unit; small is nearly the best, large nearly one plain sample.
        messages: a chat for a model that has a chat template: a list of objects with role (system, user, assistant)
            and content; the model answers the last one.

    Returns:
        The result so far: prompt, settings, candidates (best first), stats, timing, notes.
    """
    named = {name: value for name, value in locals().items() if name not in ("prompt", "messages", "visitor")}
    try:
        settings = Settings.of({**named, "model": model or default_model()})
        request = Request(prompt if prompt or messages is None else None, settings, messages)
        deployment.here().check(request)
        deployment.here().admit(visitor)
        for _, result in snapshots(request):
            if result is not None:
                yield result.to_dict()
    except BonError as error:
        raise gr.Error(str(error), print_exception=False) from error
    except Exception as error:
        report("A run of the endpoint failed", error)
        raise gr.Error(UNEXPECTED, print_exception=False) from None


@functools.wraps(best_of_n)
def tool(*given: Any, **named: Any) -> str:
    """`best_of_n` under the same name for agents, which read results as text: the last one, as JSON."""
    return json.dumps(deque(best_of_n(*given, **named), maxlen=1).pop())


tool.__annotations__ = {**best_of_n.__annotations__, "return": str}


def snapshots(request: Request) -> Iterator[tuple[str, Result | None]]:
    """The run's phase and its result so far, about ten times a second; ends with ("done", the result).

    Closing it stops the work within one step.
    """
    run = borrowed.run(request) if zerogpu.is_on() else _loaded_and_run(request)
    with guests.one(), closing(run) as values:
        for phase, result in values:
            if phase == "done":
                speeds.note(result)
            yield phase, result


def _loaded_and_run(request: Request) -> Iterator[tuple[str, Result | None]]:
    settings = request.settings
    waiting = load(settings.model, settings.scorer, target=settings.target, unit=settings.unit)
    while not arrived(waiting):
        yield "loading", None
    yield from shown(request, waiting.result())


def shown(request: Request, sampler: Any) -> Iterator[tuple[str, Result]]:
    """The phase and the result so far of a run of a loaded `bon.Sampler`."""
    settings, own = request.settings, {"model", "scorer"}
    chosen = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings) if f.name not in own}
    given = {"prompt": request.prompt} if request.messages is None else {"messages": request.messages}
    with closing(sampler.stream(**given, **chosen)) as events:
        # Many candidates make a large message: those come less often.
        yield from thinned(events, EVERY * max(1.0, settings.n / PAGE_N_MAX))


def thinned(events: Iterator[Event], every: float = EVERY) -> Iterator[tuple[str, Result]]:
    """The events of a run added up, at most once in `every` seconds; the start, the first words and the end at once."""
    state, last, begun = RunState(), -math.inf, False
    try:
        for event in events:
            if isinstance(event, Done):
                yield "done", event.result
                return
            state.add(event)
            first = isinstance(event, Wrote) and not begun
            begun = begun or first
            if first or time.monotonic() - last >= every:
                yield "writing", state.result()
                last = time.monotonic()
    except Exception:
        if state.started:  # what was held back since the last update must not be lost
            yield "writing", state.result()
        raise


def compare(visitor: gr.Request, text: str, n: Any, *values: Any) -> Iterator[render.View]:
    """One comparison for the page, over the lines of `text`; without any, over the prompts in the box.

    values: of the form's `FIELDS`, whose settings hold here too.
    """
    from bon.ui import compared

    showing = None
    try:
        form = dict(zip(FIELDS, values, strict=True)) | {"n": n, "prompt": "-", "reject": False, "select": "best",
                                                          "chat": None}
        settings = request_of(form).settings
        prompts = checked_prompts(text.splitlines()) if (text or "").strip() else shipped_prompts()
        deployment.here().check_prompts(prompts, settings)
        deployment.here().admit(visitor, len(prompts))
        if zerogpu.is_on():
            yield from borrowed.compare(prompts, settings)
            return
        waiting = _loaders.submit(_contest, settings)
        while not arrived(waiting):
            yield compared.loading()
        events = _comparison(prompts, waiting.result(), settings)
        showing = compared.Showing(len(prompts))
        with guests.one(), closing(events):
            yield from _compared(showing, events)
    except Exception as error:
        if not isinstance(error, BonError):
            report("A comparison failed", error)
        said = str(error) if isinstance(error, BonError) else UNEXPECTED
        yield showing.view("failed", said) if showing else render.failed(said)


def _contest(settings: Settings) -> Any:
    from bon.contest import contest

    if deployment.here().is_remote(settings.model):
        raise InputError("model", say("error.served"))
    kind = {"target": settings.target} if settings.target else {}
    return contest(settings.model, None, settings.scorer, None, **kind)


def comparing(prompts: list[str], settings: Settings) -> Iterator[render.View]:
    """The views of a comparison whose models are loaded."""
    from bon.ui import compared

    with closing(_comparison(prompts, _contest(settings), settings)) as events:
        yield from _compared(compared.Showing(len(prompts)), events)


def _comparison(prompts: list[str], entrants: Any, settings: Settings) -> Iterator:
    from bon import compare

    return compare.stream(prompts, entrants, settings)


def _compared(showing: Any, events: Iterator) -> Iterator[render.View]:
    last = 0.0
    for event in events:
        showing.add(event)
        if time.monotonic() - last >= EVERY:
            yield showing.view()
            last = time.monotonic()
    yield showing.view("done")


def load(model: str, scorer: str | None = None, **kind: Any) -> Future:
    """A `bon.Sampler` to come, read on a thread of its own."""

    def make():
        here = deployment.here()
        here.check_names(model, scorer)
        from bon import api

        return api.load(model, scorer, endpoint=here.endpoint if here.is_remote(model) else None, **kind)

    return _loaders.submit(make)


def arrived(future: Future, seconds: float = 0.2) -> bool:
    """Whether the future has its result or its error, waiting at most so long."""
    return bool(wait([future], timeout=seconds).done)


def warm_up() -> Future:
    """Loads the page's model and runs it twice, so that the first visitor waits for nothing and is told how long."""

    def run() -> None:
        if zerogpu.is_on():  # a GPU is lent to visitors alone
            return
        sampler = load(default_model(), deployment.here().scorer).result()
        for n in (2, 24):
            result = sampler.run("This movie", n=n, seed=0)
            speeds.note(result)
            if result.timing.total > 2:  # seconds: too slow to spend on nobody
                break

    return _loaders.submit(run)


def estimated(model: str, scorer: str | None, n: Any, low: Any, high: Any) -> str:
    """How long a run of this size will take here; nothing where it is not known or the numbers are none."""
    try:
        size = Settings(n=n, min_tokens=low, max_tokens=high, model=model or default_model(), scorer=scorer or None)
    except InputError:
        return ""
    return estimate.words(speeds.seconds(size))


def prepare(model: str, scorer: str | None, target: str | None = None) -> Iterator[tuple[Any, Any, Any]]:
    """Loads what was chosen and says what it is: the header's chips, the labels that can be looked for, and for the
    entry which model it is and whether that one chats.

    target: the label that is chosen now; it stays where the scorer has it.
    """
    model = model or default_model()
    try:
        waiting = load(model, scorer or None)
        if not arrived(waiting):
            yield [say("chip.model", name=model), say("chip.loading")], gr.skip(), gr.skip()
        sampler = waiting.result()
    except Exception as error:
        if model == default_model() and isinstance(error, BonError):  # what the operator named, not a visitor
            log.warning("%s cannot be loaded: %s", model, error)
        elif not isinstance(error, BonError):
            report("A model could not be loaded", error)
        yield [say("chip.model", name=model), say("chip.missing")], gr.skip(), gr.skip()
        return
    facts = sampler.engine.describe()
    told = render.chips(facts, sampler.scorer.name)
    yield told, targets(sampler.scorer, target), {"model": model, "chats": bool(facts.get("chats"))}


def targets(scorer: Any, chosen: str | None = None) -> dict:
    """The choice of labels to look for; hidden where the scorer has none."""
    labels = sorted(scorer.targets, key=lambda name: name != scorer.target)
    choices = [(label(f"label.{label_words(name)}", label_words(name)), name) for name in labels]
    value = {} if chosen in labels else {"value": scorer.target}
    return gr.update(choices=choices, visible=bool(labels), **value)
