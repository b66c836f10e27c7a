"""Batches: nothing lost, nothing twice, whatever happens on the way."""

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


def written(folder: Path) -> Path:
    """150 rows, of which some prompts are equal."""
    rows = ({"id": i, "prompt": f"{PROMPTS[i % 5]}{' was' * (i % 3)}"} for i in range(150))
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "in.jsonl"


@pytest.fixture
def file(tmp_path) -> Path:
    """150 rows, of which some prompts are equal."""
    return written(tmp_path)


@pytest.fixture(scope="module")
def scorer(classifier_folder):
    return api.as_scorer(classifier_folder)


def finished(task: Task, engine, scorer) -> Finished:
    *_, last = batch_run.stream(task, engine, scorer)
    return last


@pytest.fixture(scope="module")
def whole(engine, scorer, tmp_path_factory):
    """What a run over the 150 rows, or so many, that nothing stops writes, in one of the forms; made once."""
    @cache
    def whole(form=export_formats.BEST, rows: int = 150) -> bytes:
        file = written(tmp_path_factory.mktemp("whole"))
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:rows]))
        finished(task_of(file, format=form), engine, scorer)
        return file.with_name("out.jsonl").read_bytes()

    return whole


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def task_of(file: Path, skip_bad: bool = False, **how) -> Task:
    how = {"settings": SETTINGS, "output": file.with_name("out.jsonl"), **how}
    return Task(Dataset(file, skip_bad=skip_bad), **how)


def test_each_row_gets_what_a_run_of_its_own_would_get(file, engine, scorer):
    from bon import flow
    from bon.settings import Request

    done = finished(task_of(file), engine, scorer)
    out = lines(file.with_name("out.jsonl"))
    assert (done.rows, done.written, done.failed, len(out)) == (150, 150, 0, 150)
    for number in (0, 3, 64, 149):
        request = Request(out[number]["prompt"], SETTINGS, query=number)
        alone = flow.run(request, engine, scorer)
        assert (out[number]["id"], out[number]["completion"]) == (number, alone.best.text)
        assert out[number]["score"] == pytest.approx(alone.best.score, abs=1e-4)
        assert out[number]["mean_score"] == pytest.approx(alone.stats.mean, abs=1e-4)
    assert out[0]["completion"] != out[15]["completion"]  # equal prompts, streams of their own


def test_it_tells_how_far_it_is(file, engine, scorer):
    *events, last = batch_run.stream(task_of(file), engine, scorer)
    assert [event.done for event in events] == [0, 64, 128, 150]
    assert all(isinstance(event, Progress) and event.rows == 150 for event in events)
    assert (events[0].rate, events[0].seconds_left) == (None, None)
    assert events[2].seconds_left == pytest.approx(22 / events[2].rate)
    assert isinstance(last, Finished)
    assert last.plan["seed"] == 7


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_every_format_holds_the_same(file, engine, scorer, whole, name):
    want = [json.loads(line) for line in whole().splitlines()]
    path = file.with_name(name)
    finished(task_of(file, output=path), engine, scorer)
    if name.endswith("parquet"):
        got = pyarrow.parquet.read_table(path).to_pylist()
    elif name.endswith("csv"):
        with open(path, newline="", encoding="utf-8") as opened:
            got = [{**row, "id": int(row["id"])} for row in csv.DictReader(opened)]
        want = [{**row, "completion": row["completion"]} for row in want]
        assert [row["completion"].lstrip("'") for row in got] == [row["completion"].lstrip("'") for row in want]
        got, want = ([row["id"] for row in rows] for rows in (got, want))
    else:
        got = lines(path)
    assert got == want


def test_the_journal_goes_when_the_output_is_there(file, engine, scorer):
    events = batch_run.stream(task_of(file), engine, scorer)
    next(events)
    assert resume_journal.journal_path(file.with_name("out.jsonl")).exists()
    assert not file.with_name("out.jsonl").exists()
    for _ in events:
        pass
    assert sorted(path.name for path in file.parent.iterdir()) == ["in.jsonl", "out.jsonl"]


# Interrupted and resumed.


