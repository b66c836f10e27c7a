"""The server engine's limits: answers without end, pauses, redirects; what a page shows while texts are written."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from bon import flow
from bon.engines.server.connection import Server
from bon.engines.server.engine import ServerEngine
from bon.engines.server.limits import ANSWER, FIRST_TEXT, PAUSE, REQUEST
from bon.errors import EngineError, InputError, ModelError
from bon.events import Ended, Wrote
from bon.result import Result
from bon.scorers.callable_scorer import CallableScorer
from bon.settings import Request, Settings
from bon.ui.work import updates
from tests.support.model_servers import Fake, Handler, chunks, completion, good

Behave = Callable[[Handler, dict[str, Any], int], None]
SCORER = CallableScorer(lambda texts: [float(len(text)) for text in texts])
CHAT = [{"role": "user", "content": "Well?"}]
PART = b"x" * 65536


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bon.engines.server.retrying_client.BACKOFF", 0.01)
    monkeypatch.setattr("bon.engines.server.retrying_client.CLIENT_RETRIES", 0)


@pytest.fixture
def fake() -> Iterator[Callable[..., Fake]]:
    """Makes servers that behave in the given way."""
    servers: list[Fake] = []

    def make(behave: Behave = good, **options: Any) -> Fake:
        servers.append(Fake(behave, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def run(server: Fake, n: int = 1, tokens: int = 8, live: bool = False, **settings: Any) -> Result:
    request = Request("This movie", Settings(n=n, seed=7, min_tokens=tokens, max_tokens=tokens, **settings))
    return flow.last_result(flow.stream(request, ServerEngine.at(server.url), SCORER, live=live))


def begin(handler: Handler, content_type: str = "application/json", status: int = 200) -> None:
    """The head of an answer whose end nobody announces."""
    handler.close_connection = True
    handler.send_response(status)
    handler.send_header("Content-Type", content_type)
    handler.send_header("Connection", "close")
    handler.end_headers()


def send_forever(handler: Handler, part: bytes, pause: float = 0.0) -> None:
    while True:  # until the client hangs up, which raises
        handler.wfile.write(part)
        handler.wfile.flush()
        time.sleep(pause)


def event(chunk: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


def endless_body(handler: Handler, body: dict[str, Any], number: int) -> None:
    begin(handler)
    send_forever(handler, PART)


def endless_error(handler: Handler, body: dict[str, Any], number: int) -> None:
    begin(handler, status=400)
    send_forever(handler, PART)


def endless_line(handler: Handler, body: dict[str, Any], number: int) -> None:
    begin(handler, "text/event-stream")
    send_forever(handler, PART)


def endless_keep_alives(handler: Handler, body: dict[str, Any], number: int) -> None:
    begin(handler, "text/event-stream")
    send_forever(handler, b": keep-alive\n\n", 0.02)


def endless_text(handler: Handler, body: dict[str, Any], number: int) -> None:
    begin(handler, "text/event-stream")
    send_forever(handler, event(chunks(body)[0]))


def pause_in_text(handler: Handler, body: dict[str, Any], number: int) -> None:
    begin(handler, "text/event-stream")
    for chunk in chunks(body)[:3]:
        handler.wfile.write(event(chunk))
    send_forever(handler, b": keep-alive\n\n", 0.02)


def silence(handler: Handler, body: dict[str, Any], number: int) -> None:
    assert handler.gone(20)


@pytest.mark.parametrize(("behave", "live", "variable", "value"), [
    (endless_body, False, ANSWER, None),
    (endless_error, False, ANSWER, None),
    (endless_line, True, ANSWER, None),
    (endless_keep_alives, True, REQUEST, "0.4"),
    (lambda handler, body, number: handler.send(200, completion(body, ["long " * 20_000])), False, ANSWER, "5000"),
    (silence, False, FIRST_TEXT, "0.2"),
    (silence, True, FIRST_TEXT, "0.2"),
])
def test_an_answer_without_a_text_ends_at_a_limit_which_the_error_names(
    fake: Callable[..., Fake], monkeypatch: pytest.MonkeyPatch, behave: Behave, live: bool, variable: str,
    value: str | None,
) -> None:
    if value:
        monkeypatch.setenv(variable, value)
    server = fake(behave)
    with pytest.raises(EngineError) as error:
        run(server, live=live)
    assert variable in str(error.value)
    assert server.url in str(error.value)


@pytest.mark.parametrize(("behave", "variable", "value"), [
    (endless_text, ANSWER, "200000"), (pause_in_text, PAUSE, "1"), (pause_in_text, REQUEST, "1"),
])
def test_what_had_arrived_of_a_text_at_a_limit_is_kept_and_marked(
    fake: Callable[..., Fake], monkeypatch: pytest.MonkeyPatch, behave: Behave, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    def first_only(handler: Handler, body: dict[str, Any], number: int) -> None:
        (behave if number == 0 else good)(handler, body, number)

    result = run(fake(first_only), n=2, tokens=300)
    stopped = [c for c in result.candidates if c.ended == "stopped"]
    assert len(stopped) == 1
    assert stopped[0].text
    assert all(c.score is not None for c in result.candidates)
    assert [variable in note and "as far as they had come" in note for note in result.notes].count(True) == 1


def test_keep_alives_are_life_before_the_first_text(
    fake: Callable[..., Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FIRST_TEXT, "0.5")

    def slow_to_begin(handler: Handler, body: dict[str, Any], number: int) -> None:
        begin(handler, "text/event-stream")
        for _ in range(12):
            handler.wfile.write(b": keep-alive\n\n")
            time.sleep(0.1)
        for chunk in chunks(body):
            handler.wfile.write(event(chunk))

    result = run(fake(slow_to_begin), live=True)
    assert [(c.ended, c.tokens) for c in result.candidates] == [("length", 8)]


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
@pytest.mark.parametrize("variable", [ANSWER, FIRST_TEXT, PAUSE, REQUEST])
def test_a_limit_that_is_no_positive_number_is_refused_by_name(
    fake: Callable[..., Fake], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=variable):
        ServerEngine.at(fake().url)


def test_a_list_of_models_without_end_is_refused(fake: Callable[..., Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "do_GET", lambda handler: endless_body(handler, {}, 0))
    with pytest.raises(ModelError, match="without end"):
        ServerEngine.at(fake().url)


@pytest.mark.parametrize(("software", "messages", "allowed"), [
    ("", None, 2000), ("", CHAT, 2000), ("vllm", CHAT, 2000), ("llama.cpp", None, 2000), ("llama.cpp", CHAT, 4000),
])
def test_an_answer_may_have_two_kilobytes_a_token_and_more_where_the_server_is_known_to_list_alternatives(
    fake: Callable[..., Fake], software: str, messages: list[dict[str, str]] | None, allowed: int
) -> None:
    tokens, size = 1500, 0

    def answer(handler: Handler, body: dict[str, Any], number: int) -> None:
        begin(handler, "text/event-stream")
        handler.wfile.write(b": " + b"x" * size + b"\n\n" + b"".join(map(event, chunks({**body, "max_tokens": 2}))))
        handler.wfile.write(b"data: [DONE]\n\n")

    engine = ServerEngine(Server(fake(answer).url, "tiny", software))
    request = Request(None if messages else "This movie",
                      Settings(n=1, seed=7, min_tokens=tokens, max_tokens=tokens), messages)
    size = 1_000_000 + allowed * tokens - 5000
    assert flow.run(request, engine, SCORER).best.text
    size = 1_000_000 + allowed * tokens
    with pytest.raises(EngineError, match=ANSWER):
        flow.run(request, engine, SCORER)


@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_redirect_to_another_host_gets_neither_prompt_nor_key(fake: Callable[..., Fake], status: int) -> None:
    other = fake()

    def redirect(handler: Handler, body: dict[str, Any], number: int) -> None:
        where = other.url.replace("127.0.0.1", "localhost") + "/completions"
        handler.send(status, {}, Location=where)

    with pytest.raises(EngineError, match="another host, localhost"):
        run(fake(redirect))
    assert other.seen == []


def test_a_redirect_on_the_same_host_is_followed(fake: Callable[..., Fake]) -> None:
    other = fake()
    server = fake(lambda handler, body, number: handler.send(307, {}, Location=other.url + "/completions"))
    assert run(server).best
    assert other.bodies == server.bodies


def joint_chunks(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of a stream of all `n` texts, whose parts alternate."""
    texts = [chunks({**body, "seed": body["seed"] + child}) for child in range(body.get("n", 1))]
    for child, parts in enumerate(texts):
        for part in parts:
            part["choices"][0]["index"] = child
    return [part for group in zip(*texts, strict=True) for part in group]


