"""What the flow asks of an engine; a test's fake needs no more than this."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bon.events import Row
from bon.result import Candidate
from bon.settings import Request


@dataclass(frozen=True, slots=True)
class Job:
    """One prompt to continue `len(caps)` times: its token ids, each candidate's cap in tokens, the request.

    Candidate i draws from the random stream (seed, query, i) of the request. unwanted: numbers of candidates that
    the consumer gives up while the job runs; the engine ends them as `rejected` before its next step. certainty:
    whether the candidates' self-certainty is wanted. watched: whether anybody looks at texts that are not complete;
    where nobody does, the engine need not report rows that grew. alone: whether nobody else's texts may be decoded
    together with those of this call: then what else runs cannot turn a near-tie by rounding.
    """

    prompt_ids: tuple[int, ...]
    caps: tuple[int, ...]
    request: Request
    unwanted: set[int] = field(default_factory=set)
    certainty: bool = False
    watched: bool = True
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of generation brought: by a job's number, the rows that grew and those that ended.

    stage: `prefill` or `decode`, for the clock. note: what the reader of the result should know.
    """

    stage: str = "decode"
    grown: Mapping[int, Sequence[Row]] = field(default_factory=dict)
    ended: Mapping[int, Sequence[Candidate]] = field(default_factory=dict)
    note: str | None = None


class Engine(Protocol):
    """A source of continuations."""

    name: str
    #: Tokens that prompt and continuation may fill together; None: no limit.
    context: int | None

    def encode(self, request: Request) -> tuple[int, ...]:
        """The prompt's token ids. Raises `InputError` where the request does not fit the model."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""

    def generate(self, jobs: Sequence[Job]) -> Iterator[Step]:
        """Continues every job's prompt. Closing the iterator stops the work within one step."""

    def describe(self) -> dict[str, Any]:
        """Plain facts for people: name, parameters, device, dtype, context, and whether it answers `chats`."""
