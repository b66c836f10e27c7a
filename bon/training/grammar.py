"""The grammar: from hand-written phrases to short reviews with a graded label.

A review is an opening and up to three further units: one scene at most, then a reaction or a verdict. What follows
an opening stays with the subject or fits anything. Each unit has a polarity; light connectives join equal polarity or
turn it; no phrase, and hardly any content word, comes twice in one review. The label is the mixture of the units'
polarities, the last one counting most, as it does for a reader.
"""

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bon.training.phrases import Bank, banks

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
#: Words by which a clause says when: such a clause does not follow "Last night,".
TIMED = re.compile(
    r"\b(morning|noon|afternoon|evening|night|midnight|dawn|day|week|month|year|spring|summer|autumn|winter|hour|minute"
    r"|[a-z]+day|christmas|easter|at (one|two|three|four|five|six|seven|eight|nine|ten)|until|before|after|when|while"
    r"|every|always|never|once|twice|first|last|august|july|teatime|lunch(time)?|breakfast|supper)s?\b", re.IGNORECASE
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
        polarity = self.weighted_choice(MOODS)
        return Review((Unit(self.rng.choice(self.bank["register"].get("whole", polarity)), polarity),))

    def weighted_choice(self, weights: Mapping[str, float]) -> str:
        """A key, with chances in proportion to the values."""
        return self.rng.choices(list(weights), list(weights.values()))[0]


OPENINGS: dict[str, float] = {
    "subject": 36, "clause": 6, "told": 9, "when": 7, "fact": 6, "sentence": 4, "person": 11, "you": 4, "doing": 4,
    "ask": 4, "scene": 9, "bare": 4, "short": 3, "against": 3, "condition": 2, "odd": 3,
}
#: After an opening: more about the subject, and the chances of each.
NEXT: dict[str, float] = {
    "clause": 18, "joined": 22, "scene": 20, "subject": 14, "person": 8, "also": 14, "react": 10, "you": 3,
}
#: What ends a review, or follows a subject of which only a name is known.
CLOSE: dict[str, float] = {"verdict": 46, "react": 24, "person": 14, "also": 16}
EVIDENCE = frozenset({"clause", "scene", "person"})
#: After these, "It" would be taken for something else than the subject, or for nothing.
ELSEWHERE = frozenset({"clause", "scene", "fact", "if"})
COMMA = re.compile(",")


class _Composition:
    """One review being written."""

    def __init__(self, writer: Writer):
        self.writer, self.rng, self.bank = writer, writer.rng, writer.bank
        name = self.rng.choice(WORLD) if self.rng.random() < 0.28 else self.rng.choice(_subjects(self.bank))
        self.subject_bank, self.general = self.bank[name], self.bank["openings"]
        self.world = name in WORLD
        self.used: set[str] = set()
        self.units: list[Unit] = []
        self.kinds: list[str] = []

    def write(self) -> Review:
        mood = self.writer.weighted_choice(MOODS)
        plan = self._plan(mood)
        self._open(plan[0], turns=len(set(plan)) > 1)
        for i, polarity in enumerate(plan[1:], start=1):
            if len(self.units) < 4:
                self._go_on(polarity, last=i == len(plan) - 1)
        return Review(tuple(self.units))

    def _plan(self, mood: str) -> list[str]:
        """The polarity of each unit."""
        count = self.rng.choices((1, 2, 3, 4), (34, 50, 16, 0) if self.world or mood == "luke" else (26, 42, 26, 6))[0]
        if mood in ("pos", "neg", "luke"):
            return [mood] * count
        good, bad = ("pos", "neg") if mood == "warm" else ("neg", "pos")
        if self.rng.random() < (0.5 if self._has_parts() else 1):  # one sentence that turns, and what leans its way
            plan = [mood] + [good] * min(count - 1, 1)
            if not self.world:
                self.rng.shuffle(plan)
            return plan
        return [bad] + [good] * (1 if self.world else max(1, min(count - 1, 2)))

    # Openings: each adds the first unit or two.

    def _open(self, polarity: str, turns: bool) -> None:
        if polarity in ("warm", "cross"):
            return self._open_turn(polarity)
        names = self._openings(polarity, turns)
        getattr(self, f"_open_{self.writer.weighted_choice(names)}")(polarity)

    def _openings(self, polarity: str, turns: bool) -> dict[str, float]:
        """The kinds of opening that suit the subject and what will follow."""
        if self.world and turns:
            return {"subject": 9, "odd": 1}
        unfit: set[str] = {"doing", "ask", "short", "you"} if self.world else set()
        if polarity == "luke":
            unfit |= {"against", "condition", "clause", "when"} if self.world else {"against", "condition"}
        if turns:
            unfit |= {"against", "condition", "ask"}
        return {name: chance for name, chance in OPENINGS.items() if name not in unfit}

    def _open_turn(self, polarity: str) -> None:
        subject = self._subject()
        if not subject.endswith("s") and self.rng.random() < (0.6 if self.world else 0.2):  # "it" fits no plural
            self._add("fact", f"{subject}?", "fact")
        self._turn(polarity)

    def _open_subject(self, polarity: str) -> None:
        self._sentence("predicate", f"{self._subject()} {self._predicate(polarity)}", polarity)

    def _open_odd(self, polarity: str) -> None:
        self._sentence("predicate", f"{invented_subject(self.rng)} {self._pick('vp', polarity)}", polarity)

    def _open_clause(self, polarity: str) -> None:
        self._sentence("clause", self._pick("clause", polarity), polarity)

    def _open_told(self, polarity: str) -> None:
        """An opening such as "I was surprised that"; those in the past only for what is told in the past."""
        leaning = polarity if polarity != "luke" and self.rng.random() < 0.4 else "any"
        past = self.subject_bank.tense == "past" and self.rng.random() < 0.25
        opening = self._pick("open-clause-past" if past else "open-clause", leaning)
        self._sentence("clause", f"{opening} {self._pick('clause', polarity, TIMED if past else None)}", polarity)

    def _open_when(self, polarity: str) -> None:
        self._sentence("clause", f"{self._pick('when')} {self._pick('clause', polarity, TIMED)}", polarity)

    def _open_fact(self, polarity: str) -> None:
        self._add("fact", self._pick("fact"), "fact")
        if self.world or self.rng.random() < 0.5:
            return self._open_subject(polarity)
        self._go_on(polarity, last=False)

    def _open_sentence(self, polarity: str) -> None:
        self._add("fact", self._pick("open-sentence"), "fact")
        self._open_subject(polarity)

    def _open_person(self, polarity: str) -> None:
        self._sentence("person", f"{self._person()} {self._pick('i', polarity)}", polarity)

    def _open_you(self, polarity: str) -> None:
        phrase = self._pick("you", polarity)
        everyone = () if re.search(r"\byou", phrase) else ("Everyone will",)
        will = self.rng.choice(("You will", "You will", "You may well", "You'll", *everyone))
        self._sentence("you", f"{will} {phrase}", polarity)

    def _open_doing(self, polarity: str) -> None:
        self._sentence("doing", f"{self._pick('doing')} {self._pick('doing-vp', polarity)}", polarity)

    def _open_ask(self, polarity: str) -> None:
        self._add("fact", self._pick("ask"), "fact")
        self._add("answer", self._pick("answer", polarity), polarity)
        if self.rng.random() < 0.7:
            self._go_on(polarity, last=False)

    def _open_scene(self, polarity: str) -> None:
        self._add("scene", self._pick("scene", polarity), polarity)

    def _open_bare(self, polarity: str) -> None:
        noun = self._pick("np", polarity)
        exclaimed = re.match(r"(an?) ", noun) and polarity != "luke" and self.rng.random() < 0.4
        before = "What " if exclaimed else self.rng.choice(("", "", "It was ", "Simply put, "))
        self._sentence("bare", before + noun, polarity, end="!" if exclaimed else None)

    def _open_short(self, polarity: str) -> None:
        self._add("short", self._pick("short", polarity), polarity)

    def _open_against(self, polarity: str) -> None:
        section = "open-turn-past" if self.subject_bank.tense == "past" and self.rng.random() < 0.4 else "open-turn"
        self._sentence("clause", f"{self._pick(section, polarity)} {self._pick('clause', polarity)}", polarity)

    def _open_condition(self, polarity: str) -> None:
        self._add("if", self._pick("if", polarity), polarity)

    # What follows an opening.

    def _go_on(self, polarity: str, last: bool) -> None:
        if polarity in ("warm", "cross"):
            return self._turn(polarity)
        if {self._leaning(), polarity} == {"pos", "neg"}:
            return self._join("turn", polarity)
        has_evidence = self.world or "react" in self.kinds or len(EVIDENCE & set(self.kinds)) > 1
        closing = has_evidence or (last and self.rng.random() < (0.6 if len(self.units) < 2 else 0.85))
        names = NEXT if self._is_mixed() or not closing else CLOSE
        fitting = {name: chance for name, chance in names.items() if self._fits(name, polarity, last)}
        name = self.writer.weighted_choice(fitting or {"clause" if self._is_mixed() else "verdict": 1})
        getattr(self, f"_next_{name}")(polarity)

    def _fits(self, name: str, polarity: str, last: bool) -> bool:
        """Whether a next unit of this kind goes with those before."""
        if self._is_mixed() and name not in ("clause", "joined", "scene"):
            return False  # nothing wholehearted after praise and blame
        same = self._leaning() == polarity
        if name in ("also", "joined"):
            subject = name == "joined" or (self.kinds[-1] == "predicate" and "," not in self.units[-1].text)
            return subject and same and polarity != "luke" and self._may_join()
        if name == "subject":
            return "predicate" not in self.kinds
        if name in ("react", "verdict"):
            return name not in self.kinds and (last if name == "verdict" else same)
        return name not in self.kinds

    def _has_parts(self) -> bool:
        """Whether one thing can be praised and another blamed: a part of the subject, or a deed of the person."""
        return not self.world or self.subject_bank.name == "person"

    def _is_mixed(self) -> bool:
        """Whether both praise and blame have been heard."""
        return {"pos", "neg"} <= {unit.polarity for unit in self.units}

    def _leaning(self) -> str | None:
        return next((u.polarity for u in reversed(self.units) if u.polarity in ("pos", "neg", "luke")), None)

    def _next_clause(self, polarity: str) -> None:
        self._open_clause(polarity)

    def _next_joined(self, polarity: str) -> None:
        self._join("same", polarity)

    def _next_also(self, polarity: str) -> None:
        self._extend("same", "vp", polarity)

    def _next_scene(self, polarity: str) -> None:
        self._open_scene(polarity)

    def _next_subject(self, polarity: str) -> None:
        subject = self._subject() if self.kinds[-1] in ELSEWHERE else "It"
        self._sentence("predicate", f"{subject} {self._predicate(polarity)}", polarity)

    def _next_person(self, polarity: str) -> None:
        self._open_person(polarity)

    def _next_you(self, polarity: str) -> None:
        self._open_you(polarity)

    def _next_react(self, polarity: str) -> None:
        """What came of it, in words that fit any subject."""
        if polarity != "luke" and self._may_join() and self.rng.random() < 0.35:
            return self._extend("same", "react", polarity)
        self._sentence("react", self._pick("react", polarity), polarity)

    def _next_verdict(self, polarity: str) -> None:
        section = "verdict" if self.world or self.rng.random() < 0.6 else "verdict-paid"
        self._add("verdict", self._pick(section, polarity), polarity)

    def _turn(self, polarity: str) -> None:
        self._add("turn", self._pick("turn", polarity), polarity)

    def _join(self, kind: str, polarity: str) -> None:
        """Joins equal or opposite polarity: to the same subject, or by a clause in the sentence or after it."""
        if self.world and self.kinds[-1] == "predicate" and self._may_join():
            return self._extend(kind, "vp", polarity)
        section = "react" if self.world else "clause"
        if self._may_join() and self.rng.random() < 0.7:
            return self._extend(kind, section, polarity)
        self._sentence(section, f"{self._pick('connect', kind)} {self._pick(section, polarity)}", polarity)

    def _may_join(self) -> bool:
        """Whether the last sentence is short and plain enough to go on after a comma."""
        text = self.units[-1].text
        plain = text[0].isupper() and text.endswith(".") and len(text) < 90 and text.count(",") < 3
        return plain and self.kinds[-1] in ("clause", "person", "predicate")

    def _extend(self, kind: str, section: str, polarity: str) -> None:
        """Goes on in the same sentence; a verb phrase keeps its subject."""
        before = self.units[-1]
        self.units[-1] = Unit(before.text[:-1] + ",", before.polarity)
        link, rest = self._pick(f"link-{section}", kind), self._pick(section, polarity, avoid=COMMA)
        self._add(section, f"{link} {rest}.", polarity)

    # Parts.

    def _subject(self) -> str:
        plain = self.subject_bank.get("subject")
        # The plainest come first in each file, and first in people's minds.
        first = 10 if not self.world else len(plain)
        return self.rng.choice(plain[:first]) if self.rng.random() < 0.55 else self.rng.choice(plain)

    def _person(self) -> str:
        draw = self.rng.random()
        return "I" if draw < 0.42 else "We" if draw < 0.66 else self.rng.choice(PEOPLE)

    def _predicate(self, polarity: str) -> str:
        if self.world:
            return self._pick("vp", polarity)
        section = self.writer.weighted_choice({"vp": 60, "adj": 26, "np": 14})
        be = "is " if self.subject_bank.tense == "present" else "was "
        return self._pick(section, polarity) if section == "vp" else be + self._pick(section, polarity)

    def _pick(self, section: str, polarity: str = "", avoid: re.Pattern[str] | None = None) -> str:
        """A phrase whose content words are new to this review, from the subject's file or the general one."""
        choices = self._choices(section, polarity)
        if avoid:
            choices = [phrase for phrase in choices if not avoid.search(phrase)] or choices
        for _ in range(8):
            phrase = self.rng.choice(choices)
            words = _content(phrase) | {phrase}
            if not words & self.used:
                break
        self.used |= words
        return phrase

    def _choices(self, section: str, polarity: str) -> Sequence[str]:
        specific, general = self.subject_bank.get(section, polarity), self.general.get(section, polarity)
        if self.world and section == "verdict" and not {"predicate", "turn"} & set(self.kinds):
            return general  # no subject has been named
        if specific and general:
            return specific if self.rng.random() < (0.5 if self.world else 0.75) else general
        return specific or general

    def _sentence(self, kind: str, text: str, polarity: str, end: str | None = None) -> None:
        excited = not self.units and polarity in ("pos", "neg") and len(text) < 80 and self.rng.random() < 0.05
        self._add(kind, text[0].upper() + text[1:] + (end or ("!" if excited else ".")), polarity)

    def _add(self, kind: str, text: str, polarity: str) -> None:
        self.kinds.append(kind)
        self.units.append(Unit(text, polarity))


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
