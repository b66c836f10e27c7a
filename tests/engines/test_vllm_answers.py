"""The server engine against the recorded answers of vLLM's own server (`support/recorded_answers.py`)."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from bon import flow
from bon.engines.server.engine import ServerEngine
from bon.errors import EngineError, InputError, ModelError
from bon.result import Result
from bon.scorers.callable_scorer import CallableScorer
from bon.settings import Request, Settings
from tests.support.model_servers import Behave, Fake, Handler
from tests.support.recorded_answers import LINE_SEPARATORS, LONG, RUNS, VLLM, chat, read_recording, replay
from tests.support.recording_proxy import Exchange, choices_in

RECORDING = read_recording(VLLM)
#: What vLLM refuses at temperature 0, and what it says of its models to those without a key.
GREEDY_N, NO_KEY = "refused: n at temperature 0", "refused: no key for the models"
REFUSALS = [name for name in RECORDING if name.startswith("refused: ") and name not in (GREEDY_N, NO_KEY)]
SIMPLE = "ASCII, completion, n"


@pytest.fixture(scope="module")
def server() -> Iterator[Fake]:
    """A server that lists vLLM's model; each test sets what else it answers."""
    fake = Fake(lambda handler, body, number: None)
    fake.listed = json.loads(RECORDING["models"][0].answer)
    yield fake
    fake.shutdown()
    fake.server_close()


@pytest.fixture(scope="module")
def engine(server: Fake) -> ServerEngine:
    """An engine on that server; one for all tests, so that none may spoil it for the others."""
    return ServerEngine.at(server.url)


@pytest.fixture(autouse=True)
def _no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bon.engines.server.retrying_client.CLIENT_RETRIES", 0)
    monkeypatch.setattr("bon.engines.server.retrying_client.BACKOFF", 0.01)


def generate(server: Fake, engine: ServerEngine, behave: Behave, request: Request, live: bool = False) -> Result:
    """The result of a run whose requests are answered by `behave`."""
    server.behave = behave
    server.seen.clear()
    return flow.last_result(flow.stream(request, engine, CallableScorer(lambda texts: [0.0] * len(texts)), live=live))


def run(server: Fake, engine: ServerEngine, name: str) -> Result:
    """A recorded run, repeated."""
    return generate(server, engine, replay(RECORDING[name]), RUNS[name].request(), RUNS[name].live)


def one_text(server: Fake, engine: ServerEngine, exchange: Exchange, cap: int = 5) -> Result:
    """A run of one text, or of one chat, that gets this answer."""
    body = exchange.request or {}
    settings = Settings(n=1, seed=1, min_tokens=cap, max_tokens=cap, temperature=1.0, top_p=1.0)
    request = Request(None, settings, chat("Hi")) if "messages" in body else Request("The weather is", settings)
    return generate(server, engine, replay([exchange]), request, bool(body.get("stream")))


def choices(exchange: Exchange) -> list[dict[str, Any]]:
    return choices_in(exchange.request or {}, exchange.answer)


@pytest.mark.parametrize("name", RUNS)
def test_texts_tokens_and_log_probabilities_are_those_of_the_raw_answer(
    server: Fake, engine: ServerEngine, name: str
) -> None:
    result = run(server, engine, name)
    raw = {(choice["text"], choice["cap"]): choice for exchange in RECORDING[name] for choice in choices(exchange)}
    assert len(server.bodies) == sum(exchange.request is not None for exchange in RECORDING[name])
    assert len(result.candidates) == RUNS[name].settings["n"]
    for candidate in result.candidates:
        choice = raw[candidate.text, candidate.cap]
        assert candidate.ended == {"stop": "eos", "length": "length"}[choice["finish"]]
        entries = choice["entries"][: -1 if choice["finish"] == "stop" else None]
        assert candidate.tokens == len(entries)
        assert candidate.logprob == pytest.approx(math.fsum(entry["logprob"] for entry in entries))
        assert "".join(piece for piece, _ in candidate.pieces) == candidate.text
        cut = any("incomplete character" in note for note in candidate.notes)
        assert cut == (choice["finish"] == "length" and entries[-1]["token"] == "")
    ends = sum(candidate.ended == "eos" for candidate in result.candidates)
    usage = sum(choices(exchange)[-1]["tokens"] for exchange in RECORDING[name] if exchange.request)
    assert sum(candidate.tokens for candidate in result.candidates) + ends == usage
    assert all("incomplete character" in note for note in result.notes)


def test_the_recorded_runs_have_texts_that_end_and_characters_that_are_cut() -> None:
    for streamed in (False, True):
        recorded = [choice for name, run in RUNS.items() if run.live == streamed
                    for exchange in RECORDING[name] for choice in choices(exchange)]
        assert {choice["finish"] for choice in recorded} == {"stop", "length"}
        assert any(choice["entries"][-1]["token"] == "" for choice in recorded)


def test_a_seed_repeats_a_text() -> None:
    assert choices(RECORDING["seed"][0]) == choices(RECORDING["the same seed"][0])


