"""How a setting is declared: its check, default, group, help text, and its control on the page's form."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bon.errors import InputError
from bon.messages import say

#: Takes a setting's name and a value; returns the value that is used, or raises an `InputError` that names the setting.
Check = Callable[[str, Any], Any]
Group = Literal["models", "sampling", "length", "choosing", "stopping", "result"]
#: The least and the most of a number that float32 arithmetic can tell from 0 and infinity.
FLOAT_MIN, FLOAT_MAX = 1e-30, 1e30


@dataclass(frozen=True, slots=True)
class NumberField:
    """A field for a number on the form; its arrows move it by `step`."""

    step: float = 1


@dataclass(frozen=True, slots=True)
class TextField:
    """A field for a line of text on the form; empty means None."""


@dataclass(frozen=True, slots=True)
class LinesField:
    """A field for texts on the form, one on each line, as `read_escapes` reads it."""


@dataclass(frozen=True, slots=True)
class Menu:
    """A menu on the form, of a fixed list of `choices` (texts `NAME.CHOICE`), or of names that the page adds to."""

    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Switch:
    """A box to tick on the form: the setting is `on` where it is ticked, else its default.

    ticked: whether it is when the page opens. A link, a record or a call without the setting means its default.
    """

    on: float | str = 1
    ticked: bool = False


Control = NumberField | TextField | LinesField | Menu | Switch


@dataclass(frozen=True, slots=True)
class Setting:
    """All that is declared of one setting. Options, HTTP parameters, form, links and documents are made from it.

    default: the value that holds where none is named. help: a line for the command line, the HTTP interface and the
    documents. check: see `Check`; None is never passed to it. group: where it stands. fillable: whether None means
    "not named", so that something else may fill it in before `default` does. default_text: what None means, in words.
    control: on the form; None keeps it off the page. beside: on the form it shares the row of the setting before it.
    compared: whether a comparison takes it.
    """

    name: str
    default: Any
    help: str
    check: Check
    group: Group
    fillable: bool
    default_text: str
    control: Control | None
    beside: bool
    compared: bool

    @property
    def label(self) -> str:
        """The key of its label on the page; the line under the label has the key with `.info`, where there is one."""
        return f"form.{self.name}"

    @property
    def described_default(self) -> str:
        """The default in words."""
        return self.default_text or (f"{self.default:g}" if isinstance(self.default, float) else str(self.default))

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers."""
        return isinstance(self.check, Whole | Number)

    @property
    def several(self) -> bool:
        """Whether its values are sequences of texts."""
        return isinstance(self.check, Texts)


def setting(
    default: Any, help: str, check: Check, group: Group, *, fillable: bool = False, default_text: str = "",
    control: Control | None = None, beside: bool = False, compared: bool = False,
) -> Any:
    """A field of `bon.Settings`; the arguments are those of `Setting`, which takes its name from the field."""
    declared = {"default": default, "help": help, "check": check, "group": group, "fillable": fillable,
                "default_text": default_text, "control": control, "beside": beside, "compared": compared}
    return field(default=None if fillable else default, metadata=declared)


@dataclass(frozen=True, slots=True)
class Whole:
    """Checks for a whole number within `least`..`most`."""

    least: int
    most: int | None = None

    def __call__(self, name: str, value: Any) -> int:
        return whole(name, value, self.least, self.most)


@dataclass(frozen=True, slots=True)
class Number:
    """Checks for a finite number: at least `least` or above `above`, and at most `most` or below `below`.

    Above 0 means within what float32 can tell from 0 and infinity.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def __call__(self, name: str, value: Any) -> float:
        out = number(name, value)
        if not self._holds(out):
            raise InputError(name, say(self._key(), name=name, **self._limits(), value=f"{out:g}"))
        if self.above == 0 and not FLOAT_MIN <= out <= FLOAT_MAX:
            limits = {"least": f"{FLOAT_MIN:g}", "most": f"{FLOAT_MAX:g}"}
            raise InputError(name, say("error.beyond_float32", name=name, **limits, value=f"{out:g}"))
        return out

    def _holds(self, value: float) -> bool:
        return ((self.least is None or value >= self.least) and (self.above is None or value > self.above)
                and (self.most is None or value <= self.most) and (self.below is None or value < self.below))

    def _key(self) -> str:
        low = "above" if self.above is not None else "from"
        high = "_to" if self.most is not None else "_below" if self.below is not None else ""
        return f"error.number_not_{low}{high}"

    def _limits(self) -> dict[str, str]:
        low = self.least if self.above is None else self.above
        high = self.most if self.below is None else self.below
        return {name: f"{limit:g}" for name, limit in (("least", low), ("most", high)) if limit is not None}


@dataclass(frozen=True, slots=True)
class OneOf:
    """Checks for one of several names."""

    names: tuple[str, ...]

    def __call__(self, name: str, value: Any) -> str:
        if value not in self.names:
            raise InputError(
                name, say("error.not_one_of", name=name, names=", ".join(self.names), value=repr(value))
            )
        return value


@dataclass(frozen=True, slots=True)
class Texts:
    """Checks for at most `most` texts of 1 to `length` characters, or for a single one; returns them as a tuple."""

    most: int
    length: int

    def __call__(self, name: str, value: Any) -> tuple[str, ...]:
        texts = (value,) if isinstance(value, str) else value
        limits = {"name": name, "most": str(self.most), "length": str(self.length)}
        if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
            raise InputError(name, say("error.not_texts", **limits, value=repr(value)))
        if len(texts) > self.most:
            raise InputError(name, say("error.texts_too_many", **limits, count=str(len(texts))))
        if not all(texts):
            raise InputError(name, say("error.text_empty", **limits))
        if long := next((text for text in texts if len(text) > self.length), None):
            raise InputError(name, say("error.text_too_long", **limits, value=repr(long[: self.length] + "...")))
        return tuple(map(clean, texts))


def clean(text: str) -> str:
    """`text` without lone surrogates, which no encoding can carry: each becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


#: Characters that a line cannot hold, by the letters that stand for them behind a backslash.
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


def read_escapes(line: str) -> str:
    r"""The text of a line in which `\n`, `\r`, `\t` and `\\` stand for a line's end, a tab and a backslash."""
    return re.sub(r"\\([nrt\\])", lambda match: ESCAPES[match[1]], line)


def write_escapes(text: str) -> str:
    """The line from which `read_escapes` reads this text."""
    letters = {character: letter for letter, character in ESCAPES.items()}
    return re.sub(r"[\n\r\t\\]", lambda match: "\\" + letters[match[0]], text)


def name_of(name: str, value: Any) -> str:
    """Checks for a text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(name, say("error.not_a_name", name=name, value=repr(value)))
    return value


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


def parse_digits(text: str) -> int:
    """The whole number of a text of digits. Of more digits than any limit has the first ones do: Python parses only
    so many.
    """
    return int(text[:100])


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
