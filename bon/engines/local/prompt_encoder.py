"""Prompts and chats as token ids, and the tokens that end an answer."""

from collections.abc import Mapping, Sequence
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from bon.engines.base import EncodedPrompt
from bon.errors import InputError
from bon.messages import say
from bon.settings import continues

#: An answer that no template contains, by which to find what a template puts behind an answer.
ANSWER = "Fortytwo"


class PromptEncoder:
    """Turns prompts and chats into token ids for a model to continue.

    model: what to call the model in errors and notes.
    """

    tokenizer: PreTrainedTokenizerBase
    model: str

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: str) -> None:
        self.tokenizer, self.model = tokenizer, model

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    def start(self) -> EncodedPrompt:
        """The start token alone. Raises `InputError` where the tokenizer has none."""
        if self.tokenizer.bos_token_id is None:
            raise InputError("prompt", say("error.no_start_token", model=self.model))
        return EncodedPrompt((self.tokenizer.bos_token_id,))

    def text(self, prompt: str) -> EncodedPrompt:
        """The token ids of a text. Raises `InputError` where there are none."""
        ids = self.tokenizer(prompt, verbose=False)["input_ids"]
        if not ids:
            raise InputError("prompt", say("error.prompt_without_tokens", model=self.model))
        return self._without_end(prompt, ids)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> EncodedPrompt:
        """The token ids of a chat, up to where the assistant's message begins or goes on.

        Raises `InputError` where there is no template, or where it refuses the messages.
        """
        if not self.has_template:
            raise InputError("messages", say("error.no_chat_template", model=self.model))
        goes_on = continues(messages)
        text = self._rendered_open(messages) if goes_on else self._rendered(messages, opens_turn=True)
        ids = self._ids_of_rendered(text)
        if not ids:
            raise InputError("messages", say("error.chat_template_empty", model=self.model))
        return self._without_end(text, ids)

    @cached_property
    def ends_of_turn(self) -> tuple[int, ...]:
        """The tokens that end an answer in a chat, whatever the model's generation config says.

        The tokenizer's end of text, and the first special or added token that the template puts behind an answer:
        behind the chat's last one, or else behind one that another message follows.
        """
        question, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": ANSWER}
        end_of_turn = self._end_of_turn([question, answer]) or self._end_of_turn([question, answer, question])
        ends = [self.tokenizer.eos_token_id, end_of_turn]
        return tuple(end for end in ends if end is not None)

    def token(self, token: int) -> str:
        """The text of one token, special or not."""
        text = self.tokenizer.decode([token], skip_special_tokens=False)
        assert isinstance(text, str)  # of a list of ids; a list of lists has several
        return text

    def _rendered_open(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The chat as text, which ends as its last message does, white space included, for the model to continue."""
        text, last_message = self._rendered(messages, goes_on=True), messages[-1]["content"]
        if text.endswith(last_message):
            return text
        return text.rstrip() + last_message[len(last_message.rstrip()) :]  # the template trims

    def _rendered(
        self, messages: Sequence[Mapping[str, str]], opens_turn: bool = False, goes_on: bool = False
    ) -> str:
        """The chat as text. opens_turn: with the beginning of an answer. goes_on: without the end of the last message.

        Raises `InputError` where the template refuses it.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=opens_turn,
                continue_final_message=goes_on,
            )
            assert isinstance(text, str)  # not tokenized
            return text
        except Exception as error:  # templates raise what they like, for example over the order of roles
            message = say("error.chat_template_refuses", model=self.model, error=str(error))
            if isinstance(error, ValueError) and goes_on:  # transformers' own error
                message = say("error.chat_template_cannot_continue", model=self.model)
            raise InputError("messages", message) from error

    def _ids_of_rendered(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _end_of_turn(self, chat: Sequence[Mapping[str, str]]) -> int | None:
        """The first special or added token that the template puts behind `ANSWER` in a chat."""
        try:
            _, answer, behind = self._rendered(chat).rpartition(ANSWER)
        except InputError:  # the template refuses such a chat
            return None
        tokens = {i: self.token(i) for i in self._ids_of_rendered(behind)} if answer else {}
        return next((i for i, token in tokens.items() if i in self._added and token.strip() and token in behind), None)

    def _without_end(self, text: str, ids: Sequence[int]) -> EncodedPrompt:
        """The ids without the special tokens that the tokenizer itself appends to a complete text."""
        last = next((i for i in range(len(ids), 1, -1) if ids[i - 1] not in self._special), 1)
        # Special tokens that the user has typed at the end of the text stay.
        normalized, tokens = _normalized(text), [_normalized(self.token(i)) for i in ids[last:]]
        typed = max(count for count in range(len(tokens) + 1) if normalized.endswith("".join(tokens[:count])))
        prompt_ids, appended = tuple(ids[: last + typed]), ids[last + typed :]
        if not appended:
            return EncodedPrompt(prompt_ids)
        names = " ".join(map(self.token, appended))
        return EncodedPrompt(prompt_ids, (say("note.tokenizer_appends", model=self.model, tokens=names),))

    @cached_property
    def _added(self) -> dict[int, bool]:
        """The special and the added tokens, and whether each is a special one."""
        try:
            added = {i: token.special for i, token in self.tokenizer.added_tokens_decoder.items()}
        except NotImplementedError:  # the tokenizer lists its special tokens alone
            added = {}
        return added | dict.fromkeys(self.tokenizer.all_special_ids, True)

    @cached_property
    def _special(self) -> frozenset[int]:
        """The special tokens that stand for no piece of a text."""
        unknown = {self.tokenizer.unk_token_id} - {self.tokenizer.eos_token_id}
        return frozenset(i for i, special in self._added.items() if special) - unknown


def _normalized(text: str) -> str:
    """The text without what a tokenizer may change in it: white space and case."""
    return "".join(text.casefold().split())
