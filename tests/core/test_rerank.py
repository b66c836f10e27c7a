"""A run ranked anew without generating: as if it had been asked for so; and the pieces that texts are made of."""

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


@pytest.mark.parametrize("other", [
    {"target": "NEGATIVE"}, {"select": "worst"}, {"select": "soft", "softness": 0.3},
    {"target": "NEGATIVE", "select": "worst"},
])
def test_it_is_the_run_that_would_have_been(sampler, other):
    made, wanted = sampler.rerank(sampler.run(PROMPT, **RUN), **other), sampler.run(PROMPT, **RUN, **other)
    assert [c.index for c in made.candidates] == [c.index for c in wanted.candidates]
    assert [c.text for c in made.candidates] == [c.text for c in wanted.candidates]
    assert [c.score for c in made.candidates] == pytest.approx([c.score for c in wanted.candidates], abs=1e-6)
    assert made.stats.expected_best == pytest.approx(wanted.stats.expected_best, abs=1e-6)
    assert made.stats.kl_estimate == pytest.approx(wanted.stats.kl_estimate)
    assert (made.target, made.settings, made.notes) == (wanted.target, wanted.settings, wanted.notes)


def test_there_and_back_is_the_same_run(sampler):
    run = sampler.run(PROMPT, **RUN)
    for there, back in (({"target": "NEGATIVE"}, {"target": "POSITIVE"}), ({"select": "soft"}, {"select": "best"})):
        again = sampler.rerank(sampler.rerank(run, **there), **back)
        assert [c.index for c in again.candidates] == [c.index for c in run.candidates]
        assert again.notes == run.notes


def test_by_way_of_the_browser_it_is_the_same(sampler):
    run = sampler.run(PROMPT, **RUN)
    kept = run_view.read(run_view.pack(run_view.done(run))["record"])
    ours, theirs = sampler.rerank(run, target="NEGATIVE"), sampler.rerank(kept, target="NEGATIVE")
    assert [c.score for c in ours.candidates] == [c.score for c in theirs.candidates]
    assert ours.stats == theirs.stats
    assert kept.best.pieces[0][0] == run.best.pieces[0][0]


def test_dropped_and_stopped_candidates_stay_so(sampler):
    run = sampler.run(PROMPT, **RUN, reject=0.5)
    made = sampler.rerank(run, select="worst")
    assert made.stats is None
    assert {c.index for c in made.candidates if c.ended == "rejected"} == {
        c.index for c in run.candidates if c.ended == "rejected"
    }
    assert made.notes == run.notes


@pytest.mark.parametrize(("wrong", "field"), [({"target": "JOY"}, "target"), ({"select": "median"}, "select"),
                                              ({"softness": 0}, "softness")])
def test_what_cannot_be_is_refused_by_name(sampler, wrong, field):
    with pytest.raises(InputError) as error:
        sampler.rerank(sampler.run(PROMPT, **RUN), **wrong)
    assert error.value.field == field


def test_scorers_without_labels_keep_their_scores(lm_folder):
    sampler = bon.load(lm_folder, "logprob")
    run = sampler.run(PROMPT, **RUN)
    made = sampler.rerank(run, select="worst")
    assert sorted(c.score for c in made.candidates) == sorted(c.score for c in run.candidates)
    with pytest.raises(InputError):
        sampler.rerank(run, target="POSITIVE")


def test_pieces_make_up_text_and_log_probability(sampler):
    for c in sampler.run(PROMPT, **RUN).candidates:
        assert "".join(text for text, _ in c.pieces) == c.text
        assert math.fsum(logprob for _, logprob in c.pieces) == pytest.approx(c.logprob, abs=1e-4)


def grown(*rows: tuple[str, int, float]) -> tuple:
    """The pieces of one candidate whose text grew so: text, tokens, log-probability."""
    state = RunState()
    state.add(Started("p", "lm", "judge", None, "score", Settings(n=1, seed=1), (9,)))
    for text, tokens, logprob in rows:
        state.add(Wrote((Row(0, text, tokens, logprob),)))
    return state.candidates[0].pieces


def test_the_tokens_of_one_character_are_one_piece():
    assert grown((" a", 1, -1.0), (" a", 2, -3.0), (" aé", 3, -3.5)) == ((" a", -1.0), ("é", -2.5))


