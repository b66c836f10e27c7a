"""What is asked for: `Settings` and `Request`, and the checks of their values.

Nothing here holds a tensor, a file or a connection, so every value crosses threads, processes and HTTP as it is.
"""

import dataclasses
import math
import operator
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bon.errors import InputError
from bon.messages import say

N_MAX = 4096
#: More tokens than any model writes in one go: what lies above is a slip of the hand.
TOKENS_MAX = 1_000_000
#: Seeds stay whole in JavaScript, where a number has 53 bits.
SEED_MAX = 2**53 - 1
#: The least and the most that temperature, top-p and softness may be: beyond, float32 takes them for 0 or infinity.
FLOAT_MIN, FLOAT_MAX = 1e-30, 1e30
UNITS = ("probability", "logit", "margin")
SELECTIONS = ("best", "worst", "soft")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to sample and score; every field has a default, and every value is checked.

    n: candidates, 1 to 4096. min_tokens, max_tokens: each candidate's cap is drawn from this range, both ends
    included; the model may end a text earlier. temperature: above 0. top_k: 0 is off. top_p: in (0, 1], 1 is off.
    seed: None draws a fresh one. model, scorer: preset, Hub id or folder (scorer None: the model's own).
    target: the scorer's label to look for (None: POSITIVE, or the only output of a reward model).
    unit: of the score, for a scorer with labels. keep: how many ranked candidates to return (None: all).
    reject: the share of the candidates that early rejection drops at each checkpoint, 0 (off) or below 1.
    select: who comes first: the `best`, the `worst`, or by a draw that favours high scores (`soft`). softness: of
    that draw, in the score's unit, above 0: small is nearly the best, large nearly one plain sample.
    Raises `InputError`, with the field's name, for a value that cannot work.
    """

    n: int = 16
    target: str | None = None
    min_tokens: int = 8
    max_tokens: int = 32
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    model: str = "embedded"
    scorer: str | None = None
    unit: str = "probability"
    keep: int | None = None
    reject: float = 0.0
    select: str = "best"
    softness: float = 0.1

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("n", whole("n", self.n, 1, N_MAX))
        put("min_tokens", whole("min_tokens", self.min_tokens, 1, TOKENS_MAX))
        put("max_tokens", whole("max_tokens", self.max_tokens, 1, TOKENS_MAX))
        if self.min_tokens > self.max_tokens:
            raise InputError(
                "min_tokens", say("error.lengths_crossed", least=str(self.min_tokens), most=str(self.max_tokens))
            )
        put("temperature", number("temperature", self.temperature))
        if self.temperature <= 0:
            raise InputError("temperature", say("error.temperature_not_above_0", value=f"{self.temperature:g}"))
        self._check_float32("temperature")
        put("top_k", whole("top_k", self.top_k, 0))
        put("top_p", number("top_p", self.top_p))
        if not 0 < self.top_p <= 1:
            raise InputError("top_p", say("error.top_p_out_of_range", value=f"{self.top_p:g}"))
        self._check_float32("top_p")
        put("reject", number("reject", self.reject))
        if not 0 <= self.reject < 1:
            raise InputError("reject", say("error.reject_out_of_range", value=f"{self.reject:g}"))
        if self.select not in SELECTIONS:
            raise InputError(
                "select", say("error.not_one_of", name="select", names=", ".join(SELECTIONS), value=repr(self.select))
            )
        put("softness", number("softness", self.softness))
        if self.softness <= 0:
            raise InputError("softness", say("error.softness_not_above_0", value=f"{self.softness:g}"))
        self._check_float32("softness")
        if self.seed is not None:
            put("seed", whole("seed", self.seed, 0, SEED_MAX))
        if self.keep is not None:
            put("keep", whole("keep", self.keep, 1, N_MAX))
            if self.keep > self.n:
                raise InputError("keep", say("error.keep_above_n", keep=str(self.keep), n=str(self.n)))
        if self.unit not in UNITS:
            raise InputError(
                "unit", say("error.not_one_of", name="unit", names=", ".join(UNITS), value=repr(self.unit))
            )
        for name in ("model", "scorer", "target"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise InputError(name, say("error.not_a_name", name=name, value=repr(value)))
        if self.model is None:
            raise InputError("model", say("error.no_model_name"))

    def _check_float32(self, name: str) -> None:
        value = getattr(self, name)
        if not FLOAT_MIN <= value <= FLOAT_MAX:
            limits = {"least": f"{FLOAT_MIN:g}", "most": f"{FLOAT_MAX:g}"}
            raise InputError(name, say("error.beyond_float32", name=name, **limits, value=f"{value:g}"))

    def with_seed(self) -> "Settings":
        """These settings with a fresh seed where there was none, so that the run can be repeated."""
        return self if self.seed is not None else dataclasses.replace(self, seed=secrets.randbits(32))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """Settings from a mapping of the public keyword names; an unknown name is an `InputError`."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise InputError(name, say("error.no_such_setting", name=repr(name), names=", ".join(known)))
        return cls(**values)


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """`value` as an int within least..most, or an `InputError` that names the argument."""
    if isinstance(value, bool):
        raise _not_whole(name, value, least, most)
    try:
        out = operator.index(value)
    except TypeError:
        if not (isinstance(value, float) and value.is_integer()):
            raise _not_whole(name, value, least, most) from None
        out = int(value)
    if out < least or (most is not None and out > most):
        raise _not_whole(name, out, least, most)
    return out


def _not_whole(name: str, value: Any, least: int, most: int | None) -> InputError:
    limits = {"name": name, "least": str(least)} | ({"most": str(most)} if most else {})
    key = "error.not_whole_from_to" if most else "error.not_whole_from"
    if isinstance(value, int) and abs(value) >= 10**15:  # too many digits for a sentence
        return InputError(name, say(f"{key}.far", **limits))
    return InputError(name, say(key, **limits, value=repr(value)))


def number(name: str, value: Any) -> float:
    """`value` as a finite float, or an `InputError` that names the argument."""
    try:
        out = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        out = math.nan
    if not math.isfinite(out):
        raise InputError(name, say("error.not_a_number", name=name, value=repr(value)))
    return out


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and the settings to run it with.

    Exactly one of: `prompt` (the model continues it), `messages` (a chat: mappings with `role` and `content`; where the
    last one is the assistant's, the model goes on with it), `prompt_ids` (token ids). A blank prompt is refused unless
    `unconditional` asks for a sample from the model's start token. `query` numbers the prompt within a call and keys
    its random streams.
    """

    prompt: str | None = None
    settings: Settings = field(default_factory=Settings)
    messages: tuple[Mapping[str, str], ...] | None = None
    prompt_ids: tuple[int, ...] | None = None
    unconditional: bool = False
    query: int = 0

    def __post_init__(self) -> None:
        given = [name for name in ("prompt", "messages", "prompt_ids") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(given[1], say("error.two_prompts", names=" and ".join(given)))
        if self.messages is not None:
            object.__setattr__(self, "messages", checked_messages(self.messages))
        elif self.prompt_ids is None:
            if self.prompt is not None and not isinstance(self.prompt, str):
                raise InputError("prompt", say("error.prompt_not_text", type=type(self.prompt).__name__))
            if not (self.prompt or "").strip() and not self.unconditional:
                raise InputError("prompt", say("error.prompt_empty"))
        if self.prompt_ids is not None:
            object.__setattr__(self, "prompt_ids", tuple(self.prompt_ids))
        object.__setattr__(self, "prompt", clean(self.prompt) if self.prompt is not None else None)


def clean(text: str) -> str:
    """`text` without lone surrogates, which no encoding can carry: each becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def checked_messages(messages: Sequence[Mapping[str, str]]) -> tuple[Mapping[str, str], ...]:
    """The messages of a chat with their texts cleaned, or an `InputError`."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise InputError("messages", say("error.messages_no_list", example="[{'role': 'user', 'content': 'Hello'}]"))
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or not isinstance(
            message.get("content"), str
        ):
            raise InputError("messages", say("error.message_without_text", message=repr(message)))
    if not messages[-1]["content"].strip():
        raise InputError("messages", say("error.last_message_empty"))
    return tuple({k: clean(v) if isinstance(v, str) else v for k, v in message.items()} for message in messages)


def continues(messages: Sequence[Mapping[str, str]] | None) -> bool:
    """Whether a chat ends with the beginning of the assistant's message, which candidates then go on with."""
    return bool(messages) and messages[-1]["role"] == "assistant"


def answered(messages: Sequence[Mapping[str, str]], text: str) -> list[dict[str, str]]:
    """The chat with a candidate's text as the assistant's message, or as the rest of the one that it ends with."""
    if continues(messages):
        *before, begun = map(dict, messages)
        return [*before, begun | {"content": begun["content"] + text}]
    return [*map(dict, messages), {"role": "assistant", "content": text}]
