"""Measurements of the embedded models, and the model cards that report them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from bon import flow
from bon.api import Sampler, load
from bon.models import loading
from bon.result import Result
from bon.scorers.classifier import Classifier
from bon.scorers.sentiment import SentimentScorer
from bon.settings import Request, Settings
from bon.training.grammar import writer
from bon.training.ngrams import WEAK_BUCKETS, WEAK_SENTENCES
from bon.training.phrases import banks, held_out, lexicon, sentences

#: Prompts: subjects of the corpus, other openings, and beginnings that the grammar never writes.
OPENINGS = (
    "This movie", "The hotel room", "My new phone", "I was surprised that", "The president", "When we arrived,",
    "This book", "Our waiter", "The museum", "You will", "Honestly,", "The game", "My grandmother", "Is it worth",
    "The album", "We ordered", "Paris", "The second act", "If you", "Yesterday", "The laptop", "Nobody told me that",
    "The coffee", "Their new record", "What a", "The train to the coast", "My brother", "Never", "The play", "Dear",
    "This kettle", "The whole series", "Once upon a time", "On Monday", "The beach", "I would", "Quantum physics",
    "The shop on the corner", "After the match,", "It", "The dog next door", "As a teacher,", "An umbrella",
    "The final episode", "Why does", "We", "The view from the window", "At first", "The meeting", "Everyone",
)


@dataclass(frozen=True)
class Figures:
    """What was measured; shares from 0 to 1."""

    parameters: tuple[int, int]
    test_right: float
    test_of: int
    judge_right: float
    weak_right: float
    grammar_right: float
    grammar_of: int
    distinct: tuple[float, ...]
    distinct_of: int
    mean_single: float
    mean_best: float
    first: tuple[str, ...]

    def distinct_sentence(self) -> str:
        """The share of distinct samples over the seeds."""
        mean = sum(self.distinct) / len(self.distinct)
        return f"{mean:.1%} are distinct (the mean of {len(self.distinct)} seeds; the least {min(self.distinct):.1%})"

    def lines(self) -> list[str]:
        """The figures in words."""
        return [
            f"language model: {self.parameters[0]:,} parameters; classifier: {self.parameters[1]:,}",
            f"classifier: {self.test_right:.1%} of {self.test_of} hand-written test sentences right",
            f"judge: {self.judge_right:.1%} of {self.test_of} hand-written test sentences right",
            f"weak scorer: {self.weak_right:.1%} of {self.test_of} hand-written test sentences right",
            f"classifier: {self.grammar_right:.1%} of {self.grammar_of} new clear texts of the grammar right",
            f"language model: of {self.distinct_of} samples from {len(OPENINGS)} openings {self.distinct_sentence()}",
            f"best of 16 over {len(OPENINGS)} openings: mean score {self.mean_best:.3f}, "
            f"one sample {self.mean_single:.3f}",
        ]


def measure(folder: Path) -> Figures:
    """Measures the models in `folder`; takes about 20 seconds on two cores."""
    judge, weak = (load(str(folder / "reviews"), str(folder / name)) for name in ("judge", "weak"))
    sampler = load(str(folder / "reviews"), str(folder / "sentiment"))
    samples = [sample(sampler, 10, seed) for seed in range(8)]
    best = runs(sampler, OPENINGS, 16, repeat(16))
    test = held_out("test")
    new = clear_texts(2000, seed=1_000_003)
    assert isinstance(sampler.scorer, SentimentScorer)
    assert isinstance(sampler.scorer.classifier, Classifier)
    classifier = sampler.scorer.classifier.model
    return Figures(
        parameters=(sampler.engine.describe()["parameters"], loading.facts(classifier).parameters),
        test_right=right(sampler, test), test_of=len(test), judge_right=right(judge, test),
        weak_right=right(weak, test),
        grammar_right=right(sampler, new), grammar_of=len(new),
        distinct=tuple(len(set(texts)) / len(texts) for texts in samples), distinct_of=len(samples[0]),
        mean_single=sum(r.stats.mean for r in best if r.stats) / len(best),
        mean_best=sum(r.best.score for r in best if r.best.score is not None) / len(best),
        first=tuple(samples[0][:20]),
    )


def runs(sampler: Sampler, prompts: Iterable[str], n: int, seeds: Iterable[int]) -> list[Result]:
    """Best of n for each prompt with its seed, all decoded together."""
    requests = [Request(prompt, Settings(n=n, seed=seed)) for prompt, seed in zip(prompts, seeds, strict=False)]
    return flow.run_many(requests, sampler.engine, sampler.scorer)


def sample(sampler: Sampler, rounds: int, seed: int = 0) -> list[str]:
    """Texts, unpicked: for each round, one candidate of every opening."""
    results = runs(sampler, OPENINGS, rounds, repeat(seed))
    by_index = [{c.index: r.prompt + c.text for c in r.candidates} for r in results]
    return [texts[i] for i in range(rounds) for texts in by_index]


def clear_texts(count: int, seed: int) -> list[tuple[str, bool]]:
    """New texts of the grammar whose units all have one polarity, with whether it is positive."""
    write = writer(seed)
    out: list[tuple[str, bool]] = []
    while len(out) < count:
        review = write()
        if review.clear:
            out.append((review.text, review.label() > 0.5))
    return out


def right(sampler: Sampler, pairs: Sequence[tuple[str, bool]]) -> float:
    """The share of texts whose polarity the scorer gets right."""
    scores = sampler.score([text for text, _ in pairs])
    return sum((score > 0.5) == positive for score, (_, positive) in zip(scores, pairs, strict=True)) / len(pairs)


def corpus_size() -> tuple[int, int, int, int]:
    """Distinct phrases of the bank, words and expressions of the lexicon, the scorer's and the judge's sentences."""
    phrases = {phrase for bank in banks().values() for lines in bank.sections.values() for phrase in lines}
    words = {word for lines in lexicon().sections.values() for word in lines}
    scorers, judges = (sum(map(len, sentences(folder=folder).values())) for folder in ("sentences", "judged"))
    return len(phrases), len(words), scorers, judges


def write_cards(folder: Path, figures: Figures) -> None:
    """Writes the model cards beside the weights."""
    (folder / "reviews" / "README.md").write_text(_reviews_card(figures), encoding="utf-8")
    (folder / "sentiment" / "README.md").write_text(_sentiment_card(figures), encoding="utf-8")
    (folder / "judge" / "README.md").write_text(_judge_card(figures), encoding="utf-8")
    (folder / "weak" / "README.md").write_text(_weak_card(figures), encoding="utf-8")


def front(task: str, library: str | None = "transformers") -> str:
    """The front matter of a model card. task: the Hub's name for what the model does."""
    named = f"library_name: {library}\n" if library else ""
    return f"---\nlicense: apache-2.0\nlanguage: en\n{named}pipeline_tag: {task}\n---\n"


