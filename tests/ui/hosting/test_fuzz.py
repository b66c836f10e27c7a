"""Wrong values by every way into the page: each listener, server function and route that its own configuration names.

All are found there, so a new one is tested without being named here. No value may make the server fail or fall silent.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from bon.errors import ModelError
from bon.ui import theme
from tests.support.served_page import PUBLIC, serving

SECRET = "zq-visitor-secret"
FILE = {"path": "0" * 64 + "/a.csv", "meta": {"_type": "gradio.FileData"}}
#: Values of every type, as JSON texts: Python's writer knows no number of 5000 digits.
VALUES = (
    "null", "true", "-1", "1.5", "NaN", "1e400", "9" * 400, "9" * 5000, '""', '"5"', f'"{SECRET}"', '"\\ud800\\u0000"',
    '"' + "9" * 5000 + '"', '"' + "a" * 20_000 + '"', "[]", "{}", "[[1]]", '[{"role": "user", "content": ["a"]}]',
    '[{"role": 5}]', '{"view": "[", "texts": []}',
    '{"view": "{\\"phase\\": \\"writing\\", \\"rows\\": [5]}", "texts": [5]}',
    '{"phase": "writing"}', '"\\u0002{\\"key\\": \\"x\\"}"', '"[[[[[[[["', json.dumps(FILE), json.dumps(str(FILE)),
)
#: A few of them, for each single argument.
FEW = ("null", '"x"', "-1", "[[1]]", '{"a": 1}')


#: Bodies, and the types that they may claim to have.
CONTENTS = (
    "", "{}", "[]", "null", '"\\ud800"', "{", '{"session_hash": {}}', '{"data": 5, "fn_index": 1e99}',
    '{"session_hash": "\\ud800", "fn_index": 39, "data": ["Hi"], "event_data": 5, "trigger_id": -5}',
    '{"data": ["Hi"]}', '{"prompt": "Hi", "endpoint": "http://127.0.0.1"}',
    '{"session_hash": "s", "event_id": "x", "fn_index": -1, "component_id": [], "fn_name": 5}',
)
MEDIA_TYPES = ("application/json", "", "multipart/form-data; boundary=B", "multipart/form-data")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A public page over a scripted sampler, with a client of its HTTP interface."""
    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
    patch.setattr("bon.ui.hosting.layers.direct_calls.CALLS_PER_MINUTE", 10**6)
    limits = {"BON_RATE": "10000", "BON_MAX_QUEUE": "10000"}
    with serving(**PUBLIC | limits) as page, httpx.Client(base_url=f"{page.url}/gradio_api", timeout=60) as page.http:
        page.stage.rerank = lambda result, **_: result
        page.state.models.comparison_models = no_models
        yield page
    patch.undo()


def no_models(_settings):
    """In place of the models of a comparison, each of which would take seconds."""
    raise ModelError("No models are compared here.")


def post(page, route: str, content: str) -> httpx.Response:
    return page.http.post(route, content=content.encode(), headers={"content-type": "application/json"})


def is_answer(answer: httpx.Response) -> bool:
    """Whether an answer is a result, or a refusal in one line."""
    text = answer.text if 400 <= answer.status_code < 500 else ""
    return answer.status_code < 500 and "\n" not in text.strip() and len(text) < 100_000


def argument_lists(first_values: list) -> Iterator[list[str]]:
    """Lists of arguments as JSON texts: all of one wrong value, and each one wrong beside right ones."""
    yield from ([value] * len(first_values) for value in VALUES)
    right = [json.dumps(value) for value in first_values]
    for i in range(len(right)):
        yield from ([*right[:i], value, *right[i + 1:]] for value in FEW)
    yield from ([], ["1"] * 40)


def test_every_listener_survives_every_value(page, caplog, capfd):
    listeners = [fn for fn in page.demo.fns.values() if fn.fn is not None]
    assert {fn.fn.__name__ for fn in listeners} >= {"generate", "compare", "start", "estimate", "best_of_n"}
    silent = []
    for fn in listeners:
        first_values = [getattr(component, "value", None) for component in fn.inputs]
        first_values = [value if isinstance(value, str | int | float | bool | None) else None for value in first_values]
        bodies = [f'{{"fn_index": {fn._id}, "session_hash": "s{fn._id}", "data": [{", ".join(arguments)}]}}'
                  for arguments in argument_lists(first_values)]
        joined = 0
        for body in bodies:
            answer = post(page, "/queue/join" if fn.queue else f"/run/{fn.api_name}", body)
            assert is_answer(answer) or not fn.queue, (fn.api_name, body[:200], answer.text[:200])
            if answer.status_code >= 500:
                silent.append((fn.api_name, body[:200], answer.text[:200]))
            joined += fn.queue and answer.status_code == 200
        with page.http.stream("GET", "/queue/data", params={"session_hash": f"s{fn._id}"}) as answer:
            lines = [line[5:] for line in answer.iter_lines() if line.startswith("data:")] if joined else []
        events = map(json.loads, lines)
        ended = [event for event in events if event["msg"] == "process_completed"]
        assert len(ended) == joined, fn.api_name
        silent += [(fn.api_name, event["output"]) for event in ended if "error.unexpected" in json.dumps(event)]
    assert silent == []
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


