"""Early rejection: which candidates it drops, that survivors are unchanged, and how many tokens it saves."""

from contextlib import closing

import pytest

from bon import flow
from bon.engines.base import EncodedPrompt, Step
from bon.engines.local.engine import LocalEngine, Rules
from bon.errors import InputError, ScoringError
from bon.events import Ended, Row, Scored, Wrote
from bon.result import Candidate, as_html, as_text
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.classifier import Classifier
from bon.scorers.logprob import MeanLogprobScorer
from bon.scorers.sentiment import SentimentScorer
from bon.settings import Request, Settings
from bon.stats.early_rejection import checkpoints
from tests.support import tiny


def vowels(texts):
    """The share of vowels in each text, which differs between a partial text and the complete one."""
    return [sum(text.count(v) for v in "aeiou") / (1 + len(text)) for text in texts]


def request(reject=0.5, **settings):
    return Request("This movie", Settings(**{"n": 16, "seed": 7, "max_tokens": 40, "min_tokens": 6} | settings,
                                          reject=reject))


def run(engine, scorer=None, **settings):
    return flow.run(request(**settings), engine, scorer or CallableScorer(vowels))


def by_index(result):
    return {c.index: c for c in result.candidates}


@pytest.mark.parametrize("reject", [0.25, 0.5, 0.9])
def test_survivors_are_the_same_as_without_rejection(engine, reject):
    plain, result = by_index(run(engine, reject=0)), run(engine, reject=reject)
    assert "rejected" in {c.ended for c in result.candidates}
    for candidate in result.candidates:
        if candidate.ended == "rejected":
            assert plain[candidate.index].text.startswith(candidate.text.rstrip("\ufffd"))
            assert candidate.tokens <= plain[candidate.index].tokens
        else:
            full = plain[candidate.index]
            assert (candidate.token_ids, candidate.ended) == (full.token_ids, full.ended)
            assert candidate.score == pytest.approx(full.score)


def test_the_lowest_at_each_checkpoint_are_dropped_and_keep_their_score_there(engine):
    texts, rejected = {}, {}
    for event in flow.stream(request(n=24), engine, CallableScorer(vowels)):
        if isinstance(event, Wrote):
            texts |= {(row.index, row.tokens): "This movie" + row.text for row in event.rows}
        if isinstance(event, Ended) and event.candidate.ended == "rejected":
            rejected[event.candidate.index] = event.candidate.tokens
        if isinstance(event, Scored) and event.index in rejected:
            assert event.score == vowels([texts[event.index, rejected[event.index]]])[0]
    assert set(rejected.values()) >= {4, 8}
    for checkpoint in set(rejected.values()):
        surviving = [i for i in range(24) if (i, checkpoint + 1) in texts]
        dropped = [i for i, tokens in rejected.items() if tokens == checkpoint]
        scores = {i: vowels([texts[i, checkpoint]])[0] for i in (*surviving, *dropped)}
        assert checkpoint in (4, 8, 16, 32)
        assert max(scores[i] for i in dropped) <= min((scores[i] for i in surviving), default=1)


def test_every_candidate_is_ended_once_then_scored_once_and_never_written_again(engine):
    events = list(flow.stream(request(n=24), engine, CallableScorer(vowels)))
    for i in range(24):
        end_positions = [at for at, e in enumerate(events) if isinstance(e, Ended) and e.candidate.index == i]
        score_positions = [at for at, e in enumerate(events) if isinstance(e, Scored) and e.index == i]
        write_positions = [
            at for at, e in enumerate(events) if isinstance(e, Wrote) and any(row.index == i for row in e.rows)
        ]
        assert len(end_positions) == len(score_positions) == 1
        assert max(write_positions) < end_positions[0] < score_positions[0]


def test_fewer_tokens_are_generated_and_counted(engine):
    plain, result = run(engine, reject=0), run(engine)
    assert result.timing.tokens == sum(c.tokens for c in result.candidates) < plain.timing.tokens


def test_rejected_rows_leave_the_batch(engine):
    rows = []
    handle = engine.model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    result = run(engine)
    handle.remove()
    further_passes = {"eos": 0, "length": -1, "rejected": -1}
    assert sum(rows[1:]) == sum(c.tokens + further_passes[c.ended] for c in result.candidates)


def test_a_rejected_text_never_wins_and_ranks_after_all_complete_ones(engine):
    shortest = CallableScorer(lambda texts: [float(-len(text)) for text in texts])  # unfinished texts score best
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    ranked = run(endless, shortest).candidates
    rejected = [c.ended == "rejected" for c in ranked]
    assert rejected == sorted(rejected)
    assert [c.rank for c in ranked] == list(range(1, 17))
    assert max(c.score for c in ranked if c.ended == "rejected") > ranked[0].score


def test_the_statistics_of_plain_best_of_n_are_left_out_and_a_note_says_so(engine):
    result = run(engine)
    assert result.stats is None
    assert any("Early rejection dropped" in note for note in result.notes)
    assert result.to_dict()["stats"] is None
    assert as_text(result)
    assert as_html(result)


