"""Where the last complete sentence of a text ends."""

import pytest

from bon.engines.sentences import sentence_end

#: Texts as they may be cut; `¦` marks the end of the last complete sentence.
MARKED = [
    "It was good.¦ And then the",
    "It was good. I liked it.¦",
    "It was good.¦  \n",
    "no end at all",
    "",
    "   ",
    # full stops that end no sentence
    "We met Mr. Smith and",
    "Good.¦ We met Dr. Who in",
    "He is Mr.",
    "It costs 3.5 dollars.¦ I paid 4.5 of",
    "It costs 3.",
    "Good.¦ It costs 3.",
    "It was 1999.¦ The band",
    "It was 1999.¦\nThe band",
    "Written by J. R. R. Tolkien.¦ He",
    "Some fruit, e.g. apples, i.e. the",
    "From the U.S. Army and",
    "So do I.¦ And you",
    "See no. 5 and p. 7 of",
    "No.¦ That is",
    "Sold by Acme Inc. in the",
    "Read bon.py or example.com and",
    "El Sr. López vino.¦ La Sra. Gil",
    "Das kostet z. B. zwei.¦ Dann",
    # stops in series, closing marks, dialogue
    "all year....¦ And so",
    "Well... maybe",
    "What?!¦ No",
    '"Really?" she asked',
    '"Really?" she asked.¦ "Y',
    'He said "Stop."¦ Then',
    "He said “Stop.”¦ Then",
    "(It works.)¦ The",
    "It works (well).¦ The",
    "**Done.**¦ Next",
    "*wow!*¦ Next",
    "Use `x`.¦ Then",
    "Fine.[1] More",
    "Great! 😀¦ Next one",
    "Great!👍🏽¦ Next one",
    "love it 😀 and",
    "Yahoo! is a site",
    # other languages
    "これは本です。¦あれは",
    "「はい。」¦そして",
    "你好！¦我",
    "यह किताब है।¦ वह",
    "هل أنت بخير؟¦ نعم",
    "Он ушёл.¦ Потом",
    "¿Qué tal?¦ Muy",
    "네.¦ 그리고",
    "«Oui.»¦ Et",
    # lists, tables, code
    "Tips:\n1. Eat well.¦\n2. Sle",
    "Tips:\n1. Eat well¦\n2. Sle",
    "Tips:\n1. Eat",
    "Tips:\n1.",
    "Good.¦ 2. Sle",
    "- apples\n- pears¦\n- ban",
    "* apples:\n  - re",
    "| a | b |\n| 1 | 2 |¦\n| 3",
    "Use it.¦\n```python\n",
    "Use it.\n```python\ndef f():\n    return 1.¦\nx = ",
    "Use it.\n```\nx = 1\n```¦\nThis sets",
    "Use it.\n```\nx = 1\n```\nThis works.¦ And",
    "Title\nThis is the first",
    "Roses are red,\nViolets are",
    "One.\r\nTwo.¦\r\nThr",
]


@pytest.mark.parametrize("marked", MARKED)
def test_the_end_of_the_last_complete_sentence(marked):
    kept, mark, rest = marked.partition("¦")
    assert sentence_end(kept + rest) == (len(kept) if mark else 0)


PARTS = [".", ".x", ". ", "...x", "?\"", "“", "a.b", "\n", "- a\n", "1. ", "🙂. ", "`", "。", "( ", "A. B"]


@pytest.mark.parametrize("part", PARTS)
def test_long_texts_take_few_steps(part):
    """A text without end takes no time that grows with its square: it would not come back."""
    text = part * 30_000
    assert 0 <= sentence_end(text) <= len(text)
    assert 0 <= sentence_end(text + "x") <= len(text)
