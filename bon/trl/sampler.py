"""`BestOfNSampler`, with the interface of the class that left TRL in release 0.25, over bon's flow."""

import dataclasses
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from bon import flow
from bon.engines.base import Job, Step
from bon.engines.local.engine import LocalEngine
from bon.errors import InputError, ModelError
from bon.events import Done
from bon.messages import say
from bon.result import Candidate, Result
from bon.scorers.callable_scorer import CallableScorer
from bon.settings import SEED_MAX, Request, Settings, whole
from bon.stats.lengths import DrawLength
from bon.stats.random_streams import candidate_stream
from bon.trl.generation_config import GenerationOptions, check_config


class BestOfNSampler:
    """Samples every query `sample_size` times and returns the `n_candidates` texts with the highest scores.

    model: a causal language model of transformers, or one wrapped with a value head (`.pretrained_model`).
    tokenizer: its tokenizer. queries_to_scores: from a list of texts (prompt and continuation in one) to one score
    each, as a list, array or tensor; called once per query, in their order, with `sample_size` texts.
    length_sampler: a callable without arguments, such as `bon.LengthSampler`, that draws how many tokens to
    generate. sample_size: candidates per query. seed: makes each call repeatable and leaves the process's random
    state alone; None draws a fresh one. n_candidates: texts to return per query. generation_config: of
    transformers; every field is honoured or refused by name. lengths: one length `per_candidate`, or `per_query`
    as TRL had it.

    After a call `last_results` holds a `bon.Result` per query with all candidates and their scores.
    Raises `InputError` that names the argument at fault, `ModelError` for anything but a causal language model.
    """

    sample_size: int
    n_candidates: int
    seed: int | None
    model: Any
    tokenizer: Any
    length_sampler: DrawLength
    scorer: CallableScorer

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
                say("error.n_candidates_above_sample_size", n_candidates=str(n_candidates), size=str(sample_size)),
            )
        if not callable(length_sampler):
            raise InputError(
                "length_sampler", say("error.length_sampler_not_callable", example="bon.LengthSampler(4, 16)")
            )
        if not callable(queries_to_scores):
            raise InputError("queries_to_scores", say("error.queries_to_scores_not_callable"))
        if not callable(getattr(tokenizer, "decode", None)):
            raise InputError("tokenizer", say("error.not_a_tokenizer", type=type(tokenizer).__name__))
        if lengths not in ("per_candidate", "per_query"):
            raise InputError("lengths", say("error.lengths_unknown", value=repr(lengths)))
        check_config(generation_config)
        self.seed = None if seed is None else whole("seed", seed, 0, SEED_MAX)
        self.model, self._causal_model = model, _causal_model(model, tokenizer)
        self.tokenizer, self.length_sampler, self.lengths = tokenizer, length_sampler, lengths
        self.generation_config = generation_config
        self.scorer = CallableScorer(queries_to_scores)
        self.scorer.name = "queries_to_scores"
        self.last_results: list[Result] = []

    def generate(
        self, tokenized_query: Any, skip_special_tokens: bool = True, device: Any = None, **generation_kwargs: Any
    ) -> list[list[str]]:
        """The best texts of each query, prompt included, best first: [queries][n_candidates].

        tokenized_query: a list of token ids, a tensor [tokens] or [queries, tokens], a list of lists or a list of
        tensors. skip_special_tokens: leave them out of the texts. device: where the model is, or None.
        generation_kwargs: fields of a GenerationConfig, which go before `generation_config`; also attention_mask
        (positions at 0 are left out), logits_processor and stopping_criteria.
        """
        model = self._causal_model
        _check_device(device, model.device)
        options = GenerationOptions(model, self.tokenizer, self.generation_config, generation_kwargs)
        queries = _queries(tokenized_query, generation_kwargs.get("attention_mask"), options)
        engine = _EngineInQueryOrder(model, self.tokenizer, rules=options.rules(), verbatim=True,
                                     skip_special_tokens=skip_special_tokens)
        settings = Settings(n=self.sample_size, seed=self.seed, model=engine.name, **options.sampling()).with_seed()
        requests = [Request(settings=settings, prompt_ids=ids, query=j) for j, ids in enumerate(queries)]
        lengths = [options.limit_lengths(self._lengths(settings.seed, j), len(ids)) for j, ids in enumerate(queries)]
        self.last_results = self._drain(requests, engine, lengths)
        return [[_whole_text(c) for c in result.candidates[: self.n_candidates]] for result in self.last_results]

    def _drain(
        self, requests: Sequence[Request], engine: LocalEngine, lengths: Sequence[DrawLength]
    ) -> list[Result]:
        """The results of all requests, in their order."""
        results: dict[int, Result] = {}
        with closing(flow.stream_many(requests, engine, self.scorer, lengths)) as events:
            for number, event in events:
                if isinstance(event, Done):
                    results[number] = event.result
        return [results[number] for number in range(len(requests))]

    def _lengths(self, seed: int | None, query: int) -> DrawLength:
        """What draws the lengths of one query's candidates."""
        if self.lengths == "per_candidate":
            return self.length_sampler
        if hasattr(self.length_sampler, "at"):
            assert seed is not None  # `Settings.with_seed`
            length = self.length_sampler.at(candidate_stream(seed, query, 0).random())
        else:
            length = self.length_sampler()
        return lambda: length


