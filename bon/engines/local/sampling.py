"""From logits to tokens: repetition penalty, temperature, the cuts (top-k, top-p, min-p, typical), and a draw."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bon.settings import Sampling

#: How many tokens are sorted at first, and next, before the whole vocabulary is.
FEW = 256, 4096
#: Tokens of the vocabulary that are summed together before one of them is drawn.
BLOCK = 256


def shape(logits: Tensor, sampling: Sampling, occurred: Tensor | None = None) -> Tensor:
    """Logits [rows, vocabulary] after repetition penalty, temperature, top-k, top-p, min-p and typical sampling, in the
    order in which transformers applies them; what is cut becomes -inf.

    occurred: a bool for each logit: whether the token is in the row's prompt or text; only the repetition penalty needs
    it.
    Among equally likely tokens at the cut of top-p, or equally typical ones, those with the lowest ids stay.
    transformers, which sorts otherwise, may keep others of them; those at the cut of top-k all stay, as there.
    """
    if sampling.repetition_penalty != 1.0:
        assert occurred is not None
        logits = penalize(logits, occurred, sampling.repetition_penalty)
    if sampling.temperature != 1.0:
        # From the top down and within float32, so that no temperature makes an infinity out of the best token.
        logits = (logits - logits.amax(-1, keepdim=True)) / min(max(sampling.temperature, 1e-30), 1e30)
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1.0:
        logits = _cut_to_mass(logits, -logits, sampling.top_p)
    if sampling.min_p > 0.0:
        least = logits.amax(-1, keepdim=True) + math.log(sampling.min_p)
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.typical_p < 1.0:
        # First the tokens whose surprise is nearest to the entropy (Meister et al. 2023, "Locally typical sampling").
        logprobs = logits.log_softmax(-1)
        entropy = -(logprobs.exp() * logprobs).nansum(-1, keepdim=True)
        logits = _cut_to_mass(logits, (logprobs + entropy).abs(), sampling.typical_p)
    return logits


def penalize(logits: Tensor, occurred: Tensor, penalty: float) -> Tensor:
    """The logits with those of tokens that occurred made smaller by the penalty, or larger where it is below 1 (Keskar
    et al. 2019, "CTRL").
    """
    return torch.where(occurred, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def mark_occurred(texts: Sequence[Sequence[int]], logits: Tensor) -> Tensor:
    """For each logit [rows, vocabulary] whether its token is in the row's text, a sequence of token ids."""
    occurred = torch.zeros_like(logits, dtype=torch.bool)
    for row, text in zip(occurred, texts, strict=True):
        ids = torch.tensor(text, device=logits.device)
        row[ids[ids < len(row)]] = True  # models may have an embedding for more tokens than they have logits for
    return occurred


def _cut_to_mass(logits: Tensor, order: Tensor, mass: float) -> Tensor:
    """The logits with -inf for all but the first tokens by ascending `order`, [rows, vocabulary] as well, up to the one
    at which the sum of their probabilities reaches `mass`.

    To sort a whole vocabulary can take longer than to compute it, so a row's first few tokens are tried before.
    """
    probabilities, cut = logits.softmax(-1), torch.empty_like(logits, dtype=torch.bool)
    rows = torch.arange(len(logits), device=logits.device)
    for count in FEW:
        if count < logits.shape[-1] and len(rows):
            values, places = order[rows].topk(count, largest=False)
            kept = _is_before_mass(probabilities[rows].gather(-1, places), mass).sum(-1, keepdim=True)
            cut[rows] = order[rows] > values.gather(-1, kept - 1)
            # Others wait for more tokens, or for the ids of those that are equal to the last one.
            settled = (kept < count) & ((~cut[rows]).sum(-1, keepdim=True) == kept)
            rows = rows[~settled.squeeze(-1)]
    if len(rows):
        places = order[rows].sort(stable=True).indices
        stays = _is_before_mass(probabilities[rows].gather(-1, places), mass)
        cut[rows] = torch.empty_like(stays).scatter_(-1, places, ~stays)
    return logits.masked_fill(cut, -torch.inf)


def _is_before_mass(probabilities: Tensor, mass: float) -> Tensor:
    """Whether the sum of the probabilities before each of a row's tokens is below `mass`; the first always counts."""
    before = probabilities.cumsum(-1).sub_(probabilities)
    before[:, 0] = -1.0  # also where float32 takes the mass for 0
    return before.less(mass).logical_or_(before.isnan())


def draw(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """One token for each row of logits [rows, vocabulary]: the inverse of its cumulative distribution at a
    uniform number in [0, 1) [rows]. Returns tokens, int64 [rows], never one of probability 0, and their
    log-probabilities in nats, NaN for a row that holds NaN or +inf, or -inf alone. Sums are in float64 where the
    uniforms are.

    The vocabulary is searched by blocks and only the block that is hit token by token, so one pass over it is enough.
    """
    probabilities = logits.to(uniforms.device).softmax(-1)
    if missing := -logits.shape[-1] % BLOCK:
        probabilities = torch.nn.functional.pad(probabilities, (0, missing))
    blocks = probabilities.view(len(probabilities), -1, BLOCK)
    sums = blocks.sum(-1).to(uniforms.dtype).cumsum(-1)
    total = sums[:, -1:]
    target = uniforms.unsqueeze(-1) * total
    # In a row of NaN every search ends behind the last place.
    block = _inverse(sums, target).clamp_(max=sums.shape[-1] - 1)
    before = sums.gather(-1, (block - 1).clamp(min=0)).masked_fill_(block == 0, 0)
    within = blocks.gather(1, block.unsqueeze(-1).expand(-1, -1, BLOCK)).squeeze(1).to(uniforms.dtype).cumsum(-1)
    tokens = block * BLOCK + _inverse(within, target - before)
    tokens.clamp_(max=logits.shape[-1] - 1)
    logprobs = probabilities.gather(-1, tokens).to(uniforms.dtype).log() - total.log()
    return tokens.squeeze(-1), logprobs.squeeze(-1).float()


def _inverse(cumulative: Tensor, target: Tensor) -> Tensor:
    """The first place whose cumulative sum exceeds the target; the last one that adds to it if rounding leaves none."""
    below = torch.nextafter(cumulative[:, -1:], torch.zeros_like(target))
    return torch.searchsorted(cumulative, target.minimum(below), right=True)


def log_probability(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities, in nats, of tokens [rows] under logits [rows, vocabulary]."""
    return logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


def uniforms(streams: Sequence[np.random.Generator], counts: Sequence[int]) -> Tensor:
    """The next numbers of each stream as float64 [streams, longest count], padded with zeros."""
    out = torch.zeros(len(streams), max(counts), dtype=torch.float64)
    for row, (stream, count) in enumerate(zip(streams, counts, strict=True)):
        out[row, :count] = torch.from_numpy(stream.random(count))
    return out
