"""bon itself: the flow over models that this process loads."""

import time
from collections.abc import Callable, Sequence

from bon import __version__, configure_threads


def load(model: str, scorer: str | None, dtype: str, threads: int
         ) -> tuple[Callable[[int, Sequence[int], int], dict[str, float]], dict[str, str]]:
    """Gives what continues a prompt n times to a length and scores, and the facts of what was loaded.

    No text ends before its length, so that all programs generate the same number of tokens.
    """
    configure_threads()
    import torch

    from bon import flow
    from bon.engines.local.engine import LocalEngine, Rules
    from bon.models import loading
    from bon.scorers.base import Scorer
    from bon.scorers.callable_scorer import CallableScorer
    from bon.scorers.classifier import Classifier
    from bon.scorers.sentiment import SentimentScorer
    from bon.settings import Request, Settings

    weights, tokenizer = loading.causal(model, "cpu", dtype)
    facts = {"version": __version__, "writes_in": loading.facts(weights).dtype,
             "isa": torch.backends.cpu.get_cpu_capability()}
    engine = LocalEngine(weights, tokenizer, rules=Rules(eos=()))
    judge: Scorer = CallableScorer(lambda texts: [0.0] * len(texts))
    if scorer:
        classifier = loading.classifier(scorer, "cpu", dtype)
        judge = SentimentScorer(Classifier(*classifier))
        facts["scores_in"] = loading.facts(classifier[0]).dtype

    def run(n: int, prompt: Sequence[int], length: int) -> dict[str, float]:
        request = Request(settings=Settings(n=n, seed=1, temperature=1.0, top_p=1.0), prompt_ids=tuple(prompt))
        start = time.perf_counter()
        result = flow.run(request, engine, judge, lambda: length)
        total = time.perf_counter() - start
        assert [c.tokens for c in result.candidates if c.score is not None] == [length] * n
        return {"total": total, "prefill": result.timing.prefill, "score": result.timing.score,
                "write": result.timing.prefill + result.timing.decode}

    return run, facts
