"""The family of errors that bon raises. Each message says what is wrong and what to do about it."""

from collections.abc import Mapping
from typing import Any

from bon.messages import error_message


class BonError(Exception):
    """Any error that bon raises on purpose; the command line prints its message as one line.

    message: a `bon.messages.Message`, which has a key and values, or a plain text.
    """

    def __init__(self, message: str = ""):
        super().__init__(message)

    @property
    def message(self) -> str:
        """The English text: a `bon.messages.Message` or a plain text."""
        return error_message(self)

    @property
    def key(self) -> str | None:
        """The message's key in the tables of `assets/text/`, or None."""
        return getattr(self.message, "key", None)

    @property
    def values(self) -> Mapping[str, Any]:
        """The values in the message, by name."""
        return getattr(self.message, "values", {})


class InputError(BonError, ValueError):
    """An argument whose value cannot work, raised before any work begins.

    `field` is the name of the argument at fault (`n`, `prompt`, `temperature`, ...), for a message beside it.
    """

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str]]:
        return type(self), (self.field, self.message)


class ModelError(BonError):
    """A model that is unknown, absent, unreachable or of the wrong type."""


class LimitError(BonError):
    """A visitor of a public page has reached the rate limit; the message says when to try again."""


class ScoringError(BonError):
    """A scorer that raised, or returned too few scores, too many, or values that are no finite numbers."""


class EngineError(BonError):
    """Generation that failed, for example because memory ran out."""


class ServerFailureError(EngineError):
    """A request that a server failed to answer (5xx, time-out, lost connection).

    The cause may be this prompt or the whole server: only whether other prompts are answered tells which.
    """


class ServerUnavailableError(EngineError):
    """A server that answers no prompt at present: it is unreachable, refuses the key or lacks the model, say."""
