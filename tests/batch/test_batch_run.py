"""Batches: every row is processed exactly once, through interruptions, failures and changes of files."""

import csv
import json
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stdout
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import pyarrow.parquet
import pytest
import torch

from bon import api
from bon.batch import batch_run, export_formats, resume_journal
from bon.batch.batch_run import Finished, Progress, Task
from bon.batch.input_rows import Dataset, Row
from bon.cli.batch_command import describe_progress
from bon.cli.main import main
from bon.engines.local.engine import LocalEngine
from bon.errors import BonError, EngineError, InputError
from bon.messages import say
from bon.scorers.callable_scorer import CallableScorer
from bon.settings import Settings
from tests.support import tiny
from tests.support.processes import HEED

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(n=4, seed=7, min_tokens=2, max_tokens=8)
PROMPTS = ["This movie", "The plot of the film", "The hotel room", "This movie", "I was surprised that"]


def write_rows(folder: Path) -> Path:
    """Writes 150 rows, of which some prompts are equal, to a file in the folder."""
    rows = ({"id": i, "prompt": f"{PROMPTS[i % 5]}{' was' * (i % 3)}"} for i in range(150))
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "in.jsonl"


@pytest.fixture
def file(tmp_path) -> Path:
    """150 rows, of which some prompts are equal."""
    return write_rows(tmp_path)


@pytest.fixture(scope="module")
def scorer(classifier_folder):
    return api.as_scorer(classifier_folder)


def run_to_end(task: Task, engine, scorer) -> Finished:
    *_, end = batch_run.stream(task, engine, scorer)
    return end


@pytest.fixture(scope="module")
def complete_output(engine, scorer, tmp_path_factory):
    """The output of an uninterrupted run over the 150 rows, or the first ones, in a form; made once for each."""
    @cache
    def complete_output(form=export_formats.BEST, rows: int = 150) -> bytes:
        file = write_rows(tmp_path_factory.mktemp("whole"))
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:rows]))
        run_to_end(task_of(file, format=form), engine, scorer)
        return file.with_name("out.jsonl").read_bytes()

    return complete_output


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def task_of(file: Path, skip_bad: bool = False, **options) -> Task:
    options = {"settings": SETTINGS, "output": file.with_name("out.jsonl"), **options}
    return Task(Dataset(file, skip_bad=skip_bad), **options)


def test_each_row_gets_the_result_of_a_single_run(file, engine, scorer):
    from bon import flow
    from bon.settings import Request

    end = run_to_end(task_of(file), engine, scorer)
    out = read_lines(file.with_name("out.jsonl"))
    assert (end.rows, end.written, end.failed, len(out)) == (150, 150, 0, 150)
    for number in (0, 3, 64, 149):
        request = Request(out[number]["prompt"], SETTINGS, query=number)
        alone = flow.run(request, engine, scorer)
        assert (out[number]["id"], out[number]["completion"]) == (number, alone.best.text)
        assert out[number]["score"] == pytest.approx(alone.best.score, abs=1e-4)
        assert out[number]["mean_score"] == pytest.approx(alone.stats.mean, abs=1e-4)
    assert out[0]["completion"] != out[15]["completion"]  # equal prompts have different random streams


def test_progress_events_count_rows_and_estimate_the_time(file, engine, scorer):
    *events, end = batch_run.stream(task_of(file), engine, scorer)
    assert [event.done for event in events] == [0, 64, 128, 150]
    assert all(isinstance(event, Progress) and event.rows == 150 for event in events)
    assert (events[0].rate, events[0].seconds_left) == (None, None)
    assert events[2].seconds_left == pytest.approx(22 / events[2].rate)
    assert isinstance(end, Finished)
    assert end.plan["seed"] == 7


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_every_format_has_the_same_rows(file, engine, scorer, complete_output, name):
    expected = [json.loads(line) for line in complete_output().splitlines()]
    path = file.with_name(name)
    run_to_end(task_of(file, output=path), engine, scorer)
    if name.endswith("parquet"):
        written = pyarrow.parquet.read_table(path).to_pylist()
    elif name.endswith("csv"):
        with open(path, newline="", encoding="utf-8") as csv_file:
            written = [{**row, "id": int(row["id"])} for row in csv.DictReader(csv_file)]
        assert [row["completion"].lstrip("'") for row in written] == [row["completion"].lstrip("'") for row in expected]
        written, expected = ([row["id"] for row in rows] for rows in (written, expected))
    else:
        written = read_lines(path)
    assert written == expected


