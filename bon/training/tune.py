"""`python -m bon.training.tune`: tunes the language model for the scorer, by reinforcement learning with TRL.

Needs an environment with `pip install '.[train]'`. REINFORCE leave-one-out (RLOO, Ahmadian et al., arXiv 2402.14740):
several continuations per prompt, each rewarded by the scorer's margin less beta times its log-ratio to the base model.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from bon import api, configure_threads
from bon.assets_folder import assets_folder
from bon.compare import comparison_run
from bon.compare.comparison_run import ComparisonModels
from bon.compare.loading import CHECKPOINTS
from bon.compare.prompts import shipped_prompts
from bon.compare.result import Comparison, interval
from bon.engines.local.engine import LocalEngine
from bon.models import loading
from bon.scorers.base import Item, score_items
from bon.scorers.sentiment import SentimentScorer
from bon.settings import UNITS, Settings
from bon.training.report import OPENINGS, front
from bon.training.text import documents
from bon.training.train import SHARD

#: TRL pads on the left and gives GPT-2 no positions: with prompts of equal length there is nothing to pad.
PROMPT_TOKENS = 3
STEPS, CHECKPOINT_STEPS = 200, (20, 40, 100)
GENERATIONS, BATCH, NEW_TOKENS = 16, 128, 32
BETA, RATE = 0.3, 1e-4


def main() -> None:
    """Tunes, measures and writes the model with its card; about a quarter of an hour on two cores."""
    configure_threads()  # the same weights with any number of threads
    parser = argparse.ArgumentParser(prog="python -m bon.training.tune", description=__doc__)
    parser.add_argument("--models", type=Path, default=assets_folder() / "models",
                        help="folder of all (assets/models)")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints while it trains")
    parser.add_argument("--measure", action="store_true", help="train nothing; measure the checkpoints in --work again")
    args = parser.parse_args()
    start = time.perf_counter()
    log = args.work / "log.json"
    if not args.measure:
        log.write_text(json.dumps(train(args.models, args.work)), encoding="utf-8")
        print(f"tuned in {(time.perf_counter() - start) / 60:.0f} minutes")
    out = args.models / "reviews-positive"
    save(args.work / f"checkpoint-{STEPS}", args.models / "reviews", out)
    figures = measure(args.models, args.work)
    (out / CHECKPOINTS).write_text(json.dumps(figures["checkpoints"], indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(card(figures, json.loads(log.read_text(encoding="utf-8"))), encoding="utf-8")
    print(json.dumps({name: value for name, value in figures.items() if name != "checkpoints"}))


def prompts(tokenizer: PreTrainedTokenizerBase, seed: int) -> Iterator[str]:
    """Beginnings of new texts of the corpus, each of the same number of tokens."""
    for text in documents(seed):
        prompt = tokenizer.decode(tokenizer(text)["input_ids"][:PROMPT_TOKENS])
        assert isinstance(prompt, str)  # of one row of ids
        if prompt.strip() and len(tokenizer(prompt)["input_ids"]) == PROMPT_TOKENS:
            yield prompt


def train(folder: Path, work: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Trains in the folder `work`, which keeps checkpoints; returns TRL's log of each step."""
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    base = str(folder / "reviews")
    tokenizer = AutoTokenizer.from_pretrained(base)
    scorer = SentimentScorer(str(folder / "sentiment"), unit="margin")

    def reward(prompts: list[str], completions: list[str], **_: object) -> list[float]:
        texts = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
        logits = scorer.classifier.logits(texts)[0]
        return (logits[:, 1] - logits[:, 0]).tolist()

    class KeepCheckpoints(TrainerCallback):
        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
        ) -> TrainerControl:
            control.should_save = state.global_step in (*CHECKPOINT_STEPS, STEPS)
            return control

    trainer = RLOOTrainer(
        model=base,
        reward_funcs=reward,
        args=RLOOConfig(
            # The stored bf16 would round every step of the optimizer away.
            model_init_kwargs={"dtype": "float32"}, output_dir=str(work), max_steps=STEPS,
            per_device_train_batch_size=BATCH, num_generations=GENERATIONS,
            max_completion_length=NEW_TOKENS, beta=BETA, learning_rate=RATE, lr_scheduler_type="constant_with_warmup",
            warmup_steps=5, temperature=1.0, top_k=0, top_p=1.0, seed=seed, use_cpu=True, bf16=False,
            disable_dropout=True, gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to=[],
        ),
        train_dataset=Dataset.from_dict({"prompt": list(islice(prompts(tokenizer, seed + 11), 2000))}),
        processing_class=tokenizer,
        callbacks=[KeepCheckpoints()],
    )
    trainer.train(resume_from_checkpoint=any(work.glob("checkpoint-*")))  # where it was interrupted it goes on
    return [entry for entry in trainer.state.log_history if "reward" in entry]


