"""The values that hold where nobody names any: a preset's, a chat model's own, those of chats, or the declared ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bon.messages import Message, say
from bon.settings.settings import Settings

#: The settings that a model's own generation config may name.
OF_MODELS = ("temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty")
#: What holds in chats; the sampling where neither preset nor model names one.
OF_CHATS: Mapping[str, float] = {"temperature": 0.7, "top_p": 0.9, "min_tokens": 16, "max_tokens": 96}


@dataclass(frozen=True, slots=True)
class Defaults:
    """The values that a model brings along, by the names of settings.

    preset: its preset's. of_model: those of its generation config, which hold in chats alone.
    """

    preset: Mapping[str, Any] = field(default_factory=dict)
    of_model: Mapping[str, Any] = field(default_factory=dict)

    def by_source(self, is_chat: bool) -> dict[str, dict[str, Any]]:
        """The values by where they come from: `preset`, `model` or `chats`, each setting where it is named first."""
        if not is_chat:
            return {"preset": dict(self.preset)}
        of_model = {name: value for name, value in self.of_model.items() if name not in self.preset}
        has_sampling = any(name in OF_MODELS for name in (*self.preset, *of_model))
        of_chats = {name: value for name, value in OF_CHATS.items()
                    if name not in self.preset and not (has_sampling and name in OF_MODELS)}
        return {"preset": dict(self.preset), "model": of_model, "chats": of_chats}

    def values(self, is_chat: bool) -> dict[str, Any]:
        """The values by name."""
        return {name: value for values in self.by_source(is_chat).values() for name, value in values.items()}

    def fill(self, settings: Settings, is_chat: bool) -> Settings:
        """The settings with a value in every field where they have none."""
        return settings.filled(**self.values(is_chat))

    def notes(self, settings: Settings, is_chat: bool) -> list[Message]:
        """Where the values come from that `fill` puts in place of declared ones: a note for each source."""
        keys = {"preset": "note.values_of_preset", "model": "note.values_of_model", "chats": "note.values_of_chats"}
        filled, notes = self.fill(settings, is_chat), []
        for source, values in self.by_source(is_chat).items():
            if used := [f"{name} {getattr(filled, name):g}" for name in values if getattr(settings, name) is None]:
                notes.append(say(keys[source], values=", ".join(used)))
        return notes
