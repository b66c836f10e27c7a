"""The protocol of an engine, and the values that it takes and gives; a test's fake needs no more."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from bon.events import Row
from bon.result import Candidate
from bon.settings import Defaults, Request


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as token ids. notes: what the reader of the result should know of how they were made.

    counted: its tokens where the engine has no ids but knows their number.
    """

    ids: tuple[int, ...]
    notes: tuple[str, ...] = ()
    counted: int = 0

    @property
    def tokens(self) -> int:
        """How many tokens it has, as far as the engine knows."""
        return len(self.ids) or self.counted


@dataclass(frozen=True, slots=True)
class Job:
    """One prompt to continue `len(caps)` times: its token ids, each candidate's cap in tokens, the request.

    Candidate i draws from the random stream (seed, query, i) of the request. unwanted: numbers of candidates that
    the consumer gives up while the job runs; the engine ends them as `rejected` before its next step. certainty:
    whether to compute the candidates' self-certainty. watched: whether anybody reads texts that are not complete;
    else the engine need not report rows that grew. live: whether even an engine for which it costs something, as a
    server, is to report every text as it grows. alone: whether these candidates are decoded with no other call's,
    so that no rounding in a shared batch can turn a near-tie. notes: for each candidate's notes.
    """

    prompt_ids: tuple[int, ...]
    caps: tuple[int, ...]
    request: Request
    unwanted: set[int] = field(default_factory=set)
    certainty: bool = False
    watched: bool = True
    live: bool = False
    alone: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of generation produced: by the number of a job, the rows that grew and those that ended.

    stage: to which stage the time of the step is counted. note: what the reader of the result should know.
    """

    stage: Literal["prefill", "decode"] = "decode"
    grown: Mapping[int, Sequence[Row]] = field(default_factory=dict)
    ended: Mapping[int, Sequence[Candidate]] = field(default_factory=dict)
    note: str | None = None


class Engine(Protocol):
    """A source of continuations. It may have `defaults`, for `defaults_of`, and a `dtype`, for results."""

    name: str
    #: Tokens that prompt and continuation may fill together; None: no limit.
    context: int | None

    def encode(self, request: Request) -> EncodedPrompt:
        """The request's prompt as token ids. Raises `InputError` where the request does not fit the model."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""

    def generate(self, jobs: Sequence[Job]) -> Generator[Step, None, None]:
        """Continues every job's prompt. Closing the iterator stops the work within one step."""

    def describe(self) -> dict[str, Any]:
        """Plain facts for people: name, parameters, device, dtype, context, and whether it answers `chats`; of a model
        with an adapter the digest of the `adapter`.
        """


def defaults_of(engine: Engine) -> Defaults:
    """What holds where a request to this engine names no value."""
    return getattr(engine, "defaults", None) or Defaults()
