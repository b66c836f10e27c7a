"""`serve`, which `python app.py` and `python -m bon page` call, serves the page."""

import os

from bon import zerogpu  # before any module that imports torch
from bon.ui import theme
from bon.ui.app_state import AppState
from bon.ui.hosting.deployment import Deployment
from bon.ui.page import build
from bon.ui.work import zerogpu_runs


def serve() -> None:
    """Serves the page until the process is interrupted. The page's model is loaded in the background.

    Address and port are those of GRADIO_SERVER_NAME and GRADIO_SERVER_PORT. Raises `InputError` for a value of an
    environment variable that cannot work.
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
