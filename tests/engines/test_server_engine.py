"""The server engine against a server that misbehaves in every way, and against `transformers serve`."""

import json
import logging
import re
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

import bon
from bon import flow
from bon.cli.main import main
from bon.compare import comparison_run
from bon.compare.comparison_run import ComparisonModels
from bon.engines.base import Job
from bon.engines.server import availability, connection
from bon.engines.server.connection import Server, check_url, connect
from bon.engines.server.engine import ServerEngine
from bon.engines.server.retrying_client import RetryingClient
from bon.errors import EngineError, InputError, ModelError, ScoringError, ServerUnavailableError
from bon.events import Done, Ended, Wrote
from bon.models import presets
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.logprob import MeanLogprobScorer
from bon.scorers.weighted import WeightedScorer
from bon.settings import Request, Settings
from bon.ui.generate import run_view
from bon.ui.hosting.deployment import Deployment
from tests.engines.test_server_limits import joint_chunks
from tests.support.browser import DRAWN, App, open_page
from tests.support.model_servers import Fake, Handler, chunks, completion, good, started, text_of

KEY = "sk-a-key-that-nobody-may-see"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in ("BON_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake():
    """Makes a server that behaves as it is told."""
    made = []

    def make(behave=good, **kind) -> Fake:
        made.append(Fake(behave, **kind))
        return made[-1]

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


def loud(texts: list[str]) -> list[float]:
    return [text.count("loud") for text in texts]


def run(server: Fake, n=8, scorer=None, prompt="This movie", messages=None, idle_timeout=20.0, **settings):
    engine = ServerEngine.at(server.url, idle_timeout=idle_timeout)
    request = Request(prompt, Settings(n=n, seed=7, **settings), messages=messages)
    return flow.run(request, engine, scorer or CallableScorer(loud))


def texts(result) -> list[str]:
    return [c.text for c in sorted(result.candidates, key=lambda c: c.index)]


# What is asked, and what becomes of the answers.


def test_each_candidate_is_asked_for_with_a_seed_and_a_cap_of_its_own(fake):
    server = fake()
    result = run(server, n=16, min_tokens=1, max_tokens=200, temperature=0.7, top_p=0.9)
    bodies = server.bodies
    asked = [(b["max_tokens"], b["seed"] + i) for b in bodies for i in range(b.get("n", 1))]
    assert sorted(cap for cap, _ in asked) == sorted(c.cap for c in result.candidates)
    assert len({seed for _, seed in asked}) == 16
    assert {(b["prompt"], b["temperature"], b["top_p"]) for b in bodies} == {("This movie", 0.7, 0.9)}
    assert all(c.ended == "length" and c.tokens == c.cap and c.logprob == -0.5 * c.tokens for c in result.candidates)


def test_the_first_four_of_sixteen_are_the_four_of_four_and_another_query_has_others(fake):
    server = fake()
    few, many = (run(server, n=n) for n in (4, 16))
    assert texts(few) == texts(many)[:4]
    engine = ServerEngine.at(server.url)
    settings = Settings(n=4, seed=7)
    requests = [Request("This movie", settings, query=query) for query in (0, 1)]
    results = [e.result for _, e in flow.stream_many(requests, engine, CallableScorer(loud)) if isinstance(e, Done)]
    assert texts(results[0]) == texts(few)
    assert not set(texts(results[1])) & set(texts(few))


def test_candidates_of_one_cap_come_with_one_request_where_the_server_takes_n(fake):
    server = fake()
    result = run(server, n=20, min_tokens=9, max_tokens=9)
    assert sorted(b.get("n", 1) for b in server.bodies) == [4, 16]
    assert len(set(texts(result))) == 20
    assert not any("(n)" in note for note in result.notes)


@pytest.mark.parametrize("count", [1, 3])
def test_where_n_brings_too_few_the_missing_are_asked_for_one_by_one(fake, count):
    def few(handler, body, number):
        handler.send(200, completion({**body, "n": min(count, body.get("n", 1))}))

    server = fake(few)
    result = run(server, n=8, min_tokens=9, max_tokens=9)
    assert len(set(texts(result))) == 8
    assert len(server.bodies) == 1 + 8 - count
    assert any(f"{count} of 8" in note for note in result.notes)


def test_more_texts_than_asked_for_are_left_where_they_are(fake):
    server = fake(lambda handler, body, number: handler.send(200, completion({**body, "n": 5})))
    result = run(server, n=4, min_tokens=9, max_tokens=9)
    assert len(texts(result)) == 4


def test_the_end_of_text_counts_as_no_token_and_pieces_make_up_the_text(fake):
    def ended(handler, body, number):
        answer = completion({**body, "n": 1}, [" fine"], finish="stop")
        answer["choices"][0]["logprobs"] = {"tokens": [" fine", "<end>"], "token_logprobs": [-0.5, -2]}
        handler.send(200, answer)

    best = run(fake(ended), n=1).best
    assert (best.text, best.tokens, best.logprob, best.ended) == (" fine", 1, -0.5, "eos")
    assert best.pieces == ((" fine", -0.5),)


def test_an_empty_text_is_a_candidate_like_any_other(fake):
    server = fake(lambda handler, body, number: handler.send(200, completion(body, ["", " loud"][:body.get("n", 1)],
                                                                             finish="stop")))
    result = run(server, n=2, min_tokens=9, max_tokens=9)
    assert [(c.text, c.tokens, c.ended) for c in result.candidates] == [(" loud", 1, "eos"), ("", 0, "eos")]


def test_without_log_probabilities_the_note_says_so_and_who_needs_them_fails(fake):
    server = fake(lambda handler, body, number: handler.send(200, completion(body, told=False)))
    result = run(server, n=2)
    assert [c.logprob for c in result.candidates] == [None, None]
    assert all(c.tokens == c.cap for c in result.candidates)
    assert any("no log-probabilities" in note for note in result.notes)
    with pytest.raises(ScoringError, match="log-probabilities"):
        run(server, n=2, scorer=MeanLogprobScorer())
    assert run(fake(), n=2, scorer=MeanLogprobScorer()).best.score == -0.5


def test_a_chat_is_answered_as_a_chat(fake):
    server = fake()
    result = run(server, n=3, prompt=None, messages=[{"role": "user", "content": "Well?"}])
    assert {path for path, _, body in server.seen if body} == {"/v1/chat/completions"}
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "Well?"}]
    assert all(c.logprob == -0.5 * c.tokens for c in result.candidates)


