"""Requests to a server and its answers, in the OpenAI protocol. Nothing here uses a network."""

import json
import math
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from bon.engines.base import Job
from bon.engines.sentences import sentence_end
from bon.engines.server.refusals import EITHER_TEMPERATURE_OR_TOP_P, ReportedError
from bon.engines.server.token_counts import TokenLogprob, are_complete, completion_tokens, token_logprobs, tokens_of
from bon.engines.stop_strings import certain_length, find_stop
from bon.events import Row
from bon.messages import Message, say
from bon.result import Candidate
from bon.settings import Request, Sampling, Settings, continues

#: The most candidates of one request, where the server takes `n`.
MAX_N = 16
#: The cap in tokens from which on texts are streamed: a long one would look like a server that does not answer.
STREAMED_FROM = 256
#: The parameters that servers ignore, by their software.
IGNORED_PARAMETERS = {"transformers": {"n", "logprobs"}}
#: Servers that count the end of text as a token.
COUNT_END_OF_TEXT = {"transformers", "vllm", "sglang", "llama.cpp"}
#: Servers that return the assistant's message that they continue as the beginning of its continuation.
RETURN_CONTINUED_MESSAGE = {"llama.cpp"}
#: Servers that count the tokens of each of several texts only where these are streamed.
COUNT_EACH_IF_STREAMED = {"llama.cpp"}
#: How many alternatives servers list beside each token of a chat though none is asked for, by their software.
LISTED_ALTERNATIVES = {"llama.cpp": 20}
#: Servers that can continue a chat's last message.
CONTINUE_MESSAGES = {"vllm", "sglang"}
#: The temperature at which servers draw where a lower one is set, by their software.
LEAST_TEMPERATURE = {"vllm": 0.01}
#: llama.cpp's names of penalty, temperature and cuts in the order in which a local model applies them; its own order is
#: another.
SAMPLERS = ["penalties", "temperature", "top_k", "top_p", "min_p", "typ_p"]
#: The least temperature and top_p at which equal texts show that a server does not sample.
SAMPLED_FROM = 0.3
#: The fields of a message that hold a model's reasoning.
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
#: A character that lacks its last bytes, as servers write it: one U+FFFD, or one for each byte.
INCOMPLETE_CHARACTER = re.compile(r"\ufffd{1,3}\Z")
#: `Candidate.ended` by the server's reason to finish; other reasons are named in a note.
END_REASONS = {"length": "length", "stop": "eos", "eos_token": "eos", "stop_sequence": "eos", "rejected": "rejected",
               "cut off": "stopped"}


class MalformedAnswer(Exception):
    """An answer that is not a completion, or a stream that ended before its text did."""


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """One request to the server: candidates of a job that share a cap, by their indices.

    streamed: whether the texts are sent as they grow.
    """

    job_number: int
    job: Job
    indices: tuple[int, ...]
    streamed: bool = False

    @property
    def cap(self) -> int:
        """The most tokens of each text."""
        return self.job.caps[self.indices[0]]

    @property
    def is_chat(self) -> bool:
        """Whether a chat is answered, rather than a text continued."""
        return self.job.request.messages is not None

    def one_each(self, indices: Sequence[int]) -> list["ServerRequest"]:
        """A request of its own for each of these candidates."""
        return [ServerRequest(self.job_number, self.job, (i,), self.streamed) for i in indices]


def split_job(job_number: int, job: Job, max_n: int, software: str = "") -> list[ServerRequest]:
    """The requests of a job: at most `max_n` candidates of equal cap in each.

    One candidate in each where texts are long, or where early rejection may drop one of them. Those are streamed, and
    so are the texts of a live job.
    """
    if job.request.settings.reject or max(job.caps) >= STREAMED_FROM:
        return [ServerRequest(job_number, job, (i,), True) for i in range(len(job.caps))]
    indices_by_cap: dict[int, list[int]] = {}
    for i, cap in enumerate(job.caps):
        indices_by_cap.setdefault(cap, []).append(i)
    groups = [tuple(indices[start : start + max_n])
              for indices in indices_by_cap.values() for start in range(0, len(indices), max_n)]
    return [ServerRequest(job_number, job, group,
                          job.live or (len(group) > 1 and software in COUNT_EACH_IF_STREAMED)) for group in groups]


