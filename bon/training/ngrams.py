"""Training of bags of n-grams: the classifier's teachers, the judge and the weak scorer.

Trained on a few ten thousand sentences, they classify new ones better than a transformer, since a word has the same
weight at every position.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from bon.models.presets import NGRAMS
from bon.scorers.ngrams import evidence, features

BUCKETS = 1 << 19
#: Of the weak scorer, which is meant to make mistakes.
WEAK_BUCKETS, WEAK_SENTENCES = 1 << 14, 1000


class Ngrams(nn.Module):
    """Logits of POSITIVE from features: each feature's weight, plus a linear function of its embedding."""

    vectors: torch.nn.EmbeddingBag
    weights: torch.nn.EmbeddingBag
    out: torch.nn.Linear

    def __init__(self, buckets: int = BUCKETS, width: int = 48):
        super().__init__()
        self.buckets = buckets
        self.vectors = nn.EmbeddingBag(buckets, width, mode="mean", sparse=True)
        self.weights = nn.EmbeddingBag(buckets, 1, mode="mean", sparse=True)
        self.out = nn.Linear(width, 1)
        nn.init.normal_(self.vectors.weight, std=0.05)
        nn.init.zeros_(self.weights.weight)

    def forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """One logit per row of features."""
        counts = torch.tensor([len(row) for row in rows])
        flat, starts = torch.tensor([i for row in rows for i in row]), counts.cumsum(0) - counts
        mean = self.out(self.vectors(flat, starts)) + 20 * self.weights(flat, starts)
        return evidence(mean.squeeze(-1), counts)

    @torch.no_grad()
    def judge(self, texts: Sequence[str]) -> Tensor:
        """Probabilities of POSITIVE."""
        return self([features(text, self.buckets) for text in texts]).sigmoid()

    @torch.no_grad()
    def flat(self) -> tuple[Tensor, Tensor]:
        """The trained model as one weight per feature [buckets] and a bias."""
        return self.vectors.weight @ self.out.weight[0] + 20 * self.weights.weight[:, 0], self.out.bias[0]


def train(examples: Iterator[tuple[str, float]], steps: int, seed: int, say: Callable[[str], None],
          buckets: int = BUCKETS) -> Ngrams:
    """Trains a model on labelled texts, 64 per step; a quarter of each text's features is dropped at random."""
    torch.manual_seed(seed)
    rng, model = random.Random(seed), Ngrams(buckets)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.SparseAdam([model.vectors.weight, model.weights.weight], 2e-3),
        torch.optim.Adam(model.out.parameters(), 2e-3),
    ]
    schedules = [torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.01, total_iters=steps) for o in optimizers]
    mean_loss = 0.0
    for step in range(1, steps + 1):
        texts, labels = zip(*islice(examples, 64), strict=True)
        rows = [[i for i in row if rng.random() > 0.25] or row for row in (features(text, buckets) for text in texts)]
        loss = binary_cross_entropy_with_logits(model(rows), torch.tensor(labels))
        loss.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        mean_loss = loss.item() if step == 1 else 0.99 * mean_loss + 0.01 * loss.item()
        if step % 1000 == 0:
            say(f"n-grams: step {step} of {steps}, loss {mean_loss:.3f}")
    return model


def save(trained: Sequence[Ngrams], out: Path) -> None:
    """Saves the mean of several models, in the form that `bon.scorers.ngrams` reads."""
    weights, bias = (torch.stack(parts).mean(0) for parts in zip(*(model.flat() for model in trained), strict=True))
    out.mkdir(parents=True, exist_ok=True)
    save_file({"weights": weights.to(torch.bfloat16).contiguous(), "bias": bias.reshape(1)}, out / "model.safetensors")
    config = {"model_type": NGRAMS, "id2label": {"0": "NEGATIVE", "1": "POSITIVE"}, "buckets": len(weights)}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
