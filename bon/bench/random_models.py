"""The models of the measurements, in folders that every program reads: of true sizes with random weights, since speed
does not depend on the values of the weights; and SmolLM2.
"""

import json
from pathlib import Path

LABELS = {"id2label": {0: "NEGATIVE", 1: "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1}}
#: A tokenizer's class that both TRL's old transformers and ours know.
CLASS_OF_ALL = {"tokenizer_class": "PreTrainedTokenizerFast"}
#: By size, where the generator's config differs from GPT-2 small and the scorer's from DistilBERT.
SIZES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "embedded": (
        {"vocab_size": 4096, "n_positions": 512, "n_embd": 256, "n_layer": 6, "n_head": 4},
        {"vocab_size": 8000, "dim": 256, "n_layers": 3, "n_heads": 4, "hidden_dim": 768},
    ),
    "gpt2-small": ({}, {}),
}


def save_random_models(folder: Path, size: str) -> None:
    """Saves a generator to `gpt2` and a scorer to `distilbert` in a folder, of one of `SIZES`.

    Every word is one token for both, so a text has as many tokens for the scorer as were generated.
    """
    import torch
    from transformers import DistilBertConfig, DistilBertForSequenceClassification, GPT2Config, GPT2LMHeadModel

    generator_sizes, scorer_sizes = SIZES[size]
    generator = GPT2Config.from_dict(dict(generator_sizes))
    scorer = DistilBertConfig.from_dict(scorer_sizes | LABELS)
    torch.manual_seed(0)
    GPT2LMHeadModel(generator).save_pretrained(folder / "gpt2")
    DistilBertForSequenceClassification(scorer).save_pretrained(folder / "distilbert")
    for name, tokens in (("gpt2", generator.vocab_size), ("distilbert", scorer.vocab_size)):
        _save_tokenizer(folder / name, tokens)


def save_smollm2(folder: Path) -> None:
    """Saves the preset smollm2 to a folder in float32, as plain transformers saves it.

    Raises `ModelError` where neither its package nor its repository's files are here.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from bon.models import download, presets
    from bon.models.files.gguf_names import is_gguf

    path = Path(download.local_path(presets.find("smollm2").model))
    place, file = (path.parent, {"gguf_file": path.name}) if is_gguf(str(path)) else (path, {})
    model = AutoModelForCausalLM.from_pretrained(place, dtype="float32", **file)
    tokenizer = AutoTokenizer.from_pretrained(place, **file)
    plain = {name: value for name, value in model.config.to_dict().items() if name != "quantization_config"}
    copy = type(model)(type(model.config).from_dict(plain))
    copy.load_state_dict(model.state_dict())
    copy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _add_to_json(folder / "config.json", rope_theta=copy.config.rope_parameters["rope_theta"])  # where others look
    _add_to_json(folder / "tokenizer_config.json", **CLASS_OF_ALL)


def _add_to_json(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def _save_tokenizer(folder: Path, tokens: int) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"<end>": 0} | {f"w{i}": i for i in range(1, tokens)}, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>", bos_token="<end>", unk_token="<end>",
        model_input_names=["input_ids", "attention_mask"], model_max_length=512,
    ).save_pretrained(folder)
    _add_to_json(folder / "tokenizer_config.json", **CLASS_OF_ALL)
