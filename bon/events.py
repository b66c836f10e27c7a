"""The events of a run, as plain values.

They come in this order: `Started`; then `Wrote`, `Ended`, `Scored`, `Note` and `Clock`, interleaved; last `Done`.
`bon.run_state.RunState` accumulates them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bon.result import Candidate, Result, Timing
from bon.settings import Messages, Settings


@dataclass(frozen=True, slots=True)
class Started:
    """The run begins.

    caps [n]: the most tokens of each candidate. uniform: the uniform number in [0, 1) by which soft selection draws.
    dtype: as in `bon.result.Result`.
    """

    prompt: str
    model: str
    scorer: str
    target: str | None
    unit: str
    settings: Settings
    caps: tuple[int, ...]
    messages: Messages | None = None
    uniform: float = 0.0
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate's text so far. tokens: how many. logprob, certainty: sums over them (see `Candidate`)."""

    index: int
    text: str
    tokens: int
    logprob: float | None = None
    certainty: float | None = None


@dataclass(frozen=True, slots=True)
class Wrote:
    """One decode step. rows: of the candidates whose texts grew."""

    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """A candidate is complete, not yet scored."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Scored:
    """The score of one candidate: of its complete text, or of the text at which early rejection dropped it."""

    index: int
    score: float
    parts: Mapping[str, float] = field(default_factory=dict)


#: The keys of the notes that tell of a delay that goes on.
DELAY_NOTES = frozenset({"note.server_busy", "note.server_stopped"})


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence for the reader of the result, about a truncation or a retry, say."""

    text: str

    @property
    def urgent(self) -> bool:
        """Whether it tells of a delay that goes on, so that a command prints it at once."""
        return getattr(self.text, "key", None) in DELAY_NOTES


@dataclass(frozen=True, slots=True)
class Clock:
    """The time and the tokens spent so far."""

    timing: Timing


@dataclass(frozen=True, slots=True)
class Done:
    """The run is complete."""

    result: Result


Event = Started | Wrote | Ended | Scored | Note | Clock | Done
