"""Every field of a GenerationConfig has in BestOfNSampler the effect that transformers gives it, or is refused."""

import inspect

import pytest
import torch
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, MaxLengthCriteria, StoppingCriteriaList
from transformers.generation import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    SynthIDTextWatermarkingConfig,
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

import bon
from bon.errors import EngineError
from tests.support import tiny

NEW = 12
PROMPT = "The hotel room was"
FIELDS = sorted(name for name in vars(GenerationConfig()) if not name.startswith("_"))


@pytest.fixture
def ids(tokenizer):
    return tokenizer(PROMPT)["input_ids"]


@pytest.fixture
def make(model, tokenizer):
    def make(new=NEW, n=1, **arguments):
        arguments = {"seed": 3} | arguments
        return bon.BestOfNSampler(model, tokenizer, lambda texts: [0.0] * len(texts), lambda: new, n, **arguments)

    return make


def generated_ids(sampler, *queries, **fields):
    """The generated token ids of each candidate, in the order of their numbers."""
    sampler.generate(*queries, **fields)
    candidates = [c for result in sampler.last_results for c in sorted(result.candidates, key=lambda c: c.index)]
    return [list(c.token_ids) for c in candidates]


def transformers_ids(model, ids, **fields):
    """The token ids of transformers' greedy search, without the end of text."""
    end = fields.get("eos_token_id", model.generation_config.eos_token_id)
    ends = end if isinstance(end, list) else [end]
    out = model.generate(
        torch.tensor([ids]), max_new_tokens=NEW, do_sample=False, pad_token_id=model.generation_config.eos_token_id,
        **fields,
    )[0, len(ids) :].tolist()  # fmt: skip
    return next((out[:i] for i, token in enumerate(out) if token in ends), out)


# Fields that change greedy search, with a value made from the tokens that plain greedy search writes.
GREEDY = {
    "repetition_penalty": lambda plain: {"repetition_penalty": 5.0},
    "no_repeat_ngram_size": lambda plain: {"no_repeat_ngram_size": 1},
    "bad_words_ids": lambda plain: {"bad_words_ids": [[plain[0]], [plain[2]]]},
    "sequence_bias": lambda plain: {"sequence_bias": [[[plain[1]], -100.0]]},
    "suppress_tokens": lambda plain: {"suppress_tokens": [plain[1], plain[3]]},
    "begin_suppress_tokens": lambda plain: {"begin_suppress_tokens": [plain[0]]},
    "eos_token_id": lambda plain: {"eos_token_id": [plain[4], 349]},
    "min_length": lambda plain: {"min_length": 11, "eos_token_id": plain[1]},
    "min_new_tokens": lambda plain: {"min_new_tokens": 6, "eos_token_id": plain[1]},
    "exponential_decay_length_penalty": lambda plain: {"exponential_decay_length_penalty": (2, 4.0)},
    "watermarking_config": lambda plain: {"watermarking_config": {"bias": 20.0, "seeding_scheme": "lefthash"}},
}
#: What the field is compared with, where that is not greedy search as the model has it.
WITHOUT = {
    "min_length": lambda plain: {"eos_token_id": plain[1]},
    "min_new_tokens": lambda plain: {"eos_token_id": plain[1]},
}


@pytest.mark.parametrize("field", GREEDY)
def test_field_has_the_effect_that_it_has_in_transformers(field, make, model, ids):
    plain = transformers_ids(model, ids, eos_token_id=None)
    fields, without = GREEDY[field](plain), WITHOUT.get(field, lambda plain: {})(plain)
    expected = transformers_ids(model, ids, **fields)
    assert expected != transformers_ids(model, ids, **without)
    assert generated_ids(make(), ids, do_sample=False, **fields) == [expected]
    assert generated_ids(make(generation_config=GenerationConfig(do_sample=False, **fields)), ids) == [expected]


# Fields that change the distribution of tokens, with transformers' class for them.
WARPERS = {
    "temperature": (0.5, TemperatureLogitsWarper(0.5)),
    "top_k": (3, TopKLogitsWarper(3)),
    "top_p": (0.3, TopPLogitsWarper(0.3)),
    "min_p": (0.2, MinPLogitsWarper(0.2)),
    "top_h": (0.4, TopHLogitsWarper(0.4)),
    "typical_p": (0.2, TypicalLogitsWarper(0.2)),
    "epsilon_cutoff": (0.02, EpsilonLogitsWarper(0.02)),
    "eta_cutoff": (0.02, EtaLogitsWarper(0.02)),
}


