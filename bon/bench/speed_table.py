"""The speed table: bon and its peers, which a user would run instead, timed on this machine in turns."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict

from bon.bench.random_models import SIZES, save_random_models
from bon.errors import EngineError
from bon.messages import say

PEER_PROCESS = Path(__file__).with_name("peer_process.py")
#: Tokens that the queries of a work are continued by.
LENGTHS = (28, 31, 37, 16)


class Turn(TypedDict):
    """What one turn took: seconds of each query by part (`total`, `write`, ...), and bytes of memory at the peak."""

    queries: list[dict[str, float]]
    memory: int


@dataclass(frozen=True, slots=True)
class Work:
    """What is timed: for each length one query of `prompt` tokens, continued n times to that length and scored."""

    folder: Path
    n: int
    prompt: int
    lengths: tuple[int, ...] = LENGTHS


class TimedProcess:
    """A process of bon or of a peer that does the work once per turn; a context manager.

    program: `bon`, `transformers`, `trl` or `ctranslate2`. types: the number types that it generates and scores in.
    Raises `EngineError` where the process ends.
    """

    program: str
    dtype: str

    def __init__(self, program: str, work: Work, dtype: str, python: str = sys.executable):
        self.program, self.dtype = program, dtype
        # The file's text rather than its path: its folder would come first in the module search path.
        command = [python, "-c", PEER_PROCESS.read_text(encoding="utf-8"), program, str(work.folder), str(work.n),
                   str(work.prompt), ",".join(map(str, work.lengths)), dtype]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.types: dict[str, str] = self._answer()

    def turn(self) -> Turn:
        """Does the work once."""
        assert self._process.stdin  # a pipe, as asked above
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(say("error.contestant_ended", name=self.program, status=str(self._process.wait())))
        return json.loads(line)

    def __enter__(self) -> "TimedProcess":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


def seconds(turn: Turn, part: str = "total") -> float:
    """The seconds of a turn's queries together, of one part of them."""
    return sum(query[part] for query in turn["queries"])


def in_turns(processes: Sequence[TimedProcess], turns: int) -> list[list[Turn]]:
    """The turns of each process, taken one after the other: A B A B."""
    rounds = [[process.turn() for process in processes] for _ in range(turns)]
    return [list(each) for each in zip(*rounds, strict=True)]


def time_bon(work: Work, dtype: str = "auto") -> dict[str, Any]:
    """bon's time for a work, in plain JSON types: `total` seconds, `seconds` per query, the number types used."""
    with TimedProcess("bon", work, dtype) as process:
        turn = process.turn()
        by_query = [round(query["total"], 4) for query in turn["queries"]]
        return {"n": work.n, "prompt_tokens": work.prompt, "lengths": list(work.lengths),
                "total": round(sum(by_query), 4), "seconds": by_query, "generation": round(seconds(turn, "write"), 4),
                "scoring": round(seconds(turn, "score"), 4), **process.types}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: bon's own figures, and by peer how many times longer the peer took (median of pairs).

    prefill, step, score, total: seconds; all but step per query. rate: tokens per second. memory: bytes at the peak.
    times_longer: the whole work, for CTranslate2, which only generates, generation alone. writes_longer: generation
    alone, for the peers whose generation can be timed apart.
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


def lines(size: str, work: Work, dtypes: Sequence[str], turns: int, peer_python: str | None = None,
          peer_dtype: str = "float32") -> list[Line]:
    """A line for each of bon's number types, measured in turns with the peers.

    Medians over the turns; ratios are of turns in the same round, when the machine was as busy.
    """
    peers = [("transformers", peer_dtype, sys.executable)]
    if peer_python:
        peers += [("trl", "float32", peer_python), ("ctranslate2", "int8", peer_python)]
    with ExitStack() as stack:
        own_processes = [stack.enter_context(TimedProcess("bon", work, dtype)) for dtype in dtypes]
        peer_processes = [stack.enter_context(TimedProcess(name, work, dtype, python)) for name, dtype, python in peers]
        turns_of = in_turns([*own_processes, *peer_processes], turns)
    by_peer = {name: peer_turns for (name, _, _), peer_turns in zip(peers, turns_of[len(own_processes):], strict=True)}
    return [_line(size, work, process.types, own_turns, by_peer)
            for process, own_turns in zip(own_processes, turns_of, strict=False)]


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


def table(dtypes: Sequence[str] = ("auto",), turns: int = 3, peer_python: str | None = None,
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
                    yield from lines(size, Work(folder, n, prompt, lengths), dtypes, turns, peer_python, peer_dtype)


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
