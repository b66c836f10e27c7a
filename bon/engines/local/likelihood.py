"""How likely a local model finds texts that are written already."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bon.engines.local import rotary
from bon.engines.local.decoder import PlainDecoder
from bon.engines.local.engine import LocalEngine
from bon.models.running import compute, eval_mode

#: Tokens that are read together: their logits over the vocabulary must fit.
TOKENS = 2048


def log_likelihoods(
    engine: LocalEngine, prompt_ids: Sequence[int], texts: Sequence[Sequence[int]], ended: Sequence[bool],
    temperature: float = 1.0,
) -> list[float]:
    """log p(text | prompt) of each text's token ids, in nats, and of ending after them where it `ended` by itself.

    From logits over `temperature`, with nothing cut off. Rows are padded behind their ends, which a causal model does
    not see.
    """
    longest = len(prompt_ids) + max(map(len, texts), default=0)
    count = max(1, TOKENS // longest)
    out: list[float] = []
    for at in range(0, len(texts), count):
        rows, ends = texts[at : at + count], ended[at : at + count]
        out += compute(lambda: _likelihoods(engine, prompt_ids, rows, ends, temperature))  # noqa: B023
    return out


@torch.inference_mode()
def _likelihoods(engine, prompt_ids, texts, ended, temperature) -> list[float]:
    lengths = torch.tensor([len(text) for text in texts])
    width, device = int(lengths.max()), engine.device
    ids = torch.tensor([[*prompt_ids, *text, *[0] * (width - len(text))] for text in texts], device=device)
    with eval_mode(engine.model):
        logits = _logits(engine.model, ids, len(prompt_ids))
    # Each tells of the token that comes next; the last one of each text, whether it ends.
    told = (logits.float() / temperature).log_softmax(-1).cpu()
    tokens = ids[:, len(prompt_ids) :].cpu()
    return (_of_tokens(told, tokens, lengths) + _of_ends(told, lengths, ended, engine)).tolist()


def _logits(model, ids: Tensor, prompt: int) -> Tensor:
    """[rows, 1 + tokens after the prompt, vocabulary], of rows that begin with one prompt of so many tokens."""
    if ids.shape[1] <= rotary.limit(model.config):
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, prompt - 1 :]
    # What a model makes of a token depends on how long the text was when it came: token by token, as it was written.
    decoder = PlainDecoder(model, ids[:1, :prompt].tolist(), [0] * len(ids))
    return torch.stack([decoder.logits, *(decoder.read(column) for column in ids[:, prompt:].T)], dim=1)


def _of_tokens(told: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    each = told[:, :-1].gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return (each * (torch.arange(tokens.shape[1]) < lengths.unsqueeze(-1))).double().sum(-1)


def _of_ends(told: Tensor, lengths: Tensor, ended: Sequence[bool], engine: LocalEngine) -> Tensor:
    last = told[torch.arange(len(lengths)), lengths][:, list(engine.rules.eos)]
    return torch.where(torch.tensor(ended), last.logsumexp(-1).double(), 0.0)