def chance(model, ids, new, warper):
    """Log-probability of drawing `new` after `ids` from the model's logits shaped by `warper`."""
    with torch.no_grad():
        logits = model(torch.tensor([[*ids, *new]])).logits[0, len(ids) - 1 : -1]
    shaped = warper(torch.zeros(len(new), 1, dtype=torch.long), logits)
    return shaped.log_softmax(-1).gather(-1, torch.tensor(new)[:, None]).sum().item()


@pytest.mark.parametrize("field", WARPERS)
def test_tokens_are_drawn_from_the_distribution_that_the_field_shapes(field, make, model, ids):
    value, warper = WARPERS[field]
    sampler = make(n=4)
    generated_ids(sampler, ids, **{"top_k": 0, "eos_token_id": None} | {field: value})
    for candidate in sampler.last_results[0].candidates:
        expected = chance(model, ids, candidate.token_ids, warper)
        assert candidate.sampled_logprob == pytest.approx(expected, abs=1e-3)
        assert expected != pytest.approx(candidate.logprob, abs=0.1)


# Fields that cannot change a text: nothing is padded or compiled here, and a softmax normalises anyway.
NO_EFFECT = {
    "pad_token_id": 5,
    "bos_token_id": 5,
    "disable_compile": True,
    "renormalize_logits": True,
    "transformers_version": "5.0.0",
}


@pytest.mark.parametrize("field", NO_EFFECT)
def test_field_without_an_effect_here_is_accepted_and_changes_nothing(field, make, ids):
    assert generated_ids(make(n=3), ids, **{field: NO_EFFECT[field]}) == generated_ids(make(n=3), ids)


def test_do_sample_false_is_greedy_search(make, model, ids):
    assert generated_ids(make(n=2), ids, do_sample=False) == [transformers_ids(model, ids)] * 2


def test_forced_bos_token_id_comes_first_after_a_start_token(make, model):
    fields = {"forced_bos_token_id": 0}
    expected = transformers_ids(model, [7], eos_token_id=None, **fields)
    assert expected[0] == 0
    assert generated_ids(make(), [7], do_sample=False, eos_token_id=None, **fields) == [expected]


def test_max_new_tokens_caps_the_drawn_lengths(make, ids):
    assert [len(text) for text in generated_ids(make(n=3), ids, max_new_tokens=5, eos_token_id=None)] == [5] * 3
    assert [len(text) for text in generated_ids(make(new=4), ids, max_new_tokens=5, eos_token_id=None)] == [4]


def test_max_length_caps_prompt_and_continuation_together(make, ids):
    texts = generated_ids(make(), [ids, ids[:2]], max_length=len(ids) + 3, eos_token_id=None)
    assert [len(text) for text in texts] == [3, len(ids) + 1]


def test_max_new_tokens_takes_precedence_over_max_length(make, ids):
    assert [len(text) for text in generated_ids(make(), ids, max_new_tokens=7, max_length=9, eos_token_id=None)] == [7]


def test_max_length_that_the_query_fills_already_is_refused(make, ids):
    with pytest.raises(bon.InputError, match="max_length") as caught:
        make().generate(ids, max_length=len(ids))
    assert caught.value.field == "max_length"


def test_min_new_tokens_takes_precedence_over_min_length(make, model, ids):
    plain = transformers_ids(model, ids, eos_token_id=None)
    fields = {"min_new_tokens": 2, "min_length": 100, "eos_token_id": plain[4]}
    assert transformers_ids(model, ids, **fields) == plain[:4]
    assert generated_ids(make(), ids, do_sample=False, **fields) == [plain[:4]]


def test_max_time_that_has_passed_stops_every_text_after_its_token(make, ids):
    assert [len(text) for text in generated_ids(make(n=3), ids, max_time=1e-9, eos_token_id=None)] == [1] * 3


def test_stop_strings_end_a_text_where_they_end_it_in_transformers(make, model, tokenizer, ids):
    plain = transformers_ids(model, ids, eos_token_id=None)
    word = tokenizer.decode(plain[3:5])
    expected = transformers_ids(model, ids, stop_strings=[word], tokenizer=tokenizer)
    assert len(expected) < NEW
    assert generated_ids(make(), ids, do_sample=False, stop_strings=[word]) == [expected]
    assert generated_ids(make(), ids, do_sample=False, stop_strings=word, tokenizer=tokenizer) == [expected]