def candidate_seed(request: Request, index: int) -> int:
    """The seed of one candidate, by (seed, query, index) alone: 32 bits, but never all ones, which llama.cpp takes for
    no seed.
    """
    sequence = np.random.SeedSequence(request.settings.seed or 0, spawn_key=(request.query, index))
    return int(sequence.generate_state(1)[0]) % (2**32 - 1)


def request_body(request: ServerRequest, model: str, software: str, unsupported: Set[str]) -> dict[str, Any]:
    """The request's parameters as keywords of the official client, without those that the server does not support."""
    settings, messages = request.job.request.settings, request.job.request.messages
    optional = {
        "seed": candidate_seed(request.job.request, request.indices[0]),
        "stop": list(settings.stop) or None,
        "n": len(request.indices) if len(request.indices) > 1 else None,
        "logprobs": True if request.is_chat else 1,
        "stream": request.streamed or None,
        "stream_options": {"include_usage": True} if request.streamed else None,
    }
    # The newest hosted models refuse the older name in chats; requests for texts have no other.
    cap_name = "max_completion_tokens" if "max_tokens" in unsupported and request.is_chat else "max_tokens"
    extra = _extra_body(software, request.is_chat, settings)
    extra = {name: value for name, value in extra.items() if name not in unsupported}
    sampling = {"temperature": settings.sampling.temperature, "top_p": settings.sampling.top_p}
    if EITHER_TEMPERATURE_OR_TOP_P in unsupported:
        del sampling["temperature" if sampling["temperature"] == 1 and sampling["top_p"] != 1 else "top_p"]
    if software in CONTINUE_MESSAGES and continues(messages):
        extra |= {"continue_final_message": True, "add_generation_prompt": False}
    return {
        "model": model, cap_name: request.cap,
        **({"prompt": request.job.request.prompt} if messages is None else {"messages": _without_nulls(messages)}),
        **{name: value for name, value in sampling.items() if name not in unsupported},
        **{name: value for name, value in optional.items() if value is not None and name not in unsupported},
        **({"extra_body": extra} if extra else {}),
    }


def sent_parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request by name, those that are not in the protocol among them."""
    return {name: value for name, value in {**body, **body.get("extra_body", {})}.items() if name != "extra_body"}


def left_out(request: ServerRequest, model: str, software: str, unsupported: Set[str]) -> set[str]:
    """The parameters that this request lacks because the server refuses them, not because its software ignores them."""
    ignored = IGNORED_PARAMETERS.get(software, set())
    full, sent = (sent_parameters(request_body(request, model, software, names)).keys()
                  for names in (ignored, unsupported | ignored))
    return set(full - sent)


def _without_nulls(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages without keys that are null, which many servers refuse."""
    return [{name: value for name, value in message.items() if value is not None} for message in messages]


def _extra_body(software: str, is_chat: bool, settings: Settings) -> dict[str, Any]:
    """Parameters that are not in the protocol: repetition penalty, cuts, and those that switch off the server's own
    defaults.
    """
    sampling, penalty = settings.sampling, settings.sampling.repetition_penalty
    cuts = {"top_k": sampling.top_k, "min_p": sampling.min_p, "typical_p": sampling.typical_p}
    match software:
        case "vllm" | "sglang":
            return {"top_k": sampling.top_k or -1, "min_p": sampling.min_p, "repetition_penalty": penalty}
        case "llama.cpp":
            order = {"samplers": SAMPLERS} if sampling.cuts else {}
            # Of all tokens, where its default are the last 64.
            repetitions = {"repeat_penalty": penalty} | ({"repeat_last_n": -1} if penalty != 1 else {})
            return cuts | order | repetitions | {"xtc_probability": 0.0, "dry_multiplier": 0.0,
                                                 "top_n_sigma": -1.0}
        # It samples only where a generation config says so. Chat models bring one, which also names their end of text:
        # under continuous batching, one sent with the request would remove that.
        case "transformers" if is_chat:
            return {}
        case "transformers":
            config = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p,
                      "repetition_penalty": penalty, **cuts}
            return {"generation_config": json.dumps(config)}
    return _set_beyond_protocol(sampling)


