"""The page's view of a run, without a browser, and the log of its server."""

import dataclasses
import json
import logging

import pytest

from bon.events import Ended, Row, Scored, Started, Wrote
from bon.report import numbers
from bon.result import Candidate
from bon.run_state import RunState
from bon.settings import Settings
from bon.stats import estimates
from bon.ui.generate import form_values, run_view
from bon.ui.hosting import error_log
from bon.ui.hosting.deployment import Deployment
from bon.ui.work import updates
from tests.support.forms import FIRST_VALUES, faults, request_of


def run_with_scores(scores, n=None, unit="probability", target="POSITIVE", select="best") -> RunState:
    """A run of n candidates, of which the first have these scores."""
    run = RunState()
    n = n or len(scores)
    settings = Settings(n=n, seed=7, select=select).filled()
    run.add(Started("This movie", "lm", "judge", target, unit, settings, (10,) * n))
    run.add(Wrote(tuple(Row(i, f" text {i}", 4) for i in range(n))))
    for i, score in enumerate(scores):
        run.add(Ended(Candidate(i, f" text {i}", tokens=6, cap=10, ended="eos", logprob=-9.5)))
        run.add(Scored(i, score))
    return run


def form_inputs(**changes):
    """The initial values of the page's form, with changes."""
    return FIRST_VALUES | changes


def test_rows_keep_the_order_of_candidates_and_have_their_ranks():
    view = run_view.writing_view(run_with_scores([0.2, 0.9, 0.5], n=5).result())
    assert [row["rank"] for row in view["rows"]] == [3, 1, 2, None, None]
    assert [row["state"] for row in view["rows"]] == ["scored", "scored", "scored", "writing", "writing"]
    assert view["winner"]["index"] == 1
    assert (view["title"], view["line"]) == ("Scored 3 of 5", "26 of at most 38 tokens")
    assert view["progress"] == round(26 / 38, 3)


def test_a_run_without_scores_has_no_winner_and_no_mean():
    view = run_view.writing_view(run_with_scores([], n=3).result())
    assert (view["winner"], view["mean"], view["scored"]) == (None, None, 0)


def test_a_done_view_has_facts_and_the_exact_curve():
    view = run_view.done_view(run_with_scores([0.0, 1.0, 0.5, 0.5]).result())
    assert [fact["value"] for fact in view["facts"]] == ["1.000", "0.500", "80%", "≤ 0.64"]
    assert view["curve"]["points"] == [[1, 0.5, "0.500"], [2, 0.75, "0.750"], [3, 0.875, "0.875"], [4, 1.0, "1.000"]]
    assert view["curve"]["caption"] == "The first 4 give 90% of the gain; all 4 give +0.500."
    assert view["winner"]["lift"] == "+0.500"


def test_equal_scores_do_not_promise_a_gain():
    view = run_view.done_view(run_with_scores([0.5] * 4).result())
    assert "tenths" not in view["curve"]["caption"]
    assert view["winner"]["lift"] == "+0.000"


def test_a_stopped_view_keeps_the_finished_candidates():
    result = run_with_scores([0.2, 0.9], n=4).result()
    view = run_view.view_after_stop(run_view.writing_view(result), result)
    assert (view["phase"], view["title"]) == ("stopped", "Stopped after 2 of 4.")
    assert [row["state"] for row in view["rows"]] == ["scored", "scored", "stopped", "stopped"]
    assert view["winner"]["tag"] == "Best of the 2 that were scored"
    assert view["progress"] is None
    restored = run_view.read_record(json.dumps(view["record"]))
    assert [c.ended for c in restored.candidates] == ["eos", "eos", "stopped", "stopped"]
    assert "Stopped with 2 of 4 candidates scored: the figures cover only these." in restored.notes
    view_again = run_view.ended_view(restored)
    assert [view_again[key] for key in ("phase", "title", "rows")] == [view[key] for key in ("phase", "title", "rows")]


@pytest.mark.parametrize("phase", ["done", "sample", "empty", "failed"])
def test_a_stop_that_comes_too_late_changes_nothing(phase):
    result = run_with_scores([0.5]).result()
    view = {**run_view.done_view(result), "phase": phase}
    assert run_view.view_after_stop(view, result) == view


def test_a_failed_view_keeps_the_finished_candidates_and_has_the_reason():
    view = run_view.failed_run_view(run_with_scores([0.2], n=2).result(), "No memory.")
    assert (view["phase"], view["error"], view["rows"][0]["score"]) == ("failed", "No memory.", "0.200")
    assert "rows" not in run_view.failed_run_view(None, "No model.")
    nothing_scored = run_view.failed_run_view(run_with_scores([], n=2).result(), "No memory.")
    assert nothing_scored["line"].startswith("None of 2 had been scored")


def test_a_view_survives_packing_for_the_browser():
    view = run_view.writing_view(run_with_scores([0.2, 0.9], n=4).result())
    assert run_view.unpack(json.loads(json.dumps(run_view.pack(view)))) == view
    assert run_view.unpack(run_view.pack(run_view.empty_view())) == run_view.empty_view()


