"""The speed of a batch against a loop over single runs, and the memory it takes, with the embedded models."""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from bon import api
from bon.batch import batch_run
from bon.batch.input_rows import Dataset
from bon.bench.experiments import PROMPTS
from bon.settings import Settings


@dataclass(frozen=True, slots=True)
class Throughput:
    """Prompts per second of best of n, 8 to 32 tokens: in a loop over single runs, and in a batch.

    times: how many times faster the batch was, the median over turns taken in pairs. growth: by how many bytes the
    peak of memory rose between `prompts` rows of a batch and ten times as many.
    """

    prompts: int
    n: int
    alone: float
    batch: float
    times: float
    growth: int


def throughput(prompts: int = 1000, n: int = 8, turns: int = 5) -> Throughput:
    """Measures `prompts` prompts in up to `turns` turns each of loop and batch, the writing of files included."""
    sampler = api.load("embedded")
    turns = min(turns, 1 + prompts // 200)  # a turn should hold a few batches
    count = prompts // turns
    with tempfile.TemporaryDirectory() as scratch:
        growth = _memory_growth(Path(scratch), prompts, sampler, n)
        pairs = [(_seconds_of_loop(count, sampler, n), _seconds_of_batch(Path(scratch), count, sampler, n))
                 for _ in range(turns)]
    alone, batch = (statistics.median(count / seconds for seconds in times) for times in zip(*pairs, strict=True))
    return Throughput(prompts, n, alone, batch, statistics.median(a / b for a, b in pairs), growth)


def _prompts(count: int) -> Iterator[str]:
    return islice(cycle(PROMPTS), count)


def _events(folder: Path, count: int, sampler: api.Sampler, n: int) -> batch_run.BatchEvents:
    (folder / "in.txt").write_text("\n".join(_prompts(count)))
    task = batch_run.Task(Dataset(folder / "in.txt"), folder / "out.jsonl", Settings(n=n, seed=0), overwrite=True)
    return batch_run.stream(task, sampler.engine, sampler.scorer)


def _seconds_of_batch(folder: Path, count: int, sampler: api.Sampler, n: int) -> float:
    start = time.perf_counter()
    for _ in _events(folder, count, sampler, n):
        pass
    return time.perf_counter() - start


def _seconds_of_loop(count: int, sampler: api.Sampler, n: int) -> float:
    start = time.perf_counter()
    for seed, prompt in enumerate(_prompts(count)):
        sampler.run(prompt, n=n, seed=seed)
    return time.perf_counter() - start


def _memory_growth(folder: Path, prompts: int, sampler: api.Sampler, n: int) -> int:
    before: int | None = None
    for event in _events(folder, 10 * prompts, sampler, n):
        if before is None and isinstance(event, batch_run.Progress) and event.done >= prompts:
            before = _peak_memory()
    assert before is not None  # the last event of progress is past `prompts`
    return _peak_memory() - before


def _peak_memory() -> int:
    """The most bytes that this process has had in memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
