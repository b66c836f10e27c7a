"""Tiny real models, in memory and saved to folders, which tests load in place of large ones."""

from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

END = "<|endoftext|>"
TEXTS = [
    "This movie is a delight, and the lead earns every tear. Do not miss it.",
    "The hotel room was awful. I want my money back!",
    "I was surprised that the soup was warm; my new phone is not.",
]


def tokenizer(vocabulary: int = 400, start: str | None = END) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, so any text can be encoded."""
    base = ByteLevelBPETokenizer()
    base.train_from_iterator(TEXTS * 20, vocab_size=vocabulary, special_tokens=[END], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=base._tokenizer, bos_token=start, eos_token=END, pad_token=END,
        model_input_names=["input_ids", "attention_mask"],
    )


def gpt2(positions: int = 256, seed: int = 0, vocabulary: int = 400, spread: float = 0.3) -> GPT2LMHeadModel:
    """A GPT-2 of two layers. `spread` is the size of its random weights: larger makes it more certain."""
    torch.manual_seed(seed)
    end = tokenizer(vocabulary).eos_token_id
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=len(tokenizer(vocabulary)), n_positions=positions, n_embd=32, n_layer=2, n_head=2,
        initializer_range=spread, bos_token_id=end, eos_token_id=end, pad_token_id=end,
    )).eval()


def llama(positions: int = 256, seed: int = 0) -> LlamaForCausalLM:
    """A Llama of two layers, with fewer heads for keys and values than for queries."""
    torch.manual_seed(seed)
    end = tokenizer().eos_token_id
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer()), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=positions, initializer_range=0.3, bos_token_id=end,
        eos_token_id=end, pad_token_id=end,
    )).eval()


def classifier(labels=("NEGATIVE", "POSITIVE"), positions: int = 256, seed: int = 0, **config):
    """A DistilBERT classifier of two layers with the given labels."""
    torch.manual_seed(seed)
    labels_by_id = dict(enumerate(labels))
    return DistilBertForSequenceClassification(DistilBertConfig(
        vocab_size=len(tokenizer()), dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=positions,
        pad_token_id=tokenizer().pad_token_id, initializer_range=0.3, id2label=labels_by_id,
        label2id={v: k for k, v in labels_by_id.items()}, **config,
    )).eval()


def save(model, folder: Path, template: str | None = None) -> str:
    """Saves a model with the tokenizer, and a chat template, and returns the folder's name."""
    model.save_pretrained(folder)
    text_tokenizer = tokenizer()
    text_tokenizer.chat_template = template
    text_tokenizer.save_pretrained(folder)
    return str(folder)
