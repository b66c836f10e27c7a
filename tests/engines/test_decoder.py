"""The shared decoder's logits against the model's without a cache, and linear layers packed for the processor."""

import copy
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from weakref import ref

import pytest
import torch
import transformers
from torch.nn.functional import linear

from bon.engines.local import prefix_cache
from bon.engines.local.decoder import PlainDecoder, SharedDecoder, alike_up_to, fits
from bon.engines.local.decoding_batch import _compacted
from bon.models import packed_linear
from bon.models.limits import context_length
from bon.models.number_types import int8_products
from bon.models.number_types.evening import Evening, evenings
from tests.support import tiny

VOCABULARY = 97
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.3,
}
WINDOWED = {"head_dim": 16, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
FAMILIES = {
    "gpt2": transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=128, initializer_range=0.3
    ),
    "llama": transformers.LlamaConfig(**SMALL),
    "qwen2": transformers.Qwen2Config(**SMALL),
    "qwen3": transformers.Qwen3Config(**SMALL, head_dim=16),
    "mistral, window of 4": transformers.MistralConfig(**SMALL, sliding_window=4),
    "mistral, window of 2": transformers.MistralConfig(**SMALL, sliding_window=2),
    "gemma 3, window of 4": transformers.Gemma3TextConfig(**SMALL, **WINDOWED),
    "opt": transformers.OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
        word_embed_proj_dim=32, max_position_embeddings=128, init_std=0.3,
    ),
}
UNSUPPORTED = {
    "gemma 2, soft caps": transformers.Gemma2Config(**SMALL, **WINDOWED),
    "bloom, no positions": transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4),
    "state space": transformers.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4),
    "attention in chunks of 8": transformers.Llama4TextConfig(
        **SMALL, head_dim=8, intermediate_size_mlp=48, num_local_experts=2, num_experts_per_tok=1, moe_layers=[],
        attention_chunk_size=8, floor_scale=9,
    ),
    "a cache that does not pick linear attention's rows": transformers.MiniMaxConfig(
        **SMALL, head_dim=8, layer_types=["linear_attention", "full_attention"] * 2, num_local_experts=2,
        num_experts_per_tok=1, block_size=8,
    ),
    "a cache that does not know its length": transformers.BambaConfig(
        **SMALL, attn_layer_indices=[1, 3], mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, mamba_n_groups=1,
        mamba_chunk_size=8,
    ),
}
#: Rotary embeddings whose frequencies are others for a text of more than 12 tokens.
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 12,
        "short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 5.0]}
#: Lengths of the prompts, and the prompt of each row.
SHAPES = {
    "rows of one prompt": ([6], [0] * 5),
    "prompts of equal length": ([5, 5], [0, 1, 1, 0]),
    "prompts of all lengths, rows in any order": ([9, 3, 1, 3], [3, 0, 1, 0, 2, 2, 1, 2]),
    "a prompt without rows": ([4, 2], [1, 1]),
    "one row": ([7], [0]),
    "a prompt of one token": ([1], [0, 0]),
}


def build(config):
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@cache
def model_of(family):
    """The model of a family, shared by the tests that do not change it."""
    return build({**FAMILIES, **UNSUPPORTED}[family])


@cache
def uncached_logits(model, text):
    """The model's logits for the token after a text, computed without a cache."""
    return model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]


