"""Where stop strings end a text.

A text ends at the stop string that is complete first, as if it arrived character by character, however many characters
a token has; of those that are complete together, at the longest. What is kept then holds none of them.
"""

from collections.abc import Sequence


def find_stop(text: str, stops: Sequence[str], searched: int = 0) -> int | None:
    """Where the stop string begins that ends the text; None where none does.

    searched: characters at the beginning of the text in which there is none.
    """
    places = ((stop, text.find(stop, max(0, searched - len(stop) + 1))) for stop in stops)
    return min(((place + len(stop), place) for stop, place in places if place >= 0), default=(0, None))[1]


def certain_length(text: str, stops: Sequence[str]) -> int:
    """How many characters of a text that goes on stay whatever follows: all but those at its end that begin a stop
    string.
    """
    begun = (length for stop in stops for length in range(min(len(stop) - 1, len(text)), 0, -1)
             if text.endswith(stop[:length]))
    return len(text) - max(begun, default=0)