BEGUN = [{"role": "user", "content": "Well?"}, {"role": "assistant", "content": "It is"}]


@pytest.mark.parametrize(("owner", "told", "unsure"), [
    ("vllm", True, False), ("sglang", True, False), ("llamacpp", False, True), ("somebody", False, True),
])
def test_a_server_goes_on_with_the_assistants_message_or_a_note_doubts_it(fake, owner, told, unsure):
    server = fake(owner=owner)
    result = run(server, n=1, prompt=None, messages=BEGUN)
    asked = {name: server.bodies[0].get(name) for name in ("continue_final_message", "add_generation_prompt")}
    assert asked == ({"continue_final_message": True, "add_generation_prompt": False} if told else dict.fromkeys(asked))
    assert any("last message" in note for note in result.notes) == unsure
    assert not any("last message" in note for note in run(server, n=1, prompt=None, messages=BEGUN[:1]).notes)


def test_a_server_that_always_answers_is_refused_a_message_to_go_on_with(fake):
    engine = ServerEngine(Server(fake().url, "tiny", "transformers"))
    with pytest.raises(InputError, match="always begins a new message"):
        engine.encode(Request(messages=BEGUN))


@pytest.mark.parametrize(("finish", "text"), [("length", " fine"), ("stop", " fine\ufffd")])
def test_half_a_character_at_the_length_is_left_out(fake, finish, text):
    def half(handler, body, number):
        handler.send(200, completion({**body, "n": 1}, [" fine\ufffd"], finish=finish))

    result = run(fake(half), n=1)
    assert result.best.text == text
    assert [note.key for note in result.notes].count("note.character_cut") == (finish == "length")


def test_one_and_the_same_text_again_and_again_is_pointed_out(fake):
    server = fake(lambda handler, body, number: handler.send(200, completion(
        body, [" loud" * body["max_tokens"]] * body.get("n", 1))))
    assert any("does not seem to sample" in note for note in run(server).notes)
    assert not any("seem to sample" in note for note in run(fake()).notes)


@pytest.mark.parametrize(("owner", "expected"), [
    ("vllm", {"top_k": -1, "min_p": 0, "repetition_penalty": 1}),
    ("llamacpp", {"top_k": 0, "min_p": 0, "repeat_penalty": 1, "typical_p": 1, "xtc_probability": 0,
                  "dry_multiplier": 0, "top_n_sigma": -1}),
    ("somebody", {}),
])
def test_a_server_that_is_known_has_its_own_defaults_switched_off(fake, owner, expected):
    server = fake(owner=owner)
    result = run(server, n=1)
    own = ("top_k", "min_p", "repetition_penalty", "repeat_penalty", "typical_p", "xtc_probability", "dry_multiplier",
           "top_n_sigma")
    assert {name: server.bodies[0][name] for name in own if name in server.bodies[0]} == expected
    assert any("It is unknown" in note for note in result.notes) == (not expected)


