"""Early rejection: at which token counts candidates are compared, and which candidates each comparison takes in.

Follows Speculative Rejection (arXiv 2410.20290), with fixed checkpoints. A candidate is compared by the text that it
had at the checkpoint, even if it has grown since: how fast each one grows depends on what else the engine decodes, and
that must not change which candidates are dropped.
"""

from collections.abc import Sequence

from bon.result import Candidate

#: The most candidates that are compared with one another: in a larger group the last ones would only start decoding
#: when the first ones have ended.
GROUP_SIZE = 512


def checkpoints(largest_cap: int) -> list[int]:
    """The token counts at which early rejection compares texts: 4, 8, 16, ... below the largest cap."""
    return [4 << i for i in range(largest_cap.bit_length()) if 4 << i < largest_cap]


class EarlyRejection:
    """Collects the candidates of one run at their checkpoints.

    caps: the most tokens of each candidate, in the order of their indices. Candidates are compared in groups of equal
    size, at most `GROUP_SIZE`.
    """

    def __init__(self, caps: Sequence[int]):
        group_count = -(-len(caps) // GROUP_SIZE)
        self._group_size = -(-len(caps) // group_count)
        indices, token_counts = range(len(caps)), checkpoints(max(caps))
        self._groups = [
            _Group(indices[i : i + self._group_size], token_counts) for i in indices[:: self._group_size]
        ]

    def record_progress(self, candidate: Candidate) -> None:
        """Enters an unfinished candidate at the checkpoints that it has reached."""
        self._group_of(candidate.index).record_progress(candidate)

    def record_end(self, index: int) -> None:
        """Notes that a candidate is complete: it reaches no further checkpoint."""
        self._group_of(index).unfinished.discard(index)

    def drop(self, index: int) -> None:
        """Removes a rejected candidate from all checkpoints."""
        self._group_of(index).drop(index)

    def may_drop(self, index: int) -> bool:
        """Whether a candidate is at a checkpoint that waits for others, so that it may still be rejected."""
        return any(index in arrived for arrived in self._group_of(index).arrived.values())

    def pop_complete(self) -> list[Candidate]:
        """The candidates at a checkpoint that no candidate is still to reach, as they were there, by index.

        Each checkpoint is returned once; the list is empty while none is complete.
        """
        for group in self._groups:
            if arrived := group.pop_complete():
                return [arrived[index] for index in sorted(arrived)]
        return []

    def _group_of(self, index: int) -> "_Group":
        return self._groups[index // self._group_size]


class _Group:
    """Candidates that are compared with one another.

    unfinished: the indices of candidates that are still decoded. arrived: for each checkpoint that is still to be
    decided, the candidates that reached it, as they were there.
    """

    def __init__(self, indices: Sequence[int], token_counts: Sequence[int]):
        self.unfinished = set(indices)
        self.arrived: dict[int, dict[int, Candidate]] = {tokens: {} for tokens in token_counts}

    def record_progress(self, candidate: Candidate) -> None:
        """See `EarlyRejection.record_progress`."""
        for tokens, arrived in self.arrived.items():
            if candidate.tokens >= tokens:
                arrived.setdefault(candidate.index, candidate)

    def drop(self, index: int) -> None:
        """See `EarlyRejection.drop`."""
        self.unfinished.discard(index)
        for arrived in self.arrived.values():
            arrived.pop(index, None)

    def pop_complete(self) -> dict[int, Candidate]:
        """The candidates at the first checkpoint that somebody reached and nobody is still to reach."""
        while self.arrived:
            tokens, arrived = next(iter(self.arrived.items()))
            if self.unfinished - arrived.keys():
                return {}
            del self.arrived[tokens]
            if arrived:
                return arrived
        return {}
