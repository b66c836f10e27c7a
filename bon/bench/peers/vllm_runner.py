"""vLLM on the processor: generation alone."""

import os
import time
from collections.abc import Callable, Sequence


def load(model: str, scorer: str | None, dtype: str, threads: int
         ) -> tuple[Callable[[int, Sequence[int], int], dict[str, float]], dict[str, str]]:
    """Gives what continues a prompt n times to a length, and the facts of what was loaded."""
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    import vllm

    number_type = {"bf16": "bfloat16"}.get(dtype, dtype)
    engine = vllm.LLM(model, dtype=number_type, max_model_len=1024, max_num_seqs=128, disable_log_stats=True,
                      enable_prefix_caching=False)

    def run(n: int, prompt: Sequence[int], length: int) -> dict[str, float]:
        sampling = vllm.SamplingParams(n=n, max_tokens=length, min_tokens=length, ignore_eos=True)
        start = time.perf_counter()
        (result,) = engine.generate([{"prompt_token_ids": list(prompt)}], sampling, use_tqdm=False)
        seconds = time.perf_counter() - start
        assert [len(output.token_ids) for output in result.outputs] == [length] * n
        return {"write": seconds}

    return run, {"version": vllm.__version__, "writes_in": dtype}
