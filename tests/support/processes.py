"""Processes that tests start."""

import functools
import signal

#: As `preexec_fn`: the child can be stopped by Ctrl+C, which shells have their background jobs ignore.
HEED = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