def test_eos_token_id_none_continues_to_the_drawn_length(make, model, ids):
    end = transformers_ids(model, ids, eos_token_id=None)[3]
    assert len(generated_ids(make(), ids, do_sample=False, eos_token_id=end)[0]) < NEW
    config = GenerationConfig(eos_token_id=end)
    assert len(generated_ids(make(generation_config=config), ids, do_sample=False, eos_token_id=None)[0]) == NEW
    assert len(generated_ids(make(generation_config=config), ids, do_sample=False, eos_token_id=-1)[0]) == NEW


def test_use_cache_false_reads_the_whole_text_at_every_step(make, model, ids):
    inputs = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: inputs.append(
            (kwargs["input_ids"].shape[1], {"cache", "past_key_values"} & set(kwargs))),
        with_kwargs=True,
    )
    try:
        without = generated_ids(make(new=4), ids, do_sample=False, use_cache=False)
    finally:
        hook.remove()
    assert inputs == [(len(ids) + i, set()) for i in range(4)]
    assert without == generated_ids(make(new=4), ids, do_sample=False)


def test_remove_invalid_values_keeps_a_nan_from_being_chosen(make, model, ids):
    def spoil(_, args, out):
        out.logits[..., 7] = torch.nan
        return out

    hook = model.register_forward_hook(spoil)
    try:
        expected = transformers_ids(model, ids, remove_invalid_values=True, eos_token_id=None)
        assert 7 not in expected
        fields = {"do_sample": False, "eos_token_id": None}
        assert generated_ids(make(), ids, remove_invalid_values=True, **fields) == [expected]
        with pytest.raises(EngineError, match="NaN"):
            generated_ids(make(), ids, **fields)
    finally:
        hook.remove()


TESTED_ALONE = {
    "do_sample": test_do_sample_false_is_greedy_search,
    "forced_bos_token_id": test_forced_bos_token_id_comes_first_after_a_start_token,
    "max_length": test_max_length_caps_prompt_and_continuation_together,
    "max_new_tokens": test_max_new_tokens_caps_the_drawn_lengths,
    "max_time": test_max_time_that_has_passed_stops_every_text_after_its_token,
    "stop_strings": test_stop_strings_end_a_text_where_they_end_it_in_transformers,
    "use_cache": test_use_cache_false_reads_the_whole_text_at_every_step,
    "remove_invalid_values": test_remove_invalid_values_keeps_a_nan_from_being_chosen,
}
HONOURED = {*GREEDY, *WARPERS, *NO_EFFECT, *TESTED_ALONE}


REFUSED = [(field, value) for field in FIELDS if field not in HONOURED for value in (3, 0)]
OFF_AT_ZERO = {"diversity_penalty", "penalty_alpha", "encoder_no_repeat_ngram_size"}


@pytest.mark.parametrize(("field", "value"), [
    (field, value) for field, value in REFUSED if value or field not in OFF_AT_ZERO
])
def test_field_without_a_test_above_is_refused_by_name(field, value, make, ids):
    config = GenerationConfig()
    setattr(config, field, value)
    for sampler, arguments in [(make(), {field: value}), (make(generation_config=config), {})]:
        with pytest.raises(bon.InputError, match=field) as caught:
            sampler.generate(ids, **arguments)
        assert caught.value.field == field


def test_default_values_that_are_given_are_accepted(make, ids):
    config = GenerationConfig(
        num_beams=1, num_return_sequences=1, num_beam_groups=1, diversity_penalty=0.0, length_penalty=1.0,
        encoder_repetition_penalty=1.0, encoder_no_repeat_ngram_size=0, guidance_scale=1.0, output_scores=False,
        early_stopping=False, return_dict_in_generate=False,
    )  # fmt: skip
    assert generated_ids(make(n=2, generation_config=config), ids) == generated_ids(make(n=2), ids)


ARGUMENTS_OF_GENERATE = inspect.signature(GenerationMixin.generate).parameters.keys() - {
    "self", "kwargs", "generation_config", "logits_processor", "stopping_criteria",
}  # fmt: skip


@pytest.mark.parametrize("name", [*sorted(ARGUMENTS_OF_GENERATE), "input_ids", "temprature"])
def test_other_argument_of_generate_is_refused_by_name(name, make, ids):
    with pytest.raises(bon.InputError, match=name):
        make().generate(ids, **{name: object()})


def test_misspelt_field_set_to_none_is_refused_too(make, ids):
    with pytest.raises(bon.InputError, match="eos_tokens_id"):
        make().generate(ids, eos_tokens_id=None)


