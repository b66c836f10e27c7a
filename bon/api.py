"""The front door for Python: `best_of_n`, `stream`, `load` and the `Sampler` that it returns."""

import dataclasses
import os
from collections.abc import Callable, Generator, Sequence
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
from bon.run_state import rerank
from bon.scorers.base import Item, Scorer, score_items
from bon.scorers.factory import as_scorer
from bon.scorers.sentiment import SentimentScorer
from bon.scorers.weighted import CarriedScorer, WeightedScorer
from bon.settings import UNITS, Messages, Request, Settings
from bon.stats.lengths import DrawLength
from bon.stats.random_streams import selection_uniform

#: Anything that rates texts: a name, a folder, a transformers pipeline, a callable on a list of texts, a scorer.
ScorerLike = str | os.PathLike[str] | Callable[[list[str]], Sequence[float]] | Scorer


class Sampler:
    """A loaded model and scorer, ready for many prompts. Made by `bon.load`."""

    engine: Engine
    scorer: Scorer

    def __init__(self, engine: Engine, scorer: Scorer, model: str, scorer_name: str | None = None,
                 default_scorer: str | None = None, asked_model: str | None = None):
        self.engine, self.scorer = engine, scorer
        self._model, self._scorer_name, self._default_scorer = model, scorer_name, default_scorer
        self._models = {None, model, asked_model}

    def __repr__(self) -> str:
        return f"Sampler({self.engine.name}, scored by {self.scorer.name})"

    def run(self, prompt: str | None = None, *, messages: Messages | None = None, unconditional: bool = False,
            length_sampler: DrawLength | None = None, **settings: Any) -> Result:
        """Best of n for one prompt (or chat), drained. Settings are those of `bon.Settings`.

        `length_sampler` draws each candidate's cap in place of min_tokens and max_tokens. Raises `InputError` for
        input that cannot work, `ScoringError` and `EngineError` where the work itself fails.
        """
        return flow.last_result(self.stream(
            prompt, messages=messages, unconditional=unconditional, length_sampler=length_sampler, **settings
        ))

    def stream(self, prompt: str | None = None, *, messages: Messages | None = None, unconditional: bool = False,
               length_sampler: DrawLength | None = None, **settings: Any) -> Generator[Event, None, None]:
        """The same, as events, which begin with `Started` and end with `Done`.

        Settings and prompt are checked at once, what depends on the model (does the prompt fit?) when the first
        event is asked for. Closing the iterator stops the work within one step.
        """
        _check_length_sampler(length_sampler)
        return self.stream_request(
            Request(prompt, Settings.of(settings), messages, unconditional=unconditional), length_sampler
        )

    def stream_request(
        self, request: Request, length_sampler: DrawLength | None = None, live: bool = False
    ) -> Generator[Event, None, None]:
        """The events of a request: `stream` for those who have made and hence checked one.

        live: whether a server, too, is to send every text as it grows.

        Raises `InputError` where the request names another model or scorer than this sampler's, or a target that its
        scorer does not have.
        """
        settings, here = request.settings, {"model": self._model, "scorer": self._scorer_name}
        if settings.model not in self._models:
            raise InputError("model", say("error.sampler_has_another", value=self._model, name="model"))
        if settings.scorer not in (None, self._scorer_name, self._default_scorer):
            loaded = self._scorer_name or self.scorer.name
            raise InputError("scorer", say("error.sampler_has_another", value=loaded, name="scorer"))
        scorer = self.scorer.for_target(settings.target, settings.unit)
        if isinstance(scorer, SentimentScorer) and scorer.unit in UNITS:
            here["unit"] = scorer.unit
        # A preset with several sources is named with the one that is here.
        named = dataclasses.replace(settings, model=None).named(**here)
        return flow.stream(request.with_settings(named), self.engine, scorer, length_sampler, live)

    def score(self, texts: Sequence[str]) -> list[float]:
        """The scores of complete texts, in the scorer's unit.

        Raises `InputError` where the scorer rates only what the model itself has written (log-probability).
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InputError("texts", say("error.texts_no_list", example="['A fine film.']"))
        self.scorer.check_texts_suffice()
        items = [Item("", Candidate(index=i, text=text)) for i, text in enumerate(texts)]
        return list(score_items(self.scorer, items).values) if items else []

    def rerank(self, result: Result, *, target: str | None = None, select: str | None = None,
               softness: float | None = None) -> Result:
        """The candidates of a run ranked by another label or another rule of selection, with no new generation.

        target: the label to look for; where it is another than the run's, the candidates that have a score get a new
        one. select, softness: as in `bon.Settings`. None leaves each as it was. Raises `InputError` for a target that
        the scorer does not have.
        """
        before = result.settings
        settings = dataclasses.replace(
            before, target=before.target if target is None else target,
            select=before.select if select is None else select,
            softness=before.softness if softness is None else softness,
        )
        scores, label = self._scores_for(result, settings)
        return rerank(result, settings, selection_uniform(settings.seed or 0, 0), scores, label)

    def _scores_for(self, result: Result, settings: Settings) -> tuple[list[Scored], str | None]:
        """New scores where the settings look for another label than the result's, and the label of all scores."""
        rated = [c for c in result.candidates if c.score is not None]
        if not isinstance(self.scorer, WeightedScorer):
            scorer = self.scorer.for_target(settings.target, result.unit)
            return (_scored(scorer, rated, result) if scorer.target != result.target else []), scorer.target
        parts_before, parts = (self.scorer.for_target(s.target, None).parts for s in (result.settings, settings))
        changed = {new.name for (_, old), (_, new) in zip(parts_before, parts, strict=True) if old.target != new.target}
        if not changed:
            return [], None
        scorer = WeightedScorer([
            (weight, part if part.name in changed or any(part.name not in c.parts for c in rated)
             else CarriedScorer(part.name)) for weight, part in parts
        ])
        # Dropped candidates were scored apart from the complete ones.
        groups = [[c for c in rated if (c.ended == "rejected") == dropped] for dropped in (False, True)]
        return [scored for group in groups for scored in _scored(scorer, group, result)], None


