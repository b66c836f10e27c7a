"""Generation with torch and transformers, for any causal language model.

A prompt is prefilled once for all of its candidates; every candidate draws from its own random stream; rows that
finished leave the batch. Nothing is padded.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from bon.engines.base import Job, Step
from bon.engines.local.decoder import fits
from bon.engines.local.decoding_batch import Rules, Text
from bon.engines.local.incremental_text import Detokenizer
from bon.engines.local.prompt_encoder import PromptEncoder
from bon.engines.local.scheduler import Pool, pool_of
from bon.errors import InputError, ModelError
from bon.messages import say
from bon.models import loading
from bon.models.limits import context_length, vocabulary
from bon.models.running import compute, eval_mode
from bon.settings import Request

_AHEAD: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
#: Rows that are decoded together; a run of more goes in several batches.
MAX_ROWS = 512


class LocalEngine:
    """Continues prompts with a transformers causal language model that is already on its device.

    model, tokenizer: as loaded by transformers. name: what to call the model in results. rules: see `Rules`; without
    them the model's own tokens end a text, and in a chat also the tokenizer's and the template's. verbatim: whether the
    texts are letter for letter what transformers' `generate` and `batch_decode` give (see `Text`).
    Raises `ModelError` for a model that is no causal language model: a sequence-to-sequence model, an encoder.
    """

    def __init__(self, model, tokenizer, name: str | None = None, rules: Rules | None = None,
                 skip_special_tokens: bool = True, max_rows: int = MAX_ROWS, verbatim: bool = False):
        if getattr(model.config, "is_encoder_decoder", False):
            raise ModelError(say("error.sequence_to_sequence", model=type(model).__name__))
        if _reads_ahead(model):
            raise ModelError(say("error.reads_ahead", model=type(model).__name__))
        self.model, self.tokenizer = model, tokenizer
        self.name = name or getattr(model.config, "name_or_path", "") or type(model).__name__
        self.context = context_length(model)
        self.rules = rules or Rules(eos=_eos_ids(model, tokenizer))
        self.max_rows, self.verbatim = max_rows, verbatim
        self.detokenizer = Detokenizer(tokenizer, skip_special_tokens, None if verbatim else False)
        self._encoder, self._own_rules = PromptEncoder(tokenizer, self.name), rules is not None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def describe(self) -> dict[str, Any]:
        """Plain facts for people."""
        facts = loading.facts(self.model)
        return {
            "name": self.name,
            "parameters": facts.parameters,
            "device": self.device.type,
            "dtype": facts.dtype,
            "context": self.context,
            "chats": self._encoder.has_template,
        }

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; a character at its end that lacks its last bytes is left to what follows."""
        return self.detokenizer.complete(ids)

    def encode(self, request: Request) -> tuple[int, ...]:
        """The request's prompt as token ids, with its chat template or start token where it asks for one.

        Raises `InputError` for tokens that the model has no embedding for.
        """
        if request.prompt_ids is not None:
            return self._checked_query(request.prompt_ids)
        if request.messages is not None:
            return self._checked("messages", self._encoder.chat(request.messages))
        blank = not (request.prompt or "").strip()
        ids = self._encoder.start() if blank and request.unconditional else self._encoder.text(request.prompt)
        return self._checked("prompt", ids)

    def _checked(self, field: str, ids: tuple[int, ...]) -> tuple[int, ...]:
        wrong = self._without_embedding(ids)
        if wrong is not None:
            raise InputError(field, say(
                "error.token_without_embedding", token=repr(self._encoder.token(wrong)), id=str(wrong),
                model=self.name, last=str(vocabulary(self.model) - 1),
            ))
        return ids

    def _checked_query(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        if not ids:
            raise InputError("tokenized_query", say("error.query_empty"))
        wrong = self._without_embedding(ids)
        if wrong is not None:
            raise InputError("tokenized_query", say(
                "error.token_outside_vocabulary", token=str(wrong), model=self.name,
                last=str(vocabulary(self.model) - 1),
            ))
        return ids

    def _without_embedding(self, ids: Sequence[int]) -> int | None:
        size = vocabulary(self.model)
        return None if size is None else next((i for i in ids if not 0 <= i < size), None)

    def generate(self, jobs: Sequence[Job]) -> Iterator[Step]:
        """Continues every job's prompt, in one batch with whatever else the model is asked for at the time.

        Callers with rules of their own or jobs that stay alone, and models or lengths of text that only the model's
        own code can decode, get batches of their own.
        """
        for note in loading.notes(self.model):
            yield Step(note=note)
        shares = fits(self.model, max((len(job.prompt_ids) + max(job.caps) for job in jobs), default=1))
        joins = shares and self.rules.common
        held = self.rules.use_cache and shares
        alone = any(job.alone for job in jobs)
        pool = pool_of(self.model) if joins and not alone else Pool(self.rules, joins, held)
        texts = [
            Text(self.detokenizer, self._ends(job.request), number, job, i, self.verbatim)
            for number, job in enumerate(jobs) for i in range(len(job.caps))
        ]
        yield from pool.run(self.model, texts, self.max_rows, self.name)

    def _ends(self, request: Request) -> tuple[int, ...]:
        """The token ids that end a text of this request."""
        in_chat = request.messages is not None and not self._own_rules
        return (*self.rules.eos, *self._encoder.ends_of_turn) if in_chat else self.rules.eos


def _reads_ahead(model) -> bool:
    """Whether a model that somebody else has loaded is an encoder: tried once per model."""
    if hasattr(model, "bon_facts"):
        return False
    if model not in _AHEAD:
        _AHEAD[model] = compute(lambda: _tried(model))
    return _AHEAD[model]


def _tried(model) -> bool:
    with eval_mode(model):
        return loading.reads_ahead(model)


def _eos_ids(model, tokenizer) -> tuple[int, ...]:
    eos = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if eos is None:
        eos = tokenizer.eos_token_id
    return () if eos is None else tuple(eos) if isinstance(eos, list | tuple) else (eos,)
