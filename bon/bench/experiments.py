"""Measurements on real models: early rejection, callers at once, and what number types cost."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bon.settings import Request
from bon.stats import estimates

SUBJECTS = ("movie book hotel phone restaurant album game museum trip laptop "
            "play series shop match cafe concert teacher train garden meal").split()
OPENINGS = ("This {}", "The {}", "My {}", "Our {} was", "What a {}", "I was surprised that the {}", "Honestly, the {}",
            "When we found the {},", "They say the {}", "Never again: the {}")
#: Two hundred prompts for the embedded models.
PROMPTS = [opening.format(subject) for subject in SUBJECTS for opening in OPENINGS]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Early rejection against plain best-of-M: at the same mean winning logit, how many times the tokens M takes.

    tokens, logit: of early rejection, per prompt. plain: M, or None where even the most plain samples win less.
    saves: tokens of plain best-of-M / tokens of early rejection.
    """

    n: int
    reject: float
    tokens: float
    logit: float
    plain: float | None
    saves: float | None


def rejection(n: Sequence[int] = (16, 32, 64), reject: float = 0.5, most: int = 256,
              report: Callable[[str], None] = print) -> list[Rejection]:
    """Measures early rejection on the embedded models, in logits, against plain best-of-M for all M up to `most`.

    Over 200 prompts; the margin of POSITIVE over NEGATIVE is what wins.
    """
    import numpy as np

    from bon import api

    sampler = api.load("embedded", unit="margin")
    curve, tokens_per_sample = np.zeros(most), 0.0
    by_count: dict[int, list[tuple[int, float]]] = {count: [] for count in n}
    for seed, prompt in enumerate(PROMPTS):
        plain = sampler.run(prompt, n=most, seed=seed, unit="margin")
        curve += np.array(estimates.expected_best([c.score for c in plain.candidates])) / len(PROMPTS)
        tokens_per_sample += plain.timing.tokens / most / len(PROMPTS)
        for count in n:
            run = sampler.run(prompt, n=count, seed=seed + 10**6, unit="margin", reject=reject)
            assert run.best.score is not None  # `best` raises where nothing was scored
            by_count[count].append((run.timing.tokens, run.best.score))
        if (seed + 1) % 20 == 0:
            report(f"{seed + 1} of {len(PROMPTS)} prompts")
    report("plain best of M, mean winning logit: " + ", ".join(
        f"{m}: {curve[m - 1]:.3f}" for m in (1, 2, 4, 8, 16, 32, 64, 128, 256) if m <= most))
    figures = []
    for count, runs in by_count.items():
        tokens, logit = map(float, np.mean(runs, axis=0))
        equal = float(np.interp(logit, curve, np.arange(1, most + 1))) if logit <= curve[-1] else None
        saves = None if equal is None else equal * tokens_per_sample / tokens
        figures.append(Rejection(count, reject, tokens, logit, equal, saves))
    return figures


@dataclass(frozen=True, slots=True)
class Users:
    """Callers at once against the same build serving them one after the other; seconds per run are medians.

    times, lowest, highest: how many times more runs per second at once, of turns taken in pairs: the median, the least
    and the greatest.
    """

    users: int
    n: int
    model: str
    alone: float
    together: float
    times: float
    lowest: float
    highest: float
    turns: int


def users(count: int = 8, n: int = 16, turns: int = 9, model: str = "embedded") -> Users:
    """Measures `count` callers of a model, each with its own prompt, best of n of 8 to 32 tokens."""
    from bon import api

    sampler = api.load(model)
    prompts = [OPENINGS[i % len(OPENINGS)].format(SUBJECTS[i % len(SUBJECTS)]) for i in range(count)]

    def run(seed: int) -> None:
        sampler.run(prompts[seed], n=n, seed=seed, min_tokens=8, max_tokens=32)

    with ThreadPoolExecutor(count) as pool:
        ways = (lambda: list(map(run, range(count))), lambda: list(pool.map(run, range(count))))
        pairs = [[_seconds(way) / count for way in ways] for _ in range(turns + 1)][1:]  # the first warms up
    alone, together = (statistics.median(times) for times in zip(*pairs, strict=True))
    times = [a / b for a, b in pairs]
    return Users(count, n, model, alone, together, statistics.median(times), min(times), max(times), turns)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Quality:
    """What a number type costs, against float32.

    kernel: of int8, with the largest number that rows are rounded to. kl: of its next-token distribution from
    float32's, nats per token. same_best: share of the prompts for which its scorer ranks the same of 16 candidates
    first. lost: float32 scores (of the embedded models logits) that going by its ranking loses, on average.
    """

    dtype: str
    kernel: str
    kl: float
    same_best: float
    lost: float


