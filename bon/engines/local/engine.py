"""The engine for causal language models of transformers, in this process.

A prompt is prefilled once for all of its candidates; every candidate draws from its own random stream; rows that
ended leave the batch. Nothing is padded.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from bon.engines.base import EncodedPrompt, Job, Step
from bon.engines.local.decoder import fits
from bon.engines.local.decoding_batch import LiveCandidate, Rules
from bon.engines.local.incremental_text import Detokenizer
from bon.engines.local.prompt_encoder import PromptEncoder
from bon.engines.local.scheduler import Scheduler, scheduler_of
from bon.errors import InputError, ModelError
from bon.messages import say
from bon.models import loading
from bon.models.limits import context_length, vocabulary
from bon.models.running import compute, eval_mode, loaded_by_bon
from bon.settings import OF_MODELS, Defaults, Request, declared

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_IS_ENCODER: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()
#: Rows that are decoded together; a run of more is decoded in several batches.
MAX_ROWS = 512


class LocalEngine:
    """Continues prompts with a causal language model of transformers that is on its device already.

    model, tokenizer: as loaded by transformers. name: what to call the model in results. rules: see `Rules`; without
    them the model's own tokens end a text, and in a chat also the tokenizer's and the template's. verbatim: whether the
    texts are letter for letter what transformers' `generate` and `batch_decode` give (see `LiveCandidate`). notes: what
    the reader of every result should know of the model.
    Raises `ModelError` for a model that is no causal language model: a sequence-to-sequence model, an encoder.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    context: int | None
    rules: Rules
    max_rows: int
    verbatim: bool
    defaults: Defaults
    detokenizer: Detokenizer

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str | None = None,
                 rules: Rules | None = None, skip_special_tokens: bool = True, max_rows: int = MAX_ROWS,
                 verbatim: bool = False, notes: Sequence[str] = ()) -> None:
        if getattr(model.config, "is_encoder_decoder", False):
            raise ModelError(say("error.sequence_to_sequence", model=type(model).__name__))
        if _is_encoder(model):
            raise ModelError(say("error.reads_ahead", model=type(model).__name__))
        self.model, self.tokenizer = model, tokenizer
        self.name = name or getattr(model.config, "name_or_path", "") or type(model).__name__
        self.context = context_length(model)
        self.rules = rules or Rules(eos=_eos_ids(model, tokenizer))
        self.max_rows, self.verbatim, self._notes = max_rows, verbatim, notes
        self.detokenizer = Detokenizer(tokenizer, skip_special_tokens, None if verbatim else False)
        self.defaults = Defaults(of_model=_values_of_config(model))
        self._encoder, self._has_custom_rules = PromptEncoder(tokenizer, self.name), rules is not None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def dtype(self) -> str:
        """The number type that the model multiplies in."""
        return loading.facts(self.model).dtype

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
            **({"adapter": facts.adapter} if facts.adapter else {}),
        }

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; a character at its end that lacks its last bytes is left to what follows."""
        return self.detokenizer.complete(ids)

    def encode(self, request: Request) -> EncodedPrompt:
        """The request's prompt as token ids, with its chat template or start token where it asks for one.

        Raises `InputError` for tokens that the model has no embedding for.
        """
        if request.prompt_ids is not None:
            if not request.prompt_ids:
                raise InputError("tokenized_query", say("error.query_empty"))
            return self._checked("tokenized_query", EncodedPrompt(request.prompt_ids))
        if request.messages is not None:
            return self._checked("messages", self._encoder.chat(request.messages))
        prompt = request.prompt or ""
        starts_alone = request.unconditional and not prompt.strip()
        return self._checked("prompt", self._encoder.start() if starts_alone else self._encoder.text(prompt))

    def _checked(self, field: str, prompt: EncodedPrompt) -> EncodedPrompt:
        """The prompt. Raises `InputError` for a token that the model has no embedding for."""
        size = vocabulary(self.model)
        token = None if size is None else next((i for i in prompt.ids if not 0 <= i < size), None)
        if size is None or token is None:
            return prompt
        of_model = {"model": self.name, "last": str(size - 1)}
        if field == "tokenized_query":
            raise InputError(field, say("error.token_outside_vocabulary", token=str(token), **of_model))
        text = repr(self._encoder.token(token))
        raise InputError(field, say("error.token_without_embedding", token=text, id=str(token), **of_model))

    def generate(self, jobs: Sequence[Job]) -> Generator[Step, None, None]:
        """Continues every job's prompt, in one batch with all other calls of the model at the time.

        Callers with rules of their own, jobs that are decoded alone, and models or lengths of text that only the
        model's own code can decode get batches of their own.
        """
        for note in (*loading.notes(self.model), *self._notes):
            yield Step(note=note)
        longest = max((len(job.prompt_ids) + max(job.caps) for job in jobs), default=1)
        fits_shared = fits(self.model, longest)
        continuous = fits_shared and self.rules.can_share
        if continuous and not any(job.alone for job in jobs):
            scheduler = scheduler_of(self.model)
        else:
            scheduler = Scheduler(self.rules, continuous, self.rules.use_cache and fits_shared)
        candidates = [
            LiveCandidate(self.detokenizer, self._eos_of(job.request), number, job, i, self.verbatim)
            for number, job in enumerate(jobs) for i in range(len(job.caps))
        ]
        yield from scheduler.run(self.model, candidates, self.max_rows, self.name)

    def _eos_of(self, request: Request) -> tuple[int, ...]:
        """The token ids that end a text of this request."""
        in_chat = request.messages is not None and not self._has_custom_rules
        return (*self.rules.eos, *self._encoder.ends_of_turn) if in_chat else self.rules.eos


def _is_encoder(model: PreTrainedModel) -> bool:
    """Whether a model is an encoder: tried once per model, by `loading` for those that bon loads."""
    if loaded_by_bon(model):
        return False
    if model not in _IS_ENCODER:
        _IS_ENCODER[model] = compute(lambda: _reads_ahead(model))
    return _IS_ENCODER[model]


def _reads_ahead(model: PreTrainedModel) -> bool:
    with eval_mode(model):
        return loading.reads_ahead(model)


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The end-of-text tokens of the model's generation config, else the tokenizer's."""
    eos = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if eos is None:
        eos = tokenizer.eos_token_id
    return () if eos is None else tuple(eos) if isinstance(eos, list | tuple) else (eos,)


def _values_of_config(model: PreTrainedModel) -> dict[str, float]:
    """The values that the model's generation config names, without those that cannot work, such as a temperature of 0.
    """
    config, values = getattr(model, "generation_config", None), {}
    for name in OF_MODELS:
        if (value := getattr(config, name, None)) is not None:
            with suppress(InputError):
                values[name] = declared()[name].check(name, value)
    return values