def _whole_text(candidate: Candidate) -> str:
    assert candidate.whole is not None  # a verbatim engine decodes prompt and text together
    return candidate.whole


class _EngineInQueryOrder(LocalEngine):
    """Delivers a query's texts after those of all earlier queries, so that the scorer is called in query order."""

    def generate(self, jobs: Sequence[Job]) -> Generator[Step, None, None]:
        held: list[list[Candidate]] = [[] for _ in jobs]
        turn = 0
        with closing(super().generate(jobs)) as steps:
            for step in steps:
                for number, ended in step.ended.items():
                    held[number] += ended
                ready = {}
                while turn < len(jobs) and len(held[turn]) == len(jobs[turn].caps):
                    ready[turn] = held[turn]
                    turn += 1
                yield dataclasses.replace(step, ended=ready)


def _causal_model(model: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The causal language model in `model`, which may be a wrapper around it."""
    inner = getattr(model, "pretrained_model", model)
    if not hasattr(inner, "config"):
        raise InputError("model", say("error.not_a_causal_model", type=type(model).__name__))
    LocalEngine(inner, tokenizer)  # refuses sequence-to-sequence models
    if not hasattr(inner, "generate"):
        raise ModelError(say("error.no_language_model_head", type=type(inner).__name__))
    return inner


def _check_device(device: Any, model_device: torch.device) -> None:
    """Raises `InputError` for a device of another type than the model's: ids are moved, models are not."""
    try:
        requested = model_device if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        example = str(model_device)
        raise InputError("device", say("error.device_unknown", example=example, device=repr(device))) from error
    if requested.type != model_device.type:
        raise InputError("device", say(
            "error.device_differs", device=str(requested), place=str(model_device), type=repr(requested.type)
        ))


def _queries(tokenized_query: Any, mask: Any, options: GenerationOptions) -> list[tuple[int, ...]]:
    """Token ids per query, without what the mask (or, in a tensor of several rows, the pad token) marks as padding."""
    queries = _rows("tokenized_query", tokenized_query)
    if mask is not None:
        masks = _rows("attention_mask", mask, (int, bool))
        if [len(marks) for marks in masks] != [len(ids) for ids in queries]:
            raise InputError("attention_mask", say("error.attention_mask_shape"))
        queries = [[i for i, mark in zip(ids, marks, strict=True) if mark]
                   for ids, marks in zip(queries, masks, strict=True)]
    elif getattr(tokenized_query, "ndim", 1) == 2:
        queries = [options.strip_padding(ids) for ids in queries]
    if not queries or not all(queries):
        empty = queries.index([]) if queries else 0
        raise InputError("tokenized_query", say("error.numbered_query_empty", number=str(empty)))
    return [tuple(ids) for ids in queries]


def _rows(name: str, value: Any, types: tuple[type, ...] = (int,)) -> list[list[int]]:
    """Whole numbers per query from any of the accepted forms of the argument `name`."""
    rows = _as_lists(value)
    rows = rows if isinstance(rows, list) else [rows]
    if any(isinstance(row, list) for row in rows) or getattr(value, "ndim", 1) > 1:
        rows = [_squeeze(row) for row in rows]
    else:
        rows = [rows]
    if not all(isinstance(row, list) and all(type(i) in types for i in row) for row in rows):
        raise InputError(name, say("error.query_not_whole_numbers", name=name))
    return rows


def _squeeze(row: Any) -> Any:
    """The query in a tensor [1, tokens] within a list."""
    return row[0] if isinstance(row, list) and len(row) == 1 and isinstance(row[0], list) else row


def _as_lists(value: Any) -> Any:
    """Tensors, arrays and sequences as lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
    return [_as_lists(item) for item in value] if is_sequence else value
