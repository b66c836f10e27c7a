"""The speed table: all programs do the same work, and its numbers are the measured ones."""

import json
from contextlib import ExitStack, nullcontext
from functools import cache

import pytest

import bon
from bon.bench import experiments, random_models, speed_table, timed_process
from bon.cli.main import main

TINY = {"tiny": (
    {"vocab_size": 60, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2},
    {"vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
)}


@pytest.fixture(scope="module", autouse=True)
def _tiny_sizes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_models, "SIZES", TINY)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with both models."""
    path = tmp_path_factory.mktemp("bench")
    random_models.save_random_models(path, "tiny")
    return path


@pytest.fixture
def _processes_started_once(workload, start_once, monkeypatch):
    """Starts each process once for all tests, since each takes seconds to import torch."""
    def process(program, requested, dtype):
        assert requested == workload
        return nullcontext(start_once(program, dtype))

    monkeypatch.setattr(speed_table, "TimedProcess", process)


@pytest.fixture(scope="module")
def workload(folder):
    return timed_process.Work(folder / "gpt2", folder / "distilbert", 3, 4, (3, 6))


@pytest.fixture(scope="module")
def start_once(workload):
    """Gives the process of a program, started on the first call."""
    with ExitStack() as stack:
        process = timed_process.TimedProcess
        yield cache(lambda program, dtype: stack.enter_context(process(program, workload, dtype)))


def test_a_text_has_as_many_tokens_for_the_scorer_as_for_the_generator(folder):
    from transformers import AutoTokenizer

    writer, judge = (AutoTokenizer.from_pretrained(folder / name) for name in ("gpt2", "distilbert"))
    ids = [5, 17, 59, 1, 1, 30]
    assert judge(writer.decode(ids))["input_ids"] == ids


@pytest.mark.usefixtures("_processes_started_once")
def test_the_command_prints_one_json_object_per_line_for_the_requested_work(folder, capsys):
    status = main(["bench", "--models", str(folder), "-n", "3", "--prompt-tokens", "4", "--lengths", "3,6",
                       "--dtype", "float32", "--json"])
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    assert status == 0
    assert (record["n"], record["prompt_tokens"], record["lengths"]) == (3, 4, [3, 6])
    assert len(record["seconds"]) == 2
    assert record["total"] == pytest.approx(sum(record["seconds"]), abs=1e-3)
    assert 0 < record["generation"] + record["scoring"] <= record["total"]
    assert (record["writes_in"], record["scores_in"]) == ("float32", "float32")


@pytest.mark.usefixtures("_processes_started_once")
def test_a_line_of_the_table_comes_from_alternating_turns_of_all_programs(workload):
    line, bf16_line = speed_table.lines("tiny", workload, ["float32", "bf16"], turns=3)
    assert bf16_line.types["writes_in"] == "bf16"
    assert line.total >= line.prefill + line.score > 0
    assert line.rate == pytest.approx(3 * 9 / (2 * line.prefill + 9 * line.step), rel=0.5)
    assert set(line.times_longer) == set(line.writes_longer) == set(line.memory_of_peers) == {"transformers"}
    header, separator, row = speed_table.markdown([line])
    assert header.count("|") == separator.count("|") == row.count("|")
    assert "tiny (float32, scored in float32)" in row


def test_turns_alternate_after_a_short_one_of_each(workload):
    order = []

    class Scripted:
        def __init__(self, name):
            self.name = name

        def turn(self, work):
            order.append((self.name, work.lengths))
            return {"queries": [{"total": 1.0}, {"total": 0.5}]}

    turns_by_process = timed_process.in_turns([Scripted("a"), Scripted("b")], workload, 3)
    assert order == [("a", (4,)), ("b", (4,)), *[("a", (3, 6)), ("b", (3, 6))] * 3]
    assert [len(turns) for turns in turns_by_process] == [3, 3]
    assert timed_process.seconds(turns_by_process[0][0]) == 1.5


def test_a_program_that_is_not_installed_is_an_error_that_names_it(workload):
    with pytest.raises(timed_process.PeerNotInstalled, match="trl_like"):
        timed_process.TimedProcess("trl_like", workload, "int8")


@pytest.mark.parametrize(("arguments", "message"), [
    (["--models", "nowhere"], "two models"), (["-n", "0"], "at least 1"), (["--lengths", "3,x"], "whole number"),
    (["--sizes", "huge"], "sizes must be"), (["--turns", "0"], "at least 1"),
    (["--users", "0"], "at least 1"),
])
def test_work_that_cannot_be_done_is_refused_in_one_line(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err
    assert err.count("\n") == 1


@pytest.fixture
def _one_prompt(monkeypatch):
    monkeypatch.setattr(experiments, "PROMPTS", ["This movie"])


@pytest.mark.usefixtures("_one_prompt")
def test_early_rejection_is_measured_against_plain_samples_of_equal_score():
    reports = []
    few, many = experiments.rejection(n=(4, 16), most=32, report=reports.append)
    assert few.tokens < many.tokens
    for measured in (few, many):
        assert (measured.plain is None) == (measured.saves is None)
        assert measured.plain is None or 1 <= measured.plain <= 32
    tokens_per_candidate = bon.best_of_n("This movie", n=32, seed=0).timing.tokens / 32
    assert few.saves == pytest.approx(few.plain * tokens_per_candidate / few.tokens)
    assert reports[-1].startswith("plain best of M")


@pytest.mark.usefixtures("_one_prompt")
def test_the_cost_of_a_number_type_is_none_for_float32_and_small_for_others():
    exact, bf16 = experiments.quality(dtypes=("float32", "bf16"), count=1)
    assert (exact.same_best, exact.lost) == (1.0, 0.0)
    assert abs(exact.kl) < 1e-9
    assert 0 < bf16.kl < 0.01
    assert bf16.lost >= 0


def test_concurrent_users_are_measured_against_the_same_users_one_after_another():
    measured = experiments.users(count=3, n=2, turns=1)
    assert (measured.users, measured.n) == (3, 2)
    assert measured.times == pytest.approx(measured.alone / measured.together)
