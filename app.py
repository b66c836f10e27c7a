"""Serves the page: `python app.py`. Address and port follow GRADIO_SERVER_NAME and _PORT."""

import gc
import sys

from bon import configure_threads
from bon.cli.output import print_to_stderr
from bon.errors import BonError

configure_threads()  # before torch is imported, which the package `spaces` does too

gc.disable()  # a search for garbage finds none while modules are imported, and takes a tenth of their time

from bon.ui import launch  # noqa: E402

gc.enable()

if __name__ == "__main__":
    try:
        launch.serve()
    except BonError as error:
        print_to_stderr(str(error))
        sys.exit(1)
