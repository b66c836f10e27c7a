"""Training of the embedded language model and scorers on processor cores; repeatable by their seeds on one machine."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from bon.training import ngrams
from bon.training.labelled import LABELS, Labeller, judge_examples
from bon.training.phrases import lexicon, sentences
from bon.training.text import documents

END = "<|endoftext|>"
SHARD = "9MB"
LONGEST = 128
#: The classifier's texts: the share of scraps, which the teachers alone label, in its second phase and its third, and
#: that of reviews of the grammar, which keep their own labels. For all others the teachers' share of the label is
#: `TRUST`: they classify new sentences better than a transformer trained on the labels.
SCRAPS, REVIEWS, TRUST = (0.36, 0.5), 0.2, 0.85
#: The language model's phases: steps, tokens per step, and the learning rate's peak as a multiple of `_optimizers`'.
WRITING = ((3600, 3300, 1.0), (2000, 6600, 0.5))


def language_model(out: Path, phases: Sequence[tuple[int, int, float]] = WRITING, seed: int = 0,
                   say: Callable[[str], None] = print) -> None:
    """Trains the language model of reviews, a GPT-2 of 5.9 million parameters, and saves it with its tokenizer.

    Every text starts at position 0, as a prompt does.
    """
    torch.manual_seed(seed)
    tokenizer = _bpe(islice(documents(seed + 1), 60_000), 4096, [END])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END,
        model_input_names=["input_ids", "attention_mask"], model_max_length=256,
    )
    end = fast.eos_token_id
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=len(fast), n_positions=256, n_embd=256, n_layer=6, n_head=4, bos_token_id=end, eos_token_id=end,
        pad_token_id=end, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        activation_function="gelu_pytorch_tanh",  # gelu_new in one kernel
    ))
    model.set_attn_implementation("eager")  # for short texts a sixth faster to train than torch's kernel in bf16
    for phase, (steps, tokens, peak) in enumerate(phases):
        batches = _text_batches(documents(seed + 2 + 2 * phase), fast, seed + 4 * phase, tokens)
        _train(model, steps, lambda: _next_token_loss(model, next(batches), end), say, peak)  # noqa: B023
    held = _text_batches(documents(seed + 3), fast, seed + 3)
    with torch.no_grad():
        loss = sum(_next_token_loss(model.eval(), next(held), end).item() for _ in range(8)) / 8
    say(f"language model: {model.num_parameters():,} parameters, loss {loss:.3f} nats per token on new texts")
    _save(model, fast, out)


def _text_batches(
    texts: Iterator[str], tokenizer: PreTrainedTokenizerFast, seed: int, tokens: int = 3300
) -> Iterator[list[list[int]]]:
    """Batches of about so many tokens, of texts of similar length; some texts start with the start token."""
    rng = random.Random(seed)
    end = tokenizer.eos_token_id
    while True:
        rows = [[*ids, end] for ids in tokenizer(list(islice(texts, 2400)))["input_ids"]]
        rows = sorted(([end, *row] if rng.random() < 0.15 else row)[:LONGEST] for row in rows)
        rows.sort(key=len)
        batches: list[list[list[int]]] = []
        batch: list[list[int]] = []
        for row in rows:
            if batch and (len(batch) + 1) * len(row) > tokens:
                batches.append(batch)
                batch = []
            batch.append(row)
        rng.shuffle(batches)
        yield from batches


def _next_token_loss(model: GPT2LMHeadModel, rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    ids, lengths = _pad(rows, pad)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids).logits[:, :-1]
    targets = ids[:, 1:].masked_fill(torch.arange(1, ids.shape[1]) >= lengths.unsqueeze(-1), -100)
    return cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def classifier(out: Path, steps: tuple[int, int, int] = (300, 4200, 2500), taught: int = 10_000, seed: int = 0,
               say: Callable[[str], None] = print) -> None:
    """Trains the sentiment classifier, a DistilBERT of 4.1 million parameters, and saves it with its tokenizer.

    steps: of 160 texts each, first on the words of the lexicon alone, then on everything, then again with more scraps
    of sentences, from where the mean of the weights over the last steps is kept. What three bags of n-grams make of a
    text is part of its label, and all there is for scraps. taught: their steps.
    """
    examples = Labeller(seed + 1)
    teachers = [ngrams.train(iter(examples.example, None), taught, seed + i, say) for i in range(3)]
    torch.manual_seed(seed)
    tokenizer = _bpe(_vocabulary_texts(examples), 8000, ["[PAD]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"], model_max_length=256,
    )
    model = DistilBertForSequenceClassification(DistilBertConfig(
        vocab_size=len(fast), max_position_embeddings=256, dim=256, n_layers=3, n_heads=4, hidden_dim=768,
        pad_token_id=fast.pad_token_id, dropout=0.15, attention_dropout=0.1, seq_classif_dropout=0.15,
        id2label={0: "NEGATIVE", 1: "POSITIVE"}, label2id={"NEGATIVE": 0, "POSITIVE": 1},
    ))
    model.set_attn_implementation("eager")
    first, second = steps[:2]
    for phase, (count, make) in enumerate(((first, examples.word), (second, examples.written))):
        batches = _labelled_batches(examples, make, teachers, fast, seed + phase)
        _train(model, count, lambda: _label_loss(model, next(batches), fast), say)  # noqa: B023
    again = Labeller(seed + 12)
    batches = _labelled_batches(again, again.written, teachers, fast, seed + 11, SCRAPS[1])
    _train(model, steps[2], lambda: _label_loss(model, next(batches), fast), say, 0.5, _constant_then_linear,
           memory=0.998)
    _save(model, fast, out)


def judge(out: Path, steps: int = 8000, seeds: int = 3, say: Callable[[str], None] = print) -> None:
    """Trains the judge, the mean of several bags of n-grams on sentences that the scorer has not seen, and saves it."""
    ngrams.save([ngrams.train(judge_examples(seed), steps, seed, say) for seed in range(seeds)], out)


def weak(out: Path, steps: int = 1500, seed: int = 0, say: Callable[[str], None] = print) -> None:
    """Trains the weak scorer, a small bag of n-grams on few of the scorer's sentences, and saves it."""
    rng = random.Random(seed)
    few = [(text, LABELS[polarity]) for polarity in ("pos", "neg")
           for text in rng.sample(sentences()[polarity], ngrams.WEAK_SENTENCES // 2)]
    ngrams.save([ngrams.train(iter(lambda: rng.choice(few), None), steps, seed, say, ngrams.WEAK_BUCKETS)], out)


def _vocabulary_texts(examples: Labeller) -> Iterator[str]:
    words = [word for entries in lexicon().sections.values() for word in entries]
    written = [text for lines in sentences().values() for text in lines]
    yield from (f" {word}" for word in words for _ in range(40))
    yield from (text for text in written for _ in range(4))
    yield from (examples.example()[0] for _ in range(30_000))


def _labelled_batches(
    examples: Labeller, make: Callable[[], tuple[str, float]], teachers: Sequence[ngrams.Ngrams],
    tokenizer: PreTrainedTokenizerFast, seed: int, scraps: float = SCRAPS[0],
) -> Iterator[tuple[list[list[int]], list[float]]]:
    rng = random.Random(seed)
    while True:
        made = [_labelled_text(examples, make, rng.random(), scraps) for _ in range(160 * 24)]
        texts = [text for text, _, _ in made]
        total = sum((model.judge(texts) for model in teachers), start=torch.zeros(len(texts)))
        taught_labels = (total / len(teachers)).tolist()
        pairs = [(text, label + trust * (taught - label))
                 for (text, label, trust), taught in zip(made, taught_labels, strict=True)]
        ids = _with_breaks(texts, tokenizer, rng)
        rows = sorted(zip((_with_gaps(row, tokenizer, rng) for row in ids), (label for _, label in pairs),
                          strict=True), key=lambda pair: len(pair[0]))
        batches = [rows[i : i + 160] for i in range(0, len(rows), 160)]
        rng.shuffle(batches)
        for batch in batches:
            yield [row for row, _ in batch], [label for _, label in batch]


def _labelled_text(
    examples: Labeller, make: Callable[[], tuple[str, float]], draw: float, scraps: float
) -> tuple[str, float, float]:
    """A text, its label, and how far the teachers are to be believed in place of it."""
    if draw < scraps:
        return examples.scrap(), 0.5, 1.0
    if draw < scraps + REVIEWS:
        return *examples.review(), 0.0
    return *make(), TRUST


def _with_breaks(texts: list[str], tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> list[list[int]]:
    """Token ids, some words broken in two, so that parts of words (un-, -less) are learned and rare words understood.

    What BPE dropout does (Provilkov et al., arXiv 1910.13267), from a seeded source.
    """
    pieces = [_broken(text, rng) for text in texts]
    encoded = iter(tokenizer([part for parts in pieces for part in parts], add_special_tokens=False)["input_ids"])
    rows = [[token for _ in parts for token in next(encoded)] for parts in pieces]
    return [[tokenizer.cls_token_id, *row[: LONGEST - 2], tokenizer.sep_token_id] for row in rows]


def _broken(text: str, rng: random.Random) -> list[str]:
    inside = [i for i in range(1, len(text)) if text[i - 1].isalpha() and text[i].isalpha()]
    if not inside or rng.random() < 0.65:
        return [text]
    places = [0, *sorted(set(rng.choices(inside, k=1 + len(text) // 50))), len(text)]
    return [text[a:b] for a, b in pairwise(places)]


def _with_gaps(ids: list[int], tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> list[int]:
    """Some tokens hidden, so that no single word carries a text alone."""
    rate = rng.choice((0.0, 0.08, 0.15, 0.25))
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    return [tokenizer.mask_token_id if i not in special and rng.random() < rate else i for i in ids]


def _label_loss(
    model: DistilBertForSequenceClassification, batch: tuple[list[list[int]], list[float]],
    tokenizer: PreTrainedTokenizerFast,
) -> Tensor:
    rows, labels = batch
    ids, lengths = _pad(rows, tokenizer.pad_token_id)
    mask = (torch.arange(ids.shape[1]) < lengths.unsqueeze(-1)).long()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=mask).logits
    margin = (logits[:, 1] - logits[:, 0]).float()
    return binary_cross_entropy_with_logits(margin, torch.tensor(labels))


def _pad(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
    return ids, torch.tensor([len(row) for row in rows])


def _cosine(done: float) -> float:
    """The learning rate, relative to its peak, after a share of the steps: a cosine down to a fiftieth."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def _constant_then_linear(done: float) -> float:
    """The same: constant for three tenths of the steps, then linear down to a fiftieth."""
    return max(0.02, 1 - max(0.0, done - 0.3) / 0.7)


def _train(model: PreTrainedModel, steps: int, loss_of_next: Callable[[], Tensor], say: Callable[[str], None],
           peak: float = 1.0, schedule: Callable[[float], float] = _cosine, memory: float = 0.0) -> None:
    """Trains with Muon for the layers' matrices and AdamW for the rest, with warm-up to `peak` and then by `schedule`.

    Muon (torch 2.9 or later) needed a third of the tokens that AdamW alone needed for the same loss. memory: the decay
    of the exponential mean of the weights that the model has at the end; 0: the last weights.
    """
    optimizers = _optimizers(model)
    warm = max(1, min(60, steps // 10))
    schedulers = [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: peak * min(
        (step + 1) / warm, schedule(min(1.0, step / max(1, steps))),
    )) for optimizer in optimizers]
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(memory))
    model.train()
    start, mean_loss = time.perf_counter(), 0.0
    for step in range(1, steps + 1):
        loss = loss_of_next()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        mean.update_parameters(model)
        mean_loss = loss.item() if step == 1 else 0.97 * mean_loss + 0.03 * loss.item()
        if step % 100 == 0 or step == steps:
            say(f"step {step} of {steps}, loss {mean_loss:.3f}, {time.perf_counter() - start:.0f} s")
    model.load_state_dict(mean.module.state_dict())


def _optimizers(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    layers: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and not any(part in name for part in ("wte", "wpe", "embedding", "classifier"))
        (layers if inner else rest).append(parameter)
    return [
        torch.optim.Muon(layers, 3e-3, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, 3e-3, betas=(0.9, 0.97), weight_decay=0.01, fused=True),
    ]


def _bpe(texts: Iterator[str], size: int, special: list[str]) -> Tokenizer:
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(texts, vocab_size=size, min_frequency=2, special_tokens=special, show_progress=False)
    return trainer._tokenizer


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("model*.safetensors*"):
        old.unlink()
    model.eval().to(torch.bfloat16).save_pretrained(out, max_shard_size=SHARD)
    tokenizer.save_pretrained(out)
