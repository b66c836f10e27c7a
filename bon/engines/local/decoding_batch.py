"""Candidates that are decoded together, and the random numbers that each of them draws its tokens by."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from bon.engines.base import Job
from bon.engines.local.decoder import PlainDecoder, SharedDecoder
from bon.engines.local.incremental_text import Detokenizer, GrowingText
from bon.engines.local.sampling import draw, log_probability, shape, uniforms
from bon.errors import EngineError
from bon.events import Row
from bon.messages import say
from bon.result import Candidate
from bon.settings import Sampling
from bon.stats.random_streams import candidate_stream


class Rules:
    """A caller's own rules of generation, in place of a request's temperature, top-k and top-p.

    processors: from the prompt's length to a callable from token ids [rows, length] and logits [rows, vocabulary]
    to logits, as transformers' logits processors are.
    stop: from token ids to a bool per row. greedy: take the most likely token instead of drawing.
    eos: token ids that end a text. use_cache: keep the KV cache between steps.
    """

    def __init__(self, processors=None, stop=None, greedy=False, eos: Sequence[int] = (), use_cache=True):
        self.processors, self.stop, self.greedy = processors, stop, greedy
        self.eos, self.use_cache = tuple(eos), use_cache

    @property
    def common(self) -> bool:
        """Whether texts under these rules can be decoded together with anybody else's."""
        return self.use_cache and not (self.processors or self.stop or self.greedy)


class Text:
    """One candidate on its way.

    ends: token ids that end it. number: of its job, which names it in a step. verbatim: the text has the token that
    ended it, where that is no special one, and half a character where the cap cut one.
    """

    def __init__(self, detokenizer: Detokenizer, ends: Sequence[int], number: int, job: Job, index: int,
                 verbatim: bool = False):
        self.number, self.job, self.index, self.cap = number, job, index, job.caps[index]
        self._detokenizer, self._ends, self._verbatim = detokenizer, ends, verbatim
        self.ended: str | None = None
        self.error: EngineError | None = None
        self.restart()

    def restart(self) -> None:
        """Back to the prompt; the random stream makes the same candidate again."""
        self.logprob = self.sampled_logprob = 0.0
        self.certainty = 0.0 if self.job.certainty else None
        self.written = GrowingText(self._detokenizer, self.job.prompt_ids, self.job.watched)
        self.tokens = self.drawn = 0

    def stream(self):
        """The candidate's random stream after the number that drew its cap."""
        stream = candidate_stream(self.job.request.settings.seed or 0, self.job.request.query, self.index)
        stream.random()
        return stream

    def take(self, token: int, logprob: float, sampled: float, stop: bool, certainty: float) -> None:
        """Takes in what was drawn, with its log-probabilities from the raw logits and as it was sampled, and the
        self-certainty of the raw logits. A log-probability of NaN ends it with an error: the logits were no numbers.
        """
        if math.isnan(sampled):
            self.ended, self.error = "stopped", EngineError(say("error.logits_not_numbers"))
            return
        self.drawn += 1
        self.sampled_logprob += sampled
        if token in self._ends:
            self.ended = "eos"
            if self._verbatim or not self._detokenizer.skip:
                self.written.add(token)
            return
        self.written.add(token)
        self.tokens += 1
        self.logprob += logprob
        if self.certainty is not None:
            self.certainty += certainty
        if self.tokens == self.cap:
            self.ended = "length"
        elif stop:
            self.ended = "eos"

    def row(self) -> Row:
        """What there is so far."""
        return Row(self.index, self.written.text, self.tokens, self.logprob, self.certainty)

    def candidate(self) -> Candidate:
        """What it came to."""
        text, notes = self.written.whole(), getattr(self.job.prompt_ids, "notes", ())
        if self.ended == "length" and not self._verbatim:
            complete = self.written.whole(complete=True)
            notes = notes if complete == text else (*notes, say("note.character_cut"))
            text = complete
        return Candidate(
            index=self.index, text=text, tokens=self.tokens, cap=self.cap, ended=self.ended,
            logprob=self.logprob, sampled_logprob=self.sampled_logprob, certainty=self.certainty,
            token_ids=tuple(self.written.ids[: self.tokens]), notes=notes,
            whole=self.written.with_prompt() if self._verbatim else None,
        )