@pytest.mark.parametrize(("owner", "sent", "notes"), [
    ("vllm", {"top_k": 9, "min_p": 0.1, "repetition_penalty": 1.2}, ["note.no_typical_p", "note.min_p_before_top_p"]),
    ("llamacpp", {"top_k": 9, "min_p": 0.1, "typical_p": 0.9, "repeat_penalty": 1.2, "repeat_last_n": -1,
                  "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p", "typ_p"]}, []),
    ("somebody", {"top_k": 9, "min_p": 0.1, "typical_p": 0.9, "repetition_penalty": 1.2},
     ["note.seed_and_cuts_unsure", "note.defaults_unsure"]),
])
def test_penalty_and_cuts_are_sent_and_what_a_server_does_otherwise_is_named(fake, owner, sent, notes):
    server = fake(owner=owner)
    result = run(server, n=1, top_k=9, top_p=0.8, min_p=0.1, typical_p=0.9, repetition_penalty=1.2)
    own = ("top_k", "min_p", "typical_p", "samplers", "repetition_penalty", "repeat_penalty", "repeat_last_n")
    assert {name: server.bodies[0][name] for name in own if name in server.bodies[0]} == sent
    assert [note.key for note in result.notes] == notes


def test_stop_strings_are_sent_and_which_of_two_ends_it_was_is_left_open(fake):
    def stopping(handler, body, number):
        answer = completion({**body, "n": 1}, [" fine and"], finish="stop")
        tokens = [" fine", " and", " dull", "<end>"]
        answer["choices"][0]["logprobs"] = {"tokens": tokens, "token_logprobs": [-0.5, -1, -2, -4]}
        answer["usage"]["completion_tokens"] = 4
        handler.send(200, answer)

    server = fake(stopping, owner="vllm")
    result = run(server, n=1, stop=["dull", "\n"])
    assert server.bodies[0]["stop"] == ["dull", "\n"]
    best = result.best
    assert (best.text, best.ended, best.tokens, best.logprob) == (" fine and", "eos", 2, -1.5)
    assert best.pieces == ((" fine", -0.5), (" and", -1))
    assert [note.key for note in result.notes] == ["note.stop_or_end"]
    assert "stop" not in (run(server, n=1), server.bodies[-1])[1]


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_where_a_server_does_not_stop_at_stop_strings_its_texts_are_cut_here(fake, refuses, streamed):
    words = [" fine", " and", " du", "ll", " day"]

    def deaf(handler, body, number):
        if refuses and "stop" in body:
            handler.send(400, {"error": {"message": "Unsupported parameter: 'stop'", "param": "stop"}})
        elif streamed:
            handler.stream([{"choices": [{"index": 0, "text": word, "finish_reason": None, "logprobs": {
                "tokens": [word], "token_logprobs": [-1.0]}}]} for word in words]
                + [{"choices": [{"index": 0, "text": "", "finish_reason": "length"}]}])
        else:
            answer = completion({**body, "n": 1}, ["".join(words)])
            answer["choices"][0]["logprobs"] = {"tokens": words, "token_logprobs": [-1.0] * 5}
            handler.send(200, answer)

    engine = ServerEngine.at(fake(deaf, owner="vllm").url)
    request = Request("This movie", Settings(n=1, seed=7, stop=["dull", "none"], min_tokens=5, max_tokens=5))
    events = list(flow.stream(request, engine, CallableScorer(loud), live=streamed))
    best = events[-1].result.best
    assert (best.text, best.ended, best.tokens, best.logprob) == (" fine and ", "stop_string", 3, -3.0)
    assert "".join(piece for piece, _ in best.pieces) == best.text
    shown = [row.text for event in events if isinstance(event, Wrote) for row in event.rows]
    assert [bool(shown), all(best.text.startswith(text) for text in shown)] == [streamed, True]
    assert [note.key for note in events[-1].result.notes] == ["note.stop_refused"] * refuses


@pytest.mark.parametrize(("status", "message", "left_out"), [
    (400, "Unrecognized request argument supplied: top_k", "top_k"),
    (422, "Unexpected fields in the request: {'seed'}", "seed"),
    (400, "You are not allowed to request logprobs from this model.", "logprobs"),
    (400, "'n' must be 1", "n"),
])
def test_what_a_server_refuses_is_left_out_and_named(fake, status, message, left_out):
    def strict(handler, body, number):
        if left_out in body:
            handler.send(status, {"error": {"message": message}})
        else:
            good(handler, body, number)

    result = run(fake(strict), n=4, top_k=5, min_tokens=9, max_tokens=9)
    assert len(texts(result)) == 4
    assert any(note.startswith(f"The server refused {left_out}; it was left out") for note in result.notes)


