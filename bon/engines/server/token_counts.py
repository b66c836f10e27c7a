"""The tokens and log-probabilities of a text, as servers report them in the forms of chats and of completions."""

from collections.abc import Mapping, Sequence

#: A token's text with its log-probability in nats.
TokenLogprob = tuple[str, float]


def token_logprobs(choice: object) -> list[TokenLogprob] | None:
    """The tokens of a choice with their log-probabilities, in a chat's form or a completion's; None where it has none.

    llama.cpp answers completions in the chat's form, which the official client leaves as plain dictionaries.
    """
    logprobs = getattr(choice, "logprobs", None)
    if content := _field(logprobs, "content"):
        entries = [(_field(entry, "token"), _field(entry, "logprob")) for entry in _items(content)]
    else:
        tokens, values = (_items(_field(logprobs, name)) for name in ("tokens", "token_logprobs"))
        entries = list(zip(tokens, values, strict=False))
    pairs = [(token, float(logprob)) for token, logprob in entries
             if isinstance(token, str) and isinstance(logprob, float | int)]
    return pairs if pairs and len(pairs) == len(entries) else None


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


def _field(record: object, name: str) -> object:
    """A field of a record of the client, which leaves what it does not know as dictionaries; None where it lacks it."""
    return record.get(name) if isinstance(record, Mapping) else getattr(record, name, None)


def _items(values: object) -> Sequence[object]:
    return values if isinstance(values, list | tuple) else ()
