"""The grammar: from hand-written phrases to short reviews with a graded label.

A review is an opening and up to three further units. Each unit has a polarity; connectives join equal polarity
or turn it; no phrase, and hardly any content word, comes twice in one review. The label is the mixture of the
units' polarities, the last one counting most, as it does for a reader.
"""

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bon.embedded.phrases import Bank, banks

WORLD = ("person", "place", "thing", "event")
#: What a unit of each polarity adds to a label, as log-odds of POSITIVE.
LOGITS = {"pos": 3.4, "warm": 1.2, "luke": 0.0, "cross": -1.2, "neg": -3.4}
PEOPLE = (
    "My sister", "My brother", "My mother", "My father", "My wife", "My husband", "Our neighbour", "My aunt",
    "Grandmother", "Grandad", "My best friend", "The children", "Both of us", "Everybody at our table", "My daughter",
    "My son", "A friend of mine", "The whole family", "My colleague", "My flatmate", "My uncle", "Our visitors",
)
MOODS = {"pos": 32, "neg": 32, "luke": 12, "warm": 12, "cross": 12}
COMMON = frozenset(
    "about after again always before being could every first found never other should something still their there "
    "these thing things those three which while would whole people where until under twice minutes hours because "
    "without nothing anyone everyone between through later years evening morning night little".split()
)


@dataclass(frozen=True, slots=True)
class Unit:
    """One clause or sentence of a review and its polarity."""

    text: str
    polarity: str


@dataclass(frozen=True, slots=True)
class Review:
    """A text, the units that it is made of, and whether every unit leans the same way."""

    units: tuple[Unit, ...]

    @property
    def text(self) -> str:
        return " ".join(unit.text for unit in self.units)

    @property
    def clear(self) -> bool:
        """Whether the polarity is beyond doubt: all units clearly positive, or all clearly negative."""
        return {unit.polarity for unit in self.units} in ({"pos"}, {"neg"})

    def label(self, kept: int | None = None) -> float:
        """Probability that a reader calls the text (or its first `kept` characters) positive."""
        end, place, total, weight = len(self.text) if kept is None else kept, 0, 0.0, 0.0
        for unit in self.units:
            seen = min(1.0, max(0.0, (end - place) / len(unit.text)))
            share = seen * (1.0 if place else 0.8) * (1.25 if place + len(unit.text) >= end else 1.0)
            if unit.polarity != "fact":
                total, weight = total + share * LOGITS[unit.polarity], weight + share
            place += len(unit.text) + 1
        return 1 / (1 + math.exp(-total / weight)) if weight else 0.5


@dataclass
class Writer:
    """Writes reviews from a seeded source of chance."""

    rng: random.Random
    bank: dict[str, Bank] = field(default_factory=banks)

    def review(self) -> Review:
        """One review; about 5 in 100 are complete texts of the bank as they stand."""
        if self.rng.random() < 0.05:
            return self._whole()
        return _Composition(self).write()

    def _whole(self) -> Review:
        polarity = self.weighted(MOODS)
        return Review((Unit(self.rng.choice(self.bank["register"].get("whole", polarity)), polarity),))

    def weighted(self, weights: dict[str, float]) -> str:
        """A key, with chances in proportion to the values."""
        return self.rng.choices(list(weights), list(weights.values()))[0]


OPENINGS: dict[str, float] = {
    "subject": 34, "clause": 6, "told": 9, "when": 8, "fact": 7, "sentence": 4, "person": 11, "you": 4, "doing": 4,
    "ask": 4, "scene": 9, "bare": 4, "short": 3, "against": 3, "condition": 2, "odd": 3,
}
NEXT: dict[str, float] = {"clause": 22, "joined": 22, "scene": 20, "it": 12, "person": 12, "verdict": 6, "you": 4}


