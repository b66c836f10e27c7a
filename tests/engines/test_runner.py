"""Steps of bon's own runners against those of transformers, and the models that have no runner."""

import gc
import sys
from weakref import ref

import pytest
import torch
import transformers

from bon import BestOfNSampler
from bon.engines.local.decoder import RUNNER_ERROR, SharedDecoder, fits, runner_of
from bon.engines.local.runner import choice
from bon.models import loading
from bon.models.number_types import int8_products
from tests.engines.test_decoder import SHAPES, SMALL, VOCABULARY, build, largest_error, tokens
from tests.support import tiny

FAMILIES = {
    "gpt2": transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=128, initializer_range=0.3
    ),
    "gpt2, scaled by layer, relu": transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3, n_inner=40,
        scale_attn_by_inverse_layer_idx=True, activation_function="relu",
    ),
    "llama": transformers.LlamaConfig(**SMALL),
    "llama, biases and yarn": transformers.LlamaConfig(
        **SMALL, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, hidden_act="gelu",
        rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 12},
    ),
    "qwen2": transformers.Qwen2Config(**SMALL),
    "qwen2, windows in some layers": transformers.Qwen2Config(
        **SMALL, use_sliding_window=True, sliding_window=4, max_window_layers=2
    ),
    "qwen3": transformers.Qwen3Config(**SMALL, head_dim=16),
    "mistral, window of 4": transformers.MistralConfig(**SMALL, sliding_window=4),
    "mistral": transformers.MistralConfig(**SMALL, sliding_window=None),
    "gemma": transformers.GemmaConfig(**SMALL, head_dim=16),
}
REFUSED = {
    "another design": transformers.OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, ffn_dim=48, num_hidden_layers=1, num_attention_heads=4,
        word_embed_proj_dim=32, max_position_embeddings=128,
    ),
    "attention upcast": transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=4, n_positions=128, reorder_and_upcast_attn=True
    ),
    "an unknown activation": transformers.LlamaConfig(**SMALL, hidden_act="mish"),
    "a field of next year": transformers.LlamaConfig(**SMALL, attention_sinks=4),
    "frequencies by length": transformers.LlamaConfig(
        **SMALL, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    ),
}


def loaded(config, dtype="float32"):
    """A model of random weights, as bon places one that it loads."""
    return loading._placed(transformers.AutoModelForCausalLM, build(config), "cpu", dtype)


def begin(model, shape="prompts of all lengths, rows in any order", room=7, shared=True, seed=0, **options):
    lengths, owners = SHAPES[shape]
    prompts = [tokens(n, seed + i) for i, n in enumerate(lengths)]
    runner = runner_of(model)
    assert runner
    with torch.inference_mode():
        return SharedDecoder(model, prompts, owners, room, shared, runner=runner, **options), prompts, owners


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_give_the_logits_of_the_model_without_a_cache(family):
    model = loaded(FAMILIES[family])
    assert fits(model)
    for shape in SHAPES:
        for shared, fixed in ((True, False), (False, False), (True, True)):
            decoder, prompts, owners = begin(model, shape, shared=shared, fixed=fixed)
            assert largest_error(model, decoder, prompts, owners) < 1e-4, (shape, shared, fixed)


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral, window of 4"])
@torch.inference_mode()
def test_rows_that_join_get_the_logits_that_they_get_alone(family):
    model = loaded(FAMILIES[family])
    first, prompts, owners = begin(model, room=12)
    texts = [list(prompts[owner]) for owner in owners]
    for step in range(8):
        if step == 3:
            second, prompts, owners = begin(model, "prompts of equal length", 12, shared=False, seed=30)
            first.join(second)
            texts += [list(prompts[owner]) for owner in owners]
        if step == 5:
            first.keep([0, 11, 2])
            texts = [texts[i] for i in (0, 11, 2)]
        new = tokens(len(texts), step)
        for text, token in zip(texts, new, strict=True):
            text.append(token)
        for text, logits in zip(texts, first.read(torch.tensor(new)), strict=True):
            expected = model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]
            assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_long_prompt_of_many_rows(family):
    model = loaded(FAMILIES[family])
    prompts, owners = [tokens(100, 0)], [0] * 9
    with torch.inference_mode():
        decoder = SharedDecoder(model, prompts, owners, 7, runner=runner_of(model))
    assert decoder.cache.shared  # by itself
    assert largest_error(model, decoder, prompts, owners) < 1e-4


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_step_calls_no_code_of_transformers(family):
    model = loaded(FAMILIES[family])
    decoder, _, owners = begin(model)
    calls = []

    def record(frame, event, argument):
        if event == "call" and frame.f_globals.get("__name__", "").partition(".")[0] == "transformers":
            calls.append(frame.f_code.co_qualname)

    sys.setprofile(record)
    try:
        with torch.inference_mode():
            decoder.read(torch.tensor(tokens(len(owners), 1)))
            stepped = list(calls)
            model(input_ids=torch.tensor([[1, 2]]))
    finally:
        sys.setprofile(None)
    assert not stepped
    assert calls  # those of the model itself are seen


