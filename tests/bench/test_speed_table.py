"""The speed table: everybody does the same work, and the figures are what was measured."""

import json
import sys
from contextlib import ExitStack, nullcontext
from functools import cache

import pytest

import bon
from bon.bench import experiments, random_models, speed_table
from bon.cli.main import main
from bon.errors import EngineError

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
def _begun_once(work, begun, monkeypatch):
    """Processes of the one work are started once for all tests: each takes seconds to import torch."""
    def process(program, given, dtype, python=sys.executable):
        assert (str(given.folder), given.n, given.prompt, given.lengths) == (str(work.folder), 3, 4, (3, 6))
        return nullcontext(begun(program, dtype, python))

    monkeypatch.setattr(speed_table, "TimedProcess", process)


@pytest.fixture(scope="module")
def work(folder):
    return speed_table.Work(folder, 3, 4, (3, 6))


@pytest.fixture(scope="module")
def begun(work):
    """Starts a process, where it has not started."""
    with ExitStack() as stack:
        real = speed_table.TimedProcess
        yield cache(lambda program, dtype, python: stack.enter_context(real(program, work, dtype, python)))


def test_a_texts_tokens_are_as_many_for_the_scorer_as_for_the_writer(folder):
    from transformers import AutoTokenizer

    writer, judge = (AutoTokenizer.from_pretrained(folder / name) for name in ("gpt2", "distilbert"))
    ids = [5, 17, 59, 1, 1, 30]
    assert judge(writer.decode(ids))["input_ids"] == ids


@pytest.mark.usefixtures("_begun_once")
def test_the_command_prints_one_object_a_line_for_exactly_the_work_asked_for(folder, capsys):
    status = main(["bench", "--models", str(folder), "-n", "3", "--prompt-tokens", "4", "--lengths", "3,6",
                       "--dtype", "float32", "--json"])
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert status == 0
    assert (told["n"], told["prompt_tokens"], told["lengths"]) == (3, 4, [3, 6])
    assert len(told["seconds"]) == 2
    assert told["total"] == pytest.approx(sum(told["seconds"]), abs=1e-3)
    assert 0 < told["generation"] + told["scoring"] <= told["total"]
    assert (told["writes_in"], told["scores_in"]) == ("float32", "float32")


@pytest.mark.usefixtures("_begun_once")
def test_a_line_of_the_table_comes_from_turns_of_everybody(work):
    line, other = speed_table.lines("tiny", work, ["float32", "bf16"], turns=3)
    assert other.types["writes_in"] == "bf16"
    assert line.total >= line.prefill + line.score > 0
    assert line.rate == pytest.approx(3 * 9 / (2 * line.prefill + 9 * line.step), rel=0.5)
    assert set(line.times_longer) == set(line.writes_longer) == set(line.memory_of_peers) == {"transformers"}
    head, under, row = speed_table.markdown([line])
    assert head.count("|") == under.count("|") == row.count("|")
    assert "tiny (float32, scored in float32)" in row


def test_turns_alternate_and_ratios_are_of_neighbours():
    order = []

    class Scripted:
        def __init__(self, name):
            self.name = name

        def turn(self):
            order.append(self.name)
            return {"queries": [{"total": 1.0}, {"total": 0.5}]}

    taken = speed_table.in_turns([Scripted("a"), Scripted("b")], 3)
    assert order == ["a", "b"] * 3
    assert [len(turns) for turns in taken] == [3, 3]
    assert speed_table.seconds(taken[0][0]) == 1.5


def test_a_program_that_cannot_run_is_an_error_that_names_it(folder):
    bare = getattr(sys, "_base_executable", sys.executable)  # of a virtual environment: without packages
    with pytest.raises(EngineError, match="ctranslate2"):
        speed_table.TimedProcess("ctranslate2", speed_table.Work(folder, 2, 4), "int9", bare)


@pytest.mark.parametrize(("arguments", "said"), [
    (["--models", "nowhere"], "two models"), (["-n", "0"], "at least 1"), (["--lengths", "3,x"], "whole number"),
    (["--sizes", "huge"], "sizes must be"), (["--turns", "0"], "at least 1"),
    (["--users", "0"], "at least 1"),
])
def test_work_that_cannot_be_done_is_refused_in_one_line(arguments, said, capsys):
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert said in err
    assert err.count("\n") == 1


@pytest.fixture
def _one_prompt(monkeypatch):
    monkeypatch.setattr(experiments, "PROMPTS", ["This movie"])


@pytest.mark.usefixtures("_one_prompt")
def test_early_rejection_is_measured_against_plain_samples_of_equal_worth():
    said = []
    few, many = experiments.rejection(n=(4, 16), most=32, report=said.append)
    assert few.tokens < many.tokens
    for found in (few, many):
        assert (found.plain is None) == (found.saves is None)
        assert found.plain is None or 1 <= found.plain <= 32
    each = bon.best_of_n("This movie", n=32, seed=0).timing.tokens / 32
    assert few.saves == pytest.approx(few.plain * each / few.tokens)
    assert said[-1].startswith("plain best of M")


@pytest.mark.usefixtures("_one_prompt")
def test_the_cost_of_a_number_type_is_none_for_float32_and_small_for_others():
    exact, bf16 = experiments.quality(dtypes=("float32", "bf16"), count=1)
    assert (exact.same_best, exact.lost) == (1.0, 0.0)
    assert abs(exact.kl) < 1e-9
    assert 0 < bf16.kl < 0.01
    assert bf16.lost >= 0


def test_callers_at_once_are_measured_against_the_same_callers_in_turn():
    found = experiments.users(count=3, n=2, turns=1)
    assert (found.users, found.n) == (3, 2)
    assert found.times == pytest.approx(found.alone / found.together)