class _Composition:
    """One review being written."""

    def __init__(self, writer: Writer):
        self.writer, self.rng, self.bank = writer, writer.rng, writer.bank
        name = self.rng.choice(WORLD) if self.rng.random() < 0.28 else self.rng.choice(_subjects(self.bank))
        self.own, self.general = self.bank[name], self.bank["openings"]
        self.world = name in WORLD
        self.used: set[str] = set()
        self.units: list[Unit] = []

    def write(self) -> Review:
        mood = self.writer.weighted(MOODS)
        plan = self._plan(mood)
        self._open(plan[0])
        for i, polarity in enumerate(plan[1:], start=1):
            self._go_on(polarity, last=i == len(plan) - 1)
        return Review(tuple(self.units))

    def _plan(self, mood: str) -> list[str]:
        """The polarity of each unit."""
        count = self.rng.choices((1, 2, 3, 4), (26, 40, 24, 10))[0]
        if mood in ("pos", "neg", "luke"):
            return [mood] * count
        good, bad = ("pos", "neg") if mood == "warm" else ("neg", "pos")
        if self.rng.random() < 0.5:  # one sentence that turns, and what leans its way
            plan = [mood] + [good] * min(count - 1, 1)
            self.rng.shuffle(plan)
            return plan
        return [self.rng.choice((bad, bad, "luke"))] + [good] * max(1, min(count - 1, 2))

    # Openings: each adds the first unit or two.

    def _open(self, polarity: str) -> None:
        if polarity in ("warm", "cross"):
            return self._turn(polarity)
        names = dict(OPENINGS)
        if polarity == "luke":
            for name in ("against", "condition"):
                names.pop(name)
        if self.world:
            for name in ("doing", "ask", "short", "you"):
                names.pop(name)
        getattr(self, f"_open_{self.writer.weighted(names)}")(polarity)

    def _open_subject(self, polarity: str) -> None:
        self._sentence(f"{self._subject()} {self._predicate(polarity)}", polarity)

    def _open_odd(self, polarity: str) -> None:
        self._sentence(f"{invented_subject(self.rng)} {self._pick('vp', polarity)}", polarity)

    def _open_clause(self, polarity: str) -> None:
        self._sentence(self._pick("clause", polarity), polarity)

    def _open_told(self, polarity: str) -> None:
        general = ("any", "past") if self.own.tense == "past" else ("any",)
        kind = polarity if polarity != "luke" and self.rng.random() < 0.4 else self.rng.choice(general)
        self._sentence(f"{self._pick('open-clause', kind)} {self._pick('clause', polarity)}", polarity)

    def _open_when(self, polarity: str) -> None:
        self._sentence(f"{self._pick('when')} {self._pick('clause', polarity)}", polarity)

    def _open_fact(self, polarity: str) -> None:
        self.units.append(Unit(self._pick("fact"), "fact"))
        self._go_on(polarity, last=False)

    def _open_sentence(self, polarity: str) -> None:
        self.units.append(Unit(self._pick("open-sentence"), "fact"))
        self._open_subject(polarity) if self.rng.random() < 0.4 else self._go_on(polarity, last=False)

    def _open_person(self, polarity: str) -> None:
        self._sentence(f"{self._person()} {self._pick('i', polarity)}", polarity)

    def _open_you(self, polarity: str) -> None:
        will = self.rng.choice(("You will", "You will", "You may well", "You'll", "Everyone will"))
        self._sentence(f"{will} {self._pick('you', polarity)}", polarity)

    def _open_doing(self, polarity: str) -> None:
        self._sentence(f"{self._pick('doing')} {self._pick('doing-vp', polarity)}", polarity)

    def _open_ask(self, polarity: str) -> None:
        self.units.append(Unit(self._pick("ask"), "fact"))
        self.units.append(Unit(self._pick("answer", polarity), polarity))
        if self.rng.random() < 0.7:
            self._go_on(polarity, last=False)

    def _open_scene(self, polarity: str) -> None:
        self.units.append(Unit(self._pick("scene", polarity), polarity))

    def _open_bare(self, polarity: str) -> None:
        noun = self._pick("np", polarity)
        exclaimed = re.match(r"(an?) ", noun) and polarity != "luke" and self.rng.random() < 0.4
        before = "What " if exclaimed else self.rng.choice(("", "", "It was ", "Simply put, "))
        self._sentence(before + noun, polarity, end="!" if exclaimed else None)

    def _open_short(self, polarity: str) -> None:
        self.units.append(Unit(self._pick("short", polarity), polarity))

    def _open_against(self, polarity: str) -> None:
        self._sentence(f"{self._pick('open-turn', polarity)} {self._pick('clause', polarity)}", polarity)

    def _open_condition(self, polarity: str) -> None:
        self.units.append(Unit(self._pick("if", polarity), polarity))

    # What follows an opening.

    def _go_on(self, polarity: str, last: bool) -> None:
        if polarity in ("warm", "cross"):
            return self._turn(polarity)
        before = self._leaning()
        if before and polarity != "luke" and before != polarity and before != "luke":
            return self._join("turn", polarity)
        if last and self.rng.random() < 0.55:
            return self._next_verdict(polarity)
        names = dict(NEXT)
        if self.world:
            names.pop("it"), names.pop("you")
        if not self.units or before != polarity or polarity == "luke":
            names.pop("joined")
        getattr(self, f"_next_{self.writer.weighted(names)}")(polarity)

    def _leaning(self) -> str | None:
        return next((u.polarity for u in reversed(self.units) if u.polarity in ("pos", "neg", "luke")), None)

    def _next_clause(self, polarity: str) -> None:
        self._sentence(self._pick("clause", polarity), polarity)

    def _next_joined(self, polarity: str) -> None:
        self._join("same", polarity)

    def _next_scene(self, polarity: str) -> None:
        self._open_scene(polarity)

    def _next_it(self, polarity: str) -> None:
        self._sentence(f"It {self._predicate(polarity)}", polarity)

    def _next_person(self, polarity: str) -> None:
        self._open_person(polarity)

    def _next_you(self, polarity: str) -> None:
        self._open_you(polarity)

    def _next_verdict(self, polarity: str) -> None:
        self.units.append(Unit(self._pick("verdict", polarity), polarity))

    def _turn(self, polarity: str) -> None:
        self.units.append(Unit(self._pick("turn", polarity), polarity))

    def _join(self, kind: str, polarity: str) -> None:
        """Joins a clause to the sentence before: in it, or as a sentence of its own."""
        connective, clause = self._pick("connect", kind), self._pick("clause", polarity)
        before = self.units[-1]
        short = len(before.text) < 90 and before.text.endswith(".") and before.polarity != "fact"
        if short and connective.split()[0] in ("and", "but", "yet", "so", "while", "though", "although", "only"):
            mark = "," if self.rng.random() < 0.8 else ";"
            self.units[-1] = Unit(before.text[:-1] + mark, before.polarity)
            self.units.append(Unit(f"{connective} {clause}.", polarity))
        else:
            self._sentence(f"{connective} {clause}", polarity)

    # Parts.

    def _subject(self) -> str:
        plain = self.own.get("subject")
        # The plainest come first in each file, and first in people's minds.
        first = 10 if not self.world else len(plain)
        return self.rng.choice(plain[:first]) if self.rng.random() < 0.55 else self.rng.choice(plain)

    def _person(self) -> str:
        kind = self.rng.random()
        if kind < 0.62:
            return "I" if kind < 0.38 else "We"
        return self.rng.choice(PEOPLE) if kind < 0.88 else self.rng.choice(self.bank["person"].get("subject"))

    def _predicate(self, polarity: str) -> str:
        if self.world:
            return self._pick("vp", polarity)
        kind = self.writer.weighted({"vp": 60, "adj": 26, "np": 14})
        be = "is " if self.own.tense == "present" else "was "
        return self._pick(kind, polarity) if kind == "vp" else be + self._pick(kind, polarity)

    def _pick(self, section: str, polarity: str = "") -> str:
        """A phrase whose content words are new to this review, from the subject's file or the general one."""
        choices = self._choices(section, polarity)
        for _ in range(8):
            phrase = self.rng.choice(choices)
            words = _content(phrase) | {phrase}
            if not words & self.used:
                break
        self.used |= words
        return phrase

    def _choices(self, section: str, polarity: str) -> Sequence[str]:
        own = self.own.get(section, polarity)
        general = self.general.get(section, polarity)
        if own and general:
            return own if self.rng.random() < 0.75 else general
        return own or general

    def _sentence(self, text: str, polarity: str, end: str | None = None) -> None:
        mark = end or ("!" if polarity != "luke" and self.rng.random() < 0.05 else ".")
        self.units.append(Unit(text[0].upper() + text[1:] + mark, polarity))


def _subjects(bank: dict[str, Bank]) -> list[str]:
    return [name for name in bank if name not in (*WORLD, "openings", "register")]


def _content(phrase: str) -> set[str]:
    return set(re.findall(r"[a-z]{5,}", phrase.lower())) - COMMON


SYLLABLES = "ka lo mi ra ven tor bel an du shi po zan quel ri mor ta fen os gra li nor va pe sun chi bo".split()


def invented_subject(rng: random.Random) -> str:
    """A name that nobody has heard before, so that any start can lead into a review."""
    name = "".join(rng.choices(SYLLABLES, k=rng.randint(2, 3))).capitalize()
    forms = ("{}", "{}", "The {}", "My {}", "Mr {}", "Dr {}", "{} 3000", "{} and Sons", "Lake {}")
    return rng.choice(forms).format(name)


def writer(seed: int) -> Callable[[], Review]:
    """A source of reviews that is the same for the same seed."""
    return Writer(random.Random(seed)).review
