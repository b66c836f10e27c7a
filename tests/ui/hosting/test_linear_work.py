"""The work that inputs of visitors cause grows no faster than the inputs, wherever they arrive.

The functions are those that the page's configuration names, so a new one is tested without being named here. Inputs
are made to be costly: what patterns, parsers and charts could read again and again. Calls are counted, since a count
does not depend on the machine; of patterns and C functions, which make none, the processor's time is measured, in a
child process, which can be ended within a pattern.
"""

import asyncio
import inspect
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.helpers import special_args
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bon.errors import ModelError
from bon.ui import theme
from bon.ui.app_state import AppState
from bon.ui.batch.jobs import Batch
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.layers.stack import layers
from bon.ui.hosting.uploads import Uploads
from bon.ui.page import build
from tests.support import work_counts
from tests.support.browser import Play, Stage
from tests.support.served_page import PUBLIC, SCORES, TEXTS
from tests.support.work_counts import answer, measure_work, processor_seconds, result_of_child

KB = 2**10
SIZES = 16 * KB, 32 * KB, 64 * KB
#: From one size to the next, and of the largest input.
GROWTH_MAX, CALLS_MAX, SECONDS_MAX = 2.5, 2_000_000, 0.5
#: Fewer calls than any work in proportion to the inputs takes.
FEW_CALLS = 10_000
#: Beginnings, repeated middles and ends of texts.
PATTERNS = (
    ("1*a", " ", "x"), ("1*a", "+1*a", ""), ("1*logprob", "+1*logprob", ""), ("-", "1", "x"), ("a", ".-/", ""),
    ("", ";'", "="), ("\t", "\"'", ""), ("[{", " ", ""), ('[{"role"', " ", ""), ("[{'role': '", "\\'", ""),
    ("\x02", '{"key":', ""), ("[", "[],", "[]]"), ("[", '["user","a"],', '["user","a"]]'), ("\ud800", "\x1b[1m", ""),
    ("a", "\n", "b"), ("a\n", ',"\n""x', '"'), ("a", ",a", ""), ("{", '"a":1,', '"b":1}'),
)


