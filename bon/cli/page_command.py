"""`python -m bon page`: the page in a browser."""

import argparse

from bon.cli.options import PROGRAM, Parser


def parser() -> Parser:
    """The command's options."""
    return Parser(
        prog=f"{PROGRAM} page", allow_abbrev=False,
        description="Serves the page in a browser until Ctrl+C. The environment variables GRADIO_SERVER_NAME and "
        "GRADIO_SERVER_PORT set address and port (127.0.0.1, and the first free port from 7860).",
    )


def run(args: argparse.Namespace) -> int:
    """Serves the page until the process is told to stop."""
    from bon.ui.launch import serve

    serve()
    return 0
