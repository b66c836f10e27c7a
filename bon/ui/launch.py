"""Launches the page: what `python app.py` and `python -m bon page` run."""

import os

from bon import zerogpu  # before all that imports torch
from bon.ui import theme
from bon.ui.app_state import AppState
from bon.ui.hosting.deployment import Deployment
from bon.ui.page import build
from bon.ui.work import zerogpu_runs


def serve() -> None:
    """Serves the page until the process is told to stop. Models are loaded meanwhile, before the first visitor comes.

    Address and port are those of GRADIO_SERVER_NAME and GRADIO_SERVER_PORT. Raises a `BonError` where the environment
    asks for what cannot be.
    """
    state = AppState(Deployment.of(os.environ))
    page = build(state)
    if zerogpu.is_on():
        zerogpu_runs.load_all(state.deployment)
    page.launch(**theme.launch_options(state.deployment.public), prevent_thread_lock=True)
    state.runs.warm_up()
    state.batches.sweep_hourly(state.deployment.public)
    page.block_thread()
    state.batches.close()
