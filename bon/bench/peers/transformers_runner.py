"""transformers' `generate`, and its pipeline for scoring where there is a scorer."""

import time
from collections.abc import Callable, Sequence

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline


def number_type(dtype: str) -> torch.dtype:
    """The number type of a name; of `auto`, bf16 where the processor multiplies it natively, else float32."""
    if dtype == "auto":
        dtype = "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"
    return {"bf16": torch.bfloat16, "float32": torch.float32}[dtype]


def load(model: str, scorer: str | None, dtype: str, threads: int
         ) -> tuple[Callable[[int, Sequence[int], int], dict[str, float]], dict[str, str]]:
    """Gives what continues a prompt n times to a length and scores, and the facts of what was loaded."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    numbers = number_type(dtype)
    generator = AutoModelForCausalLM.from_pretrained(model, dtype=numbers).eval()
    generator.generation_config.eos_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(model)
    classifier = scorer and pipeline("text-classification", model=scorer, device="cpu", dtype=numbers)

    def run(n: int, prompt: Sequence[int], length: int) -> dict[str, float]:
        ids = torch.tensor([prompt])
        start = time.perf_counter()
        out = generator.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1.0, num_return_sequences=n,
            min_new_tokens=length, max_new_tokens=length, pad_token_id=tokenizer.eos_token_id,
        )
        written = time.perf_counter()
        if classifier:
            classifier(tokenizer.batch_decode(out), truncation=True, batch_size=n)
        end = time.perf_counter()
        assert out.shape == (n, len(prompt) + length)
        return {"total": end - start, "write": written - start, "score": end - written}

    name = {torch.bfloat16: "bf16", torch.float32: "float32"}[numbers]
    return run, {"version": transformers.__version__, "writes_in": name, "isa": torch.backends.cpu.get_cpu_capability()}