def test_newer_chat_models_get_the_name_that_they_want_for_the_cap(fake):
    def newer(handler, body, number):
        if "max_tokens" in body:
            told = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
            handler.send(400, {"error": {"message": told}})
        else:
            handler.send(200, completion({**body, "max_tokens": body["max_completion_tokens"]}))

    assert len(texts(run(fake(newer), n=2, prompt=None, messages=[{"role": "user", "content": "Well?"}]))) == 2


# A server that misbehaves.


def test_a_server_that_turns_half_of_the_requests_away_loses_nothing(fake):
    def half(handler, body, number):
        if number % 2:
            handler.send(429, {"error": {"message": "slow down"}}, retry_after_ms="20")
        else:
            good(handler, body, number)

    server = fake(half)
    result = run(server, n=64, min_tokens=1, max_tokens=200)
    assert len(texts(result)) == 64
    assert all(c.tokens == c.cap and c.score is not None for c in result.candidates)
    asked_again = len(server.bodies) - len({(b["seed"], b["max_tokens"]) for b in server.bodies})
    assert any(f"garbled them: {asked_again} requests" in note for note in result.notes)


def dropped(handler, body, number):
    handler.connection.shutdown(socket.SHUT_RDWR)


def cut(handler, body, number):
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"text": "half a')
    handler.connection.shutdown(socket.SHUT_RDWR)


def broken_off(handler, body, number):
    handler.stream(chunks(body)[:2], done=False)


MISBEHAVIOUR = {
    "500": lambda handler, body, number: handler.send(500, {"error": "oh"}),
    "503": lambda handler, body, number: handler.send(503, "<html>later</html>"),
    "dropped": dropped,
    "cut": cut,
    "html": lambda handler, body, number: handler.send(200, "<html>hello</html>"),
    "no JSON": lambda handler, body, number: handler.send(200, '{"choices": [', Content_Type="application/json"),
    "a list": lambda handler, body, number: handler.send(200, [1, 2]),
    "null": lambda handler, body, number: handler.send(200, None),
    "no choices": lambda handler, body, number: handler.send(200, {**completion(body), "choices": []}),
    "strange choices": lambda handler, body, number: handler.send(200, {"choices": [17, None]}),
    "no text": lambda handler, body, number: handler.send(200, {"choices": [{"index": 0, "text": None}]}),
    "a number": lambda handler, body, number: handler.send(200, {"choices": [{"index": 0, "text": 5}]}),
    "broken off": broken_off,
}


@pytest.mark.parametrize("how", MISBEHAVIOUR)
def test_what_goes_wrong_once_is_asked_again(fake, how, monkeypatch):
    monkeypatch.setattr("bon.engines.server.retrying_client.BACKOFF", 0.01)

    def once(handler, body, number):
        (MISBEHAVIOUR[how] if number == 0 else good)(handler, body, number)

    reject = {"reject": 0.3} if how == "broken off" else {}
    result = run(fake(once), n=3, **reject)
    assert texts(result) == texts(run(fake(), n=3, **reject))
    assert any("garbled it: 1 request" in note for note in result.notes)


@pytest.mark.parametrize("how", MISBEHAVIOUR)
def test_what_always_goes_wrong_ends_in_one_clear_line(fake, how, monkeypatch):
    monkeypatch.setattr("bon.engines.server.retrying_client.CLIENT_RETRIES", 0)
    monkeypatch.setattr("bon.engines.server.retrying_client.BACKOFF", 0.01)
    server = fake(MISBEHAVIOUR[how])
    with pytest.raises(EngineError) as error:
        run(server, n=3, **({"reject": 0.3} if how == "broken off" else {}))
    assert server.url in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_that_falls_silent_is_asked_again_and_then_given_up(fake):
    def silent(handler, body, number):
        assert handler.gone(20)

    def silent_once(handler, body, number):
        (silent if number == 0 else good)(handler, body, number)

    assert len(texts(run(fake(silent_once), n=3, idle_timeout=0.5))) == 3
    with pytest.raises(EngineError, match=r"sent nothing for 0\.3 seconds"):
        run(fake(silent), n=3, idle_timeout=0.3)


def test_a_silent_server_that_does_not_list_its_models_either_is_not_asked_again(fake, monkeypatch):
    monkeypatch.setattr(availability, "SILENCE_LIST_TIMEOUT", 0.2)
    monkeypatch.setattr(connection, "LIST_TIMEOUT", 0.2)
    silent = fake(lambda handler, body, number: handler.gone(20))
    engine = ServerEngine.at(silent.url, idle_timeout=0.3)
    monkeypatch.setattr(Handler, "do_GET", lambda handler: handler.gone(20))
    with pytest.raises(ServerUnavailableError):
        flow.run(Request("This movie", Settings(n=1, seed=7)), engine, CallableScorer(loud))
    assert len(silent.bodies) == 1


