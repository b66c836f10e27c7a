"""Base, tuned and best-of-N side by side over prompts, all from the same samples.

Per prompt the base model writes n candidates, and one more, the opponent, that takes part in nothing but win rates;
the tuned model writes n. Every figure comes from these (`bon.compare.result`): means and intervals over prompts, best
of k for every k up to n from the order statistics, the judge's score of what the scorer selects, the tuned model's KL.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from bon import flow
from bon.compare.prompts import PROMPTS_MAX, check_count
from bon.compare.result import Compared, Comparison, Outcome, Writing, scored
from bon.engines.base import Engine
from bon.errors import InputError
from bon.events import Done
from bon.messages import say
from bon.result import Candidate, Result
from bon.run_state import RunState
from bon.scorers.base import Item, Scorer, score_items
from bon.settings import Request, Settings


@dataclass(frozen=True, slots=True)
class Contest:
    """What is compared: engines and scorers, ready to work. tuned, judge: None where there is none.

    points: of the figure, measured before: checkpoints of the tuned model's training. notes: what the reader should
    know, such as why the tuned model is missing.
    """

    base: Engine
    scorer: Scorer
    tuned: Engine | None = None
    judge: Scorer | None = None
    points: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def measures_kl(self) -> bool:
        """Whether both models can be asked how likely a text is, token by token."""
        return self.tuned is not None and _words(self.base) is not None and _words(self.base) == _words(self.tuned)


def _words(engine: Engine) -> dict[str, int] | None:
    tokenizer = getattr(engine, "tokenizer", None)
    return tokenizer and tokenizer.get_vocab()


def stream(prompts: Sequence[str], contest: Contest, settings: Settings) -> Iterator[Writing | Compared]:
    """Compares over prompts. Closing the iterator stops the work within one step; what was compared stays.

    Raises `InputError` before any work for an empty list, more than 10,000 prompts, or one that cannot be continued.
    """
    settings = settings.with_seed()
    _check(prompts, contest, settings)
    notes = contest.notes + _why_no_kl(contest, settings)
    comparison = Comparison(
        contest.base.name, contest.tuned and contest.tuned.name, contest.scorer.name,
        contest.judge and contest.judge.name, contest.scorer.target, contest.scorer.unit, settings, len(prompts),
        points=contest.points, notes=notes,
    )
    for number, prompt in enumerate(prompts):
        outcome = yield from _outcome(number, prompt, contest, settings)
        outcomes = (*comparison.outcomes, outcome)
        comparison = dataclasses.replace(comparison, outcomes=outcomes, notes=notes + _of_empty(outcomes))
        yield Compared(comparison)


def run(prompts: Sequence[str], contest: Contest, settings: Settings) -> Comparison:
    """The comparison over all prompts: the drained stream."""
    *_, last = stream(prompts, contest, settings)
    return last.comparison


def _check(prompts: Sequence[str], contest: Contest, settings: Settings) -> None:
    check_count(prompts)
    if settings.reject or settings.select != "best":
        raise InputError("select", say("error.comparison_needs_all"))
    for number, prompt in enumerate(prompts, start=1):
        try:
            for engine in filter(None, (contest.base, contest.tuned)):
                flow.check_fits(len(engine.encode(Request(prompt, settings))), settings.max_tokens, engine)
        except InputError as error:
            message = say("error.numbered_prompt", number=str(number), error=error.message)
            raise InputError("prompts", message) from error


def _why_no_kl(contest: Contest, settings: Settings) -> tuple[str, ...]:
    if contest.tuned is None or (contest.measures_kl and not _cut(settings)):
        return ()
    return (say("note.no_kl_of_cut_distribution" if contest.measures_kl else "note.no_kl_across_tokenizers"),)


def _of_empty(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    texts = [c for o in outcomes for c in (*o.base, o.opponent, *o.tuned)]
    empty, left_out = sum(c.score is None for c in texts), sum(not o.scored for o in outcomes)
    notes = [say("note.empty_compared", n=empty, of=str(len(texts)))] if empty else []
    return tuple(notes + ([say("note.prompts_left_out", n=left_out)] if left_out else []))


def _cut(settings: Settings) -> bool:
    return settings.top_p < 1 or settings.top_k > 0


def _outcome(number: int, prompt: str, contest: Contest, settings: Settings) -> Iterator[Writing]:
    """Writes one prompt's candidates; returns what they came to."""
    def results(part: str, engine: Engine, n: int, shown: bool = True, query: int = number):
        request = Request(prompt, dataclasses.replace(settings, n=n, keep=None), query=query)
        with closing(flow.stream(request, engine, contest.scorer)) as events:
            return (yield from _told(number, part, events, shown))

    one = yield from results("base", contest.base, 1)
    tuned_one = (yield from results("tuned", contest.tuned, 1)) if contest.tuned else None
    best = yield from results("best", contest.base, settings.n)
    # From a random stream that no prompt's candidates have.
    opponent = yield from results("base", contest.base, 1, shown=False, query=PROMPTS_MAX + number)
    tuned, ratios = (), ()
    if contest.tuned:
        measured = yield from results("tuned", contest.tuned, settings.n, shown=False)
        tuned = _judged(measured, contest.judge)
        ratios = _log_ratios(prompt, tuned, contest, settings)
    seconds = {"base": one.timing.total, "best": best.timing.total}
    if tuned_one:
        seconds["tuned"] = tuned_one.timing.total
    return Outcome(prompt, _judged(best, contest.judge), opponent.candidates[0], tuned, ratios, seconds)


def _told(number: int, part: str, events: Iterator, shown: bool) -> Iterator[Writing]:
    state = RunState()
    for event in events:
        if isinstance(event, Done):
            return event.result
        state.add(event)
        if shown:
            yield Writing(number, part, state)
    raise AssertionError("a stream ends with Done")


def _judged(result: Result, judge: Scorer | None) -> tuple[Candidate, ...]:
    """The candidates in the order of their numbers, with the judge's scores of those that the scorer rates."""
    candidates = sorted(result.candidates, key=lambda c: c.index)
    if judge is None:
        return tuple(candidates)
    rated = scored(candidates)
    scores = score_items(judge, [Item(result.prompt, c) for c in rated]).values if rated else []
    by_index = {c.index: score for c, score in zip(rated, scores, strict=True)}
    return tuple(dataclasses.replace(c, judge=by_index.get(c.index)) for c in candidates)


def _log_ratios(prompt, tuned: Sequence[Candidate], contest: Contest, settings: Settings) -> tuple[float, ...]:
    if not contest.measures_kl or _cut(settings):
        return ()
    from bon.engines.local.likelihood import log_likelihoods

    ids = contest.base.encode(Request(prompt, settings))
    texts, ended = [c.token_ids for c in tuned], [c.ended == "eos" for c in tuned]
    by_tuned, by_base = (
        log_likelihoods(engine, ids, texts, ended, settings.temperature) for engine in (contest.tuned, contest.base)
    )
    return tuple(a - b for a, b in zip(by_tuned, by_base, strict=True))
