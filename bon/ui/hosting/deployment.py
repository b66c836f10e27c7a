"""How the page is deployed: what the environment says of models, strangers and limits, read once per page build.

In public mode strangers come: they choose among the listed models, and each run and each visitor has a limit. The
checks stand where work begins, not in the form, since every listener can be called by hand.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bon import zerogpu
from bon.engines.server.connection import check_url
from bon.errors import InputError
from bon.messages import say
from bon.models import presets
from bon.result import Result
from bon.settings import N_MAX, TOKENS_MAX, Request, Settings, whole
from bon.ui.hosting.rate_limit import Visitors, visitor_id

#: Prompts of one comparison in public mode: as many as are in the box. So many of them count as one run.
PROMPTS_MAX, PROMPTS_A_RUN = 32, 8
#: Scorers that one weighted sum may have in public mode.
PARTS_MAX = 4
#: More than the words of any language take on average.
CHARACTERS_A_TOKEN = 32
#: Public limits: field -> variable, least (what the page begins with has to pass), most.
LIMITS = {
    "n": ("BON_MAX_N", 16, N_MAX),
    "tokens": ("BON_MAX_TOKENS", 32, TOKENS_MAX),
    "prompt": ("BON_MAX_PROMPT", 32, 1_000_000),
    "queue": ("BON_MAX_QUEUE", 1, 10_000),
    "rate": ("BON_RATE", 1, 10_000),
    "rows": ("BON_MAX_ROWS", 1, 10_000),
}
#: Of a message these are no characters that a visitor has written.
ROLES = ("system", "user", "assistant")
SWITCH = {"": False, "0": False, "false": False, "no": False, "off": False,
          "1": True, "true": True, "yes": True, "on": True}


@dataclass(frozen=True, slots=True)
class Deployment:
    """What holds for one page.

    model, scorer: what it begins with. endpoint: the server that has the model, where it is on one. public: strangers
    come, and the rest holds: the `models` to choose among, the most candidates (`n`) of the most `tokens`, characters
    of a `prompt`, `rows` of a batch, and `rate` runs a minute for each visitor. queue: runs that may wait in line, in
    private mode too.
    spaces: whether a Space's proxy says who a visitor is.
    """

    model: str = "embedded"
    scorer: str | None = None
    public: bool = False
    models: tuple[str, ...] = ("embedded",)
    n: int = 64
    tokens: int = 128
    prompt: int = 2000
    queue: int = 32
    rate: int = 20
    spaces: bool = False
    endpoint: str | None = None
    rows: int = 100
    visitors: Visitors = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "visitors", Visitors(self.rate))

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Deployment":
        """The deployment that the environment describes; a value that cannot work is an `InputError` that names it."""
        values = {name: value.strip() for name, value in environment.items()}
        model = values.get("BON_MODEL") or cls.__dataclass_fields__["model"].default
        public = values.get("BON_PUBLIC", "").lower()
        if public not in SWITCH:
            raise InputError("BON_PUBLIC", say("error.bon_public", value=repr(public)))
        listed = [name for text in values.get("BON_MODELS", "").split(",") if (name := text.strip())]
        limits = {name: _number(values[limit[0]], *limit) for name, limit in LIMITS.items() if values.get(limit[0])}
        return cls(
            model, values.get("BON_SCORER") or None, SWITCH[public] or zerogpu.is_on(),
            tuple(dict.fromkeys([*(listed or in_the_box()), model])), **limits, spaces="SPACE_ID" in values,
            endpoint=_server_address(values),
        )

    def is_on_server(self, model: str | None) -> bool:
        """Whether a model is the one on the server. Which server that is, only the environment says."""
        return self.endpoint is not None and model == self.model

    def check(self, request: Request) -> None:
        """Raises `InputError`, with the field at fault, where a public page does not take the request."""
        settings = request.settings
        self.check_names(settings.model or self.model, settings.scorer)
        self.check_size(characters(request.prompt or "", request.messages), settings)

    def check_record(self, result: Result) -> None:
        """Raises `InputError` for a kept run that a public page does not rank anew: anybody can make one up."""
        self.check_names(result.settings.model or self.model, result.settings.scorer)
        self.check_size(characters(result.prompt, result.messages), result.settings, len(result.candidates))
        if self.public and any(len(c.text) > CHARACTERS_A_TOKEN * self.tokens for c in result.candidates):
            raise InputError("record", say("error.long_record"))

    def check_names(self, model: str | None, scorer: str | None) -> None:
        """Raises `InputError` for a model or scorer that a public page does not offer."""
        if not self.public:
            return
        if model not in self.models:
            raise InputError("model", say("error.models", names=", ".join(self.models)))
        parts = [name for _, name in presets.weighted(scorer or "")] or [scorer or self.model]
        offered = [*self.models, "judge", "weak", *presets.FREE, *filter(None, [self.scorer])]
        if scorer != self.scorer and not set(parts) <= set(offered):
            raise InputError("scorer", say("error.scorers", names=", ".join(offered)))
        if len(parts) > PARTS_MAX:
            raise InputError("scorer", say("error.parts", most=PARTS_MAX))

    def check_size(self, prompt: int, settings: Settings, candidates: int | None = None) -> None:
        """Raises `InputError` for more than a public page gives away in one run.

        prompt: its characters. candidates: how many, where they are not the settings' `n`.
        """
        n = settings.n if candidates is None else candidates
        sizes = (("n", n, self.n, "candidates"), ("max_tokens", settings.lengths[1], self.tokens, "tokens"),
                 ("prompt", prompt, self.prompt, "characters"))
        for name, value, most, unit in sizes if self.public else ():
            if value > most:
                raise InputError(name, say(f"error.{unit}", n=value, most=most))

    def check_prompts(self, prompts: Sequence[str], settings: Settings) -> None:
        """Raises `InputError` for a comparison that a public page does not take."""
        if self.public and len(prompts) > PROMPTS_MAX:
            raise InputError("prompts", say("error.prompts", most=PROMPTS_MAX, given=len(prompts)))
        for prompt in prompts:
            self.check_size(len(prompt), settings)

    def admit(self, request: Any, prompts: int = 1) -> None:
        """Counts a run, or a comparison over so many prompts, for the visitor that a `gr.Request` comes from.

        Raises `LimitError`, which says when to try again, where a public page has had enough of them.
        """
        if self.public:
            self.visitors.admit(visitor_id(request, self.spaces), math.ceil(prompts / PROMPTS_A_RUN))

    def limits(self) -> str:
        """The limits in one line for the page; nothing in private mode."""
        if not self.public:
            return ""
        return say("limits", candidates=self.n, tokens=self.tokens, characters=self.prompt, n=self.rate)


def characters(prompt: str, messages: Sequence[Mapping[str, Any]] | None) -> int:
    """How much is said to the model: of a chat all that its messages hold, each counted as one character at least."""
    if messages is None:
        return len(prompt)
    return sum(max(1, sum(len(str(value)) for value in message.values() if value not in ROLES)) for message in messages)


def in_the_box() -> list[str]:
    """The presets that need no network."""
    return [spec.name for spec in presets.presets() if os.path.isabs(spec.model)]


def _server_address(values: Mapping[str, str]) -> str | None:
    url = values.get("BON_ENDPOINT")
    if not url:
        return None
    if zerogpu.is_on() or not values.get("BON_MODEL"):
        raise InputError("BON_ENDPOINT", say("error.bon_endpoint_model"))
    try:
        return check_url(url)
    except InputError as error:
        raise InputError("BON_ENDPOINT", say("error.bon_endpoint", error=error.message)) from None


def _number(text: str, variable: str, least: int, most: int) -> int:
    return whole(variable, int(text) if text.isascii() and text.isdecimal() else text, least, most)
