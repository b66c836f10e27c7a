"""transformers' `GenerationConfig` for the local engine: every field is honoured or refused by name."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)
from transformers.generation import WatermarkingConfig

from bon.engines.local.engine import Rules
from bon.errors import InputError
from bon.messages import say
from bon.settings import whole
from bon.stats.lengths import DrawLength

#: Fields that have their effect here, or (special tokens, compilation) need none.
HONOURED = frozenset({
    "do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
    "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "sequence_bias", "suppress_tokens",
    "begin_suppress_tokens", "forced_bos_token_id", "min_length", "min_new_tokens", "max_length", "max_new_tokens",
    "max_time", "stop_strings", "exponential_decay_length_penalty", "remove_invalid_values", "renormalize_logits",
    "watermarking_config", "use_cache", "eos_token_id", "pad_token_id", "bos_token_id", "disable_compile",
    "transformers_version",
})  # fmt: skip
#: The values, besides None and False, at which another field has no effect. Zero is not one of them in general: it can
#: be a token, or a guidance scale.
NEUTRAL: dict[str, Any] = {
    "num_beams": 1, "num_return_sequences": 1, "num_beam_groups": 1, "diversity_penalty": 0.0, "length_penalty": 1.0,
    "penalty_alpha": 0.0, "guidance_scale": 1.0, "encoder_repetition_penalty": 1.0, "encoder_no_repeat_ngram_size": 0,
    "cache_implementation": "dynamic", "num_assistant_tokens": 20, "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4, "assistant_lookbehind": 10, "target_lookbehind": 10,
}  # fmt: skip
#: Arguments of transformers' `generate` that are no fields: those that are honoured, and those that are refused.
ARGUMENTS = frozenset({"generation_config", "attention_mask", "logits_processor", "stopping_criteria", "tokenizer"})
REFUSED_ARGUMENTS = frozenset({
    "inputs", "input_ids", "inputs_embeds", "prefix_allowed_tokens_fn", "synced_gpus", "assistant_model",
    "assistant_tokenizer", "streamer", "negative_prompt_ids", "negative_prompt_attention_mask", "custom_generate",
})  # fmt: skip
#: Fields that are refused in a model's own generation config too; its others cannot change a text here.
REFUSED_IN_MODEL = frozenset({
    "num_beams", "penalty_alpha", "dola_layers", "guidance_scale", "encoder_repetition_penalty",
    "encoder_no_repeat_ngram_size", "forced_eos_token_id", "token_healing", "constraints", "force_words_ids",
})  # fmt: skip


class GenerationOptions:
    """The generation options of a call, merged from its keyword arguments and generation configs.

    Keyword arguments precede the caller's config, this the model's own, and that transformers' defaults. Samples unless
    `do_sample` is False. requested: the fields that keyword arguments and the caller's config set. Raises `InputError`
    with the name of a field that is unknown, is not supported or has a value that transformers refuses. model: `Any`,
    since transformers' own models do not have the type that it declares for the methods called here.
    """

    requested: dict[str, Any]
    model: Any
    tokenizer: PreTrainedTokenizerBase
    processors: LogitsProcessorList
    criteria: StoppingCriteriaList
    config: GenerationConfig
    stop: Callable[[torch.Tensor], torch.Tensor] | None

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, config: GenerationConfig | None,
                 kwargs: dict[str, Any]):
        config = kwargs.get("generation_config") or config
        check_config(config)
        fields = {name: value for name, value in kwargs.items() if name not in ARGUMENTS}
        self.requested = _set_fields(config) | fields
        for name, value in self.requested.items():
            _check_field(name, value)
        self.model, self.tokenizer = model, kwargs.get("tokenizer") or tokenizer
        self.processors = kwargs.get("logits_processor") or LogitsProcessorList()
        self.criteria = kwargs.get("stopping_criteria") or StoppingCriteriaList()
        try:
            self.config = self._merge(config, fields)
            self._processors_for(1)
            self.stop = self._stop()
        except InputError:
            raise
        except (ValueError, TypeError) as error:  # transformers' own checks of the values
            name = self._invalid_field()
            raise InputError(name, say("error.generation_field_invalid", name=name, error=str(error))) from error

    def _invalid_field(self) -> str:
        """The field that fails on its own; `generation_config` where only several together do."""
        if len(self.requested) == 1:
            return next(iter(self.requested))
        for name, value in self.requested.items():
            try:
                GenerationOptions(self.model, self.tokenizer, None, {name: value})
            except InputError as error:
                return error.field
        return "generation_config"

    def _merge(self, config: GenerationConfig | None, fields: dict[str, Any]) -> GenerationConfig:
        """The one config that all sources come to, checked, without the length limits, which are applied apart."""
        base = copy.deepcopy(config) if config else GenerationConfig()
        sample = self.requested.get("do_sample")
        base.update(**fields | {"do_sample": True if sample is None else sample})
        merged, _ = self.model._prepare_generation_config(base)
        for name in [name for name, value in fields.items() if value is None and name != "do_sample"]:
            setattr(merged, name, None)  # a None of the caller turns a field off; transformers' merge ignores it
        for name in REFUSED_IN_MODEL - self.requested.keys():
            _check_field(name, getattr(merged, name, None), of_model=True)
        if merged.top_k is not None:
            merged.top_k = whole("top_k", merged.top_k, 0)
        if merged.min_new_tokens is not None:
            merged.min_length = None  # as in transformers, where min_new_tokens precedes it
        # Lengths are drawn; a maximum applies only where the caller set it (`limit_lengths`).
        merged.max_length = merged.max_new_tokens = None
        self.model._prepare_special_tokens(merged, True, device=self.model.device)
        return merged

    @property
    def eos(self) -> tuple[int, ...]:
        """The tokens that end a text."""
        tensor = self.config._eos_token_tensor
        return () if tensor is None else tuple(tensor.tolist())

    def rules(self) -> Rules:
        """The rules for the engine."""
        return Rules(
            processors=self._processors_for, stop=self.stop, greedy=not self.config.do_sample, eos=self.eos,
            use_cache=self.config.use_cache is not False,
        )  # fmt: skip

    def _processors_for(self, prompt_length: int) -> LogitsProcessorList:
        return self.model._get_logits_processor(
            generation_config=self.config, input_ids_seq_length=prompt_length, logits_processor=self.processors,
            device=self.model.device,
        )  # fmt: skip

    def _stop(self) -> Callable | None:
        config = copy.copy(self.config)
        config._eos_token_tensor = None  # the engine itself stops at the end of text
        criteria = self.model._get_stopping_criteria(config, self.criteria, tokenizer=self.tokenizer)
        return (lambda ids: criteria(ids, None)) if criteria else None

    def sampling(self) -> dict[str, Any]:
        """Temperature, cuts and repetition penalty for the results' settings; none of them without sampling."""
        config = self.config
        if not config.do_sample:
            return {}
        return {
            "temperature": 1.0 if config.temperature is None else config.temperature,
            "top_k": config.top_k or 0,
            "top_p": 1.0 if config.top_p is None else config.top_p,
            "min_p": config.min_p or 0.0,
            "typical_p": 1.0 if config.typical_p is None else config.typical_p,
            "repetition_penalty": config.repetition_penalty or 1.0,
        }

    def limit_lengths(self, lengths: DrawLength, prompt_length: int) -> DrawLength:
        """The drawn lengths, limited to the caller's max_new_tokens, or else to what max_length leaves."""
        if self.requested.get("max_new_tokens") is not None:
            return _LimitedLengths(lengths, whole("max_new_tokens", self.requested["max_new_tokens"], 1))
        if self.requested.get("max_length") is None:
            return lengths
        most = whole("max_length", self.requested["max_length"], 1)
        if most <= prompt_length:
            raise InputError(
                "max_length", say("error.max_length_reached", most=str(most), tokens=str(prompt_length))
            )
        return _LimitedLengths(lengths, most - prompt_length)

    def strip_padding(self, ids: list[int]) -> list[int]:
        """A row of a tensor without the pad tokens at its ends, where the pad token has no other use."""
        pad = self.config.pad_token_id
        # One that also starts or ends texts may belong to the prompt: there only an attention mask can tell.
        if pad is None or pad in {*self.eos, self.tokenizer.bos_token_id, self.tokenizer.eos_token_id}:
            return ids
        positions = [position for position, token in enumerate(ids) if token != pad]
        return ids[positions[0] : positions[-1] + 1] if positions else []


