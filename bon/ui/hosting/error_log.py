"""The server's log of failures, without the texts that visitors type or models write."""

import errno
import linecache
import logging
import math
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TextIO

from gradio import mcp, queueing, routes

from bon.errors import BonError
from bon.messages import say

#: Loggers of servers, which log values of visitors, such as the names of tools, and errors with their messages.
SERVERS = (
    "uvicorn.error", "asyncio", "mcp.server.lowlevel.server", "mcp.server.sse", "mcp.server.streamable_http",
    "mcp.server.streamable_http_manager", "mcp.server.transport_security", "mcp.shared.session",
)
#: The most lines of a failure's tracebacks, of which the last ones are logged.
TRAIL_LINES = 20

#: The message that a visitor gets of a failure that `log_failure` logs.
UNEXPECTED = say("error.unexpected")

#: The errors of a disk that takes nothing more.
NO_WRITING = {getattr(errno, name) for name in ("EDQUOT", "EIO", "ENOSPC", "EROFS") if hasattr(errno, name)}

log: logging.Logger = logging.getLogger("bon.ui")

#: The seconds for which a line that was logged is not logged again, and the most lines that are remembered.
REPEAT_SECONDS, LINES_REMEMBERED = 1.0, 1000


def log_failure(failure: str, error: BaseException | None) -> None:
    """Logs a failure with the types and tracebacks of the error and of its causes.

    failure: a sentence without its full stop. The errors' messages are left out, since libraries quote the values that
    they were called with.
    """
    log.error("%s.\n%s", failure, _tracebacks(error))


def explain(failure: str, error: Exception) -> str:
    """The message of an error for a visitor; what is not the visitor's doing is logged.

    failure: a sentence without its full stop, for the log.
    """
    if isinstance(error, BonError):
        return error.message
    log_failure(failure, error)
    if isinstance(error, OSError) and error.errno in NO_WRITING:
        return say("error.server_disk", reason=str(error.strerror))
    return UNEXPECTED


def keep_servers_quiet() -> None:
    """Makes Gradio and the servers under it log failures as `log_failure` does."""
    traceback_module = SimpleNamespace(
        print_exc=lambda: log_failure("A call could not be answered", sys.exc_info()[1])
    )
    vars(routes)["traceback"] = traceback_module
    vars(queueing).update(
        traceback=traceback_module, print=lambda *_: log.error("A call could not be read: a value has the wrong type.")
    )
    for module in (routes, mcp):
        vars(module)["print"] = lambda *_: log.error("A call could not be answered.")
    warnings.showwarning = _log_warning
    for name in SERVERS:
        logging.getLogger(name).addFilter(_remove_values)
    for name in (*SERVERS, log.name):
        logging.getLogger(name).addFilter(Repeats().is_new)


class Repeats:
    """Keeps a line out of the log that it had within the last second: strangers can cause thousands of the same."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._logged = clock, dict[str, float]()

    def is_new(self, record: logging.LogRecord) -> bool:
        """Whether to log a record. A filter of loggers."""
        line, now = record.getMessage(), self._clock()
        if now - self._logged.get(line, -math.inf) < REPEAT_SECONDS:
            return False
        if len(self._logged) >= LINES_REMEMBERED:
            self._logged.clear()
        self._logged[line] = now
        return True


def _remove_values(record: logging.LogRecord) -> bool:
    """A filter that leaves no value of a visitor in a record, and keeps every record.

    An error's message gives way to its tracebacks. A text that stands in the source of the logger passes, without the
    arguments in it; of any other, the place in the source is logged.
    """
    if record.exc_info and record.exc_info[1]:
        record.msg = f"{record.name}: a call could not be answered.\n{_tracebacks(record.exc_info[1])}"
        record.exc_info = record.exc_text = None
    elif record.levelno > logging.INFO and not _stands_in_source(record.msg, record.pathname):
        record.msg = f"{record.name}: {record.levelname} at {record.module}.py, line {record.lineno}."
    if record.levelno > logging.INFO:
        record.args = ()
    return True


def _log_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int,
                 file: TextIO | None = None, line: str | None = None) -> None:
    """In place of Python's, which writes each warning to standard error: logs its place, and its text as
    `_remove_values` does.
    """
    text = f" {message}" if _stands_in_source(message, filename) else ""
    log.warning("%s at %s, line %s.%s", category.__name__, Path(filename).name, lineno, text)


def _stands_in_source(text: object, path: str) -> bool:
    return any(str(text) in line for line in linecache.getlines(path))


def _tracebacks(error: BaseException | None) -> str:
    lines = "\nafter\n".join(map(_traceback, _with_causes(error))).splitlines()
    return "\n".join(lines[-TRAIL_LINES:])


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)) + type(error).__qualname__


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
