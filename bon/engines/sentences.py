"""Where the last sentence of a text ends: of a model's text, Markdown and code among it, in any language."""

import regex

#: Words whose full stop ends no sentence, in English, Spanish, French and German.
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st gen col capt lt sgt rev hon sen rep gov mt ft vs cf approx fig figs vol pp viz "
    "sr sra srta dra dña ud uds art cap núm pág mme mlle bzw ca evtl ggf inkl nr str usw".split()
)
#: Words whose full stop ends no sentence before a number.
_BEFORE_NUMBERS = frozenset(("no", "nos", "n", "p", "ch", "sec"))
#: A stop, with what closes quotes, brackets and emphasis behind it, and emoji. Only a stop of a script that is written
#: without spaces needs none behind it. The properties of characters are those of Unicode Standard Annex 29.
_STOP = regex.compile(
    r"(?<![\p{SB=STerm}\p{SB=ATerm}…])(?P<stop>[\p{SB=STerm}\p{SB=ATerm}…]++)[\p{SB=Close}*_~`]*+"
    r"(?:[ ]?[\p{Extended_Pictographic}\p{Emoji_Modifier}\u200d\ufe0f]++)*+"
    r"(?=\s|\Z|(?<=[\p{EA=W}\p{EA=F}]))"
)
_NEXT = regex.compile(r"\s*+(\S)")
_LAST_WORD = regex.compile(r"[^\s\p{Ps}\p{Pi}\"'*_]*+\Z")
_INITIALS = regex.compile(r"(?:[\p{Lu}\p{Ll}]\.)*[\p{Lu}\p{Ll}]")
#: The number of an item, at the beginning of a line or behind a sentence.
_ITEM_NUMBER = regex.compile(r"(?:^|[.!?]\s)\s*[(*]*(?:\d{1,3}|[\p{Lu}\p{Ll}])\Z")
#: An item of a list, or a row of a table.
_ITEM = regex.compile(r"\s*(?:[-*+•]\s|[(*]*(?:\d{1,3}|[\p{Lu}\p{Ll}])[.)]\s|\|)")
_FENCE = regex.compile(r"\s*(?:```|~~~)")
#: The most characters before a full stop that tell whether it is that of an abbreviation or a number.
_CONTEXT = 40


def sentence_end(text: str) -> int:
    """The index just after the last complete sentence of `text`; 0 where it has none.

    The text may have been cut anywhere: its last "3." could have become "3.5", so it ends no sentence. A line of code
    within a fence, an item of a list and a row of a table end with their line.
    """
    end, start, in_code = 0, 0, False
    *complete, last = text.split("\n")
    for line in [*complete, last]:
        is_complete, is_fence = line is not last, _FENCE.match(line) is not None
        stop = start + len(line.rstrip())
        is_item = _ITEM.match(line) is not None and not line.rstrip().endswith((":", ",", ";"))
        if is_complete and line.strip() and (in_code or (is_item and not is_fence)):
            end = stop
        elif not (in_code or is_fence):
            ends = [match.end() for match in _STOP.finditer(text, start, stop) if _ends_sentence(text, start, match)]
            end = max([end, *ends])
        in_code ^= is_fence
        start += len(line) + 1
    return end


def _ends_sentence(text: str, line_start: int, match: regex.Match[str]) -> bool:
    """Whether a stop in a line that starts there ends a sentence."""
    following = _NEXT.match(text, match.end())
    if following and following[1].islower():
        return False
    if match["stop"] != ".":
        return True
    at = match.start("stop")
    before = text[max(line_start, at - _CONTEXT) : at]
    word = _LAST_WORD.search(before)
    last_word = word[0] if word else ""
    if last_word.lower() in _ABBREVIATIONS or _ITEM_NUMBER.search(before):
        return False
    if following and following[1].isdigit() and last_word.lower() in _BEFORE_NUMBERS:
        return False
    if before[-1:].isdigit() and match.end() == len(text):
        return False
    return last_word == "I" or not _INITIALS.fullmatch(last_word)