def test_a_text_that_began_again_has_new_pieces():
    assert grown((" a", 1, -1.0), (" a b", 2, -2.0), (" c", 1, -4.0)) == ((" c", -4.0),)


def test_a_stopped_run_keeps_what_it_has():
    state = RunState()
    state.add(Started("p", "lm", "judge", None, "score", Settings(n=2, seed=1), (9, 9)))
    state.add(Wrote((Row(0, " a", 1, -1.0), Row(1, " b", 1, -1.0))))
    state.add(Ended(Candidate(0, " a b", tokens=2, cap=9, ended="eos", logprob=-2.0)))
    state.add(Scored(0, 0.5))
    made = mark_stopped(state.result())
    assert [(c.index, c.ended, c.pieces) for c in made.candidates] == [
        (0, "eos", ((" a", -1.0), (" b", -1.0))), (1, "stopped", ((" b", -1.0),)),
    ]
    assert made.notes == ("Stopped with 1 of 2 candidates scored: the figures cover only these.",)


@pytest.mark.parametrize("other", [{"select": "worst"}, {"select": "soft"}, {"target": "NEGATIVE"}])
def test_of_a_run_that_kept_a_few_these_are_ranked(sampler, other):
    run = sampler.run(PROMPT, **RUN, keep=4)
    made = sampler.rerank(run, **other)
    assert {c.index for c in made.candidates} == {c.index for c in run.candidates}
    assert [c.rank for c in made.candidates] == [1, 2, 3, 4]
    if "target" in other:
        assert (made.stats, made.target) == (None, "NEGATIVE")
        whole = {c.index: c.score for c in sampler.run(PROMPT, **RUN, **other).candidates}
        assert all(c.score == pytest.approx(whole[c.index], abs=1e-6) for c in made.candidates)
        assert "note.kept_ranked_without_figures" in [note.key for note in made.notes]
    else:
        assert made.stats == run.stats
        assert "note.kept_ranked" in [note.key for note in made.notes]
    again = sampler.rerank(made, **other)
    assert (again.notes, again.candidates) == (made.notes, made.candidates)
    assert [c.ended for c in mark_stopped(run).candidates] == [c.ended for c in run.candidates]


@pytest.mark.parametrize("other", [{"target": "NEGATIVE"}, {"select": "worst"}, {"select": "soft", "softness": 0.3},
                                   {"target": "NEGATIVE", "select": "worst"}])
def test_a_weighted_sum_is_ranked_anew_as_the_run_would_have_been(lm_folder, classifier_folder, other):
    sampler = bon.load(lm_folder, f"0.7*{classifier_folder}+0.3*logprob")
    run, wanted = sampler.run(PROMPT, **RUN), sampler.run(PROMPT, **RUN, **other)
    for result in (run, run_view.read(run_view.pack(run_view.done(run))["record"])):
        made = sampler.rerank(result, **other)
        assert [c.index for c in made.candidates] == [c.index for c in wanted.candidates]
        assert [c.score for c in made.candidates] == pytest.approx([c.score for c in wanted.candidates], abs=1e-4)
        assert [dict(c.parts) for c in made.candidates] == [pytest.approx(dict(c.parts)) for c in wanted.candidates]
        assert (made.settings, made.notes, made.unit) == (wanted.settings, wanted.notes, wanted.unit)


def test_a_sum_over_the_kept_is_normalised_over_them(lm_folder, classifier_folder):
    sampler = bon.load(lm_folder, f"0.7*{classifier_folder}+0.3*logprob")
    made = sampler.rerank(sampler.run(PROMPT, **RUN, keep=4), target="NEGATIVE")
    assert sum(c.score for c in made.candidates) == pytest.approx(0, abs=1e-6)
    assert made.stats is None


@pytest.mark.parametrize("sum_of", ["0.7*{0}+0.3*logprob", "0.7*self-certainty+0.3*logprob", "0.3*logprob"])
def test_a_sum_that_needs_a_run_rates_no_texts(lm_folder, classifier_folder, sum_of):
    sampler = bon.load(lm_folder, sum_of.format(classifier_folder))
    with pytest.raises(InputError) as error:
        sampler.score(["A fine film.", "A dull one."])
    assert (error.value.field, error.value.key) == ("scorer", "error.scorer_needs_run")