def load(model: str | os.PathLike[str] = "embedded", scorer: ScorerLike | None = None, *, target: str | None = None,
         unit: str | None = None, device: str | None = None, dtype: str | None = None,
         endpoint: str | None = None) -> Sampler:
    """Loads a model and its scorer and returns a `Sampler`; what is loaded already is used again.

    model: a preset, folder, Hub id or GGUF file; a folder or repository may hold a LoRA adapter. scorer: the same but
    for GGUF files and adapters, `logprob`, a transformers pipeline, any callable from a list of texts to numbers, or
    None for the model's own. target, unit: what the scorer looks for and in which unit (POSITIVE, probability), unless
    a run says otherwise. device, dtype: None chooses the fastest. endpoint: the address of an OpenAI-compatible server;
    `model` then names one of its models, by default the only one, and the scorer stays here. Raises `ModelError` where
    a model cannot be had, `InputError` for a target that the scorer does not have.
    """
    name, scorer_name = os.fspath(model) if isinstance(model, os.PathLike) else model, _name(scorer)
    settings = Settings(model=name, scorer=scorer_name, target=target, unit=unit)
    return load_for(settings, None if scorer_name else scorer, device=device, dtype=dtype, endpoint=endpoint)


def load_for(settings: Settings, scorer: ScorerLike | None = None, *, device: str | None = None,
             dtype: str | None = None, endpoint: str | None = None) -> Sampler:
    """`load` for settings that are checked: the sampler of their model, scorer, target and unit.

    scorer: one that has no name, in place of theirs.
    """
    model, scorer_name, target, unit = settings.model_name, settings.scorer, settings.target, settings.unit
    asked_model = model
    spec = presets.find(model if endpoint is None else "embedded", scorer_name)
    engine: Engine
    if endpoint is None:
        generator, tokenizer = loading.causal(spec.model, device, dtype)
        name = loading.name_with_base(spec.source or spec.name, generator)
        engine = local_engine = LocalEngine(generator, tokenizer, name=name, notes=_notes(spec))
        local_engine.defaults = dataclasses.replace(local_engine.defaults, preset=spec.settings)
        model = spec.exact_name
    else:
        engine = server_engine = ServerEngine.at(endpoint, model)
        model = server_engine.server.model
    loaded = as_scorer(scorer or spec.scorer, target, unit or "probability", device=device, dtype=dtype)
    of_preset = bool(spec.summary) and spec.scorer not in presets.FREE
    own_name = spec.name if of_preset else spec.scorer
    if scorer is None and not isinstance(loaded, WeightedScorer):
        loaded.name = scorer_name or (f"{own_name} sentiment" if of_preset else own_name)
    if endpoint is not None and loaded.needs_certainty:
        raise InputError("scorer", say("error.server_without_certainty"))
    default_scorer = None if scorer or scorer_name else own_name
    return Sampler(engine, loaded.for_target(target, unit), model, scorer_name, default_scorer, asked_model)