def stream_jointly(handler: Handler, body: dict[str, Any], number: int) -> None:
    if body.get("stream"):
        handler.stream(joint_chunks(body))
    else:
        good(handler, body, number)


def test_a_page_sees_every_text_of_a_server_grow_and_the_texts_are_those_of_the_command_line(
    fake: Callable[..., Fake]
) -> None:
    server = fake(stream_jointly)
    request = Request("This movie", Settings(n=4, seed=7, min_tokens=6, max_tokens=6))
    events = list(flow.stream(request, ServerEngine.at(server.url), SCORER, live=True))
    grown = {row.index: row.tokens for event in events if isinstance(event, Wrote) for row in event.rows}
    assert grown == dict.fromkeys(range(4), 6)
    live = {event.candidate.index: event.candidate.text for event in events if isinstance(event, Ended)}
    assert live == {c.index: c.text for c in run(server, n=4, tokens=6).candidates}
    assert [body.get("n") for body in server.bodies] == [4, 4]


def test_what_came_last_is_shown_while_the_server_is_silent_and_the_run_can_be_stopped_then(
    fake: Callable[..., Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bon.engines.server.engine.STEP_INTERVAL", 0.02)
    hung_up = threading.Event()

    def fall_silent(handler: Handler, body: dict[str, Any], number: int) -> None:
        handler.stream(chunks(body)[:3], done=False)
        if handler.gone(5):
            hung_up.set()

    server = fake(fall_silent)
    request = Request("This movie", Settings(n=1, seed=7, min_tokens=8, max_tokens=8))
    with closing(flow.stream(request, ServerEngine.at(server.url), SCORER, live=True)) as events:
        shown = next(result for _, result in updates.snapshots(events) if result.candidates[0].tokens == 3)
    assert (shown.candidates[0].ended, len(server.bodies)) == (None, 1)
    assert hung_up.wait(5)


def test_parts_of_a_stream_without_text_keep_their_log_probabilities(fake: Callable[..., Fake]) -> None:
    def bytes_of_characters(handler: Handler, body: dict[str, Any], number: int) -> None:
        parts = [("", -2.0), ("", -0.5), ("語", -0.25), (" fine", -1.0)]
        stream = [{**chunks(body)[0], "choices": [{"index": 0, "text": text, "finish_reason": None, "logprobs": {
            "tokens": [text or "\ufffd"], "token_logprobs": [logprob]}}]} for text, logprob in parts]
        stream[-1]["choices"][0]["finish_reason"] = "length"
        handler.stream(stream)

    candidate = run(fake(bytes_of_characters), tokens=4, live=True).candidates[0]
    assert (candidate.text, candidate.tokens, candidate.logprob) == ("語 fine", 4, -3.75)


@pytest.mark.parametrize("number", [10**400, 1e400, -1e400, float("nan"), 1e300])
@pytest.mark.parametrize("live", [False, True])
def test_a_log_probability_that_no_arithmetic_can_hold_counts_as_none(
    fake: Callable[..., Fake], number: float, live: bool
) -> None:
    def answer(handler: Handler, body: dict[str, Any], number_of_request: int) -> None:
        parts = chunks(body) if live else [completion(body)]
        for choice in parts[0]["choices"]:
            choice["logprobs"]["token_logprobs"][0] = number
        handler.stream(parts) if live else handler.send(200, parts[0])

    candidate = run(fake(answer), tokens=4, live=live).candidates[0]
    assert (candidate.tokens, candidate.logprob, bool(candidate.text)) == (4, None, True)


def test_a_text_that_the_server_shortens_has_the_tokens_that_it_counted_and_a_note(fake: Callable[..., Fake]) -> None:
    def shorten(handler: Handler, body: dict[str, Any], number: int) -> None:
        handler.send(200, completion(body, [" fine" * 3], told=False))

    result = run(fake(shorten), tokens=9)
    assert [(c.tokens, c.cap) for c in result.candidates] == [(3, 9)]
    assert [note.key for note in result.notes].count("note.server_shortened") == 1
    assert not any(note.key == "note.server_shortened" for note in run(fake(), tokens=9).notes)


def test_more_tokens_than_the_listed_context_are_refused_before_anything_is_requested(
    fake: Callable[..., Fake]
) -> None:
    server = fake()
    server.listed = json.dumps({"object": "list", "data": [{"id": "tiny", "owned_by": "vllm", "max_model_len": 40}]})
    with pytest.raises(InputError, match="40"):
        run(server, tokens=41)
    assert [body for body in server.bodies if "max_tokens" in body] == []
    assert run(server, tokens=8).best
