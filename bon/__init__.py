"""bon: best-of-N sampling. Continue a prompt N times, score every continuation, keep the best.

    import bon
    result = bon.best_of_n("This movie", n=16, seed=7)
    print(result.best.text, result.best.score)

`import bon` loads neither torch nor gradio and leaves the process as it is: each name below brings its module when it
is first used. `bon.configure_threads()`, called before torch is imported, makes results on processors independent of
the number of threads.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers; at run time `__getattr__` imports a name when it is first used
    from bon.api import Sampler, best_of_n, load, stream
    from bon.errors import BonError, EngineError, InputError, ModelError, ScoringError
    from bon.result import Candidate, Result
    from bon.scorers.callable_scorer import CallableScorer
    from bon.scorers.logprob import MeanLogprobScorer
    from bon.scorers.reward_model import RewardScorer
    from bon.scorers.sentiment import SentimentScorer
    from bon.settings import Request, Settings
    from bon.stats.lengths import LengthSampler
    from bon.threads import configure_threads
    from bon.trl.sampler import BestOfNSampler

__version__ = "0.1.0"

__all__ = [
    "BestOfNSampler", "BonError", "CallableScorer", "Candidate", "EngineError", "InputError", "LengthSampler",
    "MeanLogprobScorer", "ModelError", "Request", "Result", "RewardScorer", "Sampler", "ScoringError",
    "SentimentScorer", "Settings", "__version__", "best_of_n", "configure_threads", "load", "stream",
]

_MODULES = {
    "api": ("Sampler", "best_of_n", "load", "stream"),
    "errors": ("BonError", "EngineError", "InputError", "ModelError", "ScoringError"),
    "result": ("Candidate", "Result"),
    "scorers.callable_scorer": ("CallableScorer",),
    "scorers.logprob": ("MeanLogprobScorer",),
    "scorers.reward_model": ("RewardScorer",),
    "scorers.sentiment": ("SentimentScorer",),
    "settings": ("Request", "Settings"),
    "stats.lengths": ("LengthSampler",),
    "threads": ("configure_threads",),
    "trl.sampler": ("BestOfNSampler",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'bon' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"bon.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