def _set_beyond_protocol(sampling: Sampling) -> dict[str, float]:
    """The values of a request's sampling that are not in the protocol and not at their defaults, by name."""
    names = ("top_k", "min_p", "typical_p", "repetition_penalty")
    return {name: value for name in names if (value := getattr(sampling, name)) != getattr(Sampling(), name)}


def is_nearly_greedy(settings: Settings) -> bool:
    """Whether the settings themselves let all texts of a prompt be the same."""
    sampling = settings.sampling
    return sampling.top_k == 1 or sampling.top_p < SAMPLED_FROM or sampling.temperature < SAMPLED_FROM


def settings_notes(software: str, request: Request) -> list[Message]:
    """Notes on the settings that a server ignores, or that it may ignore as far as its software is known."""
    if software == "transformers":
        return [say("note.transformers_serve_chat" if request.messages else "note.transformers_serve_text")]
    sampling = request.settings.sampling
    names = ", ".join(_set_beyond_protocol(sampling))
    keys = [] if software else [*([] if names else ["note.seed_unsure"]), "note.defaults_unsure"]
    if software in ("vllm", "sglang"):
        keys += ["note.no_typical_p"] if sampling.typical_p < 1 else []
        keys += ["note.min_p_before_top_p"] if sampling.min_p and sampling.top_p < 1 else []
    if continues(request.messages) and software not in CONTINUE_MESSAGES:
        keys.append("note.continuation_unsure")
    notes = list(map(say, keys))
    if names and not software:
        notes.insert(0, say("note.seed_and_cuts_unsure", names=names))
    if sampling.temperature < (least := LEAST_TEMPERATURE.get(software, 0.0)):
        notes.append(say("note.least_temperature", least=f"{least:g}"))
    return notes