def quality(dtypes: Sequence[str] = ("bf16", "int8"), count: int = 50) -> list[Quality]:
    """Measures what number types cost, on best of 16 of the embedded models from `count` prompts."""
    import torch

    from bon import api
    from bon.engines.local.engine import LocalEngine
    from bon.models import loading, presets
    from bon.scorers.classifier import Classifier

    exact = api.load("embedded", unit="margin", dtype="float32")
    engine, spec = exact.engine, presets.find("embedded")
    assert isinstance(engine, LocalEngine)
    assert spec.scorer is not None  # of the embedded preset
    runs = [exact.run(prompt, n=16, seed=seed, unit="margin")
            for seed, prompt in enumerate(PROMPTS[:: len(PROMPTS) // count])]
    figures = []
    for dtype in dtypes:
        model = loading.causal(spec.model, "cpu", dtype)[0]
        classifier = Classifier(*loading.classifier(spec.scorer, "cpu", dtype))
        kl, tokens, same, lost = 0.0, 0, 0, 0.0
        for run in runs:
            scores = [c.score for c in run.candidates if c.score is not None]
            logits = classifier.logits([run.prompt + c.text for c in run.candidates[: len(scores)]])[0]
            first = int((logits[:, 1] - logits[:, 0]).argmax())
            same, lost = same + (first == 0), lost + scores[0] - scores[first]
            for c in run.candidates[:4]:
                ids = torch.tensor([[*engine.encode(Request(run.prompt)).ids, *c.token_ids]])
                with torch.inference_mode():
                    p, q = (m(input_ids=ids).logits[0].double().log_softmax(-1) for m in (engine.model, model))
                kl, tokens = kl + float((p.exp() * (p - q)).sum()), tokens + ids.shape[1]
        figures.append(Quality(dtype, _kernel(dtype), kl / tokens, same / len(runs), lost / len(runs)))
    return figures


def quality_of_generator(name: str, dtypes: Sequence[str] = ("bf16", "int8"), count: int = 50) -> list[Quality]:
    """`quality` of another model, which rates its own texts by their mean log-probability."""
    import torch

    from bon import api
    from bon.engines.local.engine import LocalEngine
    from bon.models import loading, presets

    exact = api.load(name, "logprob", dtype="float32")
    engine, place = exact.engine, presets.find(name).model
    assert isinstance(engine, LocalEngine)
    models = [loading.causal(place, "cpu", dtype)[0] for dtype in dtypes]
    runs = [exact.run(prompt, n=16, seed=seed, min_tokens=8, max_tokens=32)
            for seed, prompt in enumerate(PROMPTS[:: len(PROMPTS) // count])]
    kl, tokens = [0.0] * len(models), 0
    ratings: list[list[list[float]]] = [[] for _ in (engine.model, *models)]
    for run in runs:
        prompt = engine.encode(Request(run.prompt)).ids
        for by_run in ratings:
            by_run.append([])
        for c in run.candidates:
            ids = torch.tensor([[*prompt, *c.token_ids]])
            with torch.inference_mode():
                p, *others = (m(input_ids=ids).logits[0].float().log_softmax(-1) for m in (engine.model, *models))
            kl = [sum_ + float((p.exp() * (p - q)).sum()) for sum_, q in zip(kl, others, strict=True)]
            tokens += ids.shape[1]
            for by_run, logprobs in zip(ratings, (p, *others), strict=True):
                written = logprobs[len(prompt) - 1 : -1].gather(1, ids[0, len(prompt) :, None])
                by_run[-1].append(float(written.mean()) if len(written) else 0.0)
    figures = []
    for dtype, sum_, by_run in zip(dtypes, kl, ratings[1:], strict=True):
        firsts = [max(range(len(rated)), key=rated.__getitem__) for rated in by_run]
        lost = [max(rated) - rated[first] for rated, first in zip(ratings[0], firsts, strict=True)]
        same = sum(not difference for difference in lost)
        figures.append(Quality(dtype, _kernel(dtype), sum_ / tokens, same / len(runs), sum(lost) / len(runs)))
    return figures


def _kernel(dtype: str) -> str:
    """The kernel of int8 with the largest number that rows are rounded to; empty for other number types."""
    from bon.models.number_types import int8_products

    kernel = int8_products.kernel()
    return f"{kernel.name} {kernel.largest}" if kernel and dtype == "int8" else ""
