"""Serves the page: `python app.py`. Address and port follow GRADIO_SERVER_NAME and _PORT."""

import sys

from bon.errors import BonError
from bon.ui import launch

if __name__ == "__main__":
    try:
        launch.serve()
    except BonError as error:
        sys.exit(f"bon: {error}")