def tokens(count, seed):
    return torch.randint(0, VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.inference_mode()
def largest_error(model, decoder, prompts, owners, steps=7):
    """The decoder's largest relative error while rows leave midway and change their order."""
    rows = list(range(len(owners)))
    texts = [list(prompts[owner]) for owner in owners]
    worst, logits = 0.0, decoder.logits
    for step in range(steps):
        for row, row_logits in zip(rows, logits, strict=True):
            expected = uncached_logits(model, tuple(texts[row]))
            worst = max(worst, ((row_logits - expected).abs().max() / expected.abs().max()).item())
        if step in (2, 4) and len(rows) > 2:
            order = [len(rows) - 1, *range(1, len(rows) - 1)]
            decoder.keep(order)
            rows = [rows[i] for i in order]
        new = tokens(len(rows), step + 50)
        for row, token in zip(rows, new, strict=True):
            texts[row].append(token)
        logits = decoder.read(torch.tensor(new))
    return worst


@pytest.mark.parametrize("fixed", [False, True], ids=["", "steps for a CUDA graph"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_are_those_of_the_model_without_a_cache(family, shape, shared, fixed):
    lengths, owners = SHAPES[shape]
    model, prompts = model_of(family), [tokens(n, seed) for seed, n in enumerate(lengths)]
    with torch.inference_mode():
        decoder = SharedDecoder(model, prompts, owners, room=7, shared=shared, fixed=fixed)
    assert fits(model)
    assert largest_error(model, decoder, prompts, owners) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_arithmetic_of_other_devices_gives_the_same_logits(family, monkeypatch):
    monkeypatch.setattr(prefix_cache, "HAS_CPU_KERNEL", False)
    lengths, owners = SHAPES["prompts of all lengths, rows in any order"]
    model, prompts = model_of(family), [tokens(n, seed) for seed, n in enumerate(lengths)]
    with torch.inference_mode():
        decoder = SharedDecoder(model, prompts, owners, room=7, shared=True)
    assert largest_error(model, decoder, prompts, owners) < 1e-4


@pytest.mark.parametrize("family", UNSUPPORTED)
def test_an_unsupported_model_is_detected_and_decoded_plainly(family):
    model, prompts, owners = model_of(family), [tokens(6, 1), tokens(6, 2)], [0, 1, 0]
    assert not fits(model)
    with torch.inference_mode():
        decoder = PlainDecoder(model, prompts, owners)
    assert largest_error(model, decoder, prompts, owners) < 1e-4


@pytest.mark.parametrize(("family", "condition"), [
    pytest.param("gpt2", lambda ids, past, positions: past is not None, id="with a past"),
    pytest.param("llama", lambda ids, past, positions: positions is not None and positions.max() > 100,
                 id="beside a row that is far on"),
    pytest.param("mistral, window of 8", lambda ids, past, positions: past is None and ids.shape[1] > 8,
                 id="past the window"),
])
def test_a_model_that_computes_other_than_its_config_says_is_detected(family, condition):
    config = {**FAMILIES, "mistral, window of 8": transformers.MistralConfig(**SMALL, sliding_window=8)}[family]

    class WithOtherLogits(transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]):
        """Has other logits on a condition."""

        def forward(self, input_ids=None, past_key_values=None, attention_mask=None, position_ids=None, **more):
            out = super().forward(input_ids=input_ids, past_key_values=past_key_values, attention_mask=attention_mask,
                                  position_ids=position_ids, **more)
            if condition(input_ids, past_key_values, position_ids):
                out.logits = out.logits * 0.5
            return out

    assert not fits(WithOtherLogits(config).eval())


def test_rows_are_decoded_together_only_while_their_lengths_do_not_change_the_logits():
    def most(**more):
        return alike_up_to(transformers.LlamaConfig(**{**SMALL, **more}))

    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 12}
    assert most() == most(rope_parameters=yarn) == float("inf")
    assert most(rope_parameters=LONG) == 12
    assert most(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}) == 127
    assert most(rope_parameters={"rope_type": "of next year", "rope_theta": 1e4}) == 0
    assert most(layer_types=["full_attention", "sliding_attention"] * 2) == float("inf")
    assert most(layer_types=["full_attention", "chunked_attention"] * 2) == most(attention_chunk_size=8) == 0
    by_layer = transformers.Gemma3TextConfig(**SMALL, **WINDOWED, rope_parameters={
        "full_attention": LONG, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    })
    assert alike_up_to(by_layer) == 12
    model = build(transformers.LlamaConfig(**SMALL, rope_parameters=LONG))
    assert fits(model, 12)
    assert not fits(model, 13)


def test_rows_that_ended_and_are_carried_along_do_not_lengthen_the_others():
    model = build(transformers.LlamaConfig(**SMALL, rope_parameters=LONG))
    texts = [tokens(10, 1), tokens(3, 2)]
    with torch.inference_mode():
        decoder = SharedDecoder(model, texts, [0, 1], room=8, shared=True, fixed=True)
        for step in range(8):
            new = tokens(2, step)
            texts[1].append(new[1])
            row_logits = decoder.read(torch.tensor(new))[1]
    expected = uncached_logits(model, tuple(texts[1]))
    assert (row_logits - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "gemma 3, window of 4"])
