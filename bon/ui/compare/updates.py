"""The views of a comparison that goes on. In this process or, on ZeroGPU, in a fork (`bon.ui.work.zerogpu_runs`)."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from bon.settings import Settings
from bon.ui.compare.comparison_view import ComparisonProgress
from bon.ui.view_types import View
from bon.ui.work.updates import EVERY

if TYPE_CHECKING:
    from bon.compare.comparison_run import ComparisonModels


def views(
    prompts: list[str], models: "ComparisonModels", settings: Settings, progress: ComparisonProgress
) -> Iterator[View]:
    """The views of a comparison of loaded models; `progress` takes its events in."""
    from bon.compare import comparison_run

    last = 0.0
    with closing(comparison_run.stream(prompts, models, settings)) as events:
        for event in events:
            progress.add(event)
            if time.monotonic() - last >= EVERY:
                yield progress.view()
                last = time.monotonic()
    yield progress.view("done")
