"""The local engine against plain recomputation, on tiny models of several architectures."""

import copy
import dataclasses
from itertools import pairwise

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import (
    FalconH1Config,
    FalconH1ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhimoeConfig,
    PhimoeForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    RepetitionPenaltyLogitsProcessor,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.modeling_outputs import CausalLMOutput

from bon import flow
from bon.engines.base import Job
from bon.engines.local.engine import LocalEngine, Rules
from bon.engines.local.incremental_text import Detokenizer
from bon.engines.local.sampling import draw, shape
from bon.errors import EngineError, InputError, ModelError
from bon.events import Done
from bon.scorers.callable_scorer import CallableScorer
from bon.settings import Request, Settings
from bon.stats.lengths import LengthSampler
from bon.stats.random_streams import candidate_stream
from tests.support import tiny

VOCABULARY = len(tiny.tokenizer())
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
    "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": list(range(25)),
}
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL)),
    "sliding window": lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=4)),
    "attention and state space": lambda: FalconH1ForCausalLM(FalconH1Config(
        **SMALL, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8, mamba_chunk_size=8,
    )),
}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32,
        "short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 5.0]}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
BY_LAYER = {"full_attention": DYNAMIC, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
TO_32 = SMALL | {"max_position_embeddings": 32}
#: Rotary embeddings that are others for texts of more than 32 tokens.
BY_LENGTH = {
    "long factors, cache made anew": lambda: Phi3ForCausalLM(Phi3Config(
        **SMALL, original_max_position_embeddings=32, rope_parameters=LONG)),
    "long factors and another scale": lambda: PhimoeForCausalLM(PhimoeConfig(
        **SMALL, original_max_position_embeddings=32, num_local_experts=2, num_experts_per_tok=1,
        rope_parameters=LONG | {"short_mscale": 1.0, "long_mscale": 1.3})),
    "long factors, cache kept": lambda: LlamaForCausalLM(LlamaConfig(**SMALL, rope_parameters=LONG)),
    "growing with the text": lambda: LlamaForCausalLM(LlamaConfig(**TO_32, rope_parameters=DYNAMIC)),
    "growing in some layers": lambda: Gemma3ForCausalLM(Gemma3TextConfig(
        **TO_32, sliding_window=8, layer_types=["sliding_attention", "full_attention"], rope_parameters=BY_LAYER)),
}


def by_length(texts):
    """A scorer that needs no model."""
    return [float(len(text)) for text in texts]


def engine_by_length(family):
    """An engine of a model of `BY_LENGTH` that takes texts beyond 32 positions."""
    torch.manual_seed(0)
    engine = LocalEngine(BY_LENGTH[family]().eval(), tiny.tokenizer())
    engine.context = None
    return engine


def make_request(prompt="This movie", query=0, **settings):
    return Request(prompt, Settings(**{"n": 8, "seed": 7, "min_tokens": 3, "max_tokens": 14} | settings), query=query)


def generate(engine, *requests):
    """Generates the candidates of all requests in one call: for each request its candidates by index."""
    done = flow.stream_many(requests, engine, CallableScorer(by_length))
    results = [event.result for _, event in done if isinstance(event, Done)]
    return [sorted(result.candidates, key=lambda c: c.index) for result in results]


def facts(candidate):
    """The parts of a candidate that must be equal exactly, which floats need not be."""
    return candidate.index, candidate.token_ids, candidate.text, candidate.cap, candidate.ended


def all_facts(candidates):
    return [facts(candidate) for candidate in candidates]


@torch.no_grad()
def recompute(engine, request, index):
    """Token ids of one candidate, with nothing shared: every token from a full forward pass over one row."""
    settings = request.settings
    stream = candidate_stream(settings.seed, request.query, index)
    shortest, longest = settings.lengths
    cap = LengthSampler(shortest, longest + 1).at(stream.random())
    ids, start = list(engine.encode(request).ids), len(engine.encode(request).ids)
    while len(ids) < start + cap:
        logits = engine.model(torch.tensor([ids])).logits[:, -1]
        penalty = RepetitionPenaltyLogitsProcessor(settings.sampling.repetition_penalty)
        logits = penalty(torch.tensor([ids]), logits)
        sampling = dataclasses.replace(settings.sampling, repetition_penalty=1.0)
        token = draw(shape(logits, sampling), torch.tensor([stream.random()], dtype=torch.float64))[0].item()
        if token in engine.rules.eos:
            return tuple(ids[start:]), "eos"
        ids.append(token)
    return tuple(ids[start:]), "length"


class ForwardCounter:
    """Counts the forward calls of a model."""

    def __init__(self, model):
        self.calls = 0
        self._handle = model.register_forward_pre_hook(self._count)

    def _count(self, *_):
        self.calls += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._handle.remove()


class Scripted(torch.nn.Module):
    """A causal model without a cache that writes the tokens of a script, whatever is drawn."""

    def __init__(self, script, prompt_length, vocabulary=VOCABULARY):
        super().__init__()
        self.config = tiny.gpt2().config
        self.embedding = torch.nn.Embedding(vocabulary, 1)
        self.device = torch.device("cpu")
        self.script, self.prompt_length = script, prompt_length

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, attention_mask):
        logits = torch.full((*input_ids.shape, self.embedding.num_embeddings), -1e9)
        logits[:, -1, self.script[input_ids.shape[1] - self.prompt_length]] = 0
        return CausalLMOutput(logits=logits)


