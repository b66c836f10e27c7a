"""The front door for Python: `best_of_n`, `stream`, `load` and the `Sampler` that it returns."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from bon import flow, loading, models
from bon.engines.local import LocalEngine
from bon.lengths import DrawLength
from bon.schema import Candidate, Event, Request, Result, Settings
from bon.scorers import Item, Scorer, SentimentScorer, as_scorer, checked_scores
from bon.scorers.classifier import Classifier

#: What a run takes besides the settings.
Messages = Sequence[Mapping[str, str]]


class Sampler:
    """A loaded model and scorer, ready for many prompts. Made by `bon.load`."""

    def __init__(self, engine, scorer: Scorer, model: str, scorer_name: str | None = None):
        self.engine, self.scorer = engine, scorer
        self._model, self._scorer_name = model, scorer_name

    def run(self, prompt: str | None = None, *, messages: Messages | None = None, unconditional: bool = False,
            length_sampler: DrawLength | None = None, **settings: Any) -> Result:
        """Best of n for one prompt (or chat), drained. Settings are those of `bon.Settings`.

        `length_sampler` draws each candidate's cap in place of min_tokens and max_tokens. Raises `InputError` for
        input that cannot work, `ScoringError` and `EngineError` where the work itself fails.
        """
        request, scorer = self._request(prompt, messages, unconditional, settings)
        return flow.run(request, self.engine, scorer, length_sampler)

    def stream(self, prompt: str | None = None, *, messages: Messages | None = None, unconditional: bool = False,
               length_sampler: DrawLength | None = None, **settings: Any) -> Iterator[Event]:
        """The same, as events; input is checked at once, before the first event is asked for.

        Closing the iterator stops the work within one step.
        """
        request, scorer = self._request(prompt, messages, unconditional, settings)
        return flow.stream(request, self.engine, scorer, length_sampler)

    def score(self, texts: Sequence[str]) -> list[float]:
        """The scores of complete texts, in the scorer's unit."""
        items = [Item("", Candidate(index=i, text=text)) for i, text in enumerate(texts)]
        return list(checked_scores(self.scorer, items).values) if items else []

    def _request(self, prompt, messages, unconditional, settings) -> tuple[Request, Scorer]:
        here = {"model": self._model, "scorer": self._scorer_name}
        for name in ("model", "scorer"):
            if settings.get(name) not in (None, here[name]):
                raise flow.InputError(name, f"This sampler is loaded with {here[name]}; use bon.load for another.")
        chosen = Settings.of({**settings, **here})
        if "unit" not in settings and isinstance(self.scorer, SentimentScorer):
            chosen = dataclasses.replace(chosen, unit=self.scorer.unit)
        request = Request(prompt, chosen, messages=messages, unconditional=unconditional)
        return request, self._scorer_for(chosen)

    def _scorer_for(self, settings: Settings) -> Scorer:
        """The scorer with the target and unit that a run asks for; its weights are shared."""
        scorer = self.scorer
        if not isinstance(scorer, SentimentScorer):
            if settings.target is not None:
                raise flow.InputError("target", f"{scorer.name} has no labels, so there is no target to choose.")
            return scorer
        target = settings.target or scorer.target
        if (target, settings.unit) == (scorer.target, scorer.unit):
            return scorer
        other = SentimentScorer(scorer.classifier, target, settings.unit, scorer.with_prompt)
        other.name = scorer.name
        return other


def load(model: str = "embedded", scorer: Any = None, *, target: str | None = None, unit: str = "probability",
         device: str | None = None, dtype: str | None = None) -> Sampler:
    """Loads a model and its scorer and returns a `Sampler`; what is loaded already is used again.

    model: a preset, folder or Hub id. scorer: the same, `logprob`, a transformers pipeline, any callable from a
    list of texts to numbers, or None for the model's own. device, dtype: None chooses the fastest. Raises
    `ModelError` where a model cannot be had, `InputError` for a target that the scorer does not have.
    """
    named = scorer if isinstance(scorer, str) else None
    spec = models.find(model, named)
    engine = LocalEngine(*loading.causal(spec.model, device, dtype), name=spec.name)
    source = spec.scorer if scorer is None or named else scorer
    made = as_scorer(_classifier(source, device) if isinstance(source, str) else source, target, unit)
    if isinstance(source, str):
        made.name = named or (f"{spec.name} sentiment" if spec.summary else source)
    return Sampler(engine, made, model, named)


def _classifier(place: str, device: str | None) -> Any:
    return place if place == "logprob" else Classifier(*loading.classifier(place, device))


def is_loaded(model: str = "embedded", scorer: str | None = None) -> bool:
    """Whether `load` would return without reading any weights."""
    spec = models.find(model, scorer)
    return all(place == "logprob" or loading.is_loaded(place) for place in (spec.model, spec.scorer))


def stream(prompt: str | None = None, *, model: str = "embedded", scorer: Any = None, device: str | None = None,
           dtype: str | None = None, **settings: Any) -> Iterator[Event]:
    """The events of best of n for one prompt: see `best_of_n`, `Sampler.stream` and `bon.schema`."""
    sampler = _loaded_for(prompt, settings, model, scorer, device, dtype)
    with closing(sampler.stream(prompt, **settings)) as events:
        yield from events


def best_of_n(prompt: str | None = None, *, model: str = "embedded", scorer: Any = None, device: str | None = None,
              dtype: str | None = None, **settings: Any) -> Result:
    """Continues `prompt` n times, scores every continuation and returns them ranked.

    Besides `Settings`' names (n, target, min_tokens, max_tokens, temperature, top_k, top_p, seed, unit, keep):
    messages in place of the prompt, unconditional, length_sampler (a callable without arguments), and a pipeline or
    callable as scorer. Raises `InputError`, `ModelError`, `ScoringError` or `EngineError`, all `bon.BonError`.
    """
    return _loaded_for(prompt, settings, model, scorer, device, dtype).run(prompt, **settings)


def _loaded_for(prompt, settings: dict[str, Any], model, scorer, device, dtype) -> Sampler:
    # What is wrong with the input is said before a model is loaded for it.
    plain = {k: v for k, v in settings.items() if k not in ("messages", "unconditional", "length_sampler")}
    named = scorer if isinstance(scorer, str) else None
    Request(prompt, Settings.of({**plain, "model": model, "scorer": named}), messages=settings.get("messages"),
            unconditional=settings.get("unconditional", False))
    unit = settings.get("unit", "probability")
    return load(model, scorer, target=settings.get("target"), unit=unit, device=device, dtype=dtype)


#: Anything that can rate texts.
ScorerLike = str | Callable[[list[str]], Sequence[float]] | Scorer
