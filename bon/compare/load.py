"""From names to a contest: loads what a comparison needs, and says what is missing in place of failing."""

import json
from pathlib import Path
from typing import Any

from bon import api
from bon.compare.compare_run import Contest
from bon.engines.local.engine import LocalEngine
from bon.errors import BonError
from bon.messages import say
from bon.models import loading, presets
from bon.settings import UNITS

#: What a tuned model's folder may say of its training: points of the figure.
CHECKPOINTS = "checkpoints.json"
NONE = "none"
WEAK = say("note.weak_scorer")


def contest(model: str = "embedded", tuned: str | None = None, scorer: str | None = None, judge: str | None = None,
            **kind: Any) -> Contest:
    """Loads base and scorer, and the tuned model and the judge, each by name or the preset's own (`none`: without).

    kind: target, unit, device, dtype, as `bon.load` takes them. A tuned model or judge that cannot be loaded is left
    out, with a note that says why. Raises `ModelError` or `InputError` where base or scorer cannot be loaded.
    """
    sampler, spec = api.load(model, scorer, **kind), presets.find(model, scorer)
    notes = [WEAK] if scorer == "weak" else []

    def other(missing: str, name: str | None, load):
        if name is None or name == NONE:
            return None
        try:
            return load(name)
        except BonError as error:
            notes.append(say(missing, error=error.message))
            return None

    where = {name: kind[name] for name in ("device", "dtype") if name in kind}
    second = other("note.tuned_model_missing", tuned or spec.tuned, lambda name: _engine(name, **where))
    watching = other("note.judge_missing", judge or spec.judge, lambda name: _judge(name, sampler.scorer, spec, where))
    points = _points(tuned or spec.tuned, sampler.scorer) if second else ()
    return Contest(sampler.engine, sampler.scorer, second, watching, points, tuple(notes))


def _engine(name: str, **where: Any) -> LocalEngine:
    place = presets.find(name).model
    return LocalEngine(*loading.causal(place, **where), name=Path(place).name if "/" in name else name)


def _judge(name: str, scorer: Any, spec: presets.Spec, where: dict[str, Any]) -> Any:
    same = {"target": scorer.target} if scorer.target else {}
    same |= {"unit": scorer.unit} if scorer.unit in UNITS else {}
    judge = api.as_scorer(presets.scorer_place(name, spec), **same, **where)
    judge.name = "judge" if name == spec.judge else name
    return judge


def _points(tuned: str | None, scorer: Any) -> tuple[dict[str, Any], ...]:
    """The checkpoints that a tuned model's folder tells of, in the scorer's unit."""
    file = Path(presets.find(tuned).model) / CHECKPOINTS
    if not file.is_file():
        return ()
    told = json.loads(file.read_text(encoding="utf-8"))
    if told["scorer"] != scorer.name or told["target"] != scorer.target:
        return ()
    return tuple({**point["kl"], **point[scorer.unit], "name": point["name"]} for point in told["points"])
