"""Reranking a finished run without generating, as if it had been requested so; and the pieces that make up a text."""

import math

import pytest

import bon
from bon.errors import InputError
from bon.events import Ended, Row, Scored, Started, Wrote
from bon.result import Candidate
from bon.run_state import RunState, mark_stopped
from bon.settings import Settings
from bon.ui.generate import run_view

PROMPT, RUN = "This movie", {"n": 9, "seed": 5}


@pytest.fixture(scope="module")
def sampler(lm_folder, classifier_folder):
    return bon.load(lm_folder, classifier_folder)


@pytest.mark.parametrize("changes", [
    {"target": "NEGATIVE"}, {"select": "worst"}, {"select": "soft", "softness": 0.3},
    {"target": "NEGATIVE", "select": "worst"},
])
def test_a_reranked_run_equals_a_run_with_these_settings(sampler, changes):
    reranked, expected = sampler.rerank(sampler.run(PROMPT, **RUN), **changes), sampler.run(PROMPT, **RUN, **changes)
    assert [c.index for c in reranked.candidates] == [c.index for c in expected.candidates]
    assert [c.text for c in reranked.candidates] == [c.text for c in expected.candidates]
    assert [c.score for c in reranked.candidates] == pytest.approx([c.score for c in expected.candidates], abs=1e-6)
    assert reranked.stats.expected_best == pytest.approx(expected.stats.expected_best, abs=1e-6)
    assert reranked.stats.kl_estimate == pytest.approx(expected.stats.kl_estimate)
    assert (reranked.target, reranked.settings, reranked.notes) == (expected.target, expected.settings, expected.notes)


def test_reranking_forth_and_back_gives_the_same_run(sampler):
    run = sampler.run(PROMPT, **RUN)
    for changes, reverse in (({"target": "NEGATIVE"}, {"target": "POSITIVE"}),
                             ({"select": "soft"}, {"select": "best"})):
        restored = sampler.rerank(sampler.rerank(run, **changes), **reverse)
        assert [c.index for c in restored.candidates] == [c.index for c in run.candidates]
        assert restored.notes == run.notes


def test_a_run_restored_from_the_browser_is_reranked_alike(sampler):
    run = sampler.run(PROMPT, **RUN)
    restored = run_view.read_record(run_view.pack(run_view.done_view(run))["record"])
    from_run, from_record = sampler.rerank(run, target="NEGATIVE"), sampler.rerank(restored, target="NEGATIVE")
    assert [c.score for c in from_run.candidates] == [c.score for c in from_record.candidates]
    assert from_run.stats == from_record.stats
    assert restored.best.pieces[0][0] == run.best.pieces[0][0]


def test_rejected_candidates_stay_rejected_when_a_run_is_reranked(sampler):
    run = sampler.run(PROMPT, **RUN, reject=0.5)
    reranked = sampler.rerank(run, select="worst")
    assert reranked.stats is None
    assert {c.index for c in reranked.candidates if c.ended == "rejected"} == {
        c.index for c in run.candidates if c.ended == "rejected"
    }
    assert reranked.notes == run.notes


@pytest.mark.parametrize(("changes", "field"), [({"target": "JOY"}, "target"), ({"select": "median"}, "select"),
                                                ({"softness": 0}, "softness")])
def test_an_impossible_change_is_refused_by_name(sampler, changes, field):
    with pytest.raises(InputError) as error:
        sampler.rerank(sampler.run(PROMPT, **RUN), **changes)
    assert error.value.field == field


def test_scorers_without_labels_keep_their_scores(lm_folder):
    sampler = bon.load(lm_folder, "logprob")
    run = sampler.run(PROMPT, **RUN)
    reranked = sampler.rerank(run, select="worst")
    assert sorted(c.score for c in reranked.candidates) == sorted(c.score for c in run.candidates)
    with pytest.raises(InputError):
        sampler.rerank(run, target="POSITIVE")


def test_pieces_make_up_text_and_log_probability(sampler):
    for c in sampler.run(PROMPT, **RUN).candidates:
        assert "".join(text for text, _ in c.pieces) == c.text
        assert math.fsum(logprob for _, logprob in c.pieces) == pytest.approx(c.logprob, abs=1e-4)


def pieces_after(*rows: tuple[str, int, float]) -> tuple:
    """The pieces of one candidate after rows of its text so far, its number of tokens and its log-probability."""
    state = RunState()
    state.add(Started("p", "lm", "judge", None, "score", Settings(n=1, seed=1), (9,)))
    for text, tokens, logprob in rows:
        state.add(Wrote((Row(0, text, tokens, logprob),)))
    return state.candidates[0].pieces


