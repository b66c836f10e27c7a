"""What is asked for in one run: `Request`, a prompt or a chat with its settings."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from bon.errors import InputError
from bon.messages import say
from bon.settings.declaration import clean
from bon.settings.settings import Settings

#: A chat: mappings with `role` and `content`.
Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and the settings to run it with.

    Exactly one of: `prompt` (the model continues it), `messages` (a chat: mappings with `role` and `content`; where the
    last one is the assistant's, the model goes on with it), `prompt_ids` (token ids). A blank prompt is refused unless
    `unconditional` asks for a sample from the model's start token. `query` numbers the prompt within a call and keys
    its random streams.
    """

    prompt: str | None = None
    settings: Settings = field(default_factory=Settings)
    messages: Messages | None = None
    prompt_ids: tuple[int, ...] | None = None
    unconditional: bool = False
    query: int = 0

    def __post_init__(self) -> None:
        prompts = [name for name in ("prompt", "messages", "prompt_ids") if getattr(self, name) is not None]
        if len(prompts) > 1:
            raise InputError(prompts[1], say("error.two_prompts", names=" and ".join(prompts)))
        if self.messages is not None:
            object.__setattr__(self, "messages", checked_messages(self.messages))
        elif self.prompt_ids is None:
            if self.prompt is not None and not isinstance(self.prompt, str):
                raise InputError("prompt", say("error.prompt_not_text", type=type(self.prompt).__name__))
            if not (self.prompt or "").strip() and not self.unconditional:
                raise InputError("prompt", say("error.prompt_empty"))
        if self.prompt_ids is not None:
            object.__setattr__(self, "prompt_ids", tuple(self.prompt_ids))
        object.__setattr__(self, "prompt", clean(self.prompt) if self.prompt is not None else None)

    def with_settings(self, settings: Settings) -> "Request":
        """The same prompt with other settings, not checked again."""
        request = copy.copy(self)
        object.__setattr__(request, "settings", settings)
        return request


def checked_messages(messages: Messages) -> tuple[Mapping[str, str], ...]:
    """The messages of a chat with their texts cleaned, or an `InputError`."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise InputError("messages", say("error.messages_no_list", example="[{'role': 'user', 'content': 'Hello'}]"))
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or not isinstance(
            message.get("content"), str
        ):
            raise InputError("messages", say("error.message_without_text", message=repr(message)))
    if not messages[-1]["content"].strip():
        raise InputError("messages", say("error.last_message_empty"))
    return tuple({k: clean(v) if isinstance(v, str) else v for k, v in message.items()} for message in messages)


def continues(messages: Messages | None) -> TypeGuard[Messages]:
    """Whether a chat ends with the beginning of the assistant's message, which candidates then go on with."""
    return messages is not None and len(messages) > 0 and messages[-1]["role"] == "assistant"


def answered(messages: Messages, text: str) -> list[dict[str, str]]:
    """The chat with a candidate's text as the assistant's message, or as the rest of the one that it ends with."""
    if continues(messages):
        *before, last = map(dict, messages)
        return [*before, last | {"content": last["content"] + text}]
    return [*map(dict, messages), {"role": "assistant", "content": text}]
