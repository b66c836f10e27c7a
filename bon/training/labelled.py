"""Labelled texts for the sentiment classifier: hand-written sentences, the lexicon in many constructions, the grammar.

A label is the probability that a reader calls the text positive.
"""

import random
import re
from collections.abc import Callable, Iterator

from bon.training.grammar import Writer
from bon.training.phrases import Bank, lexicon, sentences

LABELS = {"pos": 0.97, "warm": 0.75, "luke": 0.5, "cross": 0.25, "neg": 0.03}
OTHER = {"pos": "neg", "neg": "pos"}


def judge_examples(seed: int) -> Iterator[tuple[str, float]]:
    """The judge's own labelled texts, endlessly: its sentences, some of them two of a kind in a row."""
    rng, written = random.Random(seed), sentences(folder="judged")
    polarities, counts = list(written), [len(lines) for lines in written.values()]
    while True:
        polarity = rng.choices(polarities, counts)[0]
        text = rng.choice(written[polarity])
        if polarity in OTHER and rng.random() < 0.15:
            text = f"{text} {rng.choice(written[polarity])}"
        yield text, LABELS[polarity]


WORKS = (
    "film movie picture story plot script screenplay performance cast lead ending opening series show episode season "
    "book novel memoir album song concert play comedy drama thriller documentary romance sequel remake soundtrack "
    "direction dialogue pacing acting humour animation game restaurant meal food service staff hotel room trip phone "
    "laptop screen battery app delivery shop course teacher museum match team place experience evening thing idea"
).split()
STRONG = ("very", "really", "truly", "so", "deeply", "utterly", "thoroughly", "absolutely", "just", "remarkably",
          "incredibly", "extremely", "quite simply", "consistently", "unexpectedly", "surprisingly", "")
WEAK = ("rather", "somewhat", "a bit", "fairly", "kind of", "a little", "mostly", "sort of", "slightly")
TURNS = ("but", "yet", "though", "however,", "still,", "and yet", "but in the end", "but sadly", "but happily",
         "although", "only")


