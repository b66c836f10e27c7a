"""What a server's error says: its message, its status, and which parameters of a request it refuses.

The forms understood: OpenAI (`error.message`, `error.param`), vLLM, FastAPI (`detail[].loc`), Mistral
(`message.detail[].loc`), Google (an array, `error.details[].fieldViolations[].field`), Anthropic, Ollama (a text in
`error`), llama.cpp, and plain text.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bon.engines.server.keys import KEY_VARIABLES, mask_key
from bon.messages import Message, say

if TYPE_CHECKING:
    from bon.engines.server.connection import Server

#: The most characters that an error quotes of a server's own message.
CHARACTERS_SHOWN = 300
#: The status of answers that may refuse a parameter. OpenAI answers 403 where a model does not give log-probabilities.
REFUSAL_STATUS = (400, 403, 422, 501)
#: The parameters that are left out of a request when a server refuses them.
OPTIONAL_PARAMETERS = (
    "n", "logprobs", "seed", "stop", "stream_options", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
    "repeat_penalty", "repeat_last_n", "typical_p", "samplers", "xtc_probability", "dry_multiplier", "top_n_sigma",
)
#: Stands, among unsupported parameters, for a server that takes either `temperature` or `top_p`, but not both.
EITHER_TEMPERATURE_OR_TOP_P = "temperature+top_p"
#: Where a value out of range is the user's own choice, it is an error, not a parameter to leave out; with the values
#: at which the parameter does nothing.
NEUTRAL_VALUES: Mapping[str, tuple[float, ...]] = {
    "temperature": (1,), "top_p": (1,), "top_k": (0, -1), "min_p": (0,), "typical_p": (1,),
    "repetition_penalty": (1,), "repeat_penalty": (1,),
}

#: The names under which servers nest messages and parameters.
MESSAGE_NAMES = ("message", "detail", "error", "msg", "description", "title", "errors", "details", "fieldViolations")
PARAMETER_NAMES = ("param", "parameter", "field")
#: The names of a request's parameters that are not optional: an error about one of these refuses no other.
REQUIRED_PARAMETERS = {"messages", "prompt", "model", "max_tokens", "max_completion_tokens", "input_tokens"}
OTHER_NAMES = {"candidate_count": "n", "top_logprobs": "logprobs"}
#: How texts name a parameter without writing its name.
PARAPHRASES = {
    "n": r"completion choices?\b|multiple (completions|choices|candidates)|number of (completions|choices|candidates)"
         r"|candidate_?count",
    "logprobs": r"log.?prob(abilitie)?s|top_logprobs",
}
#: Messages about a prompt that is too long mention parameters but refuse none.
TOO_LONG = re.compile(r"context (length|size|window)|input[ _]tokens|exceed_context|prompt is too long|too many tokens"
                      r"|maximum (model )?length|context_length_exceeded", re.IGNORECASE)
OUT_OF_RANGE = re.compile(r"\brange\b|\bbetween\b|\bin [\[(]\s*-?[\d.]+\s*,|\b(max|min)imum\b|\bexceeds?\b"
                          r"|(less|greater|smaller|larger|lower|higher|more) than|at (most|least)|[<>]=?|non-negative"
                          r"|positive|too (large|high|small|low)", re.IGNORECASE)
NOT_TOGETHER = re.compile(r"\bboth\b|\btogether\b|\beither\b|only one|mutually exclusive|not .* at the same time",
                          re.IGNORECASE)
#: Types and codes of errors that say that nothing is left to pay with; servers send them with a rate limit's status.
UNPAID = re.compile(r"insufficient\W*_?(quota|balance|funds?|credits?)|exceeded_current_quota|billing|payment|credit",
                    re.IGNORECASE)
#: The parts of a message that name parameters which the server does take.
ACCEPTED_PARAMETERS = re.compile(
    r"(supported|allowed|valid|permitted|accepted|available|known|expected)\s+(parameters|fields|arguments|names|keys)"
    r"\s*(are|include)?\s*[:=(\[].*|(did you mean|(please )?use|try)\W+\w+( instead)?|one of\W.*",
    re.IGNORECASE | re.DOTALL)


class ReportedError(Exception):
    """An error that a server reports inside an answer of status 200.

    body: what the answer holds in place of texts. status_code: the status that it names, if any.
    """

    body: object
    status_code: int | None

    def __init__(self, body: object):
        super().__init__(error_text(body))
        self.body, self.status_code = body, _status_in(body)


@dataclass(frozen=True, slots=True)
class ErrorFields:
    """The fields of an error, in order, without repetition.

    messages: what the server says. parameters: the parameters that it names. types: the error's types and codes.
    """

    messages: tuple[str, ...]
    parameters: tuple[str, ...]
    types: tuple[str, ...]


def demands_payment(body: object) -> bool:
    """Whether the fields of an error say that the account has nothing left to pay with, which no retry mends."""
    return any(map(UNPAID.search, read_fields(body).types))


def explain_error(error: Exception, server: "Server") -> Message:
    """What an error of the client or the server means, in a sentence without the key."""
    status, url = error_status(error), server.url
    shown = quote_text(error_text(error_body(error)) or str(error), server.key)
    if status in (401, 403):
        key = "error.server_refuses_key" if server.key else "error.server_wants_key"
        return say(key, url=url, status=str(status), error=shown, variable=KEY_VARIABLES[0])
    if status:
        return say("error.server_status", url=url, status=str(status), error=shown)
    if error_body(error):
        return say("error.server_reports", url=url, error=shown)
    if "Timeout" in type(error).__name__:
        return say("error.server_slow", url=url)
    cause = error.__cause__ or error
    return say("error.server_no_answer", url=url, error=quote_text(str(cause) or type(cause).__name__, server.key))


def quote_text(text: str, key: str | None) -> str:
    """A server's text in one line, shortened and without the key; of an HTML page its title."""
    text = " ".join(mask_key(_title_of_page(text), key).split())
    return text if len(text) <= CHARACTERS_SHOWN else text[:CHARACTERS_SHOWN] + "..."


