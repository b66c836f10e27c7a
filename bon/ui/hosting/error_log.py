"""The server's log, without a word of what visitors type or models write: their texts are nobody else's business."""

import logging
import sys
import traceback
from collections.abc import Iterator
from types import SimpleNamespace

from gradio import queueing, routes

from bon.messages import say

#: Loggers of servers that log an error with its message where a call cannot be answered.
SERVERS = ("uvicorn.error", "asyncio", "mcp.server.lowlevel.server")

#: What a visitor is told of what `report` logs.
UNEXPECTED = say("error.unexpected")

log = logging.getLogger("bon.ui")


def report(what: str, error: BaseException | None) -> None:
    """Logs that something failed, with the kinds of the errors and the lines of code that they came through.

    Their messages are left out, since those of libraries quote what they were given.
    """
    log.error("%s.\n%s", what, _trails(error))


def keep_servers_quiet() -> None:
    """Has Gradio and the servers under it log what fails as `report` does."""
    said = SimpleNamespace(print_exc=lambda: report("A call could not be answered", sys.exc_info()[1]))
    queueing.traceback = routes.traceback = said
    queueing.print = lambda *_: log.error("A call could not be read: its values are of the wrong kind.")
    for name in SERVERS:
        logging.getLogger(name).addFilter(_wordless)


def _wordless(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[1]:
        record.msg, record.args = f"{record.name}: a call could not be answered.\n{_trails(record.exc_info[1])}", ()
        record.exc_info = record.exc_text = None
    return True


def _trails(error: BaseException | None) -> str:
    return "\nafter\n".join(map(_trail, _chain(error)))


def _trail(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)) + type(error).__qualname__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
