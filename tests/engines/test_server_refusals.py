"""What a server refuses, reports or lacks: parameters, errors in every form, keys, addresses, lists of models."""

import json
import logging

import pytest

import bon
from bon import flow
from bon.cli.main import main
from bon.engines.server.connection import Server
from bon.engines.server.engine import ServerEngine
from bon.engines.server.keys import mask_key, read_key
from bon.engines.server.refusals import EITHER_TEMPERATURE_OR_TOP_P, ReportedError, explain_error, refused_parameters
from bon.errors import EngineError, InputError, ModelError, ServerUnavailableError
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.logprob import SelfCertaintyScorer
from bon.settings import Request, Settings
from bon.ui.hosting.deployment import Deployment
from tests.support.model_servers import Fake, chunks, completion, good

CHAT = [{"role": "user", "content": "Well?"}]
CONTEXT_ERRORS = [
    "'max_tokens' or 'max_completion_tokens' is too large: 32. This model's maximum context length is 512 tokens and "
    "your request has 600 input tokens (32 > 512 - 600).",
    "You passed 3001 input tokens and requested 8 output tokens. However, the model's context length is only 512 "
    "tokens. Please reduce the length of the input prompt, or lower max_tokens, n or temperature.",
]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in ("BON_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("bon.engines.server.retrying_client.BACKOFF", 0.01)
    monkeypatch.setattr("bon.engines.server.retrying_client.CLIENT_RETRIES", 0)


@pytest.fixture
def fake():
    """Makes a server that behaves as it is told."""
    made = []

    def make(behave=good, **options) -> Fake:
        made.append(Fake(behave, **options))
        return made[-1]

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


def length(texts: list[str]) -> list[float]:
    return [float(len(text)) for text in texts]


def run(server, n=4, prompt="This movie", messages=None, model=None, engine=None, **settings):
    engine = engine or ServerEngine.at(server.url, model)
    settings = {"min_tokens": 9, "max_tokens": 9, "seed": 7, **settings}
    request = Request(None if messages else prompt, Settings(n=n, **settings), messages)
    return flow.run(request, engine, CallableScorer(length))


def refuses(*names, answer, status=400):
    """A server that answers like this to requests with one of these parameters."""
    def behave(handler, body, number):
        refused = next((name for name in names if name in body), None)
        if refused:
            handler.send(status, answer(refused))
        else:
            good(handler, {"max_tokens": body.get("max_completion_tokens"), **body}, number)
    return behave


# The errors of servers, as these write them for a parameter that they do not take.

FORMS = {
    "OpenAI": (400, lambda name: {"error": {
        "message": f"Unsupported parameter: '{name}' is not supported with this model.", "param": name,
        "type": "invalid_request_error", "code": "unsupported_parameter"}}),
    "vLLM": (400, lambda name: {"error": {
        "message": "1 validation error:\n  {'type': 'extra_forbidden', 'loc': ('body', '" + name + "'), 'msg': 'Extra "
                   "inputs are not permitted', 'input': 1}", "type": "Bad Request", "param": None, "code": 400}}),
    "vLLM before 0.10": (400, lambda name: {
        "object": "error", "message": f"[{{'type': 'extra_forbidden', 'loc': ('body', '{name}'), 'msg': 'Extra inputs "
        "are not permitted'}]", "type": "BadRequestError", "param": None, "code": 400}),
    "Mistral": (422, lambda name: {
        "object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", name],
                                                   "msg": "Extra inputs are not permitted", "input": 7}]},
        "type": "invalid_request_error", "param": None, "code": None}),
    "FastAPI": (422, lambda name: {"detail": [{
        "type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted",
        "input": {"temperature": 1, "seed": 7, "top_p": 1}}]}),
    "Anthropic": (400, lambda name: {"type": "error", "error": {
        "type": "invalid_request_error", "message": f"{name}: Extra inputs are not permitted"}}),
    "Google": (400, lambda name: [{"error": {
        "code": 400, "message": f"Invalid JSON payload received. Unknown name \"{name}\": Cannot find field.",
        "status": "INVALID_ARGUMENT", "details": [{"@type": "type.googleapis.com/google.rpc.BadRequest",
                                                   "fieldViolations": [{"field": name, "description": "Unknown"}]}]}}]),
    "Ollama": (400, lambda name: {"error": {
        "message": f"json: cannot unmarshal number into Go struct field CompletionRequest.{name} of type bool",
        "type": "invalid_request_error", "param": None, "code": None}}),
    "Ollama's own": (400, lambda name: {"error": f"invalid option: {name}"}),
    "llama.cpp": (400, lambda name: {"error": {
        "code": 400, "message": f"Unsupported param: {name}", "type": "invalid_request_error"}}),
    "a proxy": (400, lambda name: {"error": {
        "message": json.dumps({"detail": [{"loc": ["body", name], "msg": "Extra inputs are not permitted"}]}),
        "type": "invalid_request_error", "param": None, "code": "400"}}),
    "plain text": (400, lambda name: f"'{name}' is not supported by this model"),
    "an error within a 200": (200, lambda name: {"error": {"message": f"'{name}' is not supported", "code": 400}}),
}
NAMES = ("temperature", "top_p", "seed", "logprobs", "n", "top_k")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_a_refused_parameter_is_left_out_and_named_whatever_the_form_of_the_error(fake, form, name):
    status, answer = FORMS[form]
    server = fake(refuses(name, answer=answer, status=status))
    result = run(server, top_k=5)
    assert len({c.index for c in result.candidates if c.score is not None}) == 4
    notes = [note for note in result.notes if note.startswith("The server refused")]
    assert len(notes) == 1
    assert notes[0].startswith(f"The server refused {name}; it was left out")
    assert notes[0].endswith("server's own value holds.") == (name in ("temperature", "top_p", "top_k"))
    kept = [other for other in NAMES if other != name and all(other in body for body in server.bodies)]
    assert set(kept) >= set(NAMES) - {name, "n"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["messages", "model", "something"])
