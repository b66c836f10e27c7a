"""The runs of page and endpoint: by models of this process, once they are loaded, or on ZeroGPU by borrowed ones."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing

from bon import zerogpu
from bon.result import Result
from bon.settings import Request
from bon.ui import deployment
from bon.ui.generate import updates
from bon.ui.work import model_loading, zerogpu_runs
from bon.ui.work.priority import guests
from bon.ui.work.speed_estimate import speeds


def snapshots(request: Request) -> Iterator[tuple[str, Result | None]]:
    """The run's phase and its result so far, about ten times a second; ends with ("done", the result).

    Closing it stops the work within one step.
    """
    run = zerogpu_runs.run(request) if zerogpu.is_on() else _loaded_and_run(request)
    with guests.one(), closing(run) as values:
        for phase, result in values:
            if phase == "done":
                speeds.note(result)
            yield phase, result


def _loaded_and_run(request: Request) -> Iterator[tuple[str, Result | None]]:
    settings = request.settings
    waiting = model_loading.load(settings.model, settings.scorer, target=settings.target, unit=settings.unit)
    while not model_loading.arrived(waiting):
        yield "loading", None
    yield from updates.shown(request, waiting.result())


def ranked(result: Result, target: str | None, select: str, softness: float) -> Result:
    """A run that has ended, ranked by another label or rule, with no new generation."""
    rules = (target, select, softness)
    if zerogpu.is_on():
        return zerogpu_runs.rerank(result, *rules)
    sampler = model_loading.load(result.settings.model, result.settings.scorer).result()
    return updates.reranked(sampler, result, *rules)


def warm_up() -> Future:
    """Loads the page's model and runs it twice, so that the first visitor waits for nothing and is told how long."""

    def run() -> None:
        if zerogpu.is_on():  # a GPU is lent to visitors alone
            return
        here = deployment.here()
        sampler = model_loading.load(here.model, here.scorer).result()
        for n in (2, 24):
            result = sampler.run("This movie", n=n, seed=0)
            speeds.note(result)
            if result.timing.total > 2:  # seconds: too slow to spend on nobody
                break

    return model_loading.later(run)
