"""Text that grows token by token."""

from collections.abc import Sequence

#: Enough tokens before the first new one for a tokenizer to place spaces and joined characters rightly.
CONTEXT = 8


class GrowingText:
    """The text of a continuation while its tokens arrive, at a cost per token that does not grow.

    A character whose bytes are spread over several tokens appears once it is complete. watched: whether anybody looks
    at the text before it is whole; else it is not made before.
    """

    def __init__(self, tokenizer, prompt_ids: Sequence[int], skip_special_tokens: bool = True, watched: bool = True):
        self._tokenizer, self._skip, self._watched = tokenizer, skip_special_tokens, watched
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
        old, new = self._decode(self._tail[: self._shown]), self._decode(self._tail)
        if len(new) > len(old) and not new.endswith("\ufffd"):
            self.text += new[len(old) :]
            self._tail = self._tail[-CONTEXT:]
            self._shown = len(self._tail)
        return self.text

    def whole(self) -> str:
        """The text of all tokens, decoded in one piece after the prompt."""
        head, full = self._decode(self._prompt), self._decode(self._prompt + self.ids)
        return full[len(head) :] if full.startswith(head) else self._decode(self.ids)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(
            ids, skip_special_tokens=self._skip, clean_up_tokenization_spaces=False
        )
