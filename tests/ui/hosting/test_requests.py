"""What the server answers to requests that no page sends: addresses for files, large and deep bodies, closed routes.

All requests go to 127.0.0.1, which the server under test takes for a public address where that is needed.
"""

import http.client
import http.server
import json
import os
import re
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import gradio.utils
import httpx
import pytest
import safehttpx
from gradio import processing_utils, route_utils
from gradio_client import Client
from playwright.sync_api import expect

from bon import messages
from bon.errors import InputError
from bon.report import result_files
from bon.settings import declared
from bon.ui import theme
from bon.ui.app_state import AppState
from bon.ui.generate import run_view
from bon.ui.generate.handlers import GenerateHandlers
from bon.ui.hosting import sizes
from bon.ui.hosting.deployment import CHARACTERS_PER_TOKEN, Deployment
from bon.ui.hosting.layers import json_bodies
from tests.support.browser import ROOT, Stage
from tests.support.served_page import FORM, PUBLIC, call_listener, listener, serving
from tests.ui.test_page import open_tab

FILE_META = {"_type": "gradio.FileData"}
SAMPLE = json.loads((theme.folder() / "sample_run.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A public page over a scripted sampler, with a client of its HTTP interface."""
    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
    with serving(**PUBLIC) as page, httpx.Client(base_url=f"{page.url}/gradio_api", timeout=60) as page.http:
        page.files = Path(os.environ["GRADIO_TEMP_DIR"])
        yield page
    patch.undo()


@pytest.fixture
def elsewhere(monkeypatch):
    """A server whose address counts as public: its address, and the paths that were asked for."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"prompt\nfetched\n")

        def log_message(self, *_):
            pass

    monkeypatch.setattr(safehttpx, "is_public_ip", lambda _: True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.paths, server.url = [], f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def file_data(path, **more) -> dict:
    return {"path": path, "meta": FILE_META, **more}


def component(page, elem_id: str) -> int:
    return next(i for i, block in page.demo.blocks.items() if block.elem_id == elem_id)


def line(answer: httpx.Response) -> str:
    """The one line of a refusal."""
    text = answer.json()["detail"]
    assert "\n" not in text
    return text


# Files.


def test_no_route_fetches_an_address_that_a_visitor_names(page, elsewhere):
    file = file_data(f"{elsewhere.url}/a.csv")
    uploaded = page.http.post("/upload", files={"files": ("a.csv", b"prompt\nHi\n")}).json()[0]
    disguised = file_data(uploaded, url=f"{elsewhere.url}/b.csv")
    view, batch = component(page, "view"), component(page, "batch")
    for value in (file, [[{"deep": file}]], disguised, file | {"meta": 5}, file_data(["a"]), file_data(None)):
        chat = [{"role": "user", "content": "Hi", **file}]
        answers = {
            "preview": page.http.post("/queue/join", json={
                "fn_index": listener(page, "preview_in_turn"), "data": [value, ""], "session_hash": "f"}),
            "start": page.http.post("/queue/join", json={
                "fn_index": listener(page, "start"), "session_hash": "f",
                "data": [value, "", *[None] * (len(FORM) + 8)]}),
            "generate": page.http.post("/queue/join", json={
                "fn_index": listener(page, "generate"), "data": [*(FORM | {"chat": chat}).values()],
                "session_hash": "f"}),
            "call": page.http.post("/call/best_of_n", json={"data": ["Hi", *[None] * len(declared()), [value]]}),
            "call/v2": page.http.post("/call/v2/best_of_n", json={"prompt": "Hi", "messages": [value]}),
            "run": page.http.post("/run/view_after_stop", json={"data": [value, None]}),
            "view": page.http.post("/component_server", json={
                "component_id": view, "fn_name": "rerank", "data": value, "session_hash": "f"}),
            "batch": page.http.post("/component_server", json={
                "component_id": batch, "fn_name": "views", "data": value, "session_hash": "f"}),
            "mcp": page.http.post("/mcp/", headers={"accept": "application/json, text/event-stream"}, json={
                "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": {"name": "best_of_n", "arguments": {"prompt": "Hi", "messages": [value]}}}),
        }
        assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 400)
        assert {line(answer) for answer in answers.values()} == {
            "This page reads files that were uploaded to it, and nothing from addresses or other folders. "
            "Upload the file first."}
    for name in (f"{elsewhere.url}/c", elsewhere.url.replace("http", "HTTP"), "https:/x", "file:///etc/passwd"):
        for route in ("file=", "file/"):
            answer = page.http.get(f"/{route}{name}", follow_redirects=True)
            assert answer.status_code == 403, name
    assert page.http.get("/proxy=" + elsewhere.url).status_code == 404
    assert elsewhere.paths == []


def test_gradio_downloads_nothing_even_where_a_request_passes(page, elsewhere):
    address = f"{elsewhere.url}/a.csv"
    with pytest.raises(InputError, match="nothing from addresses"):
        page.demo.blocks[component(page, "batch-file")].move_resource_to_block_cache(address)
    for download in (processing_utils.ssrf_protected_download, processing_utils.unsafe_download):
        with pytest.raises(InputError, match="nothing from addresses"):
            download(address, str(page.files))
    for download in (processing_utils.async_ssrf_protected_get, route_utils.secure_url_stream_response):
        with pytest.raises(InputError, match="nothing from addresses"):
            download(address, None)
    assert elsewhere.paths == []


def test_a_file_has_no_path_of_the_server_on_its_way_up_and_down(page):
    name, = page.http.post("/upload", files={"files": ("a.csv", b"prompt\nThis movie\n")}).json()
    assert str(page.files) not in name
    assert (page.files / name).read_text() == "prompt\nThis movie\n"
    preview = call_listener(page, "preview_in_turn", [file_data(name, url=f"{page.url}/gradio_api/file={name}"), ""])
    assert "This movie" in preview
    for route in ("file=", "file/"):
        answer = page.http.get(f"/{route}{name}")
        assert answer.text == "prompt\nThis movie\n"
    for hidden in (page.files / name, "/etc/passwd", "../x/y", f"{name[:64]}/../a", f"{name[:64]}/..", name[:64], "a",
                   "", "README.md", ".git/config"):
        assert page.http.get(f"/file={hidden}").status_code in (403, 404), hidden
        joined = call_listener(page, "preview_in_turn", [file_data(str(hidden)), ""])
        assert "files that were uploaded" in joined, hidden
    assert Client(page.url, verbose=False).predict("This movie", n=2, api_name="/best_of_n")["candidates"]


def test_a_file_is_taken_in_a_field_for_files_alone(page):
    """Elsewhere its path on the server, which stands in place of its name, could come back in an answer."""
    file = file_data(page.http.post("/upload", files={"files": ("a.csv", b"prompt\nThis movie\n")}).json()[0])
    chat = [{"role": "user", "content": "Hi", **file}]
    view, batch = component(page, "view"), component(page, "batch")
    answers = {
        **{name: page.http.post("/queue/join", json={
            "fn_index": listener(page, name), "data": data, "session_hash": "f"})
           for name, data in {
               "stopped_view": [{"phase": "writing", "note": file}], "preview_in_turn": [None, file],
               "start": [file, "", None, file, *[None] * (len(FORM) + 6)],
               "generate": [*(FORM | {"chat": chat}).values()], "prepare": [file, "", None]}.items()},
        "run": page.http.post("/run/stopped_view", json={"data": [{"phase": "writing", "note": file}]}),
        "within": page.http.post("/queue/join", json={"fn_index": listener(page, "preview_in_turn"),
                                                      "data": [file | {"orig_name": file}, ""], "session_hash": "f"}),
        "beside": page.http.post("/queue/join", json={
            "fn_index": listener(page, "preview_in_turn"), "data": [None, ""], "session_hash": "f",
            "more": file}),
        "call/v2": page.http.post("/call/v2/best_of_n", json={"prompt": "Hi", "messages": [file]}),
        "view": page.http.post("/component_server", json={
            "component_id": view, "fn_name": "open_record", "data": file, "session_hash": "f"}),
        "batch": page.http.post("/component_server", json={
            "component_id": batch, "fn_name": "act", "data": file, "session_hash": "f"}),
        "mcp": page.http.post("/mcp/", headers={"accept": "application/json, text/event-stream"}, json={
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "best_of_n", "arguments": {"prompt": "Hi", "messages": [file]}}}),
    }
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 400)
    assert not [name for name, answer in answers.items() if str(page.files) in answer.text]


def test_of_a_batch_only_its_outputs_are_served(page):
    older = Path(__file__).parents[2] / "support" / "older" / "page-batch-done"
    folder = page.files / "bon-batches" / "x".ljust(32, "_")
    shutil.copytree(older, folder)
    call = {"component_id": component(page, "batch"), "fn_name": "views", "data": [folder.name], "session_hash": "s"}
    view, = page.http.post("/component_server", json=call).json()
    path, = [file["path"] for file in view["files"]]
    assert page.http.get(f"/file={path}").content == (older / "prompts.best.jsonl").read_bytes()
    assert "job.json" in os.listdir(folder)
    for name in os.listdir(folder):
        for hidden in (f"bon-batches/{folder.name}/{name}", f"bon-outputs/../bon-batches/{folder.name}/{name}",
                       f"bon-outputs/{folder.name}/../../bon-batches/{folder.name}/{name}", f"{folder.name}/{name}",
                       f"bon-outputs/{name}", folder / name):
            assert page.http.get(f"/file={hidden}").status_code in (403, 404), hidden
        # Nor where a layer of ours would let the name pass.
        assert gradio.utils.is_allowed_file(folder / name, page.demo.blocked_paths, [], [str(page.files)])[0] is False


def test_no_name_leads_out_of_the_folder_of_uploads_or_tells_where_that_is(page, tmp_path):
    name, = page.http.post("/upload", files={"files": ("a.csv", b"prompt\nHi\n")}).json()
    folder, batch = name[:64], page.files / "bon-batches" / ("b" * 32)
    outside = tmp_path / "outside.csv"
    outside.write_text("SECRET")
    batch.mkdir(parents=True)
    for link, target in ((page.files / folder / "link", outside), (page.files / "linked", tmp_path)):
        link.symlink_to(target)
    up_to_outside = [f"{up}{up}{str(outside)[1:].replace('/', slash)}" for up, slash in (
        ("../", "/"), ("%2e%2e/", "/"), ("..%2f", "%2f"), ("..\\", "\\"), ("%252e%252e/", "/"))]
    folders = [folder, f"{folder}/..", "bon-batches", f"bon-batches/{batch.name}", "", "linked"]
    names = [
        f"{folder}/link", "linked/outside.csv", f"{folder}/absent.csv", f"{folder}/{'a' * 300}", f"{folder}/a.csv%00",
        *(start + end for start in folders for end in ("", "/", "/.", "/..", "/../..")),
        *(f"{folder}/{path}" for path in up_to_outside),
        outside, f"/{outside}", f"file://{outside}", "~", "/proc/self/environ", f"{folder}//a.csv", f"./{name}",
    ]
    port = int(page.url.rpartition(":")[2])
    for hidden in names:
        for route in ("file=", "file/"):
            connection = http.client.HTTPConnection("127.0.0.1", port)  # sends the path as it is
            connection.request("GET", f"/gradio_api/{route}{hidden}")
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 403, hidden
            assert not any(part in text for part in ("SECRET", str(page.files), str(tmp_path))), hidden
            connection.close()


@pytest.mark.parametrize("ending", ["html", "svg", "png", "txt", "pdf", "csv"])
def test_a_visitors_file_is_never_shown_as_a_page_of_this_server(page, ending):
    name, = page.http.post("/upload", files={"files": (f"x.{ending}", b"<script>alert(1)</script>")}).json()
    for range_header in ({}, {"range": "bytes=0-3"}):
        headers = page.http.get(f"/file={name}", headers=range_header).headers
        assert headers["content-disposition"].startswith("attachment")
        assert headers["x-content-type-options"] == "nosniff"


def test_streams_pass_through_proxies_at_once(page):
    event = page.http.post("/call/v2/best_of_n", json={"prompt": "Hi", "n": 2}).json()["event_id"]
    with page.http.stream("GET", f"/call/best_of_n/{event}") as answer:
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
    assert page.http.get("/info").headers["x-content-type-options"] == "nosniff"


# Refusals.


def refusals(page, private, patch) -> dict[str, httpx.Response]:
    """For the key of each refusal an answer with it. private: a private page, which has its own."""
    post, many = page.http.post, json_bodies.sizes.json_values(page.state.deployment) + 1
    here, elsewhere = f"{private.url}/", {"origin": "http://elsewhere.example"}
    call = {"data": [*FORM.values()], "fn_index": listener(page, "generate"), "session_hash": "s"}
    views = {"component_id": component(page, "batch"), "fn_name": "views", "data": 5, "session_hash": "s"}
    answers = {
        "error.body": post("/queue/join", content=b"x" * (sizes.json_bytes(page.state.deployment) + 1)),
        "error.json_values": post("/queue/join", content=b"[" + b"0," * many + b"0]"),
        "error.json_depth": post("/queue/join", content=b"[" * 65 + b"]" * 65),
        "error.json_body": post("/queue/join", content=b"{"),
        "error.json_number": post("/queue/join", content=b"9" * 30),
        "error.file_address": page.http.get("/file=http://elsewhere.example/x"),
        "error.no_such_component": post("/component_server", json=views | {"component_id": -1}),
        "error.server_value": post("/component_server", json=views),
        "error.no_such_listener": post("/run/nothing", json={"data": []}),
        "error.call_instead": post("/run/best_of_n", json={"data": []}),
        "error.inputs": post("/call/best_of_n", json={"data": []}),
        "error.no_such_setting": post("/call/v2/best_of_n", json={"nothing": 1}),
        "error.no_such_route": page.http.get("/deep_link"),
        "error.upload": post("/upload", files={"other": ("a.csv", b"1")}),
        "error.host": page.http.get("/config", headers={"host": "0177.0.0.1"}),
        "error.other_host": httpx.get(here, headers={"host": "elsewhere.example"}),
        "error.other_website": httpx.post(f"{here}gradio_api/queue/join", headers=elsewhere, json={}),
    }
    patch.setattr(page.demo._queue, "max_size", 0)
    answers["error.queue_full"] = post("/queue/join", json=call)
    answers["error.calls"] = [httpx.post(f"{page.url}/login") for _ in range(11)][-1]
    return answers


def test_every_refusal_names_its_key_for_the_page(page, monkeypatch):
    hosting = ROOT / "bon" / "ui" / "hosting"
    files = [hosting / "gradio_guards.py", hosting.parent / "components.py", *hosting.glob("layers/*.py"),
             *hosting.glob("senders/*.py")]
    # Of runs that are over, programs alone are told; they read a stream.
    keys = {key for file in files if file.name != "open_streams.py"
            for key in re.findall(r'"(error\.[a-z_]+)"', file.read_text(encoding="utf-8"))}
    with serving() as private:
        answers = refusals(page, private, monkeypatch)
    assert keys == answers.keys() - {"error.queue_full"}
    for key, answer in answers.items():
        refusal = answer.json()
        assert refusal["message"]["key"] == key
        assert refusal["detail"] == refusal["error"] == messages.say(key, **refusal["message"]["values"])


def test_refusals_reach_a_spanish_visitor_in_spanish(page, visit, tmp_path, monkeypatch):
    view = visit(page, locale="es-ES")
    (tmp_path / "large.csv").write_bytes(b"x" * (sizes.file_bytes(page.state.deployment) + 1))

    def toast(key: str, **values: str) -> None:
        text = messages.tables()["es"][key]
        beginning = (text if isinstance(text, str) else text["other"]).format(**values).partition("{")[0]
        expect(view.locator(".toast-body").filter(has_text=beginning).first).to_be_visible()
        for close in view.locator(".toast-close").all():
            close.click()

    open_tab(view, "Lotes")
    view.set_input_files("#batch-file input[type=file]", tmp_path / "large.csv")
    toast("error.file_size", most="1.0 Mb")
    view.evaluate("""() => {
        const box = document.querySelector("#batch-paste textarea");
        box.value = "x\\n".repeat(200000);
        box.dispatchEvent(new Event("input"));
    }""")
    toast("error.body", most="0.3")
    monkeypatch.setattr(page.demo._queue, "max_size", 0)
    view.fill("#batch-paste textarea", "This movie")
    toast("error.queue_full", n="0")
    view.errors[:] = [error for error in view.errors if "status of" not in error]  # the refusals, in the console


# Sizes.


def parts(total: int):
    """A body of so many bytes without a stated length."""
    yield b'{"data": ["'
    for _ in range(total // 65536):
        yield b"x" * 65536


JSON = {"content-type": "application/json"}
MULTIPART = {"content-type": "multipart/form-data; boundary=B"}


def test_bytes_are_counted_as_they_arrive(page):
    deployment = page.state.deployment
    routes = {"/queue/join": sizes.json_bytes, "/call/best_of_n": sizes.json_bytes, "/cancel": sizes.json_bytes,
              "/mcp/": sizes.json_bytes, "/run/estimate_2": sizes.record_bytes,
              "/component_server": sizes.record_bytes}
    for route, most_bytes in routes.items():
        most = most_bytes(deployment)
        for content in (b"x" * (most + 1), parts(most + 2 * 65536)):
            answer = page.http.post(route, content=content, headers=JSON)
            assert answer.status_code == 413, route
            assert "MB that this page takes" in line(answer)
        assert page.http.post(route, content=b"x" * most, headers=JSON).status_code == 400, route  # read, and no JSON


@pytest.mark.parametrize(
    "route", ["upload", "queue/join", "component_server", "call/best_of_n", "run/estimate_2", "mcp/"])
def test_a_hundred_megabytes_are_refused_before_they_are_sent(page, route):
    hundred = 100 * sizes.MB
    with socket.create_connection(("127.0.0.1", int(page.url.rpartition(":")[2])), 60) as connection:
        head = f"POST /gradio_api/{route} HTTP/1.1\r\nHost: x\r\nContent-Length: {hundred}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(12) == b"HTTP/1.1 413"
    for most_bytes in (sizes.upload_bytes, sizes.json_bytes, sizes.record_bytes):
        assert most_bytes(Deployment()) < hundred  # in private mode too


def test_an_upload_is_one_file_of_the_stated_size_and_leaves_nothing_else(page):
    def files() -> set[Path]:
        return {file for file in page.files.rglob("*") if file.is_file()}

    before, most = files(), sizes.file_bytes(page.state.deployment)
    name, = page.http.post("/upload", files={"files": ("a.csv", b"x" * most)}).json()
    before.add(page.files / name)
    head = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.csv"\r\n\r\n'
    refused = [
        ({"files": {"files": ("a.csv", b"y" * (most + 1))}}, 413),
        ({"content": iter([head, *[b"y" * 65536] * (most // 65536 + 3)]), "headers": MULTIPART}, 413),
        ({"files": [("files", ("a.csv", b"1")), ("files", ("b.csv", b"2"))]}, 400),
        ({"files": {"other": ("a.csv", b"1")}}, 400),
        ({"files": {"files": ("a.csv", b"1")}, "data": {"more": "x"}}, 400),
        ({"data": {"files": "x"}, "headers": {}}, 400),
        ({"content": head + b"cut", "headers": MULTIPART}, 400),
    ]
    for request, status in refused:
        for progress in ({}, {"upload_id": "u"}):
            if not isinstance(request.get("content"), bytes | None) and progress:
                continue  # an iterator is used up
            answer = page.http.post("/upload", params=progress, **request)
            assert answer.status_code == status, (request, answer.text)
            assert files() == before, request


def test_an_upload_to_a_full_disk_is_refused_in_a_line(page, monkeypatch):
    (page.files / "full").symlink_to("/dev/full")
    with open(page.files / "full", "wb", buffering=0) as full:
        monkeypatch.setattr(route_utils, "NamedTemporaryFile", lambda **_: full)
        answer = page.http.post("/upload", files={"files": ("a.csv", b"prompt\nHi\n")})
    assert answer.status_code == 507
    assert line(answer).startswith("The server cannot write to its disk (No space left on device).")
    assert not (page.files / "full").is_symlink()


RAISED = Deployment(public=True, n=80, tokens=200, prompt=3000)
SMALL = Deployment.of(PUBLIC)


def largest_record(deployment: Deployment) -> dict[str, Any]:
    """The record of the largest run that the limits allow: the most characters of the most bytes in every place."""
    n, tokens, piece = deployment.n, deployment.tokens, "\u2026" * CHARACTERS_PER_TOKEN
    candidate = {
        "text": piece * tokens, "tokens": tokens, "cap": tokens, "pieces": [[piece, -12.3456]] * tokens,
        "score": -0.12345678901234567, "logprob": -1234.56789, "sampled_logprob": -1234.56789, "ended": "length",
        "judge": 0.12345678901234567, "unrated": False, "parts": dict.fromkeys("abcd", -0.12345678901234567),
    }
    settings = {"n": n, "min_tokens": tokens, "max_tokens": tokens, "model": "embedded", "seed": 2**53 - 1}
    messages = [{"role": "user", "content": "\u2026"}] * (deployment.prompt - 1) + [{"role": "user", "content": "?"}]
    return SAMPLE | {
        "prompt": "\u2026" * deployment.prompt, "messages": messages, "settings": SAMPLE["settings"] | settings,
        "stats": SAMPLE["stats"] | {"expected_best": [-0.12345678901234567] * n},
        "candidates": [candidate | {"index": i, "rank": i + 1} for i in range(n)],
    }


def handlers_of(deployment: Deployment) -> GenerateHandlers:
    """Handlers whose rankings are the runs themselves."""
    state, stage = AppState(deployment), Stage()
    stage.rerank, state.models.load = lambda result, **_: result, stage.load
    return GenerateHandlers(state)


@pytest.mark.parametrize("deployment", [SMALL, RAISED], ids=["usual", "raised"])
def test_the_largest_run_that_the_limits_allow_is_opened_ranked_and_exported(deployment):
    record, handlers = json.dumps(largest_record(deployment)), handlers_of(deployment)
    the_body_of_a_record_has_a_fitting_size(record, deployment)
    ranking = {"record": record, "target": None, "select": "best", "softness": 0.1}
    for packed in (handlers.open_record(record), handlers.rerank(ranking, None)):
        assert run_view.unpack(packed)["phase"] == "done"
        assert len(packed["texts"]) == deployment.n
    for file_format in ("json", "csv", "html"):
        assert len(handlers.export({"record": record, "format": file_format})) > deployment.n * deployment.tokens


def the_body_of_a_record_has_a_fitting_size(record: str, deployment: Deployment) -> None:
    body = json.dumps({"data": record, "component_id": 1, "fn_name": "open_record", "session_hash": "s"})
    assert 0.8 * sizes.record_bytes(deployment) < len(body) < sizes.record_bytes(deployment)
    json_bodies.check_shape(body.encode(), sizes.json_values(deployment))


def test_a_json_text_has_room_for_the_form_each_message_and_each_candidate():
    deployment = Deployment(public=True, n=3000, prompt=500)
    most = sizes.json_values(deployment)
    json_bodies.check_shape(json.dumps([0] * 1000 + [[0, 0, 0]] * 500 + [0] * 6000).encode(), most)
    with pytest.raises(InputError):
        json_bodies.check_shape(json.dumps([0] * (most + 2)).encode(), most)


@pytest.mark.parametrize(("n", "tokens"), [(1024, 32), (16, 3000)])
def test_the_largest_record_fits_where_candidates_or_tokens_are_many(n, tokens):
    deployment = Deployment(public=True, n=n, tokens=tokens)
    the_body_of_a_record_has_a_fitting_size(json.dumps(largest_record(deployment)), deployment)


def test_a_record_of_many_candidates_with_hardly_a_token_has_room_for_their_numbers():
    deployment = Deployment(public=True, n=4096, tokens=2)
    assert len(json.dumps({"data": json.dumps(largest_record(deployment))})) < sizes.record_bytes(deployment)


#: What a record has beyond the largest run, and words of the refusal.
LARGER_RUNS = {
    "a candidate": (lambda r: r | {"candidates": [*r["candidates"], r["candidates"][0]],
                                   "settings": r["settings"] | {"n": len(r["candidates"]) + 1}}, "at most 64"),
    "a candidate that was not asked for": (lambda r: r | {"candidates": [*r["candidates"], r["candidates"][0]]},
                                           "not a run saved by bon"),
    "an estimate": (lambda r: r | {"stats": r["stats"] | {"expected_best": [0.5] * (len(r["candidates"]) + 1)}},
                    "not a run saved by bon"),
    "a token": (lambda r: r | {"settings": r["settings"] | {"max_tokens": 129}}, "at most 128"),
    "a character": (lambda r: r | {"messages": [*r["messages"], {"role": "user", "content": "?"}]}, "at most 40"),
    "a character of a text": (lambda r: r | {"candidates": [
        r["candidates"][0] | {"text": r["candidates"][0]["text"] + "x"}, *r["candidates"][1:]]}, "texts of this run"),
    "keys": (lambda r: r | dict.fromkeys(map(str, range(10_000))), "more than the"),
    "keys of a setting": (lambda r: r | {"settings": r["settings"] | {"target": [0] * 10_000}}, "more than the"),
    "keys of a candidate": (lambda r: r | {"candidates": [
        c | dict.fromkeys(map(str, range(200)), 0) for c in r["candidates"]]}, "more than the"),
    "levels": (lambda r: r | {"notes": json.loads("[" * 70 + "]" * 70)}, "nested deeper"),
}


@pytest.mark.parametrize("larger", LARGER_RUNS)
def test_a_record_larger_than_any_run_is_refused_in_a_sentence_before_anything_is_made_of_it(larger, monkeypatch):
    change, words = LARGER_RUNS[larger]
    record, handlers = json.dumps(change(largest_record(SMALL))), handlers_of(SMALL)
    for module, name in ((run_view, "ended_view"), (run_view, "pack"), (result_files, "run_html"),
                         *([(run_view, "json")] if words in ("more than the", "nested deeper") else ())):
        monkeypatch.setattr(module, name, None if name != "pack" else lambda view: view)
    ranking = {"record": record, "target": None, "select": "best", "softness": 0.1}
    for view in (handlers.open_record(record), handlers.rerank(ranking, None)):
        assert words in view["error"]
    for file_format in ("json", "csv", "html"):
        with pytest.raises(InputError, match=words):
            handlers.export({"record": record, "format": file_format})


def test_a_private_page_opens_runs_of_any_size(monkeypatch):
    large = largest_record(Deployment(n=300, tokens=10, prompt=5000))
    assert run_view.unpack(handlers_of(Deployment()).open_record(json.dumps(large)))["phase"] == "done"


@pytest.mark.parametrize(("body", "words"), [
    ('{"data": [' + "[]," * 50_000 + "0]}", "more than the"), ('{"data": [' + '"",' * 50_000 + '""]}', "more than the"),
    ('{"data": ["' + '\\"' * 50_000 + '"]' + ',"a"' * 10_000 + "}", "more than the"),
    ("[" * 100 + "]" * 100, "nested deeper"), ('{"a":' * 100 + "1" + "}" * 100, "nested deeper"),
    ("[" * 50_000, "more than"), ("{", "not JSON"), ("", ""), ("null", ""), ("[]", ""), ('{"data":', "not JSON"),
    ("[" + "9" * 5000 + "]", "64 bits"),
    (f'{{"data": [{2**64}]}}', "64 bits"), ('"\\ud800"', ""), ("\ufeff{}", "not JSON"), ("\0", "not JSON"),
], ids=lambda value: value[:12])
def test_a_body_is_refused_before_anything_is_built_from_it(page, body, words, monkeypatch):
    if "more" in words or "nested" in words:
        monkeypatch.setattr(json_bodies, "json", None)
    for route in ("/queue/join", "/component_server", "/call/best_of_n", "/call/v2/best_of_n", "/run/estimate"):
        for encoding in ("utf-8", "utf-16"):
            answer = page.http.post(route, content=body.encode(encoding, "surrogatepass"), headers=JSON)
            assert 400 <= answer.status_code < 500, route
            if words and encoding == "utf-8":
                assert words in line(answer)


def test_brackets_in_texts_are_no_values(page):
    text = '[{",' * 2000 + "\\" * 1001
    json_bodies.check_shape(json.dumps({"data": [text, text + '"']}).encode(), 20)
    assert "error.characters" in call_listener(page, "generate", [*(FORM | {"prompt": text}).values()])


# What can be called, and how.


def test_what_waits_in_the_queue_cannot_be_called_past_it(page):
    page.stage.runs = 0
    for route in ("run", "api"):
        for name in ("generate", "compare", "preview_in_turn", "start", "prepare", "fill_form", "js_fn"):
            values = {"data": [*FORM.values()], "session_hash": "s"}
            answer = page.http.post(f"/{route}/{name}", json=values)
            assert answer.status_code in (400, 404), name
            number = listener(page, "generate")
            assert page.http.post(f"/{route}/estimate_2", json=values | {"fn_index": number}).status_code == 404
    assert "/gradio_api/call/best_of_n" in line(page.http.post("/run/best_of_n", json={"data": ["Hi"]}))
    estimate = page.http.post("/run/estimate_2", json={"data": ["embedded", "", 4, 8, 16]})
    assert estimate.status_code == 200
    assert page.http.post("/run/estimate_2", json={"data": ["embedded"]}).status_code == 400
    assert page.stage.runs == 0


def test_private_listeners_have_no_endpoint(page):
    for i, fn in page.demo.fns.items():
        if fn.api_visibility == "private":
            for version in ("", "v2/"):
                answer = page.http.post(f"/call/{version}{fn.api_name}", json={"data": []})
                assert answer.status_code == 404, i
                assert "/gradio_api/call/best_of_n" in line(answer)
    assert page.http.post("/call/nothing", json={"data": []}).status_code == 404


def test_unknown_numbers_are_refused(page):
    for number in (99_999, -1, 1e99, "x", [], {}, True):
        answer = page.http.post("/queue/join", json={"data": ["Hi"], "fn_index": number, "session_hash": "x"})
        assert 400 <= answer.status_code < 500, number
        answer = page.http.post("/component_server", json={
            "component_id": number, "fn_name": "views", "data": [], "session_hash": "x"})
        assert 400 <= answer.status_code < 500, number


def test_a_call_with_other_arguments_is_refused_in_words(page):
    page.stage.runs = 0
    names = ("endpoint", "device", "dtype", "api_key", "token", "visitor", "data", "fn_index", "", "\n", "x" * 9000)
    for name in names:
        for function in ("best_of_n", "best_of_n_as_json", "best_of_n/"):
            answer = page.http.post(f"/call/v2/{function}", json={"prompt": "Hi", "n": 2, name: "x"})
            assert answer.status_code == 400, name
            assert f"There is no setting {name!r}"[:60] in line(answer)
            assert len(line(answer)) < 500
    inputs = len(declared()) + 2  # with prompt and messages
    for data in (["Hi"], [], ["Hi"] * (inputs + 1), {}, "x", None):
        for answer in (page.http.post("/call/best_of_n", json={"data": data}), page.http.post("/queue/join", json={
                "fn_index": listener(page, "best_of_n"), "data": data, "session_hash": "few"})):
            assert answer.status_code == 400, data
            assert line(answer) == f"This function takes a list of {inputs} values as data."
    assert page.stage.runs == 0


def test_calls_past_the_queue_are_counted_for_each_visitor(monkeypatch):
    monkeypatch.setattr("bon.ui.hosting.layers.direct_calls.CALLS_PER_MINUTE", 3)
    with serving(**PUBLIC) as page, httpx.Client(base_url=f"{page.url}/gradio_api", timeout=60) as http:
        def statuses() -> list[int]:
            calls = [http.post("/run/estimate_2", json={"data": ["embedded", "", 4, 8, 16]}),
                     http.post("/component_server", json={"component_id": component(page, "batch"),
                                                          "fn_name": "views", "data": [], "session_hash": "s"})]
            return [answer.status_code for answer in calls]

        assert statuses() == [200, 200]
        assert statuses() == [200, 429]
        assert "more than 3 calls per minute" in line(http.post("/api/estimate_2", json={"data": []}))


CLOSED = (
    "/gradio_api/deep_link?session_hash=s", "/monitoring", "/monitoring/summary", "/monitoring/key",
    "/gradio_api/proxy=x",
    "/gradio_api/stream/s/1/1/playlist.m3u8", "/gradio_api/vibe-code", "/gradio_api/runs", "/gradio_api/dev/reload",
    "/gradio_api/run-history/buckets", "/gradio_api/custom_component/a/b/c/d", "/svelte/x", "/docs", "/nothing",
)


@pytest.mark.parametrize("path", CLOSED)
def test_routes_that_the_page_does_not_use_are_closed(page, path):
    for method in ("GET", "POST"):
        assert httpx.request(method, page.url + path).status_code == 404


@pytest.mark.parametrize("host", ["0177.0.0.1", "a b", "[", "x" * 5000, "evil.example:99999", "evil.example:abc", "é"])
def test_a_host_that_no_address_can_have_is_refused(page, host):
    for name in ("host", "x-forwarded-host"):
        assert page.http.get("/../config", headers={name: host.encode("latin-1")}).status_code in (200, 400), name
