"""The flow from request to ranked result, and what its events add up to."""

import dataclasses
import json
import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch

from bon import flow
from bon.errors import InputError, ScoringError
from bon.events import Clock, Done, Ended, Note, Row, Scored, Started, Wrote
from bon.result import Candidate, at_most
from bon.run_state import RunState
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.classifier import Classifier
from bon.scorers.sentiment import SentimentScorer
from bon.settings import Request, Settings
from bon.stats import estimates
from bon.stats.lengths import LengthSampler
from bon.stats.ranking import rank
from tests.support import tiny


def by_length(texts):
    return [float(len(text)) for text in texts]


def by_sentiment():
    """A scorer that rates candidates in groups as they finish."""
    return SentimentScorer(Classifier(tiny.classifier(), tiny.tokenizer()))


def request(prompt="This movie", **settings):
    return Request(prompt, Settings(**{"n": 16, "seed": 7} | settings))


def best(engine, function=by_length, lengths=None, **settings):
    return flow.run(request(**settings), engine, CallableScorer(function), lengths)


def events_of(engine, scorer=None, **settings):
    return list(flow.stream(request(**settings), engine, scorer or CallableScorer(by_length)))


def state_of(*events, n=3, lengths=None, **settings):
    """The state of a run with n candidates after these events."""
    state = RunState(lengths)
    settings_of_run = Settings(n=n, seed=1, **settings)
    state.add(Started("This movie", "model", "scorer", "POSITIVE", "probability", settings_of_run, (3,) * n))
    for event in events:
        state.add(event)
    return state


def complete(index, text="fine", **fields):
    return Ended(Candidate(index=index, text=text, tokens=2, cap=3, ended="eos", **fields))


def test_a_run_starts_with_started_and_ends_with_done(engine):
    kinds = [type(event) for event in events_of(engine)]
    assert (kinds[0], kinds[-1]) == (Started, Done)
    assert kinds.count(Started) == kinds.count(Done) == 1


@pytest.mark.parametrize("scorer", [by_sentiment, lambda: CallableScorer(by_length)])
def test_every_candidate_is_written_then_ended_then_scored_once(engine, scorer):
    events = events_of(engine, scorer())
    for i in range(16):
        write_positions = [
            at for at, e in enumerate(events) if isinstance(e, Wrote) and any(row.index == i for row in e.rows)
        ]
        end_positions = [at for at, e in enumerate(events) if isinstance(e, Ended) and e.candidate.index == i]
        score_positions = [at for at, e in enumerate(events) if isinstance(e, Scored) and e.index == i]
        assert len(end_positions) == len(score_positions) == 1
        assert max(write_positions, default=0) < end_positions[0] < score_positions[0]


def test_scores_arrive_while_other_candidates_are_still_written(engine):
    kinds = [type(event) for event in events_of(engine, by_sentiment())]
    last_written = len(kinds) - kinds[::-1].index(Wrote)
    assert kinds.index(Scored) < last_written


def test_the_started_event_has_the_caps_and_the_seed(engine):
    started = events_of(engine, seed=None, n=5)[0]
    assert len(started.caps) == 5
    assert started.settings.seed is not None


def test_time_and_tokens_of_the_clock_events_never_decrease(engine):
    clocks = [e.timing for e in events_of(engine, by_sentiment()) if isinstance(e, Clock)]
    for earlier, later in pairwise(clocks):
        assert dataclasses.astuple(earlier)[:5] <= dataclasses.astuple(later)[:5]
    assert clocks[-1].total == pytest.approx(clocks[-1].prefill + clocks[-1].decode + clocks[-1].score)


def test_the_timing_counts_every_token(engine):
    result = best(engine)
    assert result.timing.tokens == sum(c.tokens for c in result.candidates)


def test_events_and_result_are_plain_values_that_cross_processes(engine):
    events = events_of(engine, by_sentiment())
    assert pickle.loads(pickle.dumps(events)) == events


def test_the_plain_call_returns_what_the_stream_ends_with(engine):
    streamed, returned = events_of(engine)[-1].result, best(engine)
    assert dataclasses.replace(streamed, timing=returned.timing) == returned


