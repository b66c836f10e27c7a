"""The family of errors that bon raises. Each message says what is wrong and what to do about it."""

from collections.abc import Mapping
from typing import Any

from bon.messages import explained


class BonError(Exception):
    """Any error that bon raises on purpose; the command line prints its message as one line.

    message: a `bon.messages.Message`, which carries its key and values, or a plain text, which has neither.
    """

    def __init__(self, message: str = ""):
        super().__init__(message)

    @property
    def message(self) -> str:
        """The English text, with its key and values where it has them."""
        return explained(self)

    @property
    def key(self) -> str | None:
        """The message's key in the tables of `assets/text/`, or None."""
        return getattr(self.message, "key", None)

    @property
    def values(self) -> Mapping[str, Any]:
        """The values in the message, by name."""
        return getattr(self.message, "values", {})


class InputError(BonError, ValueError):
    """A value that cannot work, found before any work began.

    `field` is the name of the argument at fault (`n`, `prompt`, `temperature`, ...), for a message beside it.
    """

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field

    def __reduce__(self):
        return type(self), (self.field, self.message)


class ModelError(BonError):
    """A model that is unknown, absent, unreachable or of the wrong kind."""


class LimitError(BonError):
    """More runs than a public page gives one visitor for now; the message says when to try again."""


class ScoringError(BonError):
    """A scorer that failed while it worked: it raised, or its scores are too few, too many or not numbers."""


class EngineError(BonError):
    """Generation that failed while it worked, for example for want of memory."""