class Uncached(torch.nn.Module):
    """A model whose forward has no KV cache, neither as an argument nor as an output."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config, self.device = model, model.config, model.device
        self.generation_config = model.generation_config

    def forward(self, input_ids, attention_mask):
        return CausalLMOutput(logits=self.model(input_ids, attention_mask=attention_mask).logits)


class Forgetful(Uncached):
    """A model that accepts a KV cache and returns none."""

    def forward(self, input_ids, attention_mask, past_key_values=None, use_cache=None):
        return super().forward(input_ids, attention_mask)


class LimitedMemory(Uncached):
    """A model with memory for `rows` rows: more raise, as torch does on a GPU or on a processor."""

    def __init__(self, model, rows, error=torch.OutOfMemoryError, from_length=0):
        super().__init__(model)
        self.rows, self.error, self.from_length = rows, error, from_length

    def forward(self, input_ids, attention_mask):
        if len(input_ids) > self.rows and input_ids.shape[1] >= self.from_length:
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        return super().forward(input_ids, attention_mask)


#: Prompts that stay below 32 tokens with their continuation, come past them with it, and are longer by themselves.
LENGTHS = {"This movie": 2, "This movie is a delight, and the lead earns every tear. " * 2: 28,
           "This movie is a delight, and the lead earns every tear. " * 3: 42}


@pytest.mark.parametrize("family", BY_LENGTH)
def test_a_text_does_not_depend_on_the_length_of_earlier_or_concurrent_texts(family):
    engine = engine_by_length(family)
    requests = [make_request(prompt, query, n=4) for query, prompt in enumerate(LENGTHS)]
    assert [len(engine.encode(request).ids) for request in requests] == list(LENGTHS.values())
    alone = [generate(engine, request)[0] for request in requests]
    after_longer = [generate(engine, request)[0] for request in reversed(requests)][::-1]
    for expected, beside, again in zip(alone, generate(engine, *requests), after_longer, strict=True):
        assert all_facts(expected) == all_facts(beside) == all_facts(again)
        assert [c.logprob for c in beside] == pytest.approx([c.logprob for c in expected], abs=1e-3)


@pytest.mark.parametrize("family", BY_LENGTH)
def test_the_likeliest_text_is_that_of_transformers_on_either_side_of_the_length(family):
    engine = engine_by_length(family)
    engine.rules = Rules(greedy=True)
    requests = [make_request(prompt, query, n=1, min_tokens=10, max_tokens=10) for query, prompt in enumerate(LENGTHS)]
    fresh = engine_by_length(family).model
    for request, (candidate,) in zip(requests, generate(engine, *requests), strict=True):
        ids = torch.tensor([engine.encode(request).ids])
        reference = copy.deepcopy(fresh).generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                                                  max_new_tokens=10, eos_token_id=None, pad_token_id=0)
        assert list(candidate.token_ids) == reference[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("settings", [
    {}, {"temperature": 0.6, "top_k": 30}, {"top_p": 0.8, "temperature": 1.4},
    {"repetition_penalty": 2.5, "temperature": 0.7}])
def test_candidates_decoded_together_are_those_recomputed_alone(engine, settings):
    request = make_request(n=12, **settings)
    (candidates,) = generate(engine, request)
    assert {c.ended for c in candidates} == {"eos", "length"}
    for candidate in candidates:
        assert (candidate.token_ids, candidate.ended) == recompute(engine, request, candidate.index)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_architectures_decode_as_if_recomputed_alone(family):
    torch.manual_seed(1)
    engine = LocalEngine(FAMILIES[family]().eval(), tiny.tokenizer())
    request = make_request(n=10)
    (candidates,) = generate(engine, request)
    assert {c.ended for c in candidates} == {"eos", "length"}
    for candidate in candidates:
        assert (candidate.token_ids, candidate.ended) == recompute(engine, request, candidate.index)


@torch.no_grad()
def test_log_probabilities_are_those_of_one_forward_pass_over_the_whole_text(engine):
    request = make_request(temperature=0.7)
    (candidates,) = generate(engine, request)
    prompt = engine.encode(request).ids
    for candidate in candidates:
        ids = torch.tensor([prompt + candidate.token_ids])
        logprobs = engine.model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        total = logprobs.gather(-1, torch.tensor(candidate.token_ids).unsqueeze(-1)).sum()
        assert candidate.logprob == pytest.approx(total.item(), rel=1e-4)


@torch.no_grad()
def test_the_sampled_log_probability_is_under_the_settings_and_counts_the_end_of_text(engine):
    request = make_request(n=12, temperature=0.7)
    (candidates,) = generate(engine, request)
    prompt = engine.encode(request).ids
    (ended, *_) = (c for c in candidates if c.ended == "eos")
    logits = engine.model(torch.tensor([prompt + ended.token_ids])).logits[0, len(prompt) - 1 :]
    logprobs = (logits / 0.7).log_softmax(-1)
    text_logprob = sum(logprobs[i, token].item() for i, token in enumerate(ended.token_ids))
    end_logprobs = [logprobs[-1, token].item() for token in engine.rules.eos]
    assert any(ended.sampled_logprob == pytest.approx(text_logprob + end, rel=1e-4) for end in end_logprobs)


def test_no_candidate_passes_its_cap_and_only_those_that_reach_it_end_by_length(engine):
    (candidates,) = generate(engine, make_request(n=64))
    assert {c.cap for c in candidates} <= set(range(3, 15))
    assert len({c.cap for c in candidates}) > 6
    for candidate in candidates:
        assert candidate.tokens <= candidate.cap
        assert (candidate.ended == "length") == (candidate.tokens == candidate.cap)


def test_the_end_of_text_ends_a_candidate_and_is_not_counted(engine):
    (candidates,) = generate(engine, make_request(n=32))
    ended = [c for c in candidates if c.ended == "eos"]
    assert ended
    for candidate in ended:
        assert not set(candidate.token_ids) & set(engine.rules.eos)
        assert candidate.tokens == len(candidate.token_ids) < candidate.cap
        assert tiny.END not in candidate.text


def test_first_tokens_differ_between_candidates(engine):
    (candidates,) = generate(engine, make_request(n=16))
    assert len({c.token_ids[:1] for c in candidates}) > 8


def test_the_first_four_of_sixteen_are_the_four_of_four(engine):
    (sixteen,), (four,) = generate(engine, make_request(n=16)), generate(engine, make_request(n=4))
    assert all_facts(sixteen[:4]) == all_facts(four)


def test_another_seed_gives_other_candidates_throughout(engine):
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    (seed_7,), (seed_8,) = generate(endless, make_request(n=16, seed=7)), generate(endless, make_request(n=16, seed=8))
    assert not {c.text for c in seed_7} & {c.text for c in seed_8}


def test_prompts_of_different_lengths_at_once_give_what_each_gives_alone(engine):
    prompts = ["This movie", "The hotel room was awful. I", "This phone", "I"]
    requests = [make_request(prompt, query=j, n=5) for j, prompt in enumerate(prompts)]
    together = generate(engine, *requests)
    assert len({len(engine.encode(request).ids) for request in requests}) > 2
    alone = [generate(engine, request)[0] for request in requests]
    assert list(map(all_facts, together)) == list(map(all_facts, alone))


def test_equal_prompts_in_one_call_get_different_candidates(engine):
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    query_0, query_1 = generate(endless, make_request(query=0), make_request(query=1))
    assert not {c.text for c in query_0} & {c.text for c in query_1}


def test_requests_with_different_settings_share_a_call(engine):
    requests = [make_request(n=4), make_request(query=1, n=6, temperature=0.5, top_k=3)]
    together = generate(engine, *requests)
    alone = [generate(engine, request)[0] for request in requests]
    assert list(map(all_facts, together)) == list(map(all_facts, alone))


def test_more_candidates_than_rows_fit_go_in_several_batches(engine):
    few = LocalEngine(engine.model, engine.tokenizer, max_rows=3)
    assert all_facts(generate(few, make_request())[0]) == all_facts(generate(engine, make_request())[0])


@pytest.mark.parametrize("wrapper", [Uncached, Forgetful])
def test_a_model_without_a_cache_gives_the_same_candidates(engine, wrapper):
    plain = LocalEngine(wrapper(engine.model), engine.tokenizer)
    assert all_facts(generate(plain, make_request())[0]) == all_facts(generate(engine, make_request())[0])


def test_use_cache_false_uses_no_cache(engine):
    widths = []
    rules = Rules(eos=engine.rules.eos, use_cache=False)
    handle = engine.model.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    candidates = generate(LocalEngine(engine.model, engine.tokenizer, rules=rules), make_request())[0]
    handle.remove()
    assert widths == list(range(widths[0], widths[0] + len(widths)))
    assert all_facts(candidates) == all_facts(generate(engine, make_request())[0])


def test_the_prompt_is_read_once_and_each_later_token_alone(engine):
    widths = []
    handle = engine.model.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    generate(engine, make_request())
    handle.remove()
    assert widths[0] == (1, len(engine.encode(make_request()).ids))
    assert all(length == 1 for _, length in widths[1:])


def test_rows_that_ended_leave_the_batch(engine):
    rows = []
    handle = engine.model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    (candidates,) = generate(engine, make_request(n=16))
    handle.remove()
    # A row is read again for each of its tokens but the last, which a text that the model ended itself has not kept.
    assert sum(rows[1:]) == sum(c.tokens - (c.ended == "length") for c in candidates)


def test_out_of_memory_continues_with_half_the_batch_and_a_note(engine):
    small = LocalEngine(LimitedMemory(engine.model, rows=3), engine.tokenizer)
    result = flow.run(make_request(), small, CallableScorer(by_length))
    assert all_facts(sorted(result.candidates, key=lambda c: c.index)) == all_facts(generate(engine, make_request())[0])
    assert result.notes[:2] == (
        "Out of memory: continued with 4 candidates at a time.", "Out of memory: continued with 2 candidates at a time."
    )


@pytest.mark.parametrize("from_length", range(3, 18))
def test_no_candidate_is_lost_when_memory_runs_out_midway(engine, from_length):
    small = LocalEngine(LimitedMemory(engine.model, rows=2, from_length=from_length), engine.tokenizer)
    (candidates,), (expected,) = generate(small, make_request()), generate(engine, make_request())
    assert all_facts(candidates) == all_facts(expected)
    assert [c.logprob for c in candidates] == pytest.approx([c.logprob for c in expected], rel=1e-4)
    assert [c.sampled_logprob for c in candidates] == pytest.approx([c.sampled_logprob for c in expected], rel=1e-4)


def test_an_out_of_memory_error_of_the_processor_is_recognised(engine):
    small = LocalEngine(LimitedMemory(engine.model, rows=4, error=RuntimeError), engine.tokenizer)
    assert all_facts(generate(small, make_request())[0]) == all_facts(generate(engine, make_request())[0])


def test_out_of_memory_with_a_single_row_is_an_engine_error(engine):
    with pytest.raises(EngineError, match="single candidate"):
        generate(LocalEngine(LimitedMemory(engine.model, rows=0), engine.tokenizer), make_request())


@pytest.mark.parametrize("settings", [{}, {"top_k": 5}, {"top_p": 0.5}, {"temperature": 0.5}])
@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_an_engine_error(settings, broken):
    model = tiny.gpt2()

    def breaks(_, args, out):
        out.logits[..., 5] = broken

    model.register_forward_hook(breaks)
    with pytest.raises(EngineError, match="logits are NaN or infinite"):
        generate(LocalEngine(model, tiny.tokenizer()), make_request(**settings))


def test_other_errors_of_the_model_are_not_swallowed(engine):
    class Broken(Uncached):
        def forward(self, input_ids, attention_mask):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        generate(LocalEngine(Broken(engine.model), engine.tokenizer), make_request())


@pytest.mark.parametrize("events", [2, 4, 9])
def test_closing_the_stream_stops_within_one_step(engine, events):
    with ForwardCounter(engine.model) as forwards:
        stream = flow.stream(make_request(min_tokens=40, max_tokens=40), engine, CallableScorer(by_length))
        for _ in range(events):
            next(stream)
        before = forwards.calls
        stream.close()
        assert forwards.calls - before <= 1
        assert list(stream) == []


def test_a_stream_that_is_not_read_takes_no_further_steps(engine):
    with ForwardCounter(engine.model) as forwards:
        stream = flow.stream(make_request(), engine, CallableScorer(by_length))
        next(stream)
        assert forwards.calls <= 1
        stream.close()


@pytest.mark.parametrize("end", ["drained", "closed", "failed"])
def test_every_module_is_back_in_its_mode_afterwards(end):
    model = tiny.gpt2()
    model.train()
    model.transformer.h[0].eval()
    before, during = [module.training for module in model.modules()], []
    model.register_forward_pre_hook(lambda *_: during.append(any(module.training for module in model.modules())))
    broken = CallableScorer(lambda texts: [])
    scorer = broken if end == "failed" else CallableScorer(by_length)
    stream = flow.stream(make_request(), LocalEngine(model, tiny.tokenizer()), scorer)
    for _ in range(3):
        next(stream)
        assert [module.training for module in model.modules()] == before
    if end == "closed":
        stream.close()
    elif end == "drained":
        list(stream)
    else:
        with pytest.raises(Exception, match="returned 0 scores"):
            list(stream)
    assert [module.training for module in model.modules()] == before
    assert set(during) == {False}


def test_dropout_is_off_while_a_model_in_train_mode_generates(engine):
    training = LocalEngine(tiny.gpt2().train(), tiny.tokenizer(), rules=engine.rules)
    assert all_facts(generate(training, make_request())[0]) == all_facts(generate(engine, make_request())[0])


def test_a_prompt_too_long_for_the_context_is_refused_with_both_numbers(engine):
    prompt = "the lead earns every tear " * 80
    length = len(engine.encode(make_request(prompt)).ids)
    with pytest.raises(InputError) as error:
        generate(engine, make_request(prompt, max_tokens=20))
    assert error.value.field == "prompt"
    assert all(str(number) in str(error.value) for number in (length, 20, engine.context))


def test_whether_a_prompt_fits_does_not_depend_on_the_seed(engine):
    ids = tuple(range(100, 100 + engine.context - 10))
    for seed in range(12):
        request = make_request(n=1, min_tokens=1, max_tokens=11, seed=seed)
        with pytest.raises(InputError):
            generate(engine, dataclasses.replace(request, prompt=None, prompt_ids=ids))


def test_the_context_can_be_filled_to_its_last_token(engine):
    request = make_request(n=2, min_tokens=10, max_tokens=10)
    ids = tuple(100 + i % 200 for i in range(engine.context - 10))
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    (candidates,) = generate(endless, dataclasses.replace(request, prompt=None, prompt_ids=ids))
    assert [c.tokens for c in candidates] == [10, 10]


def test_a_hundred_thousand_characters_are_refused_and_not_cut(engine):
    with pytest.raises(InputError, match="Shorten it"):
        generate(engine, make_request("a b" * 33_334))


@pytest.mark.parametrize("prompt", [
    "😀 👩‍👩‍👧 🇩🇪", "שלום, زبان", "\x00\x1b[31m\x07", "\ud800 alone", "<script>alert(1)</script>", "${HOME} {{x}} %s",
    "…", "​ ", "<|endoftext|>",
])
def test_strange_prompts_are_continued(engine, prompt):
    (candidates,) = generate(engine, make_request(prompt, n=2))
    assert [c.tokens for c in candidates] == [len(c.token_ids) for c in candidates]
    assert all(c.text.encode() is not None for c in candidates)


def test_a_chat_is_put_through_the_models_template(engine):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"
    chat = LocalEngine(engine.model, tokenizer, rules=engine.rules)
    settings = dataclasses.replace(make_request().settings, temperature=1, top_p=1)  # a chat's own defaults differ
    request = Request(messages=[{"role": "user", "content": "The soup"}], settings=settings)
    assert chat.decode(chat.encode(request).ids) == "[user] The soup\n[assistant]"
    plain = dataclasses.replace(request, messages=None, prompt="[user] The soup\n[assistant]")
    assert all_facts(generate(chat, request)[0]) == all_facts(generate(engine, plain)[0])


def test_a_chat_without_a_template_is_refused_by_name(engine):
    with pytest.raises(InputError, match="tiny has no chat template") as error:
        generate(engine, Request(messages=[{"role": "user", "content": "Hi"}]))
    assert error.value.field == "messages"


def test_a_chat_that_the_template_refuses_is_bad_input(engine):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{{ raise_exception('Roles must alternate') }}"
    with pytest.raises(InputError, match="Roles must alternate") as error:
        LocalEngine(engine.model, tokenizer).encode(Request(messages=[{"role": "user", "content": "Hi"}]))
    assert error.value.field == "messages"


IM = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
#: Templates, with the tokens that they bring: those that end an answer, or begin what follows it, and others.
TEMPLATES = {
    "chatml": (IM, ["<|im_end|>"], ["<|im_start|>"]),
    "trims": (IM.replace("m.content", "m.content | trim"), ["<|im_end|>"], ["<|im_start|>"]),
    "another end at the last turn": (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ '<|return|>' if loop.last and m.role == 'assistant' "
        "else '<|end|>' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
        ["<|return|>"], ["<|end|>"]),
    "no end": ("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
               "{% if add_generation_prompt %}<|assistant|>{% endif %}", ["<|user|>"], ["<|assistant|>"]),
    "words alone": ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}", [], ["\n\n"]),
}
QUESTION = {"role": "user", "content": "The soup"}


def chat_engine(template, tokens, script=(), messages=(QUESTION,)):
    """An engine with a chat template and its tokens; its model answers with the tokens of a script."""
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    tokenizer.add_tokens(tokens, special_tokens=True)
    model = Scripted((), 0, len(tokenizer))
    model.generation_config = GenerationConfig(eos_token_id=[5, 6])
    engine = LocalEngine(model, tokenizer, name="chatty")
    engine.model.prompt_length = len(engine.encode(Request(messages=messages)).ids)
    engine.model.script = [i for text in script for i in tokenizer(text)["input_ids"]]
    return engine


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_ends_at_the_templates_end_of_turn_whatever_the_generation_config_says(name):
    template, ends, other_tokens = TEMPLATES[name]
    for token in (*ends, *other_tokens, tiny.END):
        chat = chat_engine(template, ends + other_tokens, [" the", token, " the"])
        request = Request(messages=[QUESTION], settings=Settings(n=1, seed=7, min_tokens=3, max_tokens=3))
        ((answer,),) = generate(chat, request)
        ended = token in (*ends, tiny.END)
        assert (answer.ended, answer.tokens) == (("eos", 1) if ended else ("length", 3))
    ruled = LocalEngine(chat.model, chat.tokenizer, rules=Rules())
    assert generate(ruled, request)[0][0].ended == "length"


def test_a_plain_text_ends_only_at_the_tokens_of_the_generation_config():
    chat = chat_engine(*TEMPLATES["chatml"][:2], [" the", "<|im_end|>", " the"])
    chat.model.prompt_length = len(chat.encode(Request("Say")).ids)
    ((text,),) = generate(chat, Request("Say", Settings(n=1, seed=7, min_tokens=3, max_tokens=3)))
    assert (text.ended, text.tokens) == ("length", 3)


@pytest.mark.parametrize("begun", ["It was", "It was ", "It\n"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_assistants_last_message_is_continued(name, begun):
    template, ends, other_tokens = TEMPLATES[name]
    chat = [QUESTION, {"role": "assistant", "content": begun}]
    engine = chat_engine(template, ends + other_tokens, [" warm"], chat)
    prompt_of_question = engine.tokenizer.apply_chat_template([QUESTION], add_generation_prompt=True, tokenize=False)
    # A template may have no generation prompt.
    opening = "" if prompt_of_question.endswith(("|>", "]", "assistant\n")) else "assistant: "
    assert engine.tokenizer.decode(engine.encode(Request(messages=chat)).ids) == prompt_of_question + opening + begun
    request, scored_texts = Request(messages=chat, settings=Settings(n=1, seed=7, min_tokens=1, max_tokens=1)), []
    result = flow.run(request, engine, CallableScorer(lambda texts: scored_texts.extend(texts) or [1.0]))
    assert scored_texts == [result.prompt + result.best.text] == [begun + " warm"]
    assert result.to_dict()["messages"] == chat


@pytest.mark.parametrize(("template", "message"), [
    ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "cannot continue"),
    ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", "cannot continue"),
    ("{% if messages[-1].role != 'user' %}{{ raise_exception('Users go last') }}{% endif %}{{ messages[0].content }}",
     "Users go last"),
])
def test_a_template_that_cannot_continue_a_message_is_named(template, message):
    with pytest.raises(InputError, match=f"chatty .*{message}") as error:
        chat_engine(template, [], messages=[QUESTION, {"role": "assistant", "content": "It was"}])
    assert error.value.field == "messages"


def tokenizer_with_affixes(single, *tokens):
    """A tokenizer that puts tokens around every text."""
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in tokens]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return tokenizer


@pytest.mark.parametrize(("tokenizer", "appended"), [
    (tokenizer_with_affixes(f"$A {tiny.END}", tiny.END), tiny.END),
    (tokenizer_with_affixes(f"{tiny.END} $A {tiny.END}", tiny.END), tiny.END),
    (tokenizer_with_affixes("$A <sep> <cls>", "<sep>", "<cls>"), "<sep> <cls>"),
    (tokenizer_with_affixes(f"{tiny.END} $A", tiny.END), None),
])
def test_tokens_that_a_tokenizer_appends_to_a_prompt_are_left_out_and_named(tokenizer, appended):
    start = (tokenizer.eos_token_id,) if tokenizer("a")["input_ids"][0] == tokenizer.eos_token_id else ()
    for prompt in ("This movie", f"This movie{tiny.END}", "This movie 😀", "Say"):
        plain = tuple(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        engine = LocalEngine(Scripted([100], len(start + plain), len(tokenizer)), tokenizer, name="tiny")
        assert engine.encode(Request(prompt)).ids == start + plain
    result = flow.run(make_request("Say", n=2, min_tokens=1, max_tokens=1), engine, CallableScorer(by_length))
    assert [note.values for note in result.notes] == ([{"model": "tiny", "tokens": appended}] if appended else [])


@pytest.mark.parametrize(("invalid_request", "field"), [
    (Request("A [PAD] b"), "prompt"), (Request(messages=[{"role": "user", "content": "A [PAD] b"}]), "messages"),
    (Request(unconditional=True), "prompt"),
])
def test_a_token_without_an_embedding_is_named(engine, invalid_request, field):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    tokenizer.add_special_tokens({"pad_token": "[PAD]", "bos_token": "[PAD]"})
    wide = LocalEngine(engine.model, tokenizer, name="wide")
    message = rf"wide has no embedding .*'\[PAD\]'.* {VOCABULARY}:.* {VOCABULARY - 1}\."
    with pytest.raises(InputError, match=message) as error:
        generate(wide, invalid_request)
    assert error.value.field == field


def test_an_unconditional_sample_begins_at_the_start_token(engine):
    request = Request(settings=make_request().settings, unconditional=True)
    assert engine.encode(request).ids == (engine.tokenizer.bos_token_id,)
    result = flow.run(request, engine, CallableScorer(by_length))
    assert result.prompt == ""
    assert len({c.text for c in result.candidates}) > 4


def test_an_unconditional_sample_is_refused_without_a_start_token(engine):
    startless = LocalEngine(engine.model, tiny.tokenizer(start=None), name="startless")
    with pytest.raises(InputError, match="startless has no start token") as error:
        generate(startless, Request(unconditional=True))
    assert error.value.field == "prompt"


@pytest.mark.parametrize(
    ("ids", "message"), [((), "empty"), ((3, VOCABULARY), "outside the vocabulary"), ((-1,), "outside")]
)
def test_token_ids_that_the_model_does_not_have_are_refused(engine, ids, message):
    with pytest.raises(InputError, match=message):
        generate(engine, Request(prompt_ids=ids))


def test_a_sequence_to_sequence_model_is_refused_by_name():
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=30, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(ModelError, match="T5ForConditionalGeneration is a sequence-to-sequence model"):
        LocalEngine(t5, tiny.tokenizer())


def texts_so_far(engine, prompt, **settings):
    """The texts so far of each candidate, in order, the complete one last."""
    texts = {}
    job = Job(engine.encode(Request(prompt)).ids, (settings["cap"],) * settings.get("n", 1), make_request(prompt))
    for step in engine.generate([job]):
        for row in step.grown.get(0, ()):
            texts.setdefault(row.index, []).append(row.text)
        for candidate in step.ended.get(0, ()):
            texts.setdefault(candidate.index, []).append(candidate.text)
    return list(texts.values())


@pytest.mark.parametrize("full_text", ["naïve 日本語 😀 done", "👩‍👩‍👧", " שלום", "a\ufffdb", "one  two\n\n three "])
def test_characters_of_many_bytes_appear_whole_or_not_at_all(full_text):
    tokenizer = tiny.tokenizer()
    script, start = tokenizer(full_text)["input_ids"], len(tokenizer("Say")["input_ids"])
    (texts,) = texts_so_far(LocalEngine(Scripted(script, start), tokenizer), "Say", cap=len(script))
    assert texts[-1] == full_text
    for text in texts[:-1]:
        assert full_text.startswith(text)
    for text in texts:
        assert text.count("\ufffd") <= full_text.count("\ufffd")


def llama_tokenizer():
    """A tokenizer whose words begin with their space, and that spells unknown characters in bytes."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefghijklmnopqrstuvwxyzS."]
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("▁", "l"), ("e", "a"), ("ea", "d"), ("▁l", "ead")]
    tokens += [left + right for left, right in merges]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    base = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))
    base.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    base.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)
    ])
    return PreTrainedTokenizerFast(tokenizer_object=base, unk_token="<unk>")


