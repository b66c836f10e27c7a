"""Whether a server is available at all: what a failed request says of it, and what its list of models says."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bon.engines.server.connection import Server, connect
from bon.engines.server.refusals import demands_payment, error_body, error_status, explain_error, read_fields
from bon.errors import EngineError, ModelError, ServerFailureError, ServerUnavailableError
from bon.messages import Message, say

if TYPE_CHECKING:
    from openai import AsyncOpenAI

#: The statuses with which a server turns away every prompt alike: key, payment, permission, address or model, proxy,
#: rate limit. They count once retries have not helped.
UNAVAILABLE_STATUSES = frozenset({401, 402, 403, 404, 405, 407, 410, 429})
#: The codes in the body of an error that mean the same, whatever its status.
UNAVAILABLE_CODES = frozenset({"model_not_found", "invalid_api_key"})
#: Seconds without anything from the server after which it is asked for its models, and that it may take to list them.
SILENCE, SILENCE_LIST_TIMEOUT = 30.0, 10.0
#: Seconds until a server that could not be reached is tried once more.
UNREACHABLE_PAUSE = 5.0


def error_for_good(error: Exception, message: Message) -> EngineError:
    """The error to raise, with this message, for a request that no retry helped: of the class that its cause calls for.
    """
    status, body = error_status(error), error_body(error)
    if (status in UNAVAILABLE_STATUSES or _is_unreachable(error) or demands_payment(body)
            or UNAVAILABLE_CODES.intersection(read_fields(body).types)):
        return ServerUnavailableError(message)
    if status is None or status in (408, 409) or status >= 500:
        return ServerFailureError(message)
    return EngineError(message)


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether no connection was made; one that was lost later may have been lost because of the prompt."""
    while error is not None:
        if type(error).__name__ in ("ConnectError", "ConnectTimeout"):
            return True
        error = error.__cause__
    return False


def check_available(server: Server) -> None:
    """Raises `ServerUnavailableError` where connecting again, as the engine once did, fails."""
    try:
        connect(server.url, server.model)
    except ModelError as error:
        raise ServerUnavailableError(error.message) from error


async def watch_silence(client: "AsyncOpenAI", server: Server, last_arrival: Callable[[], float],
                        add_note: Callable[[Message], None]) -> None:
    """Notes, until cancelled, that the server has been silent for `SILENCE` seconds, and whether it lists its models.

    last_arrival: the time, by `time.monotonic`, at which anything last came from the server. Raises
    `ServerUnavailableError` where no connection can be made, twice in a row: what is in flight will not be answered. A
    server that accepts a connection and does not answer may be busy, as llama.cpp's is with many requests.
    """
    unreachable = False
    while True:
        arrival = last_arrival()
        if (remaining := arrival + SILENCE - time.monotonic()) > 0:
            unreachable = False
            await asyncio.sleep(remaining)
            continue
        failure = await failure_to_list(client)
        if last_arrival() != arrival:
            continue
        key = "note.server_stopped" if failure else "note.server_busy"
        add_note(say(key, url=server.url, seconds=f"{SILENCE:g}"))
        was_unreachable, unreachable = unreachable, _is_unreachable(failure)
        if failure and was_unreachable and unreachable:
            raise ServerUnavailableError(explain_error(failure, server))
        await asyncio.sleep(UNREACHABLE_PAUSE if unreachable else SILENCE)


async def failure_to_list(client: "AsyncOpenAI") -> Exception | None:
    """The error with which the server does not list its models; None where it lists them."""
    try:
        await client.with_options(timeout=SILENCE_LIST_TIMEOUT, max_retries=0).models.list()
    except Exception as error:  # the client raises what it pleases for an answer that is no list
        return error
    return None