def stopped_after(task: Task, engine, scorer, count: int) -> None:
    events = batch_run.stream(task, engine, scorer)
    for _ in range(count):
        next(events)
    events.close()


FORMATS = [export_formats.BEST, *export_formats.TRAINING_FORMATS.values()]


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_a_stopped_run_goes_on_and_comes_to_the_same_bytes(file, engine, scorer, whole, form):
    parts = file.with_name("parts.jsonl")
    stopped_after(task_of(file, output=parts, format=form), engine, scorer, 2)
    events = list(batch_run.stream(task_of(file, output=parts, format=form, resume=True), engine, scorer))
    assert [event.done for event in events[:-1]] == [64, 128, 150]
    assert events[-2].done_now == 86
    assert parts.read_bytes() == whole(form)


@pytest.mark.parametrize("cut", [0, 1, 40, -1, -30, -3000])
def test_a_journal_cut_anywhere_is_mended(file, engine, scorer, whole, cut):
    parts = file.with_name("parts.jsonl")
    stopped_after(task_of(file, output=parts), engine, scorer, 3)
    journal = resume_journal.journal_path(parts)
    journal.write_bytes(journal.read_bytes()[:cut])
    finished(task_of(file, output=parts, resume=True), engine, scorer)
    assert parts.read_bytes() == whole()


def test_rubbish_at_the_end_of_a_journal_is_cut_off(file, engine, scorer, whole):
    parts = file.with_name("parts.jsonl")
    stopped_after(task_of(file, output=parts), engine, scorer, 2)
    with open(resume_journal.journal_path(parts), "ab") as opened:
        opened.write(b'{"row": 64}\n{"row": 66}\n' + bytes(100) + b"\n")
    finished(task_of(file, output=parts, resume=True), engine, scorer)
    assert parts.read_bytes() == whole()


def test_a_run_without_a_seed_is_resumed_with_the_one_it_had(file, engine, scorer):
    free = Settings(n=4, min_tokens=2, max_tokens=8)
    stopped_after(task_of(file, settings=free), engine, scorer, 2)
    seed = finished(task_of(file, settings=free, resume=True), engine, scorer).plan["seed"]
    out = file.with_name("out.jsonl").read_bytes()
    same = Settings(n=4, min_tokens=2, max_tokens=8, seed=seed)
    finished(task_of(file, settings=same, overwrite=True), engine, scorer)
    assert file.with_name("out.jsonl").read_bytes() == out


def test_other_settings_are_not_resumed_and_are_named(file, engine, scorer):
    stopped_after(task_of(file), engine, scorer, 2)
    begun = resume_journal.journal_path(file.with_name("out.jsonl")).read_bytes()
    other = Settings(n=2, seed=7, min_tokens=2, max_tokens=8, temperature=0.5)
    with pytest.raises(InputError, match=r"n was 4 and is 2; temperature was 1\.0 and is 0\.5\. "):
        finished(task_of(file, settings=other, resume=True), engine, scorer)
    file.write_text(file.read_text() + '{"prompt": "x"}\n')
    with pytest.raises(InputError, match=r"SHA-256.*rows was 150 and is 151"):
        finished(task_of(file, resume=True), engine, scorer)
    assert resume_journal.journal_path(file.with_name("out.jsonl")).read_bytes() == begun


def test_two_runs_of_one_output_do_not_meet(file, engine, scorer):
    events = batch_run.stream(task_of(file), engine, scorer)
    next(events)
    with pytest.raises(InputError, match="Another run"):
        finished(task_of(file, resume=True), engine, scorer)
    events.close()


def test_what_is_there_is_not_overwritten_unasked(file, engine, scorer):
    out = file.with_name("out.jsonl")
    stopped_after(task_of(file), engine, scorer, 2)
    with pytest.raises(InputError, match=r"unfinished run\. .* --resume, .* --overwrite\."):
        task_of(file)
    resume_journal.journal_path(out).unlink()
    out.write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        task_of(file)
    assert task_of(file, resume=True).complete
    stopped_after(task_of(file, overwrite=True), engine, scorer, 2)
    assert out.read_text() == "mine"
    finished(task_of(file, resume=True), engine, scorer)
    assert len(lines(out)) == 150


