"""Processes of bon and of its peers that are timed in turns."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict

import bon
from bon.errors import EngineError
from bon.messages import say

PEER_PROCESS = Path(__file__).parent / "peers" / "peer_process.py"
#: Tokens that the queries of a work are continued by.
LENGTHS = (28, 31, 37, 16)


class Turn(TypedDict):
    """What one turn took: seconds of each query by part (`total`, `write`, ...), and bytes of memory at the peak: in
    all, and above those in use with the weights loaded.
    """

    queries: list[dict[str, float]]
    peak: int
    memory: int


@dataclass(frozen=True, slots=True)
class Work:
    """What is timed: for each length one query of `prompt` tokens, continued n times to that length.

    model: the generator's folder. scorer: the folder of the model that scores; None where nothing is scored.
    """

    model: Path
    scorer: Path | None
    n: int
    prompt: int
    lengths: tuple[int, ...] = LENGTHS

    @property
    def prompt_ids(self) -> list[int]:
        """The same random tokens for every program, which every vocabulary has."""
        tokens: int = json.loads((self.model / "config.json").read_text(encoding="utf-8"))["vocab_size"]
        return random.Random(1).choices(range(10, min(19_000, tokens)), k=self.prompt)


class PeerNotInstalled(EngineError):
    """A peer whose packages the Python lacks."""


class TimedProcess:
    """A process of bon or of a peer that does a work of its models once per turn; a context manager.

    program: `NAME_runner.py` of the folder `peers` is program NAME. facts: `writes_in` and, where it scores,
    `scores_in`, its number types; its `version`. variables: of its environment, beside this process's own.
    Raises `PeerNotInstalled` where its packages are missing, `EngineError` where the process ends.
    """

    program: str
    dtype: str
    facts: dict[str, str]

    def __init__(self, program: str, work: Work, dtype: str, python: str = sys.executable,
                 variables: Mapping[str, str] | None = None, threads: int | None = None):
        self.program, self.dtype = program, dtype
        spec = {"program": program, "model": str(work.model), "scorer": work.scorer and str(work.scorer),
                "dtype": dtype, "threads": threads or os.cpu_count()}
        path = {"PYTHONPATH": str(Path(bon.__file__).parents[1])} if program == "bon" else {}
        self._process = subprocess.Popen(
            [python, str(PEER_PROCESS), json.dumps(spec)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, **path, **(variables or {})})
        self.facts = self._answer()
        if missing := self.facts.get("missing"):
            self.close()
            raise PeerNotInstalled(say("error.peer_not_installed", name=program, package=missing))

    def turn(self, work: Work) -> Turn:
        """Does a work once."""
        assert self._process.stdin  # a pipe, as asked above
        self._process.stdin.write(json.dumps({"n": work.n, "prompt": work.prompt_ids, "lengths": work.lengths}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(say("error.contestant_ended", name=self.program, status=str(self._process.wait())))
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> "TimedProcess":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def seconds(turn: Turn, part: str = "total") -> float:
    """The seconds of a turn's queries together, of one part of them."""
    return sum(query[part] for query in turn["queries"])


def in_turns(processes: Sequence[TimedProcess], work: Work, turns: int) -> list[list[Turn]]:
    """The turns of each process at a work, taken one after the other, A B A B, after a short one that warms up."""
    for process in processes:
        process.turn(replace(work, lengths=(4,)))
    rounds = [[process.turn(work) for process in processes] for _ in range(turns)]
    return [list(each) for each in zip(*rounds, strict=True)]