def test_spaces_and_characters_in_bytes_survive_llamas_tokenizer():
    tokenizer, full_text = llama_tokenizer(), " the lead 日本 the 😀 lead the lead the."
    start = len(tokenizer("Say")["input_ids"])
    script = tokenizer("Say" + full_text)["input_ids"][start:]
    (texts,) = texts_so_far(LocalEngine(Scripted(script, start), tokenizer), "Say", cap=len(script))
    assert texts[-1] == full_text
    assert texts[:2] == [" the", " the lead"]
    assert all(full_text.startswith(text) for text in texts)


def run_with_caps(tokenizer, script, *caps):
    """The result of a run whose model writes a script of token ids, each candidate up to its cap."""
    engine = LocalEngine(Scripted(script, len(tokenizer("Say")["input_ids"])), tokenizer)
    settings = Settings(n=len(caps), seed=7)
    return flow.run(Request("Say", settings), engine, CallableScorer(by_length), iter(caps).__next__)


@pytest.mark.parametrize("make", [tiny.tokenizer, llama_tokenizer])
def test_half_a_character_at_the_cap_is_left_out_with_a_note(make):
    tokenizer, full_text = make(), "the 日本 é😀"
    script = tokenizer(full_text)["input_ids"]
    result = run_with_caps(tokenizer, script, *range(1, len(script) + 1))
    assert [note.key for note in result.notes] == ["note.character_cut"]
    assert run_with_caps(tokenizer, script, len(script)).notes == ()
    halves = 0
    for c in result.candidates:
        assert (c.ended, c.tokens, c.token_ids) == ("length", c.cap, tuple(script[: c.cap]))
        assert full_text.startswith(c.text.lstrip())
        plain = tokenizer.decode(script[: c.cap]).lstrip()
        assert c.text.lstrip() == plain or plain.endswith("\ufffd")
        halves += plain.endswith("\ufffd")
    assert halves > 6
    assert {c.text.lstrip() for c in result.candidates} >= {"the 日", "the 日本", full_text}


