"""Tokens as servers report them: of texts, with their log-probabilities, of prompts, and the context for both.

Servers shorten texts that exceed the context without a word: so long prompts are counted before they are sent.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from bon.settings import FLOAT_MAX, Messages

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Model

#: A token's text with its log-probability in nats.
TokenLogprob = tuple[str, float]
#: Bytes of template and special tokens that a chat's message may have besides its content.
BYTES_PER_MESSAGE = 200


def token_logprobs(choice: object) -> list[TokenLogprob] | None:
    """The tokens of a choice with their log-probabilities, in a chat's form or a completion's; None where it has none,
    or where one is no finite number.

    llama.cpp answers completions in the chat's form, which the official client leaves as plain dictionaries.
    """
    logprobs = getattr(choice, "logprobs", None)
    if content := _field(logprobs, "content"):
        entries = [(_field(entry, "token"), _field(entry, "logprob")) for entry in _items(content)]
    else:
        tokens, values = (_items(_field(logprobs, name)) for name in ("tokens", "token_logprobs"))
        entries = list(zip(tokens, values, strict=False))
    pairs = [(token, float(logprob)) for token, logprob in entries
             if isinstance(token, str) and isinstance(logprob, float | int) and abs(logprob) <= FLOAT_MAX]
    return pairs if pairs and len(pairs) == len(entries) else None


def tokens_of(text: str, tokens: list[TokenLogprob]) -> list[TokenLogprob]:
    """The first of the tokens, as many as it takes to write the text; the last may go beyond it."""
    ends = accumulate(len(token) for token, _ in tokens)
    return tokens[: next((count for count, end in enumerate(ends, start=1) if end >= len(text)), len(tokens))
                  if text else 0]


def completion_tokens(answer: object) -> int | None:
    """How many tokens of text an answer or a part of a stream reports, without those of a model's thinking."""
    usage = getattr(answer, "usage", None)
    tokens = _field(usage, "completion_tokens")
    if not isinstance(tokens, int):
        return None
    thinking = _field(_field(usage, "completion_tokens_details"), "reasoning_tokens")
    return tokens - thinking if isinstance(thinking, int) and 0 < thinking <= tokens else tokens


def are_complete(entries: int, end_listed: bool, reported: int, ended_by_itself: bool) -> bool:
    """Whether the log-probabilities of a text are those of all its tokens.

    entries: how many there are; end_listed: whether the last is that of the end of text. reported: how many tokens the
    server counted. Servers may count the end of text without listing it, or list it without counting it. llama.cpp
    lists no tokens that complete no character, as most tokens of emoji.
    """
    if end_listed:
        return reported in (entries, entries - 1)
    return reported == entries or (ended_by_itself and reported == entries + 1)


def context_length(models: Sequence["Model"], name: str) -> int | None:
    """The tokens that prompt and text may fill together, where the server lists that (vLLM, SGLang, llama.cpp)."""
    for model in models:
        if model.id == name:
            meta: Any = getattr(model, "meta", None)
            listed = getattr(model, "max_model_len", None) or (meta.get("n_ctx") if isinstance(meta, dict) else None)
            return listed if isinstance(listed, int) and listed > 0 else None
    return None


def count_slots(client: "OpenAI", root: str) -> int | None:
    """How many texts llama.cpp's server writes at once, which is the most that it takes as `n`."""
    slots = _fetch(client, root + "/props").get("total_slots")
    return slots if isinstance(slots, int) and slots > 0 else None


def may_exceed(context: int, prompt: str | None, messages: Messages | None, new: int) -> bool:
    """Whether prompt and `new` tokens may fill more than the context, where a token has at least one byte."""
    if messages is None:
        return len((prompt or "").encode()) + new > context
    size = sum(len(str(message.get("content") or "").encode()) + BYTES_PER_MESSAGE for message in messages)
    return size + new > context


def count_prompt_tokens(
    client: "OpenAI", root: str, software: str, model: str, prompt: str | None, messages: Messages | None
) -> int | None:
    """How many tokens the prompt or chat has, by the server's own tokenizer; None where it does not say."""
    if software in ("vllm", "sglang"):
        text: dict[str, Any] = {"prompt": prompt} if messages is None else {"messages": list(map(dict, messages))}
        count = _fetch(client, root + "/tokenize", {"model": model, **text}).get("count")
        return count if isinstance(count, int) else None
    if software != "llama.cpp":
        return None
    if messages is not None:
        prompt = _fetch(client, root + "/apply-template", {"messages": list(map(dict, messages))}).get("prompt")
    if not isinstance(prompt, str):
        return None
    body = {"content": prompt, "add_special": True, "parse_special": True}
    tokens = _fetch(client, root + "/tokenize", body).get("tokens")
    return len(tokens) if isinstance(tokens, list) else None


def _field(record: object, name: str) -> object:
    """A field of a record of the client, which leaves what it does not know as dictionaries; None where it lacks it."""
    return record.get(name) if isinstance(record, Mapping) else getattr(record, name, None)


def _items(values: object) -> Sequence[object]:
    return values if isinstance(values, list | tuple) else ()


def _fetch(client: "OpenAI", url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The server's answer, a JSON object; empty where it has none, as servers need not have these addresses."""
    try:
        answer = client.get(url, cast_to=object) if body is None else client.post(url, body=body, cast_to=object)
    except Exception:  # they may answer anything; what is wrong with the server itself, the run will show
        return {}
    return answer if isinstance(answer, dict) else {}
