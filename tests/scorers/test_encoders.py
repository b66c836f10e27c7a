"""Classifiers that bon computes by itself, without padding, against transformers' own."""

import copy

import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForSequenceClassification

import bon
from bon.models import loading
from bon.scorers.classifier import Classifier
from bon.scorers.encoders import designs, encoder
from tests.scorers.test_classifier_families import FAMILIES, VOCABULARY, build, make_tokenizer, text

LENGTHS = (3, 5, 5, 12, 40, 7, 1, 40)
TEXTS = [text(length, seed) for seed, length in enumerate(LENGTHS)]
#: What the rounding of a number type may change, relative to the logits.
ROUNDING = {"float32": 1e-5, "bf16": 0.03, "int8": 0.05}
PACKS = {"hidden_size": 256, "dim": 256, "intermediate_size": 512, "hidden_dim": 512}


def placed(model, dtype="float32"):
    """The model as bon places one that it has loaded."""
    return loading._placed(loading.CLASSIFIER, model, "cpu", dtype)


def wide(family, **fields):
    """A model of random weights that is large enough for packed layers."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **FAMILIES[family] | fields)
    return AutoModelForSequenceClassification.from_config(config).eval()


def error(logits, expected):
    return ((logits - expected).norm() / expected.norm()).item()


class Embedded(TorchFunctionMode):
    """Counts the token ids that are looked up in the largest table."""

    def __init__(self):
        super().__init__()
        self.ids = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.embedding and len(args[1]) == VOCABULARY:
            self.ids += args[0].numel()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("family", ["distilbert", "bert", "roberta"])
def test_texts_of_any_length_get_the_logits_that_transformers_gives_each_alone(family, dtype, monkeypatch):
    monkeypatch.setattr(encoder, "LONG", 12)
    sizes = {name: size for name, size in PACKS.items() if name in FAMILIES[family]}
    plain, tokenizer = wide(family, **sizes), make_tokenizer()
    with torch.inference_mode():
        expected = torch.cat([plain(torch.tensor([tokenizer(t)["input_ids"]])).logits for t in TEXTS])
    model = placed(copy.deepcopy(plain), dtype)
    assert designs.encoder_of(model)
    logits, _ = Classifier(model, tokenizer).logits(TEXTS)
    assert error(logits, expected) < ROUNDING[dtype]
    alone, _ = Classifier(model, tokenizer).logits(TEXTS[3:4])
    assert error(alone, logits[3:4]) < ROUNDING[dtype] / 2


def test_roberta_counts_positions_past_tokens_that_are_called_padding():
    model = placed(build("roberta"))
    ids = [1, 5, model.config.pad_token_id, 9, 2]
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits
    assert error(designs.encoder_of(model).logits([[1, 4, 2], ids])[1:], expected) < 1e-5


def test_no_token_is_padding_and_equal_texts_are_read_once():
    model, tokenizer = placed(build("bert")), make_tokenizer()
    classifier = Classifier(model, tokenizer)
    logits, _ = classifier.logits(TEXTS)
    with Embedded() as embedded:
        again, _ = classifier.logits([*TEXTS, TEXTS[4], TEXTS[0]])
    assert embedded.ids == sum(LENGTHS) + 2 * len(TEXTS)
    torch.testing.assert_close(again, torch.cat([logits, logits[[4, 0]]]))
    other = Classifier(build("mpnet"), tokenizer)
    other.logits(TEXTS[4:5])  # with the trials of the model
    with Embedded() as embedded:
        other.logits([TEXTS[4]] * 5)
    assert embedded.ids < 2 * LENGTHS[4]


@pytest.mark.parametrize(("family", "fields"), [
    ("mpnet", {}), ("bert", {"is_decoder": True}), ("bert", {"hidden_act": "mish"}), ("bert", {"gates": 2}),
])
def test_models_that_are_not_fully_understood_compute_themselves(family, fields):
    assert designs.encoder_of(placed(wide(family, **fields))) is None


def test_models_of_others_or_changed_ones_compute_themselves(monkeypatch):
    model, tokenizer = build("bert"), make_tokenizer()
    assert designs.encoder_of(model) is None  # its owner may change it at any time
    model = placed(model)
    before, _ = Classifier(model, tokenizer).logits(TEXTS)
    hook = model.classifier.register_forward_hook(lambda module, args, out: out + 1)
    assert designs.encoder_of(model) is None
    torch.testing.assert_close(Classifier(model, tokenizer).logits(TEXTS)[0], before + 1, rtol=0, atol=1e-3)
    hook.remove()
    assert designs.encoder_of(model)
    model.bert.encoder.layer[0].output.dense = torch.nn.Linear(32, 32)  # another layer: tried anew
    changed, _ = Classifier(model, tokenizer).logits(TEXTS)
    with torch.inference_mode():
        expected = model(torch.tensor([tokenizer(TEXTS[0])["input_ids"]])).logits
    assert error(changed[:1], expected) < 1e-5
    monkeypatch.setattr(encoder, "_normed", lambda norm, x: x)
    model.bert.encoder.layer[0].output.dense = torch.nn.Linear(32, 32)
    assert designs.encoder_of(model) is None  # an encoder that computes something else fails its trial


def test_the_built_in_classifier_passes_the_trial_of_other_models():
    model = bon.load("embedded").scorer.classifier.model
    assert designs._agrees(model, designs.encoder_of(model))
