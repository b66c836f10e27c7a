"""What the language model reads: reviews of the grammar, hand-written sentences, and starts of every kind."""

import random
from collections.abc import Iterator

from bon.training.grammar import Writer
from bon.training.phrases import lexicon, sentences

GREETINGS = (
    "Hello", "Hi", "Hey", "Good morning", "Bonjour", "Hola", "Ciao", "Guten Tag", "Olá", "Hej", "Merhaba", "Привет",
    "Γεια σου", "你好", "こんにちは", "안녕하세요", "مرحبا", "שלום", "नमस्ते", "Xin chào", "🙂", "🎉🎉", "🔥", "❤️", "😡",
    "👍", "???", "...",
    "!!!", "#1", "1.", "42", "2024", "3.14", "10/10", "<b>", "C'est la vie", "¿Qué tal?", "Grüß Gott", "Æther",
    "e = mc2",
    "def main():", "x", "a", "OK", "P.S.", "Re:", "Title:", "Review:", "Q:", "* ", "- ", "http://", "@anna", "To do:",
)


def documents(seed: int) -> Iterator[str]:
    """Texts to learn from, endlessly, the same for the same seed."""
    rng = random.Random(seed)
    writer = Writer(rng)
    written = [s for lines in sentences("critics", "viewers").values() for s in lines]
    while True:
        text = rng.choice(written) if rng.random() < 0.07 else writer.review().text
        yield _with_start(text, rng)


def _with_start(text: str, rng: random.Random) -> str:
    """The text as it is, or in lower case, or from its middle, or after something that the grammar never writes."""
    draw = rng.random()
    if draw < 0.04:
        return text[0].lower() + text[1:]
    if draw < 0.09:
        places = [i + 1 for i, c in enumerate(text[:-12]) if c == " "]
        return text[rng.choice(places) :] if places else text
    if draw < 0.13:
        between = rng.choice((" ", ", ", ". ", ": ", "! ", " - ", "\n"))
        return _odd(rng) + between + text
    return text


def _odd(rng: random.Random) -> str:
    """Something that a visitor may type: a greeting, words in a row, letters, digits."""
    draw = rng.random()
    if draw < 0.35:
        return rng.choice(GREETINGS)
    if draw < 0.75:
        sections = [("adj", "pos"), ("adj", "neg"), ("noun", "pos"), ("noun", "neg")]
        return " ".join(rng.choice(lexicon().get(*rng.choice(sections))) for _ in range(rng.randint(1, 3)))
    if draw < 0.9:
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9)))
    return "".join(chr(rng.choice((rng.randint(33, 126), rng.randint(0xA1, 0x5FF), rng.randint(0x4E00, 0x4FFF))))
                   for _ in range(rng.randint(1, 6)))
