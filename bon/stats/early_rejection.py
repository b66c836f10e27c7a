"""Early rejection: at which checkpoint which candidates are compared, by the request alone.

A candidate stands at a checkpoint with the text that it had there. It may have come further by the time that the last
one arrives: other runs or a full batch can make some begin later, and they must not change who is dropped.
"""

from collections.abc import Sequence

from bon.result import Candidate

#: The most candidates that are compared with one another: of more, the last would begin when the first have ended.
TOGETHER = 512


def checkpoints(longest: int) -> list[int]:
    """Tokens at which early rejection looks at the texts: 4, and twice as many each time, below the largest cap."""
    return [4 << i for i in range(longest.bit_length()) if 4 << i < longest]


class Rejection:
    """Who stands at which checkpoint of one run, and when all of a group do. caps: of the candidates, in tokens."""

    def __init__(self, caps: Sequence[int]):
        count = -(-len(caps) // TOGETHER)
        self._size, places = -(-len(caps) // count), checkpoints(max(caps))
        numbers = range(len(caps))
        self._groups = [_Group(numbers[i : i + self._size], places) for i in numbers[:: self._size]]

    def grew(self, candidate: Candidate) -> None:
        """Takes note of a text that goes on, with the tokens that it has by now."""
        self._group_of(candidate.index).grew(candidate)

    def ended(self, index: int) -> None:
        """Takes note of a candidate that is complete: it comes to no further checkpoint."""
        self._group_of(index).writing.discard(index)

    def dropped(self, index: int) -> None:
        """Takes note of a candidate that is given up: it stands at no checkpoint any more."""
        self._group_of(index).drop(index)

    def undecided(self, index: int) -> bool:
        """Whether a candidate stands at a checkpoint where others are still to come: it may yet be dropped."""
        return any(index in standing for standing in self._group_of(index).standing.values())

    def due(self) -> list[Candidate]:
        """The candidates to compare now, as they stood at one checkpoint, in the order of their numbers; none while
        no checkpoint is complete. Each checkpoint comes once.
        """
        for group in self._groups:
            if standing := group.due():
                return [standing[index] for index in sorted(standing)]
        return []

    def _group_of(self, index: int) -> "_Group":
        return self._groups[index // self._size]


class _Group:
    """Candidates that are compared with one another.

    writing: the numbers of those that go on. standing: by checkpoint that is still to be decided, the candidates that
    reached it, as they were there.
    """

    def __init__(self, members: Sequence[int], places: Sequence[int]):
        self.writing = set(members)
        self.standing: dict[int, dict[int, Candidate]] = {place: {} for place in places}

    def grew(self, candidate: Candidate) -> None:
        for place, standing in self.standing.items():
            if candidate.tokens >= place:
                standing.setdefault(candidate.index, candidate)

    def drop(self, index: int) -> None:
        self.writing.discard(index)
        for standing in self.standing.values():
            standing.pop(index, None)

    def due(self) -> dict[int, Candidate]:
        """What stands at the first checkpoint that nobody is on the way to."""
        while self.standing:
            place, standing = next(iter(self.standing.items()))
            if self.writing - standing.keys():
                return {}
            del self.standing[place]
            if standing:
                return standing
        return {}
