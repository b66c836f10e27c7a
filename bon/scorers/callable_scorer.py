"""The scorer that calls a user's function."""

from collections.abc import Callable, Iterable, Sequence

from bon.errors import InputError
from bon.messages import say
from bon.scorers.base import Item, Scorer, Scores


class CallableScorer(Scorer):
    """Rates texts by any callable from a list of texts to one number each, in their order (see `Scores.values`).

    It is called once for each prompt, with all candidates by index, empty ones among them. with_prompt: whether the
    texts begin with the prompt. Raises `InputError` for what cannot be called.
    """

    name: str
    function: Callable[[list[str]], Iterable[float]]
    with_prompt: bool

    def __init__(self, function: Callable[[list[str]], Iterable[float]], with_prompt: bool = True):
        if not callable(function):
            raise InputError("scorer", say("error.not_a_scorer", value=repr(function)))
        self.function, self.with_prompt = function, with_prompt
        self.name = getattr(function, "__name__", type(function).__name__)

    def score(self, items: Sequence[Item]) -> Scores:
        """What the callable returns, unchecked: `score_items` makes floats of it."""
        return Scores(self.function([item.text(self.with_prompt) for item in items]))