def test_the_journal_is_deleted_once_the_output_exists(file, engine, scorer):
    events = batch_run.stream(task_of(file), engine, scorer)
    next(events)
    assert resume_journal.journal_path(file.with_name("out.jsonl")).exists()
    assert not file.with_name("out.jsonl").exists()
    for _ in events:
        pass
    assert sorted(path.name for path in file.parent.iterdir()) == ["in.jsonl", "out.jsonl"]


# Interrupted and resumed.


def stop_after(task: Task, engine, scorer, count: int) -> None:
    events = batch_run.stream(task, engine, scorer)
    for _ in range(count):
        next(events)
    events.close()


FORMATS = [export_formats.BEST, *export_formats.TRAINING_FORMATS.values()]


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_a_stopped_run_resumes_to_the_same_bytes(file, engine, scorer, complete_output, form):
    parts = file.with_name("parts.jsonl")
    stop_after(task_of(file, output=parts, format=form), engine, scorer, 2)
    events = list(batch_run.stream(task_of(file, output=parts, format=form, resume=True), engine, scorer))
    assert [event.done for event in events[:-1]] == [64, 128, 150]
    assert events[-2].done_now == 86
    assert parts.read_bytes() == complete_output(form)


@pytest.mark.parametrize("cut", [0, 1, 40, -1, -30, -3000])
def test_a_journal_that_is_cut_anywhere_is_repaired(file, engine, scorer, complete_output, cut):
    parts = file.with_name("parts.jsonl")
    stop_after(task_of(file, output=parts), engine, scorer, 3)
    journal = resume_journal.journal_path(parts)
    journal.write_bytes(journal.read_bytes()[:cut])
    run_to_end(task_of(file, output=parts, resume=True), engine, scorer)
    assert parts.read_bytes() == complete_output()


def test_invalid_lines_at_the_end_of_a_journal_are_cut_off(file, engine, scorer, complete_output):
    parts = file.with_name("parts.jsonl")
    stop_after(task_of(file, output=parts), engine, scorer, 2)
    with open(resume_journal.journal_path(parts), "ab") as opened:
        opened.write(b'{"row": 64}\n{"row": 66}\n' + bytes(100) + b"\n")
    run_to_end(task_of(file, output=parts, resume=True), engine, scorer)
    assert parts.read_bytes() == complete_output()


def test_a_run_without_a_seed_is_resumed_with_its_drawn_seed(file, engine, scorer):
    without_seed = Settings(n=4, min_tokens=2, max_tokens=8)
    stop_after(task_of(file, settings=without_seed), engine, scorer, 2)
    seed = run_to_end(task_of(file, settings=without_seed, resume=True), engine, scorer).plan["seed"]
    out = file.with_name("out.jsonl").read_bytes()
    with_seed = Settings(n=4, min_tokens=2, max_tokens=8, seed=seed)
    run_to_end(task_of(file, settings=with_seed, overwrite=True), engine, scorer)
    assert file.with_name("out.jsonl").read_bytes() == out


def test_a_run_is_not_resumed_with_other_settings_and_they_are_named(file, engine, scorer):
    stop_after(task_of(file), engine, scorer, 2)
    journal = resume_journal.journal_path(file.with_name("out.jsonl")).read_bytes()
    other_settings = Settings(n=2, seed=7, min_tokens=2, max_tokens=8, temperature=0.5)
    with pytest.raises(InputError, match=r"n was 4 and is 2; temperature was 1\.0 and is 0\.5\. "):
        run_to_end(task_of(file, settings=other_settings, resume=True), engine, scorer)
    file.write_text(file.read_text() + '{"prompt": "x"}\n')
    with pytest.raises(InputError, match=r"SHA-256.*rows was 150 and is 151"):
        run_to_end(task_of(file, resume=True), engine, scorer)
    assert resume_journal.journal_path(file.with_name("out.jsonl")).read_bytes() == journal


def test_two_runs_cannot_write_the_same_output(file, engine, scorer):
    events = batch_run.stream(task_of(file), engine, scorer)
    next(events)
    with pytest.raises(InputError, match="Another run"):
        run_to_end(task_of(file, resume=True), engine, scorer)
    events.close()


