"""Candidates that are decoded together: their tokens, random numbers and logits, one decode step at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from bon.engines.base import Job
from bon.engines.local.decoder import PlainDecoder, SharedDecoder, runner_of
from bon.engines.local.incremental_text import Detokenizer, IncrementalText
from bon.engines.local.sampling import draw, log_probability, mark_occurred, shape, uniforms
from bon.engines.sentences import sentence_end
from bon.engines.stop_strings import certain_length, find_stop
from bon.errors import EngineError
from bon.events import Row
from bon.messages import say
from bon.result import Candidate
from bon.settings import Sampling
from bon.stats.random_streams import candidate_stream

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedModel

#: From token ids [rows, length] and logits [rows, vocabulary] to logits, as transformers' logits processors are.
LogitsProcessor: TypeAlias = Callable[..., Tensor]


class Rules:
    """A caller's own rules of generation, in place of how a request's settings shape the logits.

    processors: from the prompt's length to a logits processor. stop: from token ids [rows, length] to a bool per row.
    greedy: take the most likely token instead of drawing. eos: token ids that end a text. use_cache: keep the KV cache
    between steps.
    """

    processors: Callable[[int], LogitsProcessor] | None
    stop: Callable[[Tensor], Tensor] | None
    greedy: bool
    eos: tuple[int, ...]
    use_cache: bool

    def __init__(self, processors: Callable[[int], LogitsProcessor] | None = None,
                 stop: Callable[[Tensor], Tensor] | None = None, greedy: bool = False, eos: Sequence[int] = (),
                 use_cache: bool = True) -> None:
        self.processors, self.stop, self.greedy = processors, stop, greedy
        self.eos, self.use_cache = tuple(eos), use_cache

    @property
    def can_share(self) -> bool:
        """Whether texts under these rules can be decoded together with those of any other caller."""
        return self.use_cache and not (self.processors or self.stop or self.greedy)


class LiveCandidate:
    """A candidate while it is decoded.

    number: of its job, which names it in a step. index: of the candidate in the job. eos: token ids that end it.
    verbatim: its text includes the token that ended it, where that is no special one, and half a character where the
    cap cut one.
    """

    number: int
    job: Job
    index: int
    cap: int
    sampled_logprob: float
    sampling: Sampling
    text: IncrementalText
    tokens: int
    drawn: int

    def __init__(self, detokenizer: Detokenizer, eos: Sequence[int], number: int, job: Job, index: int,
                 verbatim: bool = False) -> None:
        self.number, self.job, self.index, self.cap = number, job, index, job.caps[index]
        self._detokenizer, self._eos, self._verbatim = detokenizer, eos, verbatim
        self.sampling, self._stops = job.request.settings.sampling, job.request.settings.stop
        self.ended: str | None = None
        self.error: EngineError | None = None
        self.restart()

    def restart(self) -> None:
        """Goes back to the prompt; the random stream makes the same candidate again."""
        self.sampled_logprob = 0.0
        # Sums over the first tokens, by their number.
        self._logprobs, self._certainties = [0.0], [0.0]
        self.text = IncrementalText(self._detokenizer, self.job.prompt_ids, self.job.watched or bool(self._stops))
        self.tokens = self.drawn = 0
        #: How many characters of the text a stop string leaves.
        self._kept: int | None = None

    def stream(self) -> np.random.Generator:
        """The candidate's random stream after the number that drew its cap."""
        stream = candidate_stream(self.job.request.settings.seed or 0, self.job.request.query, self.index)
        stream.random()
        return stream

    def add(self, token: int, logprob: float, sampled_logprob: float, stop: bool, certainty: float) -> None:
        """Adds the token that was drawn, with its log-probability under the raw logits and as it was sampled, and the
        self-certainty of the raw logits. A log-probability of NaN ends it with an error: the logits were no numbers.
        """
        if math.isnan(sampled_logprob):
            self.ended, self.error = "stopped", EngineError(say("error.logits_not_numbers"))
            return
        self.drawn += 1
        self.sampled_logprob += sampled_logprob
        if token in self._eos:
            self.ended = "eos"
            if self._verbatim or not self._detokenizer.skips_special:
                self.text.add(token)
            return
        searched = len(self.text.text)
        self.text.add(token)
        self.tokens += 1
        self._logprobs.append(self._logprobs[-1] + logprob)
        self._certainties.append(self._certainties[-1] + certainty)
        self._kept = find_stop(self.text.text, self._stops, searched)
        if self._kept is not None:
            self.ended = "stop_string"
        elif self.tokens == self.cap:
            self.ended = "length"
        elif stop:
            self.ended = "eos"

    def row(self) -> Row:
        """The candidate so far, without what may turn out to begin a stop string."""
        text, tokens = self.text.text, self.tokens
        if (length := certain_length(text, self._stops)) < len(text):
            text, tokens = text[:length], self.text.count_tokens(length)
        return Row(self.index, text, tokens, self._logprobs[tokens], self._certainty(tokens))

    def candidate(self) -> Candidate:
        """The candidate that ended."""
        text, tokens, notes = self._complete_text()
        full_text = None
        finishes = self.ended == "length" and self.job.request.settings.finish == "sentence"
        if finishes and (end := sentence_end(text)):
            full_text, text, tokens = text, text[:end], self.text.count_tokens(end)
        return Candidate(
            index=self.index, text=text, tokens=tokens, cap=self.cap, ended=self.ended, full_text=full_text,
            logprob=self._logprobs[tokens], sampled_logprob=self.sampled_logprob, certainty=self._certainty(tokens),
            token_ids=tuple(self.text.ids[: self.tokens]), tokens_left_out=self.tokens - tokens, notes=notes,
            whole=self.text.with_prompt() if self._verbatim else None,
        )

    def _complete_text(self) -> tuple[str, int, tuple[str, ...]]:
        """The text of the candidate that ended, how many of its tokens count as the text's, and the notes on it."""
        if self._kept is not None:
            return self.text.text[: self._kept], self.text.count_tokens(self._kept), self.job.notes
        text = self.text.whole()
        if self.ended == "length" and not self._verbatim:
            complete = self.text.whole(complete=True)
            if complete != text:
                return complete, self.tokens, (*self.job.notes, say("note.character_cut"))
        return text, self.tokens, self.job.notes

    def _certainty(self, tokens: int) -> float | None:
        return self._certainties[tokens] if self.job.certainty else None


