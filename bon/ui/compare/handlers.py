"""`CompareHandlers`: what the Compare tab's buttons call."""

from contextlib import closing
from typing import Any

import gradio as gr

from bon import zerogpu
from bon.compare.prompts import prompts_of_text, shipped_prompts
from bon.ui.app_state import AppState
from bon.ui.compare import comparison_view, updates
from bon.ui.generate.form_values import FIELDS, settings_of
from bon.ui.hosting.error_log import explain
from bon.ui.view_types import Views, failed_view
from bon.ui.work import zerogpu_runs
from bon.ui.work.model_loading import is_ready


class CompareHandlers:
    """The Compare tab's events."""

    def __init__(self, state: AppState):
        self._state = state

    def compare(self, visitor: gr.Request, text: str, n: Any, *values: Any) -> Views:
        """The views of a comparison over the lines of `text`, or over the built-in prompts where it is blank.

        values: of the form's `FIELDS`, whose settings apply here too.
        """
        state, progress = self._state, None
        try:
            settings = settings_of(dict(zip(FIELDS, values, strict=True)) | {"n": n}, state.deployment)
            prompts = prompts_of_text(text) if (text or "").strip() else shipped_prompts()
            state.deployment.check_prompts(prompts, settings)
            state.deployment.admit(visitor, len(prompts))
            if zerogpu.is_on():
                yield from zerogpu_runs.compare(prompts, settings)
                return
            models = state.models.submit(state.models.comparison_models, settings)
            while not is_ready(models):
                yield comparison_view.loading_view()
            progress = comparison_view.ComparisonProgress(len(prompts))
            views = updates.views(prompts, models.result(), settings, progress)
            with state.waiting.count_run(), closing(views):
                yield from views
        except Exception as error:
            message = explain("A comparison failed", error)
            yield progress.view("failed", message) if progress else failed_view(message)