def server_functions(page) -> list[tuple[int, str]]:
    return sorted({(i, name) for i, block in page.demo.blocks.items() for name in vars(block)
                   if getattr(getattr(block, name), "_is_server_fn", False)})


def records() -> Iterator[str]:
    """Records of a run with a value of a wrong type in each place."""
    record = json.loads((theme.folder() / "sample_run.json").read_text(encoding="utf-8"))
    for path in (), ("settings",), ("candidates",), ("candidates", 0), ("stats",), ("timing",):
        place = record
        for step in path:
            place = place[step]
        for key in list(place if isinstance(place, dict) else range(1)):
            right = place[key]
            for value in (None, 5, 1e308, 10**400, SECRET, [[]], {}, float("nan")):
                place[key] = value
                yield json.dumps(record)
            place[key] = right


def test_every_server_function_answers_wrong_values_in_a_line(page, caplog, capfd):
    functions = server_functions(page)
    assert {name for _, name in functions} == {"open_record", "rerank", "export", "views", "act"}
    values = [*VALUES, *(json.dumps({key: json.loads(value) for key in keys})
                         for value in VALUES if len(value) < 300 and value not in ("NaN", "1e400")
                         for keys in (("record", "format"), ("record", "target", "select", "softness"), ("key", "do")))]
    values += [json.dumps(choice) for choice in (
        {"record": "1", "format": "pickle"}, {"key": "../" * 10, "do": "remove"}, {"key": "_" * 32, "do": "burn"},
        ["../../etc", "." * 32], ["-" * 32] * 100, ["a" * 10_000])]
    bodies = [(i, name, value) for i, name in functions for value in values]
    view = next(i for i, name in functions if name == "open_record")
    for record in records():
        bodies.append((view, "export", json.dumps({"record": record, "format": "html"})))
        ranking = {"record": record, "target": "NEGATIVE", "select": "soft", "softness": 0.1}
        bodies.append((view, "rerank", json.dumps(ranking)))

    def answer(body: tuple[int, str, str]) -> tuple | None:
        number, name, data = body
        text = f'{{"component_id": {number}, "fn_name": "{name}", "session_hash": "s", "data": {data}}}'
        answer = post(page, "/component_server", text)
        fine = is_answer(answer) and "error.unexpected" not in answer.text
        return None if fine else (name, data[:300], answer.status_code, answer.text[:200])

    with ThreadPoolExecutor(4) as pool:
        assert list(filter(None, pool.map(answer, bodies))) == []
    for name in ("__init__", "postprocess", "get_config", "move_resource_to_block_cache", "nothing"):
        body = {"component_id": view, "fn_name": name, "data": "/etc/passwd", "session_hash": "s"}
        assert page.http.post("/component_server", json=body).status_code == 404
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


def routes(routes_of_app) -> Iterator[tuple[str, str]]:
    """Each route's method and path."""
    for route in routes_of_app:
        if hasattr(route, "original_router"):
            yield from routes(route.original_router.routes)
        else:
            yield from ((method, route.path) for method in getattr(route, "methods", None) or ("GET", "POST"))


def test_every_route_answers_whatever_its_path_and_body_hold(page):
    found = sorted(set(routes(page.demo.app.routes)))
    assert {("POST", "/gradio_api/queue/join"), ("GET", "/health"), ("GET", "/gradio_api/mcp")} <= set(found)
    for method, path in found:
        for value in ("x", "..%2f..%2fetc%2fpasswd", "%00", "%ff", "9" * 500, "99", "\u20ac"):
            url = page.url + re.sub(r"\{[^}]*\}", value, path)
            with page.http.stream(method, url, params={"session_hash": value, "upload_id": value}) as answer:
                assert answer.status_code < 500, (method, url, answer.status_code)
            if "{" not in path:
                break
        if method == "POST":
            url = page.url + re.sub(r"\{[^}]*\}", "x", path.replace("{api_name}", "best_of_n"))
            for media_type in MEDIA_TYPES:
                for content in CONTENTS if "json" in media_type else CONTENTS[:2]:
                    answer = page.http.post(url, content=content.encode(), headers={"content-type": media_type})
                    assert is_answer(answer), (method, url, content, media_type, answer.status_code)