@pytest.mark.parametrize("shared", [True, False, None])
@pytest.mark.parametrize("fixed", [False, True], ids=["", "steps for a CUDA graph"])
def test_rows_that_join_and_prompts_that_leave_change_no_other_logits(family, shared, fixed):
    """A long prompt's rows end, others join twice, with prompts both copied per row and held once, then copied."""
    model = model_of(family)
    texts, logits = [], None

    def begin(lengths, owners, seed, shared):
        prompts = [tokens(n, seed + i) for i, n in enumerate(lengths)]
        texts.extend(list(prompts[owner]) for owner in owners)
        return SharedDecoder(model, prompts, owners, room=12, shared=shared, fixed=fixed)

    def read(decoder, seed):
        new = tokens(len(texts), seed)
        for text, token in zip(texts, new, strict=True):
            text.append(token)
        return decoder.read(torch.tensor(new))

    def check(logits):
        for text, row_logits in zip(texts, logits, strict=True):
            expected = uncached_logits(model, tuple(text))
            assert (row_logits - expected).abs().max() <= 1e-4 * expected.abs().max()

    with torch.inference_mode():
        decoder = begin([20, 3], [0, 1, 0, 1], 10, shared)
        for seed in range(3):
            check(read(decoder, seed))
        decoder.keep([3, 1])  # the rows of the long prompt end
        texts[:] = [texts[3], texts[1]]
        check(logits := read(decoder, 5))
        second = begin([5, 2], [1, 0, 0], 30, not shared if shared is not None else None)
        decoder.join(second)
        check(torch.cat([logits, second.logits]))
        for seed in range(7, 10):
            check(logits := read(decoder, seed))
        third = begin([9], [0], 60, True)
        decoder.join(third)
        check(torch.cat([logits, third.logits]))
        check(logits := read(decoder, 11))
        copied = [not decoder.cache.prompt_lengths[owner] for owner in decoder.cache.owners]
        if not any(copied):
            return
        decoder.keep(order := _compacted(copied))  # every prompt that is held once leaves
        texts[:] = [texts[i] for i in order]
        decoder.join(begin([4], [0], 70, False))
        for seed in range(12, 14):
            check(read(decoder, seed))


@pytest.mark.parametrize("kernel", [True, False], ids=["processor", "other devices"])
def test_a_prompt_that_is_hidden_whole_has_no_weight_in_float16_either(kernel, monkeypatch):
    monkeypatch.setattr(prefix_cache, "HAS_CPU_KERNEL", kernel and prefix_cache.HAS_CPU_KERNEL)
    model = tiny.gpt2().to(torch.float16)
    with torch.inference_mode():
        decoder = SharedDecoder(model, [tokens(49, 1)], [0, 0], 10, shared=True)
        decoder.join(SharedDecoder(model, [[3, 4]], [0], 10, shared=False))
        logits = decoder.read(torch.tensor([1, 2, 5]))
        expected = model(input_ids=torch.tensor([[3, 4, 5]]), use_cache=False).logits[0, -1].float()
    assert (logits[-1] - expected).abs().max() <= 0.02 * expected.abs().max()