def test_candidates_are_ranked_best_first(engine):
    result = best(engine)
    scores = [c.score for c in result.candidates]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]
    assert [c.rank for c in result.candidates] == list(range(1, 17))
    assert result.best == result.candidates[0]
    assert sorted(c.index for c in result.candidates) == list(range(16))


def test_the_scorers_favourite_wins_wherever_it_stands(engine):
    full_texts = {c.index: "This movie" + c.text for c in best(engine).candidates}
    for index in (0, 7, 15):
        result = best(engine, lambda texts, favourite=full_texts[index]: [float(t == favourite) for t in texts])
        assert (result.best.index, result.best.score) == (index, 1.0)


def test_equal_scores_keep_the_order_of_the_candidates(engine):
    result = best(engine, lambda texts: [1.0] * len(texts))
    assert [c.index for c in result.candidates] == list(range(16))


def test_keep_returns_the_best_few_and_leaves_the_statistics_over_all(engine):
    full, best_three = best(engine), best(engine, keep=3)
    assert best_three.candidates == full.candidates[:3]
    assert best_three.stats == full.stats


def test_a_single_candidate_is_the_best(engine):
    result = best(engine, n=1)
    assert (result.best.rank, result.stats.kl_bound, result.stats.win_rate) == (1, 0.0, 0.5)
    assert result.stats.expected_best == (result.best.score,)


def test_a_run_is_repeated_by_the_seed_that_it_reports(engine):
    original = best(engine, seed=None)
    repeated = best(engine, seed=original.settings.seed)
    assert dataclasses.replace(repeated, timing=original.timing) == original


def test_runs_without_a_seed_differ(engine):
    assert best(engine, seed=None).settings.seed != best(engine, seed=None).settings.seed


def test_statistics_are_those_of_the_scores(engine):
    result = best(engine)
    scores = [c.score for c in result.candidates]
    assert result.stats.mean == pytest.approx(np.mean(scores))
    assert result.stats.expected_best == pytest.approx(estimates.expected_best(scores))
    assert result.stats.kl_bound == pytest.approx(math.log(16) - 15 / 16)
    assert 0 < result.stats.kl_estimate <= result.stats.kl_bound + 1e-9


@pytest.mark.parametrize(
    ("ended", "tokens", "cap", "chance"),
    [
        ("length", 3, 3, 1 / 4),  # of the caps 2, 3, 4, 5 just one ends the text here
        ("eos", 2, 4, 3 / 4),  # and three let it end by itself after two tokens
    ],
)
def test_the_kl_estimate_includes_the_probability_of_the_drawn_length(ended, tokens, cap, chance):
    winner = Candidate(index=0, tokens=tokens, cap=cap, ended=ended, sampled_logprob=math.log(0.25))
    state = state_of(Ended(winner), Scored(0, 2.0), complete(1), Scored(1, 1.0), n=2, lengths=LengthSampler(2, 6))
    assert state.result().stats.kl_estimate == pytest.approx(estimates.kl_estimate(2, math.log(0.25 * chance)))


def test_without_a_known_distribution_of_lengths_there_is_no_kl_estimate(engine):
    assert best(engine, lengths=lambda: 5).stats.kl_estimate is None


def test_the_state_after_all_events_gives_the_same_result(engine):
    events = events_of(engine, by_sentiment())
    state = RunState(LengthSampler(8, 33))
    for event in events[:-1]:
        state.add(event)
    assert state.result() == events[-1].result


def test_the_result_so_far_can_be_asked_for_after_every_event(engine):
    state = RunState()
    for event in events_of(engine, by_sentiment()):
        state.add(event)
        result = state.result()
        scores = [c.score for c in result.candidates]
        present = [score for score in scores if score is not None]
        assert present == sorted(present, reverse=True) == scores[: len(present)]
        assert len(scores) == 16


def test_there_is_no_result_before_the_run_has_started():
    with pytest.raises(ValueError, match="not started"):
        RunState().result()


def test_a_stopped_run_keeps_complete_candidates_and_marks_the_others():
    state = state_of(complete(2, "great"), Scored(2, 0.9), complete(0, "fine"), Wrote((Row(1, "so", 1),)))
    result = state.result(stopped=True)
    assert [(c.index, c.ended, c.score, c.rank) for c in result.candidates] == [
        (2, "eos", 0.9, 1), (0, "eos", None, None), (1, "stopped", None, None)
    ]
    assert (result.best.text, result.candidates[2].text) == ("great", "so")


