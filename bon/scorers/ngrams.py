"""A linear classifier on a bag of n-grams: each word, word pair and part of a word has a weight.

It makes other errors than the transformers beside it, which is what a judge needs. After fastText (Joulin et al., arXiv
1607.01759): once trained, its product of embedding and output weights is one number per feature.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from zlib import crc32

import torch
from safetensors.torch import load_file
from torch import Tensor

from bon.errors import ModelError
from bon.messages import say
from bon.models.presets import NGRAMS

NEGATIONS = frozenset(
    "not never no nor neither hardly barely scarcely nothing nobody none without cannot cant couldnt didnt doesnt dont "
    "hadnt hasnt havent isnt wasnt werent arent wont wouldnt aint".split()
)


def features(text: str, buckets: int) -> list[int]:
    """The hash buckets of a text's features: words, pairs, pairs with a gap, words soon after a negation, and parts of
    longer words.
    """
    words = [word.replace("'", "") for word in re.findall(r"[a-z0-9']+|[!?]", text.lower())]
    return [crc32(name.encode()) % buckets for name in _feature_names(words)] or [0]


def _feature_names(words: Sequence[str]) -> Iterator[str]:
    """The features by name, before they are hashed. A negation reaches four words."""
    since_negation = 9
    for i, word in enumerate(words):
        yield f"word {word}"
        if i:
            yield f"pair {words[i - 1]} {word}"
        if i > 1:
            yield f"gap {words[i - 2]} {word}"
        since_negation = 0 if word in NEGATIONS else since_negation + 1
        if 0 < since_negation <= 4:
            yield f"negated {word}"
        if len(word) > 4:
            marked = f"<{word}>"
            yield from (f"part {marked[j : j + n]}" for n in (4, 5) for j in range(len(marked) - n + 1))


def evidence(mean: Tensor, counts: Tensor) -> Tensor:
    """Margins [texts] from the mean weight [texts] and the number [texts] of each text's features.

    Between mean and sum: a long text gives more evidence, but its parts repeat each other.
    """
    return mean * (counts / 30).sqrt()


class NgramClassifier:
    """Texts in, logits of NEGATIVE and POSITIVE out, in the form of `bon.scorers.classifier.Classifier`.

    weights [buckets]: one for each hash bucket of features. bias: added to their mean.
    """

    name: str
    labels: tuple[str, ...] = ("NEGATIVE", "POSITIVE")
    activation: str = "softmax"
    regression: bool = False
    weights: Tensor
    bias: float

    def __init__(self, weights: Tensor, bias: float, name: str):
        self.weights, self.bias, self.name = weights, bias, name

    @classmethod
    def load(cls, folder: str) -> "NgramClassifier":
        """The classifier in a folder with `config.json` and `model.safetensors`.

        Raises `ModelError` where the weights cannot be read.
        """
        try:
            tensors = load_file(Path(folder) / "model.safetensors")
            return cls(tensors["weights"].float(), tensors["bias"].item(), Path(folder).name)
        except (OSError, KeyError, ValueError) as error:
            raise ModelError(say("error.ngrams_unreadable", folder=str(folder), error=str(error))) from error

    @cached_property
    def _buckets(self) -> int:
        return len(self.weights)

    def logits(self, texts: Sequence[str], add_special_tokens: bool = True) -> tuple[Tensor, tuple[str, ...]]:
        """Logits [texts, 2] in float32, and no notes, since a text may have any length. There are no special tokens."""
        rows = [torch.tensor(features(text, self._buckets)) for text in texts]
        means = torch.stack([self.weights[row].mean() for row in rows]) + self.bias
        margin = evidence(means, torch.tensor([len(row) for row in rows]))
        return torch.stack([-margin / 2, margin / 2], dim=-1), ()


def is_ngrams(place: str) -> bool:
    """Whether a folder holds a bag of n-grams."""
    config = Path(place) / "config.json"
    return config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("model_type") == NGRAMS
