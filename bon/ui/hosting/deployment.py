"""`Deployment`: the page's models and limits, from environment variables that are read once at launch.

In public mode anyone may visit: visitors choose among the listed models, and each run and each visitor has a limit.
Handlers check requests, not the form, since anyone can call a handler without the form.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from bon import zerogpu
from bon.engines.server.connection import check_url
from bon.engines.server.keys import read_key
from bon.errors import InputError
from bon.messages import say
from bon.models import presets
from bon.result import Result
from bon.settings import N_MAX, TOKENS_MAX, Defaults, Request, Settings, declared, parse_digits, whole
from bon.ui.hosting.rate_limit import DAY, Visitors, visitor_id

DEFAULT_MODEL: str = declared()["model"].default
#: The most prompts of a comparison in public mode: the number of built-in prompts.
PROMPTS_MAX = 32
#: Prompts of a comparison, or rows of a batch, that the rate limit counts as one run.
PROMPTS_PER_RUN = 8
#: The most scorers of a weighted sum in public mode.
PARTS_MAX = 4
#: The most characters per token that a record's texts may have: more than tokens of any language have on average.
CHARACTERS_PER_TOKEN = 32
#: The limits: field -> environment variable, least value (with which the page's first values still pass), most value.
LIMITS = {
    "n": ("BON_MAX_N", 16, N_MAX),
    "tokens": ("BON_MAX_TOKENS", 32, TOKENS_MAX),
    "prompt": ("BON_MAX_PROMPT", 32, 1_000_000),
    "queue": ("BON_MAX_QUEUE", 1, 10_000),
    "rate": ("BON_RATE", 1, 10_000),
    "rows": ("BON_MAX_ROWS", 1, 10_000),
    "runs_a_day": ("BON_MAX_RUNS_A_DAY", 1, 1_000_000),
    "proxies": ("BON_PROXIES", 0, 16),
}
#: The form of a host, and of a website as the policy of frames names one.
HOST = re.compile(r"[\w.-]+(?::\d+)?|\[[0-9A-Fa-f:.]+\](?::\d+)?")
WEBSITE = re.compile(r"(?:https?://)?(?:\*\.)?[\w.-]+(?::\d+)?", re.ASCII)
#: Roles of messages, which are not counted as characters of a prompt.
ROLES = ("system", "user", "assistant")
SWITCH = {"": False, "0": False, "false": False, "no": False, "off": False,
          "1": True, "true": True, "yes": True, "on": True}


@dataclass(frozen=True, slots=True)
class Deployment:
    """The models and limits of one page.

    model, scorer: those that the page opens with. endpoint: the address of the server that has the model, if one has.
    public: whether anyone may visit; only then these limits apply: the `models` to choose among, and the most
    candidates (`n`), `tokens` per candidate, characters of a `prompt`, `rows` of a batch, and runs per minute and
    visitor (`rate`). queue: the most runs that wait, in private mode too. spaces: whether the page is on a Space, whose
    proxy puts the visitor's address into a header; space_host: its name there. proxies: how many proxies each request
    comes through; None where the owner does not say. hosts: names under which a private page answers, beside this
    machine's own. frames: websites that may show a private page in a frame. runs_a_day: the most runs of all visitors
    within 24 hours, in private mode too; None for any number. password: what the page asks for; None for an open page.
    visitors: the runs of each visitor within the last minute. everybody: those of all within 24 hours, where they are
    limited.
    """

    model: str = DEFAULT_MODEL
    scorer: str | None = None
    public: bool = False
    models: tuple[str, ...] = (DEFAULT_MODEL,)
    n: int = 64
    tokens: int = 128
    prompt: int = 2000
    queue: int = 32
    rate: int = 20
    spaces: bool = False
    space_host: str = ""
    proxies: int | None = None
    hosts: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    endpoint: str | None = None
    rows: int = 100
    runs_a_day: int | None = None
    password: str | None = field(default=None, repr=False)
    visitors: Visitors = field(init=False, repr=False, compare=False)
    everybody: Visitors | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "visitors", Visitors(self.rate))
        everybody = Visitors(self.runs_a_day, "error.runs_a_day", DAY) if self.runs_a_day else None
        object.__setattr__(self, "everybody", everybody)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Deployment":
        """The deployment of environment variables. Raises `InputError`, with the variable's name, for a bad value."""
        values = {name: value.strip() for name, value in environment.items()}
        model = values.get("BON_MODEL") or DEFAULT_MODEL
        if not values.get("BON_ENDPOINT"):
            model = presets.exact_name(model)
        public = values.get("BON_PUBLIC", "").lower()
        if public not in SWITCH:
            raise InputError("BON_PUBLIC", say("error.bon_public", value=repr(public)))
        listed = _listed(values, "BON_MODELS")
        named = [*_listed(values, "BON_HOSTS", HOST), values.get("SPACE_HOST"), values.get("GRADIO_SERVER_NAME")]
        limits = {name: _number(values[limit[0]], *limit) for name, limit in LIMITS.items() if values.get(limit[0])}
        return cls(
            model, values.get("BON_SCORER") or None, SWITCH[public] or zerogpu.is_on(),
            tuple(dict.fromkeys([*map(presets.exact_name, listed or built_in_models()), model])), **limits,
            spaces="SPACE_ID" in values,
            space_host=values.get("SPACE_HOST", ""),
            hosts=tuple(filter(None, named)), frames=tuple(_listed(values, "BON_FRAMES", WEBSITE)),
            endpoint=_server_address(values), password=environment.get("BON_PASSWORD") or None,
        )

    @property
    def keeps_websites_out(self) -> bool:
        """Whether other websites may neither call this page nor show it: where it is not open to everybody."""
        return not self.public or self.password is not None

    def is_on_server(self, model: str | None) -> bool:
        """Whether a model is the one on the server `endpoint`."""
        return self.endpoint is not None and model == self.model

    def check(self, request: Request) -> None:
        """Raises `InputError`, with the field's name, for a request beyond the limits of a public page."""
        settings = request.settings
        self.check_names(settings.model or self.model, settings.scorer)
        self.check_size(characters(request.prompt or "", request.messages), settings)

    def with_lengths(self, request: Request) -> Request:
        """The request with the lengths that hold where it names none, as far as a public page allows them."""
        settings, preset = request.settings, self.preset_values(request.settings.model or self.model)
        values = self.within_limits(Defaults(preset).values(request.messages is not None))
        filled = settings.filled(**values)
        return request.with_settings(settings.named(min_tokens=filled.min_tokens, max_tokens=filled.max_tokens))

    def preset_values(self, model: str) -> dict[str, Any]:
        """The values of settings that a preset of this name brings along; none for other models."""
        preset = None if self.is_on_server(model) else presets.preset(model)
        return dict(preset.settings) if preset else {}

    def limited(self, sources: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """`Defaults.by_source` within the limits of this page."""
        return {source: self.within_limits(values) for source, values in sources.items()}

    def within_limits(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values of settings by name, the lengths among them as far as a public page allows them."""
        lengths = ("min_tokens", "max_tokens") if self.public else ()
        return {name: min(value, self.tokens) if name in lengths else value for name, value in values.items()}

    def check_record(self, result: Result) -> None:
        """Raises `InputError` for a record beyond the limits of a public page, since a visitor can forge one."""
        self.check_size(characters(result.prompt, result.messages), result.settings, len(result.candidates))
        if self.public and any(len(c.text) > CHARACTERS_PER_TOKEN * self.tokens for c in result.candidates):
            raise InputError("record", say("error.long_record"))

    def is_at_hand(self, model: str | None, scorer: str | None) -> bool:
        """Whether a page may load these before anybody asks for a run: its own, the installed ones, what it lists."""
        if self.public:
            return True  # loading refuses all others
        built_in, scorers = built_in_models(), {part.rpartition("*")[2].strip() for part in (scorer or "").split("+")}
        offered = {"", "weak", *built_in, *presets.FREE, *(["judge"] if model in built_in else [])}
        installed = [spec.name for spec in presets.presets() if os.path.isabs(spec.model)]
        is_known = model in (None, "", self.model) or presets.short_name(model) in installed
        return is_known and (scorer == self.scorer or scorers <= offered)

    def check_names(self, model: str | None, scorer: str | None) -> None:
        """Raises `InputError` for a model or scorer that a public page does not offer, or on another machine."""
        named = [("model", model or ""), *(("scorer", part) for part in re.split("[*+]", scorer or ""))]
        for argument, name in named:
            if re.match(r"\s*[\\/]{2}", name):  # Windows would ask the machine that it names
                raise InputError(argument, say("error.network_folder"))
        if not self.public:
            return
        if presets.short_name(model or "") not in map(presets.short_name, self.models):
            raise InputError("model", say("error.models", names=", ".join(map(presets.short_name, self.models))))
        parts = [name for _, name in presets.weighted(scorer or "")] or [scorer or presets.short_name(self.model)]
        offered = [*map(presets.short_name, self.models), "judge", "weak", *presets.FREE, *filter(None, [self.scorer])]
        if scorer != self.scorer and not set(parts) <= set(offered):
            raise InputError("scorer", say("error.scorers", names=", ".join(offered)))
        if len(parts) > PARTS_MAX:
            raise InputError("scorer", say("error.parts", most=PARTS_MAX))

    def check_size(self, prompt: int, settings: Settings, candidates: int | None = None) -> None:
        """Raises `InputError` for a run beyond the limits of a public page.

        prompt: its number of characters. candidates: their number, None for the settings' `n`.
        """
        self.check_candidates(settings.n if candidates is None else candidates)
        self._check_most("max_tokens", settings.lengths[1], self.tokens, "tokens")
        self._check_most("prompt", prompt, self.prompt, "characters")

    def check_candidates(self, n: int) -> None:
        """Raises `InputError` for more candidates than a public page allows."""
        self._check_most("n", n, self.n, "candidates")

    def _check_most(self, name: str, value: int, most: int, unit: str) -> None:
        if self.public and value > most:
            raise InputError(name, say(f"error.{unit}", n=value, most=most))

    def check_prompts(self, prompts: Sequence[str], settings: Settings) -> None:
        """Raises `InputError` for a comparison beyond the limits of a public page."""
        if self.public and len(prompts) > PROMPTS_MAX:
            raise InputError("prompts", say("error.prompts", most=PROMPTS_MAX, given=len(prompts)))
        for prompt in prompts:
            self.check_size(len(prompt), settings)

    def admit(self, visitor: gr.Request | None, prompts: int = 1) -> None:
        """Counts a run of a visitor, or a comparison or batch over so many prompts.

        Raises `LimitError`, which says when to try again, where the visitor has reached the rate limit of a public page
        or all visitors the limit of a day.
        """
        runs = math.ceil(prompts / PROMPTS_PER_RUN)
        if self.public:
            self.visitors.admit(visitor_id(visitor), runs)
        if self.everybody is not None:
            self.everybody.admit("", runs)

    def limits(self) -> str:
        """The line that states the limits on the page; empty in private mode."""
        if not self.public:
            return ""
        return say("limits", candidates=self.n, tokens=self.tokens, characters=self.prompt, n=self.rate)


def characters(prompt: str, messages: Sequence[Mapping[str, Any]] | None) -> int:
    """The characters of a prompt, or of all values of a chat's messages, where each message counts as at least one."""
    if messages is None:
        return len(prompt)
    return sum(max(1, sum(len(str(value)) for value in message.values() if value not in ROLES)) for message in messages)


def built_in_models() -> list[str]:
    """The names of the presets whose models come with the package."""
    return [spec.name for spec in presets.presets() if spec.built_in]


def _listed(values: Mapping[str, str], variable: str, form: re.Pattern[str] | None = None) -> list[str]:
    """The parts of a variable's value, separated by commas. Raises `InputError` for one that has not this form."""
    parts = [part for text in values.get(variable, "").split(",") if (part := text.strip())]
    for part in parts:
        if form and not form.fullmatch(part):
            raise InputError(variable, say(f"error.{variable.lower()}", value=repr(part)))
    return parts


def _server_address(values: Mapping[str, str]) -> str | None:
    """The value of BON_ENDPOINT. Raises `InputError` for an invalid one, or one without BON_MODEL or on ZeroGPU."""
    url = values.get("BON_ENDPOINT")
    if not url:
        return None
    if zerogpu.is_on() or not values.get("BON_MODEL"):
        raise InputError("BON_ENDPOINT", say("error.bon_endpoint_model"))
    read_key(values)  # refused now: visitors must not meet it
    try:
        return check_url(url)
    except InputError as error:
        raise InputError("BON_ENDPOINT", say("error.bon_endpoint", error=error.message)) from None


def _number(text: str, variable: str, least: int, most: int) -> int:
    return whole(variable, parse_digits(text) if text.isascii() and text.isdecimal() else text, least, most)
