"""A bag of n-grams, the classifier's teacher: what words, word pairs and parts of words say by themselves.

After fastText (Joulin et al., arXiv 1607.01759). Learned from the few ten thousand sentences that we have, it judges
new ones better than a transformer does, since what it learns of a word holds wherever the word stands.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

BUCKETS = 1 << 19
NEGATIONS = frozenset(
    "not never no nor neither hardly barely scarcely nothing nobody none without cannot cant couldnt didnt doesnt dont "
    "hadnt hasnt havent isnt wasnt werent arent wont wouldnt aint".split()
)


def features(text: str) -> list[int]:
    """Hashed features: words, pairs, pairs with a gap, words soon after a negation, parts of longer words."""
    words = [word.replace("'", "") for word in re.findall(r"[a-z0-9']+|[!?]", text.lower())]
    return [crc32(name.encode()) % BUCKETS for name in _names(words)] or [0]


def _names(words: Sequence[str]) -> Iterator[str]:
    since = 9
    for i, word in enumerate(words):
        yield f"word {word}"
        if i:
            yield f"pair {words[i - 1]} {word}"
        if i > 1:
            yield f"gap {words[i - 2]} {word}"
        since = 0 if word in NEGATIONS else since + 1
        if 0 < since <= 4:
            yield f"negated {word}"
        if len(word) > 4:
            whole = f"<{word}>"
            yield from (f"part {whole[j : j + n]}" for n in (4, 5) for j in range(len(whole) - n + 1))


class Ngrams(nn.Module):
    """Logits of POSITIVE from features: each feature's own weight, and that of a short vector that it shares."""

    def __init__(self, width: int = 48):
        super().__init__()
        self.vectors = nn.EmbeddingBag(BUCKETS, width, mode="mean", sparse=True)
        self.weights = nn.EmbeddingBag(BUCKETS, 1, mode="mean", sparse=True)
        self.out = nn.Linear(width, 1)
        nn.init.normal_(self.vectors.weight, std=0.05)
        nn.init.zeros_(self.weights.weight)

    def forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """One logit per row of features."""
        counts = torch.tensor([len(row) for row in rows])
        flat, starts = torch.tensor([i for row in rows for i in row]), counts.cumsum(0) - counts
        mean = self.out(self.vectors(flat, starts)) + 20 * self.weights(flat, starts)
        # Between mean and sum: a long text gives more evidence, but parts of it repeat each other.
        return mean.squeeze(-1) * (counts / 30).sqrt()

    @torch.no_grad()
    def judge(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Probabilities of POSITIVE."""
        return self(rows).sigmoid()


def teacher(examples: Iterator[tuple[str, float]], steps: int, seed: int, say: Callable[[str], None]) -> Ngrams:
    """Trains a model on labelled texts, 64 per step; a quarter of each text's features is hidden at random."""
    torch.manual_seed(seed)
    rng, model = random.Random(seed), Ngrams()
    optimizers = [
        torch.optim.SparseAdam([model.vectors.weight, model.weights.weight], 2e-3),
        torch.optim.Adam(model.out.parameters(), 2e-3),
    ]
    schedules = [torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.01, total_iters=steps) for o in optimizers]
    shown = 0.0
    for step in range(1, steps + 1):
        texts, labels = zip(*islice(examples, 64), strict=True)
        rows = [[i for i in row if rng.random() > 0.25] or row for row in map(features, texts)]
        loss = binary_cross_entropy_with_logits(model(rows), torch.tensor(labels))
        loss.backward()
        for part in (*optimizers, *schedules):
            part.step()
        for optimizer in optimizers:
            optimizer.zero_grad()
        shown = loss.item() if step == 1 else 0.99 * shown + 0.01 * loss.item()
        if step % 1000 == 0:
            say(f"teacher: step {step} of {steps}, loss {shown:.3f}")
    return model