def test_a_refusal_of_anything_else_is_one_sentence_with_the_servers_words(fake, form, name):
    status, answer = FORMS[form]
    server = fake(lambda handler, body, number: handler.send(status, answer(name)))
    with pytest.raises(EngineError) as error:
        run(server, messages=CHAT)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
    assert "type.googleapis" not in str(error.value)
    assert str(error.value).count(server.url) == 1
    assert all({"temperature", "top_p", "seed"} <= body.keys() for body in server.bodies)


@pytest.mark.parametrize("message", CONTEXT_ERRORS)
@pytest.mark.parametrize("param", [None, "input_tokens", "max_tokens"])
@pytest.mark.parametrize("messages", [None, CHAT])
def test_a_prompt_that_is_too_long_refuses_no_parameter_and_spoils_no_later_prompt(fake, message, param, messages):
    def short(handler, body, number):
        if "word" in json.dumps(body.get("prompt") or body.get("messages")):
            handler.send(400, {"error": {"message": message, "type": "BadRequestError", "param": param, "code": 400}})
        else:
            good(handler, body, number)

    server = fake(short)
    engine = ServerEngine.at(server.url)
    with pytest.raises(EngineError, match="512 tokens"):
        run(server, prompt="word " * 3000, messages=messages and [{"role": "user", "content": "word"}], engine=engine)
    assert len(server.bodies) == 1
    result = run(server, messages=messages, engine=engine)
    assert all(c.score is not None for c in result.candidates)
    assert not any("refused" in note for note in result.notes)
    assert {"max_tokens", "temperature", "top_p", "n", "seed"} <= server.bodies[-1].keys()


def test_what_was_learned_is_forgotten_where_it_did_not_help(fake):
    def never(handler, body, number):
        name = next((name for name in ("seed", "logprobs") if name in body), None)
        message = f"'{name}' is not supported" if name else "The model is out of order"
        handler.send(400, {"error": {"message": message}})

    server = fake(never)
    engine = ServerEngine.at(server.url)
    with pytest.raises(EngineError, match="out of order"):
        run(server, engine=engine)
    server.behave = good
    result = run(server, engine=engine)
    assert {"seed", "logprobs"} <= server.bodies[-1].keys()
    assert all(c.logprob is not None for c in result.candidates)


def test_later_runs_say_again_what_is_left_out(fake):
    server = fake(refuses("temperature", answer=FORMS["OpenAI"][1]))
    engine = ServerEngine.at(server.url)
    first, second = (run(server, engine=engine, temperature=0.5) for _ in range(2))
    assert sum("temperature" in body for body in server.bodies) == 1
    for result in (first, second):
        assert [note for note in result.notes if "refused temperature" in note]


