"""The front door for Python: `best_of_n`, `stream`, `load` and the `Sampler` that it returns."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bon import flow
from bon.engines.base import Engine
from bon.engines.local.engine import LocalEngine
from bon.engines.server.engine import ServerEngine
from bon.errors import InputError
from bon.events import Event, Scored
from bon.messages import say
from bon.models import loading, presets
from bon.result import Candidate, Result
from bon.run_state import ranked_anew
from bon.scorers import Item, Scorer, SentimentScorer, WeightedScorer, as_scorer, score_items
from bon.scorers.weighted import CarriedScorer
from bon.settings import UNITS, Request, Settings
from bon.stats.lengths import DrawLength
from bon.stats.random_streams import selection_uniform

#: A chat.
Messages = Sequence[Mapping[str, str]]
#: Anything that rates texts: a name, a folder, a transformers pipeline, a callable on a list of texts, a scorer.
ScorerLike = str | os.PathLike | Callable[[list[str]], Sequence[float]] | Scorer


class Sampler:
    """A loaded model and scorer, ready for many prompts. Made by `bon.load`."""

    def __init__(self, engine: Engine, scorer: Scorer, model: str, scorer_name: str | None = None):
        self.engine, self.scorer = engine, scorer
        self._model, self._scorer_name = model, scorer_name

    def __repr__(self) -> str:
        return f"Sampler({self.engine.name}, scored by {self.scorer.name})"

    def run(self, prompt: str | None = None, *, messages: Messages | None = None, unconditional: bool = False,
            length_sampler: DrawLength | None = None, **settings: Any) -> Result:
        """Best of n for one prompt (or chat), drained. Settings are those of `bon.Settings`.

        `length_sampler` draws each candidate's cap in place of min_tokens and max_tokens. Raises `InputError` for
        input that cannot work, `ScoringError` and `EngineError` where the work itself fails.
        """
        request, scorer = self._request(prompt, messages, unconditional, length_sampler, settings)
        return flow.run(request, self.engine, scorer, length_sampler)

    def stream(self, prompt: str | None = None, *, messages: Messages | None = None, unconditional: bool = False,
               length_sampler: DrawLength | None = None, **settings: Any) -> Iterator[Event]:
        """The same, as events, which begin with `Started` and end with `Done`.

        Settings and prompt are checked at once, what depends on the model (does the prompt fit?) when the first
        event is asked for. Closing the iterator stops the work within one step.
        """
        request, scorer = self._request(prompt, messages, unconditional, length_sampler, settings)
        return flow.stream(request, self.engine, scorer, length_sampler)

    def score(self, texts: Sequence[str]) -> list[float]:
        """The scores of complete texts, in the scorer's unit.

        Raises `InputError` where the scorer rates only what the model itself has written (log-probability).
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InputError("texts", say("error.texts_no_list", example="['A fine film.']"))
        for scorer in (part for _, part in getattr(self.scorer, "parts", [(1.0, self.scorer)])):
            if scorer.name in presets.FREE:
                raise InputError("scorer", say("error.scorer_needs_run", scorer=scorer.name))
        items = [Item("", Candidate(index=i, text=text)) for i, text in enumerate(texts)]
        return list(score_items(self.scorer, items).values) if items else []

    def rerank(self, result: Result, *, target: str | None = None, select: str | None = None,
               softness: float | None = None) -> Result:
        """The candidates of a run ranked by another label or another rule of selection, with no new generation.

        target: the label to look for; where it is another than the run's, the candidates that have a score get a new
        one. select, softness: as in `bon.Settings`. None leaves each as it was. Raises `InputError` for a target that
        the scorer does not have.
        """
        given = {"target": target, "select": select, "softness": softness}
        settings = dataclasses.replace(result.settings, **{k: v for k, v in given.items() if v is not None})
        scores, label = self._rated_anew(result, settings)
        return ranked_anew(result, settings, selection_uniform(settings.seed, 0), scores, label)

    def _rated_anew(self, result: Result, settings: Settings) -> tuple[list[Scored], str | None]:
        """New scores where the settings look for another label than the result's, and the label of all scores."""
        rated = [c for c in result.candidates if c.score is not None]
        if not isinstance(self.scorer, WeightedScorer):
            scorer = self.scorer.for_target(settings.target, result.unit)
            return (_scored(scorer, rated, result) if scorer.target != result.target else []), scorer.target
        before, after = (self.scorer.for_target(chosen.target, None).parts for chosen in (result.settings, settings))
        changed = {now.name for (_, was), (_, now) in zip(before, after, strict=True) if was.target != now.target}
        if not changed:
            return [], None
        scorer = WeightedScorer([
            (weight, part if part.name in changed or any(part.name not in c.parts for c in rated)
             else CarriedScorer(part.name)) for weight, part in after
        ])
        # The sums of dropped candidates were never over the complete ones.
        groups = [[c for c in rated if (c.ended == "rejected") == dropped] for dropped in (False, True)]
        return [scored for some in groups for scored in _scored(scorer, some, result)], None

    def _request(self, prompt, messages, unconditional, length_sampler, settings) -> tuple[Request, Scorer]:
        here = {"model": self._model, "scorer": self._scorer_name}
        for name in ("model", "scorer"):
            if settings.get(name) not in (None, here[name]):
                raise InputError(name, say("error.sampler_has_another", value=here[name], name=name))
        chosen = Settings.of({**settings, **here})
        request = _checked(prompt, chosen, messages, unconditional, length_sampler)
        scorer = self.scorer.for_target(chosen.target, settings.get("unit"))
        if isinstance(scorer, SentimentScorer) and scorer.unit in UNITS:
            request = dataclasses.replace(request, settings=dataclasses.replace(chosen, unit=scorer.unit))
        return request, scorer


