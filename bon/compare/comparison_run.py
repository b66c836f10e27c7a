"""Runs a comparison: base, tuned and best-of-N side by side over prompts, all from the same samples.

Per prompt the base model writes n candidates and one more, the opponent, which serves the win rates alone; the tuned
model writes n. Every figure is computed from these (`bon.compare.result`): means and intervals over prompts, best of k
for every k up to n from the order statistics, the judge's score of what the scorer selects, the tuned model's KL.
"""

import dataclasses
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from bon import flow
from bon.compare.events import PromptDone, PromptProgress
from bon.compare.prompts import PROMPTS_MAX, check_count
from bon.compare.result import Comparison, Point, PromptSamples
from bon.compare.systems import scored_candidates
from bon.engines.base import Engine, defaults_of
from bon.errors import InputError
from bon.events import Done, Event
from bon.messages import say
from bon.result import Candidate, Result
from bon.run_state import RunState
from bon.scorers.base import Item, Scorer, score_items
from bon.settings import Request, Settings

#: Fewer prompts than this get a note.
FEW_PROMPTS = 10


@dataclass(frozen=True, slots=True)
class ComparisonModels:
    """The models of a comparison, loaded. tuned, judge: None where there is none.

    checkpoints: of the tuned model's training, measured before. notes: what the reader should know, such as why the
    tuned model is missing.
    """

    base: Engine
    scorer: Scorer
    tuned: Engine | None = None
    judge: Scorer | None = None
    checkpoints: tuple[Point, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def same_vocabulary(self) -> bool:
        """Whether base and tuned model give probabilities to the same tokens, so that their KL can be measured."""
        base = _vocabulary(self.base)
        return self.tuned is not None and base is not None and base == _vocabulary(self.tuned)


def _vocabulary(engine: Engine) -> dict[str, int] | None:
    tokenizer = getattr(engine, "tokenizer", None)
    return tokenizer and tokenizer.get_vocab()


def stream(
    prompts: Sequence[str], models: ComparisonModels, settings: Settings
) -> Generator[PromptProgress | PromptDone, None, None]:
    """Compares over prompts. Closing the iterator stops the work within one step; what was compared stays.

    Raises `InputError` before any work for an empty list, more than 10,000 prompts, or one that cannot be continued.
    """
    settings = defaults_of(models.base).fill(settings, is_chat=False).with_seed()
    _check(prompts, models, settings)
    notes = models.notes + _few_prompts_notes(len(prompts)) + _no_kl_notes(models, settings)
    comparison = Comparison(
        models.base.name, models.tuned.name if models.tuned else None, models.scorer.name,
        models.judge.name if models.judge else None, models.scorer.target, models.scorer.unit, settings, len(prompts),
        checkpoints=models.checkpoints, notes=notes,
    )
    for number, prompt in enumerate(prompts):
        sample = yield from _sample(number, prompt, models, settings)
        samples = (*comparison.samples, sample)
        comparison = dataclasses.replace(comparison, samples=samples, notes=notes + _unscored_notes(samples))
        yield PromptDone(comparison)


def run(prompts: Sequence[str], models: ComparisonModels, settings: Settings) -> Comparison:
    """The comparison over all prompts: the drained stream."""
    *_, last = stream(prompts, models, settings)
    assert isinstance(last, PromptDone)  # the event that follows the last prompt
    return last.comparison


def _check(prompts: Sequence[str], models: ComparisonModels, settings: Settings) -> None:
    """Raises `InputError` for what would fail only after work has been done."""
    check_count(prompts)
    if settings.reject or settings.select != "best":
        raise InputError("select", say("error.comparison_needs_all"))
    for number, prompt in enumerate(prompts, start=1):
        try:
            for engine in filter(None, (models.base, models.tuned)):
                flow.encode_fitting(Request(prompt, settings), engine, settings.lengths[1])
        except InputError as error:
            message = say("error.numbered_prompt", number=str(number), error=error.message)
            raise InputError("prompts", message) from error


def _few_prompts_notes(count: int) -> tuple[str, ...]:
    """That so few prompts say little about others; none where there are enough."""
    return (say("note.few_prompts", n=count),) if count < FEW_PROMPTS else ()


def _no_kl_notes(models: ComparisonModels, settings: Settings) -> tuple[str, ...]:
    """Why the tuned model's KL is not measured; none where it is, or where there is no such model."""
    if models.tuned is None or _measures_kl(models, settings):
        return ()
    return (say("note.no_kl_of_cut_distribution" if models.same_vocabulary else "note.no_kl_across_tokenizers"),)


def _measures_kl(models: ComparisonModels, settings: Settings) -> bool:
    # A cut gives some of the tuned model's tokens probability 0 under the base.
    return models.same_vocabulary and not settings.sampling.cuts


def _unscored_notes(samples: Iterable[PromptSamples]) -> tuple[str, ...]:
    """How many texts have no score, and how many prompts are left out of the figures for that reason."""
    samples = list(samples)
    texts = [c for sample in samples for c in (*sample.base, sample.opponent, *sample.tuned)]
    unscored, left_out = [c for c in texts if c.score is None], sum(not sample.usable for sample in samples)
    empty = sum(c.empty for c in unscored)
    counts = {"note.empty_compared": empty, "note.unrated": len(unscored) - empty}
    notes = [say(key, n=count, of=str(len(texts))) for key, count in counts.items() if count]
    return tuple(notes + ([say("note.prompts_left_out", n=left_out)] if left_out else []))


def _sample(
    number: int, prompt: str, models: ComparisonModels, settings: Settings
) -> Generator[PromptProgress, None, PromptSamples]:
    """Generates one prompt's samples and returns them; the runs for a single text are shown and timed."""
    def generate(
        system: str, engine: Engine, n: int, shown: bool = True, query: int = number
    ) -> Generator[PromptProgress, None, Result]:
        request = Request(prompt, dataclasses.replace(settings, n=n, keep=None), query=query)
        with closing(flow.stream(request, engine, models.scorer)) as events:
            return (yield from _progress(number, system, events, shown))

    one = yield from generate("base", models.base, 1)
    seconds = {"base": one.timing.total}
    if models.tuned:
        one = yield from generate("tuned", models.tuned, 1)
        seconds["tuned"] = one.timing.total
    best = yield from generate("best", models.base, settings.n)
    seconds["best"] = best.timing.total
    # Its random stream is that of a query number that no prompt has.
    opponent = yield from generate("base", models.base, 1, shown=False, query=PROMPTS_MAX + number)
    tuned: tuple[Candidate, ...] = ()
    if models.tuned:
        tuned = _judge((yield from generate("tuned", models.tuned, settings.n, shown=False)), models.judge)
    return PromptSamples(
        prompt, _judge(best, models.judge), opponent.candidates[0], tuned,
        _log_ratios(prompt, tuned, models, settings), seconds,
    )


def _progress(
    number: int, system: str, events: Iterable[Event], shown: bool
) -> Generator[PromptProgress, None, Result]:
    """Drains a run and returns its result; where it is shown, reports each step."""
    state = RunState()
    for event in events:
        if isinstance(event, Done):
            return event.result
        state.add(event)
        if shown:
            yield PromptProgress(number, system, state)
    raise AssertionError("a stream ends with Done")


def _judge(result: Result, judge: Scorer | None) -> tuple[Candidate, ...]:
    """The candidates in the order of their indices, with the judge's scores of those that the scorer rates."""
    candidates = sorted(result.candidates, key=lambda c: c.index)
    if judge is None:
        return tuple(candidates)
    scored = scored_candidates(candidates)
    scores = score_items(judge, [Item(result.prompt, c) for c in scored]).values if scored else []
    by_index = {c.index: score for c, score in zip(scored, scores, strict=True)}
    return tuple(dataclasses.replace(c, judge=by_index.get(c.index)) for c in candidates)


def _log_ratios(
    prompt: str, candidates: Sequence[Candidate], models: ComparisonModels, settings: Settings
) -> tuple[float, ...]:
    """log p_tuned - log p_base of each of the tuned model's candidates, nats; none where KL is not measured."""
    if models.tuned is None or not _measures_kl(models, settings):
        return ()
    from bon.engines.local.engine import LocalEngine
    from bon.engines.local.likelihood import log_likelihoods

    assert isinstance(models.base, LocalEngine)  # no other engine has a vocabulary
    assert isinstance(models.tuned, LocalEngine)

    ids = models.base.encode(Request(prompt, settings)).ids
    texts, ended = [c.token_ids for c in candidates], [c.ended == "eos" for c in candidates]
    by_tuned, by_base = (
        log_likelihoods(engine, ids, texts, ended, settings.sampling) for engine in (models.tuned, models.base)
    )
    return tuple(a - b for a, b in zip(by_tuned, by_base, strict=True))
