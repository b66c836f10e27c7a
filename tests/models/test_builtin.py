"""The built-in models, which bon computes and loads itself: equal to transformers' models of the same files."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, GPT2LMHeadModel

import bon
from bon.assets_folder import assets_folder
from bon.engines.local import decoder
from bon.models import loading
from bon.models.builtin.base import BuiltInModel
from bon.models.builtin.loader import built_in_class, load

#: What only other models need, by name; each takes a tenth of a second or more to import.
NOT_NEEDED = [
    "accelerate.utils", "gradio", "pandas", "peft", "sympy", "torch._dynamo", "torch._inductor",
    "torch.distributed.fsdp", "torch.distributed.tensor", "torch.onnx", "transformers.core_model_loading",
    "transformers.integrations.deepgemm", "transformers.integrations.finegrained_fp8", "transformers.modeling_utils",
    "transformers.models",
]
RUN = f"""
import sys
from bon.cli.main import main
status = main(["This movie", "-n", "2", "--max-tokens", "4", "--min-tokens", "2"])
print(status, [name for name in {NOT_NEEDED} if name in sys.modules])
"""


def both(name, auto_class):
    """The model of a folder as bon loads it, and as transformers does, with their tokenizers."""
    folder = str(assets_folder() / "models" / name)
    built_in = load(built_in_class(folder, auto_class.__name__), folder)
    return built_in, (auto_class.from_pretrained(folder, dtype=torch.float32).eval(),
                      AutoTokenizer.from_pretrained(folder))


def near(logits, expected):
    return bool((logits - expected).norm() <= 1e-5 * expected.norm())


@pytest.mark.parametrize("name", ["reviews", "reviews-positive"])
@torch.inference_mode()
def test_a_language_model_is_transformers_own_with_and_without_a_cache(name):
    (model, tokenizer), (other, other_tokenizer) = both(name, AutoModelForCausalLM)
    ids = torch.randint(model.config.vocab_size, (3, 40), generator=torch.Generator().manual_seed(1))
    assert near(model(ids).logits, expected := other(ids).logits)
    out = model(ids[:, :30], use_cache=True, logits_to_keep=1)
    assert near(out.logits, expected[:, 29:30])
    for start, end in ((30, 31), (31, 36), (36, 40)):  # one token, and several, behind those that were read
        assert near(model(ids[:, start:end], use_cache=True, cache=out.cache).logits, expected[:, start:end])
    assert model.num_parameters() == other.num_parameters()
    assert model.generation_config.to_dict() == other.generation_config.to_dict()
    text = "This movie, was it café?\n\n It ends <|endoftext|>"
    assert (type(tokenizer), tokenizer(text)) == (type(other_tokenizer), other_tokenizer(text))


@torch.inference_mode()
def test_a_language_model_passes_the_trials_that_other_models_have_at_loading():
    model = bon.load("embedded", "logprob").engine.model
    assert decoder._shares(model)
    runner = decoder.runner_of(model)
    assert runner
    assert decoder._runs_alike(model, runner)
    assert not loading.reads_ahead(model)


@torch.inference_mode()
def test_the_classifier_is_transformers_own_with_and_without_padding():
    (model, tokenizer), (other, _) = both("sentiment", AutoModelForSequenceClassification)
    batch = tokenizer(["A fine film.", "Two hours of rain, and no umbrella.", "No."], padding=True, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    assert not mask.all()
    assert near(model(ids, mask).logits, other(ids, mask).logits)
    assert near(model(ids[:1, :4]).logits, other(ids[:1, :4]).logits)
    assert (model.config.id2label, model.num_parameters()) == (other.config.id2label, other.num_parameters())


def test_a_run_of_the_command_line_imports_nothing_that_only_other_models_need():
    folder = Path(__file__).parents[2]
    process = subprocess.run([sys.executable, "-c", RUN], cwd=folder, capture_output=True, text=True, check=True)
    assert process.stdout.splitlines()[-1] == "0 []"


def test_loading_draws_no_random_number_and_other_folders_are_left_to_transformers(tmp_path):
    folder = assets_folder() / "models" / "reviews"
    before = torch.get_rng_state()
    load(built_in_class(str(folder), loading.CAUSAL), str(folder))
    assert torch.equal(torch.get_rng_state(), before)
    copy = str(shutil.copytree(folder, tmp_path / "copy"))
    assert built_in_class(copy, loading.CAUSAL) is None
    texts = []
    for place, model_class in (("embedded", BuiltInModel), (copy, GPT2LMHeadModel)):
        sampler = bon.load(place, "logprob")
        assert isinstance(sampler.engine.model, model_class)
        texts.append([c.text for c in sampler.run("This movie", n=4, max_tokens=8, seed=3).candidates])
    assert texts[0] == texts[1]


def test_a_built_in_classifier_is_refused_as_a_language_model():
    with pytest.raises(bon.ModelError) as error:
        bon.load(str(assets_folder() / "models" / "sentiment"))
    assert error.value.message.key == "error.model_kind"