class Completion:
    """The text of one candidate as far as the server has sent it.

    token_logprobs: its tokens with their log-probabilities in nats; None once a part of the text came without them.
    reported_tokens: how many tokens the server counted, if it did. tokens_estimated: whether that is not known for
    this text alone. reasoned: whether the server sent reasoning, which is no part of the text.
    """

    request: ServerRequest
    software: str
    finish_reason: str | None
    token_logprobs: list[TokenLogprob] | None
    reported_tokens: int | None
    tokens_estimated: bool
    reasoned: bool

    def __init__(self, request: ServerRequest, software: str):
        self.request, self.software = request, software
        self.finish_reason, self.token_logprobs, self._has_logprobs = None, [], False
        self.reported_tokens, self.tokens_estimated, self.reasoned = None, True, False
        self._received, self._chunks = "", 0
        messages, self._stops = request.job.request.messages, request.job.request.settings.stop
        #: Where a stop string begins in the text, of which servers that know none send more.
        self._stop: int | None = None
        returns_message = software in RETURN_CONTINUED_MESSAGE and messages is not None and continues(messages)
        self._continued = str(messages[-1]["content"]) if messages and returns_message else ""

    def add(self, choice: object) -> bool:
        """Adds a choice of an answer: the whole text, or its next part. Returns whether that holds any text.

        Raises `ReportedError` for an error in its place, `MalformedAnswer` for anything else.
        """
        finish_reason = getattr(choice, "finish_reason", None)
        if (error := getattr(choice, "error", None)) or finish_reason == "error":
            raise ReportedError(error or "finish_reason: error")
        is_chat = self.request.is_chat
        message = (getattr(choice, "message", None) or getattr(choice, "delta", None)) if is_chat else choice
        text, reasoned = _read_content(getattr(message, "content" if is_chat else "text", None))
        self.reasoned |= reasoned or any(getattr(message, name, None) for name in REASONING_FIELDS)
        if message is None or not (isinstance(text, str) or (is_chat and text is None)):
            raise MalformedAnswer("no text")
        # A token that completes no character comes without text, but with its log-probability.
        pairs = token_logprobs(choice)
        self._has_logprobs |= bool(pairs)
        if text and pairs is None:
            self.token_logprobs = None
        elif pairs and self.token_logprobs is not None:
            self.token_logprobs += pairs
        if text:
            searched = len(self._new_text)
            self._received += text
            self._chunks += 1
            if self._stop is None:
                self._stop = find_stop(self._new_text, self._stops, searched)
        self.finish_reason = finish_reason or self.finish_reason
        return bool(text)

    @property
    def text(self) -> str:
        """The text so far, up to a stop string."""
        return self._new_text[: self._stop]

    @property
    def _new_text(self) -> str:
        """What was received, without the message that it continues, which some servers return before it."""
        message = self._continued
        for prefix in (message, message.rstrip()):
            if self._received.startswith(prefix):
                return self._received[len(prefix):]
        return "" if message.startswith(self._received) else self._received

    @property
    def ended(self) -> str:
        """Why the text ended, as `Candidate.ended` has it."""
        if self._stop is not None:
            return "stop_string"
        return END_REASONS.get(self.finish_reason or "", "eos")

    def end_without_reason(self) -> None:
        """Ends a text that was sent in full without a reason to finish, as some servers do."""
        if not self.finish_reason:
            tokens = len(self.token_logprobs) if self.token_logprobs else self.reported_tokens or self._chunks
            self.finish_reason = "length" if tokens >= self.request.cap else "stop"

    def row(self, index: int) -> Row:
        """The text so far as that of the candidate of this index, for the consumer of the stream."""
        text, pairs = self.text, self.token_logprobs
        if self._stop is None and (length := certain_length(text, self._stops)) < len(text):
            text = text[:length]
            pairs = pairs and tokens_of(text, pairs)
        logprob = sum(logprob for _, logprob in pairs) if pairs else None
        return Row(index, text, len(pairs) if pairs else self._chunks, logprob)

    def candidate(self, index: int) -> Candidate:
        """The complete text as the candidate of this index."""
        pairs = self._without_end_of_text()
        # Servers do not send the bytes of tokens: an incomplete last character is taken to be cut by the cap.
        text = INCOMPLETE_CHARACTER.sub("", self.text) if self.ended == "length" else self.text
        tokens = self._count_tokens(pairs)
        if self.logprobs_incomplete:
            pairs = None
        full_text, generated = None, tokens
        finishes = self.ended == "length" and self.request.job.request.settings.finish == "sentence"
        end = sentence_end(text) if finishes else 0
        if kept := end and _tokens_up_to(end, text, tokens, pairs):
            full_text, text, tokens = text, text[:end], kept
            pairs = pairs and pairs[:kept]
        return Candidate(
            index=index, text=text, tokens=tokens, cap=self.request.cap, ended=self.ended, full_text=full_text,
            logprob=None if pairs is None else math.fsum(logprob for _, logprob in pairs),
            pieces=_pieces(text, pairs or []),
            notes=self._notes(full_text or text), answerless=self.reasoned and not text.strip(),
            logprob_incomplete=self.logprobs_incomplete, tokens_left_out=generated - tokens,
        )

    def _notes(self, text: str) -> tuple[Message, ...]:
        """What the reader of the candidate with this text should know."""
        # vLLM leaves the incomplete character out itself, but lists its tokens.
        last_token = self.token_logprobs[-1][0] if self.token_logprobs else None
        cut = text != self.text or (self.ended == "length" and last_token == "")
        return (*([say("note.character_cut")] if cut else []),
                *([say("note.logprobs_incomplete")] if self.logprobs_incomplete else []),
                *([say("note.only_reasoning")] if self.reasoned and not text.strip() else []))

    @property
    def may_have_stopped(self) -> bool:
        """Whether it is unknown if the model ended the text or a stop string did."""
        return bool(self._stops) and self.ended == "eos"

    @property
    def shortened(self) -> bool:
        """Whether the server ended the text for its length before the cap, as where it exceeds the context."""
        pairs = self.token_logprobs
        counted = bool(pairs) or (self.reported_tokens is not None and not self.tokens_estimated)
        return self.ended == "length" and counted and not self.reasoned and self._count_tokens(pairs) < self.request.cap

    @property
    def logprobs_incomplete(self) -> bool:
        """Whether the server gave the log-probabilities of some tokens only: a part of the text came without, or the
        server counted more tokens.
        """
        if self.token_logprobs is None:
            return self._has_logprobs
        pairs = self._without_end_of_text()
        if pairs is None or self.reported_tokens is None or self.tokens_estimated:
            return False
        if self.reasoned:  # servers may count the reasoning
            return False
        if self._stops and self.ended != "length":  # servers count the tokens of a stop string and list some of them
            return not "".join(token for token, _ in pairs).startswith(self.text)
        entries = len(self.token_logprobs)
        return not are_complete(entries, len(pairs) < entries, self.reported_tokens, self.ended == "eos")

    def _without_end_of_text(self) -> list[TokenLogprob] | None:
        """The text's tokens with their log-probabilities, without an end of text or a stop string, which some servers
        send too.
        """
        if not self.token_logprobs:
            return None if self.text else self.token_logprobs
        if self._stops and self.ended != "length":
            return tokens_of(self.text, self.token_logprobs)
        before_last = "".join(token for token, _ in self.token_logprobs[:-1])
        last_is_end = self.ended == "eos" and len(before_last) >= len(self.text)
        return self.token_logprobs[:-1] if last_is_end else self.token_logprobs

    def _count_tokens(self, pairs: list[TokenLogprob] | None) -> int:
        """How many tokens the text has, by the best source there is: log-probabilities, count, cap, length."""
        if pairs and not self.logprobs_incomplete:
            return len(pairs)
        if self._stop is not None:
            counted = None if self.tokens_estimated else self.reported_tokens
            return math.ceil((counted or len(self._new_text) / 4) * len(self.text) / len(self._new_text))
        if self.reported_tokens is not None and not self.tokens_estimated:
            counted_end = self.ended == "eos" and self.software in COUNT_END_OF_TEXT and self.reported_tokens > 0
            return self.reported_tokens - counted_end
        if self.ended == "length":
            return self.request.cap
        if self.reported_tokens is None:
            return math.ceil(len(self.text) / 4)  # about right for English
        return self.reported_tokens - (self.software in COUNT_END_OF_TEXT and self.reported_tokens > 0)