@pytest.mark.parametrize("scorer", [lambda: CallableScorer(vowels), MeanLogprobScorer])
def test_other_runs_and_full_batches_do_not_change_which_candidates_are_dropped(engine, scorer):
    def facts(result):
        return [(c.index, c.rank, c.text, c.tokens, c.ended, pytest.approx(c.score)) for c in result.candidates]

    alone = facts(run(engine, scorer(), n=24))
    small = LocalEngine(engine.model, engine.tokenizer, name="tiny", rules=engine.rules, max_rows=10)
    assert facts(run(small, scorer(), n=24)) == alone
    with closing(flow.stream(Request("The hotel", Settings(n=8, seed=1, min_tokens=30, max_tokens=60)), small,
                             scorer())) as other_run:
        for _ in range(6):  # the other run is under way and leaves room for a few
            next(other_run)
        assert facts(run(small, scorer(), n=24)) == alone


def test_more_candidates_than_a_batch_holds_lose_the_same_share(engine):
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    shares = []
    for n in (512, 768):
        result = run(endless, n=n, min_tokens=12, max_tokens=12)
        shares.append(sum(c.ended == "rejected" for c in result.candidates) / n)
    assert shares == [0.75, 0.75]


class Blank:
    """An engine whose candidates of even numbers write blanks for five tokens; all end after twelve."""

    name, context = "blank", None

    def encode(self, request):
        return EncodedPrompt((1,))

    def describe(self):
        return {}

    def generate(self, jobs):
        (job,) = jobs
        for tokens in range(1, 13):
            texts = {i: (" " * 5 + "a" * 7 if i % 2 == 0 else "b" * 12)[:tokens] for i in range(8) if i not in
                     job.unwanted}
            if tokens < 12:
                yield Step(grown={0: [Row(i, text, tokens, -float(i)) for i, text in texts.items()]})
            else:
                yield Step(ended={0: [Candidate(i, text, tokens=12, cap=12, ended="length", logprob=-float(i))
                                      for i, text in texts.items()]})


def test_a_text_that_is_still_empty_is_dropped_first_and_has_no_score():
    result = run(Blank(), MeanLogprobScorer(), n=8, min_tokens=12, max_tokens=12, reject=0.25)
    dropped_at_4 = [c for c in result.candidates if c.ended == "rejected" and c.tokens == 4]
    assert [(c.index, c.score, c.rank) for c in dropped_at_4] == [(4, None, None), (6, None, None)]
    assert [c.index for c in result.candidates if c.ended == "rejected" and c.tokens == 8] == [7]
    assert result.best.index == 0


def test_without_rejection_nothing_is_scored_twice(engine):
    calls = []

    def counting(texts):
        calls.append(len(texts))
        return vowels(texts)

    run(engine, CallableScorer(counting), reject=0)
    assert calls == [16]
    run(engine, CallableScorer(counting))
    assert len(calls) > 3


@pytest.mark.parametrize("scorer", [
    MeanLogprobScorer, lambda: SentimentScorer(Classifier(tiny.classifier(), tiny.tokenizer())),
])
def test_every_kind_of_scorer_rates_unfinished_texts(engine, scorer):
    result = run(engine, scorer())
    assert all(c.score is not None for c in result.candidates)
    assert len({c.score for c in result.candidates if c.ended == "rejected"}) > 1


@pytest.mark.parametrize(("n", "reject"), [(1, 0.99), (2, 0.5), (3, 0.99), (2, 0.01)])
def test_at_least_one_candidate_always_survives(engine, n, reject):
    result = run(engine, n=n, reject=reject)
    assert result.best.ended in ("eos", "length")


def test_texts_too_short_for_a_checkpoint_are_all_complete(engine):
    result = run(engine, min_tokens=3, max_tokens=4)
    assert {c.ended for c in result.candidates} <= {"eos", "length"}
    assert result.stats is not None


def test_a_scorer_that_fails_on_a_partial_text_is_an_error(engine):
    def only_whole(texts):
        raise ValueError("too short for me")

    with pytest.raises(ScoringError, match="too short for me"):
        run(engine, CallableScorer(only_whole))


def test_several_requests_reject_each_for_itself(engine):
    requests = [request(), Request("The hotel", request(reject=0).settings, query=1)]
    results = [e.result for _, e in flow.stream_many(requests, engine, CallableScorer(vowels)) if hasattr(e, "result")]
    assert any(c.ended == "rejected" for c in results[0].candidates)
    assert not any(c.ended == "rejected" for c in results[1].candidates)
    alone = run(engine)
    assert [(c.index, c.text, c.tokens) for c in results[0].candidates] == [
        (c.index, c.text, c.tokens) for c in alone.candidates
    ]


@pytest.mark.parametrize("wrong", [-0.1, 1, 1.5, "half", True, float("nan")])
def test_a_share_that_cannot_be_dropped_is_refused(wrong):
    with pytest.raises(InputError) as caught:
        Settings(reject=wrong)
    assert caught.value.field == "reject"


def test_checkpoints_double_and_end_before_the_longest_text():
    assert [checkpoints(n) for n in (1, 4, 5, 8, 9, 32, 33)] == [
        [], [], [4], [4], [4, 8], [4, 8, 16], [4, 8, 16, 32]
    ]
