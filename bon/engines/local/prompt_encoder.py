"""Prompts and chats as token ids, and the tokens that end an answer."""

from collections.abc import Mapping, Sequence
from functools import cached_property

from bon.errors import InputError
from bon.messages import say
from bon.settings import continues

#: An answer that no template writes by itself, to see what one writes behind it.
ANSWER = "Fortytwo"


class PromptIds(tuple[int, ...]):
    """The token ids of a prompt. notes: what the reader of the result should know of how they were made."""

    notes: tuple[str, ...] = ()


class PromptEncoder:
    """Turns prompts and chats into token ids for a model to continue.

    model: what to call the model in errors and notes.
    """

    def __init__(self, tokenizer, model: str):
        self.tokenizer, self.model = tokenizer, model

    @property
    def has_template(self) -> bool:
        """Whether it takes chats."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    def start(self) -> PromptIds:
        """The start token alone. Raises `InputError` where the tokenizer has none."""
        if self.tokenizer.bos_token_id is None:
            raise InputError("prompt", say("error.no_start_token", model=self.model))
        return PromptIds((self.tokenizer.bos_token_id,))

    def text(self, prompt: str) -> PromptIds:
        """The token ids of a text. Raises `InputError` where there are none."""
        ids = self.tokenizer(prompt, verbose=False)["input_ids"]
        if not ids:
            raise InputError("prompt", say("error.prompt_without_tokens", model=self.model))
        return self._open(prompt, ids)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> PromptIds:
        """The token ids of a chat, up to where the assistant's message begins or goes on.

        Raises `InputError` where there is no template, or where it refuses the messages.
        """
        if not self.has_template:
            raise InputError("messages", say("error.no_chat_template", model=self.model))
        text = self._begun(messages) if continues(messages) else self._rendered(messages, add_generation_prompt=True)
        ids = self._ids_of_rendered(text)
        if not ids:
            raise InputError("messages", say("error.chat_template_empty", model=self.model))
        return self._open(text, ids)

    @cached_property
    def ends_of_turn(self) -> tuple[int, ...]:
        """The tokens that end an answer in a chat, whatever the model's generation config says.

        The tokenizer's end of text, and the first special or added token that the template writes behind an answer:
        behind the chat's last one, or else behind one that another message follows.
        """
        asked, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": ANSWER}
        ends = [self.tokenizer.eos_token_id, self._end_in([asked, answer]) or self._end_in([asked, answer, asked])]
        return tuple(end for end in ends if end is not None)

    def token(self, token: int) -> str:
        """The text of one token, special or not."""
        return self.tokenizer.decode([token], skip_special_tokens=False)

    def _begun(self, messages: Sequence[Mapping[str, str]]) -> str:
        text, begun = self._rendered(messages, continue_final_message=True), messages[-1]["content"]
        if text.endswith(begun):
            return text
        return text.rstrip() + begun[len(begun.rstrip()) :]  # of a template that trims

    def _rendered(self, messages: Sequence[Mapping[str, str]], **how: bool) -> str:
        try:
            return self.tokenizer.apply_chat_template([dict(message) for message in messages], tokenize=False, **how)
        except Exception as error:  # templates raise what they like, for example over the order of roles
            message = say("error.chat_template_refuses", model=self.model, error=str(error))
            if isinstance(error, ValueError) and "continue_final_message" in how:  # transformers' own
                message = say("error.chat_template_cannot_continue", model=self.model)
            raise InputError("messages", message) from error

    def _ids_of_rendered(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _end_in(self, chat: Sequence[Mapping[str, str]]) -> int | None:
        try:
            _, answer, behind = self._rendered(chat).rpartition(ANSWER)
        except InputError:  # a template that takes no such chat
            return None
        tokens = {i: self.token(i) for i in self._ids_of_rendered(behind)} if answer else {}
        return next((i for i, token in tokens.items() if i in self._added and token.strip() and token in behind), None)

    def _open(self, text: str, ids: Sequence[int]) -> PromptIds:
        """The ids without the special tokens that the tokenizer itself put behind the text, as if it were complete."""
        last = next((i for i in range(len(ids), 1, -1) if ids[i - 1] not in self._special), 1)
        written, tokens = _comparable(text), [_comparable(self.token(i)) for i in ids[last:]]
        typed = max(count for count in range(len(tokens) + 1) if written.endswith("".join(tokens[:count])))
        prompt, appended = PromptIds(ids[: last + typed]), ids[last + typed :]
        if appended:
            names = " ".join(map(self.token, appended))
            prompt.notes = (say("note.tokenizer_appends", model=self.model, tokens=names),)
        return prompt

    @cached_property
    def _added(self) -> dict[int, bool]:
        """The special and the added tokens, and whether each is a special one."""
        try:
            added = {i: token.special for i, token in self.tokenizer.added_tokens_decoder.items()}
        except NotImplementedError:  # of a tokenizer that tells its special ones alone
            added = {}
        return added | dict.fromkeys(self.tokenizer.all_special_ids, True)

    @cached_property
    def _special(self) -> frozenset[int]:
        """The special tokens that stand for no piece of a text."""
        unknown = {self.tokenizer.unk_token_id} - {self.tokenizer.eos_token_id}
        return frozenset(i for i, special in self._added.items() if special) - unknown


def _comparable(text: str) -> str:
    """The text without what a tokenizer may change in it: white space and case."""
    return "".join(text.casefold().split())