def _tokens_up_to(end: int, text: str, tokens: int, pairs: list[TokenLogprob] | None) -> int:
    """How many tokens it takes to write the first `end` characters of a text of so many tokens: in proportion to its
    length where the server lists none, 0 where those that it lists are not the text's.
    """
    if not pairs:
        return math.ceil(tokens * end / len(text))
    is_listed = "".join(token for token, _ in pairs).startswith(text[:end])
    return len(tokens_of(text[:end], pairs)) if is_listed else 0


def _pieces(text: str, tokens: Sequence[TokenLogprob]) -> tuple[TokenLogprob, ...]:
    """The text as these tokens write it, of which the last may go beyond; none where they write another text."""
    written = "".join(token for token, _ in tokens)
    if not tokens or not written.startswith(text) or len(written) - len(text) > len(tokens[-1][0]):
        return ()
    *before, (last, logprob) = tokens
    return (*before, (last[: len(last) - len(written) + len(text)], logprob))


def enter_usage(completions: Sequence[Completion], answer: object) -> None:
    """Enters how many tokens an answer reports; several texts share the number in proportion to their length."""
    tokens = completion_tokens(answer)
    if tokens is None:
        return
    characters = sum(len(completion.text) for completion in completions) or 1
    for completion in completions:
        shared = round(tokens * len(completion.text) / characters)
        completion.reported_tokens = tokens if len(completions) == 1 else shared
        completion.tokens_estimated = len(completions) > 1


def _read_content(content: object) -> tuple[object, bool]:
    """The text of a message's content, which Mistral's servers send in parts, and whether parts hold reasoning."""
    if not isinstance(content, list):
        return content, False
    parts = [part if isinstance(part, dict) else {"text": part} for part in content]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return "".join(texts), any(part.get("type") in ("thinking", "reasoning") for part in parts)