def test_the_tokens_of_one_character_are_one_piece():
    assert pieces_after((" a", 1, -1.0), (" a", 2, -3.0), (" aé", 3, -3.5)) == ((" a", -1.0), ("é", -2.5))


def test_a_text_that_began_again_has_new_pieces():
    assert pieces_after((" a", 1, -1.0), (" a b", 2, -2.0), (" c", 1, -4.0)) == ((" c", -4.0),)


def test_a_run_that_is_marked_stopped_keeps_texts_and_pieces():
    state = RunState()
    state.add(Started("p", "lm", "judge", None, "score", Settings(n=2, seed=1), (9, 9)))
    state.add(Wrote((Row(0, " a", 1, -1.0), Row(1, " b", 1, -1.0))))
    state.add(Ended(Candidate(0, " a b", tokens=2, cap=9, ended="eos", logprob=-2.0)))
    state.add(Scored(0, 0.5))
    reranked = mark_stopped(state.result())
    assert [(c.index, c.ended, c.pieces) for c in reranked.candidates] == [
        (0, "eos", ((" a", -1.0), (" b", -1.0))), (1, "stopped", ((" b", -1.0),)),
    ]
    assert reranked.notes == ("Stopped with 1 of 2 candidates scored: the figures cover only these.",)


@pytest.mark.parametrize("changes", [{"select": "worst"}, {"select": "soft"}, {"target": "NEGATIVE"}])
def test_a_run_that_kept_its_best_few_is_reranked_over_these(sampler, changes):
    run = sampler.run(PROMPT, **RUN, keep=4)
    reranked = sampler.rerank(run, **changes)
    assert {c.index for c in reranked.candidates} == {c.index for c in run.candidates}
    assert [c.rank for c in reranked.candidates] == [1, 2, 3, 4]
    if "target" in changes:
        assert (reranked.stats, reranked.target) == (None, "NEGATIVE")
        full_scores = {c.index: c.score for c in sampler.run(PROMPT, **RUN, **changes).candidates}
        assert all(c.score == pytest.approx(full_scores[c.index], abs=1e-6) for c in reranked.candidates)
        assert "note.kept_ranked_without_figures" in [note.key for note in reranked.notes]
    else:
        assert reranked.stats == run.stats
        assert "note.kept_ranked" in [note.key for note in reranked.notes]
    again = sampler.rerank(reranked, **changes)
    assert (again.notes, again.candidates) == (reranked.notes, reranked.candidates)
    assert [c.ended for c in mark_stopped(run).candidates] == [c.ended for c in run.candidates]


@pytest.mark.parametrize("changes", [{"target": "NEGATIVE"}, {"select": "worst"}, {"select": "soft", "softness": 0.3},
                                     {"target": "NEGATIVE", "select": "worst"}])
def test_a_reranked_weighted_sum_equals_a_run_with_these_settings(lm_folder, classifier_folder, changes):
    sampler = bon.load(lm_folder, f"0.7*{classifier_folder}+0.3*logprob")
    run, expected = sampler.run(PROMPT, **RUN), sampler.run(PROMPT, **RUN, **changes)
    for result in (run, run_view.read_record(run_view.pack(run_view.done_view(run))["record"])):
        reranked = sampler.rerank(result, **changes)
        assert [c.index for c in reranked.candidates] == [c.index for c in expected.candidates]
        assert [c.score for c in reranked.candidates] == pytest.approx([c.score for c in expected.candidates], abs=1e-4)
        parts = [pytest.approx(dict(c.parts)) for c in expected.candidates]
        assert [dict(c.parts) for c in reranked.candidates] == parts
        assert (reranked.settings, reranked.notes, reranked.unit) == (expected.settings, expected.notes, expected.unit)


def test_a_reranked_weighted_sum_is_normalised_over_the_kept_candidates(lm_folder, classifier_folder):
    sampler = bon.load(lm_folder, f"0.7*{classifier_folder}+0.3*logprob")
    reranked = sampler.rerank(sampler.run(PROMPT, **RUN, keep=4), target="NEGATIVE")
    assert sum(c.score for c in reranked.candidates) == pytest.approx(0, abs=1e-6)
    assert reranked.stats is None


@pytest.mark.parametrize("sum_of", ["0.7*{0}+0.3*logprob", "0.7*self-certainty+0.3*logprob", "0.3*logprob"])
def test_a_sum_that_needs_a_run_rates_no_texts(lm_folder, classifier_folder, sum_of):
    sampler = bon.load(lm_folder, sum_of.format(classifier_folder))
    with pytest.raises(InputError) as error:
        sampler.score(["A fine film.", "A dull one."])
    assert (error.value.field, error.value.key) == ("scorer", "error.scorer_needs_run")