def test_an_existing_output_is_only_overwritten_on_request(file, engine, scorer):
    out = file.with_name("out.jsonl")
    stop_after(task_of(file), engine, scorer, 2)
    with pytest.raises(InputError, match=r"unfinished run\. .* --resume, .* --overwrite\."):
        task_of(file)
    resume_journal.journal_path(out).unlink()
    out.write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        task_of(file)
    assert task_of(file, resume=True).complete
    stop_after(task_of(file, overwrite=True), engine, scorer, 2)
    assert out.read_text() == "mine"
    run_to_end(task_of(file, resume=True), engine, scorer)
    assert len(read_lines(out)) == 150


def test_an_input_that_changes_during_the_run_is_an_error(file, engine, scorer):
    events = batch_run.stream(task_of(file), engine, scorer)
    next(events)
    file.write_text(file.read_text().replace("hotel", "motel"))
    with pytest.raises(BonError, match="changed after the run began"):
        list(events)


EDITS = {
    "prompts": lambda rows: [row.replace("hotel", "motel") for row in rows],
    "order": lambda rows: [rows[1], rows[0], *rows[2:]],
    "a row less": lambda rows: rows[1:],
    "a row more": lambda rows: [*rows, rows[0]],
    "chats": lambda rows: [row.replace('"This movie"', '[{"role": "user", "content": "x"}]') for row in rows],
    "unreadable": lambda rows: [row if i % 7 else "{" for i, row in enumerate(rows)],
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("back", [False, True], ids=["at the end", "on the way"])
def test_results_of_rows_that_had_changed_are_made_again(file, engine, scorer, complete_output, edit, back):
    rows = file.read_text().splitlines()[:80]
    file.write_text(before := "\n".join(rows))
    events = batch_run.stream(task_of(file, skip_bad=True), engine, scorer)
    next(events)
    with open(file, "r+") as opened:  # in place, as some editors write, and before the first row is read again
        opened.write("\n".join(EDITS[edit](rows)))
        opened.truncate()
    if back:
        next(events)
        file.write_text(before)
    with pytest.raises(BonError, match=r"Restore the file and continue with --resume"):
        list(events)
    file.write_text(before)
    run_to_end(task_of(file, resume=True, skip_bad=True), engine, scorer)
    assert file.with_name("out.jsonl").read_bytes() == complete_output(rows=80)


def test_groups_before_the_first_changed_row_are_kept(file, engine, scorer, complete_output):
    parts = file.with_name("parts.jsonl")
    stop_after(task_of(file, output=parts), engine, scorer, 4)
    journal = resume_journal.journal_path(parts)
    records = journal.read_text().splitlines(keepends=True)
    digest = json.loads(records[101])["digest"]
    journal.write_text("".join(line.replace(digest, "of other rows") for line in records))
    start, *_ = batch_run.stream(task_of(file, output=parts, resume=True), engine, scorer)
    assert start.done == 64
    assert parts.read_bytes() == complete_output()


def test_an_input_that_is_missing_at_the_end_can_be_restored(file, engine, scorer, complete_output):
    events, content = batch_run.stream(task_of(file), engine, scorer), file.read_text()
    for _ in range(4):
        next(events)
    file.unlink()
    with pytest.raises(BonError, match="Restore the file"):
        next(events)
    file.write_text(content)
    start, *_ = batch_run.stream(task_of(file, resume=True), engine, scorer)
    assert start.done == 150
    assert file.with_name("out.jsonl").read_bytes() == complete_output()


def test_a_journal_without_digests_is_refused_as_of_an_older_version(file, engine, scorer):
    stop_after(task_of(file), engine, scorer, 2)
    journal = resume_journal.journal_path(file.with_name("out.jsonl"))
    plan, *records = map(json.loads, journal.read_text().splitlines())
    for record in records:
        del record["digest"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in (plan, *records)))
    with pytest.raises(InputError, match=r"older version of bon, .* Start over with --overwrite\."):
        run_to_end(task_of(file, resume=True), engine, scorer)


# Output files and links.


@pytest.fixture
def one_row(tmp_path, monkeypatch) -> Path:
    """A file of one row in the current folder of the test."""
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"prompt": "This movie"}\n')
    return Path("in.jsonl")


