"""TRL's `BestOfNSampler`, whole runs: it generates and scores in one call."""

import time
from collections.abc import Callable, Sequence

import torch
import transformers
import trl
from transformers import AutoTokenizer, pipeline
from transformers_runner import number_type
from trl import AutoModelForCausalLMWithValueHead
from trl.extras import BestOfNSampler


def load(model: str, scorer: str | None, dtype: str, threads: int
         ) -> tuple[Callable[[int, Sequence[int], int], dict[str, float]], dict[str, str]]:
    """Gives what continues a prompt n times to a length and scores, and the facts of what was loaded."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    numbers = number_type(dtype)
    generator = AutoModelForCausalLMWithValueHead.from_pretrained(model, torch_dtype=numbers)
    generator.pretrained_model.generation_config.eos_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(model)
    classifier = scorer and pipeline("text-classification", model=scorer, device="cpu", torch_dtype=numbers)

    def score(texts: list[str]) -> list[float]:
        return [out["score"] for out in classifier(texts, truncation=True)] if classifier else [0.0] * len(texts)

    def run(n: int, prompt: Sequence[int], length: int) -> dict[str, float]:
        sampler = BestOfNSampler(generator, tokenizer, score, length_sampler=lambda: length, sample_size=n)
        start = time.perf_counter()
        sampler.generate(torch.tensor(prompt), min_length=-1, top_k=0, top_p=1.0, do_sample=True,
                         pad_token_id=tokenizer.eos_token_id)
        return {"total": time.perf_counter() - start}

    name = {torch.bfloat16: "bf16", torch.float32: "float32"}[numbers]
    return run, {"version": trl.__version__, "writes_in": name, "isa": torch.backends.cpu.get_cpu_capability()}
