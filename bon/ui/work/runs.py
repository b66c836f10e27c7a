"""The runs of the page and the HTTP interface, by models of this process or, on ZeroGPU, in a fork."""

from collections.abc import Generator
from concurrent.futures import Future
from contextlib import closing

from bon import zerogpu
from bon.result import Result
from bon.settings import Request, Settings
from bon.ui.work import updates, zerogpu_runs
from bon.ui.work.model_loading import ModelLoader, is_ready
from bon.ui.work.priority import WaitingRuns
from bon.ui.work.speed_estimate import Speeds

#: Snapshots of a run (`updates.Snapshots`), before them ("loading", None) while the models are loaded.
LoadingSnapshots = Generator[tuple[str, Result | None], None, None]


class Runs:
    """Runs visitors' requests, ahead of the rows of batches, and records how long each took."""

    def __init__(self, models: ModelLoader, waiting: WaitingRuns, speeds: Speeds):
        self._models, self._waiting, self._speeds = models, waiting, speeds

    def snapshots(self, request: Request) -> LoadingSnapshots:
        """The run's phase and its result so far, about ten times a second; ends with ("done", the result).

        Closing the iterator stops the run within one step. Raises what loading and running raise.
        """
        run: LoadingSnapshots = zerogpu_runs.run(request) if zerogpu.is_on() else self._load_and_run(request)
        with self._waiting.count_run(), closing(run) as snapshots:
            for phase, result in snapshots:
                if phase == "done" and result:
                    self._speeds.record(result)
                yield phase, result

    def _load_and_run(self, request: Request) -> LoadingSnapshots:
        sampler = self._models.load(request.settings)
        while not is_ready(sampler):
            yield "loading", None
        yield from updates.run_snapshots(request, sampler.result())

    def rerank(self, result: Result, target: str | None, select: str, softness: float) -> Result:
        """The result of a run that has ended, ranked by another label or rule, with no new generation."""
        if zerogpu.is_on():
            return zerogpu_runs.rerank(result, target, select, softness)
        settings = Settings(model=result.settings.model, scorer=result.settings.scorer)
        return updates.rerank(self._models.load(settings).result(), result, target, select, softness)

    def warm_up(self) -> Future[None]:
        """Loads the page's model and runs it twice, so that the first visitor does not wait and sees an estimate.

        For a public page it first downloads what the page lists.
        """
        deployment = self._models.deployment
        of_page = Settings(model=deployment.model, scorer=deployment.scorer)
        listed = [Settings(model=model) for model in deployment.models]

        def run() -> None:
            if zerogpu.is_on():  # a GPU is lent to visitors alone
                return
            if deployment.public and not deployment.endpoint:
                self._models.fetch([of_page, *listed])
            sampler = self._models.load(of_page).result()
            for n in (2, 24):
                result = sampler.run("This movie", n=n, seed=0)
                self._speeds.record(result)
                if result.timing.total > 2:  # seconds: too slow to run again for no visitor
                    break

        return self._models.submit(run)