def test_an_output_that_is_a_link_stays_one_and_its_target_is_written(one_row, engine, scorer):
    Path("far").mkdir()
    for link, target in (("there.jsonl", "far/real.jsonl"), ("new.jsonl", "far/none yet.jsonl")):
        Path(link).symlink_to(target)
    Path("far/real.jsonl").write_text("old\n")
    for link in ("there.jsonl", "new.jsonl"):
        run_to_end(task_of(one_row, output=Path(link), overwrite=link == "there.jsonl"), engine, scorer)
        assert Path(link).is_symlink()
    assert {len(read_lines(path)) for path in Path("far").iterdir()} == {1}
    assert sorted(map(str, Path().iterdir())) == ["far", "in.jsonl", "new.jsonl", "there.jsonl"]


def rename_to_failures_file(file: Path) -> Path:
    return file.rename("out.jsonl.failed.jsonl")


def link_input_as(name: str, make):
    def prepare(file: Path) -> Path:
        make(file, name)
        return file

    return prepare


@pytest.mark.parametrize("prepare", [
    rename_to_failures_file, link_input_as("out.jsonl", os.link), link_input_as("out.jsonl", os.symlink),
    link_input_as("out.jsonl.partial", os.symlink), link_input_as("out.jsonl.partial", os.link),
    link_input_as("out.jsonl.writing", os.symlink), link_input_as("out.jsonl.failed.jsonl", os.link),
])
def test_no_written_file_may_be_a_link_to_the_input(one_row, prepare):
    path = prepare(one_row)
    for mode in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(InputError, match="is also the input"):
            task_of(path, output=Path("out.jsonl"), format=export_formats.SFT, **mode)
    assert path.read_text() == '{"prompt": "This movie"}\n'


def test_a_list_of_failures_is_only_overwritten_on_request_where_the_form_has_one(one_row, engine, scorer):
    notes = Path("out.jsonl.failed.jsonl")
    notes.write_text("mine")
    with pytest.raises(InputError, match=r"out\.jsonl\.failed\.jsonl already exists"):
        task_of(one_row, format=export_formats.SFT)
    run_to_end(task_of(one_row), engine, scorer)
    assert notes.read_text() == "mine"


def make_pipe() -> str:
    os.mkfifo("pipe")
    return "pipe"


@pytest.mark.parametrize(("name", "make", "message"), [
    ("x" * 245 + ".jsonl", None, "too long"), ("é" * 125 + ".jsonl", None, "too long"),
    ("x" * 236 + ".jsonl", None, "too long"), ("y/" * 2100 + "x.jsonl", None, "too long"),
    ("out.jsonl", make_pipe, "not a regular file"), ("out.jsonl", lambda: "out.jsonl", "not a regular file"),
    ("out.jsonl", lambda: "none/x.jsonl", "folder does not exist"), ("out.jsonl", lambda: ".", "not a regular file"),
    ("in.jsonl/out.jsonl", None, "folder does not exist"),
])
def test_an_impossible_output_is_refused_before_any_work(one_row, name, make, message):
    if make:
        os.symlink(make(), name)
    with pytest.raises(InputError, match=message):
        task_of(one_row, output=Path(name), format=export_formats.SFT, overwrite=True)
    assert not set(map(str, Path().iterdir())) - {"in.jsonl", "out.jsonl", "pipe"}


@pytest.mark.skipif(sys.platform != "linux", reason="/sys, in which nobody makes files")
def test_a_folder_without_write_access_is_refused_before_models_are_loaded(one_row, run_command, monkeypatch):
    monkeypatch.setattr("bon.api.load", None)
    os.symlink("/sys/out.jsonl", "link.jsonl")
    for name in ("/sys/out.jsonl", "link.jsonl"):
        status, out, err = run_command("in.jsonl", name)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert f"{name}, or a file that the run needs beside it, cannot be written" in err


def test_the_longest_possible_name_is_written(one_row, engine, scorer):
    for length, form in ((247, export_formats.BEST), (234, export_formats.SFT)):
        name = "x" * (length - 6) + ".jsonl"
        run_to_end(task_of(one_row, output=Path(name), format=form), engine, scorer)
        assert len(read_lines(Path(name))) == 1


# Labels.


@pytest.mark.parametrize("keep", [None, 2])
def test_labels_after_early_rejection_compare_with_the_mean_of_the_survivors(file, engine, scorer, keep):
    settings = Settings(n=8, seed=7, min_tokens=8, max_tokens=16, reject=0.5, keep=keep)
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:24]))
    end = run_to_end(task_of(file, format=export_formats.SCORED, settings=settings), engine, scorer)
    by_row = {}
    for row in read_lines(file.with_name("out.jsonl")):
        by_row.setdefault(row["row"], []).append((row["score"], row["label"]))
    assert len(by_row) > 12
    assert len(by_row) + sum(end.left_out.values()) == 24
    for labelled in by_row.values():
        assert labelled[0][1] is True
        if keep is None:
            mean = sum(score for score, _ in labelled) / len(labelled)
            assert all(label == (score > mean) for score, label in labelled)
            assert labelled[-1][1] is False
    assert all(len(labelled) <= (keep or 8) for labelled in by_row.values())