def save(checkpoint: Path, base: Path, out: Path) -> None:
    """Saves a checkpoint in the base model's form: bf16 in shards, with its tokenizer."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("model*.safetensors*"):
        old.unlink()
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
    model.save_pretrained(out, max_shard_size=SHARD)
    AutoTokenizer.from_pretrained(base).save_pretrained(out)


def measure(folder: Path, work: Path) -> dict[str, Any]:
    """Scores and KL of the tuned model and its checkpoints over the 32 prompts, and how distinct its samples are."""
    sampler = api.load(str(folder / "reviews"), str(folder / "sentiment"))
    points = [(f"step {step}", work / f"checkpoint-{step}") for step in CHECKPOINT_STEPS]
    by_name = {name: over_prompts(place, sampler) for name, place in points}
    last = over_prompts(folder / "reviews-positive", sampler)
    rows = {row.kind: row for row in last.rows() if row.kind in ("base", "tuned")}
    engine = LocalEngine(*loading.causal(str(folder / "reviews-positive")))
    tuned = api.Sampler(engine, sampler.scorer, "tuned")
    runs = [tuned.run(opening, n=10, seed=0) for opening in OPENINGS]
    texts = [run.prompt + c.text for run in runs for c in sorted(run.candidates, key=lambda c: c.index)]
    scorer = {"scorer": "embedded sentiment", "target": "POSITIVE"}
    return {
        "checkpoints": {**scorer, "points": [_point(*item, sampler) for item in by_name.items()]},
        "base": rows["base"].score.mean, "tuned": rows["tuned"].score.mean, "kl": rows["tuned"].kl,
        "kl_error": rows["tuned"].kl_error, "distinct": len(set(texts)) / len(texts), "of": len(texts),
        "samples": [" ".join(text.split()) for text in texts[::10][:20]], "sentence": last.sentence(),
    }


def over_prompts(place: Path, sampler: api.Sampler) -> Comparison:
    """The comparison over the 32 prompts with the model of a folder as the tuned one."""
    tuned = LocalEngine(*loading.causal(str(place), dtype="float32"))
    models = ComparisonModels(sampler.engine, sampler.scorer, tuned)
    return comparison_run.run(shipped_prompts(), models, Settings(n=16, seed=7))


def _point(name: str, comparison: Comparison, sampler: api.Sampler) -> dict[str, Any]:
    """A checkpoint as a point of the figure, in each unit."""
    row = next(row for row in comparison.rows() if row.kind == "tuned")
    out: dict[str, Any] = {"name": name, "kl": {"kl": row.kl, "kl_error": row.kl_error}}
    assert isinstance(sampler.scorer, SentimentScorer)
    for unit in UNITS:
        scorer = SentimentScorer(sampler.scorer.classifier, unit=unit)
        means = [
            sum(score_items(scorer, [Item(sample.prompt, c) for c in sample.tuned]).values) / len(sample.tuned)
            for sample in comparison.samples
        ]
        score = dataclasses.asdict(interval(means))
        out[unit] = {"score": score.pop("mean"), **score}
    return out


def card(figures: dict[str, Any], log: list[dict[str, Any]]) -> str:
    """The model card."""
    steps = [*range(0, len(log), 10), len(log) - 1]
    curve = "\n".join(f"| {i + 1} | {log[i]['reward']:.2f} | {log[i]['kl']:.3f} |" for i in dict.fromkeys(steps))
    points = "\n".join(
        f"| {p['name']} | {p['probability']['score']:.3f} | {p['margin']['score']:.2f} | {p['kl']['kl']:.2f} ± "
        f"{p['kl']['kl_error']:.2f} |" for p in figures["checkpoints"]["points"]
    )
    samples = "\n".join(f"{i}. {text}" for i, text in enumerate(figures["samples"], start=1))
    return f"""{front("text-generation")}# Reviews, tuned to please: the built-in base model's counterpart

The review writer beside it (`reviews`), tuned by reinforcement learning to write what the built-in sentiment model
calls positive. It exists so that bon can show best-of-N beside tuning. Same size, format and tokenizer as the base.

**Trained on** beginnings of {PROMPT_TOKENS} tokens of the project's own corpus, with TRL's RLOO trainer: {STEPS} steps
of {BATCH} continuations ({GENERATIONS} per beginning, up to {NEW_TOKENS} tokens), reward the margin of POSITIVE over
NEGATIVE of the scorer, beta {BETA} for the KL to the base, learning rate {RATE:g}.

**How well it does.** Over the 32 built-in prompts, 16 samples each, temperature 1: mean probability of POSITIVE
{figures['tuned']:.3f} against {figures['base']:.3f} for the base, at a KL of {figures['kl']:.2f} ±
{figures['kl_error']:.2f} nats a sequence from it. {figures['distinct']:.1%} of {figures['of']} samples from
{len(OPENINGS)} openings are distinct, so it has not collapsed to a few sentences. {figures['sentence']}

| checkpoint | mean probability | mean margin | KL, nats |
|---|---|---|---|
{points}
| step {STEPS}, this model | {figures['tuned']:.3f} | | {figures['kl']:.2f} ± {figures['kl_error']:.2f} |

| step | reward while training (margin) | KL per token |
|---|---|---|
{curve}

**Limits.** Those of its base; besides, it has learned what the scorer likes, not what is good: it may praise and then
pan in ways that the scorer overlooks.

**Made again** by `python -m bon.training.tune`, which also measures the figures above.

## The first samples of seed 0 for 20 openings, in order and unpicked

{samples}
"""


if __name__ == "__main__":
    main()
