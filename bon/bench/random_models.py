"""Models of true sizes with random weights: speed does not depend on the values of the weights."""

import json
from pathlib import Path

LABELS = {"id2label": {0: "NEGATIVE", 1: "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1}}
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


def _save_tokenizer(folder: Path, tokens: int) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"<end>": 0} | {f"w{i}": i for i in range(1, tokens)}, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>", bos_token="<end>", unk_token="<end>",
        model_input_names=["input_ids", "attention_mask"], model_max_length=512,
    ).save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    file.write_text(json.dumps(config))  # a name that both TRL's old transformers and ours know