@pytest.mark.parametrize("family", REFUSED)
def test_a_model_that_is_not_fully_understood_has_no_runner(family):
    assert runner_of(loaded(REFUSED[family])) is None


def test_a_users_own_model_has_no_runner():
    assert runner_of(build(FAMILIES["llama"])) is None


@pytest.mark.parametrize("change", [
    pytest.param(lambda model: model.model.layers[1].mlp.register_forward_hook(lambda *_: None), id="a hook"),
    pytest.param(lambda model: setattr(model.model, "forward", model.model.forward), id="a replaced method"),
    pytest.param(lambda model: setattr(model.model.layers[0].mlp, "act_fn", torch.nn.Tanh()), id="another module"),
    pytest.param(lambda model: torch.nn.utils.parametrize.register_parametrization(
        model.model.layers[0].mlp.up_proj, "weight", torch.nn.Identity()), id="a parametrization"),
])
def test_a_model_that_was_changed_after_its_trial_has_none(change):
    model = loaded(FAMILIES["llama"])
    assert runner_of(model)
    change(model)
    assert runner_of(model) is None


def test_a_known_module_in_place_of_another_is_tried_again():
    model = loaded(FAMILIES["llama"])
    before = runner_of(model)
    assert runner_of(model) is before
    model.model.layers[0].mlp.up_proj = torch.nn.Linear(32, 48, bias=False)
    assert runner_of(model) is not before
    decoder, prompts, owners = begin(model)
    assert largest_error(model, decoder, prompts, owners) < 1e-4


def test_a_runner_keeps_no_model_in_memory():
    model = loaded(FAMILIES["llama"])
    assert runner_of(model)
    held = ref(model)
    del model
    gc.collect()
    assert held() is None


def test_a_runner_that_computes_something_else_is_not_taken(monkeypatch):
    monkeypatch.setitem(choice.RUNNERS, "gemma", choice.LlamaRunner)
    assert runner_of(loaded(FAMILIES["gemma"])) is None


def test_a_model_whose_weights_its_user_changes_between_two_calls_follows_them():
    model = tiny.gpt2()
    sampler = BestOfNSampler(model, tiny.tokenizer(), lambda texts: [0.0] * len(texts), lambda: 3, sample_size=2)
    query = torch.tensor([[5, 6]])
    sampler.generate(query)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.transformer.ln_f.bias.fill_(1.0)
        model.lm_head.weight[7] = 100.0
    sampler.generate(query)
    assert all(candidate.token_ids == (7, 7, 7) for result in sampler.last_results for candidate in result.candidates)


WIDE = {
    "gpt2": transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=256, n_layer=2, n_head=4, n_positions=128),
    "llama": transformers.LlamaConfig(**{**SMALL, "hidden_size": 256, "intermediate_size": 512,
                                         "num_hidden_layers": 2, "num_key_value_heads": 4, "initializer_range": 0.05}),
}


@pytest.mark.parametrize("dtype", ["float32", "bf16", "int8"])
@pytest.mark.parametrize("family", WIDE)
def test_steps_with_packed_and_rounded_layers_are_those_of_the_model(family, dtype):
    if dtype == "int8" and not int8_products.kernel():
        pytest.skip("this processor does not multiply int8")
    model = loaded(WIDE[family], dtype)
    assert fits(model)
    other, prompts, owners = begin(model)
    with torch.inference_mode():
        own = SharedDecoder(model, prompts, owners, 7, True)
        for step in range(6):
            new = torch.tensor(tokens(len(owners), step))
            logits = own.read(new)
            error = (other.read(new) - logits).norm() / logits.norm()
            assert error <= RUNNER_ERROR[dtype]


def test_layers_that_read_one_input_become_one_and_compute_what_they_did():
    config = transformers.LlamaConfig(**{**WIDE["llama"].to_dict(), "attention_bias": True})
    plain, packed, ids = build(config), loaded(config), torch.tensor([tokens(9, 1), tokens(9, 2)])
    layer = packed.model.layers[0]
    assert layer.self_attn.q_proj.whole is layer.self_attn.v_proj.whole
    assert layer.mlp.gate_proj.whole is layer.mlp.up_proj.whole
    with torch.inference_mode():
        assert torch.allclose(packed(ids).logits, plain(ids).logits, rtol=1e-4, atol=1e-5)
        states, prefill = runner_of(packed).read(ids)
        assert torch.allclose(runner_of(packed).logits(states), plain(ids).logits, rtol=1e-4, atol=1e-5)
    assert prefill.tokens == 9
    assert [tuple(keys.shape) for keys, _, _ in prefill.layers] == [(2, 4, 9, 64)] * 2