def test_numbers_that_json_lacks_are_null_in_jsonl_and_stay_in_parquet(tmp_path, engine, scorer):
    path, infinite = tmp_path / "in.parquet", float("inf")
    values = [float("nan"), 0.5]
    pyarrow.parquet.write_table(pyarrow.table({
        "prompt": PROMPTS[:2], "rating": values, "each": [[infinite, 1.0], []], "all": [{"x": -infinite}, {"x": 2.0}],
    }), path)
    for form in (export_formats.BEST, export_formats.SCORED):
        for ending in (".jsonl", ".parquet"):
            run_to_end(task_of(path, output=tmp_path / f"{form.name}{ending}", format=form), engine, scorer)
        json_rows = [json.loads(line, parse_constant=pytest.fail) for line in
                     (tmp_path / f"{form.name}.jsonl").read_text().splitlines()]
        assert [json_rows[0][name] for name in ("rating", "each", "all")] == [None, [None, 1.0], {"x": None}]
        parquet_rows = pyarrow.parquet.read_table(tmp_path / f"{form.name}.parquet").to_pylist()
        assert str([parquet_rows[0][name] for name in ("rating", "each", "all")]) == "[nan, [inf, 1.0], {'x': -inf}]"

# Rows that fail.


def test_bad_rows_fail_alone_and_do_not_change_the_others(file, engine, scorer, complete_output):
    good, expected = read_lines(file), [json.loads(line) for line in complete_output().splitlines()]
    bad = {2: {"prompt": ""}, 5: {"prompt": "word " * 400}, 70: {"id": 5}, 71: {"prompt": 7},
           72: {"messages": [{"role": "user", "content": "x"}], "prompt": [{"role": "user", "content": "x"}]}}
    file.write_text("".join(json.dumps(bad.get(i, row)) + "\n" for i, row in enumerate(good)))
    end = run_to_end(task_of(file), engine, scorer)
    rows = read_lines(file.with_name("out.jsonl"))
    assert {i for i, row in enumerate(rows) if row["error"]} == set(bad)
    assert end.failed == 5
    assert end.errors[2].startswith("The prompt is empty")
    assert "The prompt has" in end.errors[5]
    assert "no chat template" in rows[72]["error"]
    unchanged = [i for i in range(150) if i not in bad]
    assert [rows[i]["completion"] for i in unchanged] == [expected[i]["completion"] for i in unchanged]


def test_a_scorer_that_fails_on_a_row_fails_only_that_row(file, engine):
    def fussy(texts):
        if any(text.startswith("The hotel") for text in texts):
            raise ValueError("no hotels")
        return [float(len(text)) for text in texts]

    file.write_text("".join(file.read_text().splitlines(keepends=True)[:50]))
    end = run_to_end(task_of(file), engine, CallableScorer(fussy))
    assert (end.rows, end.failed) == (50, 10)
    assert all(("hotel" in row["prompt"]) == ("no hotels" in (row["error"] or "")) for row in
               read_lines(file.with_name("out.jsonl")))


def test_rows_that_failed_are_listed_beside_training_data(file, engine, scorer):
    file.write_text('{"prompt": "This movie"}\n{"prompt": ""}\n')
    end = run_to_end(task_of(file, format=export_formats.SFT), engine, scorer)
    assert (end.written, end.left_out) == (1, {"failed": 1})
    (line,) = read_lines(batch_run.failures_path(file.with_name("out.jsonl")))
    assert line["row"] == 1
    assert line["error"].startswith("The prompt is empty")
    file.write_text('{"prompt": "This movie"}\n')
    run_to_end(task_of(file, format=export_formats.SFT, overwrite=True), engine, scorer)
    assert not batch_run.failures_path(file.with_name("out.jsonl")).exists()


class VanishingServer:
    """An engine whose server stops answering after a number of calls."""

    def __init__(self, engine, calls: int):
        self._engine, self._calls = engine, calls

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def generate(self, jobs):
        self._calls -= 1
        if self._calls < 0:
            raise EngineError("The server is gone.")
        yield from self._engine.generate(jobs)


