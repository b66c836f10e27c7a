"""The sampler of candidates' caps: the most tokens that each one may get, drawn at random."""

from collections.abc import Callable

import numpy as np

from bon.errors import InputError
from bon.messages import say
from bon.settings import Settings, whole

#: Any callable without arguments that returns a number of tokens.
DrawLength = Callable[[], int]


class LengthSampler:
    """Draws lengths, in tokens, uniformly from `min_value` up to, but not including, `max_value` (as TRL's class did).

    seed: makes the draws of *calls* repeatable without touching the process's global random state. Inside a run bon
    uses `at` with a number from the candidate's random stream instead, so that the candidate's length depends on the
    run's seed alone. Raises `InputError` where the range is empty or reaches below 1.
    """

    min_value: int
    max_value: int

    def __init__(self, min_value: int, max_value: int, seed: int | None = None):
        self.min_value = whole("length_sampler", min_value, 1)
        self.max_value = whole("length_sampler", max_value, 1)
        if self.max_value <= self.min_value:
            raise InputError("length_sampler", say("error.length_range_empty", low=str(min_value), high=str(max_value)))
        self._random = np.random.default_rng(seed)

    @classmethod
    def of(cls, settings: Settings) -> "LengthSampler":
        """The one that draws between the settings' least and largest cap, both included."""
        least, most = settings.lengths
        return cls(least, most + 1)

    def __call__(self) -> int:
        return self.at(self._random.random())

    def at(self, u: float) -> int:
        """The length at the quantile `u`, in [0, 1): a uniform number there draws a length."""
        return self.min_value + int(u * (self.max_value - self.min_value))

    def probability(self, low: int, high: float) -> float:
        """The probability that a drawn length lies in low..high, both ends included."""
        lengths_inside = min(high, self.max_value - 1) - max(low, self.min_value) + 1
        return max(0.0, lengths_inside) / (self.max_value - self.min_value)

    def __repr__(self) -> str:
        return f"LengthSampler({self.min_value}, {self.max_value})"
