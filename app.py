"""Builds the page and launches it: `python app.py`. Address and port follow GRADIO_SERVER_NAME and _PORT."""

import sys

from bon import zerogpu  # before all that imports torch
from bon.errors import BonError
from bon.ui import theme
from bon.ui.batch import batch_page
from bon.ui.page_layout import build
from bon.ui.work import runs, zerogpu_runs


def main() -> None:
    """Serves the page; the model is read meanwhile, so that the first visitor need not wait for it."""
    try:
        page = build()
        if zerogpu.is_on():
            zerogpu_runs.load_all()
    except BonError as error:
        sys.exit(f"bon: {error}")
    page.launch(**theme.launch_options(), prevent_thread_lock=True)
    runs.warm_up()
    batch_page.tend()
    page.block_thread()
    batch_page.batches.close()


if __name__ == "__main__":
    main()
