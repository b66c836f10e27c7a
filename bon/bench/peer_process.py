"""The program of one timed process: bon, or a peer that a user would run instead.

`PROGRAM FOLDER N PROMPT LENGTHS DTYPE`, then a line on standard input for each turn: it does the work once and answers
with one line of JSON: seconds per query in all (`total`) and, where they can be told apart, of generation (`write`)
and scoring (`score`); bytes of memory at the peak above those in use with the weights loaded. This file imports nothing
of bon unless it is bon that runs, so that any Python with the peer's packages can run it.
"""

import gc
import json
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

#: From a length to the seconds of one query by part.
Run = Callable[[int], dict[str, float]]


def bon(folder: str, n: int, query: Sequence[int], dtype: str) -> tuple[Run, dict[str, str]]:
    from bon import configure_threads

    configure_threads()
    from bon import flow
    from bon.engines.local.engine import LocalEngine, Rules
    from bon.models import loading
    from bon.scorers.classifier import Classifier
    from bon.scorers.sentiment import SentimentScorer
    from bon.settings import Request, Settings

    model, tokenizer = loading.causal(f"{folder}/gpt2", "cpu", dtype)
    classifier = loading.classifier(f"{folder}/distilbert", "cpu", dtype)
    # No text ends before its length, so that all programs generate the same number of tokens.
    engine, scorer = LocalEngine(model, tokenizer, rules=Rules(eos=())), SentimentScorer(Classifier(*classifier))
    types = {"writes_in": loading.facts(model).dtype, "scores_in": loading.facts(classifier[0]).dtype}

    def run(length: int) -> dict[str, float]:
        request = Request(settings=Settings(n=n, seed=1), prompt_ids=tuple(query))
        start = time.perf_counter()
        result = flow.run(request, engine, scorer, lambda: length)
        total = time.perf_counter() - start
        if [c.tokens for c in result.candidates if c.score is not None] != [length] * n:
            raise AssertionError("Some candidates are shorter than the work asks for.")
        return {"total": total, "prefill": result.timing.prefill, "score": result.timing.score,
                "write": result.timing.prefill + result.timing.decode}

    return run, types


def transformers(folder: str, n: int, query: Sequence[int], dtype: str) -> tuple[Run, dict[str, str]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    torch_dtype = {"bf16": torch.bfloat16}.get(dtype, torch.float32)
    model = AutoModelForCausalLM.from_pretrained(f"{folder}/gpt2", dtype=torch_dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(f"{folder}/gpt2")
    classifier = pipeline("text-classification", model=f"{folder}/distilbert", device="cpu", dtype=torch_dtype)
    ids = torch.tensor([query])

    def run(length: int) -> dict[str, float]:
        start = time.perf_counter()
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1.0, num_return_sequences=n,
            min_new_tokens=length, max_new_tokens=length, eos_token_id=None, pad_token_id=tokenizer.eos_token_id,
        )
        written = time.perf_counter()
        texts = tokenizer.batch_decode(out)
        classifier(texts, truncation=True, batch_size=n)
        end = time.perf_counter()
        return {"total": end - start, "write": written - start, "score": end - written}

    name = str(torch_dtype).removeprefix("torch.")
    return run, {"writes_in": name, "scores_in": name}


def trl(folder: str, n: int, query: Sequence[int], dtype: str) -> tuple[Run, dict[str, str]]:
    import torch
    from transformers import AutoTokenizer, pipeline
    from trl import AutoModelForCausalLMWithValueHead
    from trl.extras import BestOfNSampler

    model = AutoModelForCausalLMWithValueHead.from_pretrained(f"{folder}/gpt2")
    tokenizer = AutoTokenizer.from_pretrained(f"{folder}/gpt2")
    classifier = pipeline("text-classification", model=f"{folder}/distilbert", device="cpu")
    length_now = [0]
    sampler = BestOfNSampler(
        model, tokenizer, lambda texts: [out["score"] for out in classifier(texts, truncation=True)],
        length_sampler=lambda: length_now[0], sample_size=n,
    )
    ids = torch.tensor(query)

    def run(length: int) -> dict[str, float]:
        length_now[0] = length
        start = time.perf_counter()
        sampler.generate(ids, min_length=-1, top_k=0, top_p=1.0, do_sample=True, eos_token_id=None,
                         pad_token_id=tokenizer.eos_token_id)
        return {"total": time.perf_counter() - start}

    return run, {"writes_in": "float32", "scores_in": "float32"}


def ctranslate2(folder: str, n: int, query: Sequence[int], dtype: str) -> tuple[Run, dict[str, str]]:
    import ctranslate2
    import torch
    from ctranslate2.converters import TransformersConverter
    from transformers import AutoTokenizer

    converted = Path(folder) / f"ctranslate2-{dtype}"
    if not converted.exists():
        TransformersConverter(f"{folder}/gpt2").convert(str(converted), quantization=dtype)
        config = converted / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"layer_norm_epsilon": 1e-5}))
    prompt = AutoTokenizer.from_pretrained(f"{folder}/gpt2").convert_ids_to_tokens(list(query))
    generator = ctranslate2.Generator(str(converted), device="cpu", compute_type=dtype,
                                      intra_threads=torch.get_num_threads())

    def run(length: int) -> dict[str, float]:
        start = time.perf_counter()
        generator.generate_batch([prompt], max_length=length, min_length=length, num_hypotheses=n, sampling_topk=0,
                                 include_prompt_in_result=False)
        return {"write": time.perf_counter() - start}

    return run, {"writes_in": dtype}


def _memory(name: str) -> int:
    """Bytes in use (VmRSS) or at the peak since it was reset (VmHWM); 0 where the system does not say."""
    status = Path("/proc/self/status")
    line = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(line[1]) * 1024 if line else 0


PROGRAMS = {"bon": bon, "transformers": transformers, "trl": trl, "ctranslate2": ctranslate2}


def main(program: str, folder: str, n: str, prompt: str, lengths: str, dtype: str) -> None:
    """Loads the models, prints the number types, then answers each line on standard input with one turn."""
    warnings.filterwarnings("ignore")
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokens = json.loads((Path(folder) / "gpt2" / "config.json").read_text())["vocab_size"]
    query = torch.randint(10, min(19_000, tokens), (int(prompt),), generator=torch.Generator().manual_seed(1)).tolist()
    run, types = PROGRAMS[program](folder, int(n), query, dtype)
    gc.collect()
    loaded = _memory("VmRSS")
    run(4)  # warms up
    print(json.dumps(types), flush=True)
    for _ in sys.stdin:
        if Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")
        queries = [run(int(length)) for length in lengths.split(",")]
        print(json.dumps({"queries": queries, "memory": _memory("VmHWM") - loaded}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
