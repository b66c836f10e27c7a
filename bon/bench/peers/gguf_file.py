"""A model of a folder as a GGUF file, llama.cpp's format."""

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file


def write_gguf(folder: str, dtype: str) -> str:
    """Writes the GPT-2 or Llama of a folder beside it, with its matrices in q8_0 or q4_0; returns the file's path.

    The tokens of its vocabulary are made-up words: prompts come as ids.
    """
    path = Path(f"{folder}.{dtype}.gguf")
    if path.exists():
        return str(path)
    config = json.loads((Path(folder) / "config.json").read_text())
    design = config["model_type"]
    architecture = {"gpt2": gguf.MODEL_ARCH.GPT2, "llama": gguf.MODEL_ARCH.LLAMA}[design]
    layers = config["n_layer"] if design == "gpt2" else config["num_hidden_layers"]
    writer = gguf.GGUFWriter(path, design)
    writer.add_block_count(layers)
    if design == "gpt2":
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_feed_forward_length(4 * config["n_embd"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(config["rope_theta"])
        writer.add_rope_dimension_count(config["head_dim"])
        writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"w{i}" for i in range(config["vocab_size"])])
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (config["vocab_size"] - 1))
    writer.add_token_merges(["w 1"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    matrix_type = gguf.GGMLQuantizationType[dtype.upper()]
    names = gguf.get_tensor_name_map(architecture, layers)
    for name, weight in load_file(Path(folder) / "model.safetensors").items():
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert target  # of every weight of the two designs
        weight = _as_stored(name, weight.astype(np.float32), config)
        if weight.ndim == 1 or "wpe" in name:
            writer.add_tensor(target, weight)
            continue
        rounded = gguf.quants.quantize(weight, matrix_type)
        writer.add_tensor(target, rounded, raw_dtype=matrix_type)
        if "wte" in name:  # the fork takes no output layer from the embeddings of a GPT-2
            writer.add_tensor("output.weight", rounded, raw_dtype=matrix_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def _as_stored(name: str, weight: np.ndarray, config: dict) -> np.ndarray:
    """The weight as llama.cpp stores it."""
    if config["model_type"] == "gpt2" and ".h." in f".{name}" and weight.ndim == 2:
        weight = weight.T  # GPT-2 stores its matrices transposed
    if "q_proj" in name or "k_proj" in name:  # each head's rotary pairs are neighbours there, and halves here
        heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
        weight = weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
    return np.ascontiguousarray(weight)
