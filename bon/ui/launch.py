"""Launches the page: what `python app.py` and `python -m bon page` run."""

from bon import zerogpu  # before all that imports torch
from bon.ui import theme
from bon.ui.batch import batch_page
from bon.ui.page_layout import build
from bon.ui.work import runs, zerogpu_runs


def serve() -> None:
    """Serves the page until the process is told to stop. Models are loaded meanwhile, before the first visitor comes.

    Address and port are those of GRADIO_SERVER_NAME and GRADIO_SERVER_PORT. Raises a `BonError` where the environment
    asks for what cannot be.
    """
    page = build()
    if zerogpu.is_on():
        zerogpu_runs.load_all()
    page.launch(**theme.launch_options(), prevent_thread_lock=True)
    runs.warm_up()
    batch_page.tend()
    page.block_thread()
    batch_page.batches.close()