def test_an_input_that_changes_on_the_way_is_noticed(file, engine, scorer):
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
def test_results_of_rows_that_were_others_for_a_while_are_made_again(file, engine, scorer, whole, edit, back):
    rows = file.read_text().splitlines()[:80]
    file.write_text(before := "\n".join(rows))
    events = batch_run.stream(task_of(file, skip_bad=True), engine, scorer)
    next(events)
    with open(file, "r+") as opened:  # as an editor that writes in place, before the first row is read again
        opened.write("\n".join(EDITS[edit](rows)))
        opened.truncate()
    if back:
        next(events)
        file.write_text(before)
    with pytest.raises(BonError, match=r"Restore the file and continue with --resume"):
        list(events)
    file.write_text(before)
    finished(task_of(file, resume=True, skip_bad=True), engine, scorer)
    assert file.with_name("out.jsonl").read_bytes() == whole(rows=80)


def test_batches_before_the_first_row_that_was_another_are_kept(file, engine, scorer, whole):
    parts = file.with_name("parts.jsonl")
    stopped_after(task_of(file, output=parts), engine, scorer, 4)
    journal = resume_journal.journal_path(parts)
    lines_of = journal.read_text().splitlines(keepends=True)
    digest = json.loads(lines_of[101])["digest"]
    journal.write_text("".join(line.replace(digest, "of other rows") for line in lines_of))
    first, *_ = batch_run.stream(task_of(file, output=parts, resume=True), engine, scorer)
    assert first.done == 64
    assert parts.read_bytes() == whole()


def test_an_input_that_is_gone_at_the_end_can_be_brought_back(file, engine, scorer, whole):
    events, kept = batch_run.stream(task_of(file), engine, scorer), file.read_text()
    for _ in range(4):
        next(events)
    file.unlink()
    with pytest.raises(BonError, match="Restore the file"):
        next(events)
    file.write_text(kept)
    first, *_ = batch_run.stream(task_of(file, resume=True), engine, scorer)
    assert first.done == 150
    assert file.with_name("out.jsonl").read_bytes() == whole()


def test_a_journal_of_a_version_that_kept_no_digests_is_refused_in_words(file, engine, scorer):
    stopped_after(task_of(file), engine, scorer, 2)
    journal = resume_journal.journal_path(file.with_name("out.jsonl"))
    plan, *records = map(json.loads, journal.read_text().splitlines())
    for record in records:
        del record["digest"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in (plan, *records)))
    with pytest.raises(InputError, match=r"older version of bon, .* Start over with --overwrite\."):
        finished(task_of(file, resume=True), engine, scorer)


# What may be written where.


@pytest.fixture
def one(tmp_path, monkeypatch) -> Path:
    """A file of one row, in the folder that the test works in."""
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"prompt": "This movie"}\n')
    return Path("in.jsonl")


def test_an_output_that_is_a_link_stays_one_and_what_it_leads_to_is_written(one, engine, scorer):
    Path("far").mkdir()
    for link, target in (("there.jsonl", "far/real.jsonl"), ("new.jsonl", "far/none yet.jsonl")):
        Path(link).symlink_to(target)
    Path("far/real.jsonl").write_text("old\n")
    for link in ("there.jsonl", "new.jsonl"):
        finished(task_of(one, output=Path(link), overwrite=link == "there.jsonl"), engine, scorer)
        assert Path(link).is_symlink()
    assert {len(lines(path)) for path in Path("far").iterdir()} == {1}
    assert sorted(map(str, Path().iterdir())) == ["far", "in.jsonl", "new.jsonl", "there.jsonl"]


def named_as_failures(one: Path) -> Path:
    return one.rename("out.jsonl.failed.jsonl")


def linked_as(name: str, make):
    def linked(one: Path) -> Path:
        make(one, name)
        return one

    return linked