def test_an_engine_that_fails_on_every_row_stops_the_run_which_can_be_resumed(file, engine, scorer):
    with pytest.raises(EngineError, match="gone"):
        run_to_end(task_of(file), VanishingServer(engine, 1), scorer)
    end = run_to_end(task_of(file, resume=True), engine, scorer)
    assert (end.rows, end.failed) == (150, 0)


def test_a_scorer_that_fails_on_every_row_stops_the_run_which_can_be_resumed(file, engine):
    failing = []

    def rate(texts):
        if failing:
            raise EngineError("The scorer is gone.")
        return [float(len(text)) for text in texts]

    scorer = CallableScorer(rate)
    events = batch_run.stream(task_of(file), engine, scorer)
    assert [next(events).done for _ in range(2)] == [0, 64]
    failing.append(True)
    with pytest.raises(EngineError, match="gone"):
        next(events)
    failing.clear()
    end = run_to_end(task_of(file, resume=True), engine, scorer)
    assert (end.rows, end.failed) == (150, 0)


def test_the_work_on_a_group_of_rows_can_be_pickled():
    group = batch_run.Group([Row(3, "a", columns={"id": 1}), Row(4, error="bad")], [Row(5, "b")])
    assert pickle.loads(pickle.dumps((batch_run.make_records, group, SETTINGS, export_formats.PREFERENCE)))[1] == group


# `bench --batch` measures memory and speed; these tests check what they depend on.


def test_scores_come_in_one_call_per_group(file, engine, scorer, monkeypatch):
    calls = []
    score = type(scorer).score
    monkeypatch.setattr(type(scorer), "score", lambda self, items: calls.append(len(items)) or score(self, items))
    monkeypatch.setattr(type(scorer), "rates_empty", True)  # a tiny model's texts are often empty
    run_to_end(task_of(file), engine, scorer)
    assert calls == [256, 256, 88]


# The command line.


#: The notes on the texts of a tiny model: random bytes, some of which begin a character, and empty texts.
NOTES = re.compile(re.escape(f"bon: {say('note.character_cut')}\n")
                   + r"bon: In \d+ rows some texts are empty: they have no score and cannot win\.\n")


@pytest.fixture
def run_command(capsys, lm_folder, classifier_folder):
    """`python -m bon batch` on tiny models: status, standard output and standard error."""
    def run_command(*argv) -> tuple[int, str, str]:
        capsys.readouterr()
        models = ("--model", lm_folder, "--scorer", classifier_folder, "--max-tokens", "8", "-n", "4", "--seed", "7")
        status = main(["batch", *map(str, argv), *models])
        return status, *capsys.readouterr()

    return run_command


def test_the_command_reports_its_rows_and_seed(file, run_command, tmp_path):
    status, out, err = run_command(file, tmp_path / "out.csv")
    assert status == 0
    *notes, on_csv = err.splitlines(keepends=True)
    assert NOTES.fullmatch("".join(notes))
    assert "begin with an apostrophe" in on_csv
    assert "out.csv: 150 rows from 150 prompts (seed 7)" in out
    assert "nothing to resume" in run_command(file, tmp_path / "out.csv", "--resume")[1]


