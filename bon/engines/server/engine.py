"""Generation by an OpenAI-compatible server: vLLM, SGLang, TGI, llama.cpp, `transformers serve`, hosted providers.

Many requests are on their way at once, each with a seed of its own. What comes back is counted, what is missing is
asked for again, and what the server did not do is said in a note.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from bon.engines.base import Job, Step
from bon.engines.server.connection import Server, connect
from bon.engines.server.protocol import IGNORED
from bon.engines.server.retrying_client import Asking
from bon.errors import InputError
from bon.messages import say
from bon.settings import Request, continues

#: Requests that are on their way at once.
IN_FLIGHT = 64
#: Seconds without any answer after which a request is given up.
PATIENCE = 300.0


class RemoteEngine:
    """Continues prompts, and answers chats, by a server; made by `RemoteEngine.at`.

    in_flight: requests on their way at once. patience: seconds without any answer after which a request is given up.
    """

    context = None

    def __init__(self, server: Server, in_flight: int = IN_FLIGHT, patience: float = PATIENCE):
        self.server, self.in_flight, self.patience = server, in_flight, patience
        self.name = f"{server.model} at {server.host}"
        #: Names of parameters that the server was seen to refuse or to ignore.
        self.without = set(IGNORED.get(server.kind, ()))

    @classmethod
    def at(cls, url: str, model: str | None = None, **limits: Any) -> "RemoteEngine":
        """Connects to a server: see `bon.engines.server.connection.connect` for what it raises."""
        return cls(connect(url, model), **limits)

    def describe(self) -> dict[str, Any]:
        """Plain facts for people; a server tells few."""
        return {"name": self.server.model, "parameters": None, "device": "server", "dtype": self.server.host,
                "context": None, "chats": True}

    def encode(self, request: Request) -> tuple[int, ...]:
        """Nothing: the server makes the tokens. Raises `InputError` for what the server cannot do."""
        if request.prompt_ids is not None:
            raise InputError("tokenized_query", say("error.server_takes_texts", model=self.name))
        if self.server.kind == "transformers" and continues(request.messages):
            raise InputError("messages", say("error.server_cannot_continue", model=self.name))
        if request.messages is None and not (request.prompt or "").strip():
            raise InputError("prompt", say("error.server_needs_prompt", model=self.name))
        return ()

    def decode(self, ids: Sequence[int]) -> str:
        """The text of no tokens, which are the only ones there are here."""
        return ""

    def generate(self, jobs: Sequence[Job]) -> Iterator[Step]:
        """Continues every job's prompt; closing the iterator cancels the requests that are on their way.

        Raises `EngineError` where the server fails for good.
        """
        steps: queue.SimpleQueue = queue.SimpleQueue()
        asking = Asking(self, jobs, steps.put)
        threading.Thread(target=asking.run, name="bon-remote", daemon=True).start()
        try:
            while (step := steps.get()) is not None:
                if isinstance(step, BaseException):
                    raise step
                yield step
        finally:
            asking.stop()
