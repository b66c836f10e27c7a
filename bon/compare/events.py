"""The events of a comparison, as plain values."""

from dataclasses import dataclass

from bon.compare.result import Comparison
from bon.result import Result
from bon.run_state import RunState


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """One more step of a system's run for one prompt.

    number: of the prompt, from 0. system: `base`, `tuned` or `best`. state: of the run, which goes on changing.
    """

    number: int
    system: str
    state: RunState

    @property
    def result(self) -> Result:
        """The run's result so far, computed on demand since that takes longer than a decode step."""
        return self.state.result()


@dataclass(frozen=True, slots=True)
class PromptDone:
    """All systems have written for one more prompt; `comparison` holds the samples of all prompts up to it."""

    comparison: Comparison
