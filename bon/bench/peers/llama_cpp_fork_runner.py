"""ik_llama.cpp, a fork of llama.cpp made for processors: all candidates of a prompt are decoded together."""

import ctypes
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
from gguf_file import write_gguf
from ik_llama_cpp import _ctypes_api as api

MOST_CANDIDATES, MOST_TOKENS, MOST_IN_A_STEP = 64, 4096, 512


def load(model: str, scorer: str | None, dtype: str, threads: int
         ) -> tuple[Callable[[int, Sequence[int], int], dict[str, float]], dict[str, str]]:
    """Gives what continues a prompt n times to a length, and the facts of what was loaded."""
    api.llama_backend_init()
    weights = api.llama_model_load_from_file(write_gguf(model, dtype).encode(), api.llama_model_default_params())
    size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(weights))
    params = api.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_seq_max = MOST_TOKENS, MOST_IN_A_STEP, MOST_CANDIDATES
    params.flash_attn = True
    params.n_threads = params.n_threads_batch = threads
    context = api.llama_init_from_model(weights, params)
    copy_cache = api._lib.llama_kv_cache_seq_cp  # lacks a binding of its own
    copy_cache.argtypes, copy_cache.restype = [ctypes.c_void_p] + [ctypes.c_int32] * 4, None
    batch = api.llama_batch_init(MOST_IN_A_STEP, 0, 1)
    random = np.random.default_rng(0)

    def decode(tokens: Sequence[int], positions: Sequence[int], candidates: Sequence[int], rows: Sequence[int]) -> None:
        """One step of the model; `rows` of it will be asked for their logits."""
        for i, (token, position, candidate) in enumerate(zip(tokens, positions, candidates, strict=True)):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
            batch.seq_id[i][0], batch.logits[i] = candidate, i in rows
        batch.n_tokens = len(tokens)
        assert api.llama_decode(context, batch) == 0

    def draw(row: int, count: int) -> list[int]:
        """Tokens drawn from the whole distribution of a row."""
        address = ctypes.cast(api.llama_get_logits_ith(context, row), ctypes.POINTER(ctypes.c_float))
        logits = np.ctypeslib.as_array(address, (size,))
        sums = np.exp(logits - logits.max()).cumsum()
        return np.minimum(sums.searchsorted(random.random(count, np.float32) * sums[-1]), size - 1).tolist()

    def run(n: int, prompt: Sequence[int], length: int) -> dict[str, float]:
        start = time.perf_counter()
        api.llama_kv_cache_clear(context)
        last = len(prompt) - 1
        decode(prompt, range(len(prompt)), [0] * len(prompt), [last])
        for candidate in range(1, n):
            copy_cache(context, 0, candidate, -1, -1)
        tokens = draw(last, n)
        everyone = range(n)
        for position in range(len(prompt), len(prompt) + length - 1):
            decode(tokens, [position] * n, everyone, everyone)
            tokens = [draw(row, 1)[0] for row in everyone]
        return {"write": time.perf_counter() - start}

    return run, {"version": version("ik-llama-cpp-python"), "writes_in": dtype}
