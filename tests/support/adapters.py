"""Tiny LoRA adapters in folders, as peft writes them."""

import json
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel


def write_adapter(folder: Path, base: str, seed: int = 0, model: PreTrainedModel | None = None,
                  make: type[peft.PeftConfig] = peft.LoraConfig, size: float = 0.3, **options: Any) -> str:
    """Writes an adapter with random weights of this size for the model of a folder, and returns the adapter's folder.

    model: the base, where it is loaded already. options: of the config; by default LoRA of layers of the attention.
    """
    model = model or AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    layers = {"gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"]}[model.config.model_type]
    config = make(**{"target_modules": layers, "task_type": "CAUSAL_LM"} | options)
    with_adapter = peft.get_peft_model(model, config)
    torch.manual_seed(seed)
    for name, weight in with_adapter.named_parameters():
        if weight.requires_grad:
            weight.data += size * torch.randn_like(weight) * (1 if "lora_" in name else 0.3)
    with_adapter.save_pretrained(folder)
    change_config(folder, base_model_name_or_path=base)
    return str(folder)


def change_config(folder: Path | str, **values: Any) -> None:
    """Changes values in an adapter's config; None removes one."""
    file = Path(folder) / "adapter_config.json"
    merged = json.loads(file.read_text(encoding="utf-8")) | values
    file.write_text(json.dumps({name: value for name, value in merged.items() if value is not None}), encoding="utf-8")