def test_a_stopped_run_says_how_many_candidates_its_statistics_cover():
    result = state_of(complete(2), Scored(2, 0.9)).result(stopped=True)
    assert "1 of 3 candidates" in result.notes[-1]
    assert result.stats.expected_best == (0.9,)


def test_the_kl_of_a_stopped_run_is_left_out_since_short_texts_came_first():
    stopped = state_of(complete(2), Scored(2, 0.9), lengths=LengthSampler(1, 9)).result(stopped=True)
    assert (stopped.stats.kl_bound, stopped.stats.kl_estimate) == (None, None)
    assert "nats" not in str(stopped)


def test_a_run_stopped_before_any_score_has_neither_statistics_nor_a_best():
    result = state_of().result(stopped=True)
    assert result.stats is None
    with pytest.raises(ValueError, match="No candidate was scored"):
        _ = result.best
    assert json.loads(json.dumps(result.to_dict()))["stats"] is None
    assert "This movie" in str(result)
    assert "This movie" in result._repr_html_()


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_ends_the_run_and_never_wins(engine, score):
    with pytest.raises(ScoringError, match="candidate 3"):
        best(engine, lambda texts: [score if i == 3 else 1.0 for i in range(len(texts))])


def test_a_scoring_error_midway_leaves_the_state_so_far_and_stops_the_engine(engine):
    class Failing(SentimentScorer):
        def score(self, items):
            if any(item.candidate.ended == "length" for item in items):
                raise RuntimeError("boom")
            return super().score(items)

    calls = []
    handle = engine.model.register_forward_pre_hook(lambda *_: calls.append(1))
    state, scorer = RunState(), Failing(Classifier(tiny.classifier(), tiny.tokenizer()))

    def work():
        for event in flow.stream(request(n=32, min_tokens=20, max_tokens=40), engine, scorer):
            state.add(event)

    with pytest.raises(ScoringError, match="RuntimeError: boom"):
        work()
    handle.remove()
    assert 0 < state.scored < 32
    assert len(calls) < 40
    assert state.result(stopped=True).best.score is not None


@pytest.mark.parametrize("lengths", [lambda: 6, lambda: 6.0, lambda: np.int64(6), lambda: torch.tensor(6)])
def test_any_callable_without_arguments_draws_the_caps(engine, lengths):
    assert {c.cap for c in best(engine, lengths=lengths).candidates} == {6}


def test_a_custom_length_sampler_is_asked_once_for_each_candidate_in_order(engine):
    lengths = iter(range(1, 17))
    assert sorted((c.index, c.cap) for c in best(engine, lengths=lambda: next(lengths)).candidates) == [
        (i, i + 1) for i in range(16)
    ]


def test_a_length_sampler_takes_the_place_of_min_and_max_tokens(engine):
    caps = {c.cap for c in best(engine, lengths=LengthSampler(40, 44), n=32).candidates}
    assert caps == {40, 41, 42, 43}


def test_the_seed_alone_decides_what_a_length_sampler_draws_in_a_run(engine):
    seeded_1, seeded_2 = LengthSampler(2, 30, seed=1), LengthSampler(2, 30, seed=2)
    assert best(engine, lengths=seeded_1).candidates == best(engine, lengths=seeded_2).candidates


def test_both_ends_of_the_range_of_lengths_are_drawn(engine):
    assert {c.cap for c in best(engine, n=64, min_tokens=2, max_tokens=4).candidates} == {2, 3, 4}


@pytest.mark.parametrize("length", [0, -4, 2.5, math.nan, math.inf, True, "7", None])
def test_a_length_that_is_no_whole_number_above_zero_is_refused(engine, length):
    with pytest.raises(InputError) as error:
        best(engine, lengths=lambda: length)
    assert error.value.field == "length_sampler"


def test_a_length_sampler_that_cannot_be_called_is_refused(engine):
    with pytest.raises(InputError, match="must be a callable") as error:
        best(engine, lengths=12)
    assert error.value.field == "length_sampler"


@pytest.mark.parametrize(("low", "high"), [(0, 4), (-1, 4), (4, 4), (5, 4), (2.5, 9), ("2", 9)])
def test_an_impossible_range_of_lengths_is_refused(low, high):
    with pytest.raises(InputError) as error:
        LengthSampler(low, high)
    assert error.value.field == "length_sampler"


