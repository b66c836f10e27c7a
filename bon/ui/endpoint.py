"""The endpoint `/best_of_n`, and the same as a tool for agents: the results of a run as dicts, as it grows."""

import functools
from collections import deque
from collections.abc import Iterator
from typing import Any

import gradio as gr

from bon.errors import BonError
from bon.report.json_text import json_text
from bon.settings import Request, Settings
from bon.ui import deployment
from bon.ui.error_log import UNEXPECTED, report
from bon.ui.work import runs


def best_of_n(
    prompt: str = "",
    n: int = 16,
    target: str | None = None,
    min_tokens: int = 8,
    max_tokens: int = 32,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int | None = None,
    model: str | None = None,
    scorer: str | None = None,
    keep: int | None = None,
    unit: str = "probability",
    reject: float = 0.0,
    select: str = "best",
    softness: float = 0.1,
    messages: list[dict[str, str]] | None = None,
    visitor: gr.Request | None = None,
) -> Iterator[dict]:
    """Continue the prompt n times, score every continuation, return them best first.

    The result grows while the run goes on; the last one is complete.

    Args:
        prompt: the beginning of a text, which the model continues; empty where messages are given.
        n: how many continuations, 1 to 4096.
        target: the scorer's label to look for the most of; none means POSITIVE.
        min_tokens: the least a continuation's cap can be; each cap is drawn between this and max_tokens.
        max_tokens: the most a continuation's cap can be.
        temperature: above 0; below 1 plays safe, above 1 takes risks.
        top_p: above 0, at most 1; 1 is off.
        top_k: 0 is off.
        seed: the same seed gives the same continuations; none draws a fresh one, which the result names.
        model: a preset, a folder or a Hub id; none is the page's own.
        scorer: a preset, a folder or a Hub id; none is the model's own.
        keep: how many of the ranked continuations to return; none is all.
        unit: of the score: probability, logit or margin.
        reject: 0, or the share of the unfinished continuations that is dropped at each checkpoint, below 1.
        select: who comes first: best, worst, or soft, a draw that favours high scores.
        softness: of that draw, in the score's unit; small is nearly the best, large nearly one plain sample.
        messages: a chat for a model that has a chat template: a list of objects with role (system, user, assistant)
            and content; the model answers the last one.

    Returns:
        The result so far: prompt, settings, candidates (best first), stats, timing, notes.
    """
    named = {name: value for name, value in locals().items() if name not in ("prompt", "messages", "visitor")}
    try:
        settings = Settings.of({**named, "model": model or deployment.here().model})
        request = Request(prompt if prompt or messages is None else None, settings, messages)
        deployment.here().check(request)
        deployment.here().admit(visitor)
        for _, result in runs.snapshots(request):
            if result is not None:
                yield result.to_dict()
    except BonError as error:
        raise gr.Error(str(error), print_exception=False) from error
    except Exception as error:
        report("A run of the endpoint failed", error)
        raise gr.Error(UNEXPECTED, print_exception=False) from None


@functools.wraps(best_of_n)
def tool(*given: Any, **named: Any) -> str:
    """`best_of_n` under the same name for agents, which read results as text: the last one, as JSON."""
    return json_text(deque(best_of_n(*given, **named), maxlen=1).pop())


tool.__annotations__ = {**best_of_n.__annotations__, "return": str}