def test_failed_rows_are_named_and_give_exit_status_1(run_command, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "This movie"}\n{"prompt": \n{"prompt": ""}\n')
    assert run_command(tmp_path / "in.jsonl", tmp_path / "o.jsonl")[::2] == (
        2, f"bon: {tmp_path}/in.jsonl: line 2 is not JSON (Expecting value, column 11). Correct it, or skip such rows "
        "with --skip-bad.\n")
    status, out, err = run_command(tmp_path / "in.jsonl", tmp_path / "o.jsonl", "--skip-bad")
    assert status == 1
    assert "3 rows from 3 prompts" in out
    assert "row 1 failed: line 2 is not JSON" in err
    assert "2 of 3 rows failed" in err
    assert [bool(row["error"]) for row in read_lines(tmp_path / "o.jsonl")] == [False, True, True]


def test_a_dry_run_describes_the_input_and_writes_nothing(run_command, file, tmp_path):
    status, out, err = run_command(file, tmp_path / "out.jsonl", "--dry-run")
    assert (status, err) == (0, "")
    assert "150 rows; columns: id, prompt" in out
    assert "0: This movie" in out
    assert "take about" in out
    assert list(tmp_path.iterdir()) == [file]


def test_the_command_writes_preferences(run_command, file, tmp_path):
    status, out, err = run_command(file, tmp_path / "out.jsonl", "--as", "preference", "--margin", "0.01")
    assert status == 0
    assert NOTES.fullmatch(err)
    pairs = read_lines(tmp_path / "out.jsonl")
    assert all(pair["margin"] >= 0.01 for pair in pairs)
    left_out = 150 - len(pairs)
    assert left_out == 0 or f": {left_out}" in out


@pytest.mark.parametrize(("argv", "message"), [
    (["in.jsonl", "out.txt"], ".jsonl"), (["in.jsonl", "none/out.jsonl"], "folder"),
    (["in.jsonl", "in.jsonl"], "also the input"),
    (["none.csv", "out.csv"], "no file"), (["in.jsonl", "out.csv", "--margin", "1"], "--as preference"),
    (["in.jsonl", "out.csv", "--as", "dpo"], "invalid choice"), (["in.jsonl", "out.csv", "--keep", "2"], "--as scored"),
    (["in.jsonl", "out.csv", "--resume", "--overwrite"], "not allowed"),
    (["in.jsonl", "out.csv", "--prompt-column", "x"], "id, prompt"),
    (["in.jsonl", "out.csv", "--push-to-hub", "x"], "USER/DATASET"),
])
def test_a_command_that_cannot_work_is_refused_in_one_line(run_command, file, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = run_command(*argv)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_progress_is_described_in_words():
    assert describe_progress(Progress(0, 150, 0, 0, 0.0)) == "0 of 150 rows "
    assert describe_progress(Progress(1064, 10_000, 2, 1000, 20.0)) == (
        "1,064 of 10,000 rows, 2 failed, 50.0 rows/s, 3 min left ")


def has_grown_beyond(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size > size


def command_on_embedded_models(file: Path, out: Path, *more: str) -> list[str]:
    """The arguments of the command on the embedded models."""
    return ["batch", str(file), str(out), "-n", "8", "--max-tokens", "12", "--seed", "7", *more]


def run_silently(argv: list[str]) -> None:
    """Runs the command with its output discarded, in a process of its own."""
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        sys.exit(main(argv))


#: When to kill: bytes that the journal has grown by, and seconds after that; before, between and within groups.
MOMENTS = [(-1, 0.0), (0, 0.0), (3000, 0.1), (6000, 0.3)]


def test_a_run_that_is_killed_repeatedly_ends_with_the_same_bytes(file, tmp_path):
    """The processes fork from one that has imported torch, which takes seconds."""
    expected, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    journal, killed_alive = resume_journal.journal_path(parts), 0
    assert main(command_on_embedded_models(file, expected)) == 0
    processes = get_context("forkserver")
    processes.set_forkserver_preload(["bon.cli.batch_command", "bon.api", "transformers"])
    for growth, pause in MOMENTS:
        size_before = journal.stat().st_size if journal.exists() else 0
        process = processes.Process(target=run_silently, args=(command_on_embedded_models(file, parts, "--resume"),))
        process.start()
        while process.is_alive() and growth >= 0 and not has_grown_beyond(journal, size_before + growth):
            time.sleep(0.01)
        time.sleep(pause)
        killed_alive += process.is_alive()
        process.kill()
        process.join()
    assert killed_alive >= 2
    assert main(command_on_embedded_models(file, parts, "--resume")) == 0
    assert parts.read_bytes() == expected.read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_matrix_products_do_not_depend_on_the_number_of_threads():
    """So that a batch gives the same result with one core for each worker as with all cores for one."""
    weight, rows = torch.randn(64, 256), torch.randn(7, 256)  # 7: two threads would take 3 and 4
    before = torch.get_num_threads()
    try:
        products = [(torch.set_num_threads(n), torch.nn.functional.linear(rows, weight))[1] for n in (1, 2, 3)]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(products[0], product) for product in products)


def test_ctrl_c_keeps_the_finished_rows(file, tmp_path):
    out = tmp_path / "out.jsonl"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "bon", *command_on_embedded_models(file, out)], cwd=ROOT, env=env,
                               stderr=subprocess.PIPE, text=True, preexec_fn=HEED)
    while process.poll() is None and not has_grown_beyond(resume_journal.journal_path(out), 2000):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "of 150 rows are kept" in err
    assert "--resume" in err
    assert not out.exists()


