"""Classifiers of many architectures: their logits in a batch, and at their limit, against those of one text alone."""

import copy
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast, pipeline

from bon.scorers.classifier import Classifier
from tests.support import tiny

VOCABULARY, POSITIONS = 96, 64
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 32, "max_position_embeddings": POSITIONS, "pad_token_id": 0, "eos_token_id": 2,
         "num_labels": 3}
#: The same sizes under the names of T5, BART and similar models.
OTHER_SIZES = {"vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32,
               "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "pad_token_id": 0,
               "max_position_embeddings": POSITIONS, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
               "num_labels": 3}
ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [4.0, 9.0] * 4,
        "original_max_position_embeddings": 24, "factor": 4.0}
FAMILIES = {
    "bert": SIZES, "roberta": SIZES, "data2vec-text": SIZES, "xlm-roberta-xl": SIZES, "mpnet": SIZES, "esm": SIZES,
    "distilbert": {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 32,
                   "pad_token_id": 0, "max_position_embeddings": POSITIONS, "num_labels": 3},
    "deberta-v2": SIZES | {"relative_attention": True, "position_biased_input": False, "position_buckets": 8,
                           "pos_att_type": ["c2p", "p2c"], "conv_kernel_size": 3},
    "longformer": SIZES | {"attention_window": 4},
    "big_bird": SIZES | {"block_size": 4, "num_random_blocks": 1},
    "convbert": SIZES | {"embedding_size": 32}, "fnet": SIZES, "yoso": SIZES,
    "nystromformer": SIZES | {"num_landmarks": 8, "segment_means_seq_len": 8},
    "canine": SIZES | {"local_transformer_stride": 8, "downsampling_rate": 2, "num_hash_buckets": 64},
    "funnel": {"vocab_size": VOCABULARY, "block_sizes": [1, 1], "d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 32,
               "pad_token_id": 0, "num_labels": 3},
    "reformer": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 2, "attention_head_size": 16,
                 "feed_forward_size": 32, "attn_layers": ["local", "lsh"], "axial_pos_embds": False, "hash_seed": 1,
                 "lsh_attn_chunk_length": 8, "local_attn_chunk_length": 8, "num_buckets": 4, "pad_token_id": 0,
                 "max_position_embeddings": POSITIONS, "is_decoder": False, "num_labels": 3},
    "perceiver": SIZES | {"d_model": 32, "d_latents": 32, "num_latents": 4, "num_self_attends_per_block": 1,
                          "num_self_attention_heads": 2, "num_cross_attention_heads": 2},
    "xlnet": {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 32, "pad_token_id": 0,
              "num_labels": 3},
    "t5": {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2,
           "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "num_labels": 3},
    "bart": OTHER_SIZES, "mbart": OTHER_SIZES,
    "gpt2": SIZES | {"n_positions": POSITIONS}, "gpt_neox": SIZES,
    "opt": SIZES | {"ffn_dim": 32, "word_embed_proj_dim": 32},
    "bloom": {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 2, "pad_token_id": 0,
              "num_labels": 3},
    "mpt": {"vocab_size": VOCABULARY, "d_model": 32, "n_heads": 2, "n_layers": 2, "max_seq_len": POSITIONS,
            "pad_token_id": 0, "num_labels": 3},
    "mixtral": SIZES | {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 1},
    "phi3": SIZES | {"num_key_value_heads": 2, "original_max_position_embeddings": 24, "rope_parameters": ROPE},
}
#: Tables of positions with rows that no text reaches, and what is left of `PLACES`.
SHORTER = {"roberta": 63, "data2vec-text": 63, "xlm-roberta-xl": 63, "esm": 63, "longformer": 63, "mpnet": 62}
NO_LIMIT = ["xlnet", "t5", "bloom", "funnel"]