class Labeller:
    """Makes labelled texts from a seeded source of chance."""

    rng: random.Random
    writer: Writer
    words: Bank
    sentences: dict[str, tuple[str, ...]]
    kinds: dict[str, tuple[str, str]]

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.writer = Writer(self.rng)
        self.words, self.sentences = lexicon(), sentences()
        self.kinds = {
            word: (section, polarity)
            for section in ("adj", "adv", "noun", "emotion") for polarity in ("pos", "neg")
            for word in self.words.get(section, polarity) if word.isalpha()
        }

    def example(self) -> tuple[str, float]:
        """One text with its label: 24% of the grammar, the others written by hand or made of the lexicon."""
        return self.review() if self.rng.random() < 0.24 else self.written()

    def written(self) -> tuple[str, float]:
        """Two hand-written sentences to one construction of words of the lexicon."""
        text, label = self.sentence() if self.rng.random() < 0.68 else self.construction()
        return self._surface(text), label

    def word(self) -> tuple[str, float]:
        """A word or expression of the lexicon, alone or in a construction: what there is to learn first."""
        made = self._single(self.rng.choice(("pos", "neg"))) if self.rng.random() < 0.6 else self.construction()
        return self._surface(made[0]), made[1]

    def scrap(self) -> str:
        """Pieces of sentences of any polarity in a row: nothing that anybody would write, for a teacher to judge."""
        pieces = []
        for _ in range(self.rng.choice((1, 2, 2, 3))):
            words = self.rng.choice(self.sentences[self.rng.choice(("pos", "neg"))]).split()
            start, length = self.rng.randrange(len(words)), self.rng.randint(2, 9)
            pieces.append(" ".join(words[start : start + length]))
        return self._surface(self.rng.choice((" ", ", ", " and ")).join(pieces))

    def sentence(self) -> tuple[str, float]:
        """Hand-written sentences: one, or two of a kind, or a sentence among lexicon words of its polarity."""
        polarity = self.rng.choices(("pos", "neg", "warm", "cross", "luke"), (44, 44, 5, 5, 2))[0]
        text = self._vary(self.rng.choice(self.sentences[polarity]))
        draw = self.rng.random()
        if polarity in OTHER and draw < 0.12:
            text = f"{text} {self.rng.choice(self.sentences[polarity])}"
        elif polarity in OTHER and draw < 0.22:
            text = f"{text} {self._end(self._clause(polarity))}"
        elif polarity in OTHER and draw < 0.30:
            other = self.rng.choice(self.sentences[OTHER[polarity]])
            text = f"{other} {self.rng.choice(('But', 'And yet', 'Still,', 'However,'))} {_small(text)}"
            return text, 0.7 if polarity == "pos" else 0.3
        return text, LABELS[polarity]

    def _vary(self, text: str) -> str:
        """The sentence with some judging words exchanged for others of their kind, and its subject for another.

        So a judgement is learned from words of judgement, not from the sentences that they happen to stand in.
        """
        rate = self.rng.choice((0.0, 0.4, 0.7))
        parts = re.split(r"([A-Za-z]+)", text)
        for i in range(1, len(parts), 2):
            if self.rng.random() < rate:
                parts[i] = self._exchange(parts[i], parts[i - 2] if i > 1 else "")
        return "".join(parts)

    def _exchange(self, word: str, before: str) -> str:
        section, polarity = self.kinds.get(word, ("", ""))
        if section and (section != "noun" or before.lower() in ("a", "an", "the", "of", "its", "such", "pure")):
            other = self._word(section, polarity)
        elif word in WORKS:
            other = self._work()
        else:
            return word
        article = {"a": False, "an": True}.get(before.lower())
        return word if article is not None and article != (other[0] in "aeiou") else other

    def review(self) -> tuple[str, float]:
        """A text of the grammar, often cut where a candidate's length would cut it."""
        review = self.writer.review()
        text = review.text
        if self.rng.random() < 0.4 and len(text) > 40:
            end = text.rfind(" ", 0, self.rng.randint(30, len(text)))
            if end > 15:
                return self._surface(text[:end]), review.label(end)
        return self._surface(text), review.label()

    def construction(self) -> tuple[str, float]:
        """Words of the lexicon in one of many constructions."""
        polarity = self.rng.choice(("pos", "neg"))
        makers: list[tuple[float, Callable[[str], tuple[str, float]]]] = [
            (30, self._plain), (14, self._negation), (12, self._contrast), (8, self._hypothetical), (8, self._several),
            (16, self._single), (4, self._weak),
        ]
        make = self.rng.choices([m for _, m in makers], [w for w, _ in makers])[0]
        return make(polarity)

    def _plain(self, polarity: str) -> tuple[str, float]:
        return self._end(self._clause(polarity)), LABELS[polarity]

    def _single(self, polarity: str) -> tuple[str, float]:
        section = self.rng.choices(("expr", "adj", "noun", "verb", "adv", "emotion"), (40, 20, 12, 12, 6, 10))[0]
        label = 0.93 if polarity == "pos" else 0.07
        return self._word(section, polarity), label

    def _several(self, polarity: str) -> tuple[str, float]:
        words = [self._word("adj", polarity) for _ in range(self.rng.randint(2, 4))]
        text = ", ".join(words[:-1]) + self.rng.choice((" and ", ", ", " and ultimately ")) + words[-1]
        before = self.rng.choice(("", f"{_a(words[0])} ", f"The {self._work()} is "))
        after = f" {self._work()}" if before.startswith("a") else ""
        return self._end(before + text + after), LABELS[polarity]

    def _weak(self, polarity: str) -> tuple[str, float]:
        word = self._word("adj", polarity)
        text = f"The {self._work()} is {self.rng.choice(WEAK)} {word}"
        return self._end(text), 0.8 if polarity == "pos" else 0.16

    def _negation(self, polarity: str) -> tuple[str, float]:
        """Negation of a word of the other polarity: "not funny" is worse than "not bad" is good."""
        word, work = self._word("adj", OTHER[polarity]), self._work()
        noun, verb = self._word("noun", OTHER[polarity]), _bare(self._word("verb", OTHER[polarity]))
        text = self.rng.choice((
            f"The {work} is not {word}", f"It isn't {word} at all", f"not {_a(word)} {work}", f"never {word}",
            f"The {work} is hardly {word}", f"far from {word}", f"It was anything but {word}", f"nothing {word} here",
            f"There is no {noun} in this {work}", f"without any {noun}", f"I did not find the {work} {word}",
            f"neither {word} nor {self._word('adj', OTHER[polarity])}", f"The {work} doesn't {verb}",
            f"This {work} never {self._word('verb', OTHER[polarity])}", f"The {work} isn't {word} and never will be",
            f"lacks any {noun}", f"no longer {word}", f"wasn't {word}", f"not in the least {word}",
            f"Nobody could call this {work} {word}", f"The least {word} {work} of the year",
        ))
        return self._end(text), 0.82 if polarity == "pos" else 0.1

    def _contrast(self, polarity: str) -> tuple[str, float]:
        """Both polarities, one of which decides."""
        first, last = self._clause(OTHER[polarity]), self._clause(polarity)
        adj, good = self._word("adj", OTHER[polarity]), self._word("adj", polarity)
        noun = self._word("noun", OTHER[polarity])
        text, strength = self.rng.choice((
            (f"{first}, {self.rng.choice(TURNS)} {_small(last)}", 0.75),
            (f"{first}. {self.rng.choice(('But', 'Yet', 'Still,', 'However,'))} {_small(last)}", 0.75),
            (f"Although {_small(first)}, {_small(last)}", 0.8), (f"Despite the {noun}, {_small(last)}", 0.88),
            (f"{last}, despite the {noun}", 0.85), (f"While {_small(first)}, {_small(last)}", 0.78),
            (f"{adj} but {good}", 0.7), (f"For all its {noun}, {_small(last)}", 0.88),
            (f"I expected {_a(adj)} {self._work()}, but {_small(last)}", 0.92),
            (f"Not {adj} but {good}", 0.93), (f"{last} even though {_small(first)}", 0.75),
            (f"They say it is {adj}, yet {_small(last)}", 0.85),
        ))
        return self._end(text), strength if polarity == "pos" else 1 - strength

    def _hypothetical(self, polarity: str) -> tuple[str, float]:
        """What could have been: praise that is missing."""
        good, noun, work = self._word("adj", "pos"), self._word("noun", "pos"), self._work()
        text, label = self.rng.choice((
            (f"It could have been {_a(noun)}", 0.12), (f"The {work} should have been {good}", 0.1),
            (f"would have been {good} with a better {self._work()}", 0.15), (f"I wish the {work} had been {good}", 0.1),
            (f"If only the {work} were {good}", 0.08), (f"It tries to be {good} and fails", 0.04),
            (f"promised to be {good} but {_small(self._clause('neg'))}", 0.06),
            (f"It might have been {good} once", 0.2), (f"We were told the {work} was {good}", 0.3),
            (f"It could hardly have been more {good}", 0.95), (f"I have never seen a more {good} {work}", 0.97),
            (f"It could not be more {self._word('adj', 'neg')}", 0.04), (f"wants to be {_a(noun)}", 0.2),
            (f"If you want {noun}, look elsewhere", 0.08), (f"too {good} to miss", 0.95),
            (f"never less than {good}", 0.95), (f"The {work} needs more {noun}", 0.12),
        ))
        return self._end(text), label

    def _clause(self, polarity: str) -> str:
        """A clause of one polarity made of lexicon words."""
        def word(section: str) -> str:
            return self._word(section, polarity)

        work, adj, strong = self._work(), word("adj"), self.rng.choice(STRONG)
        strongly = f"{strong} {adj}".strip()
        return self.rng.choice((
            f"the {work} is {strongly}", f"the {work} was {strongly}", f"{_a(adj)} {work}",
            f"this {work} {word('verb')}",
            f"it is {_a(word('noun'))}", f"the {work} {word('verb')}", f"I felt {word('emotion')}",
            f"the {self._work()} is {adj} and the {work} {word('verb')}", f"{word('adv')} made", f"{word('expr')}",
            f"what {_a(adj)} {work}", f"I found the {work} {strongly}", f"{strongly}", f"full of {word('noun')}",
            f"{_a(strongly)} {work} with {adj} {self._work()}", f"{word('adv')} {self._deed()}",
            f"it left me {word('emotion')}", f"the {work}, {strongly}, {word('verb')}", f"such {_a(adj)} {work}",
            f"the most {adj} {work} of the year", f"we were {word('emotion')}",
            f"{word('expr')}, and {strongly} at that",
            f"{_a(word('noun'))} of a {work}", f"the {work} is {_a(word('noun'))}", f"one {adj} {work} after another",
            f"everyone was {word('emotion')} by the {adj} {work}", f"equal parts {word('noun')} and {word('noun')}",
        ))

    def _deed(self) -> str:
        return self.rng.choice("acted written directed filmed cooked played told made designed edited run told "
                               "staged paced shot built explained organised".split())

    def _work(self) -> str:
        return self.rng.choice(WORKS)

    def _word(self, section: str, polarity: str) -> str:
        """A word, the frequent ones (first in the lexicon) somewhat more often."""
        choices = self.words.get(section, polarity)
        return choices[int(len(choices) * self.rng.random() ** 1.3)]

    def _end(self, text: str) -> str:
        return text + self.rng.choice((".", ".", ".", "!", "", " ."))

    def _surface(self, text: str) -> str:
        draw = self.rng.random()
        if draw < 0.12:
            return text.lower()
        if draw < 0.24:
            return _space_tokens(text.lower())
        return text[0].upper() + text[1:] if draw < 0.82 else text


def _space_tokens(text: str) -> str:
    """The text as corpora of reviews are often kept: "it 's dull , and it does n't end ."."""
    return re.sub(r"\s*(n't|'s|'re|'ve|'ll|'m|'d|\.\.\.|[.,;:!?])(?![\w'])", r" \1", text)


def _small(text: str) -> str:
    return text if text[:2] in ("I ", "I'") or text[:2].isupper() else text[0].lower() + text[1:]


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _bare(verb: str) -> str:
    """The infinitive of a verb phrase in the third person: "drags on" -> "drag on"."""
    head, _, rest = verb.partition(" ")
    if head.endswith("ies"):
        head = head[:-3] + "y"
    elif head.endswith(("sses", "shes", "ches", "xes", "zzes")):
        head = head[:-2]
    elif head.endswith("s") and not head.endswith("ss"):
        head = head[:-1]
    return f"{head} {rest}".strip()
