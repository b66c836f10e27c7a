"""Token ids as text, and text that grows token by token."""

import re
from collections.abc import Sequence

from transformers.convert_slow_tokenizer import bytes_to_unicode

#: Enough tokens before the first new one for a tokenizer to place spaces and joined characters rightly.
CONTEXT = 8
#: What a decoder writes for bytes that are no character.
REPLACEMENT = "\ufffd"
#: A character of UTF-8 has at most four bytes, so one that lacks some has three, in at most as many tokens.
UNFINISHED = 3
#: Byte-level BPE writes each byte as one character; SentencePiece writes a byte as a token of its own.
_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")


class Detokenizer:
    """Turns token ids into text.

    skip: leave special tokens out. clean_up: whether the tokenizer removes spaces before punctuation; None: as its own
    settings say.
    """

    def __init__(self, tokenizer, skip_special_tokens: bool = True, clean_up: bool | None = False):
        self.tokenizer, self.skip, self._clean_up = tokenizer, skip_special_tokens, clean_up

    def text(self, ids: Sequence[int]) -> str:
        """The text of all the tokens; bytes that are no character become U+FFFD."""
        return self.tokenizer.decode(
            list(ids), skip_special_tokens=self.skip, clean_up_tokenization_spaces=self._clean_up
        )

    def complete(self, ids: Sequence[int]) -> str:
        """The text without a character at its end that lacks its last bytes.

        A U+FFFD that the tokens spell out, and bytes that no further one could complete, stay.
        """
        text, ids = self.text(ids), list(ids)
        if not text.endswith(REPLACEMENT) or not hasattr(self.tokenizer, "convert_ids_to_tokens"):
            return text
        tokens = _bytes_of(self.tokenizer.convert_ids_to_tokens(ids[-UNFINISHED:]))
        lacking = _unfinished(b"".join(tokens))
        if not lacking:
            return text
        # A token of such bytes alone goes as a whole, since some decoders spoil complete characters beside it too.
        while tokens and lacking >= len(tokens[-1]):
            lacking -= len(tokens.pop())
            ids.pop()
        text = self.text(ids)
        return text[:-1] if lacking else text


def _bytes_of(tokens: Sequence[str | None]) -> list[bytes]:
    """The bytes that each token stands for; none for an id that the tokenizer does not know."""
    tokens = [token or "" for token in tokens]
    if _BYTE_TOKEN.fullmatch(tokens[-1]):
        return [bytes.fromhex(found[1]) if (found := _BYTE_TOKEN.fullmatch(token)) else token.encode()
                for token in tokens]
    return [bytes(_BYTES[c] for c in token) if _BYTES.keys() >= set(token) else token.encode() for token in tokens]


def _unfinished(data: bytes) -> int:
    """How many bytes at the end begin a character of UTF-8 that further bytes could complete."""
    for count in range(1, min(UNFINISHED, len(data)) + 1):
        try:
            data[-count:].decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data" and error.start == 0:
                return count
    return 0


class GrowingText:
    """The text of a continuation while its tokens arrive, at a cost per token that does not grow.

    A character whose bytes are spread over several tokens appears once it is complete. watched: whether anybody looks
    at the text before it is whole; else it is not made before.
    """

    def __init__(self, detokenizer: Detokenizer, prompt_ids: Sequence[int], watched: bool = True):
        self._detokenizer, self._watched = detokenizer, watched
        self._prompt = list(prompt_ids)
        self.ids: list[int] = []
        self.text = ""
        self._tail = self._prompt[-CONTEXT:]
        self._shown = len(self._tail)

    def add(self, token: int) -> str:
        """Takes one token in and returns the text so far."""
        self.ids.append(token)
        if not self._watched:
            return self.text
        self._tail.append(token)
        old, new = self._detokenizer.complete(self._tail[: self._shown]), self._detokenizer.text(self._tail)
        if len(new) > len(old) and not new.endswith(REPLACEMENT):
            self.text += new[len(old) :]
            self._tail = self._tail[-CONTEXT:]
            self._shown = len(self._tail)
        return self.text

    def with_prompt(self) -> str:
        """The prompt and the text of all tokens, decoded in one piece."""
        return self._detokenizer.text(self._prompt + self.ids)

    def whole(self, complete: bool = False) -> str:
        """The text of all tokens, decoded in one piece after the prompt.

        complete: without a character at the end that lacks its last bytes. One that the prompt begins is the text's.
        """
        decode = self._detokenizer.complete if complete else self._detokenizer.text
        head, full = self._detokenizer.complete(self._prompt), decode(self._prompt + self.ids)
        return full[len(head) :] if full.startswith(head) else decode(self.ids)
