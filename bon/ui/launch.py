"""`serve`, which `python app.py` and `python -m bon page` call, serves the page."""

import os
import threading
import time
from collections.abc import Mapping

from bon import zerogpu  # before any module that imports torch
from bon.messages import say
from bon.ui import theme
from bon.ui.app_state import AppState
from bon.ui.batch.jobs import DAY, MONTH
from bon.ui.hosting.connections import raise_handle_limit
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.error_log import log
from bon.ui.page import build
from bon.ui.work import zerogpu_runs
from bon.ui.work.memory import give_back_memory_at_rest


def serve() -> None:
    """Serves the page until the process is interrupted. The page's model is loaded in the background.

    Address and port are those of GRADIO_SERVER_NAME and GRADIO_SERVER_PORT. Raises `InputError` for a value of an
    environment variable that cannot work.
    """
    state = AppState(Deployment.of(os.environ))
    raise_handle_limit()
    page = build(state)
    if zerogpu.is_on():
        zerogpu_runs.load_all(state.deployment)
    if is_open_to_strangers(state.deployment, os.environ):
        log.warning("%s", say("warning.open_page", variable="BON_PASSWORD", public="BON_PUBLIC=1"))
    page.launch(**theme.launch_options(state), prevent_thread_lock=True)
    state.runs.warm_up()
    give_back_memory_at_rest(state.waiting)
    threading.Thread(target=_sweep_hourly, args=(state,), name="sweep", daemon=True).start()
    page.block_thread()
    state.batches.close()


def _sweep_hourly(state: AppState) -> None:
    """Deletes old batches and uploads now and every hour."""
    while True:
        state.batches.sweep(DAY if state.deployment.public else MONTH)
        state.uploads.sweep()
        time.sleep(3600)


def is_open_to_strangers(deployment: Deployment, environment: Mapping[str, str]) -> bool:
    """Whether others than this machine's users reach a page without limits and without a password.

    A Space answers to every address, and is private or not by its own settings.
    """
    name = environment.get("GRADIO_SERVER_NAME", "localhost").strip("[]")
    is_shared = environment.get("GRADIO_SHARE", "").lower() == "true"
    is_local = (name == "localhost" or name.startswith("127.") or name == "::1") and not is_shared
    return not (is_local or deployment.public or deployment.password or "SPACE_ID" in environment)
