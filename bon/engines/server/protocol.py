"""What goes to a server and what comes back, in the words of the OpenAI protocol; nothing here uses a network."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bon.engines.base import Job
from bon.events import Row
from bon.messages import say
from bon.result import Candidate
from bon.settings import Request, Settings, continues

#: Candidates of one request, where the server takes `n`.
TOGETHER = 16
#: Tokens from which on a text is streamed, so that a long one can be told from none.
LONG = 256
#: What servers are known to ignore.
IGNORED = {"transformers": {"n", "logprobs"}, "llama.cpp": {"n"}}
#: Servers whose count of tokens takes in the end of text.
COUNT_THE_END = {"transformers", "vllm", "sglang"}
#: Servers that go on with a chat's last message where they are told to.
CONTINUE = {"vllm", "sglang"}
#: What may be left out of a request that a server refuses for it.
OPTIONAL = ("n", "logprobs", "seed", "stream_options", "top_k", "min_p", "repetition_penalty", "repeat_penalty")
#: A character that lacks its last bytes, as a server writes it: one U+FFFD, or one for each byte.
UNFINISHED = re.compile(r"\ufffd{1,3}\Z")
#: Reasons to end, by what they are called here; others are named in a note.
ENDS = {"length": "length", "stop": "eos", "eos_token": "eos", "stop_sequence": "eos", "rejected": "rejected"}


class Garbled(Exception):
    """An answer that is no completion, or half of one."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: some candidates of a job that share a cap. streamed: with the text as it is written."""

    number: int
    job: Job
    indices: tuple[int, ...]
    streamed: bool = False

    @property
    def cap(self) -> int:
        """The most tokens of each text."""
        return self.job.caps[self.indices[0]]

    @property
    def chat(self) -> bool:
        """Whether a chat is answered, and no text continued."""
        return self.job.request.messages is not None

    def alone(self, indices: Sequence[int]) -> list["Ask"]:
        """Some of its candidates, each in a request of its own."""
        return [Ask(self.number, self.job, (i,), self.streamed) for i in indices]


def asks(number: int, job: Job, together: int) -> list[Ask]:
    """The requests of a job: up to so many candidates of equal cap in one, or each alone where texts are streamed.

    Streamed is what early rejection looks at, and what is long.
    """
    if job.request.settings.reject or max(job.caps) >= LONG:
        return [Ask(number, job, (i,), True) for i in range(len(job.caps))]
    alike: dict[int, list[int]] = {}
    for i, cap in enumerate(job.caps):
        alike.setdefault(cap, []).append(i)
    return [Ask(number, job, tuple(group[at : at + together]))
            for group in alike.values() for at in range(0, len(group), together)]


def seed(request: Request, index: int) -> int:
    """The seed of one candidate, by (seed, query, index) alone: 32 bits, but never all of them, which llama.cpp takes
    for none.
    """
    sequence = np.random.SeedSequence(request.settings.seed or 0, spawn_key=(request.query, index))
    return int(sequence.generate_state(1)[0]) % (2**32 - 1)


def body(ask: Ask, model: str, kind: str, without: set[str]) -> dict[str, Any]:
    """The request's parameters, as the client takes them, less those that the server does without."""
    request, settings = ask.job.request, ask.job.request.settings
    plain = {
        "seed": seed(request, ask.indices[0]),
        "n": len(ask.indices) if len(ask.indices) > 1 else None,
        "logprobs": True if ask.chat else 1,
        "stream": ask.streamed or None,
        "stream_options": {"include_usage": True} if ask.streamed else None,
    }
    most = "max_completion_tokens" if "max_tokens" in without else "max_tokens"  # as the newest hosted models want it
    extra = {name: value for name, value in _extra(kind, ask.chat, settings).items() if name not in without}
    if kind in CONTINUE and continues(request.messages):
        extra |= {"continue_final_message": True, "add_generation_prompt": False}
    return {
        "model": model, most: ask.cap, "temperature": settings.temperature, "top_p": settings.top_p,
        **({"messages": [dict(m) for m in request.messages]} if ask.chat else {"prompt": request.prompt}),
        **{name: value for name, value in plain.items() if value is not None and name not in without},
        **({"extra_body": extra} if extra else {}),
    }