def test_a_run_whose_silent_server_cannot_be_reached_ends_and_what_had_come_is_printed(fake, capsys, monkeypatch):
    monkeypatch.setattr(availability, "SILENCE", 0.1)
    monkeypatch.setattr(availability, "UNREACHABLE_PAUSE", 0.05)
    monkeypatch.setattr(Handler, "protocol_version", "HTTP/1.0")  # so that no open connection is used again
    hung_up = threading.Semaphore(0)

    def answer_one(handler, body, number):
        if number == 0:
            good(handler, body, number)
        else:
            server.shutdown()
            server.server_close()
            if handler.gone(20):
                hung_up.release()

    server = fake(answer_one)
    options = ["-n", "2", "--seed", "7", "--max-tokens", "200", "--json", "--endpoint", server.url]
    assert main(["This movie", *options]) == 1
    out, err = capsys.readouterr()
    assert "sent nothing for 0.1 seconds" in err.splitlines()[0]
    assert f"{server.url} does not answer" in err.splitlines()[-1]
    result = json.loads(out)
    ends = {c["ended"]: c["score"] is None for c in result["candidates"]}
    assert ends == {"length": False, "stopped": True}
    assert any("does not answer" in note for note in result["notes"])
    assert any("Stopped with 1 of 2" in note for note in result["notes"])
    assert hung_up.acquire(timeout=5)


def test_a_slow_server_is_not_taken_for_a_silent_one_while_it_answers_others(fake):
    one_at_a_time = threading.Lock()

    def slow(handler, body, number):
        with one_at_a_time:
            time.sleep(0.3)
            good(handler, body, number)

    server = fake(slow)
    result = run(server, n=10, min_tokens=1, max_tokens=200, idle_timeout=2)
    assert len(texts(result)) == 10
    assert not any("again" in note for note in result.notes)


def test_closing_the_stream_cancels_what_is_on_its_way(fake):
    left = threading.Semaphore(0)

    def first_alone(handler, body, number):
        if number == 0:
            good(handler, body, number)
        elif handler.gone():
            left.release()

    engine = ServerEngine.at(fake(first_alone).url)
    request = Request("This movie", Settings(n=8, seed=7, min_tokens=1, max_tokens=200))
    events = flow.stream(request, engine, CallableScorer(loud))
    next(event for event in events if isinstance(event, Ended))
    events.close()
    assert all(left.acquire(timeout=5) for _ in range(7))


def test_what_is_stopped_before_it_begins_asks_for_nothing(fake):
    server, put = fake(), []
    request = Request("This movie", Settings(n=2, seed=7))
    client = RetryingClient(connect(server.url), [Job((), (3, 3), request)], put.append, set())
    client.stop()
    client.run()
    assert (put, server.bodies) == ([None], [])


@pytest.mark.parametrize(("options", "most_allowed"), [
    ({"in_flight": 5}, 5), ({"slots": 2, "software": "llama.cpp"}, 3), ({"slots": 9, "in_flight": 4}, 4),
])
def test_no_more_requests_than_agreed_are_on_their_way(fake, options, most_allowed):
    lock, now, most = threading.Lock(), [0], [0]

    def counted(handler, body, number):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        good(handler, body, number)

    in_flight = {"in_flight": options.pop("in_flight")} if "in_flight" in options else {}
    engine = ServerEngine(Server(fake(counted).url, "tiny", **options), **in_flight)
    flow.run(Request("This movie", Settings(n=30, seed=7, max_tokens=200)), engine, CallableScorer(loud))
    assert 2 <= most[0] <= most_allowed


def test_early_rejection_sees_the_texts_grow_and_cancels_those_that_it_drops(fake):
    server = fake(lambda handler, body, number: handler.stream(chunks(body), pause=0.03))
    engine = ServerEngine.at(server.url)
    request = Request("This movie", Settings(n=8, seed=7, min_tokens=40, max_tokens=40, reject=0.5))
    events = list(flow.stream(request, engine, CallableScorer(loud)))
    assert any(isinstance(event, Wrote) for event in events)
    result = events[-1].result
    dropped_ones = [c for c in result.candidates if c.ended == "rejected"]
    assert 4 <= len(dropped_ones) < 8
    assert all(4 <= c.tokens < 40 for c in dropped_ones)
    kept = next(c for c in result.candidates if c.ended == "length")
    assert kept.tokens == 40
    assert kept.text == text_of(next(b for b in server.bodies if text_of(b) == kept.text))


