"""CTranslate2: generation alone."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ctranslate2
from ctranslate2.converters import TransformersConverter
from transformers import AutoTokenizer


def load(model: str, scorer: str | None, dtype: str, threads: int
         ) -> tuple[Callable[[int, Sequence[int], int], dict[str, float]], dict[str, str]]:
    """Gives what continues a prompt n times to a length, and the facts of what was loaded."""
    converted = Path(f"{model}-ctranslate2-{dtype}")
    if not converted.exists():
        TransformersConverter(model).convert(str(converted), quantization=dtype)
        config = converted / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"layer_norm_epsilon": 1e-5}))
    tokenizer = AutoTokenizer.from_pretrained(model)
    generator = ctranslate2.Generator(str(converted), device="cpu", compute_type=dtype, intra_threads=threads)

    def run(n: int, prompt: Sequence[int], length: int) -> dict[str, float]:
        tokens = tokenizer.convert_ids_to_tokens(list(prompt))
        start = time.perf_counter()
        (result,) = generator.generate_batch([tokens], max_length=length, min_length=length, num_hypotheses=n,
                                             sampling_topk=0, include_prompt_in_result=False)
        seconds = time.perf_counter() - start
        assert [len(ids) for ids in result.sequences_ids] == [length] * n
        return {"write": seconds}

    return run, {"version": ctranslate2.__version__, "writes_in": dtype}