def _extra(kind: str, chat: bool, settings: Settings) -> dict[str, Any]:
    """What the protocol has no name for, and what switches a server's own defaults off."""
    top_k = settings.top_k
    match kind:
        case "vllm" | "sglang":
            return {"top_k": top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0}
        case "llama.cpp":
            return {"top_k": top_k, "min_p": 0.0, "repeat_penalty": 1.0}
        # It samples only where a generation config says so. Models that chat bring one, which also names their end of
        # text: under continuous batching one of ours would take that away.
        case "transformers" if chat:
            return {}
        case "transformers":
            drawn = {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": top_k}
            return {"generation_config": json.dumps(drawn)}
    return {"top_k": top_k} if top_k else {}


def doubts(kind: str, request: Request) -> list[str]:
    """What a server does not do with the settings, or may not do, as far as its kind tells."""
    if kind == "transformers":
        return [say("note.transformers_serve_chat" if request.messages else "note.transformers_serve_text")]
    unsure = [] if kind else ["note.seed_and_top_k_unsure" if request.settings.top_k else "note.seed_unsure"]
    if continues(request.messages) and kind not in CONTINUE:
        unsure.append("note.continuation_unsure")
    return list(map(say, unsure))


class Writing:
    """A text on its way from the server: what came of it, and how it ended."""

    def __init__(self, ask: Ask, kind: str):
        self.ask, self.kind = ask, kind
        self.text, self.finish = "", None
        self.pairs: list[tuple[str, float]] | None = []
        self.chunks, self.counted, self.guessed = 0, None, True

    def add(self, choice: Any) -> None:
        """Takes in a whole choice of an answer, or a piece of one. Raises `Garbled` for what is neither."""
        said = (getattr(choice, "message", None) or getattr(choice, "delta", None)) if self.ask.chat else choice
        text = getattr(said, "content" if self.ask.chat else "text", None)
        if said is None or not (isinstance(text, str) or (self.ask.chat and text is None)):
            raise Garbled("no text")
        if text:
            self.text += text
            self.chunks += 1
            found = _pairs(choice)
            self.pairs = None if found is None or self.pairs is None else self.pairs + found
        self.finish = getattr(choice, "finish_reason", None) or self.finish

    @property
    def ended(self) -> str:
        """Why it ended, in our words."""
        return ENDS.get(self.finish, "eos")

    def row(self) -> Row:
        """What there is so far."""
        logprob = sum(logprob for _, logprob in self.pairs) if self.pairs else None
        return Row(self.ask.indices[0], self.text, len(self.pairs) if self.pairs else self.chunks, logprob)

    def candidate(self, index: int) -> Candidate:
        """What it came to."""
        pairs = self._own_pairs()
        # The bytes of the last tokens are not told: where the length ended a text, it is taken to be what cut them.
        text = UNFINISHED.sub("", self.text) if self.ended == "length" else self.text
        return Candidate(
            index=index, text=text, tokens=self._tokens(pairs), cap=self.ask.cap, ended=self.ended,
            logprob=None if pairs is None else math.fsum(logprob for _, logprob in pairs),
            pieces=tuple(pairs) if pairs and "".join(token for token, _ in pairs) == text else (),
            notes=() if text == self.text else (say("note.character_cut"),),
        )

    def _own_pairs(self) -> list[tuple[str, float]] | None:
        """The text's tokens with their log-probabilities, without the end of text, which some servers tell too."""
        if not self.pairs:
            return None if self.text else self.pairs
        before_last = "".join(token for token, _ in self.pairs[:-1])
        ends_with_end = self.ended == "eos" and len(before_last) >= len(self.text)
        return self.pairs[:-1] if ends_with_end else self.pairs

    def _tokens(self, pairs: list[tuple[str, float]] | None) -> int:
        if pairs:
            return len(pairs)
        if self.ended == "length":
            return self.ask.cap
        if self.counted is None:
            return math.ceil(len(self.text) / 4)  # of English text
        return self.counted - (self.kind in COUNT_THE_END and self.counted > 0)


def count(written: Sequence[Writing], answer: Any) -> None:
    """Enters how many tokens an answer says its texts have; of several together each gets a share by its length."""
    tokens = getattr(getattr(answer, "usage", None), "completion_tokens", None)
    if not isinstance(tokens, int):
        return
    characters = sum(len(one.text) for one in written) or 1
    for one in written:
        one.counted = tokens if len(written) == 1 else round(tokens * len(one.text) / characters)
        one.guessed = len(written) > 1


def _pairs(choice: Any) -> list[tuple[str, float]] | None:
    """Tokens with their log-probabilities, from either of the two forms that there are, or None."""
    told = getattr(choice, "logprobs", None)
    content = getattr(told, "content", None)
    if content:
        pairs = [(getattr(entry, "token", None), getattr(entry, "logprob", None)) for entry in content]
    else:
        tokens, logprobs = (getattr(told, name, None) or () for name in ("tokens", "token_logprobs"))
        pairs = list(zip(tokens, logprobs, strict=False))
    good = all(isinstance(token, str) and isinstance(logprob, float | int) for token, logprob in pairs)
    return pairs if pairs and good else None
