"""Generation with torch and transformers, for any causal language model.

A prompt is prefilled once for all of its candidates; every candidate draws from its own random stream; rows that
finished leave the batch. Nothing is padded.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bon import loading
from bon.engines.base import Job, Step
from bon.engines.decoder import PlainDecoder, SharedDecoder, eval_mode, fits
from bon.engines.text import GrowingText
from bon.errors import EngineError, InputError, ModelError
from bon.sampling import Sampling, candidate_stream, draw, log_probability, shape, uniforms
from bon.schema import Candidate, Request, Row

#: Rows that are decoded together; a run of more goes in several batches.
MAX_ROWS = 512


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


class LocalEngine:
    """Continues prompts with a transformers causal language model that is already on its device.

    model, tokenizer: as loaded by transformers. name: what to call the model in results. rules: see `Rules`.
    Raises `ModelError` for a model that is no causal language model (sequence-to-sequence models by name).
    """

    def __init__(self, model, tokenizer, name: str | None = None, rules: Rules | None = None,
                 skip_special_tokens: bool = True, max_rows: int = MAX_ROWS):
        if getattr(model.config, "is_encoder_decoder", False):
            raise ModelError(
                f"{type(model).__name__} is a sequence-to-sequence model; bon samples from causal language models."
            )
        self.model, self.tokenizer = model, tokenizer
        self.name = name or getattr(model.config, "name_or_path", "") or type(model).__name__
        self.context = _context(model.config)
        self.rules = rules or Rules(eos=_eos_ids(model, tokenizer))
        self.max_rows = max_rows
        self._skip = skip_special_tokens

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @cached_property
    def shares_prompts(self) -> bool:
        """Whether prompts are held once for all their rows, and prompts of any lengths decoded together."""
        return self.rules.use_cache and fits(self.model)

    def describe(self) -> dict[str, Any]:
        """Plain facts for people."""
        facts = loading.facts(self.model)
        return {
            "name": self.name,
            "parameters": facts.parameters,
            "device": self.device.type,
            "dtype": facts.dtype,
            "context": self.context,
        }

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=self._skip, clean_up_tokenization_spaces=False)

    def encode(self, request: Request) -> tuple[int, ...]:
        """The request's prompt as token ids, with its chat template or start token where it asks for one."""
        if request.prompt_ids is not None:
            return self._checked_ids(request.prompt_ids)
        if request.messages is not None:
            return self._chat_ids(request.messages)
        if not (request.prompt or "").strip() and request.unconditional:
            return self._start_ids()
        ids = tuple(self.tokenizer(request.prompt, verbose=False)["input_ids"])
        if not ids:
            raise InputError("prompt", f"The tokenizer of {self.name} makes no token of this prompt.")
        return ids

    def _checked_ids(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        size = self.model.get_input_embeddings().num_embeddings
        if not ids:
            raise InputError("tokenized_query", "A query is empty: it must hold at least one token id.")
        wrong = [i for i in ids if not 0 <= i < size]
        if wrong:
            raise InputError(
                "tokenized_query",
                f"Token id {wrong[0]} is outside the vocabulary of {self.name}: ids go from 0 to {size - 1}.",
            )
        return ids

    def _chat_ids(self, messages) -> tuple[int, ...]:
        if not getattr(self.tokenizer, "chat_template", None):
            raise InputError("messages", f"{self.name} has no chat template. Give a prompt instead of messages.")
        chat = [dict(message) for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # templates raise what they like, for example over the order of roles
            raise InputError("messages", f"The chat template of {self.name} refuses these messages: {error}") from error
        return tuple(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _start_ids(self) -> tuple[int, ...]:
        start = self.tokenizer.bos_token_id
        if start is None:
            raise InputError("prompt", f"{self.name} has no start token, so it needs a prompt. Write a few words.")
        return (start,)

    def generate(self, jobs: Sequence[Job]) -> Iterator[Step]:
        """Continues every job's prompt, all in one batch where the model and the rules allow it.

        Out of memory halves the batch and goes on with the rows that are not finished; at one row it raises
        `EngineError`.
        """
        waiting = [_Row(self, number, job, i) for number, job in enumerate(jobs) for i in range(len(job.caps))]
        waiting.sort(key=lambda row: len(row.job.prompt_ids))  # stable: by job, then by candidate
        most = self.max_rows
        while waiting:
            batch = self._together(waiting[:most])
            try:
                yield from self._decode_batch(batch)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not loading.out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise EngineError(
                        f"Out of memory with a single candidate of {self.name}. Ask for fewer tokens, or take a "
                        "smaller model."
                    ) from error
                most = len(batch) // 2
                for row in batch:
                    if not row.ended:
                        row.restart()
                yield Step(note=f"Out of memory: went on with {most} candidates at a time.")
            waiting = [row for row in waiting if not row.ended]

    def _together(self, rows: list["_Row"]) -> list["_Row"]:
        """Those of the rows that one batch can take: a caller's own rules see a table of tokens, without padding."""
        if self.shares_prompts and not (self.rules.processors or self.rules.stop):
            return rows
        length = len(rows[0].job.prompt_ids)
        return [row for row in rows if len(row.job.prompt_ids) == length]

    def _decode_batch(self, rows: list["_Row"]) -> Iterator[Step]:
        with eval_mode(self.model):
            batch = _Batch(self, rows)
            yield Step(stage="prefill")
            while not all(row.ended for row in rows):
                yield batch.step()


class _Row:
    """One candidate on its way."""

    def __init__(self, engine: LocalEngine, number: int, job: Job, index: int):
        self.engine, self.number, self.job, self.index = engine, number, job, index
        self.cap = job.caps[index]
        self.ended: str | None = None
        self.restart()

    def restart(self) -> None:
        """Back to the prompt; the random stream makes the same candidate again."""
        self.logprob = self.sampled_logprob = 0.0
        self.written = GrowingText(self.engine.tokenizer, self.job.prompt_ids, self.engine._skip)
        self.tokens = 0

    def stream(self):
        """The candidate's random stream after the number that drew its cap."""
        stream = candidate_stream(self.job.request.settings.seed or 0, self.job.request.query, self.index)
        stream.random()
        return stream

    def take(self, token: int, logprob: float, sampled: float, eos: Sequence[int], stop: bool) -> None:
        self.sampled_logprob += sampled
        if token in eos:
            self.ended = "eos"
            if not self.engine._skip:
                self.written.add(token)
            return
        self.written.add(token)
        self.tokens += 1
        self.logprob += logprob
        if self.tokens == self.cap:
            self.ended = "length"
        elif stop:
            self.ended = "eos"

    def row(self) -> Row:
        return Row(self.index, self.written.text, self.tokens, self.logprob)

    def candidate(self) -> Candidate:
        return Candidate(
            index=self.index, text=self.written.whole(), tokens=self.tokens, cap=self.cap, ended=self.ended,
            logprob=self.logprob, sampled_logprob=self.sampled_logprob, token_ids=tuple(self.written.ids),
        )


class _Batch:
    """Rows that are decoded together: their logits and random numbers, and the decoder that reads their tokens."""

    def __init__(self, engine: LocalEngine, rows: list[_Row]):
        self.rows, self.rules = rows, engine.rules
        exact = "cpu" if engine.device.type == "mps" else engine.device  # MPS has no float64
        self.uniforms = uniforms([row.stream() for row in rows], [row.cap for row in rows]).to(exact)
        self.at = 0
        self.process = self.rules.processors and self.rules.processors(len(rows[0].job.prompt_ids))
        prompts = list(dict.fromkeys(row.job.prompt_ids for row in rows))
        owners = [prompts.index(row.job.prompt_ids) for row in rows]
        with torch.inference_mode():
            if engine.shares_prompts:
                self.decoder = SharedDecoder(engine.model, prompts, owners, max(row.cap for row in rows) - 1)
            else:
                self.decoder = PlainDecoder(engine.model, prompts, owners, self.rules.use_cache)
        self.logits = self.decoder.logits
        # Only a caller's own rules look at the tokens so far.
        self.ids = None
        if self.rules.processors or self.rules.stop:
            self.ids = torch.tensor([row.job.prompt_ids for row in rows], device=engine.device)

    @torch.inference_mode()
    def step(self) -> Step:
        """Reads the tokens of the rows that go on, and draws one more for each.

        Nothing can fail once tokens are taken, so a row that ends is always reported.
        """
        rejected = self._reject()
        if self.at:
            self._drop_ended()
            if not self.rows:
                return self._step_of(rejected)
            self.logits = self.decoder.read(self.tokens)
        self.tokens, logprobs, sampled = self._draw()
        stops = self._stops()
        drawn = zip(self.rows, self.tokens.tolist(), logprobs.tolist(), sampled.tolist(), stops, strict=True)
        for row, token, logprob, chance, stop in drawn:
            row.take(token, logprob, chance, self.rules.eos, stop)
        self.at += 1
        return self._step_of(self.rows + rejected)

    def _reject(self) -> list[_Row]:
        rejected = [row for row in self.rows if row.ended is None and row.index in row.job.unwanted]
        for row in rejected:
            row.ended = "rejected"
        return rejected

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.logits
        shaped = self.process(self.ids, logits.clone()) if self.process else self._shaped_by_request(logits)
        if self.rules.greedy:
            tokens = shaped.argmax(-1)
            return tokens, log_probability(logits, tokens), log_probability(shaped, tokens)
        tokens, sampled = draw(shaped, self.uniforms[:, self.at])
        tokens = tokens.to(logits.device)
        return tokens, sampled if shaped is logits else log_probability(logits, tokens), sampled

    def _stops(self) -> list[bool]:
        if self.ids is not None:
            self.ids = torch.cat([self.ids, self.tokens.unsqueeze(-1)], dim=-1)
        return self.rules.stop(self.ids).tolist() if self.rules.stop else [False] * len(self.rows)

    def _shaped_by_request(self, logits: Tensor) -> Tensor:
        kinds = [_sampling(row.job.request) for row in self.rows]
        if len(set(kinds)) == 1:
            return logits if kinds[0].plain else shape(logits, kinds[0])
        return torch.cat([shape(logits[i : i + 1], kind) for i, kind in enumerate(kinds)])

    def _step_of(self, rows: Sequence[_Row]) -> Step:
        grown: dict[int, list[Row]] = {}
        ended: dict[int, list[Candidate]] = {}
        for row in rows:
            if row.ended:
                ended.setdefault(row.number, []).append(row.candidate())
            else:
                grown.setdefault(row.number, []).append(row.row())
        return Step(grown=grown, ended=ended)

    def _drop_ended(self) -> None:
        order = _closed_up([row.ended is None for row in self.rows])
        if len(order) == len(self.rows):
            return
        self.rows = [self.rows[i] for i in order]
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


def _sampling(request: Request) -> Sampling:
    settings = request.settings
    return Sampling(settings.temperature, settings.top_k, settings.top_p)


def _context(config) -> int | None:
    text = config.get_text_config()
    return getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)


def _eos_ids(model, tokenizer) -> tuple[int, ...]:
    eos = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if eos is None:
        eos = tokenizer.eos_token_id
    return () if eos is None else tuple(eos) if isinstance(eos, list | tuple) else (eos,)