@pytest.mark.parametrize("prepare", [
    named_as_failures, linked_as("out.jsonl", os.link), linked_as("out.jsonl", os.symlink),
    linked_as("out.jsonl.partial", os.symlink), linked_as("out.jsonl.partial", os.link),
    linked_as("out.jsonl.writing", os.symlink), linked_as("out.jsonl.failed.jsonl", os.link),
])
def test_nothing_that_is_written_may_be_the_input_under_another_name(one, prepare):
    path = prepare(one)
    for how in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(InputError, match="is also the input"):
            task_of(path, output=Path("out.jsonl"), format=export_formats.SFT, **how)
    assert path.read_text() == '{"prompt": "This movie"}\n'


def test_a_list_of_failures_is_not_overwritten_unasked_and_only_where_one_is_written(one, engine, scorer):
    notes = Path("out.jsonl.failed.jsonl")
    notes.write_text("mine")
    with pytest.raises(InputError, match=r"out\.jsonl\.failed\.jsonl already exists"):
        task_of(one, format=export_formats.SFT)
    finished(task_of(one), engine, scorer)
    assert notes.read_text() == "mine"


def a_pipe() -> str:
    os.mkfifo("pipe")
    return "pipe"


@pytest.mark.parametrize(("name", "make", "words"), [
    ("x" * 245 + ".jsonl", None, "too long"), ("é" * 125 + ".jsonl", None, "too long"),
    ("x" * 236 + ".jsonl", None, "too long"), ("y/" * 2100 + "x.jsonl", None, "too long"),
    ("out.jsonl", a_pipe, "not a regular file"), ("out.jsonl", lambda: "out.jsonl", "not a regular file"),
    ("out.jsonl", lambda: "none/x.jsonl", "folder does not exist"), ("out.jsonl", lambda: ".", "not a regular file"),
    ("in.jsonl/out.jsonl", None, "folder does not exist"),
])
def test_an_output_that_cannot_be_is_refused_before_any_work(one, name, make, words):
    if make:
        os.symlink(make(), name)
    with pytest.raises(InputError, match=words):
        task_of(one, output=Path(name), format=export_formats.SFT, overwrite=True)
    assert not set(map(str, Path().iterdir())) - {"in.jsonl", "out.jsonl", "pipe"}


@pytest.mark.skipif(sys.platform != "linux", reason="/sys, in which nobody makes files")
def test_a_folder_that_takes_no_files_is_told_before_models_are_loaded(one, command, monkeypatch):
    monkeypatch.setattr("bon.api.load", None)
    os.symlink("/sys/out.jsonl", "link.jsonl")
    for name in ("/sys/out.jsonl", "link.jsonl"):
        status, out, err = command("in.jsonl", name)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert f"{name}, or a file that the run needs beside it, cannot be written" in err


def test_a_name_that_is_just_short_enough_is_written(one, engine, scorer):
    for length, form in ((247, export_formats.BEST), (234, export_formats.SFT)):
        name = "x" * (length - 6) + ".jsonl"
        finished(task_of(one, output=Path(name), format=form), engine, scorer)
        assert len(lines(Path(name))) == 1


# Labels.


@pytest.mark.parametrize("keep", [None, 2])
def test_labels_after_early_rejection_set_what_is_left_against_its_mean(file, engine, scorer, keep):
    settings = Settings(n=8, seed=7, min_tokens=8, max_tokens=16, reject=0.5, keep=keep)
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:24]))
    done = finished(task_of(file, format=export_formats.SCORED, settings=settings), engine, scorer)
    by_row = {}
    for row in lines(file.with_name("out.jsonl")):
        by_row.setdefault(row["row"], []).append((row["score"], row["label"]))
    assert len(by_row) > 12
    assert len(by_row) + sum(done.left_out.values()) == 24
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
            finished(task_of(path, output=tmp_path / f"{form.name}{ending}", format=form), engine, scorer)
        told = [json.loads(line, parse_constant=pytest.fail) for line in
                (tmp_path / f"{form.name}.jsonl").read_text().splitlines()]
        assert [told[0][name] for name in ("rating", "each", "all")] == [None, [None, 1.0], {"x": None}]
        kept = pyarrow.parquet.read_table(tmp_path / f"{form.name}.parquet").to_pylist()
        assert str([kept[0][name] for name in ("rating", "each", "all")]) == "[nan, [inf, 1.0], {'x': -inf}]"

# Rows that fail.


