"""How much rounding to int8 changes a model, on fixed texts, and the files that remember it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bon import __version__
from bon.models import packed_linear
from bon.models.number_types import int8_products
from bon.models.number_types.evening import Evening, evenings
from bon.models.running import joined_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: The most that int8 may change a model by default, in nats of KL per token.
MOST_KL = 0.005
#: Ordinary English and code, of which a model reads the first `TOKENS` tokens each.
TEXTS = (
    "The old harbour was quiet before sunrise. Two men carried nets to a blue boat, and a third one, younger than the "
    "others, tried to start the engine. It coughed twice and fell silent again.",
    "Water boils at a lower temperature on a mountain because the air pressure there is lower. That is why pasta takes "
    "longer to cook at 3,000 metres than at the coast.",
    'def mean(values):\n    """The arithmetic mean of a list of numbers."""\n    if not values:\n'
    '        raise ValueError("no values")\n    return sum(values) / len(values)\n',
    "This movie surprised me. The first half hour is slow, but the actors are wonderful, and the ending is one of the "
    "best that I have seen this year.",
)
TOKENS = 40
#: The texts by which inputs are made even; others than those of the check, which would else look better than it is.
SEEN_TEXTS = (
    "Two plus two is four. The committee met on Tuesday, and nobody agreed about the new bridge over the river, which "
    "would cost 12 million.",
    'for i in range(10):\n    print(f"row {i}: {data[i]!r}")\n\nclass Stack(list):\n    def push(self, item):\n'
    "        self.append(item)\n",
    "I bought these shoes in March. They are light and comfortable, but the soles wore out after only three months of "
    "walking.",
)


def round_if_near(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[bool, float | None]:
    """Rounds the layers of a model in float32 to int8 unless that changes it by more than `MOST_KL`.

    Returns whether it did, and the KL divergence; None where the model's own code does not let it be measured. It is
    measured with each layer rounded anew when it is called, so that memory never holds the weights twice.
    """
    even = _evenings(model, tokenizer)
    try:
        exact = _log_probabilities(model, tokenizer)
        with _rounding(model, even):
            measured = _kl(exact, _log_probabilities(model, tokenizer))
    except Exception:  # the model's own code may want more than tokens, or fewer of them
        return False, None
    return measured <= MOST_KL and packed_linear.pack(model, even, joined_layers(model)), measured


def round_layers(model: nn.Module, tokenizer: PreTrainedTokenizerBase | None) -> bool:
    """Rounds the layers of a model to int8; returns whether it did (`packed_linear.pack`)."""
    even = _evenings(model, tokenizer) if tokenizer else {}
    return packed_linear.pack(model, even, joined_layers(model))


def _evenings(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> dict[nn.Module, Evening]:
    """How the inputs of layers are made even; empty where the model does not take tokens alone."""
    layers = filter(packed_linear.is_linear, model.modules())
    weights = {layer: packed_linear.weight_and_bias(layer)[0] for layer in layers}
    try:
        return evenings(model, weights, _tokens(tokenizer, SEEN_TEXTS), int8_products.least_gain_of_mixing())
    except Exception:  # as in `round_if_near`
        return {}


@contextmanager
def _rounding(model: nn.Module, even: Mapping[nn.Module, Evening]) -> Iterator[None]:
    """The model with its linear layers rounded whenever they are called."""
    def output(layer: nn.Module, inputs: tuple[Tensor], _: Tensor) -> Tensor:
        rounded = packed_linear.Int8Linear(*packed_linear.weight_and_bias(layer), even.get(layer))
        return rounded.forward(*inputs)

    hooks = [layer.register_forward_hook(output) for layer in model.modules() if packed_linear.is_linear(layer)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The first `TOKENS` token ids of each text, where it has any."""
    return [ids for text in texts if (ids := tokenizer(text)["input_ids"][:TOKENS])]


@torch.inference_mode()
def _log_probabilities(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Tensor]:
    """The model's log-probabilities [tokens, vocabulary] of the next token at each position of each text."""
    return [model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1) for ids in _tokens(tokenizer, TEXTS)]


def _kl(exact: Sequence[Tensor], rounded: Sequence[Tensor]) -> float:
    """The KL divergence of rounded log-probabilities from exact ones, in nats per token."""
    per_token = [(p.exp() * (p - q)).sum(-1) for p, q in zip(exact, rounded, strict=True)]
    return float(torch.cat(per_token).mean())


def recall(paths: Iterable[str]) -> float | None:
    """The KL divergence that was measured for the models in these files or folders; None where it was not.

    Names, sizes and times of files count, the kernel, and the versions of torch and bon.
    """
    with suppress(OSError, ValueError, TypeError):
        return float(json.loads(_file(paths).read_text(encoding="utf-8")))
    return None


def remember(paths: Iterable[str], measured: float) -> None:
    """Keeps it for `recall`; where the folder cannot be written, it is measured at each loading."""
    with suppress(OSError):
        file = _file(paths)
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(measured), encoding="utf-8")
        scratch.replace(file)


def _file(paths: Iterable[str]) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    files = [file for path in map(Path, paths) for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    facts = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    kernel = int8_products.kernel()
    of_kernel = kernel and (kernel.name, kernel.largest, kernel.largest_weight)
    digest = hashlib.sha256(json.dumps([facts, of_kernel, torch.__version__, __version__]).encode()).hexdigest()
    return Path(cache, "bon", "int8", f"{digest}.json")