class _LimitedLengths:
    """A length sampler whose lengths are at most `most`; it has `at` where the sampler it limits has it."""

    def __init__(self, lengths: DrawLength, most: int):
        self.lengths, self.most = lengths, most
        if hasattr(lengths, "at"):
            self.at = lambda u: min(most, lengths.at(u))

    def __call__(self) -> int:
        return min(self.most, self.lengths())


def check_config(config: Any) -> None:
    """Raises `InputError` for a value that is no `GenerationConfig`, nor None."""
    if config is not None and not isinstance(config, GenerationConfig):
        raise InputError("generation_config", say("error.not_a_generation_config", type=type(config).__name__))


def _set_fields(config: GenerationConfig | None) -> dict[str, Any]:
    fields = vars(config) if config else {}
    return {name: value for name, value in fields.items() if value is not None and not name.startswith("_")}


def _check_field(name: str, value: Any, of_model: bool = False) -> None:
    """Raises `InputError` for a field that is unknown, or unsupported with this value.

    of_model: whether it is of the model's own config, which the caller cannot leave out but override.
    """
    if name == "watermarking_config" and not isinstance(value, WatermarkingConfig | dict | None):
        raise InputError(name, say("error.generation_type_unsupported", name=name, type=type(value).__name__))
    if name in HONOURED:
        return
    if name not in vars(GenerationConfig()) and name not in REFUSED_ARGUMENTS:
        raise InputError(name, say("error.no_generation_field", name=name))
    if value is None or value is False or (name in NEUTRAL and value == NEUTRAL[name]):
        return
    if of_model:
        remedy = say("error.generation_field_unsupported.of_model", name=name, value=repr(NEUTRAL.get(name)))
    else:
        remedy = say("error.generation_field_unsupported.leave_out")
    raise InputError(
        name, say("error.generation_field_unsupported", name=name, value=repr(value), remedy=remedy)
    )