def test_bad_rows_fail_alone_and_the_others_are_as_without_them(file, engine, scorer, whole):
    good, want = lines(file), [json.loads(line) for line in whole().splitlines()]
    bad = {2: {"prompt": ""}, 5: {"prompt": "word " * 400}, 70: {"id": 5}, 71: {"prompt": 7},
           72: {"messages": [{"role": "user", "content": "x"}], "prompt": [{"role": "user", "content": "x"}]}}
    file.write_text("".join(json.dumps(bad.get(i, row)) + "\n" for i, row in enumerate(good)))
    done = finished(task_of(file), engine, scorer)
    got = lines(file.with_name("out.jsonl"))
    assert {i for i, row in enumerate(got) if row["error"]} == set(bad)
    assert done.failed == 5
    assert done.errors[2].startswith("The prompt is empty")
    assert "The prompt has" in done.errors[5]
    assert "no chat template" in got[72]["error"]
    same = [i for i in range(150) if i not in bad]
    assert [got[i]["completion"] for i in same] == [want[i]["completion"] for i in same]


def test_a_scorer_that_fails_at_one_row_costs_that_row_alone(file, engine):
    def fussy(texts):
        if any(text.startswith("The hotel") for text in texts):
            raise ValueError("no hotels")
        return [float(len(text)) for text in texts]

    file.write_text("".join(file.read_text().splitlines(keepends=True)[:50]))
    done = finished(task_of(file), engine, CallableScorer(fussy))
    assert (done.rows, done.failed) == (50, 10)
    assert all(("hotel" in row["prompt"]) == ("no hotels" in (row["error"] or "")) for row in
               lines(file.with_name("out.jsonl")))


def test_rows_that_failed_are_listed_beside_training_data(file, engine, scorer):
    file.write_text('{"prompt": "This movie"}\n{"prompt": ""}\n')
    done = finished(task_of(file, format=export_formats.SFT), engine, scorer)
    assert (done.written, done.left_out) == (1, {"failed": 1})
    (line,) = lines(batch_run.failures_path(file.with_name("out.jsonl")))
    assert line["row"] == 1
    assert line["error"].startswith("The prompt is empty")
    file.write_text('{"prompt": "This movie"}\n')
    finished(task_of(file, format=export_formats.SFT, overwrite=True), engine, scorer)
    assert not batch_run.failures_path(file.with_name("out.jsonl")).exists()


class Gone:
    """An engine whose server goes away after so many calls."""

    def __init__(self, engine, calls: int):
        self._engine, self._calls = engine, calls

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def generate(self, jobs):
        self._calls -= 1
        if self._calls < 0:
            raise EngineError("The server is gone.")
        yield from self._engine.generate(jobs)


def test_an_engine_that_fails_at_everything_stops_the_run_which_can_be_resumed(file, engine, scorer):
    with pytest.raises(EngineError, match="gone"):
        finished(task_of(file), Gone(engine, 1), scorer)
    done = finished(task_of(file, resume=True), engine, scorer)
    assert (done.rows, done.failed) == (150, 0)


def test_the_work_on_one_group_of_rows_can_be_sent_elsewhere():
    rows = [Row(3, "a", columns={"id": 1}), Row(4, error="bad")]
    assert pickle.loads(pickle.dumps((batch_run.make_records, rows, SETTINGS, export_formats.PREFERENCE)))[1] == rows


# Memory and speed are figures of `bench --batch`; what makes them is tested.


def test_nobody_watches_texts_grow_and_scores_come_in_one_call_per_batch(file, engine, scorer, monkeypatch):
    calls = []
    score = type(scorer).score
    monkeypatch.setattr(type(scorer), "score", lambda self, items: calls.append(len(items)) or score(self, items))
    monkeypatch.setattr(type(scorer), "rates_empty", True)  # a tiny model's texts are often empty
    finished(task_of(file), engine, scorer)
    assert calls == [256, 256, 88]


# The command line.


#: What is said of a tiny model's random bytes, some of which begin a character.
#: What the texts of a tiny model give rise to.
NOTES = re.compile(re.escape(f"bon: {say('note.character_cut')}\n")
                   + r"bon: In \d+ rows some texts are empty: they have no score and cannot win\.\n")


