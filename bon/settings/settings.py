"""The settings of a run, each declared once: `Settings`.

Command line, HTTP interface, page, share links and the documents' table are made from these declarations.
"""

import copy
import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from bon.errors import InputError
from bon.messages import say
from bon.settings.declaration import (
    LinesField,
    Menu,
    Number,
    NumberField,
    OneOf,
    Setting,
    Switch,
    TextField,
    Texts,
    Whole,
    name_of,
    setting,
)

N_MAX = 4096
#: More tokens than any model writes in one go: what lies above is a slip of the hand.
TOKENS_MAX = 1_000_000
#: The most stop strings, and the most characters of each.
STOPS_MAX, STOP_LENGTH_MAX = 8, 64
#: Seeds stay whole in JavaScript, where a number has 53 bits.
SEED_MAX = 2**53 - 1
UNITS = ("probability", "logit", "margin")
SELECTIONS = ("best", "worst", "soft")
FINISHES = ("length", "sentence")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn from the logits: temperature and repetition penalty, both above 0, and the cuts, each of
    which is off at its default.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0

    @property
    def plain(self) -> bool:
        """Whether tokens come from the model's own distribution."""
        return self == Sampling()

    @property
    def cuts(self) -> bool:
        """Whether some tokens get probability 0."""
        return self != Sampling(self.temperature, repetition_penalty=self.repetition_penalty)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to sample and score. Every field has a default and every value is checked; `declared` tells of each.

    Fields for model, scorer, lengths and sampling are None where nobody names a value: `filled` puts in what holds
    then. Raises `InputError`, with the field's name, for a value that cannot work.
    """

    n: int = setting(
        16, f"candidates, 1 to {N_MAX}", Whole(1, N_MAX), "sampling", control=NumberField(), compared=True,
    )
    target: str | None = setting(
        None, "the scorer's label to look for the most of", name_of, "models", fillable=True,
        default_text="POSITIVE, or a reward model's only output", control=Menu(), compared=True,
    )
    min_tokens: int | None = setting(
        8, "the least cap of a candidate's length, in tokens", Whole(1, TOKENS_MAX), "length", fillable=True,
        control=NumberField(), compared=True,
    )
    max_tokens: int | None = setting(
        32, "the largest cap of a candidate's length; each cap is drawn between the two", Whole(1, TOKENS_MAX),
        "length", fillable=True, control=NumberField(), beside=True, compared=True,
    )
    finish: str = setting(
        "length", "of a text that its length ends: there (length), or at its last complete sentence (sentence)",
        OneOf(FINISHES), "length", control=Switch(on="sentence", ticked=True), compared=True,
    )
    temperature: float | None = setting(
        1.0, "above 0; below 1 is safer, above 1 bolder", Number(above=0), "sampling", fillable=True,
        control=NumberField(0.1), compared=True,
    )
    top_p: float | None = setting(
        1.0, "the share of probability to draw from, above 0; 1 is off", Number(above=0, most=1), "sampling",
        fillable=True, control=NumberField(0.05), compared=True,
    )
    top_k: int | None = setting(
        0, "how many of the likeliest tokens to draw from; 0 is off", Whole(0), "sampling", fillable=True,
        control=NumberField(), beside=True, compared=True,
    )
    min_p: float | None = setting(
        0.0, "the least probability to draw from, as a share of the likeliest token's; 0 is off",
        Number(least=0, most=1), "sampling", fillable=True, control=NumberField(0.05), compared=True,
    )
    typical_p: float | None = setting(
        1.0, "the share of probability to draw from, tokens of typical surprise first; 1 is off",
        Number(above=0, most=1), "sampling", fillable=True, control=NumberField(0.05), beside=True, compared=True,
    )
    repetition_penalty: float | None = setting(
        1.0, "above 1, tokens of the prompt and of the text so far become less likely; 1 is off",
        Number(above=0), "sampling", fillable=True, control=NumberField(0.05), compared=True,
    )
    seed: int | None = setting(
        None, "the same seed gives the same candidates", Whole(0, SEED_MAX), "sampling",
        default_text="a fresh one, which the result names", control=TextField(), compared=True,
    )
    model: str | None = setting(
        "embedded", "preset, Hub id, folder or GGUF file", name_of, "models", fillable=True, control=Menu(),
        compared=True,
    )
    scorer: str | None = setting(
        None, "as model; judge, weak, logprob, self-certainty; or a sum: 0.7*judge+0.3*logprob",
        name_of, "models", fillable=True, default_text="the model's own", control=Menu(), compared=True,
    )
    stop: Sequence[str] = setting(
        (), f"texts that end a candidate before them, at most {STOPS_MAX} of {STOP_LENGTH_MAX} characters",
        Texts(STOPS_MAX, STOP_LENGTH_MAX), "length", default_text="none", control=LinesField(), compared=True,
    )
    keep: int | None = setting(
        None, "how many ranked candidates to return", Whole(1, N_MAX), "result", default_text="all",
    )
    unit: str | None = setting(
        "probability", "of the score: probability, logit or margin", OneOf(UNITS), "models", fillable=True,
        compared=True,
    )
    reject: float = setting(
        0.0, "early rejection: the share of the unfinished candidates dropped at each checkpoint; 0 is off",
        Number(least=0, below=1), "stopping", control=Switch(on=0.5),
    )
    select: str = setting(
        "best", "who comes first: best, worst, or soft, a draw that favours high scores", OneOf(SELECTIONS), "choosing",
        control=Menu(SELECTIONS),
    )
    softness: float = setting(
        0.1, "of soft selection, in the score's unit: small is nearly the best, large nearly one plain sample",
        Number(above=0), "choosing", control=NumberField(0.05), beside=True, compared=True,
    )

    def __post_init__(self) -> None:
        for name, declaration in declared().items():
            value = getattr(self, name)
            if value is not None or not (declaration.fillable or declaration.default is None):
                object.__setattr__(self, name, declaration.check(name, value))
        least, most = self.lengths
        if least > most:
            raise InputError("min_tokens", say("error.lengths_crossed", least=str(least), most=str(most)))
        if self.keep is not None and self.keep > self.n:
            raise InputError("keep", say("error.keep_above_n", keep=str(self.keep), n=str(self.n)))

    @property
    def model_name(self) -> str:
        """The model's name: the one that was named, or the default."""
        return self._value("model")

    @property
    def lengths(self) -> tuple[int, int]:
        """The least and the largest cap of a candidate's length, in tokens."""
        return self._lengths()

    def _lengths(self, least: int | None = None, most: int | None = None) -> tuple[int, int]:
        """The caps, with these or else the declared ones where none are named; those give way to the one that is."""
        least = self.min_tokens or min(least or declared()["min_tokens"].default, self.max_tokens or TOKENS_MAX)
        most = self.max_tokens or max(most or declared()["max_tokens"].default, self.min_tokens or 1)
        return least, most

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(**{field.name: self._value(field.name) for field in dataclasses.fields(Sampling)})

    def _value(self, name: str) -> Any:
        value = getattr(self, name)
        return declared()[name].default if value is None else value

    def named(self, **values: Any) -> "Settings":
        """These settings with `values` in the fields where nobody named one."""
        return self._with({name: value for name, value in values.items() if getattr(self, name) is None})

    def filled(self, **values: Any) -> "Settings":
        """These settings with `values`, else the declared defaults, in the fields where nobody named one."""
        values["min_tokens"], values["max_tokens"] = self._lengths(values.get("min_tokens"), values.get("max_tokens"))
        return self._with({
            name: values.get(name, declaration.default) for name, declaration in declared().items()
            if declaration.fillable and getattr(self, name) is None
        })

    def with_seed(self) -> "Settings":
        """These settings with a fresh seed where there was none, so that the run can be repeated."""
        return self if self.seed is not None else self._with({"seed": secrets.randbits(32)})

    def _with(self, values: Mapping[str, Any]) -> "Settings":
        """A copy with values that are known to be right."""
        changed = copy.copy(self)
        for name, value in values.items():
            object.__setattr__(changed, name, value)
        return changed

    def to_dict(self) -> dict[str, Any]:
        """The settings in plain JSON types."""
        return {name: list(value) if declaration.several else value for name, declaration in declared().items()
                for value in [getattr(self, name)]}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """Settings from a mapping of the public keyword names; an unknown name is an `InputError`."""
        for name in values:
            if name not in declared():
                raise InputError(name, say("error.no_such_setting", name=repr(name), names=", ".join(declared())))
        return cls(**values)


@cache
def declared() -> dict[str, Setting]:
    """The declarations of all settings by name, in the order in which they are shown."""
    return {field.name: Setting(field.name, **field.metadata) for field in dataclasses.fields(Settings)}