def _notes(spec: presets.Spec) -> tuple[str, ...]:
    """What the reader of a result should know of the source that a preset has here."""
    return (say("note.other_source", missing=spec.missing_source, source=spec.source),) if spec.missing_source else ()


def stream(prompt: str | None = None, *, model: str | os.PathLike[str] = "embedded", scorer: ScorerLike | None = None,
           device: str | None = None, dtype: str | None = None, endpoint: str | None = None,
           messages: Messages | None = None, unconditional: bool = False, length_sampler: DrawLength | None = None,
           **settings: Any) -> Generator[Event, None, None]:
    """The events of best of n for one prompt: see `best_of_n`, `Sampler.stream` and `bon.events`."""
    # The input is checked before a model is loaded for it.
    name, scorer_name = os.fspath(model) if isinstance(model, os.PathLike) else model, _name(scorer)
    # On a server, "embedded" stands for its only model, whose name the sampler knows.
    names = {"model": None if endpoint else name, "scorer": scorer_name}
    request = Request(prompt, Settings.of({**settings, **names}), messages, unconditional=unconditional)
    _check_length_sampler(length_sampler)
    to_load, unnamed_scorer = request.settings.filled(model=name), None if scorer_name else scorer
    sampler = load_for(to_load, unnamed_scorer, device=device, dtype=dtype, endpoint=endpoint)
    return sampler.stream_request(request, length_sampler)


def best_of_n(
    prompt: str | None = None, *, model: str | os.PathLike[str] = "embedded", scorer: ScorerLike | None = None,
    device: str | None = None, dtype: str | None = None, endpoint: str | None = None, messages: Messages | None = None,
    unconditional: bool = False, length_sampler: DrawLength | None = None, **settings: Any,
) -> Result:
    """Continues `prompt` n times, scores every continuation and returns them ranked.

    settings: the fields of `bon.Settings`. scorer: also a pipeline or a callable. messages: a chat in place of the
    prompt. unconditional: samples from the model's start token, with no prompt. length_sampler: a callable without
    arguments that draws each candidate's cap. dtype: float32, bf16, float16, int8, or None for the default of
    the processor. endpoint: a server that has the model, see `load`.
    Raises `InputError`, `ModelError`, `ScoringError` or `EngineError`, all `bon.BonError`.
    """
    return flow.last_result(stream(
        prompt, model=model, scorer=scorer, device=device, dtype=dtype, endpoint=endpoint, messages=messages,
        unconditional=unconditional, length_sampler=length_sampler, **settings,
    ))


def _check_length_sampler(length_sampler: DrawLength | None) -> None:
    if length_sampler is not None and not callable(length_sampler):
        message = say("error.length_sampler_not_callable", example="bon.LengthSampler(8, 33)")
        raise InputError("length_sampler", message)


def _scored(scorer: Scorer, candidates: Sequence[Candidate], result: Result) -> list[Scored]:
    if not candidates:
        return []
    scores = score_items(scorer, [Item(result.prompt, c, result.messages) for c in candidates])
    return list(map(Scored, (c.index for c in candidates), scores.values, scores.parts))


def _name(scorer: ScorerLike | None) -> str | None:
    """The name or path of a scorer; None where it is no text."""
    return os.fspath(scorer) if isinstance(scorer, str | os.PathLike) else None