@pytest.fixture
def command(capsys, lm_folder, classifier_folder):
    """`python -m bon batch` on tiny models: status, standard output and standard error."""
    def command(*argv) -> tuple[int, str, str]:
        capsys.readouterr()
        models = ("--model", lm_folder, "--scorer", classifier_folder, "--max-tokens", "8", "-n", "4", "--seed", "7")
        status = main(["batch", *map(str, argv), *models])
        return status, *capsys.readouterr()

    return command


def test_the_command_says_what_it_did(file, command, tmp_path):
    status, out, err = command(file, tmp_path / "out.csv")
    assert status == 0
    *notes, on_csv = err.splitlines(keepends=True)
    assert NOTES.fullmatch("".join(notes))
    assert "begin with an apostrophe" in on_csv
    assert "out.csv: 150 rows from 150 prompts (seed 7)" in out
    assert "nothing to resume" in command(file, tmp_path / "out.csv", "--resume")[1]


def test_rows_that_failed_are_told_by_status_and_name(command, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "This movie"}\n{"prompt": \n{"prompt": ""}\n')
    assert command(tmp_path / "in.jsonl", tmp_path / "o.jsonl")[::2] == (
        2, f"bon: {tmp_path}/in.jsonl: line 2 is not JSON (Expecting value, column 11). Correct it, or skip such rows "
        "with --skip-bad.\n")
    status, out, err = command(tmp_path / "in.jsonl", tmp_path / "o.jsonl", "--skip-bad")
    assert status == 1
    assert "3 rows from 3 prompts" in out
    assert "row 1 failed: line 2 is not JSON" in err
    assert "2 of 3 rows failed" in err
    assert [bool(row["error"]) for row in lines(tmp_path / "o.jsonl")] == [False, True, True]


def test_a_dry_run_says_what_there_is_and_writes_nothing(command, file, tmp_path):
    status, out, err = command(file, tmp_path / "out.jsonl", "--dry-run")
    assert (status, err) == (0, "")
    assert "150 rows; columns: id, prompt" in out
    assert "0: This movie" in out
    assert "take about" in out
    assert list(tmp_path.iterdir()) == [file]


def test_training_data_by_name(command, file, tmp_path):
    status, out, err = command(file, tmp_path / "out.jsonl", "--as", "preference", "--margin", "0.01")
    assert status == 0
    assert NOTES.fullmatch(err)
    pairs = lines(tmp_path / "out.jsonl")
    assert all(pair["margin"] >= 0.01 for pair in pairs)
    left_out = 150 - len(pairs)
    assert left_out == 0 or f": {left_out}" in out


@pytest.mark.parametrize(("argv", "words"), [
    (["in.jsonl", "out.txt"], ".jsonl"), (["in.jsonl", "none/out.jsonl"], "folder"),
    (["in.jsonl", "in.jsonl"], "also the input"),
    (["none.csv", "out.csv"], "no file"), (["in.jsonl", "out.csv", "--margin", "1"], "--as preference"),
    (["in.jsonl", "out.csv", "--as", "dpo"], "invalid choice"), (["in.jsonl", "out.csv", "--keep", "2"], "--as scored"),
    (["in.jsonl", "out.csv", "--resume", "--overwrite"], "not allowed"),
    (["in.jsonl", "out.csv", "--prompt-column", "x"], "id, prompt"),
    (["in.jsonl", "out.csv", "--push-to-hub", "x"], "USER/DATASET"),
])
def test_what_cannot_work_is_said_in_one_line(command, file, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    status, out, err = command(*argv)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_progress_is_told_in_words():
    assert describe_progress(Progress(0, 150, 0, 0, 0.0)) == "0 of 150 rows "
    assert describe_progress(Progress(1064, 10_000, 2, 1000, 20.0)) == (
        "1,064 of 10,000 rows, 2 failed, 50.0 rows/s, 3 min left ")


def _past(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size > size


def run_of(file: Path, out: Path, *more: str) -> list[str]:
    """The command on the models in the box."""
    return ["batch", str(file), str(out), "-n", "8", "--max-tokens", "12", "--seed", "7", *more]


def in_silence(argv: list[str]) -> None:
    """The command, in a process of its own."""
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        sys.exit(main(argv))


#: Bytes that the journal is to grow by, and seconds after that: before the first batch, between and within others.
MOMENTS = [(-1, 0.0), (0, 0.0), (3000, 0.1), (6000, 0.3)]


def test_killed_again_and_again_it_comes_to_the_same_bytes(file, tmp_path):
    """Killed where the processes fork from one that has imported torch, which takes seconds."""
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    journal, come = resume_journal.journal_path(parts), 0
    assert main(run_of(file, whole)) == 0
    processes = get_context("forkserver")
    processes.set_forkserver_preload(["bon.cli.batch_command", "bon.api", "transformers"])
    for further, pause in MOMENTS:
        begun = journal.stat().st_size if journal.exists() else 0
        process = processes.Process(target=in_silence, args=(run_of(file, parts, "--resume"),))
        process.start()
        while process.is_alive() and further >= 0 and not _past(journal, begun + further):
            time.sleep(0.01)
        time.sleep(pause)
        come += process.is_alive()
        process.kill()
        process.join()
    assert come >= 2
    assert main(run_of(file, parts, "--resume")) == 0
    assert parts.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_products_round_alike_with_any_number_of_threads():
    """So a batch comes to the same with one core for each worker as with all of them for one."""
    weight, rows = torch.randn(64, 256), torch.randn(7, 256)  # 7: two threads would take 3 and 4
    before = torch.get_num_threads()
    try:
        made = [(torch.set_num_threads(n), torch.nn.functional.linear(rows, weight))[1] for n in (1, 2, 3)]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(made[0], other) for other in made)


def test_ctrl_c_keeps_what_is_done(file, tmp_path):
    out = tmp_path / "out.jsonl"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "bon", *run_of(file, out)], cwd=ROOT, env=env,
                               stderr=subprocess.PIPE, text=True, preexec_fn=HEED)
    while process.poll() is None and not _past(resume_journal.journal_path(out), 2000):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "of 150 rows are kept" in err
    assert "--resume" in err
    assert not out.exists()