def test_the_same_note_is_kept_once():
    assert state_of(Note("a"), Note("b"), Note("a")).result().notes == ("a", "b")


def test_ranking_puts_the_unscored_last_without_a_rank():
    ranked = rank([Candidate(index=0), Candidate(index=1, score=-5.0), Candidate(index=2, score=0.0)])
    assert [(c.index, c.rank) for c in ranked] == [(2, 1), (1, 2), (0, None)]


def test_the_dict_is_plain_json_with_the_promised_names_and_no_others(engine):
    record = best(engine).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert list(record) == [
        "prompt", "model", "scorer", "target", "unit", "settings", "candidates", "stats", "timing", "notes",
        "note_keys",
    ]
    assert set(record["candidates"][0]) == {
        "rank", "index", "text", "score", "parts", "judge", "tokens", "cap", "ended", "full_text",
        "tokens_left_out", "logprob"
    }
    assert set(record["stats"]) == {"mean", "expected_best", "kl_bound", "kl_estimate", "win_rate"}
    assert {"prefill", "decode", "score", "total", "tokens_per_second"} <= set(record["timing"])


def test_the_dict_holds_what_the_result_holds(engine):
    result = best(engine, n=4)
    record = result.to_dict()
    assert [c["text"] for c in record["candidates"]] == [c.text for c in result.candidates]
    assert Settings.of(record["settings"]) == result.settings
    assert (record["model"], record["scorer"], record["target"], record["unit"]) == ("tiny", "by_length", None, "score")


def test_the_settings_of_a_dict_run_again_to_the_same_candidates(engine):
    original = best(engine, seed=None, temperature=0.9, top_k=50, top_p=0.95)
    settings = Settings.of(json.loads(json.dumps(original.to_dict()))["settings"])
    again = flow.run(Request("This movie", settings), engine, CallableScorer(by_length))
    assert again.candidates == original.candidates


def test_the_dict_of_a_chat_holds_its_messages():
    state = RunState()
    messages = ({"role": "user", "content": "Hi"},)
    state.add(Started("Hi", "m", "s", None, "reward", Settings(n=1, seed=1), (3,), messages))
    record = state.result().to_dict()
    assert json.loads(json.dumps(record)) == record
    assert record["messages"] == [{"role": "user", "content": "Hi"}]


def test_markup_in_texts_is_escaped_in_the_html_table():
    markup = "<script>alert('1')</script><img src=x onerror=alert(2)> &amp; ${x}"
    state = RunState()
    state.add(Started(markup, markup, markup, markup, markup, Settings(n=1, seed=1), (3,)))
    for event in (complete(0, markup), Scored(0, 0.5), Note(markup)):
        state.add(event)
    page = state.result()._repr_html_()
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;") >= 6
    assert "&amp;amp;" in page


def test_a_terminal_gets_no_control_characters_from_a_text():
    text = str(state_of(complete(0, "red \x1b[31m\x07 \u202e back\r\nnext"), Scored(0, 0.5), n=1).result())
    assert all(c == "\n" or c.isprintable() for c in text)
    assert "next" in text


def test_a_terminal_shows_the_best_first_with_scores_seed_and_notes():
    events = [complete(0, "so so"), Scored(0, 0.25), complete(1, "great"), Scored(1, 0.75), Note("Mind the gap.")]
    text = str(state_of(*events, n=2).result())
    assert text.index("0.750  great") < text.index("0.250  so so") < text.index("Mind the gap.")
    assert "best of 2 by POSITIVE probability" in text
    assert "seed 1" in text


@pytest.mark.parametrize("n", [2, 3, 16, 100, 4096])
def test_an_upper_bound_is_never_rounded_below_itself(n):
    bound = estimates.kl_bound(n)
    assert bound <= float(at_most(bound)) < bound + 0.01


def test_the_record_names_the_range_that_a_length_sampler_draws_from(engine):
    result = flow.run(Request("This movie", Settings(n=2, seed=1)), engine, CallableScorer(lambda t: [0] * len(t)),
                      LengthSampler(3, 6))  # fmt: skip
    assert (result.settings.min_tokens, result.settings.max_tokens) == (3, 5)
