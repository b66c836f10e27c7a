"""BestOfNSampler: the behaviour of TRL's class that ported code relies on, and the faults of it that are fixed."""

import random
from itertools import combinations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPT2Model,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    pipeline,
)

import bon
from tests.support import tiny

PROMPTS = ["This movie", "The hotel room was", "I was surprised that the soup", "My new phone"]


class ValueHead(torch.nn.Module):
    """A wrapper as TRL's AutoModelForCausalLMWithValueHead: the model in `.pretrained_model`, a head beside it."""

    def __init__(self, pretrained_model):
        super().__init__()
        self.pretrained_model = pretrained_model
        self.v_head = torch.nn.Linear(pretrained_model.config.n_embd, 1)
        self.config = pretrained_model.config

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        out = self.pretrained_model(input_ids, attention_mask=attention_mask, output_hidden_states=True, **kwargs)
        return out.logits, out.loss, self.v_head(out.hidden_states[-1]).squeeze(-1)

    def generate(self, *args, **kwargs):
        return self.pretrained_model.generate(*args, **kwargs)


@pytest.fixture
def queries(tokenizer):
    return [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]


@pytest.fixture
def make(model, tokenizer):
    def make(scorer=lambda texts: [len(text) for text in texts], draw=None, **arguments):
        arguments = {"seed": 5} | arguments
        policy = arguments.pop("model", model)
        return bon.BestOfNSampler(policy, tokenizer, scorer, draw or bon.LengthSampler(4, 9), **arguments)

    return make


def token_ids(sampler):
    """The generated token ids: [queries][candidates in the order of their indices]."""
    return [
        [c.token_ids for c in sorted(result.candidates, key=lambda c: c.index)] for result in sampler.last_results
    ]


class Scripted:
    """A scorer that prefers the text at index `best`; `calls` lists the texts of each call."""

    def __init__(self, best, form=list):
        self.best, self.form, self.calls = best, form, []

    def __call__(self, texts):
        self.calls.append(texts)
        return self.form([10.0 if place == self.best else float(place) for place in range(len(texts))])


FORMS = {
    "list of ints": lambda queries: queries[0],
    "tensor": lambda queries: torch.tensor(queries[0]),
    "list of lists": lambda queries: queries,
    "list of tensors": lambda queries: [torch.tensor(ids) for ids in queries],
}


