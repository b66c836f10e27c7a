"""The speed table: bon beside what its users would take otherwise, on this machine, in turns.

Speed does not depend on what weights say, so models of the true size with random weights do.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bon.errors import EngineError
from bon.messages import say
from bon.settings import Request
from bon.stats import estimates

CONTESTANT = Path(__file__).with_name("peer_process.py")
#: Tokens that the queries of a work are continued by.
LENGTHS = (28, 31, 37, 16)
#: Shapes with random weights: the writer's and the scorer's, where they differ from GPT-2 small and DistilBERT.
SIZES = {
    "embedded": (
        {"vocab_size": 4096, "n_positions": 512, "n_embd": 256, "n_layer": 6, "n_head": 4},
        {"vocab_size": 8000, "dim": 256, "n_layers": 3, "n_heads": 4, "hidden_dim": 768},
    ),
    "gpt2-small": ({}, {}),
}


@dataclass(frozen=True, slots=True)
class Work:
    """What every contestant does: for each length one query of `prompt` tokens, continued n times to it and scored."""

    folder: Path
    n: int
    prompt: int
    lengths: tuple[int, ...] = LENGTHS


class Contestant:
    """A process that does the work once per turn; a context manager."""

    def __init__(self, kind: str, work: Work, dtype: str, python: str = sys.executable):
        self.kind, self.dtype = kind, dtype
        # By its text: as a file it would find bon's modules where it looks for the packages of the same names.
        command = [python, "-c", CONTESTANT.read_text(encoding="utf-8"), kind, str(work.folder), str(work.n),
                   str(work.prompt), ",".join(map(str, work.lengths)), dtype]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.types = self._answer()

    def turn(self) -> dict:
        """Seconds of each query and the peak of memory of one turn."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(say("error.contestant_ended", name=self.kind, status=str(self._process.wait())))
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()


def seconds(turn: dict, part: str = "total") -> float:
    """The seconds of a turn's queries together, of one part of them."""
    return sum(query[part] for query in turn["queries"])


def in_turns(contestants: Sequence[Contestant], turns: int) -> list[list[dict]]:
    """The turns of each contestant, taken one after the other: A B A B."""
    taken = [[contestant.turn() for contestant in contestants] for _ in range(turns)]
    return [list(each) for each in zip(*taken, strict=True)]


def ours(work: Work, dtype: str = "auto") -> dict:
    """bon's time for a work, as plain JSON types: `total` seconds, `seconds` per query, the number types used."""
    with Contestant("bon", work, dtype) as contestant:
        turn = contestant.turn()
        each = [round(query["total"], 4) for query in turn["queries"]]
        return {"n": work.n, "prompt_tokens": work.prompt, "lengths": list(work.lengths), "total": round(sum(each), 4),
                "seconds": each, "generation": round(seconds(turn, "write"), 4),
                "scoring": round(seconds(turn, "score"), 4), **contestant.types}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: bon's own figures, and by peer how many times longer the peer took (median of pairs).

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
    """A line for each of bon's number types, measured in turns with the peers. Medians over the turns; ratios of
    turns of one round.
    """
    peers = [("transformers", peer_dtype, sys.executable)]
    if peer_python:
        peers += [("trl", "float32", peer_python), ("ctranslate2", "int8", peer_python)]
    with ExitStack() as stack:
        ours_ = [stack.enter_context(Contestant("bon", work, dtype)) for dtype in dtypes]
        others = [stack.enter_context(Contestant(kind, work, of, python)) for kind, of, python in peers]
        taken = in_turns([*ours_, *others], turns)
    by_peer = {kind: each for (kind, _, _), each in zip(peers, taken[len(ours_):], strict=True)}
    return [_line(size, work, who.types, own, by_peer) for who, own in zip(ours_, taken, strict=False)]


def _line(size: str, work: Work, types: dict[str, str], own: list[dict], by_peer: dict[str, list[dict]]) -> Line:
    def median(of):
        return statistics.median(map(of, own))

    def longer(part):
        return {kind: statistics.median(seconds(b, part) / seconds(a, part) for a, b in zip(own, turns, strict=True))
                for kind, turns in by_peer.items() if part in turns[0]["queries"][0]}

    steps, tokens, writes = sum(work.lengths), work.n * sum(work.lengths), longer("write")
    return Line(
        size, work.n, work.prompt, types, median(lambda t: seconds(t, "prefill") / len(work.lengths)),
        median(lambda t: (seconds(t, "write") - seconds(t, "prefill")) / steps),
        median(lambda t: seconds(t, "score") / len(work.lengths)), median(lambda t: seconds(t) / len(work.lengths)),
        median(lambda t: tokens / seconds(t, "write")), max(turn["memory"] for turn in own), writes | longer("total"),
        writes, {kind: max(turn["memory"] for turn in turns) for kind, turns in by_peer.items()},
    )