def _title_of_page(text: str) -> str:
    if not re.match(r"\s*<(!doctype|html|head|body|\?xml|[a-z]+[ >])", text, re.IGNORECASE):
        return text
    title = re.search(r"<title[^>]*>(.*?)</title>|<h1[^>]*>(.*?)</h1>", text, re.IGNORECASE | re.DOTALL)
    return re.sub(r"<[^>]*>", " ", title[1] or title[2] or "").strip() or "HTML" if title else "HTML"


def error_status(error: Exception) -> int | None:
    """The HTTP status of an error, or the one that it names where it came within a stream or an answer of 200."""
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else _status_in(getattr(error, "body", None))


def error_body(error: Exception) -> object:
    """The content of the answer that an error came with: JSON or text; None where no answer came.

    The client hands on only what is in the field `error`; other fields may name the parameters.
    """
    response = getattr(error, "response", None)
    try:
        return json.loads(response.text) if response is not None else getattr(error, "body", None)
    except ValueError:
        return getattr(error, "body", None)


def error_text(body: object) -> str:
    """The messages in an error, in one text."""
    messages = read_fields(body).messages
    return "; ".join(messages) or (json.dumps(body, default=str) if body else "")


def read_fields(body: object) -> ErrorFields:
    """The messages and the names of parameters anywhere in an error."""
    fields: dict[str, dict[str, None]] = {"message": {}, "parameter": {}, "type": {}}
    for name, value in _walk(body):
        fields[name][value] = None
    return ErrorFields(tuple(fields["message"]), tuple(fields["parameter"]), tuple(fields["type"]))


