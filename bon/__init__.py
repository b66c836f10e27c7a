"""bon: best-of-N sampling. Continue a prompt N times, score every continuation, keep the best.

    import bon
    result = bon.best_of_n("This movie", n=16, seed=7)
    print(result.best.text, result.best.score)

`import bon` loads neither torch nor gradio and leaves the process as it is: each name below brings its module when it
is first used. `bon.configure_threads()`, called before torch is imported, makes results on processors independent of
the number of threads.
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    "best_of_n": "api", "stream": "api", "load": "api", "Sampler": "api",
    "BestOfNSampler": "trl.sampler",
    "LengthSampler": "stats.lengths", "configure_threads": "threads",
    "SentimentScorer": "scorers.sentiment", "RewardScorer": "scorers.reward_model",
    "MeanLogprobScorer": "scorers.logprob", "CallableScorer": "scorers.callable_scorer",
    "Request": "settings", "Settings": "settings", "Candidate": "result", "Result": "result",
    "BonError": "errors", "InputError": "errors", "ModelError": "errors", "ScoringError": "errors",
    "EngineError": "errors",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'bon' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"bon.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