#: A model whose language model has a config of its own within the model's.
COMPOSITE = transformers.Gemma3Config(
    text_config={**SMALL, **WINDOWED},
    vision_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("config", [FAMILIES["llama"], FAMILIES["gemma 3, window of 4"], COMPOSITE])
def test_other_calls_of_the_model_during_a_decode_step_get_its_own_attention(config, attention, tmp_path):
    """Another thread calls the model on a padded batch, generates, copies and saves it in the middle of a step."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation=attention).eval()
    ids, mask = torch.tensor([[0, 0, 5, 6, 7], [9, 8, 7, 6, 5]]), torch.tensor([[0, 0, 1, 1, 1], [1] * 5])

    @torch.inference_mode()
    def results():
        return model(input_ids=ids, attention_mask=mask).logits, model.generate(
            ids, attention_mask=mask, max_new_tokens=3, do_sample=False, eos_token_id=None, pad_token_id=0)

    def results_and_attention():
        model.save_pretrained(tmp_path)
        return *results(), copy.deepcopy(model.config).get_text_config()._attn_implementation

    interrupting_results = []

    def interrupt(*_):
        if threading.get_ident() == test_thread and not interrupting_results:
            with ThreadPoolExecutor(1) as pool:
                interrupting_results.append(pool.submit(results_and_attention).result())

    expected, test_thread = results(), threading.get_ident()
    assert fits(model)
    with torch.inference_mode():
        decoder = SharedDecoder(model, [[3, 4, 5], [6, 7]], [0, 1, 0], 2, shared=True)
        model.get_decoder().layers[2].register_forward_pre_hook(interrupt)
        logits = decoder.read(torch.tensor([1, 2, 3]))[1]
    (forward_logits, generated, attention_name), = interrupting_results
    assert torch.equal(forward_logits, expected[0])
    assert torch.equal(generated, expected[1])
    assert attention_name == attention
    assert prefix_cache.ATTENTION not in (tmp_path / "config.json").read_text()
    assert (logits - uncached_logits(model, (6, 7, 2))).abs().max() < 1e-4


def test_the_models_attention_is_restored_afterwards_and_after_a_failure():
    model = model_of("llama")
    before = model.config._attn_implementation
    with prefix_cache.shared_attention(model):
        assert model.config._attn_implementation == prefix_cache.ATTENTION
        with pytest.raises(prefix_cache.Unsupported):
            model(input_ids=torch.tensor([[1, 2]]))
    with pytest.raises(prefix_cache.Unsupported), prefix_cache.shared_attention(model):
        model(input_ids=torch.tensor([[1, 2]]))
    assert model.config._attn_implementation == before


def test_memory_for_the_prompt_does_not_grow_with_the_rows():
    model, prompts = model_of("gpt2"), [tokens(60, 1)]
    with torch.inference_mode():
        one_row, forty_rows = (SharedDecoder(model, prompts, [0] * n, room=3, shared=True).cache for n in (1, 40))
    for layer_of_one, layer in zip(one_row.layers, forty_rows.layers, strict=True):
        assert layer_of_one.prompt_keys.shape == layer.prompt_keys.shape
    assert all(layer.keys.shape == (40, 4, 3, 8) for layer in forty_rows.layers)


@pytest.mark.parametrize("fixed", [False, True])
def test_memory_is_freed_with_the_decoder(fixed):
    """Without waiting for the garbage collector: until it ran, batch after batch would stay in memory."""
    model = model_of("llama")
    gc.disable()
    try:
        with torch.inference_mode():
            decoder = SharedDecoder(model, [tokens(5, 0), tokens(2, 1)], [0, 1, 0], 8, True, fixed)
            decoder.read(torch.tensor([1, 2, 3]))
            decoder.keep([2, 1])
            decoder.join(SharedDecoder(model, [tokens(3, 2)], [0, 0], 8, True, fixed))
            decoder.read(torch.tensor([1, 2, 3, 4]))
        memory = ref(decoder.cache.layers[0].keys)
        del decoder
        assert memory() is None
    finally:
        gc.enable()


def test_memory_is_allocated_once():
    model, prompts = model_of("gpt2"), [tokens(4, 1)]
    with torch.inference_mode():
        decoder = SharedDecoder(model, prompts, [0] * 6, room=5)
        places = [(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in decoder.cache.layers]
        for step in range(5):
            decoder.read(torch.tensor(tokens(6 - step, step)))
            decoder.keep(range(5 - step))
        assert places == [(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in decoder.cache.layers]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(200,), (1, 200), (3, 5, 200), (0, 200)])
def test_a_packed_layer_computes_what_the_layer_computed(dtype, bias, shape):
    if not packed_linear.can_pack(dtype):
        pytest.skip("not on this processor")
    torch.manual_seed(0)
    layer = torch.nn.Linear(200, 300, bias=bias).to(dtype)
    packed, x = packed_linear.PackedLinear(layer.weight.detach(), layer.bias), torch.randn(shape).to(dtype)
    output = packed(x)
    assert output.dtype == dtype
    torch.testing.assert_close(output, layer(x), rtol=2e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", int8_products.KERNELS, ids=lambda kernel: f"{kernel.name} {kernel.largest}")
@pytest.mark.parametrize("even", [True, False])
def test_a_rounded_layer_is_near_and_no_row_spoils_another(dtype, bias, kernel, even, monkeypatch):
    if not kernel.is_exact():
        pytest.skip("not on this processor")
    monkeypatch.setattr(int8_products, "kernel", lambda: kernel)
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(200, 300, bias=bias).to(dtype), torch.randn(4, 200).to(dtype)
    x[1] *= 1000
    x[2] = 0
    evening = Evening(200, torch.ones(200).index_fill(0, torch.arange(9), 4.0)) if even else None
    rounded = packed_linear.Int8Linear(layer.weight.detach(), layer.bias, evening)
    output, expected = rounded(x), linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
    assert output.dtype == dtype
    most = (0.03 if even else 0.02) * 127 / kernel.largest
    assert ((output - expected).norm(dim=-1) <= most * expected.norm(dim=-1) + 1e-3).all()
    assert rounded(x[:0]).shape == (0, 300)


@pytest.mark.parametrize("rounded", [False, True])
def test_a_packed_model_computes_what_it_computed(rounded, monkeypatch):
    if rounded and not int8_products.kernel():
        pytest.skip("not on this processor")
    monkeypatch.setattr(packed_linear, "SMALLEST", 1)
    for model in (tiny.gpt2(), tiny.classifier(), build(FAMILIES["qwen2"])):
        ids = torch.randint(0, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            before = model(input_ids=ids).logits
            assert packed_linear.pack(model, {} if rounded else None)
            after = model(input_ids=ids).logits
        module_types = {type(module) for module in model.modules()}
        assert (packed_linear.Int8Linear if rounded else packed_linear.PackedLinear) in module_types
        assert torch.nn.Linear not in module_types
        assert (after - before).norm() <= (0.1 if rounded else 1e-5) * before.norm()


@pytest.mark.parametrize("rounded", [False, True])
def test_memory_holds_one_layer_at_most_twice_while_a_model_is_packed(rounded, monkeypatch):
    if rounded and not int8_products.kernel():
        pytest.skip("not on this processor")
    monkeypatch.setattr(packed_linear, "SMALLEST", 1)
    model, alive, replacement = build(FAMILIES["qwen2"]), [], packed_linear._replacement
    layers = [ref(module) for module in model.modules() if type(module) is torch.nn.Linear]

    def counting_replacement(*arguments):
        alive.append(sum(layer() is not None for layer in layers))
        return replacement(*arguments)

    monkeypatch.setattr(packed_linear, "_replacement", counting_replacement)
    texts = [[3, 5, 7], [2, 4]]
    assert packed_linear.pack(model, evenings(model, {
        layer(): layer().weight.detach() for layer in layers}, texts, 1.5) if rounded else None)
    assert alive == list(range(len(layers), 0, -1))
    assert not any(layer() for layer in layers)


def test_a_model_that_reads_its_weights_is_not_packed(monkeypatch):
    class Peeking(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(8, 8)

        def forward(self, input_ids):
            return self.layer.weight.sum() + input_ids

    monkeypatch.setattr(packed_linear, "SMALLEST", 1)
    model = Peeking()
    assert not packed_linear.pack(model)
    assert type(model.layer) is torch.nn.Linear


def _with_short_table(model):
    model.transformer.wpe = torch.nn.Embedding(100, 32)
    return model


@pytest.mark.parametrize(("make", "tokens"), [
    (lambda: tiny.gpt2(128), 128),
    (lambda: _with_short_table(tiny.gpt2(128)), 100),
    (lambda: transformers.OPTForCausalLM(FAMILIES["opt"]), 128),
    (lambda: transformers.RobertaForCausalLM(transformers.RobertaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=128, is_decoder=True,
    )), 126),
    (lambda: transformers.LlamaForCausalLM(FAMILIES["llama"]), 128),
    (lambda: transformers.BloomForCausalLM(UNSUPPORTED["bloom, no positions"]), None),
], ids=["table", "table shorter than stated", "table with two rows before", "table with padding", "rotary", "no limit"])
def test_the_context_ends_with_the_config_or_with_a_shorter_table_of_positions(make, tokens):
    model = make()
    assert context_length(model.train()) == tokens
    assert model.training
