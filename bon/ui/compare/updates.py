"""The views of a comparison under way, in this process or, on ZeroGPU, in a fork (`bon.ui.work.zerogpu_runs`)."""

import time
from contextlib import closing
from typing import TYPE_CHECKING

from bon.settings import Settings
from bon.ui.compare.comparison_view import ComparisonProgress
from bon.ui.view_types import Views
from bon.ui.work.updates import UPDATE_SECONDS

if TYPE_CHECKING:
    from bon.compare.comparison_run import ComparisonModels


def views(
    prompts: list[str], models: "ComparisonModels", settings: Settings, progress: ComparisonProgress
) -> Views:
    """The views of a comparison of loaded models, about ten a second. progress: the state to which events are added."""
    from bon.compare import comparison_run

    last = 0.0
    with closing(comparison_run.stream(prompts, models, settings)) as events:
        for event in events:
            progress.add(event)
            if time.monotonic() - last >= UPDATE_SECONDS:
                yield progress.view()
                last = time.monotonic()
    yield progress.view("done")