def byte_tokens(tokenizer, *values):
    """The tokens of single bytes."""
    letters = bytes_to_unicode()
    return tokenizer.convert_tokens_to_ids([letters[value] for value in values])


@pytest.mark.parametrize(("byte_values", "text"), [
    ((0xEF, 0xBF, 0xBD), "a\ufffd"),  # a model that writes U+FFFD itself
    ((0x80,), "a\ufffd"), ((0xED, 0xA0), "a\ufffd\ufffd"),  # what nothing could complete
    ((0xE6, 0x41), "a\ufffdA"), ((0xE6, 0xE6), "a\ufffd"), ((0xE6, 0x41, 0xF0, 0x9F), "a\ufffdA"),
])
def test_bytes_that_begin_no_character_stay(byte_values, text):
    tokenizer = tiny.tokenizer()
    script = [*byte_tokens(tokenizer, 0x61), *byte_tokens(tokenizer, *byte_values)]
    assert run_with_caps(tokenizer, script, len(script)).best.text == text


def test_a_token_that_ends_one_character_and_begins_another_is_cut_within():
    base = Tokenizer(models.BPE(vocab={"Ġ": 0, "ð": 1, "Ġð": 2, "a": 3}, merges=[("Ġ", "ð")]))
    base.decoder = decoders.ByteLevel()
    merged = PreTrainedTokenizerFast(tokenizer_object=base)
    assert Detokenizer(merged).text([3, 2]) == "a \ufffd"
    assert Detokenizer(merged).complete([3, 2]) == "a "


def test_a_text_so_far_is_a_prefix_of_the_next(engine):
    for texts in texts_so_far(engine, "This movie", cap=40, n=12):
        assert all(later.startswith(earlier) for earlier, later in pairwise(texts))


def test_the_text_so_far_keeps_up_with_the_tokens():
    tokenizer = tiny.tokenizer()
    full_text = " the lead earns every tear. Do not miss it"
    script, start = tokenizer(full_text)["input_ids"], len(tokenizer("Say")["input_ids"])
    (texts,) = texts_so_far(LocalEngine(Scripted(script, start), tokenizer), "Say", cap=len(script))
    assert texts == [tokenizer.decode(script[:i]) for i in range(1, len(script) + 1)]


def test_an_engine_describes_itself_in_plain_values(engine):
    assert engine.describe() == {
        "name": "tiny", "parameters": engine.model.num_parameters(), "device": "cpu", "dtype": "float32",
        "context": 256, "chats": False,
    }