def incomplete_logprobs(handler, body, number, is_incomplete=lambda body: body["seed"] % 2):
    """Answers with log-probabilities of all tokens but the first, as llama.cpp does with emoji, to every other seed."""
    answer = completion({**body, "n": 1})
    if is_incomplete(body):
        content = answer["choices"][0]["logprobs"]
        for entries in content.values():
            del entries[0]
    handler.send(200, answer)


@pytest.mark.parametrize("messages", [None, [{"role": "user", "content": "Well?"}]])
@pytest.mark.parametrize("scorer", [
    MeanLogprobScorer(), WeightedScorer([(1.0, MeanLogprobScorer()), (0.5, CallableScorer(loud))])])
def test_a_text_with_incomplete_log_probabilities_has_no_score_by_them_and_the_others_keep_theirs(
        fake, scorer, messages):
    server = fake(incomplete_logprobs)
    result = run(server, n=8, scorer=scorer, messages=messages, prompt=None if messages else "This movie")
    unscored = [c for c in result.candidates if c.score is None]
    assert 0 < len(unscored) < 8
    assert len(unscored) == sum(body["seed"] % 2 for body in {body["seed"]: body for body in server.bodies}.values())
    assert {note.key for note in result.notes} >= {"note.logprobs_incomplete", "note.unrated"}
    assert f"{len(unscored)} of 8 texts have no score" in str(result)
    assert result.best.logprob == -0.5 * result.best.tokens
    assert run_view.ended_view(result)["phase"] == "done"
    record = json.dumps(run_view.record(result))
    assert run_view.ended_view(run_view.read_record(record))["notes"] == list(result.notes)
    assert run_view.ended_view(run_view.read_record(record))["phase"] == "done"
    other = run(server, n=8, messages=messages, prompt=None if messages else "This movie")
    assert all(c.score is not None for c in other.candidates)


def test_where_no_log_probabilities_are_complete_a_note_says_why_nothing_has_a_score(fake):
    def all_incomplete(handler, body, number):
        incomplete_logprobs(handler, body, number, lambda body: True)

    result = run(fake(all_incomplete), n=3, scorer=MeanLogprobScorer(), min_tokens=4)
    assert [c.score for c in result.candidates] == [None] * 3
    assert "note.all_unrated" in [note.key for note in result.notes]
    with pytest.raises(ScoringError, match="log-probabilities"):  # a server that gives none at all
        run(fake(lambda handler, body, number: handler.send(200, completion({**body, "n": 1}, told=False))), n=3,
            scorer=MeanLogprobScorer())


def test_a_comparison_counts_texts_with_incomplete_log_probabilities_apart_from_empty_ones(fake):
    models = ComparisonModels(ServerEngine.at(fake(incomplete_logprobs).url), MeanLogprobScorer())
    comparison = comparison_run.run(["This movie", "That film"], models, Settings(n=4, seed=7))
    assert "note.unrated" in [note.key for note in comparison.notes]
    assert not any(note.key == "note.empty_compared" for note in comparison.notes)
    assert comparison.rows()


# What is said before anything runs.


@pytest.mark.parametrize("url", ["", "nowhere", "ftp://127.0.0.1/v1", "http://", "http://:80/v1", "http://a:x/v1",
                                 "http://me:secret@127.0.0.1/v1", "http://127.0.0.1/v1?key=secret", None, 5])
def test_what_is_no_address_is_refused_and_secrets_in_it_are_not_repeated(url):
    with pytest.raises(InputError) as error:
        check_url(url)
    assert error.value.field == "endpoint"
    assert "secret" not in str(error.value)