@pytest.mark.parametrize(("settings", "left_out"), [
    ({}, "top_p"), ({"temperature": 0.7}, "top_p"), ({"top_p": 0.9}, "temperature"),
    ({"temperature": 0.7, "top_p": 0.9}, "top_p"),
])
@pytest.mark.parametrize("form", ["Anthropic", "OpenAI", "plain text"])
def test_of_two_parameters_that_exclude_each_other_the_neutral_one_is_left_out(fake, settings, left_out, form):
    message = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."

    def either(handler, body, number):
        if {"temperature", "top_p"} <= body.keys():
            error = {"message": message, "param": "top_p" if form == "OpenAI" else None}
            handler.send(400, message if form == "plain text" else {"error": error})
        else:
            good(handler, body, number)

    server = fake(either)
    engine = ServerEngine.at(server.url)
    result = run(server, engine=engine, **settings)
    assert all(c.score is not None for c in result.candidates)
    assert left_out not in server.bodies[-1]
    assert any(f"refused {left_out};" in note for note in result.notes)
    other = run(server, engine=engine, top_p=0.8)
    assert server.bodies[-1]["top_p"] == 0.8
    assert any("refused temperature;" in note for note in other.notes)


def test_a_value_out_of_range_that_the_user_chose_is_an_error_and_not_left_out(fake):
    def narrow(handler, body, number):
        if body.get("temperature", 0) > 1:
            handler.send(400, {"error": {"message": "temperature: range: 0..1", "type": "invalid_request_error"}})
        else:
            good(handler, body, number)

    with pytest.raises(EngineError, match=r"temperature: range: 0\.\.1"):
        run(fake(narrow), temperature=1.5)


def test_parameters_that_a_server_says_it_takes_are_kept(fake):
    message = "Unknown parameter: 'top_k'. Supported parameters are: temperature, top_p, n, seed, logprobs."
    server = fake(refuses("top_k", answer=lambda name: {"error": {"message": message}}))
    run(server, top_k=5)
    assert {"temperature", "top_p", "n", "seed", "logprobs"} <= server.bodies[-1].keys()


def test_a_server_that_refuses_much_gets_what_is_left(fake):
    names = ("temperature", "top_p", "seed", "logprobs", "n")
    server = fake(refuses(*names, answer=FORMS["Mistral"][1], status=422))
    result = run(server)
    assert all(c.score is not None for c in result.candidates)
    assert sum("The server refused" in note for note in result.notes) == len(names)


@pytest.mark.parametrize("error", [
    {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
                "instead.", "param": "max_tokens", "code": "unsupported_parameter"},
    {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
                "instead."},
    {"message": "Extra inputs are not permitted", "param": "max_tokens"},
])
def test_only_chats_get_the_newer_name_of_the_cap(fake, error):
    server = fake(refuses("max_tokens", answer=lambda name: {"error": error}))
    result = run(server, messages=CHAT)
    assert all(c.score is not None for c in result.candidates)
    assert server.bodies[-1]["max_completion_tokens"] == 9
    with pytest.raises(EngineError) as failed:
        run(server)
    assert error["message"] in str(failed.value)


def test_a_known_server_that_refuses_what_switches_its_defaults_off_goes_on_without_it(fake):
    server = fake(refuses("xtc_probability", "min_p", answer=FORMS["llama.cpp"][1]), owner="llamacpp")
    result = run(server)
    assert [note for note in result.notes if "refused" in note] == [
        f"The server refused {name}; it was left out, so the server's own value holds."
        for name in ("min_p", "xtc_probability")]
    assert server.bodies[-1]["top_n_sigma"] == -1


def test_unknown_servers_get_nothing_unasked_and_a_note_says_what_may_hold(fake):
    server = fake()
    notes = run(server, messages=CHAT).notes
    assert set(server.bodies[0]) == {"model", "max_tokens", "temperature", "top_p", "messages", "seed", "n", "logprobs"}
    assert any("defaults of its own" in note for note in notes)
    assert (server.bodies[0]["temperature"], server.bodies[0]["top_p"]) == (0.7, 0.9)
    assert not any("defaults of its own" in note for note in run(fake(owner="vllm")).notes)


