"""The command line: `python -m bon`."""