def make_tokenizer():
    """Numbered words, between a token that begins and one that ends a text."""
    numbers = {word: i for i, word in enumerate(["[PAD]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(3, VOCABULARY))])}
    backend = Tokenizer(models.WordLevel(numbers))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    frame = [("[CLS]", 1), ("[SEP]", 2)]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
                                   model_input_names=["input_ids", "attention_mask"])


@torch.no_grad()
def build(family):
    """A tiny model of the family with weights large enough that every token counts."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **FAMILIES[family])).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(0, 0.2)
    return model


def text(length, seed=0):
    numbers = torch.randint(3, VOCABULARY, (length,), generator=torch.Generator().manual_seed(100 * seed + length))
    return " ".join(f"w{i}" for i in numbers.tolist())


@torch.no_grad()
def single_logits(model, ids):
    """The logits of one text from a model that has read nothing before."""
    return copy.deepcopy(model)(input_ids=torch.tensor([ids])).logits[0]


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-3 * expected.abs().max().item())


TEXTS = [text(n) for n in (3, 5, 12, 20, 40, 7)]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_text_of_a_batch_gets_its_logits_alone(family):
    model, tokenizer = build(family), make_tokenizer()
    expected = torch.stack([single_logits(model, tokenizer(t)["input_ids"]) for t in TEXTS])
    classifier = Classifier(model, tokenizer)
    assert_close(classifier.logits(TEXTS)[0], expected)
    for i in (4, 1, 3):  # one call each: a short text after a long one, and the reverse
        assert_close(classifier.logits([TEXTS[i]])[0][0], expected[i])


def test_only_models_that_padding_changes_read_texts_of_one_length_at_a_time():
    for family, unequal in (("bert", True), ("gpt2", True), ("canine", False), ("xlnet", False)):
        model, shapes = build(family), []
        classifier = Classifier(model, make_tokenizer())
        classifier.logits(TEXTS)
        model.register_forward_pre_hook(lambda _, args, kw: shapes.append(tuple(kw["input_ids"].shape)),  # noqa: B023
                                        with_kwargs=True)
        classifier.logits([*TEXTS, *(text(n, seed=1) for n in (3, 5, 12, 20, 40, 7))])
        assert (shapes == [(12, 48)]) is unequal
        assert unequal or all(rows == 2 for rows, _ in shapes)


def test_a_model_whose_rows_change_each_other_reads_texts_one_by_one():
    model, tokenizer = tiny.classifier(), tiny.tokenizer()
    texts = [*tiny.TEXTS, "awful", "a soup"]
    expected = torch.stack([single_logits(model, tokenizer(t)["input_ids"]) for t in texts])
    forward = model.forward

    def mixed(**kwargs):
        logits = forward(**kwargs).logits
        return SimpleNamespace(logits=logits + logits.mean(0) - logits[0])

    model.forward = mixed
    assert_close(Classifier(model, tokenizer).logits(texts)[0], expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_beyond_the_limit_is_cut_to_the_limit(family):
    model, tokenizer = build(family), make_tokenizer()
    classifier = Classifier(model, tokenizer)
    limit = None if family in NO_LIMIT else SHORTER.get(family, POSITIONS)
    assert classifier.limit == limit
    ids = tokenizer(text(150))["input_ids"]
    expected = ids if limit is None else [ids[0], *ids[-(limit - 1) :]]
    logits, notes = classifier.logits([text(150), text(4)])
    assert_close(logits[0], single_logits(model, expected))
    assert len(notes) == (limit is not None)


@pytest.mark.parametrize("family", SHORTER)
def test_a_table_of_positions_is_used_to_its_last_row(family):
    model, ids = build(family), [5] * (SHORTER[family] + 1)
    single_logits(model, ids[1:])
    with pytest.raises((IndexError, RuntimeError)):
        single_logits(model, ids)


@pytest.mark.parametrize("pad", [-1, VOCABULARY, 1000])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_pad_id_outside_the_vocabulary_counts_as_none(family, pad):
    model, tokenizer = build(family), make_tokenizer()
    expected = torch.stack([single_logits(model, tokenizer(t)["input_ids"]) for t in TEXTS])
    model.config.pad_token_id = pad
    assert_close(Classifier(model, tokenizer).logits(TEXTS)[0], expected)


def test_a_pipeline_of_xlnet_gives_its_scores():
    pipe = pipeline("text-classification", model=build("xlnet"), tokenizer=make_tokenizer(), device="cpu", top_k=None)
    expected = [{d["label"]: d["score"] for d in rated}["LABEL_1"] for rated in pipe(TEXTS)]
    scores = Classifier.of(pipe).logits(TEXTS)[0].softmax(-1)[:, 1]
    assert scores.tolist() == pytest.approx(expected, abs=1e-3)
