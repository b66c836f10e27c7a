"""llama.cpp, its server in this process: generation alone."""

import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import xllamacpp
from gguf_file import write_gguf

MOST_CANDIDATES = 64
#: Up to this many candidates, one cache for all of them is faster than one for each.
FEW = 16


def load(model: str, scorer: str | None, dtype: str, threads: int
         ) -> tuple[Callable[[int, Sequence[int], int], dict[str, float]], dict[str, str]]:
    """Gives what continues a prompt n times to a length, and the facts of what was loaded."""

    @cache
    def server(few: bool) -> Any:
        params = xllamacpp.CommonParams()
        params.model.path = write_gguf(model, dtype)
        params.n_parallel, params.kv_unified = MOST_CANDIDATES, few
        params.n_ctx = 8192 if few else 256 * MOST_CANDIDATES
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.port = 0
        return xllamacpp.Server(params)

    server(True)

    def run(n: int, prompt: Sequence[int], length: int) -> dict[str, float]:
        request = {"prompt": list(prompt), "n": n, "max_tokens": length, "ignore_eos": True, "temperature": 1.0,
                   "samplers": ["temperature"], "cache_prompt": False}
        start = time.perf_counter()
        answer = server(n <= FEW).handle_completions(request)
        seconds = time.perf_counter() - start
        assert len(answer["choices"]) == n

        return {"write": seconds}

    return run, {"version": version("xllamacpp"), "writes_in": dtype}