# Errors in place of texts, and texts that are none.


@pytest.mark.parametrize(("body", "message"), [
    ({"error": {"code": 402, "message": "insufficient credits"}, "choices": []}, "status 402: insufficient credits"),
    ({"error": {"message": "insufficient credits"}}, "reports an error: insufficient credits"),
    ({"error": "insufficient credits"}, "reports an error: insufficient credits"),
    ({"detail": "insufficient credits"}, "reports an error: insufficient credits"),
    ({"object": "error", "message": "insufficient credits", "code": 402}, "status 402: insufficient credits"),
    ({"choices": [{"index": 0, "text": "", "message": {"content": ""}, "finish_reason": "error",
                   "error": {"code": 502, "message": "insufficient credits"}}]}, "status 502: insufficient credits"),
    ({"choices": [{"index": 0, "text": "half a", "message": {"content": "half a"}, "finish_reason": "error"}]},
     "reports an error"),
    *(({"error": {"code": code, "message": "insufficient credits"}}, "reports an error: insufficient credits")
      for code in ("²", "٤٠٠", "4" * 5000, 10**400, 4.04e2)),
])
@pytest.mark.parametrize("messages", [None, CHAT])
def test_an_error_within_an_answer_is_an_error_and_no_text(fake, body, message, messages):
    server = fake(lambda handler, sent, number: handler.send(200, body))
    with pytest.raises(EngineError, match=message):
        run(server, messages=messages)


@pytest.mark.parametrize("error", [
    {"error": {"code": 402, "message": "insufficient credits"}},
    {"object": "error", "message": "insufficient credits", "code": 402},
    {"choices": [{"index": 0, "text": "", "finish_reason": "error", "error": {"message": "insufficient credits"}}]},
])
def test_an_error_within_a_stream_is_an_error_and_no_text(fake, error):
    server = fake(lambda handler, body, number: handler.stream([*chunks(body)[:2], error]))
    with pytest.raises(EngineError, match="insufficient credits"):
        run(server, min_tokens=300, max_tokens=300, n=1)


@pytest.mark.parametrize(("line", "words"), [
    ('error: {"code": 402, "message": "insufficient credits"}', "insufficient credits"),
    ('event: error\ndata: {"detail": "insufficient credits"}', "insufficient credits"),
    ('event: error\ndata: {"code": 402}', '"code": 402'),
])
def test_an_error_in_an_event_of_its_own_is_an_error(fake, line, words):
    server = fake(lambda handler, body, number: handler.send(200, f"{line}\n\n", Content_Type="text/event-stream"))
    with pytest.raises(EngineError, match=words):
        run(server, min_tokens=300, max_tokens=300, n=1)


@pytest.mark.parametrize(("cut", "ended"), [(300, "length"), (20, "eos")])
@pytest.mark.parametrize("chat", [False, True])
def test_a_stream_without_a_reason_to_finish_is_a_text(fake, cut, ended, chat):
    def unreasoned(handler, body, number):
        handler.stream(chunks({**body, "max_tokens": cut})[:-1])

    server = fake(unreasoned)
    result = run(server, messages=CHAT if chat else None, min_tokens=300, max_tokens=300, n=1)
    assert (len(result.best.text.split()), result.best.ended) == (cut, ended)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("messages", [None, CHAT])
def test_a_server_that_does_not_stream_is_read_as_a_whole(fake, messages):
    server = fake(lambda handler, body, number: handler.send(200, completion(body)))
    result = run(server, messages=messages, min_tokens=300, max_tokens=300, n=2)
    assert [(c.tokens, c.ended, c.logprob) for c in result.candidates] == [(300, "length", -150.0)] * 2


def test_a_whole_answer_without_a_reason_to_finish_is_a_text(fake):
    server = fake(lambda handler, body, number: handler.send(200, completion({**body, "n": 1}, [" fine"], finish=None)))
    result = run(server, n=1)
    assert result.best.ended == "eos"
    assert not any("None" in note for note in result.notes)


