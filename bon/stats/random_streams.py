"""Random streams: one for each candidate, and one for soft selection."""

import numpy as np


def candidate_stream(seed: int, query: int, index: int) -> np.random.Generator:
    """The random stream of one candidate, keyed by (seed, query, index) and by nothing else.

    Counter-based (Philox), so that streams of neighbouring keys are independent. A candidate's draws do not depend on
    how many others there are or in which order they finish.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(query, index))))


def selection_uniform(seed: int, query: int) -> float:
    """The uniform number in [0, 1) that soft selection draws by; its stream is that of no candidate."""
    return candidate_stream(seed, query, 2**32 - 1).random()