def _walk(value: object, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The texts in an error, each behind `message`, `parameter` or `type`."""
    if depth > 8:
        return
    if isinstance(value, str):
        try:  # proxies put the error of another server into theirs as a text
            nested = json.loads(value) if value.lstrip()[:1] in "[{" else None
        except ValueError:
            nested = None
        if isinstance(nested, dict | list) and nested:
            yield from _walk(nested, depth + 1)
        elif value.strip():
            yield "message", value.strip()
            for path in re.findall(r"""['"]?loc['"]?\s*[:=]\s*[(\[]([^)\]]*)[)\]]""", value):
                yield "parameter", _parameter_at(re.findall(r"\w+", path))
    elif isinstance(value, list):
        for entry in value:
            yield from _walk(entry, depth + 1)
    elif isinstance(value, dict):
        yield from _walk_object(value, depth)


def _walk_object(value: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, str]]:
    """`_walk` of a JSON object: the parameter that it names, its types, and its messages."""
    location = value.get("loc")
    named = _parameter_at([part for part in location if isinstance(part, str)]) if isinstance(location, list) else ""
    for name in PARAMETER_NAMES:
        if isinstance(path := value.get(name), str):
            named = named or _parameter_at(re.findall(r"\w+", path))
    if named:
        yield "parameter", named
    yield from (("type", text) for name in ("type", "code") if isinstance(text := value.get(name), str))
    for name in MESSAGE_NAMES:
        for part, text in _walk(value.get(name), depth + 1):
            # FastAPI writes "Extra inputs are not permitted", and only `loc` says which.
            by_location = part == "message" and isinstance(location, list) and named and named not in text
            yield part, f"{named}: {text}" if by_location else text


def _parameter_at(path: list[str]) -> str:
    """The parameter of a path such as `body.top_k` or `generationConfig.topK`, as OpenAI writes it."""
    names = [re.sub(r"(?<=[a-z])([A-Z])", r"_\1", part).lower() for part in path if not part.isdigit()]
    names = [OTHER_NAMES.get(name, name) for name in names if name not in ("body", "extra_body")]
    return next((name for name in names if name in OPTIONAL_PARAMETERS or name in REQUIRED_PARAMETERS),
                names[-1] if names else "")


def _status_in(body: object) -> int | None:
    """The HTTP status that an error names as its code."""
    if isinstance(body, list):
        return next((status for entry in body if (status := _status_in(entry))), None)
    if not isinstance(body, dict):
        return None
    for name in ("code", "status", "status_code"):
        value = body.get(name)
        if isinstance(value, int | str) and re.fullmatch("[45][0-9][0-9]", str(value)):
            return int(value)
    return _status_in(body.get("error"))


def refused_parameters(error: Exception, sent: Mapping[str, Any], is_chat: bool) -> set[str]:
    """The parameters of a request that an error refuses and that can be left out of the next one.

    The error's fields decide, and its text only where they name no parameter. `max_tokens` stands for a server that
    wants `max_completion_tokens` in its place, `EITHER_TEMPERATURE_OR_TOP_P` for one that refuses the two together.
    sent: the parameters of the request by name, those of `extra_body` among them.
    """
    body = error_body(error)
    if not body or error_status(error) not in (*REFUSAL_STATUS, None):
        return set()
    fields = read_fields(body)
    text = "; ".join(fields.messages)
    structured = {name for name in fields.parameters if name in REQUIRED_PARAMETERS or name in sent}
    if not structured.intersection(OPTIONAL_PARAMETERS) and TOO_LONG.search("; ".join((text, *fields.types))):
        return set()
    named = structured or {name for name in (*OPTIONAL_PARAMETERS, "max_tokens") if _mentions(text, name)}
    if {"temperature", "top_p"} <= sent.keys() and NOT_TOGETHER.search(text) and all(
            re.search(rf"\b{name}\b", text) for name in ("temperature", "top_p")):
        return {EITHER_TEMPERATURE_OR_TOP_P}
    refused = {name for name in named if name in OPTIONAL_PARAMETERS and name in sent
               and not (OUT_OF_RANGE.search(text) and sent[name] not in NEUTRAL_VALUES.get(name, (sent[name],)))}
    if is_chat and "max_tokens" in named and "max_tokens" in sent and (
            not OUT_OF_RANGE.search(text) and (structured or "max_completion_tokens" in text)):
        refused.add("max_tokens")
    return refused


def _mentions(text: str, name: str) -> bool:
    """Whether a text names a parameter as one that is not accepted. The single letter `n` must look like a name."""
    text = ACCEPTED_PARAMETERS.sub("", text)
    pattern = rf"(?<![\w\\]){name}(?!\w)"
    if name == "n":
        pattern = r"""(['"`])n\1|\bn\s*[:=<>]|(?<!\w)(param|parameter|argument|field|option)s?\W+n\b|\w\.n\b|^n\b"""
    if name in PARAPHRASES:
        pattern += f"|{PARAPHRASES[name]}"
    return re.search(pattern, text, re.IGNORECASE) is not None