def test_a_stream_of_one_event_over_lines_with_comments_and_no_spaces_is_read(fake):
    def odd(handler, body, number):
        text = json.dumps(chunks({**body, "max_tokens": 3})[0], indent=1).replace("\n", "\ndata:")
        handler.send(200, f": hello\r\n\r\ndata:{text}\n\ndata:[DONE]\n\n", Content_Type="text/event-stream")

    assert run(fake(odd), min_tokens=300, max_tokens=300, n=1).best.tokens == 1


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_stream_is_read_whatever_ends_its_lines_and_parts(fake, line_end):
    def bytewise(handler, body, number):
        handler.stream([], done=False)
        for chunk in chunks({**body, "max_tokens": 3}):
            chunk["choices"][0]["text"] = chunk["choices"][0]["text"] and " a\u2028b\x85é"
            for byte in f"data: {json.dumps(chunk, ensure_ascii=False)}{line_end}{line_end}".encode():
                handler.wfile.write(bytes([byte]))

    result = run(fake(bytewise), min_tokens=300, max_tokens=300, n=1)
    assert (result.best.text, result.best.tokens) == (3 * " a\u2028b\x85é", 3)


def test_an_error_that_passes_is_asked_again(fake):
    def once(handler, body, number):
        handler.send(200, {"error": {"message": "overloaded", "code": 529}}) if number == 0 else good(
            handler, body, number)

    result = run(fake(once))
    assert all(c.score is not None for c in result.candidates)


@pytest.mark.parametrize(("status", "error", "attempts", "live"), [
    (429, {"code": "insufficient_quota", "type": "insufficient_quota"}, 1, False),
    (429, {"code": "billing_not_active"}, 1, True), (429, {"type": "exceeded_current_quota_error"}, 1, False),
    (200, {"code": "insufficient_credits"}, 1, True), (503, {"type": "billing_error"}, 1, False),
    (429, {"code": "rate_limit_exceeded", "type": "tokens"}, 3, False),
    (429, {"code": "token_quota_exceeded"}, 3, False),
])
def test_a_server_that_wants_payment_is_asked_once_and_one_that_limits_the_rate_again(
        fake, monkeypatch, status, error, attempts, live):
    if attempts == 1 and status == 429:  # the client's own retries, without its pauses, count too
        monkeypatch.setattr("bon.engines.server.retrying_client.CLIENT_RETRIES", 2)

    def answer(handler, body, number):
        handler.send(status, {"error": {"message": "You exceeded your current quota.", **error}}, retry_after_ms="1")

    server = fake(answer)
    request = Request("This movie", Settings(n=1, seed=7, min_tokens=9, max_tokens=9))
    with pytest.raises(ServerUnavailableError, match="You exceeded your current quota") as raised:
        flow.last_result(flow.stream(request, ServerEngine.at(server.url), CallableScorer(length), live=live))
    assert len(server.bodies) == attempts
    assert server.url in str(raised.value)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("content", ["", None, "\n"])
def test_a_chat_that_was_only_reasoned_about_has_no_score_and_a_note(fake, field, content):
    def think(handler, body, number):
        answer = completion(body, [" loud words"] * body.get("n", 1))
        answer["choices"][0]["message"] |= {"content": content, field: "The user asks"}
        handler.send(200, answer)

    result = run(fake(think), messages=CHAT)
    assert [c.score is None for c in result.candidates] == [False, False, False, True]
    assert [note for note in result.notes if "no answer" in note]
    assert result.best.text == " loud words"


def test_an_answer_after_reasoning_and_an_empty_answer_without_it_are_scored(fake):
    def answer(handler, body, number):
        sent = completion({**body, "n": 1}, [" loud"])
        sent["choices"][0]["message"] |= {"content": " loud", "reasoning": "x"} if number == 0 else {"content": ""}
        handler.send(200, sent)

    result = run(fake(answer), n=2, messages=CHAT)
    assert [(c.text, c.score is None) for c in result.candidates] == [(" loud", False), ("", False)]
    assert not any("no answer" in note for note in result.notes)