def test_growing_texts_are_sent_as_appended_parts():
    from gradio.utils import diff

    run = run_with_scores([], n=3)
    before = run_view.pack(run_view.writing_view(run.result()))
    run.add(Wrote((Row(1, " text 1 goes on", 7),)))
    changes = diff(before, run_view.pack(run_view.writing_view(run.result())))
    assert ["append", ["texts", 1], " goes on"] in changes
    assert [change[1] for change in changes] == [["view"], ["texts", 1]]


def test_sample_is_read_from_its_file_or_left_out(tmp_path):
    file = tmp_path / "sample.json"
    assert run_view.sample_view(file)["phase"] == "empty"
    result = run_with_scores([0.2, 0.9]).result()
    file.write_text(json.dumps(result.to_dict()))
    assert run_view.read_record(file.read_text()).to_dict() == result.to_dict()
    view = run_view.sample_view(file)
    assert (view["phase"], view["winner"]["tag"]) == ("sample", "Winner of 2 · sample")


@pytest.mark.parametrize(
    ("score", "text"),
    [(0.98649, "0.986"), (1.0, "1.000"), (0.99996, "> 0.999"), (0.0001, "< 0.001"), (0.0, "0.000"), (-2.5, "−2.500")],
)
def test_scores_are_not_rounded_to_certainty(score, text):
    assert run_view.format_score(score) == text


def test_win_rate_is_not_rounded_to_certainty():
    assert [run_view.format_percent(n / (n + 1)) for n in (1, 16, 256, 4096)] == ["50%", "94%", "99.6%", "99.9%"]


@pytest.mark.parametrize("scores", [[-3.2, 1.7, 4.4], [5.0], [2.0, 2.0], [0.0012, 0.0019], [-1e6, 1e6]])
def test_an_axis_without_fixed_ends_contains_all_scores(scores):
    axis = run_view.score_axis(scores, "logit")
    assert axis.low < axis.high
    assert all(axis.low <= score <= axis.high for score in scores)
    assert 2 <= len(axis.ticks) <= 7
    assert (axis.ticks[0], axis.ticks[-1]) == (axis.low, axis.high)


def test_an_axis_without_scores_has_no_numbers():
    assert run_view.score_axis([], "logit").ticks == ()
    assert run_view.writing_view(run_with_scores([], n=2, unit="reward", target=None).result())["axis"]["ticks"] == []


def test_units_are_named():
    assert numbers.format_unit("probability", "POSITIVE") == "probability of positive"
    assert numbers.format_unit("logit", "LABEL_1") == "logit of label_1"
    assert numbers.format_unit("reward", None) == "reward"


def test_chips_name_model_scorer_and_device():
    engine = {"name": "embedded", "parameters": 4_812_032, "device": "cuda", "dtype": "torch.bfloat16"}
    assert run_view.chips(engine, "embedded sentiment") == [
        "model: embedded 4.8M", "scorer: embedded sentiment", "CUDA, bf16",
    ]
    assert [run_view.format_size(n) for n in (124_439_808, 1_700_000_000, 7_600)] == ["124M", "1.7B", "0.0M"]


def test_the_initial_form_has_no_faults():
    assert faults(form_inputs()) == {}
    settings = request_of(form_inputs(seed=" 7 ", scorer="logprob")).settings
    assert (settings.seed, settings.scorer, settings.n) == (7, "logprob", 16)
    assert request_of(form_inputs()).settings.seed is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("prompt", " \n"), ("n", 0), ("n", 257), ("n", None), ("n", 2.5), ("min_tokens", None), ("max_tokens", 0),
     ("temperature", 0), ("temperature", None), ("top_p", 0), ("top_p", 1.1), ("top_k", -1), ("seed", "-1"),
     ("seed", "7.5"), ("seed", "١٢x"), ("seed", str(2**53))],
)
def test_each_fault_is_found_at_its_field(field, value):
    assert list(faults(form_inputs(**{field: value}))) == [field]


def test_all_faults_are_found_at_once():
    faults_by_field = faults(form_inputs(prompt="", n=0, min_tokens=90, max_tokens=4, temperature=-1, seed="x"))
    assert set(faults_by_field) == {"prompt", "n", "min_tokens", "temperature", "seed"}


def test_the_validator_answers_for_every_input():
    answers = form_values.validate(form_inputs(n=0), Deployment())
    assert list(form_inputs()) == list(form_values.FIELDS)
    assert [answer["is_valid"] for answer in answers] == [name != "n" for name in form_values.FIELDS]


def test_snapshots_show_the_start_the_first_text_and_the_end_at_once():
    events = [Started("p", "lm", "judge", None, "score", Settings(n=1, seed=1), (500,))]
    events += [Wrote((Row(0, "w" * i, i),)) for i in range(1, 500)]
    seen = [(phase, result.candidates[0].tokens) for phase, result in updates.snapshots(iter(events), interval=3600)]
    assert seen == [("writing", 0), ("writing", 1)]
    assert len(list(updates.snapshots(iter(events), interval=0))) == 500