def table(dtypes: Sequence[str] = ("auto",), turns: int = 3, peer_python: str | None = None,
          sizes: Sequence[str] = tuple(SIZES), counts: Sequence[int] = (1, 4, 16, 64),
          prompts: Sequence[int] = (8, 256), lengths: tuple[int, ...] = LENGTHS,
          peer_dtype: str = "float32") -> Iterator[Line]:
    """The lines of the whole table, as they are measured."""
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            folder = Path(scratch) / size
            random_models(folder, size)
            for prompt in prompts:
                for n in counts:
                    yield from lines(size, Work(folder, n, prompt, lengths), dtypes, turns, peer_python, peer_dtype)


def markdown(rows: Iterable[Line]) -> Iterator[str]:
    """The table in Markdown, line by line."""
    head = None
    for row in rows:
        if head is None:
            head = list(row.times_longer)
            names = ["models", "prompt", "N", "prefill", "step", "scoring", "whole query", "tokens/s", "memory"]
            names += [f"{kind} takes" for kind in head]
            yield "| " + " | ".join(names) + " |"
            yield "|---" * len(names) + "|"
        cells = [
            f"{row.size} ({row.types['writes_in']}, scored in {row.types['scores_in']})", str(row.prompt), str(row.n),
            f"{row.prefill * 1e3:.1f} ms", f"{row.step * 1e3:.1f} ms", f"{row.score * 1e3:.0f} ms",
            f"{row.total:.2f} s", f"{row.rate:,.0f}", f"{row.memory / 2**20:,.0f} MB",
            *(f"{row.times_longer[kind]:.1f} x" for kind in head),
        ]
        yield "| " + " | ".join(cells) + " |"


