"""OpenVINO GenAI: generation alone, by its scheduler, which shares the prompt's cache among the candidates."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openvino
import openvino_genai


def load(model: str, scorer: str | None, dtype: str, threads: int
         ) -> tuple[Callable[[int, Sequence[int], int], dict[str, float]], dict[str, str]]:
    """Gives what continues a prompt n times to a length, and the facts of what was loaded."""
    exported = Path(f"{model}-openvino-{dtype}")
    if not exported.exists():
        subprocess.run([sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino", "--model", model,
                        "--task", "text-generation-with-past", "--weight-format", dtype, str(exported)], check=True)
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size, scheduler.max_num_seqs, scheduler.enable_prefix_caching = 2, 256, False
    pipeline = openvino_genai.ContinuousBatchingPipeline(str(exported), scheduler, "CPU",
                                                         {"INFERENCE_NUM_THREADS": threads})

    def run(n: int, prompt: Sequence[int], length: int) -> dict[str, float]:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = length
        config.ignore_eos, config.do_sample, config.num_return_sequences = True, True, n
        config.temperature, config.top_p, config.top_k = 1.0, 1.0, 50_000
        ids = openvino.Tensor(np.array([prompt], np.int64))
        start = time.perf_counter()
        (result,) = pipeline.generate([ids], [config])
        seconds = time.perf_counter() - start
        assert [len(written) for written in result.m_generation_ids] == [length] * n
        return {"write": seconds}

    return run, {"version": openvino_genai.__version__, "writes_in": dtype}