@contextmanager
def file_size_limit(size: int):
    """A context in which no file may grow beyond this number of bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("when", ["journal", "output"])
def test_a_full_disk_is_an_error_and_the_finished_rows_are_kept(file, engine, scorer, complete_output, when):
    parts = file.with_name("parts.jsonl")
    events = batch_run.stream(task_of(file, output=parts), engine, scorer)
    for _ in range(2 if when == "journal" else 4):
        progress = next(events)
    room = resume_journal.journal_path(parts).stat().st_size + 100 if when == "journal" else 5000
    with file_size_limit(room), pytest.raises(BonError, match=r"could not be written .* --resume"):
        next(events)
    assert not parts.exists()
    assert not list(file.parent.glob("*.writing"))
    start, *_ = batch_run.stream(task_of(file, output=parts, resume=True), engine, scorer)
    assert start.done == progress.done
    assert parts.read_bytes() == complete_output()


def test_the_command_loads_no_torch_to_parse_its_arguments():
    code = "import sys, bon.cli.batch_command; print({'torch', 'gradio', 'pyarrow'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "set()"


@pytest.fixture(scope="module")
def chatty():
    """A chat model."""
    model, tokenizer = tiny.gpt2(), tiny.tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    return LocalEngine(model, tokenizer, name="chatty")


def test_each_row_of_a_mixed_file_gets_the_values_of_its_kind_also_after_a_stop(tmp_path, chatty, scorer):
    file = tmp_path / "in.jsonl"
    rows = [{"prompt": [{"role": "user", "content": "Hi"}]}, {"prompt": "This movie"}] * 33
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = Settings(n=2, seed=7, temperature=1.0)

    def task(name: str, **options) -> Task:
        return Task(Dataset(file), tmp_path / name, settings, **options)

    end = run_to_end(task("whole.jsonl"), chatty, scorer)
    assert (end.plan["min_tokens"], end.plan["max_tokens"], end.plan["temperature"]) == (None, None, 1.0)
    written = read_lines(tmp_path / "whole.jsonl")
    of_chats, of_texts = ([row["tokens"] for row in written if isinstance(row["prompt"], kind)] for kind in (list, str))
    assert max(of_chats) > 32 >= max(of_texts)

    events = batch_run.stream(task("cut.jsonl"), chatty, scorer)
    next(events), next(events)
    events.close()
    run_to_end(task("cut.jsonl", resume=True), chatty, scorer)
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_chats_and_prompts_may_be_mixed(tmp_path, chatty, scorer):
    chat = [{"role": "user", "content": "Is the movie good?"}]
    rows = [{"prompt": "The plot"}, {"prompt": chat}, {"prompt": "The plot"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = Task(Dataset(tmp_path / "in.jsonl"), tmp_path / "out.jsonl", SETTINGS, export_formats.PREFERENCE)
    end = run_to_end(task, chatty, scorer)
    by_row = {row["row"]: row for row in read_lines(tmp_path / "out.jsonl")}
    assert end.written == 3
    assert (by_row[1]["prompt"], by_row[1]["chosen"][0]["role"]) == (chat, "assistant")
    assert isinstance(by_row[0]["chosen"], str)


def test_a_batch_may_be_written_by_a_server_and_stops_where_the_server_fails(file, monkeypatch):
    pytest.importorskip("openai")
    from tests.support import model_servers as servers

    monkeypatch.setattr("bon.engines.server.retrying_client.BACKOFF", 0.01)
    monkeypatch.setattr("bon.engines.server.retrying_client.CLIENT_RETRIES", 0)
    monkeypatch.setattr("bon.batch.batch_run.GROUP_ROWS", 4)
    broken = []

    def behave(handler, body, number):
        handler.send(500, {}) if broken else servers.good(handler, body, number)

    file.write_text("".join(file.read_text().splitlines(keepends=True)[:12]))
    server = servers.Fake(behave)
    sampler = api.load("tiny", lambda texts: [float(len(text)) for text in texts], endpoint=server.url)
    events = batch_run.stream(task_of(file), sampler.engine, sampler.scorer)
    assert [next(events).done, next(events).done] == [0, 4]
    broken.append(True)
    with pytest.raises(EngineError):
        next(events)
    broken.clear()
    end = run_to_end(task_of(file, resume=True), sampler.engine, sampler.scorer)
    assert (end.written, end.failed) == (12, 0)
    server.shutdown()
    server.server_close()