def load(model: str | os.PathLike = "embedded", scorer: ScorerLike | None = None, *, target: str | None = None,
         unit: str | None = None, device: str | None = None, dtype: str | None = None,
         endpoint: str | None = None) -> Sampler:
    """Loads a model and its scorer and returns a `Sampler`; what is loaded already is used again.

    model: a preset, folder or Hub id. scorer: the same, `logprob`, a transformers pipeline, any callable from a
    list of texts to numbers, or None for the model's own. target, unit: what the scorer looks for and in which
    unit (POSITIVE, probability), unless a run says otherwise. device, dtype: None chooses the fastest. endpoint: the
    address of an OpenAI-compatible server; `model` then names one of its models, by default the only one, and the
    scorer stays here. Raises `ModelError` where a model cannot be had, `InputError` for a target that the scorer does
    not have.
    """
    model, scorer = _place(model), _place(scorer)
    named = scorer if isinstance(scorer, str) else None
    Settings(model=model, scorer=named, target=target, unit=unit or "probability")  # before any weights are read
    spec = presets.find(model if endpoint is None else "embedded", named)
    if endpoint is None:
        engine = LocalEngine(*loading.causal(spec.model, device, dtype), name=spec.name)
    else:
        engine = ServerEngine.at(endpoint, model)
        model = engine.server.model
    source = spec.scorer if scorer is None or named else scorer
    made = as_scorer(source, target, unit or "probability", device=device, dtype=dtype)
    if isinstance(source, str) and not isinstance(made, WeightedScorer):
        made.name = named or (f"{spec.name} sentiment" if spec.summary else source)
    return Sampler(engine, made.for_target(target, unit), model, named)


def stream(prompt: str | None = None, *, model: str | os.PathLike = "embedded", scorer: ScorerLike | None = None,
           device: str | None = None, dtype: str | None = None, endpoint: str | None = None,
           **settings: Any) -> Iterator[Event]:
    """The events of best of n for one prompt: see `best_of_n`, `Sampler.stream` and `bon.events`."""
    return _loaded_for(prompt, settings, model, scorer, device, dtype, endpoint).stream(prompt, **settings)


def best_of_n(prompt: str | None = None, *, model: str | os.PathLike = "embedded", scorer: ScorerLike | None = None,
              device: str | None = None, dtype: str | None = None, endpoint: str | None = None,
              **settings: Any) -> Result:
    """Continues `prompt` n times, scores every continuation and returns them ranked.

    Besides `Settings`' names (n, target, min_tokens, max_tokens, temperature, top_k, top_p, seed, unit, keep,
    reject): messages in place of the prompt, unconditional, length_sampler (a callable without arguments), and a
    pipeline or callable as scorer. dtype: float32, bf16, float16, int8, or None for the fastest of the first three.
    endpoint: a server that has the model, see `load`.
    Raises `InputError`, `ModelError`, `ScoringError` or `EngineError`, all `bon.BonError`.
    """
    return _loaded_for(prompt, settings, model, scorer, device, dtype, endpoint).run(prompt, **settings)


def is_loaded(model: str = "embedded", scorer: str | None = None) -> bool:
    """Whether `load` would return without reading any weights."""
    spec = presets.find(model, scorer)
    parts = [part for _, part in presets.weighted(spec.scorer)] or [spec.scorer]
    places = [spec.model, *map(presets.scorer_place, parts)]
    return all(place in presets.FREE or loading.is_loaded(place) for place in places)


def _loaded_for(prompt, settings: dict[str, Any], model, scorer, device, dtype, endpoint) -> Sampler:
    # What is wrong with the input is said before a model is loaded for it.
    model, scorer = _place(model), _place(scorer)
    own = {name: settings.get(name) for name in ("messages", "unconditional", "length_sampler")}
    named = scorer if isinstance(scorer, str) else None
    plain = {name: value for name, value in settings.items() if name not in own}
    chosen = Settings.of({**plain, "model": model, "scorer": named})
    _checked(prompt, chosen, own["messages"], bool(own["unconditional"]), own["length_sampler"])
    return load(model, scorer, target=chosen.target, unit=plain.get("unit"), device=device, dtype=dtype,
                endpoint=endpoint)


def _checked(prompt, settings: Settings, messages, unconditional: bool, length_sampler) -> Request:
    if length_sampler is not None and not callable(length_sampler):
        raise InputError("length_sampler", say("error.length_sampler_not_callable", example="bon.LengthSampler(8, 33)"))
    return Request(prompt, settings, messages=messages, unconditional=unconditional)


def _scored(scorer: Scorer, candidates: Sequence[Candidate], result: Result) -> list[Scored]:
    if not candidates:
        return []
    scores = score_items(scorer, [Item(result.prompt, c, result.messages) for c in candidates])
    return list(map(Scored, (c.index for c in candidates), scores.values, scores.parts))


def _place(source: Any) -> Any:
    return os.fspath(source) if isinstance(source, os.PathLike) else source