def text_of(pattern: tuple[str, str, str], size: int) -> str:
    start, middle, end = pattern
    return start + middle * ((size - len(start) - len(end)) // len(middle)) + end


#: From a size to a value that is no text.
VALUES = (
    lambda size: [{"role": "user", "content": "a"}] * (size // 32),
    lambda size: [{"role": "user", "content": "a", **{f"k{i}": "v" for i in range(size // 12)}}],
    lambda size: ["a" * 32] * (size // 36),
    lambda size: {"view": json.dumps({"phase": "writing", "rows": [{}] * (size // 8)}), "texts": [""] * (size // 8)},
)
MAKERS: tuple[Callable[[int], Any], ...] = (*(partial(text_of, pattern) for pattern in PATTERNS), *VALUES)


def faults(function: Callable[[Any], Any], make: Callable[[int], Any]) -> list[str]:
    """What is wrong with the work of a function on the inputs that `make` makes of `SIZES`."""
    *smaller, largest = SIZES
    value = make(largest)
    count, seconds = measure_work(partial(function, value))
    # Calls take longer while they are counted.
    if seconds > SECONDS_MAX and (seconds := processor_seconds(partial(function, value))) > SECONDS_MAX:
        return [f"{seconds:.2f} s"]
    if count <= GROWTH_MAX * FEW_CALLS:
        return []
    counts = [*(measure_work(partial(function, make(size)))[0] for size in smaller), count]
    if any(after > GROWTH_MAX * max(before, FEW_CALLS) for before, after in pairwise(counts)):
        return [f"calls grow: {counts}"]
    return [f"{count} calls"] * (count > CALLS_MAX)


@pytest.fixture
def make_page(monkeypatch, tmp_path):
    """Makes a page over a scripted sampler, without a server, from environment variables."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setattr(Batch, "begin", lambda batch, *_: batch.save("interrupted"))
    logging.disable(logging.CRITICAL)
    yield build_page
    logging.disable(logging.NOTSET)


def build_page(**environment: str) -> gr.Blocks:
    state, stage = AppState(Deployment.of(environment)), Stage()
    stage.play, stage.rerank = Play(TEXTS, SCORES), lambda result, **_: result
    state.models.load, state.models.comparison_models = stage.load, no_models
    state.deployment.visitors.rate = 10**9
    return build(state)


def no_models(_settings):
    """In place of the models of a comparison, each of which would take seconds."""
    raise ModelError("No models are compared here.")


def functions_of(page) -> Iterator[tuple[Callable, list]]:
    """The functions that visitors' values reach, with the components whose values they take."""
    for listener in page.fns.values():
        yield from ((function, listener.inputs) for function in (listener.fn, listener.validator) if function)


def call(function: Callable, values: list, i: int, value: Any) -> Any:
    """The function's answer to these values with another one in place i."""
    arguments = special_args(function, [*values[:i], value, *values[i + 1:]])[0]
    out = function(*arguments)
    return asyncio.run(out) if inspect.iscoroutine(out) else out


def listener_faults(page: gr.Blocks, makers_for: Callable[[Any], Iterable[Callable]], begin: Callable[[str], None]
                    ) -> dict[str, list]:
    """By the names of all functions, what is wrong with their work on the inputs that makers make for a component.

    Of a function's fields for numbers, which all take the same way, one is tried.
    """
    found, tried = dict[str, list](), set()
    for function, inputs in functions_of(page):
        faults_of_function = found.setdefault(function.__name__, [])
        first_values = [getattr(component, "value", None) for component in inputs]
        for i, component in enumerate(inputs):
            place = (function.__name__, gr.Number if isinstance(component, gr.Number) else component._id)
            if place in tried:
                continue
            tried.add(place)
            for make in makers_for(component):
                begin(f"{function.__name__}, argument {i}: {make(60)!r}")
                for fault in faults(partial(call, function, first_values, i), make):
                    faults_of_function.append((i, repr(make(60)), fault))
    return found


def is_file(component: Any) -> bool:
    return isinstance(component, gr.File | gr.UploadButton)


def test_every_listener_works_in_proportion_to_its_values(make_page):
    found = result_of_child(lambda begin: listener_faults(
        make_page(**PUBLIC), lambda component: () if is_file(component) else MAKERS, begin))
    assert found.keys() >= {"validate", "generate", "compare", "estimate", "prepare", "best_of_n"}
    assert not any(found.values()), found


def test_every_listener_works_in_proportion_to_a_file(make_page, tmp_path):
    found = result_of_child(lambda begin: listener_faults(
        make_page(), lambda component: file_makers(tmp_path) if is_file(component) else (), begin))
    assert found.keys() >= {"start", "preview_in_turn"}
    assert not any(found.values()), found


def file_makers(folder) -> Iterator[Callable[[int], str]]:
    """From a size to the path of a file, for each pattern as the text of a table, and for some as that of a prompt."""
    def write(name, content, size):
        path = folder / f"{size}-{name}"
        path.write_text(content(size), encoding="utf-8", errors="replace")
        return str(path)

    for i, pattern in enumerate(PATTERNS):
        text = partial(text_of, pattern)
        yield partial(write, f"{i}.csv", text)
        if i % 3 == 0:
            yield partial(write, f"{i}.jsonl", lambda size, text=text: json.dumps({"prompt": text(size)}) + "\n")


RECORD = json.loads((theme.folder() / "sample_run.json").read_text(encoding="utf-8"))
CANDIDATE = {"index": 0, "text": "a", "score": 0.5, "rank": 1}


def candidates(size: int, **values: Any) -> dict[str, Any]:
    """Candidates of equal scores."""
    return {"candidates": [CANDIDATE | values | {"index": i} for i in range(size // 60)],
            "settings": RECORD["settings"] | {"n": 4096}}


def stats(size: int) -> dict[str, Any]:
    estimates = {"expected_best": [i / size for i in range(size // 16)]}
    return {"stats": RECORD["stats"] | estimates, "settings": RECORD["settings"] | {"n": 4096}}


#: The environment of a page on which a record of 64 kB is none too large.
LARGE_RUNS = PUBLIC | {"BON_MAX_N": "4096", "BON_MAX_TOKENS": "4096", "BON_MAX_PROMPT": "100000"}
#: From a size to what a made-up record has in place of the sample's values.
FORGERIES: tuple[Callable[[int], dict[str, Any]], ...] = (
    candidates, lambda size: candidates(size, ended="eos") | {"unit": "margin"},
    lambda size: {"candidates": [CANDIDATE | {"parts": {f"k{i}": 0.5 for i in range(size // 12)}}]},
    lambda size: {"candidates": [CANDIDATE | {"pieces": [["a", 0.5]] * (size // 12)}]},
    lambda size: {"messages": [{"role": "user", "content": "a"}] * (size // 32)},
    lambda size: {"notes": ["a"] * (size // 4)}, lambda size: {"settings": {f"k{i}": 0 for i in range(size // 10)}},
    lambda size: {f"k{i}": 0 for i in range(size // 10)}, stats,
    *(lambda size, pattern=pattern: {"prompt": "a", "candidates": [CANDIDATE | {"text": text_of(pattern, size)}]}
      for pattern in PATTERNS[::3]),
)


def server_functions(page) -> Iterator[tuple[str, Callable]]:
    """The functions of components that visitors call, by name."""
    for name in sorted({name for block in page.blocks.values() for name in vars(block)}):
        yield from [(name, value) for block in page.blocks.values()
                    if getattr(value := getattr(block, name, None), "_is_server_fn", False)][:1]


#: Of a server function and a made-up record or another value, what the function gets.
ARGUMENTS: dict[str, Callable[[Any], list[Any]]] = {
    "export": lambda value: [{"record": value, "format": name} for name in ("json", "csv", "html")],
    "rerank": lambda value: [{"record": value, "target": "", "select": "soft", "softness": 0.1}],
    "act": lambda value: [{"id": value, "do": "stop"}],
}


def test_every_server_function_works_in_proportion_to_its_value(make_page):
    names, found = result_of_child(lambda begin: server_function_faults(make_page(**LARGE_RUNS), begin))
    assert names == ["act", "export", "open_record", "rerank", "views"]
    assert found == []


def server_function_faults(page: gr.Blocks, begin: Callable[[str], None]) -> tuple[list[str], list]:
    """The names of all server functions, and what is wrong with their work."""
    found, names = [], []
    for name, function in server_functions(page):
        names.append(name)

        def call_each(value, name=name, function=function):
            for argument in ARGUMENTS.get(name, lambda value: [value])(value):
                answer(lambda argument=argument: function(*special_args(function, [argument])[0]))

        makers = MAKERS if name in ("act", "views") else (
            *MAKERS, *(lambda size, forgery=forgery: json.dumps(RECORD | forgery(size)) for forgery in FORGERIES))
        for make in makers:
            begin(f"{name}: {make(60)}")
            found += [(name, str(make(60))[:300], fault) for fault in faults(call_each, make)]
    return names, found


def test_the_layers_work_in_proportion_to_a_body(make_page):
    assert result_of_child(lambda begin: layer_faults(make_page(**PUBLIC), begin)) == []


def layer_faults(page: gr.Blocks, begin: Callable[[str], None]) -> list:
    """What is wrong with the work of the layers around a route that answers nothing."""
    def get_or_post(content):
        async def send():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(inner), base_url="http://127.0.0.1") as client:
                for route in ("queue/join", "component_server", "call/best_of_n", "upload"):
                    await client.post(f"/gradio_api/{route}", content=content)
                await client.get("/gradio_api/file=" + content[:KB].decode("utf-8", "replace").replace("\0", ""))
        asyncio.run(send())

    routes = [Route("/{path:path}", no_answer, methods=["GET", "POST"])]
    inner = Starlette(middleware=layers(Deployment.of(PUBLIC), Uploads(0)), routes=routes)
    inner.get_blocks = lambda: page
    texts = [*(partial(text_of, pattern) for pattern in PATTERNS),
             *(lambda size, make=make: json.dumps({"data": make(size), "fn_index": 0}) for make in VALUES)]
    found = []
    for text in texts:
        begin(text(60))
        found += [(text(60), fault) for fault in faults(get_or_post, lambda size, text=text: text(size).encode(
            "utf-8", "replace"))]
    return found


async def no_answer(_request):
    return PlainTextResponse("")


def test_a_pattern_that_does_not_end_is_ended_and_its_input_named(monkeypatch):
    monkeypatch.setattr(work_counts, "CHILD_SECONDS", 0.2)
    with pytest.raises(AssertionError, match="for 'many letters'"):
        result_of_child(lambda begin: (begin("many letters"), re.fullmatch("(a+)+b", "a" * 60)))