@pytest.mark.parametrize("name", [name for name in RECORDING if "logprobs" in name and "refused" not in name])
def test_log_probabilities_of_alternatives_are_left_where_they_are(
    server: Fake, engine: ServerEngine, name: str
) -> None:
    candidate = one_text(server, engine, RECORDING[name][0]).best
    choice, = choices(RECORDING[name][0])
    assert (candidate.text, candidate.tokens) == (choice["text"], 5)
    assert candidate.logprob == pytest.approx(math.fsum(entry["logprob"] for entry in choice["entries"]))


@pytest.mark.parametrize("name", [name for name in RECORDING if name.startswith("no text")])
def test_an_empty_text_has_no_tokens(server: Fake, engine: ServerEngine, name: str) -> None:
    result = one_text(server, engine, RECORDING[name][0])
    assert (result.best.text, result.best.tokens, result.best.logprob, result.best.ended) == ("", 0, 0.0, "eos")
    assert result.notes == ()


@pytest.mark.parametrize("name", ["line separators", "line separators in a chat"])
def test_characters_that_separate_lines_elsewhere_end_no_line_of_a_stream(
    server: Fake, engine: ServerEngine, name: str
) -> None:
    assert LINE_SEPARATORS[1] in RECORDING[name][0].answer
    result = one_text(server, engine, RECORDING[name][0], cap=16)
    assert (result.best.text, result.best.ended, result.notes) == (LINE_SEPARATORS, "eos", ())


@pytest.mark.parametrize("name", ["shortened", "shortened chat"])
def test_a_text_that_is_shortened_has_a_note(server: Fake, engine: ServerEngine, name: str) -> None:
    result = one_text(server, engine, RECORDING[name][0], cap=300)
    assert result.best.tokens == json.loads(RECORDING[name][0].answer)["usage"]["completion_tokens"] < 300
    assert any("shortened" in note or "context" in note for note in result.notes)


@pytest.mark.parametrize("name", ["count of a prompt", "count of a chat"])
def test_what_exceeds_the_context_is_refused_by_the_servers_count(
    server: Fake, engine: ServerEngine, name: str
) -> None:
    settings = Settings(n=1, seed=1, min_tokens=300, max_tokens=300)
    request = Request(None, settings, chat(LONG * 56)) if "chat" in name else Request(LONG * 56, settings)
    with pytest.raises(InputError, match="512"):
        generate(server, engine, replay(RECORDING[name]), request)
    assert [path for path, _, body in server.seen if body] == ["/tokenize"]


def test_refusals_end_in_one_sentence_and_change_no_later_prompt(server: Fake, engine: ServerEngine) -> None:
    for name in REFUSALS:
        with pytest.raises(EngineError) as error:
            one_text(server, engine, RECORDING[name][0])
        answer = json.loads(RECORDING[name][0].answer)
        reported = answer.get("detail") or answer["error"]
        message = reported if isinstance(reported, str) else reported["message"]
        assert " ".join(message.split())[:300] in str(error.value), name
        assert "\n" not in str(error.value), name
        assert engine.unsupported == set(), name
    later = run(server, engine, SIMPLE)
    assert later.notes == ()
    assert {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "n", "logprobs"} <= set(
        server.bodies[0])


def test_a_temperature_that_is_too_high_is_an_error_and_not_left_out(server: Fake, engine: ServerEngine) -> None:
    def behave(handler: Handler, body: dict[str, Any], number: int) -> None:
        too_high = body.get("temperature") == 2.5
        replay(RECORDING["refused: temperature 2.5" if too_high else "seed"])(handler, body, number)

    settings = Settings(n=1, temperature=2.5, min_tokens=5, max_tokens=5)
    with pytest.raises(EngineError, match=r"temperature must be in \[0, 2\], got 2\.5"):
        generate(server, engine, behave, Request("The weather is", settings))


def test_a_temperature_that_the_server_raises_has_a_note(server: Fake, engine: ServerEngine) -> None:
    settings = Settings(n=1, temperature=0.001, min_tokens=5, max_tokens=5)
    result = generate(server, engine, replay(RECORDING["logprobs 1"]), Request("The weather is", settings))
    assert result.notes == ("The server takes temperatures below 0.01 for 0.01.",)


def test_where_n_is_refused_the_texts_are_requested_one_by_one(server: Fake) -> None:
    def behave(handler: Handler, body: dict[str, Any], number: int) -> None:
        replay(RECORDING[GREEDY_N if "n" in body else "seed"])(handler, body, number)

    settings = Settings(n=4, seed=1, min_tokens=5, max_tokens=5, temperature=0.01)
    result = generate(server, ServerEngine.at(server.url), behave, Request("The weather is", settings))
    assert [candidate.text for candidate in result.candidates] == 4 * [choices(RECORDING["seed"][0])[0]["text"]]
    assert any("refused n; it was left out" in note for note in result.notes)


def test_a_server_that_requires_a_key_says_so_at_once() -> None:
    server = Fake(lambda handler, body, number: None, listing=RECORDING[NO_KEY][0].status)
    server.listed = json.loads(RECORDING[NO_KEY][0].answer)
    with pytest.raises(ModelError, match=r"requires a key \(status 401: Unauthorized\)"):
        ServerEngine.at(server.url)
    server.shutdown()
    server.server_close()