class DecodingBatch:
    """Candidates that are decoded together: their logits and random numbers, and the decoder that reads their tokens.

    The constructor prefills the prompts. shared: by a decoder that holds each prompt once, whose batches others can
    join. beside: the batch that this one is about to join.
    """

    candidates: list[LiveCandidate]
    rules: Rules
    uniforms: Tensor
    process: LogitsProcessor | None
    logits: Tensor

    def __init__(self, model: PreTrainedModel, candidates: Sequence[LiveCandidate], rules: Rules, shared: bool,
                 beside: DecodingBatch | None = None) -> None:
        self.candidates, self.rules = list(candidates), rules
        exact = "cpu" if model.device.type == "mps" else model.device  # MPS has no float64
        self.uniforms = uniforms([c.stream() for c in candidates], [c.cap for c in candidates]).to(exact)
        self.process = rules.processors and rules.processors(len(candidates[0].job.prompt_ids))
        numbers: dict[tuple[int, ...], int] = {}
        owners = [numbers.setdefault(candidate.job.prompt_ids, len(numbers)) for candidate in candidates]
        prompts = list(numbers)
        self.decoder: SharedDecoder | PlainDecoder
        with torch.inference_mode():
            if shared:
                room = max(1, max(candidate.cap for candidate in candidates) - 1)
                # A prompt that is copied makes the memory of all rows as wide as itself.
                wider = beside is not None and room + max(map(len, prompts)) > beside.shared_decoder.cache.room
                self.decoder = SharedDecoder(model, prompts, owners, room, wider or None, runner=runner_of(model))
            else:
                self.decoder = PlainDecoder(model, prompts, owners, rules.use_cache)
        self.logits = self.decoder.logits
        self.tokens: Tensor | None = None
        # Only a caller's own rules read the tokens so far.
        self.ids: Tensor | None = None
        if rules.processors or rules.stop:
            self.ids = torch.tensor([candidate.job.prompt_ids for candidate in candidates], device=model.device)
        #: Which tokens are in each row's prompt or text [rows, vocabulary], where a request has a repetition penalty.
        self.occurred: Tensor | None = None
        if any(candidate.sampling.repetition_penalty != 1 for candidate in candidates) and not rules.processors:
            with torch.inference_mode():
                self.occurred = mark_occurred([candidate.job.prompt_ids for candidate in candidates], self.logits)
        self._joining: DecodingBatch | None = None

    @property
    def shared_decoder(self) -> SharedDecoder:
        """The decoder of a shared batch."""
        assert isinstance(self.decoder, SharedDecoder)
        return self.decoder

    @property
    def is_joined(self) -> bool:
        """Whether another batch joins with the next step."""
        return self._joining is not None

    @property
    def members(self) -> list[LiveCandidate]:
        """The candidates that are decoded, and those that join them with the next step."""
        return self.candidates + (self._joining.candidates if self._joining else [])

    @property
    def unfinished(self) -> bool:
        """Whether any candidate has not ended."""
        return self.is_joined or any(candidate.ended is None for candidate in self.candidates)

    def join(self, other: DecodingBatch) -> None:
        """Adds another batch's candidates with the next step; both must be shared."""
        self._joining = other

    @torch.inference_mode()
    def step(self) -> list[LiveCandidate]:
        """Reads the last tokens and draws one more for each candidate; returns those that grew or ended.

        Nothing can fail once tokens are added, so a candidate that ends is always reported.
        """
        rejected = self._reject()
        if self.tokens is not None:
            self._drop_ended(self.tokens)
            if self.candidates:
                self.logits = self.decoder.read(self.tokens)
        if self._joining:
            self._merge(self._joining)
            self._joining = None
        if not self.candidates:
            return rejected
        tokens, logprobs, sampled = self._draw()
        self.tokens = tokens
        if self.occurred is not None:
            self.occurred.scatter_(1, tokens.unsqueeze(-1), True)
        stops = self._stops(tokens)
        columns = (tokens.tolist(), logprobs.tolist(), sampled.tolist(), stops, self._certainty())
        live = [row for row in zip(self.candidates, *columns, strict=True) if row[0].ended is None]
        for candidate, token, logprob, sampled_logprob, stop, certainty in live:
            candidate.add(token, logprob, sampled_logprob, stop, certainty)
        return [row[0] for row in live] + rejected

    def _merge(self, other: DecodingBatch) -> None:
        """Adds another shared batch's rows behind those that are here."""
        if not self.candidates:  # all have ended or their callers left
            self.decoder, self.logits, self.uniforms, self.candidates, self.occurred = (
                other.decoder, other.logits, other.uniforms, other.candidates, other.occurred)
            return
        self.shared_decoder.join(other.shared_decoder)
        if self.occurred is not None or other.occurred is not None:
            # Rows that have none need none: they have no penalty.
            self.occurred = torch.cat([
                torch.zeros_like(batch.logits, dtype=torch.bool) if batch.occurred is None else batch.occurred
                for batch in (self, other)])
        self.logits = torch.cat([self.logits, other.logits])
        width = max(self.uniforms.shape[1], other.uniforms.shape[1])
        both = [pad(numbers, (0, width - numbers.shape[1])) for numbers in (self.uniforms, other.uniforms)]
        self.uniforms, self.candidates = torch.cat(both), self.candidates + other.candidates

    def _reject(self) -> list[LiveCandidate]:
        """Ends the candidates that their consumers gave up, and returns them."""
        rejected = [c for c in self.candidates if c.ended is None and c.index in c.job.unwanted]
        for candidate in rejected:
            candidate.ended = "rejected"
        return rejected

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """For each row a token, its log-probability under the raw logits, and as it was sampled."""
        logits = self.logits
        if self.process and self.ids is not None:
            shaped = self.process(self.ids, logits.clone())
        else:
            shaped = self._shaped_by_request(logits)
        if self.rules.greedy:
            tokens = shaped.argmax(-1)
            return tokens, log_probability(logits, tokens), log_probability(shaped, tokens)
        last = self.uniforms.shape[1] - 1  # a row that ended and is carried along draws its last number again
        steps = torch.tensor([min(c.drawn, last) for c in self.candidates], device=self.uniforms.device)
        tokens, sampled = draw(shaped, self.uniforms.gather(1, steps.unsqueeze(-1)).squeeze(-1))
        tokens = tokens.to(logits.device)
        return tokens, sampled if shaped is logits else log_probability(logits, tokens), sampled

    def _certainty(self) -> list[float]:
        """Self-certainty of each row, the mean over the V tokens of -log(V p), where a job asks for it."""
        if not any(candidate.job.certainty for candidate in self.candidates):
            return [0.0] * len(self.candidates)
        vocabulary = self.logits.shape[-1]
        return (self.logits.logsumexp(-1) - self.logits.mean(-1) - math.log(vocabulary)).tolist()

    def _stops(self, tokens: Tensor) -> list[bool]:
        """Whether the rules stop each row after its new token [rows]."""
        if self.ids is None:
            return [False] * len(self.candidates)
        self.ids = torch.cat([self.ids, tokens.unsqueeze(-1)], dim=-1)
        return self.rules.stop(self.ids).tolist() if self.rules.stop else [False] * len(self.candidates)

    def _shaped_by_request(self, logits: Tensor) -> Tensor:
        """The logits after repetition penalty, temperature and cuts of each row's own request."""
        rows_by_sampling: dict[Sampling, list[int]] = {}
        for i, candidate in enumerate(self.candidates):
            rows_by_sampling.setdefault(candidate.sampling, []).append(i)
        if len(rows_by_sampling) == 1:
            (sampling,) = rows_by_sampling
            return logits if sampling.plain else shape(logits, sampling, self.occurred)
        shaped = logits.clone()
        for sampling, rows in rows_by_sampling.items():
            shaped[rows] = shape(logits[rows], sampling, None if self.occurred is None else self.occurred[rows])
        return shaped

    def _drop_ended(self, tokens: Tensor) -> None:
        """Drops the rows of candidates that ended, unless the decoder carries them along."""
        order = _compacted([candidate.ended is None for candidate in self.candidates])
        ended = len(self.candidates) - len(order)
        if not ended or (order and self.decoder.carries(ended, len(self.candidates))):
            return
        self.candidates = [self.candidates[i] for i in order]
        if not order:
            return
        rows = torch.tensor(order, device=tokens.device)
        self.tokens, self.uniforms = tokens[rows], self.uniforms[rows.to(self.uniforms.device)]
        if self.ids is not None:
            self.ids = self.ids[rows]
        if self.occurred is not None:
            self.occurred = self.occurred[rows]
        self.decoder.keep(order)


def _compacted(stays: Sequence[bool]) -> list[int]:
    """The rows that stay, in an order that moves few: the last ones fill the gaps."""
    end = sum(stays)
    movers = (i for i in range(end, len(stays)) if stays[i])
    return [i if stays[i] else next(movers) for i in range(end)]