@contextmanager
def disk_of(size: int):
    """Within it, no file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("when", ["journal", "output"])
def test_a_full_disk_is_told_and_what_was_done_is_kept(file, engine, scorer, whole, when):
    parts = file.with_name("parts.jsonl")
    events = batch_run.stream(task_of(file, output=parts), engine, scorer)
    for _ in range(2 if when == "journal" else 4):
        last = next(events)
    room = resume_journal.journal_path(parts).stat().st_size + 100 if when == "journal" else 5000
    with disk_of(room), pytest.raises(BonError, match=r"could not be written .* --resume"):
        next(events)
    assert not parts.exists()
    assert not list(file.parent.glob("*.writing"))
    first, *_ = batch_run.stream(task_of(file, output=parts, resume=True), engine, scorer)
    assert first.done == last.done
    assert parts.read_bytes() == whole()


def test_the_module_needs_no_torch():
    code = "import sys, bon.cli.batch_command; print({'torch', 'gradio', 'pyarrow'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "set()"


@pytest.fixture(scope="module")
def chatty():
    """A chat model."""
    model, tokenizer = tiny.gpt2(), tiny.tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    return LocalEngine(model, tokenizer, name="chatty")


def test_chats_and_prompts_may_be_mixed(tmp_path, chatty, scorer):
    chat = [{"role": "user", "content": "Is the movie good?"}]
    rows = [{"prompt": "The plot"}, {"prompt": chat}, {"prompt": "The plot"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = Task(Dataset(tmp_path / "in.jsonl"), tmp_path / "out.jsonl", SETTINGS, export_formats.PREFERENCE)
    done = finished(task, chatty, scorer)
    by_row = {row["row"]: row for row in lines(tmp_path / "out.jsonl")}
    assert done.written == 3
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
    done = finished(task_of(file, resume=True), sampler.engine, sampler.scorer)
    assert (done.written, done.failed) == (12, 0)
    server.shutdown()
    server.server_close()