def random_models(folder: Path, size: str) -> None:
    """Writes `gpt2` and `distilbert` with random weights to a folder, of one of `SIZES`.

    Every word of their tokenizer is one token, for both, so a text has as many tokens for the scorer as it was long.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        DistilBertConfig,
        DistilBertForSequenceClassification,
        GPT2Config,
        GPT2LMHeadModel,
        PreTrainedTokenizerFast,
    )

    writer, judge = SIZES[size]
    labels = {"id2label": {0: "NEGATIVE", 1: "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1}}
    writer, judge = GPT2Config(**writer), DistilBertConfig(**judge, **labels)
    torch.manual_seed(0)
    GPT2LMHeadModel(writer).save_pretrained(folder / "gpt2")
    DistilBertForSequenceClassification(judge).save_pretrained(folder / "distilbert")
    for name, count in (("gpt2", writer.vocab_size), ("distilbert", judge.vocab_size)):
        words = Tokenizer(models.WordLevel({"<end>": 0} | {f"w{i}": i for i in range(1, count)}, unk_token="<end>"))
        words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        PreTrainedTokenizerFast(
            tokenizer_object=words, eos_token="<end>", pad_token="<end>", bos_token="<end>", unk_token="<end>",
            model_input_names=["input_ids", "attention_mask"], model_max_length=512,
        ).save_pretrained(folder / name)
        written = folder / name / "tokenizer_config.json"
        told = json.loads(written.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
        written.write_text(json.dumps(told))  # a name that old and new transformers both know


#: Two hundred prompts for the embedded models: every subject in every opening.
SUBJECTS = ("movie book hotel phone restaurant album game museum trip laptop "
            "play series shop match cafe concert teacher train garden meal").split()
OPENINGS = ("This {}", "The {}", "My {}", "Our {} was", "What a {}", "I was surprised that the {}", "Honestly, the {}",
            "When we found the {},", "They say the {}", "Never again: the {}")


@dataclass(frozen=True, slots=True)
class Rejection:
    """Early rejection against plain best-of-M: at the same mean winning logit, how many times the tokens M takes.

    tokens, logit: of early rejection, per prompt. plain: M, or None where even the most plain samples win less.
    saves: tokens of plain best-of-M / tokens of early rejection.
    """

    n: int
    reject: float
    tokens: float
    logit: float
    plain: float | None
    saves: float | None


def rejection(n: Sequence[int] = (16, 32, 64), reject: float = 0.5, most: int = 256,
              say: Callable[[str], None] = print) -> list[Rejection]:
    """Measures early rejection on the embedded models, in logits, against plain best-of-M for all M up to `most`.

    Over 200 prompts; the margin of POSITIVE over NEGATIVE is what wins.
    """
    import numpy as np

    from bon import api

    prompts = [opening.format(subject) for subject in SUBJECTS for opening in OPENINGS]
    sampler = api.load("embedded", unit="margin")
    curve, each, found = np.zeros(most), 0.0, {count: [] for count in n}
    for seed, prompt in enumerate(prompts):
        plain = sampler.run(prompt, n=most, seed=seed, unit="margin")
        curve += np.array(estimates.expected_best([c.score for c in plain.candidates])) / len(prompts)
        each += plain.timing.tokens / most / len(prompts)
        for count in n:
            kept = sampler.run(prompt, n=count, seed=seed + 10**6, unit="margin", reject=reject)
            found[count].append((kept.timing.tokens, kept.best.score))
        if (seed + 1) % 20 == 0:
            say(f"{seed + 1} of {len(prompts)} prompts")
    say("plain best of M, mean winning logit: " + ", ".join(
        f"{m}: {curve[m - 1]:.3f}" for m in (1, 2, 4, 8, 16, 32, 64, 128, 256) if m <= most))
    out = []
    for count, pairs in found.items():
        tokens, logit = np.mean(pairs, axis=0)
        equal = float(np.interp(logit, curve, np.arange(1, most + 1))) if logit <= curve[-1] else None
        out.append(Rejection(count, reject, float(tokens), float(logit), equal, equal and equal * each / float(tokens)))
    return out


@dataclass(frozen=True, slots=True)
class Users:
    """Callers at once against the same build serving them one after the other; seconds per run are medians.

    times: how many times more runs per second at once, the median of turns taken in pairs.
    """

    users: int
    n: int
    alone: float
    together: float
    times: float


def users(count: int = 8, n: int = 16, turns: int = 9) -> Users:
    """Measures `count` callers of the embedded models, each with a prompt of its own, best of n of 8 to 32 tokens."""
    from bon import api

    sampler = api.load("embedded")
    jobs = [(OPENINGS[i % len(OPENINGS)].format(SUBJECTS[i % len(SUBJECTS)]), i) for i in range(count)]

    def run(job):
        return sampler.run(job[0], n=n, seed=job[1])

    with ThreadPoolExecutor(count) as pool:
        ways = (lambda: list(map(run, jobs)), lambda: list(pool.map(run, jobs)))
        taken = [[_seconds(way) / count for way in ways] for _ in range(turns + 1)][1:]  # the first warms up
    alone, together = (statistics.median(times) for times in zip(*taken, strict=True))
    return Users(count, n, alone, together, statistics.median(a / b for a, b in taken))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Quality:
    """What a number type costs on the embedded models, against float32.

    kl: of its next-token distribution from float32's, nats per token. same_best: share of the prompts for which its
    scorer ranks the same of 16 candidates first. lost: float32 logits that going by its ranking loses, on average.
    """

    dtype: str
    kl: float
    same_best: float
    lost: float


def quality(dtypes: Sequence[str] = ("bf16", "int8"), count: int = 50) -> list[Quality]:
    """Measures what number types cost, on best of 16 of the embedded models from `count` prompts."""
    import torch

    from bon import api
    from bon.models import loading, presets
    from bon.scorers.classifier import Classifier

    exact = api.load("embedded", unit="margin", dtype="float32")
    prompts = [opening.format(subject) for subject in SUBJECTS for opening in OPENINGS][:: 200 // count]
    runs = [exact.run(prompt, n=16, seed=seed, unit="margin") for seed, prompt in enumerate(prompts)]
    spec, out = presets.find("embedded"), []
    for dtype in dtypes:
        model = loading.causal(spec.model, "cpu", dtype)[0]
        judge = Classifier(*loading.classifier(spec.scorer, "cpu", dtype))
        kl, tokens, same, lost = 0.0, 0, 0, 0.0
        for run in runs:
            logits = judge.logits([run.prompt + c.text for c in run.candidates])[0]
            first = int((logits[:, 1] - logits[:, 0]).argmax())
            same, lost = same + (first == 0), lost + run.candidates[0].score - run.candidates[first].score
            for c in run.candidates[:4]:
                ids = torch.tensor([[*exact.engine.encode(Request(run.prompt)), *c.token_ids]])
                with torch.inference_mode():
                    p, q = (m(input_ids=ids).logits[0].double().log_softmax(-1) for m in (exact.engine.model, model))
                kl, tokens = kl + float((p.exp() * (p - q)).sum()), tokens + ids.shape[1]
        out.append(Quality(dtype, kl / tokens, same / len(runs), lost / len(runs)))
    return out