def test_synthid_watermark_is_refused_by_name(make, ids):
    watermark = SynthIDTextWatermarkingConfig(keys=[1, 2, 3], ngram_len=2)
    with pytest.raises(bon.InputError, match="watermarking_config"):
        make().generate(ids, watermarking_config=watermark)


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0.0), ("temperature", -1.0), ("top_p", 1.5), ("top_k", -1), ("top_k", 2.5), ("min_p", 7.0),
     ("max_new_tokens", 0), ("repetition_penalty", -1.0), ("no_repeat_ngram_size", "two"), ("bad_words_ids", [])],
)  # fmt: skip
def test_value_that_cannot_work_is_an_input_error_of_its_field(field, value, make, ids):
    with pytest.raises(bon.InputError) as caught:
        make().generate(ids, **{field: value})
    assert caught.value.field == field
    assert field in str(caught.value)


def test_config_of_another_type_is_refused_at_construction(make):
    with pytest.raises(bon.InputError, match="generation_config"):
        make(generation_config={"do_sample": True})


def test_keyword_arguments_take_precedence_over_the_config(make, ids):
    config = GenerationConfig(do_sample=True, top_k=1, suppress_tokens=[1])
    sampler = make(generation_config=config)
    generated_ids(sampler, ids, top_k=5, temperature=0.7)
    settings = sampler.last_results[0].settings
    assert (settings.top_k, settings.temperature) == (5, 0.7)
    assert config.top_k == 1


def test_keyword_arguments_take_precedence_in_search_and_length_too(make, model, ids):
    sampler = make(generation_config=GenerationConfig(do_sample=True, max_new_tokens=2))
    expected = transformers_ids(model, ids, eos_token_id=None)[:5]
    assert generated_ids(sampler, ids, do_sample=False, max_new_tokens=5, eos_token_id=None) == [expected]


def test_config_of_one_call_takes_the_place_of_the_samplers(make, model, ids):
    sampler = make(generation_config=GenerationConfig(num_beams=4))
    expected = transformers_ids(model, ids)
    assert generated_ids(sampler, ids, generation_config=GenerationConfig(do_sample=False)) == [expected]


def test_config_takes_precedence_over_the_models_own(make, tokenizer, ids):
    model = tiny.gpt2()
    model.generation_config.top_k, model.generation_config.temperature = 7, 0.5
    sampler = bon.BestOfNSampler(model, tokenizer, lambda texts: [0.0] * len(texts), lambda: 3)
    sampler.generate(ids, temperature=0.9)
    settings = sampler.last_results[0].settings
    assert (settings.top_k, settings.temperature) == (7, 0.9)


@pytest.mark.parametrize(
    ("field", "value", "off"),
    [("num_beams", 4, 1), ("guidance_scale", 2.0, 1.0), ("forced_eos_token_id", 0, None), ("penalty_alpha", 0.6, 0.0)],
)
def test_models_own_config_with_another_search_is_refused_until_overruled(field, value, off, tokenizer, ids):
    model = tiny.gpt2()
    setattr(model.generation_config, field, value)
    sampler = bon.BestOfNSampler(model, tokenizer, lambda texts: [0.0] * len(texts), lambda: 3)
    with pytest.raises(bon.InputError, match=f"{field}={off}"):
        sampler.generate(ids)
    assert len(sampler.generate(ids, **{field: off})) == 1


def test_models_own_largest_length_does_not_cut_the_drawn_ones(tokenizer, ids):
    model = tiny.gpt2()
    model.generation_config.max_length, model.generation_config.max_new_tokens = len(ids) + 1, 1
    sampler = bon.BestOfNSampler(model, tokenizer, lambda texts: [0.0] * len(texts), lambda: 6)
    sampler.generate(ids, eos_token_id=None)
    assert {c.tokens for c in sampler.last_results[0].candidates} == {6}


def test_no_config_is_changed_by_a_call(make, model, ids):
    config = GenerationConfig(top_k=0.0, eos_token_id=9)
    before = config.to_dict(), model.generation_config.to_dict()
    make(generation_config=config).generate(ids, temperature=0.8, suppress_tokens=[2])
    assert (config.to_dict(), model.generation_config.to_dict()) == before


def test_own_logits_processor_and_stopping_criterion_are_used(make, ids):
    class Only(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return torch.full_like(scores, -torch.inf).index_fill(-1, torch.tensor([11]), 0.0)

    stop = StoppingCriteriaList([MaxLengthCriteria(len(ids) + 4)])
    assert generated_ids(make(n=2), ids, logits_processor=[Only()], stopping_criteria=stop) == [[11] * 4] * 2
