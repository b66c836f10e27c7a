"""The requests of one run on their way: many at once, asked again where they are lost, cancelled when nobody waits."""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from bon.engines.base import Job, Step
from bon.engines.server import protocol
from bon.engines.server.connection import library, words
from bon.engines.server.protocol import Ask, Garbled, Writing
from bon.errors import EngineError
from bon.messages import joined, say
from bon.result import Candidate

#: How often the client itself asks again, with growing pauses, after 429, 5xx and dropped connections.
RETRIES = 4
#: How often all of that may fail while nothing else comes from the server.
TRIES = 3
#: Seconds before what the client does not ask again is asked again.
PAUSE = 0.5
#: Texts that must be one and the same before it is said.
SUSPICIOUS = 4


class Silent(Exception):
    """The server has sent nothing for too long."""


class Asking:
    """Asks a server for the candidates of some jobs; puts steps, and at the end an error or None.

    engine: a `RemoteEngine`. `run` belongs on a thread of its own.
    """

    def __init__(self, engine: Any, jobs: Sequence[Job], put: Callable[[Step | BaseException | None], None]):
        self.engine, self.server, self.jobs, self.put = engine, engine.server, jobs, put
        self.arrivals, self.last, self.again = 0, time.monotonic(), 0
        self._noted: set[str] = set()
        self._texts: list[list[str]] = [[] for _ in jobs]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    def run(self) -> None:
        """Asks for everything."""
        try:
            asyncio.run(self._everything())
            self.put(None)
        except BaseException as error:  # of whatever kind: who waits must hear of it
            self.put(error)

    def stop(self) -> None:
        """Cancels what is on its way; returns at once."""
        self._stopped = True
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _everything(self) -> None:
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        if self._stopped:
            return
        for note in protocol.doubts(self.server.kind, self.jobs[0].request):
            self._note(note)
        self._free = asyncio.Semaphore(self.engine.in_flight)
        together = 1 if "n" in self.engine.without else protocol.TOGETHER
        # No limit for an answer: with many before it, a request may wait long. `_patiently` watches over all of them.
        timeout = library().Timeout(None, connect=10.0)
        async with self.server.client("AsyncOpenAI", max_retries=RETRIES, timeout=timeout) as self._client:
            await _all(self._candidates(ask) for number, job in enumerate(self.jobs)
                       for ask in protocol.asks(number, job, together))
        self._closing_notes()

    async def _candidates(self, ask: Ask) -> None:
        async with self._free:
            if ask.job.unwanted.issuperset(ask.indices):
                self._put(ask, [Candidate(i, cap=ask.cap, ended="rejected") for i in ask.indices])
                return
            written = await self._answered(ask)
        for one in written:
            self._judge(one)
        self._put(ask, [one.candidate(i) for i, one in zip(ask.indices, written, strict=False)])
        if missing := ask.indices[len(written):]:
            self.engine.without.add("n")
            self._note(say("note.server_brought_fewer", number=str(len(written)), of=str(len(ask.indices))))
            await _all(map(self._candidates, ask.alone(missing)))

    async def _answered(self, ask: Ask) -> list[Writing]:
        """The texts of one request, asked for until they come, or `EngineError`."""
        failed, seen = 0, self.arrivals
        while True:
            body = protocol.body(ask, self.server.model, self.server.kind, self.engine.without)
            try:
                return await self._patiently(self._once(ask, body))
            except (library().APIError, Garbled, Silent) as caught:
                error = caught  # handled outside, so that what is raised holds no error of the client: nor a key in one
            if self._leaves_out(error, body):
                continue
            failed, seen = failed + 1 if self.arrivals == seen else 1, self.arrivals
            if not _passing(error) or failed >= (2 if isinstance(error, Silent) else TRIES):
                raise EngineError(self._words(error, ask))
            self.again += 1 if isinstance(error, Garbled | Silent) else 1 + RETRIES
            await asyncio.sleep(PAUSE * 2**failed)

    async def _patiently(self, work: Coroutine[Any, Any, list[Writing]]) -> list[Writing]:
        """What comes of it, as long as anything at all comes from the server."""
        task, patience = asyncio.ensure_future(work), self.engine.patience
        begun = time.monotonic()
        try:
            while True:
                left = max(self.last, begun) + patience - time.monotonic()
                if left <= 0:
                    raise Silent
                if (await asyncio.wait([task], timeout=left))[0]:
                    return task.result()
        finally:
            task.cancel()

    async def _once(self, ask: Ask, body: dict[str, Any]) -> list[Writing]:
        resource = self._client.chat.completions if ask.chat else self._client.completions
        raw = await resource.with_raw_response.create(**body)
        self.again += raw.retries_taken
        try:
            answer = raw.parse()
            written = [await self._streamed(ask, answer)] if ask.streamed else self._whole(ask, answer)
        except (ValueError, TypeError, AttributeError) as error:  # what the client makes of what is no JSON object
            raise Garbled("no JSON") from error
        self.arrivals, self.last = self.arrivals + 1, time.monotonic()
        return written

    def _whole(self, ask: Ask, answer: Any) -> list[Writing]:
        choices = getattr(answer, "choices", None)
        if not isinstance(choices, list) or not choices:
            raise Garbled("no choices")
        written = [Writing(ask, self.server.kind) for _ in choices[: len(ask.indices)]]
        for one, choice in zip(written, choices, strict=False):
            one.add(choice)
        protocol.count(written, answer)
        return written

    async def _streamed(self, ask: Ask, stream: Any) -> Writing:
        writing = Writing(ask, self.server.kind)
        async with stream:
            async for chunk in stream:
                self.last = time.monotonic()
                for choice in (getattr(chunk, "choices", None) or [])[:1]:
                    writing.add(choice)
                protocol.count([writing], chunk)
                if ask.indices[0] in ask.job.unwanted:
                    writing.finish = "rejected"
                    break
                if writing.text and not writing.finish:
                    self.put(Step(grown={ask.number: [writing.row()]}))
        if not writing.finish:
            raise Garbled("half a text")
        return writing

    def _put(self, ask: Ask, ended: list[Candidate]) -> None:
        self._texts[ask.number] += [candidate.text for candidate in ended]
        self.put(Step(ended={ask.number: ended}))

    def _note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self.put(Step(note=text))

    def _judge(self, one: Writing) -> None:
        """Notes what the server did not do for this text."""
        if one.text and not one.pairs and "logprobs" not in self.engine.without:
            self._note(say("note.server_without_logprobs"))
        if one.text and not one.pairs and one.guessed:
            self._note(say("note.tokens_estimated"))
        if one.finish not in protocol.ENDS:
            self._note(say("note.server_ended_texts", reason=str(one.finish)[:40]))
        if one.pairs and len(one.pairs) > one.ask.cap + 1:
            self._note(say("note.server_wrote_more"))

    def _closing_notes(self) -> None:
        if self.again:
            self._note(say("note.requests_repeated", n=self.again))
        for texts in self._texts:
            if len(texts) >= SUSPICIOUS and all(max(texts, key=len).startswith(text) for text in texts):
                self._note(say("note.server_does_not_sample"))

    def _leaves_out(self, error: Exception, body: dict[str, Any]) -> bool:
        """Whether the server refused a parameter that can be left out, which it is from now on."""
        if getattr(error, "status_code", None) not in (400, 422):
            return False
        asked = {*body, *body.get("extra_body", ())}
        if "max_completion_tokens" in str(error) and "max_tokens" in asked:
            self.engine.without.add("max_tokens")
            return True
        refused = [name for name in protocol.OPTIONAL
                   if name in asked and re.search(rf"(?<![\w\\]){name}(?!\w)", str(error))]
        for name in refused:
            self.engine.without.add(name)
            self._note(say("note.parameter_refused", name=name))
        return bool(refused)

    def _words(self, error: Exception, ask: Ask) -> str:
        url, status = self.server.url, getattr(error, "status_code", None)
        if isinstance(error, Silent):
            return say("error.server_silent", url=url, seconds=f"{self.engine.patience:g}")
        if isinstance(error, Garbled):
            return say("error.server_answer_garbled", url=url, error=str(error))
        message = words(error, self.server)
        if status in (404, 405) and not ask.chat:
            return joined([message, say("error.server_only_chats")], " ")
        return message


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Does everything at once; the first error cancels the rest."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _passing(error: Exception) -> bool:
    """Whether asking again may help."""
    status = getattr(error, "status_code", None)
    return status is None or status in (408, 409, 429) or status >= 500
