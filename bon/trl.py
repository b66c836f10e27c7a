"""`BestOfNSampler`, the class that left TRL in release 0.25, over bon's flow: a changed import is all the port."""

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria

from bon import flow
from bon.engines.local import LocalEngine, Rules
from bon.errors import InputError
from bon.lengths import DrawLength
from bon.sampling import candidate_stream
from bon.schema import Done, Request, Result, Settings, whole
from bon.scorers import CallableScorer

#: Fields of a GenerationConfig that are honoured.
HONOURED = frozenset({
    "do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
    "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "sequence_bias", "suppress_tokens",
    "begin_suppress_tokens", "min_length", "min_new_tokens", "max_length", "max_new_tokens", "max_time", "stop_strings",
    "exponential_decay_length_penalty", "remove_invalid_values", "renormalize_logits", "watermarking_config",
    "use_cache", "eos_token_id", "pad_token_id", "bos_token_id", "disable_compile",
})
#: Arguments of `generate` that are no fields of a config and honoured too.
CALLABLES = frozenset({"logits_processor", "stopping_criteria", "attention_mask", "generation_config"})
#: Values with which a field that is not honoured asks for nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,), "num_return_sequences": (1,), "num_beam_groups": (1,), "length_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,), "guidance_scale": (1.0,), "cache_implementation": ("dynamic",),
    "transformers_version": (..., ), "num_assistant_tokens": (...,), "num_assistant_tokens_schedule": (...,),
    "assistant_confidence_threshold": (...,), "assistant_lookbehind": (...,), "target_lookbehind": (...,),
}


