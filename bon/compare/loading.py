"""Loads the models of a comparison by their names; notes which of the optional ones are missing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict, TypeVar

from bon import api
from bon.compare.comparison_run import ComparisonModels
from bon.compare.result import Point
from bon.engines.local.engine import LocalEngine
from bon.errors import BonError
from bon.messages import say
from bon.models import loading, presets
from bon.scorers.base import Scorer
from bon.settings import UNITS

#: The file in a tuned model's folder that holds the figures of its training's checkpoints.
CHECKPOINTS = "checkpoints.json"
NONE = "none"
WEAK = say("note.weak_scorer")

Loaded = TypeVar("Loaded")


class Device(TypedDict, total=False):
    """Where models are loaded and in which number type, as `bon.load` takes them."""

    device: str | None
    dtype: str | None


def load_models(
    model: str = "embedded", tuned: str | None = None, scorer: str | None = None, judge: str | None = None, *,
    target: str | None = None, unit: str | None = None, device: str | None = None, dtype: str | None = None,
) -> ComparisonModels:
    """Loads base and scorer, and the tuned model and the judge, each by name or the preset's own (`none`: without).

    target, unit, device, dtype: as `bon.load` takes them. A tuned model or judge that cannot be loaded is left out,
    with a note that says why. Raises `ModelError` or `InputError` where base or scorer cannot be loaded.
    """
    where = Device(device=device, dtype=dtype)
    sampler, spec = api.load(model, scorer, target=target, unit=unit, **where), presets.find(model, scorer)
    notes: list[str] = [WEAK] if scorer == "weak" else []

    def load_or_note(key: str, name: str | None, load: Callable[[str], Loaded]) -> Loaded | None:
        if name is None or name == NONE:
            return None
        try:
            return load(name)
        except BonError as error:
            notes.append(say(key, error=error.message))
            return None

    tuned_name = tuned or spec.tuned
    tuned_engine = load_or_note("note.tuned_model_missing", tuned_name, lambda name: _engine(name, where))
    judge_scorer = load_or_note("note.judge_missing", judge or spec.judge,
                                lambda name: _judge(name, sampler.scorer, spec, where))
    checkpoints = _checkpoints(tuned_name, sampler.scorer) if tuned_engine and tuned_name else ()
    return ComparisonModels(sampler.engine, sampler.scorer, tuned_engine, judge_scorer, checkpoints, tuple(notes))


def _engine(name: str, where: Device) -> LocalEngine:
    spec = presets.find(name)
    short_name = spec.source or (Path(spec.model).name if "/" in name else name)
    model, tokenizer = loading.causal(spec.model, **where)
    return LocalEngine(model, tokenizer, name=loading.name_with_base(short_name, model))


def _judge(name: str, scorer: Scorer, spec: presets.Spec, where: Device) -> Scorer:
    """The judge, with the scorer's label and unit where it has any, so that their scores can be compared."""
    judge = api.as_scorer(
        presets.scorer_place(name, spec), scorer.target, scorer.unit if scorer.unit in UNITS else "probability",
        **where,
    )
    judge.name = "judge" if name == spec.judge else name
    return judge


def _checkpoints(tuned: str, scorer: Scorer) -> tuple[Point, ...]:
    """The checkpoints in a tuned model's folder, where this scorer measured them, in its unit."""
    file = Path(presets.find(tuned).model) / CHECKPOINTS
    if not file.is_file():
        return ()
    measured = json.loads(file.read_text(encoding="utf-8"))
    if measured["scorer"] != scorer.name or measured["target"] != scorer.target:
        return ()
    return tuple(_checkpoint(point["name"], point["kl"], point[scorer.unit]) for point in measured["points"])


def _checkpoint(name: str, kl: dict[str, float], score: dict[str, float]) -> Point:
    return Point(kl=kl["kl"], kl_error=kl.get("kl_error"), score=score["score"], low=score.get("low"),
                 high=score.get("high"), name=name)
