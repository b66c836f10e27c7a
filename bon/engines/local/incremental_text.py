"""Token ids as text, and text that grows token by token."""

import re
from bisect import bisect_left
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

#: Tokens before the first new one that a tokenizer needs to place spaces and joined characters rightly.
CONTEXT = 8
#: What tokenizers decode bytes to that are no character.
REPLACEMENT = "\ufffd"
#: A character of UTF-8 has at most four bytes, so one that lacks some has three, in at most as many tokens.
UNFINISHED = 3
#: Byte-level BPE writes each byte as one character; SentencePiece writes a byte as a token of its own.
_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")


class Detokenizer:
    """Turns token ids into text.

    skip_special_tokens: leave them out. clean_up: whether the tokenizer removes spaces before punctuation; None: as
    its own settings say.
    """

    tokenizer: PreTrainedTokenizerBase
    skips_special: bool

    def __init__(self, tokenizer: PreTrainedTokenizerBase, skip_special_tokens: bool = True,
                 clean_up: bool | None = False) -> None:
        self.tokenizer, self.skips_special, self._clean_up = tokenizer, skip_special_tokens, clean_up

    def text(self, ids: Sequence[int]) -> str:
        """The text of all the tokens; bytes that are no character become U+FFFD."""
        text = self.tokenizer.decode(
            list(ids), skip_special_tokens=self.skips_special, clean_up_tokenization_spaces=self._clean_up
        )
        assert isinstance(text, str)  # of a list of ids; a list of lists has several
        return text

    def complete(self, ids: Sequence[int]) -> str:
        """The text without a character at its end that lacks its last bytes.

        A U+FFFD that the tokens spell out, and bytes that no further byte could complete, stay.
        """
        text, ids = self.text(ids), list(ids)
        if not text.endswith(REPLACEMENT) or not hasattr(self.tokenizer, "convert_ids_to_tokens"):
            return text
        tokens = _bytes_of(self.tokenizer.convert_ids_to_tokens(ids[-UNFINISHED:]))
        unfinished = _unfinished_bytes(b"".join(tokens))
        if not unfinished:
            return text
        # A token of such bytes alone is left out whole, since some tokenizers spoil complete characters beside it too.
        while tokens and unfinished >= len(tokens[-1]):
            unfinished -= len(tokens.pop())
            ids.pop()
        text = self.text(ids)
        return text[:-1] if unfinished else text


def _bytes_of(tokens: Sequence[str | None]) -> list[bytes]:
    """The bytes that each token stands for; none for an id that the tokenizer does not know."""
    texts = [token or "" for token in tokens]
    if _BYTE_TOKEN.fullmatch(texts[-1]):
        return [bytes.fromhex(match[1]) if (match := _BYTE_TOKEN.fullmatch(text)) else text.encode() for text in texts]
    return [bytes(_BYTES[c] for c in text) if _BYTES.keys() >= set(text) else text.encode() for text in texts]


def _unfinished_bytes(data: bytes) -> int:
    """How many bytes at the end begin a character of UTF-8 that further bytes could complete."""
    for count in range(1, min(UNFINISHED, len(data)) + 1):
        try:
            data[-count:].decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data" and error.start == 0:
                return count
    return 0


class IncrementalText:
    """The text of a continuation while its tokens arrive, at a cost per token that does not grow.

    A character whose bytes are spread over several tokens appears once it is complete. watched: whether anybody reads
    the text before it is complete; else it is decoded only then.
    """

    text: str

    def __init__(self, detokenizer: Detokenizer, prompt_ids: Sequence[int], watched: bool = True) -> None:
        self._detokenizer, self._watched = detokenizer, watched
        self._prompt = list(prompt_ids)
        self.ids: list[int] = []
        self.text = ""
        self._lengths: list[int] = []  # of the text after each token
        self._tail = self._prompt[-CONTEXT:]
        self._shown = len(self._tail)

    def add(self, token: int) -> str:
        """Appends one token and returns the text so far."""
        self.ids.append(token)
        if not self._watched:
            return self.text
        self._add_to_text(token)
        self._lengths.append(len(self.text))
        return self.text

    def _add_to_text(self, token: int) -> None:
        self._tail.append(token)
        old, new = self._detokenizer.complete(self._tail[: self._shown]), self._detokenizer.text(self._tail)
        if len(new) > len(old) and not new.endswith(REPLACEMENT):
            self.text += new[len(old) :]
            self._tail = self._tail[-CONTEXT:]
            self._shown = len(self._tail)

    def count_tokens(self, characters: int) -> int:
        """How many of the tokens it takes to write the first so many characters of the text; the last of them may go
        beyond.
        """
        if not characters:
            return 0
        if self._watched:
            return min(bisect_left(self._lengths, characters) + 1, len(self.ids))

        def written(count: int) -> int:
            return len(self._after_prompt(self.ids[:count], complete=True))

        return bisect_left(range(1, len(self.ids)), characters, key=written) + 1

    def with_prompt(self) -> str:
        """The prompt and the text of all tokens, decoded in one piece."""
        return self._detokenizer.text(self._prompt + self.ids)

    def whole(self, complete: bool = False) -> str:
        """The text of all tokens, decoded in one piece after the prompt.

        complete: leave out a character at the end that lacks its last bytes. A character that begins in the prompt
        belongs to the text.
        """
        return self._after_prompt(self.ids, complete)

    def _after_prompt(self, ids: Sequence[int], complete: bool) -> str:
        decode = self._detokenizer.complete if complete else self._detokenizer.text
        prompt, full = self._detokenizer.complete(self._prompt), decode([*self._prompt, *ids])
        return full[len(prompt) :] if full.startswith(prompt) else decode(ids)