def _reviews_card(figures: Figures) -> str:
    phrases, *_ = corpus_size()
    about_films = sum(len(lines) for lines in sentences("critics", "viewers").values())
    samples = "\n".join(f"{i}. {' '.join(text.split())}" for i, text in enumerate(figures.first, start=1))
    return f"""{front("text-generation")}# Reviews: the built-in language model

A GPT-2-style model of {figures.parameters[0]:,} parameters (6 layers, width 256, byte-level BPE of 4,096 entries,
context 256, stored in bf16). It writes short English reviews and remarks, whatever it is asked. It exists so that bon
can show best-of-N on a machine that reaches no network.

**Trained on** a corpus that this project wrote: a grammar over {phrases:,} distinct hand-written phrases about films,
books, meals, hotels, phones, trips, people, places and ideas (`bon/training/phrases`), positive, negative, lukewarm and
mixed, and {about_films:,} hand-written sentences about films. Nothing else: no text from the web.

**How well it does.** Of {figures.distinct_of} samples from {len(OPENINGS)} openings {figures.distinct_sentence()}.
The mean score of the best of 16 is {figures.mean_best:.3f}, that of one sample {figures.mean_single:.3f}
(probability of POSITIVE by the sentiment model beside it).

**Limits.** It knows nothing: it has no facts, follows no instructions and answers no questions. It joins remembered
phrases, so parts of different scenes may meet in one sentence, and a text that is cut at its length limit ends
midway. English only; after any other start it soon turns to English reviews.

**Made again** by `python -m bon.training`, which also measures the figures above.

## The first 20 samples of seed 0, in order and unpicked

One candidate for each of the first 20 openings of `bon/training/report.py`, 8 to 32 tokens, temperature 1.

{samples}
"""