@pytest.mark.parametrize("content", [
    [{"type": "text", "text": " fine"}, {"type": "text", "text": " words"}], [" fine", " words"],
    [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": " fine words"}],
])
def test_content_in_parts_is_put_together(fake, content):
    def parts(handler, body, number):
        answer = completion({**body, "n": 1}, [""])
        answer["choices"][0]["message"]["content"] = content
        handler.send(200, answer)

    assert run(fake(parts), n=1, messages=CHAT).best.text == " fine words"


def test_keys_of_messages_that_are_null_are_not_sent(fake):
    server = fake()
    run(server, n=1, messages=[{"role": "user", "content": "Well?", "name": None, "tool_calls": None}])
    assert server.bodies[0]["messages"] == CHAT


# The names of models.


@pytest.mark.parametrize(("models", "named", "asked_for"), [
    (("llama3:latest", "other"), "llama3", "llama3:latest"), (("llama3:latest",), None, "llama3:latest"),
    (("llama3:latest", "llama3"), "llama3", "llama3"), (("models/gemini", "x"), "gemini", "models/gemini"),
    (("*",), "anything", "anything"), (("openai/*", "x"), "openai/gpt", "openai/gpt"), ((), "mine", "mine"),
])
def test_the_named_model_is_found_in_the_list_or_used_where_the_list_does_not_say(fake, models, named, asked_for):
    server = fake(models=models)
    run(server, n=1, model=named)
    assert server.bodies[0]["model"] == asked_for


@pytest.mark.parametrize("status", [403, 404, 405, 429, 500, 501])
def test_where_the_list_of_models_is_missing_or_refused_the_named_model_is_used(fake, status, monkeypatch):
    monkeypatch.setattr("bon.engines.server.connection.LIST_PAUSE", 0)
    server = fake(listing=status)
    run(server, n=1, model="mine")
    assert server.bodies[0]["model"] == "mine"
    with pytest.raises(ModelError, match=str(status)):
        ServerEngine.at(server.url)


def test_a_key_that_is_not_accepted_is_said_at_once_and_a_pattern_is_no_model(fake):
    with pytest.raises(ModelError, match="requires a key"):
        ServerEngine.at(fake(listing=401).url, "mine")
    with pytest.raises(ModelError, match="Set `model`"):
        ServerEngine.at(fake(models=("*",)).url)


# The key.

KEY = "sk-proj 'a+b/c&d\"=="


@pytest.mark.parametrize("value", ["sk-secret\nvalue", "clé-secret", "sk-secret\u200bvalue", "sk-secret\x7fvalue"])
@pytest.mark.parametrize("variable", ["BON_API_KEY", "OPENAI_API_KEY"])
def test_a_key_that_no_header_can_hold_is_refused_before_anything_is_asked(fake, monkeypatch, capsys, value, variable):
    monkeypatch.setenv(variable, value)
    server = fake()
    assert main(["This movie", "-n", "2", "--endpoint", server.url]) == 2
    out, err = capsys.readouterr()
    assert variable in err
    assert not any(part in out + err for part in ("secret", "value", "clé"))
    assert server.seen == []


@pytest.mark.parametrize("value", ["sk-a-secret-value\n", "\ufeff sk-a-secret-value \r\n", "\tsk-a-secret-value"])
def test_white_space_around_a_key_is_not_sent(fake, monkeypatch, value):
    monkeypatch.setenv("BON_API_KEY", value)
    server = fake()
    run(server, n=1)
    assert {headers["authorization"] for _, headers, _ in server.seen} == {"Bearer sk-a-secret-value"}


def test_a_page_with_such_a_key_does_not_start():
    served = {"BON_ENDPOINT": "http://127.0.0.1:8000/v1", "BON_MODEL": "tiny"}
    assert Deployment.of({**served, "BON_API_KEY": "sk-a-secret\n"}).endpoint
    with pytest.raises(InputError, match="BON_API_KEY holds a line end") as error:
        Deployment.of({**served, "BON_API_KEY": "sk-a-\nsecret"})
    assert "secret" not in str(error.value)


def test_an_empty_key_is_none_and_the_next_variable_counts():
    assert read_key({"BON_API_KEY": " \n", "OPENAI_API_KEY": ""}) is None
    assert read_key({"BON_API_KEY": " ", "OPENAI_API_KEY": "other"}) == "other"


def test_a_key_is_masked_however_it_is_written(fake, monkeypatch, caplog):
    import base64
    import html
    from urllib.parse import quote, quote_plus

    monkeypatch.setenv("BON_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    forms = [KEY, repr(KEY), repr(KEY.encode()), json.dumps(KEY), quote(KEY), quote(KEY, safe=""), quote_plus(KEY),
             quote(KEY, safe="").lower(), html.escape(KEY), base64.b64encode(KEY.encode()).decode(),
             base64.urlsafe_b64encode(KEY.encode()).decode()]
    for form in forms:
        server = fake(lambda handler, body, number, form=form: handler.send(
            400, {"error": {"message": f"Illegal header value Bearer {form} of somebody"}}))
        with pytest.raises(EngineError) as error:
            run(server, n=1)
        assert "of somebody" in str(error.value)
        assert not any(part in str(error.value) + caplog.text for part in ("sk-proj", "a+b/c", "a%2Bb", "c2stcH"))


def test_short_keys_are_masked_as_words_alone():
    assert mask_key("none of the others: none", "none") == "*** of the others: ***"
    assert mask_key("for example: x", "x") == "for example: ***"


# Addresses, and what cannot work.


def test_an_address_without_v1_is_refused_with_the_right_one(fake, monkeypatch):
    monkeypatch.setattr("tests.support.model_servers.Handler.do_GET", lambda handler: handler.send(
        200, {"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "llamacpp"}]}))
    server = fake()
    root = server.url.removesuffix("/v1")
    for url in (root, root + "/"):
        with pytest.raises(ModelError, match=rf"use {server.url}$"):
            ServerEngine.at(url)
    assert ServerEngine.at(server.url).server.model == "tiny"


def test_https_for_http_says_so(fake):
    server = fake()
    with pytest.raises(ModelError, match=f"does not speak https. Use {server.url}"):
        ServerEngine.at(server.url.replace("http:", "https:"))


def test_http_for_https_says_so(fake, tmp_path):
    import ssl
    import subprocess

    files = [str(tmp_path / name) for name in ("key.pem", "cert.pem")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", files[0], "-out", files[1], "-subj", "/CN=127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    server = fake()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with pytest.raises(ModelError, match=r"does not speak http\. Use https://127"):
        ServerEngine.at(server.url)


def test_of_a_foreign_servers_page_only_the_title_is_shown(fake, monkeypatch):
    page = "<!DOCTYPE html><html><head><title>Not <b>here</b></title></head><body><p>A long page</p></body></html>"
    monkeypatch.setattr("tests.support.model_servers.Handler.do_GET", lambda handler: handler.send(404, page))
    with pytest.raises(ModelError, match="status 404: Not here") as error:
        ServerEngine.at(fake().url)
    assert "long page" not in str(error.value)
    assert "/v1" in str(error.value)


def test_self_certainty_is_refused_before_anything_is_asked_for(fake, tmp_path, capsys):
    server = fake()
    for scorer in ("self-certainty", "0.5*logprob+0.5*self-certainty", SelfCertaintyScorer()):
        with pytest.raises(InputError, match="whole vocabulary"):
            bon.load(endpoint=server.url, scorer=scorer)
    with pytest.raises(InputError, match="whole vocabulary"):
        flow.run(Request("This movie", Settings(n=2, seed=1)), ServerEngine.at(server.url), SelfCertaintyScorer())
    (tmp_path / "in.txt").write_text("One\nTwo\n")
    argv = ["batch", str(tmp_path / "in.txt"), str(tmp_path / "out.jsonl"), "--scorer", "self-certainty"]
    assert main([*argv, "--endpoint", server.url]) == 2
    assert "whole vocabulary" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["in.txt"]
    assert server.bodies == []


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-3}, {"temperature": 0.01}])
def test_equal_texts_are_no_surprise_where_the_settings_ask_for_them(fake, settings):
    server = fake(lambda handler, body, number: handler.send(200, completion(body, [" loud"] * body.get("n", 1))))
    assert not any("seem to sample" in note for note in run(server, **settings).notes)
    assert any("seem to sample" in note for note in run(server).notes)


def test_texts_that_were_broken_off_here_are_not_blamed_for_their_count(fake):
    def untold(handler, body, number):
        handler.stream([{**chunk, "choices": [{**chunk["choices"][0], "logprobs": None}]} for chunk in chunks(body)]
                       + [{"id": "x", "choices": [], "usage": {"completion_tokens": body["max_tokens"]}}], pause=0.02)

    result = run(fake(untold), n=6, reject=0.5, min_tokens=40, max_tokens=40)
    assert any(c.ended == "rejected" for c in result.candidates)
    assert not any("did not count" in note for note in result.notes)


def test_the_command_line_refuses_an_empty_address_two_addresses_and_a_comparison_on_a_server(fake, capsys, tmp_path):
    server = fake()
    (tmp_path / "in.txt").write_text("One\n")
    batch = ["batch", str(tmp_path / "in.txt"), str(tmp_path / "out.jsonl")]

    def refused(*argv: str) -> str:
        capsys.readouterr()
        assert main(list(argv)) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err

    for command in (["This movie", "-n", "2"], batch):
        assert "such as http" in refused(*command, "--endpoint", "")
        twice = refused(*command, "--endpoint", server.url, "--endpoint", "http://127.0.0.1:9/v1")
        assert server.url in twice
        assert "http://127.0.0.1:9/v1" in twice
    for url in (server.url, ""):
        assert "compare needs models that are loaded here" in refused("compare", "This movie", "--endpoint", url)
    assert server.seen == []


def test_a_loaded_sampler_takes_the_name_of_its_scorer_and_names_it(fake):
    server = fake()
    sampler = bon.load(endpoint=server.url)
    assert sampler.run("This movie", n=2, seed=1, scorer="embedded").best.score is not None
    with pytest.raises(InputError, match="loaded with embedded sentiment"):
        sampler.run("This movie", n=2, scorer="weak")
    with pytest.raises(InputError, match="loaded with length"):
        bon.load(endpoint=server.url, scorer=length).run("This movie", n=2, scorer="embedded")
    assert bon.load().run("This movie", n=2, scorer="embedded").best.score is not None


# What an error says, without a server.


@pytest.mark.parametrize(("body", "refused"), [
    ({"error": {"message": "property 'seed' is unsupported, did you mean 'temperature'?"}}, {"seed"}),
    ({"error": {"message": "Only one completion choice is allowed"}}, {"n"}),
    ({"error": {"message": "Multiple candidates is not enabled for this model"}}, {"n"}),
    ({"error": {"message": "log probabilities are not available"}}, {"logprobs"}),
    ({"error": {"message": "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default "
                           "(1) value is supported.", "param": "temperature"}}, {"temperature"}),
    ([{"error": {"details": [{"fieldViolations": [{"field": "generation_config.topK"}]}]}}], {"top_k"}),
    ([{"error": {"details": [{"fieldViolations": [{"field": "generationConfig.candidateCount"}]}]}}], {"n"}),
    ({"error": {"message": "seed is bad", "param": "messages"}}, set()),
    ({"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "no seed, please", "input": "seed"}]}, set()),
    ({"error": {"message": "temperature and top_p are mutually exclusive"}}, {EITHER_TEMPERATURE_OR_TOP_P}),
    ({"error": {"message": "request (n_prompt_tokens 600) exceeds the available context size, n_ctx 512",
                "type": "exceed_context_size_error"}}, set()),
    ({"error": {"message": "temperature must be in [0, 0.5], got 0.7.", "param": "temperature"}}, set()),
    ({"error": {"message": "top_p must be in (0.95, 1.0], got 0.9."}}, set()),
    ({"error": {"message": "seed is not allowed in (beta, preview) models"}}, {"seed"}),
    ({"error": {"message": "There is no n in this sentence about nothing"}}, set()),
    ({"error": None}, set()), (None, set()), ("", set()), ([], set()), (17, set()),
])
def test_refused_parameters(body, refused):
    sent = {"temperature": 0.7, "top_p": 0.9, "seed": 7, "n": 4, "logprobs": 1, "top_k": 5, "max_tokens": 9}
    assert refused_parameters(ReportedError(body), sent, is_chat=True) == refused


def test_nothing_refuses_what_was_not_sent():
    error = ReportedError({"error": {"message": "'seed' is not supported", "param": "seed"}})
    assert refused_parameters(error, {"temperature": 1}, is_chat=True) == set()


@pytest.mark.parametrize("body", [None, "", {}, {"error": {}}, [[[]]], {"detail": [1, None]}, "{", "<p>", {"a": "b"}])
def test_any_body_makes_a_sentence(body):
    assert "http://a/v1" in explain_error(ReportedError(body), Server("http://a/v1", "m"))
