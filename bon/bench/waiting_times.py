"""What a user waits for: words of a page, the winner of a command, and a place among other users."""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bon
from bon.bench import processor
from bon.errors import EngineError
from bon.messages import say

#: What the chat model is asked, and what the command continues.
QUESTION, OPENING = "What is the capital of France?", "This movie"
SEEDS = 20
HEADING = "| what a user waits for | result | spread |\n|---|---|---|"
#: Tokens of the texts that the wait for a whole run is scaled to.
TOKENS = 512


@dataclass(frozen=True, slots=True)
class Wait:
    """One measured wait: the middle of some turns, the least and the greatest; in seconds or, of a ratio, times (x)."""

    measured: str
    value: float
    lowest: float
    highest: float
    turns: int
    unit: str = "s"

    def markdown(self) -> str:
        """A row of the table of waits."""
        return (f"| {self.measured} | {self.value:.2f} {self.unit} | {self.lowest:.2f} to {self.highest:.2f}, "
                f"{self.turns} turns |")


def page(isa: str | None = None, seeds: int = SEEDS) -> list[Wait]:
    """Best of 16 with smollm2 on a warm page, through its HTTP interface: whole runs by 512 tokens, and first words."""
    with _served_page("smollm2", isa) as url:
        runs, first_words = runs_on_page(url, seeds, messages=[{"role": "user", "content": QUESTION}])
    return [_wait(f"best of 16 with smollm2 on the page, warm, per {TOKENS} tokens written", runs, statistics.fmean),
            _wait("first words on the page with smollm2, warm", first_words)]


def runs_on_page(url: str, seeds: int, **request: object) -> tuple[list[float], list[float]]:
    """For each seed of a best of 16: the seconds of the whole run by 512 tokens written, and those to the first words.
    """
    from gradio_client import Client

    client = Client(url, verbose=False)
    runs, first_words = [], []
    for seed in range(-1, seeds):
        begin, first, result = time.perf_counter(), None, {}
        for result in client.submit(**request, n=16, seed=abs(seed), api_name="/best_of_n"):
            if first is None and any(candidate["text"] for candidate in result["candidates"]):
                first = time.perf_counter() - begin
        assert first is not None  # some text has words
        if seed >= 0:  # the one before warms up
            tokens = sum(candidate["tokens"] for candidate in result["candidates"])
            runs.append((time.perf_counter() - begin) * TOKENS / tokens)
            first_words.append(first)
    return runs, first_words


def start(isa: str | None = None, turns: int = 7) -> list[Wait]:
    """From the shell to the winner, with the embedded models and nothing in memory."""
    return [_wait(f'`python -m bon "{OPENING}"`, from the shell to the winner',
                  [_seconds_of_command(OPENING, isa=isa) for _ in range(turns)])]


def users(isa: str | None = None, count: int = 8) -> list[Wait]:
    """Users at once against one after the other, with the embedded models and with smollm2."""
    waits = []
    for model, turns in (("embedded", 9), ("smollm2", 3)):
        output = subprocess.run(
            [sys.executable, "-m", "bon", "bench", "--users", str(count), "--model", model, "--turns", str(turns)],
            check=True, capture_output=True, env=_environment(isa)).stdout
        figures = json.loads(output)
        waits.append(Wait(f"{count} users at once against one after the other, {model}: times the runs per second",
                          figures["times"], figures["lowest"], figures["highest"], figures["turns"], "x"))
    return waits


#: The measurements by the names that a user gives them.
WAITS: dict[str, Callable[[str | None], list[Wait]]] = {"page": page, "start": start, "users": users}


def _wait(measured: str, values: Sequence[float], middle: Callable[[Sequence[float]], float] = statistics.median,
          unit: str = "s") -> Wait:
    return Wait(measured, middle(values), min(values), max(values), len(values), unit)


def _environment(isa: str | None) -> dict[str, str]:
    """This process's environment, in which another one finds this bon and keeps to an instruction set."""
    paths = [str(Path(bon.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | processor.variables_of(isa)


def _seconds_of_command(*arguments: str, isa: str | None) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "bon", *arguments], check=True, capture_output=True, env=_environment(isa))
    return time.perf_counter() - begin


@contextlib.contextmanager
def _served_page(model: str, isa: str | None) -> Iterator[str]:
    """The address of a page that a process of its own serves. Raises `EngineError` where the process ends."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    variables = {"BON_MODEL": model, "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-m", "bon", "page"], env=_environment(isa) | variables,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                break
            time.sleep(0.2)
        else:
            raise EngineError(say("error.contestant_ended", name="page", status=str(process.returncode)))
        yield url
    finally:
        process.terminate()
        process.wait()
