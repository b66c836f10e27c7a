"""What a transformers `GenerationConfig` means for the local engine: every field is honoured or refused by name."""

import copy
from collections.abc import Callable
from typing import Any

from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import WatermarkingConfig

from bon.engines.local.engine import Rules
from bon.errors import InputError
from bon.messages import say
from bon.settings import whole
from bon.stats.lengths import DrawLength

#: Fields that have their effect, or (special tokens, compilation) nothing left to do here.
HONOURED = frozenset({
    "do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
    "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "sequence_bias", "suppress_tokens",
    "begin_suppress_tokens", "forced_bos_token_id", "min_length", "min_new_tokens", "max_length", "max_new_tokens",
    "max_time", "stop_strings", "exponential_decay_length_penalty", "remove_invalid_values", "renormalize_logits",
    "watermarking_config", "use_cache", "eos_token_id", "pad_token_id", "bos_token_id", "disable_compile",
    "transformers_version",
})  # fmt: skip
#: The values, besides None and False, with which another field asks for nothing. Zero is no such value in itself: it
#: can be a token, or a guidance scale.
NEUTRAL: dict[str, Any] = {
    "num_beams": 1, "num_return_sequences": 1, "num_beam_groups": 1, "diversity_penalty": 0.0, "length_penalty": 1.0,
    "penalty_alpha": 0.0, "guidance_scale": 1.0, "encoder_repetition_penalty": 1.0, "encoder_no_repeat_ngram_size": 0,
    "cache_implementation": "dynamic", "num_assistant_tokens": 20, "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4, "assistant_lookbehind": 10, "target_lookbehind": 10,
}  # fmt: skip
#: Arguments of transformers' `generate` that are no fields and honoured too, and those that are not.
ARGUMENTS = frozenset({"generation_config", "attention_mask", "logits_processor", "stopping_criteria", "tokenizer"})
REFUSED_ARGUMENTS = frozenset({
    "inputs", "input_ids", "inputs_embeds", "prefix_allowed_tokens_fn", "synced_gpus", "assistant_model",
    "assistant_tokenizer", "streamer", "negative_prompt_ids", "negative_prompt_attention_mask", "custom_generate",
})  # fmt: skip
#: What a model's own generation config must not ask for either; its other fields cannot change a text here.
DECISIVE = frozenset({
    "num_beams", "penalty_alpha", "dola_layers", "guidance_scale", "encoder_repetition_penalty",
    "encoder_no_repeat_ngram_size", "forced_eos_token_id", "token_healing", "constraints", "force_words_ids",
})  # fmt: skip


class Wanted:
    """What the model's own generation config, a given one and the keyword arguments of a call ask for together.

    Keyword arguments go before the given config, it before the model's own, that before transformers' defaults.
    Samples unless told otherwise. Raises `InputError` with the name of a field that is unknown, not supported or
    of a value that transformers refuses.
    """

    def __init__(self, model, tokenizer, config: GenerationConfig | None, kwargs: dict[str, Any]):
        config = kwargs.get("generation_config") or config
        check_config(config)
        fields = {name: value for name, value in kwargs.items() if name not in ARGUMENTS}
        self.given = _set_fields(config) | fields
        for name, value in self.given.items():
            _check_field(name, value)
        self.model, self.tokenizer = model, kwargs.get("tokenizer") or tokenizer
        self.processors = kwargs.get("logits_processor") or LogitsProcessorList()
        self.criteria = kwargs.get("stopping_criteria") or StoppingCriteriaList()
        try:
            self.config = self._merged(config, fields)
            self._processors_for(1)
            self.stop = self._stop()
        except InputError:
            raise
        except (ValueError, TypeError) as error:  # transformers' own checks of the values
            at_fault = self._at_fault()
            raise InputError(
                at_fault, say("error.generation_field_invalid", name=at_fault, error=str(error))
            ) from error

    def _at_fault(self) -> str:
        """The field that fails on its own, or the config where only several together do."""
        if len(self.given) == 1:
            return next(iter(self.given))
        for name, value in self.given.items():
            try:
                Wanted(self.model, self.tokenizer, None, {name: value})
            except InputError as error:
                return error.field
        return "generation_config"

    def _merged(self, config: GenerationConfig | None, fields: dict[str, Any]) -> GenerationConfig:
        base = copy.deepcopy(config) if config else GenerationConfig()
        sample = self.given.get("do_sample")
        base.update(**fields | {"do_sample": True if sample is None else sample})
        merged, _ = self.model._prepare_generation_config(base)
        for name in [name for name, value in fields.items() if value is None and name != "do_sample"]:
            setattr(merged, name, None)  # asked to be off, which a merge takes for not given
        for name in DECISIVE - self.given.keys():
            _check_field(name, getattr(merged, name, None), of_model=True)
        if merged.top_k is not None:
            merged.top_k = whole("top_k", merged.top_k, 0)
        if merged.min_new_tokens is not None:
            merged.min_length = None  # as in transformers, where it takes precedence
        # The drawn lengths hold; a largest length counts only where the caller gave it (`capped`).
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
        config._eos_token_tensor = None  # end of text is the engine's own affair
        criteria = self.model._get_stopping_criteria(config, self.criteria, tokenizer=self.tokenizer)
        return (lambda ids: criteria(ids, None)) if criteria else None

    def sampling(self) -> dict[str, Any]:
        """Temperature, top-k and top-p for the record in the results; without sampling none of them counts."""
        config = self.config
        if not config.do_sample:
            return {}
        return {
            "temperature": 1.0 if config.temperature is None else config.temperature,
            "top_k": config.top_k or 0,
            "top_p": 1.0 if config.top_p is None else config.top_p,
        }

    def capped(self, lengths: DrawLength, prompt_length: int) -> DrawLength:
        """The drawn lengths, at most what max_new_tokens or else max_length leaves, where the caller gave one."""
        if self.given.get("max_new_tokens") is not None:
            return _Capped(lengths, whole("max_new_tokens", self.given["max_new_tokens"], 1))
        if self.given.get("max_length") is None:
            return lengths
        most = whole("max_length", self.given["max_length"], 1)
        if most <= prompt_length:
            raise InputError(
                "max_length", say("error.max_length_reached", most=str(most), tokens=str(prompt_length))
            )
        return _Capped(lengths, most - prompt_length)

    def without_padding(self, ids: list[int]) -> list[int]:
        """A row of a tensor without the pad tokens at its ends, where the pad token is a token of its own."""
        pad = self.config.pad_token_id
        # One that also starts or ends texts may be meant: there only an attention mask can tell.
        if pad is None or pad in {*self.eos, self.tokenizer.bos_token_id, self.tokenizer.eos_token_id}:
            return ids
        kept = [place for place, token in enumerate(ids) if token != pad]
        return ids[kept[0] : kept[-1] + 1] if kept else []


class _Capped:
    """A length sampler with an upper end."""

    def __init__(self, lengths: DrawLength, most: int):
        self.lengths, self.most = lengths, most
        if hasattr(lengths, "at"):
            self.at = lambda u: min(most, lengths.at(u))

    def __call__(self) -> int:
        return min(self.most, self.lengths())


def check_config(config: Any) -> None:
    """An `InputError` for a generation config that is none."""
    if config is not None and not isinstance(config, GenerationConfig):
        raise InputError("generation_config", say("error.not_a_generation_config", type=type(config).__name__))


def _set_fields(config: GenerationConfig | None) -> dict[str, Any]:
    fields = vars(config) if config else {}
    return {name: value for name, value in fields.items() if value is not None and not name.startswith("_")}


def _check_field(name: str, value: Any, of_model: bool = False) -> None:
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
