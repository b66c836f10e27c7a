"""The log-likelihood of given texts under a local model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bon.engines.local import rotary
from bon.engines.local.decoder import PlainDecoder, runner_of
from bon.engines.local.engine import LocalEngine
from bon.engines.local.sampling import mark_occurred, penalize
from bon.models.running import compute, eval_mode
from bon.settings import Sampling

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedModel

#: Tokens that are read together: their logits over the vocabulary must fit into memory.
TOKENS = 2048
#: The model's own distribution.
PLAIN = Sampling()


def log_likelihoods(
    engine: LocalEngine, prompt_ids: Sequence[int], texts: Sequence[Sequence[int]], ended: Sequence[bool],
    sampling: Sampling = PLAIN,
) -> list[float]:
    """log p(text | prompt) of each text's token ids, in nats, and of ending after them where it `ended` by itself.

    By the repetition penalty and the temperature of `sampling`, without its cuts. Rows are padded behind their ends,
    where a causal model does not look.
    """
    longest = len(prompt_ids) + max(map(len, texts), default=0)
    count = max(1, TOKENS // longest)
    out: list[float] = []
    for start in range(0, len(texts), count):
        rows, ends = texts[start : start + count], ended[start : start + count]
        out += compute(lambda: _likelihoods(engine, prompt_ids, rows, ends, sampling))  # noqa: B023
    return out


@torch.inference_mode()
def _likelihoods(
    engine: LocalEngine, prompt_ids: Sequence[int], texts: Sequence[Sequence[int]], ended: Sequence[bool],
    sampling: Sampling,
) -> list[float]:
    """`log_likelihoods` of texts that are read together."""
    lengths = torch.tensor([len(text) for text in texts])
    width, device = int(lengths.max()), engine.device
    ids = torch.tensor([[*prompt_ids, *text, *[0] * (width - len(text))] for text in texts], device=device)
    with eval_mode(engine.model):
        logits = _logits(engine.model, ids, len(prompt_ids)).float()
    if sampling.repetition_penalty != 1:
        logits = _penalized(logits, ids, len(prompt_ids), sampling.repetition_penalty)
    # Column i is the distribution of token i of the text; of the one past a text's end, whether the text ends there.
    logprobs = (logits / sampling.temperature).log_softmax(-1).cpu()
    tokens = ids[:, len(prompt_ids) :].cpu()
    return (_of_tokens(logprobs, tokens, lengths) + _of_ends(logprobs, lengths, ended, engine)).tolist()


def _logits(model: PreTrainedModel, ids: Tensor, prompt: int) -> Tensor:
    """[rows, 1 + tokens after the prompt, vocabulary], of rows that begin with one prompt of so many tokens."""
    if (runner := runner_of(model)) and runner.reads_texts:
        states, _ = runner.read(ids)
        return runner.logits(states[:, prompt - 1 :])
    if ids.shape[1] <= rotary.limit(model.config):
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, prompt - 1 :]
    # A token's logits depend on how long the text was when it was drawn: so token by token, as it was generated.
    decoder = PlainDecoder(model, ids[:1, :prompt].tolist(), [0] * len(ids))
    return torch.stack([decoder.logits, *(decoder.read(column) for column in ids[:, prompt:].T)], dim=1)


def _penalized(logits: Tensor, ids: Tensor, prompt: int, penalty: float) -> Tensor:
    """Logits as `_logits` returns them, each under the penalty on the tokens of its row before it."""
    occurred = mark_occurred(ids[:, :prompt].tolist(), logits[:, 0])
    columns = []
    for column, position in zip(logits.unbind(1), range(prompt, prompt + logits.shape[1]), strict=True):
        columns.append(penalize(column, occurred, penalty))
        occurred.scatter_(1, ids[:, position : position + 1], True)
    return torch.stack(columns, 1)


def _of_tokens(logprobs: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """The sums [rows] of the log-probabilities of each row's tokens, without its padding."""
    of_each = logprobs[:, :-1].gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return (of_each * (torch.arange(tokens.shape[1]) < lengths.unsqueeze(-1))).double().sum(-1)


def _of_ends(logprobs: Tensor, lengths: Tensor, ended: Sequence[bool], engine: LocalEngine) -> Tensor:
    """The log-probabilities [rows] of ending after the last token; 0 for texts that did not end by themselves."""
    last = logprobs[torch.arange(len(lengths)), lengths][:, list(engine.rules.eos)]
    return torch.where(torch.tensor(ended), last.logsumexp(-1).double(), 0.0)