def test_no_held_back_update_is_lost_in_a_failure():
    def events():
        yield Started("This movie", "lm", "judge", "POSITIVE", "probability", Settings(n=2, seed=7), (10, 10))
        yield Ended(Candidate(0, " text", tokens=6, cap=10, ended="eos"))
        yield Scored(0, 0.5)
        raise RuntimeError("broken")

    results = []
    with pytest.raises(RuntimeError):
        results.extend(result for _, result in updates.snapshots(events(), interval=3600))
    assert results[-1].candidates[0].score == 0.5


def run_with_rejections():
    """A run of four candidates of which two were rejected, one of them with the highest score."""
    run = run_with_scores([0.6, 0.9, 0.2, 0.99], n=4)
    for i in (2, 3):
        run.candidates[i] = dataclasses.replace(run.candidates[i], ended="rejected", tokens=4, cap=30)
    return run.result()


def test_the_switch_for_early_rejection_drops_half_and_is_off_by_default():
    assert request_of(form_inputs()).settings.reject == 0
    assert request_of(form_inputs(reject=True)).settings.reject == 0.5


def test_rejected_candidates_are_marked_and_never_lead():
    view = run_view.done_view(run_with_rejections())
    assert [row["state"] for row in view["rows"]] == ["scored", "scored", "rejected", "rejected"]
    assert view["winner"]["index"] == 1
    assert view["winner"]["lift"] == ""
    only_dropped = run_with_scores([0.5], n=2)
    only_dropped.candidates[0] = dataclasses.replace(only_dropped.candidates[0], ended="rejected")
    assert run_view.writing_view(only_dropped.result())["winner"] is None


def test_after_early_rejection_the_facts_count_tokens_and_there_is_no_curve():
    result = run_with_rejections()
    view = run_view.done_view(result)
    assert view["curve"] is None
    assert view["mean"] is None
    values = {fact["label"]: fact["value"] for fact in view["facts"]}
    assert values["dropped unfinished"] == "2"
    assert values["tokens written"] == str(sum(c.tokens for c in result.candidates))
    assert values["tokens at full length"] == str(sum(c.cap for c in result.candidates))
    assert any("Early rejection dropped 2 of 4" in note for note in view["notes"])


def test_text_and_table_mark_rejected_candidates():
    result = run_with_rejections()
    assert str(result).count("(dropped after 4 tokens)") == 2
    assert result._repr_html_().count("(dropped after 4 tokens)") == 2


@pytest.mark.parametrize(("select", "tag", "label"), [
    ("best", "Winner of 3", "best of 3"), ("worst", "The worst of 3", "worst of 3"),
    ("soft", "Weighted draw from 3", "its place by score among 3"),
])
def test_each_selection_rule_has_its_labels(select, tag, label):
    run_state = RunState()
    settings = Settings(n=3, seed=1, select=select)
    run_state.add(Started("p", "lm", "judge", None, "score", settings, (5, 5, 5), uniform=0.99))
    for i, score in enumerate((0.2, 0.9, 0.5)):
        run_state.add(Ended(Candidate(i, f" text {i}", tokens=5, cap=5, ended="length")))
        run_state.add(Scored(i, score))
    view = run_view.done_view(run_state.result())
    assert view["winner"]["tag"] == tag
    assert view["facts"][0]["label"] == label
    assert len(view["facts"]) == 4
    headline = view["winner"]["score"]
    if select == "soft":
        assert (headline, view["facts"][0]["value"]) == ("0.500", "2")
        average = f"{estimates.soft_best([0.2, 0.9, 0.5], 0.1):.3f}"
        assert view["facts"][1]["value"] == average
        assert view["curve"]["caption"].endswith(f"a weighted draw scores {average} on average.")
    else:
        assert view["facts"][0]["value"] == view["curve"]["points"][-1][2] == headline
    assert view["curve"]["holds_winner"] == (select != "soft")


def test_the_caption_of_the_worst_says_how_the_expected_score_falls():
    view = run_view.done_view(run_with_scores([0.0, 1.0, 0.5, 0.5], select="worst").result())
    assert view["curve"]["caption"] == "The first 4 give 90% of the drop; all 4 give −0.500."
    text = str(run_with_scores([0.0, 1.0, 0.5, 0.5], select="worst").result())
    assert text.startswith("worst of 4")
    assert "the worst of 4 scores 0.000" in text


def test_a_log_entry_that_is_no_error_loses_its_values_above_the_level_of_information(caplog):
    error_log.keep_servers_quiet()
    caplog.set_level(logging.INFO, "asyncio")
    logging.getLogger("asyncio").info("Listening %s", "on port 1")
    logging.getLogger("asyncio").warning("Listening %s", "no more")
    assert caplog.messages == ["Listening on port 1", "Listening %s"]