class Batch:
    """Texts that are decoded together: their logits and random numbers, and the decoder that reads their tokens.

    Making one reads the prompts. shared: through prompts that are held once, which any others can join. beside: the
    batch that this one is about to join.
    """

    def __init__(self, model, texts: Sequence[Text], rules: Rules, shared: bool, beside: "Batch | None" = None):
        self.texts, self.rules = list(texts), rules
        exact = "cpu" if model.device.type == "mps" else model.device  # MPS has no float64
        self.uniforms = uniforms([text.stream() for text in texts], [text.cap for text in texts]).to(exact)
        self.process = rules.processors and rules.processors(len(texts[0].job.prompt_ids))
        numbers: dict[tuple[int, ...], int] = {}
        owners = [numbers.setdefault(text.job.prompt_ids, len(numbers)) for text in texts]
        prompts = list(numbers)
        with torch.inference_mode():
            if shared:
                room = max(1, max(text.cap for text in texts) - 1)
                # A prompt that is copied makes the memory of all rows as wide as itself.
                wider = beside is not None and room + max(map(len, prompts)) > beside.decoder.cache.room
                self.decoder = SharedDecoder(model, prompts, owners, room, wider or None)
            else:
                self.decoder = PlainDecoder(model, prompts, owners, rules.use_cache)
        self.logits, self.tokens = self.decoder.logits, None
        # Only a caller's own rules look at the tokens so far.
        self.ids = None
        if rules.processors or rules.stop:
            self.ids = torch.tensor([text.job.prompt_ids for text in texts], device=model.device)
        self._fresh: Batch | None = None

    @property
    def expects(self) -> bool:
        """Whether others join with the next step."""
        return self._fresh is not None

    @property
    def members(self) -> list[Text]:
        """The texts that are decoded, and those that join them with the next step."""
        return self.texts + (self._fresh.texts if self._fresh else [])

    @property
    def going(self) -> bool:
        """Whether any text is unfinished."""
        return self.expects or any(text.ended is None for text in self.texts)

    def join(self, fresh: "Batch") -> None:
        """Takes another batch's texts in with the next step; both must be shared."""
        self._fresh = fresh

    @torch.inference_mode()
    def step(self) -> list[Text]:
        """Reads the tokens of the texts that go on, and draws one more for each; the texts that grew or ended.

        Nothing can fail once tokens are taken, so a text that ends is always reported.
        """
        rejected = self._reject()
        if self.tokens is not None:
            self._drop_ended()
            if self.texts:
                self.logits = self.decoder.read(self.tokens)
        if self._fresh:
            self._merge(self._fresh)
            self._fresh = None
        if not self.texts:
            return rejected
        self.tokens, logprobs, sampled = self._draw()
        stops = self._stops()
        figures = (self.tokens.tolist(), logprobs.tolist(), sampled.tolist(), stops, self._certainty())
        drawn = zip(self.texts, *figures, strict=True)
        going = [(text, taken) for text, *taken in drawn if text.ended is None]
        for text, taken in going:
            text.take(*taken)
        return [text for text, _ in going] + rejected

    def _merge(self, fresh: "Batch") -> None:
        if not self.texts:  # who was here has ended or left
            self.decoder, self.logits, self.uniforms, self.texts = (
                fresh.decoder, fresh.logits, fresh.uniforms, fresh.texts)
            return
        self.decoder.join(fresh.decoder)
        self.logits = torch.cat([self.logits, fresh.logits])
        width = max(self.uniforms.shape[1], fresh.uniforms.shape[1])
        both = [pad(numbers, (0, width - numbers.shape[1])) for numbers in (self.uniforms, fresh.uniforms)]
        self.uniforms, self.texts = torch.cat(both), self.texts + fresh.texts

    def _reject(self) -> list[Text]:
        rejected = [text for text in self.texts if text.ended is None and text.index in text.job.unwanted]
        for text in rejected:
            text.ended = "rejected"
        return rejected

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.logits
        shaped = self.process(self.ids, logits.clone()) if self.process else self._shaped_by_request(logits)
        if self.rules.greedy:
            tokens = shaped.argmax(-1)
            return tokens, log_probability(logits, tokens), log_probability(shaped, tokens)
        last = self.uniforms.shape[1] - 1  # of a text that ended and is carried along there is nothing to draw
        at = torch.tensor([min(text.drawn, last) for text in self.texts], device=self.uniforms.device)
        tokens, sampled = draw(shaped, self.uniforms.gather(1, at.unsqueeze(-1)).squeeze(-1))
        tokens = tokens.to(logits.device)
        return tokens, sampled if shaped is logits else log_probability(logits, tokens), sampled

    def _certainty(self) -> list[float]:
        """Self-certainty of each row: the mean over the V words of -log(V p), where anybody wants it."""
        if not any(text.job.certainty for text in self.texts):
            return [0.0] * len(self.texts)
        words = self.logits.shape[-1]
        return (self.logits.logsumexp(-1) - self.logits.mean(-1) - math.log(words)).tolist()

    def _stops(self) -> list[bool]:
        if self.ids is not None:
            self.ids = torch.cat([self.ids, self.tokens.unsqueeze(-1)], dim=-1)
        return self.rules.stop(self.ids).tolist() if self.rules.stop else [False] * len(self.texts)

    def _shaped_by_request(self, logits: Tensor) -> Tensor:
        kinds: dict[Sampling, list[int]] = {}
        for i, text in enumerate(self.texts):
            kinds.setdefault(text.job.request.settings.sampling, []).append(i)
        if len(kinds) == 1:
            (kind,) = kinds
            return logits if kind.plain else shape(logits, kind)
        shaped = logits.clone()
        for kind, rows in kinds.items():
            shaped[rows] = shape(logits[rows], kind)
        return shaped

    def _drop_ended(self) -> None:
        order = _closed_up([text.ended is None for text in self.texts])
        ended = len(self.texts) - len(order)
        if not ended or (order and self.decoder.carries(ended, len(self.texts))):
            return
        self.texts = [self.texts[i] for i in order]
        if not order:
            return
        which = torch.tensor(order, device=self.tokens.device)
        self.tokens, self.uniforms = self.tokens[which], self.uniforms[which.to(self.uniforms.device)]
        if self.ids is not None:
            self.ids = self.ids[which]
        self.decoder.keep(order)


def _closed_up(stays: Sequence[bool]) -> list[int]:
    """The rows that stay, in an order that moves few: the last ones fill the holes."""
    end = sum(stays)
    movers = (i for i in range(end, len(stays)) if stays[i])
    return [i if stays[i] else next(movers) for i in range(end)]