class BestOfNSampler:
    """Samples every query `sample_size` times and returns the `n_candidates` texts that the scorer rates highest.

    model: a causal language model of transformers, or one wrapped with a value head (`.pretrained_model`).
    tokenizer: its tokenizer. queries_to_scores: from a list of texts (prompt and continuation in one) to one score
    each, as a list, array or tensor; called once per query with `sample_size` texts. length_sampler: a callable
    without arguments, such as `bon.LengthSampler`, that draws how many tokens to generate. sample_size: candidates
    per query. seed: makes each call repeatable and leaves the process's random state alone; None draws a fresh one.
    n_candidates: texts to return per query. generation_config: of transformers; every field is honoured or refused
    by name. lengths: one length `per_candidate`, or `per_query` as TRL had it.

    After a call `last_results` holds a `bon.Result` per query with all candidates and their scores.
    Raises `InputError` that names the argument at fault, `ModelError` for sequence-to-sequence models.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        queries_to_scores: Callable[[list[str]], Iterable[float]],
        length_sampler: DrawLength,
        sample_size: int = 4,
        seed: int | None = None,
        n_candidates: int = 1,
        generation_config: GenerationConfig | None = None,
        lengths: str = "per_candidate",
    ):
        self.sample_size = whole("sample_size", sample_size, 1, 4096)
        self.n_candidates = whole("n_candidates", n_candidates, 1)
        if self.n_candidates > self.sample_size:
            raise InputError(
                "n_candidates",
                f"n_candidates is {n_candidates} but only sample_size = {sample_size} texts are sampled per query.",
            )
        if not callable(length_sampler):
            raise InputError("length_sampler", "length_sampler must be a callable such as bon.LengthSampler(4, 16).")
        if not callable(queries_to_scores):
            raise InputError("queries_to_scores", "queries_to_scores must be a callable from texts to scores.")
        if lengths not in ("per_candidate", "per_query"):
            raise InputError("lengths", f"lengths must be per_candidate or per_query, not {lengths!r}.")
        self.seed = None if seed is None else Settings(seed=seed).seed
        self.model = getattr(model, "pretrained_model", model)
        self.tokenizer, self.length_sampler, self.lengths = tokenizer, length_sampler, lengths
        self.generation_config = generation_config
        self.scorer = CallableScorer(queries_to_scores)
        self.scorer.name = "queries_to_scores"
        self.last_results: list[Result] = []
        LocalEngine(self.model, tokenizer)  # a model of the wrong kind is refused here

    def generate(
        self, tokenized_query: Any, skip_special_tokens: bool = True, device: Any = None, **generation_kwargs: Any
    ) -> list[list[str]]:
        """The best texts of each query, prompt included, best first: [queries][n_candidates].

        tokenized_query: a list of token ids, a tensor [tokens] or [queries, tokens], a list of lists or a list of
        tensors. device: where the model is, or None. generation_kwargs: fields of a GenerationConfig.
        """
        queries = _queries(tokenized_query, generation_kwargs.get("attention_mask"))
        self._check_device(device)
        wanted = _Wanted(self.model, self.tokenizer, self.generation_config, generation_kwargs)
        engine = LocalEngine(self.model, self.tokenizer, rules=wanted.rules(), skip_special_tokens=skip_special_tokens)
        settings = Settings(n=self.sample_size, seed=self.seed, **wanted.sampling()).with_seed()
        requests = [Request(settings=settings, prompt_ids=ids, query=j) for j, ids in enumerate(queries)]
        lengths = [wanted.capped(self._lengths(settings.seed, j), len(ids)) for j, ids in enumerate(queries)]
        self.last_results = self._drain(requests, engine, lengths)
        return [[r.prompt + c.text for c in r.candidates[: self.n_candidates]] for r in self.last_results]

    def _drain(self, requests, engine, lengths) -> list[Result]:
        results: dict[int, Result] = {}
        with closing(flow.stream_many(requests, engine, self.scorer, lengths)) as events:
            for number, event in events:
                if isinstance(event, Done):
                    results[number] = event.result
        return [results[number] for number in range(len(requests))]

    def _lengths(self, seed: int, query: int) -> DrawLength:
        if self.lengths == "per_candidate":
            return self.length_sampler
        if hasattr(self.length_sampler, "at"):
            drawn = self.length_sampler.at(candidate_stream(seed, query, 0).random())
        else:
            drawn = self.length_sampler()
        return lambda: drawn

    def _check_device(self, device: Any) -> None:
        here = self.model.device
        if device is not None and torch.device(device).type != here.type:
            raise InputError("device", f"The model is on {here}, not on {device}. Move it with model.to({str(device)!r}).")


class _Wanted:
    """What generation config and keyword arguments ask for together."""

    def __init__(self, model, tokenizer, config: GenerationConfig | None, kwargs: dict[str, Any]):
        self.model, self.tokenizer = model, tokenizer
        config = kwargs.get("generation_config") or config
        fields = {k: v for k, v in kwargs.items() if k not in CALLABLES}
        given = ({k: v for k, v in config.to_diff_dict().items() if v is not None} if config else {}) | fields
        for name, value in given.items():
            _check_honoured(name, value)
        self.given = given
        self.processors = kwargs.get("logits_processor") or LogitsProcessorList()
        self.criteria = kwargs.get("stopping_criteria") or StoppingCriteriaList()
        self.config = self._merged(config, fields)

    def _merged(self, config: GenerationConfig | None, fields: dict[str, Any]) -> GenerationConfig:
        """Keyword arguments before the config, before the model's own, before transformers' defaults."""
        base = copy.deepcopy(config) if config else GenerationConfig()
        base.update(**fields)
        merged, _ = self.model._prepare_generation_config(base)
        for name, value in fields.items():
            if value is None:  # asked to be off, which a merge takes for not given
                setattr(merged, name, None)
        if self.given.get("do_sample") is None:
            merged.do_sample = True
        if merged.top_k:
            merged.top_k = int(merged.top_k)
        self.model._prepare_special_tokens(merged, True, device=self.model.device)
        return merged

    def rules(self) -> Rules:
        """The rules for the engine."""
        eos = self.config._eos_token_tensor
        return Rules(
            processors=self._processors_for, stop=self._stop(), greedy=not self.config.do_sample,
            eos=() if eos is None else eos.tolist(), use_cache=self.config.use_cache is not False,
        )

    def _processors_for(self, prompt_length: int) -> LogitsProcessorList:
        return self.model._get_logits_processor(
            generation_config=self.config, input_ids_seq_length=prompt_length, logits_processor=self.processors,
            device=self.model.device,
        )

    def _stop(self) -> Callable | None:
        criteria = self.model._get_stopping_criteria(self.config, self.criteria, tokenizer=self.tokenizer)
        others = [c for c in criteria if not isinstance(c, MaxLengthCriteria | EosTokenCriteria)]
        return (lambda ids: StoppingCriteriaList(others)(ids, None)) if others else None

    def sampling(self) -> dict[str, Any]:
        """Temperature, top-k and top-p for the record in the results."""
        config = self.config
        return {"temperature": config.temperature or 1.0, "top_k": config.top_k or 0, "top_p": config.top_p or 1.0}

    def capped(self, lengths: DrawLength, prompt_length: int) -> DrawLength:
        """The drawn lengths, at most what max_length and max_new_tokens leave where the caller gave them."""
        most = [self.given["max_new_tokens"]] if self.given.get("max_new_tokens") else []
        if self.given.get("max_length"):
            most.append(self.given["max_length"] - prompt_length)
            if most[-1] < 1:
                raise InputError(
                    "max_length",
                    f"max_length is {self.given['max_length']} and the query has {prompt_length} tokens already: "
                    "nothing is left to generate.",
                )
        return _Capped(lengths, min(most)) if most else lengths


class _Capped:
    """A length sampler with an upper end."""

    def __init__(self, lengths: DrawLength, most: int):
        self.lengths, self.most = lengths, most
        if hasattr(lengths, "at"):
            self.at = lambda u: min(most, lengths.at(u))

    def __call__(self) -> int:
        return min(self.most, self.lengths())


def _check_honoured(name: str, value: Any) -> None:
    neutral = NEUTRAL.get(name, ())
    asks_nothing = value is None or value is False or value == 0 or value in neutral or ... in neutral
    if name not in HONOURED and not asks_nothing:
        raise InputError(
            name, f"BestOfNSampler does not support {name}={value!r}: it draws sample_size texts one token at a time. "
            "Leave it out."
        )


def _queries(given: Any, mask: Any) -> list[tuple[int, ...]]:
    """Token ids per query from any of the accepted forms; masked positions are left out."""
    if isinstance(given, torch.Tensor):
        if given.ndim > 2 or given.is_floating_point():
            raise InputError("tokenized_query", "A tensor of queries holds whole token ids, [tokens] or [queries, tokens].")
        rows = given.reshape(1, -1) if given.ndim < 2 else given
    elif isinstance(given, Sequence) and not isinstance(given, str) and len(given):
        rows = [given] if all(isinstance(i, int) for i in given) else given
    else:
        raise InputError("tokenized_query", f"tokenized_query must hold token ids, not {given!r}.")
    queries = [_ids(row) for row in rows]
    if mask is not None:
        masks = [_ids(row) for row in (mask.reshape(len(queries), -1) if isinstance(mask, torch.Tensor) else mask)]
        if [len(m) for m in masks] != [len(q) for q in queries]:
            raise InputError("attention_mask", "attention_mask must have the shape of tokenized_query.")
        queries = [tuple(i for i, m in zip(q, ms, strict=True) if m) for q, ms in zip(queries, masks, strict=True)]
    if not all(queries):
        raise InputError("tokenized_query", f"Query {queries.index(())} is empty: it must hold at least one token id.")
    return queries


def _ids(row: Any) -> tuple[int, ...]:
    values = row.reshape(-1).tolist() if hasattr(row, "tolist") else list(row)
    if not all(isinstance(i, int) for i in values):
        raise InputError("tokenized_query", "A query must hold whole token ids. Encode texts with the tokenizer first.")
    return tuple(values)