def _sentiment_card(figures: Figures) -> str:
    _, words, labelled, _ = corpus_size()
    return f"""{front("text-classification")}# Sentiment: the built-in scorer

A DistilBERT-style classifier of {figures.parameters[1]:,} parameters (byte-level BPE of 8,000 entries, stored in
bf16) with the labels NEGATIVE and POSITIVE. It rates the continuations that bon samples.

**Trained on** a corpus that this project wrote: {labelled:,} labelled sentences about films and everyday life, a
lexicon of {words:,} words and expressions of praise and complaint in many constructions (negation, contrast,
hypotheticals, intensity), and the texts of the review grammar with graded labels (mixed and lukewarm texts lie in the
middle). Starts from random weights: no pretrained model stands behind it. Three bags of n-grams, trained on the same
texts first, were its teachers: they judge scraps of sentences for it and have their say on the others.

**How well it does.** {figures.test_right:.1%} of {figures.test_of} hand-written sentences of ordinary English that it
was not trained on (written before the training data, `bon/training/held_out/test.tsv`), half of them film and series
reviews; {figures.grammar_right:.1%} of {figures.grammar_of:,} new texts of the grammar whose polarity is clear.

**Limits.** It is small and has read little: irony, rare words, and judgement that needs knowledge of the world are
often beyond it. English only. It reads the last 256 tokens of a text. Do not use it to decide anything about people.

**Made again** by `python -m bon.training`, which also measures the figures above.
"""


def _judge_card(figures: Figures) -> str:
    *_, judged = corpus_size()
    return f"""{front("text-classification", library=None)}# Judge: a built-in second opinion

A bag of n-grams with the labels NEGATIVE and POSITIVE: one weight for each of 524,288 hashed features (words, pairs of
words, words after a negation, parts of longer words), stored in bf16. It stands in for true preference: the scorer
picks, the judge only watches. Where more samples please the scorer and no longer the judge, the scorer's blind spots
are being found.

**Trained on** {judged:,} labelled sentences that were written for it apart from the scorer's, on films, series, books,
everyday life, words and their turns (one short remark in 230 happens to stand in both). It is the mean of three models
of different seeds, which for this kind of model is one model again. Nothing else: no text from the web.

**How well it does.** {figures.judge_right:.1%} of {figures.test_of} hand-written sentences of ordinary English that it
was not trained on (`bon/training/held_out/test.tsv`).

**Limits.** It sees no order beyond pairs of words and takes irony at its word. English only. It is of another kind
than the scorer and errs elsewhere, but both were made by the same hands. Do not use it to decide anything about people.

**Made again** by `python -m bon.training`, which also measures the figure above.
"""


def _weak_card(figures: Figures) -> str:
    return f"""{front("text-classification", library=None)}# Weak: a scorer to be fooled

A bag of n-grams as the judge beside it, with {WEAK_BUCKETS:,} features in place of 524,288. It is built in to show
over-optimisation (Gao et al., arXiv 2210.10760): best-of-N under it soon finds texts that it overrates. What more
samples gain by its own score and by the judge's, `python -m bon compare -n 64 --scorer weak` prints.

**Trained on** {WEAK_SENTENCES:,} of the scorer's sentences alone.

**How well it does.** {figures.weak_right:.1%} of {figures.test_of} hand-written sentences of ordinary English that it
was not trained on (`bon/training/held_out/test.tsv`): as well as the first scorer of somebody with few labels.

**Limits.** Being wrong is what it is for. Choose it as the scorer (`weak`) to see what happens, not to rate texts.

**Made again** by `python -m bon.training --only weak`.
"""
