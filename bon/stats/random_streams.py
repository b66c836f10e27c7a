"""Random streams: each candidate has its own, and so has the choice among candidates."""

import numpy as np


def candidate_stream(seed: int, query: int, index: int) -> np.random.Generator:
    """The random stream of one candidate, keyed by (seed, query, index) and by nothing else.

    Counter-based (Philox), so neighbouring keys share nothing, and a candidate is the same however many others
    there are, in whatever order they finish.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(query, index))))


def selection_luck(seed: int, query: int) -> float:
    """The uniform number of soft selection, from a stream that no candidate has."""
    return candidate_stream(seed, query, 2**32 - 1).random()