def test_the_command_line_refuses_in_one_line_what_cannot_work(fake, capsys, monkeypatch):
    server = fake(models=("large", "small"))

    def refused(*argv: str) -> str:
        capsys.readouterr()
        assert main(["This movie", "-n", "2", *argv]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("bon: ")
        assert err.count("\n") == 1
        return err

    assert "such as http" in refused("--endpoint", "nowhere")
    assert "http://127.0.0.1:9/v1 does not answer" in refused("--endpoint", "http://127.0.0.1:9/v1")
    assert "It has: large, small." in refused("--endpoint", server.url, "--model", "huge")
    assert "Set `model` to the name" in refused("--endpoint", server.url)
    assert "end in /v1" in refused("--endpoint", server.url.removesuffix("/v1"))
    assert "requires a key (status 401: no). Set BON_API_KEY" in refused("--endpoint", fake(listing=401).url)
    monkeypatch.setenv("BON_API_KEY", KEY)
    assert "does not accept the key (status 401: no)" in refused("--endpoint", fake(listing=401).url)
    monkeypatch.setitem(sys.modules, "openai", None)
    assert "pip install openai" in refused("--endpoint", server.url)


@pytest.mark.parametrize("payload", ["<html>hello</html>", "null", "[1]", "{}", '{"data": 5}', '{"data": [5]}', "{"])
def test_a_server_of_another_kind_is_recognised(fake, payload):
    server = fake()
    server.listed = payload
    with pytest.raises(ModelError, match="not as OpenAI-compatible servers do"):
        ServerEngine.at(server.url)


def test_the_command_line_runs_on_a_server_and_fails_with_status_1_where_the_run_does(fake, capsys, monkeypatch):
    argv = ["This movie", "-n", "2", "--json", "--endpoint"]
    assert main([*argv, fake().url]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["settings"]["model"] == "tiny"
    assert result["scorer"] == "embedded sentiment"
    monkeypatch.setattr("bon.engines.server.retrying_client.BACKOFF", 0.01)
    assert main([*argv, fake(MISBEHAVIOUR["html"]).url]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_a_server_that_knows_only_chats_says_what_to_give_it(fake):
    with pytest.raises(EngineError, match="Give messages"):
        run(fake(lambda handler, body, number: handler.send(404, {"detail": "Not Found"})))


def test_python_reaches_a_server_by_its_address(fake):
    server = fake()
    sampler = bon.load(endpoint=server.url, scorer=loud)
    assert repr(sampler).startswith("Sampler(tiny at 127.0.0.1:")
    assert sampler.run("This movie", n=2, seed=7).settings.model == "tiny"
    assert sampler.engine.describe()["name"] == "tiny"
    result = bon.best_of_n("This movie", n=4, seed=7, endpoint=server.url, model="tiny", scorer=loud)
    assert result.best.score == max(c.score for c in result.candidates)
    assert bon.best_of_n("This movie", n=2, endpoint=server.url, scorer=loud).model == sampler.engine.name
    for what, request in {"token ids": Request(prompt_ids=(1, 2)), "a prompt": Request(unconditional=True)}.items():
        with pytest.raises(InputError, match=what):
            sampler.engine.encode(request)


@pytest.mark.parametrize("variable", ["BON_API_KEY", "OPENAI_API_KEY"])
def test_the_key_goes_to_the_server_and_nowhere_else(fake, monkeypatch, caplog, variable):
    def echoes(handler, body, number):
        handler.send(400, {"error": {"message": f"the key {handler.headers['Authorization']} is odd"}})

    monkeypatch.setenv("OPENAI_API_KEY", "another")
    monkeypatch.setenv(variable, KEY)
    caplog.set_level(logging.DEBUG)
    server = fake()
    result = run(server, n=2)
    assert {headers["authorization"] for _, headers, body in server.seen if body} == {f"Bearer {KEY}"}
    with pytest.raises(EngineError) as error:
        run(fake(echoes), n=2)
    with pytest.raises(ModelError) as refused:
        ServerEngine.at(fake(listing=403).url)
    engine = ServerEngine.at(server.url)
    told = [json.dumps(result.to_dict()), str(result), str(error.value), repr(error.value.__context__ or ""),
            str(refused.value), repr(engine.server), str(engine.describe()), caplog.text]
    assert "odd" in str(error.value)
    assert [text for text in told if KEY in text] == []


def test_a_page_gets_its_server_from_the_environment_alone():
    where = {"BON_ENDPOINT": "http://127.0.0.1:8000/v1", "BON_MODEL": "tiny"}
    here = Deployment.of({**where, "BON_PUBLIC": "1"})
    assert here.is_on_server("tiny")
    assert not here.is_on_server("embedded")
    assert not Deployment.of({}).is_on_server("embedded")
    with pytest.raises(InputError, match=r"BON_ENDPOINT.*such as"):
        Deployment.of({**where, "BON_ENDPOINT": "nowhere"})
    with pytest.raises(InputError, match="BON_MODEL"):
        Deployment.of({"BON_ENDPOINT": where["BON_ENDPOINT"]})
    with pytest.raises(InputError, match="no setting 'endpoint'"):
        Settings.of({"endpoint": where["BON_ENDPOINT"]})


def test_the_page_writes_with_its_server_and_says_when_that_is_gone(fake, browser, monkeypatch):
    server = fake()
    app = App(BON_ENDPOINT=server.url, BON_MODEL="tiny", BON_API_KEY=KEY)
    page = open_page(browser, app.wait().url)
    expect(page.locator(".chips")).to_contain_text("model: tiny", timeout=60_000)
    page.fill("#n input", "6")
    page.click("#generate")
    expect(page.locator(".bon")).to_have_attribute("data-phase", "done", timeout=60_000)
    page.evaluate(DRAWN)
    asked = [body for body in server.bodies if "max_tokens" in body]
    written = {text_of(body, child).strip() for body in asked for child in range(body.get("n", 1))}
    assert page.locator(".bon blockquote span").last.text_content().strip() in written
    assert page.locator(".bon .row").count() == 5
    stop_keeps_what_a_slow_server_has_written(page, server)
    # With a status that is not asked again, as 500 would be for half a minute.
    server.behave = lambda handler, body, number: handler.send(400, {"error": {"message": f"out of order {KEY}"}})
    page.click("#generate")
    expect(page.locator(".bon [role=alert]")).to_contain_text("out of order", timeout=120_000)
    assert KEY not in page.content()
    assert (page.left, page.errors) == ([], [])
    page.context.close()
    app.end()


def stop_keeps_what_a_slow_server_has_written(page, server):
    written, hung_up = [], threading.Semaphore(0)

    def write_three_words(handler, body, number):
        n = body.get("n", 1)
        written.extend(" ".join(text_of(body, child).split()[:3]) for child in range(n))
        handler.stream(joint_chunks(body)[: 3 * n], done=False)
        if handler.gone(20):
            hung_up.release()

    server.behave = write_three_words
    page.click("#generate")
    expect(page.locator(".bon")).to_have_attribute("data-phase", "writing")
    expect(page.locator(".bon .row .text", has_text=re.compile(r"\w+ \w+ \w+"))).to_have_count(6)
    page.click("#stop")
    expect(page.locator(".bon")).to_have_attribute("data-phase", "stopped")
    shown = page.locator(".bon .row .text").all_text_contents()
    assert all(any(text in row for row in shown) for text in written)
    assert hung_up.acquire(timeout=10)


# A server that nobody here wrote.


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory):
    """`transformers serve` with the built-in model: the address that it has."""
    folder = presets.find("embedded").model
    script = shutil.which("transformers", path=str(Path(sys.executable).parent))
    home = tmp_path_factory.mktemp("hub")
    command = [script, "serve", folder, "--host", "127.0.0.1", "--port", "PORT", "--device", "cpu"]
    with started(command, home / "log", HF_HUB_CACHE=str(home)) as url:
        yield f"{url}/v1"


def test_transformers_serve_writes_what_is_asked_and_the_notes_say_what_it_ignores(transformers_serve):
    sampler = bon.load(endpoint=transformers_serve)
    assert sampler.engine.server.software == "transformers"
    result = sampler.run("This movie", n=8, seed=7, min_tokens=4, max_tokens=12)
    assert len({c.text for c in result.candidates}) == 8
    assert all(0 < c.tokens <= c.cap and c.ended in ("length", "eos") for c in result.candidates)
    assert all(c.logprob is None for c in result.candidates)
    assert [note for note in result.notes if "transformers serve" in note]
    assert result.best.score == max(c.score for c in result.candidates)
    local = bon.load()
    ids = [len(local.engine.encode(Request("This movie" + c.text)).ids) - 2 for c in result.candidates]
    assert all(abs(count - c.tokens) <= 1 for count, c in zip(ids, result.candidates, strict=True))


def test_transformers_serve_draws_as_the_settings_say(transformers_serve):
    engine = ServerEngine.at(transformers_serve)
    colds = [flow.run(Request("This movie", Settings(n=4, seed=1, min_tokens=8, max_tokens=8, **settings)), engine,
                      CallableScorer(loud)) for settings in ({"temperature": 0.01}, {"top_k": 1}, {"top_p": 0.01})]
    local = bon.best_of_n("This movie", n=1, seed=1, top_k=1, min_tokens=8, max_tokens=8)
    assert {c.text for cold in colds for c in cold.candidates} == {local.best.text}


def test_transformers_serve_streams_to_early_rejection(transformers_serve):
    # Without continuous batching it writes one text after the other: who is dropped is known when the last one begins.
    events = list(bon.stream("This movie", n=3, seed=3, min_tokens=20, max_tokens=20, reject=0.5,
                             endpoint=transformers_serve))
    grown = [row for event in events if isinstance(event, Wrote) for row in event.rows]
    ended = {event.candidate.index: event.candidate for event in events if isinstance(event, Ended)}
    assert {row.index for row in grown} == set(ended) == {0, 1, 2}
    assert sum(candidate.ended == "rejected" for candidate in ended.values()) == 2
    assert all(ended[row.index].text.startswith(row.text) for row in grown if ended[row.index].ended != "rejected")


def test_transformers_serve_names_the_model_that_it_has(transformers_serve):
    with pytest.raises(ModelError, match=r"has no model other\. It has: .*reviews"):
        ServerEngine.at(transformers_serve, "other")
