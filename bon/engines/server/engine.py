"""Generation by an OpenAI-compatible server: vLLM, SGLang, TGI, llama.cpp, `transformers serve`, hosted providers.

Many requests are in flight at once, each with its own seed. Missing candidates are requested again, and a note says
what the server did not do.
"""

import dataclasses
import queue
import threading
from collections.abc import Generator, Sequence
from typing import Any

from bon.engines.base import EncodedPrompt, Job, Step
from bon.engines.server.connection import LIST_TIMEOUT, Server, connect
from bon.engines.server.limits import Limits
from bon.engines.server.protocol import IGNORED_PARAMETERS
from bon.engines.server.retrying_client import IN_FLIGHT, RetryingClient
from bon.engines.server.token_counts import count_prompt_tokens, may_exceed
from bon.errors import InputError
from bon.messages import say
from bon.settings import Request, continues

#: The most seconds between two steps: one that holds nothing lets the consumer stop while the server is silent.
STEP_INTERVAL = 0.5


class ServerEngine:
    """Continues prompts, and answers chats, by a server. Made by `ServerEngine.at`.

    in_flight: the most requests in flight at once. limits: on each answer, by default those that the environment sets.
    idle_timeout: in place of `Limits.first_text`.
    """

    name: str
    #: As the server lists it; None where it does not.
    context: int | None
    server: Server
    in_flight: int
    limits: Limits
    #: The parameters that the server refuses or ignores; runs add those that they find out.
    unsupported: set[str]

    def __init__(self, server: Server, in_flight: int = IN_FLIGHT, idle_timeout: float | None = None):
        self.server, self.in_flight, self.limits = server, in_flight, Limits.read()
        if idle_timeout is not None:
            self.limits = dataclasses.replace(self.limits, first_text=idle_timeout)
        self.name, self.context = f"{server.model} at {server.host}", server.context
        self.unsupported = set(IGNORED_PARAMETERS.get(server.software, ()))

    @classmethod
    def at(cls, url: str, model: str | None = None, in_flight: int = IN_FLIGHT, idle_timeout: float | None = None
           ) -> "ServerEngine":
        """An engine on the server at this address. Raises what `bon.engines.server.connection.connect` raises."""
        return cls(connect(url, model), in_flight, idle_timeout)

    def describe(self) -> dict[str, Any]:
        """Plain facts for people, as far as a server gives them."""
        return {"name": self.server.model, "parameters": None, "device": "server", "dtype": self.server.host,
                "context": self.context, "chats": True}

    def encode(self, request: Request) -> EncodedPrompt:
        """No token ids, since the server tokenizes; their number where they may exceed the context.

        Raises `InputError` for what the server cannot do.
        """
        if request.prompt_ids is not None:
            raise InputError("tokenized_query", say("error.server_takes_texts", model=self.name))
        if self.server.software == "transformers" and continues(request.messages):
            raise InputError("messages", say("error.server_cannot_continue", model=self.name))
        if request.messages is None and not (request.prompt or "").strip():
            raise InputError("prompt", say("error.server_needs_prompt", model=self.name))
        return EncodedPrompt((), counted=self._count_prompt_tokens(request))

    def _count_prompt_tokens(self, request: Request) -> int:
        """The prompt's tokens where these may exceed the context, else 0, and where the server does not count them."""
        longest = request.settings.lengths[1]
        if self.context is None or not may_exceed(self.context, request.prompt, request.messages, longest):
            return 0
        server = self.server
        with server.client(timeout=LIST_TIMEOUT, max_retries=1) as client:
            return count_prompt_tokens(
                client, server.root, server.software, server.model, request.prompt, request.messages
            ) or 0

    def decode(self, ids: Sequence[int]) -> str:
        """An empty text: `encode` gives no token ids."""
        return ""

    def generate(self, jobs: Sequence[Job]) -> Generator[Step, None, None]:
        """Continues every job's prompt; closing the iterator cancels the requests in flight.

        Raises `InputError` before any request for a scorer that no server has the numbers for, `ServerUnavailableError`
        where the server answers no prompt, `ServerFailureError` where it fails for one of these at least, and
        `EngineError` where it refuses one.
        """
        if any(job.certainty for job in jobs):
            raise InputError("scorer", say("error.server_without_certainty"))
        steps: queue.SimpleQueue[Step | BaseException | None] = queue.SimpleQueue()
        client = RetryingClient(self.server, jobs, steps.put, self.unsupported, self.in_flight, self.limits)
        threading.Thread(target=client.run, name="bon-server", daemon=True).start()
        try:
            while (step := _next_step(steps)) is not None:
                if isinstance(step, BaseException):
                    raise step
                yield step
        finally:
            client.stop()


def _next_step(steps: "queue.SimpleQueue[Step | BaseException | None]") -> Step | BaseException | None:
    """What is put next; an empty step where nothing is for `STEP_INTERVAL`."""
    try:
        return steps.get(timeout=STEP_INTERVAL)
    except queue.Empty:
        return Step()
