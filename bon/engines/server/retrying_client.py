"""The client of one run: many requests in flight at once, repeated where they fail, cancelled with the run."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from bon.engines.base import Job, Step
from bon.engines.server import availability, protocol
from bon.engines.server.connection import Server, openai_library
from bon.engines.server.event_stream import EventStream
from bon.engines.server.limits import AnswerWatch, LimitReached, Limits, ServerIdle, current_watch
from bon.engines.server.protocol import Completion, MalformedAnswer, ServerRequest
from bon.engines.server.refusals import (
    ReportedError,
    demands_payment,
    error_body,
    error_status,
    explain_error,
    quote_text,
    read_fields,
    refused_parameters,
)
from bon.errors import ServerFailureError
from bon.messages import Message, join, say
from bon.result import Candidate

#: The most requests in flight at once.
IN_FLIGHT = 64
#: How often the official client itself repeats a request, with growing pauses, after 429, 5xx and lost connections.
CLIENT_RETRIES = 4
#: How often a request may fail with all these retries, or be given up, while nothing else comes from the server.
MAX_FAILURES, MAX_IDLE_FAILURES = 3, 2
#: Half of the seconds before a request is repeated that the official client does not repeat; doubled each time.
BACKOFF = 0.5
#: The fewest texts that, if all are the same, show that the server does not sample.
MIN_SAME_TEXTS = 4


class RetryingClient:
    """Requests the candidates of some jobs from a server.

    put: called with each `Step`, and at the end with an error or None. unsupported: the parameters that the server is
    known not to support; those that it refuses are added. in_flight: see `IN_FLIGHT`. limits: on each answer. `run`
    belongs on a thread of its own.
    """

    def __init__(self, server: Server, jobs: Sequence[Job], put: Callable[[Step | BaseException | None], None],
                 unsupported: set[str], in_flight: int = IN_FLIGHT, limits: Limits | None = None):
        self._server, self._jobs, self._put, self._unsupported = server, jobs, put, unsupported
        self._in_flight, self._limits = in_flight, limits or Limits.read()
        self._answers, self._last_arrival, self._repeated = 0, time.monotonic(), 0
        self._notes: set[str] = set()
        self._texts: list[list[str]] = [[] for _ in jobs]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def run(self) -> None:
        """Requests all candidates."""
        try:
            try:
                asyncio.run(self._request_all())
            except ServerFailureError:
                availability.check_available(self._server)
                raise
            self._put(None)
        except BaseException as error:  # of any type: the consumer waits until it gets one or None
            self._put(error)

    def stop(self) -> None:
        """Cancels the requests in flight; returns at once."""
        self._stopped = True
        if self._loop and self._task and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _request_all(self) -> None:
        """`run` in the event loop: sends all requests, of which `in_flight` are sent at once, and puts the notes."""
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        if self._stopped:
            return
        for note in protocol.settings_notes(self._server.software, self._jobs[0].request):
            self._add_note(note)
        slots = self._server.slots or protocol.MAX_N
        max_n = 1 if "n" in self._unsupported else min(protocol.MAX_N, slots)
        # While more requests wait for its slots, llama.cpp answers nothing else, not even which models it has.
        self._turns = asyncio.Semaphore(min(self._in_flight, slots + 1) if self._server.slots else self._in_flight)
        # None of the client's: behind many others, a request may wait long. `_within_limits` watches over all of them.
        timeout = openai_library().Timeout(None, connect=10.0)
        async with self._server.async_client(max_retries=CLIENT_RETRIES, timeout=timeout) as self._client:
            await _until_first_ends(
                _gather(self._put_candidates(request) for number, job in enumerate(self._jobs)
                        for request in protocol.split_job(number, job, max_n, self._server.software)),
                availability.watch_silence(self._client, self._server, lambda: self._last_arrival, self._add_note))
        self._add_closing_notes()

    async def _put_candidates(self, request: ServerRequest) -> None:
        """Requests some candidates, and one by one those that the answer lacks."""
        async with self._turns:
            if request.job.unwanted.issuperset(request.indices):
                self._put_ended(request, [Candidate(i, cap=request.cap, ended="rejected") for i in request.indices])
                return
            completions = await self._with_retries(request)
        for completion in completions:
            self._add_notes_on(completion)
        indexed = zip(request.indices, completions, strict=False)
        self._put_ended(request, [completion.candidate(i) for i, completion in indexed])
        if missing := request.indices[len(completions) :]:
            self._unsupported.add("n")
            counts = {"number": str(len(completions)), "of": str(len(request.indices))}
            self._add_note(say("note.server_brought_fewer", **counts))
            await _gather(map(self._put_candidates, request.one_each(missing)))

    async def _with_retries(self, request: ServerRequest) -> list[Completion]:
        """The texts of one request, repeated until they come. Raises `EngineError` where that does not help.

        Parameters that the server refuses are left out. Later requests leave them out, too, once that has helped.
        """
        failures, answers, refused = 0, self._answers, set[str]()
        while True:
            body = self._body(request, refused)
            alternatives = protocol.LISTED_ALTERNATIVES.get(self._server.software, 0) if request.is_chat else 0
            watch = self._limits.watch(request.cap, len(request.indices), alternatives)
            partial = dict[int, Completion]()
            try:
                completions = await self._within_limits(self._send(request, body, watch, partial), watch)
            except (openai_library().APIError, MalformedAnswer, ReportedError, LimitReached) as caught:
                # Handled outside: an error raised here would hold the client's error, which may hold the key.
                error: Exception = caught
            else:
                self._unsupported |= refused
                self._note_left_out(request, refused)
                return completions
            if isinstance(error, LimitReached) and watch.has_text:
                self._add_note(join([error.explain(self._server.url), say("note.server_cut_off")], " "))
                return self._cut_off(partial)
            if new := refused_parameters(error, protocol.sent_parameters(body), request.is_chat):
                refused |= new
                if self._body(request, refused) != body:
                    continue
            failures, answers = failures + 1 if self._answers == answers else 1, self._answers
            idle = isinstance(error, ServerIdle)
            given_up = failures >= (MAX_IDLE_FAILURES if idle else MAX_FAILURES) or not _is_transient(error)
            if given_up or (idle and await availability.failure_to_list(self._client)):
                raise availability.error_for_good(error, self._explain(error, request))
            self._repeated += 1 if isinstance(error, MalformedAnswer | ServerIdle) else 1 + CLIENT_RETRIES
            await asyncio.sleep(BACKOFF * 2**failures)

    @staticmethod
    def _cut_off(partial: Mapping[int, Completion]) -> list[Completion]:
        """The texts of an answer as far as they had come at a limit."""
        for completion in partial.values():
            completion.finish_reason = completion.finish_reason or "cut off"
        return list(partial.values())

    def _body(self, request: ServerRequest, refused: set[str]) -> dict[str, Any]:
        return protocol.request_body(request, self._server.model, self._server.software, self._unsupported | refused)

    def _note_left_out(self, request: ServerRequest, refused: set[str]) -> None:
        """Notes what the answered request lacked: in every run, since each is then not what its settings say."""
        names = protocol.left_out(request, self._server.model, self._server.software, self._unsupported)
        for name in sorted(names - {"max_tokens", "stream_options"} - ({"n"} - refused)):
            if name == "stop":
                self._add_note(say("note.stop_refused"))
                continue
            sampling = name not in ("n", "seed", "logprobs")
            self._add_note(say("note.sampling_parameter_refused" if sampling else "note.parameter_refused", name=name))

    async def _within_limits(
        self, work: Coroutine[Any, Any, list[Completion]], watch: AnswerWatch
    ) -> list[Completion]:
        """The result of `work`. Raises `LimitReached` where the server is silent or takes too long."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait([task], timeout=watch.seconds_left(self._last_arrival)))[0]:
                pass
            return task.result()
        finally:
            task.cancel()

    async def _send(
        self, request: ServerRequest, body: dict[str, Any], watch: AnswerWatch, partial: dict[int, Completion]
    ) -> list[Completion]:
        """The texts in the answer to a single request, at most as many as it asks for.

        partial: gets the texts of a stream by their number, for where it breaks off.
        """
        current_watch.set(watch)
        resource = self._client.chat.completions if request.is_chat else self._client.completions
        raw = await resource.with_raw_response.create(**body)
        self._repeated += raw.retries_taken
        try:
            if request.streamed:
                stream = EventStream(raw.http_response, request.is_chat)
                completions = await self._read_stream(request, stream, watch, partial)
            else:
                completions = self._read(request, raw.parse())
        except (ValueError, TypeError, AttributeError) as error:  # the client raises these where it is no JSON object
            raise MalformedAnswer("no JSON") from error
        self._answers, self._last_arrival = self._answers + 1, time.monotonic()
        return completions

    def _read(self, request: ServerRequest, answer: object) -> list[Completion]:
        """The texts of an answer. Raises `MalformedAnswer` for one without texts."""
        choices = getattr(answer, "choices", None)
        _check_reported(answer)
        if not isinstance(choices, list) or not choices:
            raise MalformedAnswer("no choices")
        completions = [Completion(request, self._server.software) for _ in choices[: len(request.indices)]]
        for completion, choice in zip(completions, choices, strict=False):
            completion.add(choice)
        protocol.enter_usage(completions, answer)
        for completion in completions:
            completion.end_without_reason()
        return completions

    async def _read_stream(
        self, request: ServerRequest, stream: EventStream, watch: AnswerWatch, completions: dict[int, Completion]
    ) -> list[Completion]:
        """The texts of an answer that is streamed, each part of which is put as a step; fewer where n brought fewer."""
        completions |= {number: Completion(request, self._server.software) for number in range(len(request.indices))}
        begun: set[int] = set()
        latest: dict[int, Completion] = {}
        async with stream:
            async for chunk in stream:
                _check_reported(chunk)
                parts: dict[int, Completion] = {}
                for choice in getattr(chunk, "choices", None) or []:
                    number = getattr(choice, "index", None) or 0
                    if number in completions:
                        parts[number] = completions[number]
                        if completions[number].add(choice):
                            watch.note_text()
                            self._last_arrival = time.monotonic()
                begun.update(parts)
                latest = parts or latest
                # llama.cpp counts the tokens of each text with or after its last part, others those of all together.
                counts_each = len(latest) == 1 and self._server.software in protocol.COUNT_EACH_IF_STREAMED
                protocol.enter_usage(list((latest if counts_each else completions).values()), chunk)
                if request.job.unwanted.issuperset(request.indices):
                    for completion in completions.values():
                        completion.finish_reason = "rejected"
                    return list(completions.values())
                rows = [completion.row(request.indices[number]) for number, completion in parts.items()
                        if completion.text and not completion.finish_reason]
                if rows and request.job.watched:
                    self._put(Step(grown={request.job_number: rows}))
        texts = [completions[number] for number in range(max(begun, default=0) + 1)]
        for completion in texts:
            if stream.complete and completion.text:
                completion.end_without_reason()
        if not all(completion.finish_reason for completion in texts):
            raise MalformedAnswer("half a text")
        return texts

    def _put_ended(self, request: ServerRequest, ended: list[Candidate]) -> None:
        self._texts[request.job_number] += [candidate.text for candidate in ended]
        self._put(Step(ended={request.job_number: ended}))

    def _add_note(self, note: Message) -> None:
        if note not in self._notes:
            self._notes.add(note)
            self._put(Step(note=note))

    def _add_notes_on(self, completion: Completion) -> None:
        """Notes what the server did not do for this text."""
        pairs, text = completion.token_logprobs, protocol.INCOMPLETE_CHARACTER.sub("", completion.text)
        if text and not pairs and not completion.logprobs_incomplete and "logprobs" not in self._unsupported:
            self._add_note(say("note.server_without_logprobs"))
        broken_off = completion.finish_reason == "rejected"  # the count comes at a stream's end
        estimated = completion.tokens_estimated or completion.ended == "stop_string"
        if text and not pairs and estimated and not broken_off:
            self._add_note(say("note.tokens_estimated"))
        if completion.finish_reason not in protocol.END_REASONS:
            reason = quote_text(str(completion.finish_reason), self._server.key)[:40]
            self._add_note(say("note.server_ended_texts", reason=reason))
        if completion.may_have_stopped:
            self._add_note(say("note.stop_or_end"))
        if completion.shortened:
            self._add_note(say("note.server_shortened"))
        if pairs and len(pairs) > completion.request.cap + 1:
            self._add_note(say("note.server_wrote_more"))

    def _add_closing_notes(self) -> None:
        """Notes how many requests were repeated, and that the texts of a job are the same up to their lengths."""
        if self._repeated:
            self._add_note(say("note.requests_repeated", n=self._repeated))
        for job, texts in zip(self._jobs, self._texts, strict=True):
            if protocol.is_nearly_greedy(job.request.settings):
                continue
            if len(texts) >= MIN_SAME_TEXTS and all(max(texts, key=len).startswith(text) for text in texts):
                self._add_note(say("note.server_does_not_sample"))

    def _explain(self, error: Exception, request: ServerRequest) -> Message:
        """The reason, in a sentence without the key, why a request failed for good."""
        url, status = self._server.url, error_status(error)
        if isinstance(error, LimitReached):
            return error.explain(url)
        if isinstance(error, MalformedAnswer):
            return say("error.server_answer_garbled", url=url, error=str(error))
        if isinstance(error, ReportedError) and error.status_code is None:
            return say("error.server_reports", url=url, error=quote_text(str(error), self._server.key))
        message = explain_error(error, self._server)
        if status in (404, 405) and not request.is_chat:
            return join([message, say("error.server_only_chats")], " ")
        return message


async def _until_first_ends(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Runs all at once until one of them ends or fails, and cancels the others."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gather(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs all at once; the first error cancels the others."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _check_reported(answer: object) -> None:
    """Raises `ReportedError` for an answer, or a chunk of a stream, that holds an error in place of texts."""
    error, *content = (getattr(answer, name, None) for name in ("error", "choices", "usage"))
    if not error and any(content):
        return
    body = answer.to_dict() if hasattr(answer, "to_dict") else None
    if error or read_fields(body).messages:
        raise ReportedError(error if isinstance(error, dict) else body)


def _is_transient(error: Exception) -> bool:
    """Whether repeating the request may help."""
    if isinstance(error, LimitReached):
        return isinstance(error, ServerIdle)
    status = error_status(error)
    return (status is None or status in (408, 409, 429) or status >= 500) and not demands_payment(error_body(error))
