"""bon: best-of-N sampling. Continue a prompt N times, score every continuation, keep the best.

    import bon
    result = bon.best_of_n("This movie", n=16, seed=7)
    print(result.best.text, result.best.score)

`import bon` loads neither torch nor gradio: each name below brings its module when it is first used.
"""

import importlib
import os

# Intel's MKL, with which torch multiplies on processors, then rounds alike with any number of threads, at no cost that
# could be measured. It reads this before its first product.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
# Threads that wait for each other spin less long before they sleep: as fast alone, and where another program wants the
# cores, a run takes a few times longer, not dozens. GNU's OpenMP, which torch has on Linux, reads this as torch loads.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

__version__ = "0.1.0"

_HOME = {
    "best_of_n": "api", "stream": "api", "load": "api", "Sampler": "api",
    "BestOfNSampler": "trl.sampler",
    "LengthSampler": "stats.lengths",
    "SentimentScorer": "scorers", "RewardScorer": "scorers", "MeanLogprobScorer": "scorers",
    "CallableScorer": "scorers",
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
