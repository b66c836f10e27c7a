"""The speed table: bon's own parts, timed on models of several sizes in turns with transformers."""

import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bon.bench.random_models import SIZES, save_random_models
from bon.bench.timed_process import LENGTHS, TimedProcess, Turn, Work, in_turns, seconds


def time_bon(work: Work, dtype: str = "auto") -> dict[str, Any]:
    """bon's time for a work, in plain JSON types: `total` seconds, `seconds` per query, the number types used."""
    with TimedProcess("bon", work, dtype) as process:
        turn = process.turn(work)
        by_query = [round(query["total"], 4) for query in turn["queries"]]
        return {"n": work.n, "prompt_tokens": work.prompt, "lengths": list(work.lengths),
                "total": round(sum(by_query), 4), "seconds": by_query, "generation": round(seconds(turn, "write"), 4),
                "scoring": round(seconds(turn, "score"), 4), "writes_in": process.facts["writes_in"],
                "scores_in": process.facts["scores_in"]}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: bon's own figures, and by peer how many times longer the peer took (median of pairs).

    prefill, step, score, total: seconds; all but step per query. rate: tokens per second. memory: bytes at the peak.
    times_longer: the whole work. writes_longer: generation alone.
    """

    size: str
    n: int
    prompt: int
    types: dict[str, str]
    prefill: float
    step: float
    score: float
    total: float
    rate: float
    memory: int
    times_longer: dict[str, float]
    writes_longer: dict[str, float]
    memory_of_peers: dict[str, int]


def lines(size: str, work: Work, dtypes: Sequence[str], turns: int, peer_dtype: str = "float32") -> list[Line]:
    """A line for each of bon's number types, measured in turns with transformers.

    Medians over the turns; ratios are of turns in the same round, when the machine was as busy.
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(TimedProcess(program, work, dtype))
                     for program, dtype in [*(("bon", dtype) for dtype in dtypes), ("transformers", peer_dtype)]]
        *turns_of_bon, turns_of_peer = in_turns(processes, work, turns)
    return [_line(size, work, process.facts, own_turns, {"transformers": turns_of_peer})
            for process, own_turns in zip(processes, turns_of_bon, strict=False)]


def _line(size: str, work: Work, types: dict[str, str], own_turns: Sequence[Turn], by_peer: Mapping[str, list[Turn]]
          ) -> Line:
    """The line of one of bon's number types from its turns and the peers'."""
    def median(figure: Callable[[Turn], float]) -> float:
        return statistics.median(map(figure, own_turns))

    def times_longer(part: str) -> dict[str, float]:
        return {
            name: statistics.median(
                seconds(peer, part) / seconds(bon_turn, part) for bon_turn, peer in zip(own_turns, turns, strict=True)
            )
            for name, turns in by_peer.items() if part in turns[0]["queries"][0]
        }

    queries, steps, tokens = len(work.lengths), sum(work.lengths), work.n * sum(work.lengths)
    writes_longer = times_longer("write")
    return Line(
        size, work.n, work.prompt, types,
        prefill=median(lambda turn: seconds(turn, "prefill") / queries),
        step=median(lambda turn: (seconds(turn, "write") - seconds(turn, "prefill")) / steps),
        score=median(lambda turn: seconds(turn, "score") / queries),
        total=median(lambda turn: seconds(turn) / queries),
        rate=median(lambda turn: tokens / seconds(turn, "write")),
        memory=max(turn["memory"] for turn in own_turns),
        times_longer=writes_longer | times_longer("total"), writes_longer=writes_longer,
        memory_of_peers={name: max(turn["memory"] for turn in turns) for name, turns in by_peer.items()},
    )


def table(dtypes: Sequence[str] = ("auto",), turns: int = 3,
          sizes: Sequence[str] = tuple(SIZES), counts: Sequence[int] = (1, 4, 16, 64),
          prompts: Sequence[int] = (8, 256), lengths: tuple[int, ...] = LENGTHS,
          peer_dtype: str = "float32") -> Iterator[Line]:
    """The lines of the whole table, each as soon as it is measured."""
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            folder = Path(scratch) / size
            save_random_models(folder, size)
            for prompt in prompts:
                for n in counts:
                    work = Work(folder / "gpt2", folder / "distilbert", n, prompt, lengths)
                    yield from lines(size, work, dtypes, turns, peer_dtype)


def markdown(rows: Iterable[Line]) -> Iterator[str]:
    """The table in Markdown, line by line."""
    peers: list[str] | None = None
    for row in rows:
        if peers is None:
            peers = list(row.times_longer)
            heads = ["models", "prompt", "N", "prefill", "step", "scoring", "whole query", "tokens/s", "memory"]
            heads += [f"{name} takes" for name in peers]
            yield "| " + " | ".join(heads) + " |"
            yield "|---" * len(heads) + "|"
        cells = [
            f"{row.size} ({row.types['writes_in']}, scored in {row.types['scores_in']})", str(row.prompt), str(row.n),
            f"{row.prefill * 1e3:.1f} ms", f"{row.step * 1e3:.1f} ms", f"{row.score * 1e3:.0f} ms",
            f"{row.total:.2f} s", f"{row.rate:,.0f}", f"{row.memory / 2**20:,.0f} MB",
            *(f"{row.times_longer[name]:.1f} x" for name in peers),
        ]
        yield "| " + " | ".join(cells) + " |"