WRAPS = {"plain": lambda model: model, "value head": ValueHead}
#: Form, sample size, candidates and model: every pair of values that can occur together does.
MEETINGS = [(form, 1, 1, list(WRAPS)[i % 2]) for i, form in enumerate(FORMS)] + [
    (form, (4, 10)[(i + n) % 2], n, list(WRAPS)[(i // 2 + n) % 2]) for i, form in enumerate(FORMS) for n in (1, 2, 3)]


@pytest.mark.parametrize(("form", "sample_size", "n_candidates", "wrap"), MEETINGS)
def test_every_form_size_and_model_returns_the_best_first(form, sample_size, n_candidates, wrap, make, queries, model):
    wrap, scorer = WRAPS[wrap], Scripted(best=sample_size // 2)
    sampler = make(scorer, model=wrap(model), sample_size=sample_size, n_candidates=n_candidates)
    tokenized_query = FORMS[form](queries)
    texts = sampler.generate(tokenized_query)
    prompts = PROMPTS if isinstance(tokenized_query, list) and not isinstance(tokenized_query[0], int) else PROMPTS[:1]
    assert [len(best) for best in texts] == [n_candidates] * len(prompts)
    # The scorer gets the queries in their order, whichever was complete first.
    for prompt, best, scored in zip(prompts, texts, scorer.calls, strict=True):
        assert len(scored) == sample_size
        assert all(text.startswith(prompt) and len(text) > len(prompt) for text in scored)
        assert best[0] == scored[scorer.best]
        other_texts = [text for place, text in enumerate(scored) if place != scorer.best]
        assert best[1:] == other_texts[::-1][: n_candidates - 1]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("n_candidates", [2, 3])
def test_more_candidates_than_samples_are_refused(n_candidates, wrap, make, model):
    with pytest.raises(bon.InputError, match="n_candidates"):
        make(model=WRAPS[wrap](model), sample_size=1, n_candidates=n_candidates)


def test_every_pair_of_form_size_candidates_and_model_is_tested():
    factors = {0: FORMS, 1: (1, 4, 10), 2: (1, 2, 3), 3: WRAPS}
    missing = {(a, x, b, y) for a, b in combinations(factors, 2) for x in factors[a] for y in factors[b]}
    missing -= {(a, meeting[a], b, meeting[b]) for meeting in MEETINGS for a, b in combinations(factors, 2)}
    assert missing == {(1, 1, 2, 2), (1, 1, 2, 3)}  # more candidates than samples


@pytest.mark.parametrize(
    "container",
    [lambda ids: torch.tensor([ids, ids]), lambda ids: np.array([ids, ids]), lambda ids: (tuple(ids), tuple(ids)),
     lambda ids: [torch.tensor([ids]), torch.tensor([ids])], lambda ids: torch.tensor([[ids], [ids]])],
    ids=["2-D tensor", "2-D array", "tuples", "list of [1, tokens]", "stack of [1, tokens]"],
)  # fmt: skip
def test_two_queries_in_other_containers_are_two_queries(container, make, queries):
    assert make().generate(container(queries[1])) == make().generate([queries[1], queries[1]])


@pytest.mark.parametrize(
    "container",
    [lambda ids: np.array(ids), lambda ids: [np.int64(i) for i in ids], lambda ids: list(torch.tensor(ids)),
     lambda ids: torch.tensor([ids])],
    ids=["array", "list of numpy ints", "list of tensor scalars", "[1, tokens]"],
)  # fmt: skip
def test_one_query_in_other_containers_is_one_query(container, make, queries):
    assert make().generate(container(queries[1])) == make().generate(queries[1])


@pytest.mark.parametrize(
    "form", [list, np.array, torch.tensor, lambda scores: [torch.tensor(score) for score in scores]]
)
def test_scores_may_be_a_list_an_array_or_a_tensor(form, make, queries):
    scorer = Scripted(2, form)
    assert make(scorer).generate(queries[0])[0] == [scorer.calls[0][2]]


# --- the snippets of TRL's documentation ---


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("models")
    return tiny.save(model, folder / "lm"), tiny.save(tiny.classifier(), folder / "reward")


def test_snippets_of_trls_page_run_with_only_the_import_changed(on_disk):
    ref_model_name, reward_model = on_disk
    device = "cpu"
    AutoModelForCausalLMWithValueHead, LengthSampler = AutoModelForCausalLM, bon.LengthSampler  # TRL's
    BestOfNSampler = bon.BestOfNSampler  # the changed import

    ref_model = AutoModelForCausalLMWithValueHead.from_pretrained(ref_model_name)
    reward_pipe = pipeline("sentiment-analysis", model=reward_model, device=device)
    tokenizer = AutoTokenizer.from_pretrained(ref_model_name)
    tokenizer.pad_token = tokenizer.eos_token
    calls = []

    def queries_to_scores(list_of_strings):
        calls.append(len(list_of_strings))
        return [output["score"] for output in reward_pipe(list_of_strings)]

    model, output_length_sampler = ValueHead(ref_model), LengthSampler(4, 16)
    gen_kwargs = {
        "min_length": -1, "top_k": 0.0, "top_p": 1.0, "do_sample": True, "pad_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    query_tensors = [tokenizer.encode(prompt, return_tensors="pt").squeeze() for prompt in PROMPTS]

    best_of_n = BestOfNSampler(model, tokenizer, queries_to_scores, length_sampler=output_length_sampler)
    assert [len(texts) for texts in best_of_n.generate(query_tensors, device=device, **gen_kwargs)] == [1] * 4

    best_of_n = BestOfNSampler(model, tokenizer, queries_to_scores, length_sampler=output_length_sampler, sample_size=8)
    assert [len(texts) for texts in best_of_n.generate(query_tensors, device=device, **gen_kwargs)] == [1] * 4

    best_of_n = BestOfNSampler(
        model, tokenizer, queries_to_scores, length_sampler=output_length_sampler, n_candidates=2
    )
    assert [len(texts) for texts in best_of_n.generate(query_tensors, device=device, **gen_kwargs)] == [2] * 4
    assert calls == [4] * 4 + [8] * 4 + [4] * 4

    generation_config = GenerationConfig(
        min_length=-1, top_k=0.0, top_p=1.0, do_sample=True, pad_token_id=tokenizer.eos_token_id
    )
    best_of_n = BestOfNSampler(
        model, tokenizer, queries_to_scores, length_sampler=output_length_sampler, generation_config=generation_config
    )
    assert [len(texts) for texts in best_of_n.generate(query_tensors, device=device)] == [1] * 4
    padded = tokenizer(PROMPTS[:2], return_tensors="pt", padding=True, padding_side="left")
    texts = best_of_n.generate(padded["input_ids"], attention_mask=padded["attention_mask"], device=device)
    assert [text.startswith(prompt) for (text,), prompt in zip(texts, PROMPTS[:2], strict=True)] == [True, True]


# --- sampling ---


def test_it_samples_by_default(make, queries):
    sampler = make(generation_config=GenerationConfig(temperature=1.5))
    sampler.generate(queries[0])
    assert len(set(token_ids(sampler)[0])) == 4


def test_one_sample_is_one_text_and_not_one_token(make, queries):
    (text,), = make(sample_size=1, draw=lambda: 6).generate(queries[0], eos_token_id=None)
    assert text.startswith(PROMPTS[0])
    assert len(text) > len(PROMPTS[0]) + 3


def test_every_call_of_a_seeded_sampler_returns_the_same(make, queries):
    sampler = make(n_candidates=4)
    texts = sampler.generate(queries)
    assert sampler.generate(queries) == texts == make(n_candidates=4).generate(queries)
    assert make(n_candidates=4, seed=6).generate(queries) != texts


def test_without_a_seed_calls_differ_and_the_result_names_one_that_repeats_them(make, queries):
    sampler = make(n_candidates=4, seed=None)
    texts, seed = sampler.generate(queries), sampler.last_results[0].settings.seed
    assert sampler.generate(queries) != texts
    assert make(n_candidates=4, seed=seed).generate(queries) == texts


def test_global_random_state_does_not_change(make, queries):
    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()

    before = states()
    make(seed=1).generate(queries)
    sampler = make(seed=None)
    sampler.generate(queries, typical_p=0.5, repetition_penalty=1.3)
    assert states() == before
    settings = sampler.last_results[0].settings
    assert (settings.typical_p, settings.repetition_penalty) == (0.5, 1.3)


def test_equal_queries_of_one_call_get_different_candidates(make, queries):
    sampler = make()
    sampler.generate([queries[0], queries[0]])
    first, copy = token_ids(sampler)
    assert not set(first) & set(copy)


def test_first_candidates_of_a_larger_sample_are_those_of_a_smaller(make, queries):
    small, large = make(sample_size=4), make(sample_size=10)
    small.generate(queries)
    large.generate(queries)
    assert [texts[:4] for texts in token_ids(large)] == token_ids(small)


def test_lengths_differ_within_a_query_by_default(make, queries):
    sampler = make(sample_size=10)
    sampler.generate(queries, eos_token_id=None)
    for result in sampler.last_results:
        assert len({c.tokens for c in result.candidates}) > 1
        assert all(4 <= c.tokens < 9 for c in result.candidates)


def test_lengths_per_query_are_equal_within_and_differ_between_queries(make, queries):
    sampler = make(draw=bon.LengthSampler(2, 40), lengths="per_query")
    sampler.generate(queries, eos_token_id=None)
    lengths_by_query = [{c.tokens for c in result.candidates} for result in sampler.last_results]
    assert [len(lengths) for lengths in lengths_by_query] == [1] * 4
    assert len(set.union(*lengths_by_query)) > 1


@pytest.mark.parametrize(("mode", "calls"), [("per_candidate", 12), ("per_query", 4)])
def test_any_callable_draws_the_lengths_in_turn(mode, calls, model, tokenizer, queries):
    next_lengths = iter(range(1, 100))
    sampler = bon.BestOfNSampler(
        model, tokenizer, lambda texts: [0.0] * len(texts), lambda: next(next_lengths), sample_size=3, lengths=mode
    )
    sampler.generate(queries, eos_token_id=None)
    lengths = [len(ids) for texts in token_ids(sampler) for ids in texts]
    assert lengths == (list(range(1, 13)) if mode == "per_candidate" else [n for n in range(1, 5) for _ in range(3)])
    assert next(next_lengths) == calls + 1


def test_special_tokens_are_kept_on_request(make, queries, tokenizer, model):
    end = tokenizer.eos_token_id
    with torch.no_grad():
        likeliest = model(torch.tensor([queries[0]])).logits[0, -1].argmax().item()
    texts = [
        make(sample_size=1).generate([end, *queries[0]], do_sample=False, skip_special_tokens=skip,
                                     begin_suppress_tokens=[i for i in range(len(tokenizer)) if i != end])
        for skip in (True, False)
    ]  # fmt: skip
    assert likeliest != end
    assert texts == [[[PROMPTS[0]]], [[tiny.END + PROMPTS[0] + tiny.END]]]


class Writes(LogitsProcessor):
    """Makes any model write these tokens after a prompt of `start` tokens."""

    def __init__(self, tokens, start):
        self.tokens, self.start = tokens, start

    def __call__(self, ids, scores):
        scores = torch.full_like(scores, -1e9)
        scores[:, self.tokens[ids.shape[1] - self.start]] = 0
        return scores


def assert_verbatim(make, model, tokenizer, ids, new, skip=True, **arguments):
    """User and scorer get query and continuation as transformers' `generate` and `batch_decode` give them."""
    arguments = {"do_sample": False, "pad_token_id": tokenizer.pad_token_id} | arguments
    out = model.generate(torch.tensor([ids]), max_new_tokens=new, **arguments)
    (expected,) = tokenizer.batch_decode(out, skip_special_tokens=skip)
    scorer = Scripted(0)
    sampler = make(scorer, draw=lambda: new, sample_size=1)
    assert sampler.generate(ids, skip_special_tokens=skip, **arguments) == [[expected]] == scorer.calls
    (result,) = sampler.last_results
    assert result.prompt + result.best.text == expected
    assert result.best.tokens == len(result.best.token_ids)
    return result.best


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("end", [".", "\n", tiny.END, " it"])
def test_an_end_of_text_is_kept_unless_it_is_a_special_token(skip, end, make, model, tokenizer, queries):
    tokens = tokenizer(f" the{end} the")["input_ids"]
    (end_id,) = tokenizer(end)["input_ids"]
    writes = LogitsProcessorList([Writes(tokens, len(queries[0]))])
    best = assert_verbatim(make, model, tokenizer, queries[0], 3, skip, eos_token_id=end_id, logits_processor=writes)
    assert (best.ended, best.tokens) == ("eos", tokens.index(end_id))


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_query_that_ends_within_a_character_is_decoded_with_its_rest(cut, make, model, tokenizer):
    ids = tokenizer("I loved it 😀")["input_ids"]
    for tokens in (ids[-cut:] + ids[:2], ids[-4:]):  # the rest of the character, or another one
        writes = LogitsProcessorList([Writes(tokens, len(ids) - cut)])
        for new in (1, len(tokens)):
            assert_verbatim(make, model, tokenizer, ids[:-cut], new, eos_token_id=None, logits_processor=writes)


def test_spaces_that_a_tokenizer_removes_are_removed_across_the_querys_end(make, model):
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "do", "n", "'", "t", "."])}
    base = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    base.pre_tokenizer, base.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(cleanup=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base, pad_token="[PAD]", clean_up_tokenization_spaces=True)
    scorer, writes = Scripted(0), LogitsProcessorList([Writes([4, 5, 6], 2)])
    sampler = bon.BestOfNSampler(model, tokenizer, scorer, lambda: 3, sample_size=1)
    joined = tokenizer.batch_decode([[2, 3, 4, 5, 6]])
    assert sampler.generate([2, 3], logits_processor=writes, eos_token_id=None) == [joined] == scorer.calls


# --- the model's inputs, and its state afterwards ---


def greedy(model, ids, new):
    return tuple(model.generate(torch.tensor([ids]), max_new_tokens=new, do_sample=False, eos_token_id=None,
                                pad_token_id=0)[0, len(ids):].tolist())  # fmt: skip


def test_batch_of_equal_and_different_lengths_answers_the_right_query(make, model, queries):
    batch = [*queries, queries[1][::-1], queries[3][:2], queries[0]]
    sampler = make(sample_size=2, draw=lambda: 6)
    texts = sampler.generate(batch, do_sample=False, eos_token_id=None)
    assert token_ids(sampler) == [[greedy(model, ids, 6)] * 2 for ids in batch]
    assert [text for (text,) in texts[:4]] == [r.prompt + r.best.text for r in sampler.last_results[:4]]
    assert all(text.startswith(prompt) for (text,), prompt in zip(texts, PROMPTS, strict=False))


def test_answer_does_not_depend_on_the_other_queries_of_the_batch(make, queries):
    sampler, fresh_sampler = make(n_candidates=4), make(n_candidates=4)
    assert sampler.generate(queries)[1] == fresh_sampler.generate([queries[2], queries[1], queries[1]])[1]


def test_attention_mask_reaches_the_model_at_every_step(make, model, queries):
    widths = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(kwargs["attention_mask"].shape[1]), with_kwargs=True
    )
    try:
        make(draw=lambda: 3).generate(queries[0], eos_token_id=None)
    finally:
        hook.remove()
    assert widths == [len(queries[0]) + i for i in range(3)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("form", [torch.Tensor.long, torch.Tensor.bool, torch.Tensor.tolist])
def test_attention_mask_drops_padding(side, form, make, tokenizer, queries):
    padded = tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side=side)
    assert not padded["attention_mask"].all()
    texts = make().generate(padded["input_ids"], attention_mask=form(padded["attention_mask"]))
    assert texts == make().generate(queries)


def test_padding_of_a_tensor_is_recognised_by_the_pad_token_id(make, tokenizer, queries):
    width = max(map(len, queries))
    assert not any(300 in ids for ids in queries)
    padded = torch.tensor([[300] * (width - len(ids)) + ids for ids in queries])
    assert make().generate(padded, pad_token_id=300) == make().generate(queries)


def test_mask_of_another_shape_is_refused(make, queries):
    with pytest.raises(bon.InputError, match="attention_mask"):
        make().generate(queries[0], attention_mask=[1])


def test_model_is_in_eval_mode_while_it_generates_and_restored_afterwards(make, tokenizer, queries):
    model = tiny.gpt2().train()
    model.transformer.h[0].eval()
    before = {name: part.training for name, part in model.named_modules()}
    modes = []
    model.transformer.drop.register_forward_pre_hook(lambda part, _: modes.append(part.training))
    make(model=ValueHead(model)).generate(queries)
    assert modes
    assert not any(modes)
    assert {name: part.training for name, part in model.named_modules()} == before

    def broken(texts):
        raise RuntimeError("no reward today")

    with pytest.raises(bon.ScoringError, match="no reward today"):
        make(broken, model=model).generate(queries)
    assert {name: part.training for name, part in model.named_modules()} == before


def test_last_results_hold_every_candidate_with_its_score(make, queries):
    sampler = make(sample_size=5, n_candidates=2)
    texts = sampler.generate(queries)
    assert [result.prompt for result in sampler.last_results] == PROMPTS
    for best, result in zip(texts, sampler.last_results, strict=True):
        assert isinstance(result, bon.Result)
        assert [result.prompt + c.text for c in result.candidates[:2]] == best
        assert [c.score for c in result.candidates] == sorted((len(result.prompt + c.text) for c in result.candidates),
                                                              reverse=True)  # fmt: skip
        assert len(result.candidates) == result.settings.n == 5


def test_texts_are_the_scored_ones_even_where_a_query_ends_within_a_character(make, tokenizer):
    ids = tokenizer("I love caf\u00e9")["input_ids"][:-1]
    scorer = Scripted(1)
    (text,), = make(scorer).generate(ids)
    assert text == scorer.calls[0][1]


# --- errors ---


@pytest.mark.parametrize(
    ("argument", "value"),
    [("sample_size", 0), ("sample_size", 2.5), ("n_candidates", 0), ("n_candidates", 5), ("seed", -1), ("seed", "7"),
     ("lengths", "per_batch"), ("generation_config", {"top_k": 0})],
)  # fmt: skip
def test_argument_that_cannot_work_is_named_at_construction(argument, value, make):
    with pytest.raises(bon.InputError, match=argument) as caught:
        make(**{argument: value})
    assert caught.value.field == argument


@pytest.mark.parametrize("place", ["model", "tokenizer", "queries_to_scores", "length_sampler"])
def test_argument_of_the_wrong_type_is_named_at_construction(place, model, tokenizer):
    arguments = {"model": model, "tokenizer": tokenizer, "queries_to_scores": len, "length_sampler": lambda: 3}
    with pytest.raises(bon.InputError, match=place) as caught:
        bon.BestOfNSampler(**arguments | {place: "gpt2"})
    assert caught.value.field == place


def test_sequence_to_sequence_model_is_refused_by_name(make):
    seq2seq = T5ForConditionalGeneration(
        T5Config(vocab_size=50, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    )
    for model in (seq2seq, BareWrapper(seq2seq)):
        with pytest.raises(bon.ModelError, match="T5ForConditionalGeneration is a sequence-to-sequence model"):
            make(model=model)


class BareWrapper:
    """A wrapper with nothing but the model."""

    def __init__(self, model):
        self.pretrained_model = model


def test_model_without_a_language_model_head_is_refused_by_name(make, model):
    with pytest.raises(bon.ModelError, match="GPT2Model has no language-model head"):
        make(model=GPT2Model(model.config))


@pytest.mark.parametrize(
    "query",
    [[], [[]], [[5, 6], []], torch.empty(0, dtype=torch.long), torch.empty(2, 0, dtype=torch.long),
     torch.empty(0, 3, dtype=torch.long), [5, 400], [5, -1], torch.tensor([1.0, 2.0]), "This movie", ["This movie"],
     None, {"input_ids": [5]}, [5, [6]], [True, False]],
    ids=str,
)  # fmt: skip
def test_query_that_cannot_work_is_an_error_that_names_it(query, make):
    with pytest.raises(bon.InputError, match=r"tokenized_query|Token id") as caught:
        make().generate(query)
    assert caught.value.field == "tokenized_query"


def test_query_that_its_mask_empties_is_an_error(make, queries):
    with pytest.raises(bon.InputError, match="tokenized_query"):
        make().generate(torch.tensor([queries[0]]), attention_mask=torch.zeros(1, len(queries[0]), dtype=torch.long))


def test_query_longer_than_the_model_is_an_error_with_both_numbers(make):
    with pytest.raises(bon.InputError, match=r"300 tokens.*256"):
        make(draw=lambda: 6).generate([7] * 300)


@pytest.mark.parametrize(
    ("scores", "message"),
    [([1.0], "1 scores for 4"), ([1.0] * 5, "5 scores for 4"), ([1.0, float("nan"), 2.0, 3.0], "nan"),
     ([1.0, float("inf"), 2.0, 3.0], "inf"), (None, "NoneType"), ([{"score": 1.0}] * 4, "dict")],
)  # fmt: skip
def test_scores_that_cannot_work_are_an_error_that_names_the_scorer(scores, message, make, queries):
    with pytest.raises(bon.ScoringError, match=f"queries_to_scores.*{message}"):
        make(lambda texts: scores).generate(queries[0])


@pytest.mark.parametrize("device", ["tpu9", "cuda", 3, "meta", 1.5])
def test_device_where_the_model_is_not_is_named(device, make, queries):
    with pytest.raises(bon.InputError, match="device") as caught:
        make().generate(queries[0], device=device)
    assert caught.value.field == "device"


@pytest.mark.parametrize("length", [0, -3, 2.5, True])
def test_invalid_length_is_an_error_that_names_the_sampler(length, make, queries):
    with pytest.raises(bon.InputError, match="length") as caught:
        make(draw=lambda: length).generate(queries[0])
    assert caught.value.field == "length_sampler"
