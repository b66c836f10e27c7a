"""`CompareHandlers`: what the Compare tab's buttons call."""

import dataclasses
from contextlib import closing
from typing import Any

import gradio as gr

from bon import zerogpu
from bon.compare.prompts import prompts_of_text, shipped_prompts
from bon.errors import InputError
from bon.models import presets
from bon.settings import Settings
from bon.ui.app_state import AppState
from bon.ui.compare import comparison_view, updates
from bon.ui.generate.form_values import FIELDS, settings_of
from bon.ui.hosting.error_log import explain
from bon.ui.view_types import Views, failed_view
from bon.ui.work import zerogpu_runs
from bon.ui.work.model_loading import is_ready
from bon.ui.work.speed_estimate import format_estimate


class CompareHandlers:
    """The Compare tab's events."""

    def __init__(self, state: AppState):
        self._state = state

    def estimate(self, text: str, n: Any, min_tokens: Any, max_tokens: Any, model: str, scorer: str | None) -> str:
        """The text of how long a comparison will take, from the runs so far; empty where that is not known.

        It counts the runs of each prompt: N candidates and two single ones of the base, N and a single one of the tuned
        model where there is one, as if it were as fast.
        """
        try:
            prompts = _prompts(text)
            settings = Settings(n=n, min_tokens=min_tokens, max_tokens=max_tokens, model=model, scorer=scorer or None)
        except InputError:
            return ""
        of_n, of_one = (self._state.speeds.seconds(dataclasses.replace(settings, n=count)) for count in (settings.n, 1))
        if of_n is None or of_one is None:
            return ""
        of_base, of_tuned = of_n + 2 * of_one, of_n + of_one
        preset = presets.preset(settings.model_name)
        has_tuned = preset is not None and preset.tuned is not None
        return format_estimate(len(prompts) * (of_base + of_tuned * has_tuned))

    def compare(self, visitor: gr.Request, text: str, n: Any, *values: Any) -> Views:
        """The views of a comparison over the lines of `text`, or over the built-in prompts where it is blank.

        values: of the form's `FIELDS`, whose settings apply here too.
        """
        state, progress = self._state, None
        try:
            settings = settings_of(dict(zip(FIELDS, values, strict=True)) | {"n": n}, state.deployment)
            prompts = _prompts(text)
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


def _prompts(text: str | None) -> list[str]:
    """The prompts of a comparison: the lines of the text, or the built-in ones where it is blank."""
    return prompts_of_text(text) if text and text.strip() else shipped_prompts()
