"""The Batch tab in a real browser: uploads, batches that run on the server without their tab, and downloads."""

import asyncio
import csv
import errno
import json
import os
import re
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
from playwright.sync_api import expect

from bon.api import Sampler
from bon.batch import batch_run
from bon.batch.batch_run import Task
from bon.batch.delimited_text import DelimitedText
from bon.batch.input_rows import Dataset
from bon.errors import InputError, LimitError
from bon.messages import decode_messages
from bon.settings import Settings
from bon.ui.app_state import AppState
from bon.ui.batch import jobs
from bon.ui.batch.handlers import TAB_SETTINGS, BatchHandlers
from bon.ui.generate.form_values import FIELDS
from bon.ui.hosting import sizes
from bon.ui.hosting.deployment import Deployment
from tests.compare.test_comparison import engine_of, sentiment
from tests.support.browser import layout_faults, wait_until_ready
from tests.support.forms import FIRST_VALUES

NASTY = "<img src=x onerror=window.hacked=1> ${window.hacked=1} </script>"
PROMPTS = ["This movie", "The plot of the film", "The hotel room"]
SETTINGS = Settings(n=4, seed=7, min_tokens=2, max_tokens=8, finish="sentence")  # which the page asks for


class GatedEngine:
    """An engine that, while `open` is not set, waits before it works on any group of rows but the first."""

    def __init__(self, engine):
        self._engine, self.open, self.calls = engine, threading.Event(), 0
        self.open.set()

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def generate(self, jobs):
        self.calls += 1
        for step in self._engine.generate(jobs):
            while self.calls > 1 and not self.open.wait(0.02):
                yield type(step)()
            yield step


@pytest.fixture(scope="module")
def gate():
    return GatedEngine(engine_of(0))


@pytest.fixture(scope="module")
def sampler(gate):
    return Sampler(gate, sentiment(0), "embedded")


@pytest.fixture
def served(served, page_state, sampler, monkeypatch):
    """The page over tiny models."""
    loaded = Future()
    loaded.set_result(sampler)
    monkeypatch.setattr(page_state.models, "load", lambda _: loaded)
    return served


@pytest.fixture
def open_tab(served, visit, gate):
    """Opens the Batch tab; at the end of the test no engine waits."""
    gate.open.set()
    gate.calls = 0

    def open_tab():
        page = visit(SimpleNamespace(url=served))
        page.get_by_role("tab", name="Batch").click()
        return page

    yield open_tab
    gate.open.set()


@pytest.fixture
def page(open_tab):
    """The Batch tab."""
    return open_tab()


def make_rows(count: int) -> list[dict]:
    return [{"id": i, "prompt": PROMPTS[i % 3]} for i in range(count)]


def write_rows(folder: Path, name: str, rows: list[dict]) -> Path:
    """Writes the rows to a file in the format of its ending."""
    path = folder / name
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            out = csv.DictWriter(file, list(rows[0]))
            out.writeheader()
            out.writerows(rows)
    elif path.suffix == ".txt":
        path.write_text("".join(row["prompt"] + "\n" for row in rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def choose_file(page, path: Path) -> None:
    if (before := page.locator("#batch-file [aria-label=Clear]")).count():
        before.click()
        expect(page.locator(".preview")).to_be_empty()
    page.set_input_files("#batch-file input[type=file]", path)


def choose(page, field: str, option: str) -> None:
    page.click(f"#batch-{field} input")
    page.get_by_role("option", name=re.compile(f"^{option}")).click()


def start(page, **numbers) -> None:
    for name, value in {"n": 4, "min": 2, "max": 8, "seed": 7, **numbers}.items():
        page.fill(f"#batch-{name} input", str(value))
    page.click("#batch-start")


def expect_phase(page, name) -> None:
    expect(page.locator(".batch")).to_have_attribute("data-phase", name)


def wait_until_done(page, name: str) -> None:
    """Waits until the batch of this name is shown and done."""
    expect(page.locator(".batch .under").first).to_contain_text(name)
    expect_phase(page, "done")


def start_batch(page, path: Path, name="running", **numbers) -> None:
    choose_file(page, path)
    expect(page.locator(".preview b")).to_be_visible()
    start(page, **numbers)
    expect_phase(page, name)


def download_result(page) -> Path:
    with page.expect_download() as download:
        page.locator(".batch .head .download").first.click()
    return download.value.path()


def output_without_page(path: Path, output: Path, sampler, **how) -> bytes:
    """The output of the same task without the page."""
    for _ in batch_run.stream(Task(Dataset(path), output, SETTINGS, **how), sampler.engine, sampler.scorer):
        pass
    return output.read_bytes()


def test_files_of_every_format_can_be_uploaded_and_downloaded(page, tmp_path, sampler):
    pasted_lines_are_prompts(page)
    for count, name in enumerate(("in.csv", "in.jsonl", "in.parquet", "in.txt"), 70):
        a_format_is_previewed_processed_and_downloaded(page, tmp_path, sampler, name, count)
    the_result_has_the_chosen_form_and_format(page, tmp_path, "preference", "preference", ".parquet", 6)
    the_result_has_the_chosen_form_and_format(page, tmp_path, "sft", "SFT", ".csv", 5)
    an_earlier_batch_can_be_opened(page)
    remove_deletes_the_files_of_a_batch(page)


def pasted_lines_are_prompts(page):
    page.fill("#batch-paste textarea", "This movie\n\n  The hotel room  \n")
    expect(page.locator(".preview")).to_contain_text("2 rows")
    start(page)
    expect_phase(page, "done")
    results = [json.loads(line) for line in download_result(page).read_text("utf-8").splitlines()]
    assert [row["prompt"] for row in results] == ["This movie", "The hotel room"]
    page.fill("#batch-paste textarea", "")
    expect(page.locator(".preview")).to_be_empty()


def a_format_is_previewed_processed_and_downloaded(page, tmp_path, sampler, name, count):
    path = write_rows(tmp_path, name, make_rows(count))
    choose_file(page, path)
    expect(page.locator(".preview")).to_contain_text(f"{count} rows")
    assert page.locator(".preview li").all_inner_texts() == PROMPTS
    start(page)
    wait_until_done(page, name)
    expect(page.locator(".batch .winners li")).to_have_count(5)
    expect(page.locator(".batch .winners .prompt").first).to_have_text(PROMPTS[(count - 1) % 3])
    assert download_result(page).read_bytes() == output_without_page(path, tmp_path / f"{name}.out.jsonl", sampler)


def the_result_has_the_chosen_form_and_format(page, tmp_path, form, option, ending, count):
    choose_file(page, write_rows(tmp_path, f"for-{form}.jsonl", make_rows(count)))
    expect(page.locator(".preview")).to_contain_text(f"{count} rows")
    choose(page, "as", option)
    choose(page, "format", ending[1:].upper())
    start(page)
    wait_until_done(page, f"for-{form}.jsonl")
    expect(page.locator(".batch .head .download").first).to_contain_text(f"for-{form}.{form}{ending}")
    path = download_result(page)
    if ending == ".parquet":
        results = pyarrow.parquet.read_table(path).to_pylist()
    else:
        with open(path, newline="", encoding="utf-8") as file:
            results = list(csv.DictReader(file))
    assert {"prompt", "input_id" if "input_id" in results[0] else "id"} <= set(results[0])
    assert ({"chosen", "rejected"} if form == "preference" else {"completion"}) <= set(results[0])


def an_earlier_batch_can_be_opened(page):
    expect(page.locator(".batch .under").first).to_contain_text("for-sft.jsonl")
    page.get_by_role("button", name="Open: in.csv").click()
    expect(page.locator(".batch .under").first).to_contain_text("in.csv")


def remove_deletes_the_files_of_a_batch(page):
    stored_keys = "JSON.parse(localStorage['bon-batches'])"
    batch_id = page.evaluate(f"{stored_keys}[0]").partition(".")[0]
    folders = [root / batch_id for root in (jobs.root(), jobs.outputs_root())]
    assert all(folder.is_dir() for folder in folders)
    page.on("dialog", lambda dialog: dialog.accept())
    for remaining in range(page.evaluate(f"{stored_keys}.length") - 1, -1, -1):
        page.locator("[data-do=remove]").click()
        page.wait_for_function(f"{stored_keys}.length === {remaining}")
        expect(page.locator(".batch .others li")).to_have_count(max(0, remaining - 1))
    expect_phase(page, "empty")
    assert not any(folder.exists() for folder in folders)


#: Invalid files: their names, their contents and parts of the errors.
INVALID_FILES = [
    ("a.csv", b"prompt\n", "a.csv has no row"),
    ("a.txt", b"", "a.txt has no row"),
    ("b.txt", b"\x00\x01\x02", "b.txt is not text"),
    ("a.jsonl", b"\xffno", "a.jsonl is not UTF-8 text. Choose its encoding"),
    ("a.parquet", b"PAR1 not really", "a.parquet cannot be read as Parquet"),
    ("a.xlsx", b"PK", "a.xlsx must end in one of .csv"),
    ("many.csv", b"prompt\n" + b"This movie\n" * 10_001, "more than the 10,000 rows"),
]


def test_errors_are_shown_where_they_arise(page, tmp_path):
    a_missing_file_and_a_wrong_number_are_errors(page)
    for name, content, message in INVALID_FILES:
        an_invalid_file_is_an_error_without_the_servers_paths(page, tmp_path, name, content, message)
    the_prompt_column_is_found_or_asked_for(page, tmp_path)
    the_encoding_is_asked_for_where_it_is_not_utf8(page, tmp_path)
    failed_rows_are_counted_and_listed(page, tmp_path)
    markup_in_texts_is_not_interpreted(page, tmp_path)


def a_missing_file_and_a_wrong_number_are_errors(page):
    start(page)
    expect(page.locator(".batch > .alert")).to_have_text("Choose a file of prompts, or paste some.")
    page.fill("#batch-paste textarea", "This movie")
    expect(page.locator(".preview")).to_contain_text("1 row")
    start(page, n=0)
    expect(page.locator(".batch > .alert")).to_contain_text("n must be a whole number from 1 to 256")
    page.fill("#batch-paste textarea", "")
    expect(page.locator(".preview")).to_be_empty()


def an_invalid_file_is_an_error_without_the_servers_paths(page, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    choose_file(page, tmp_path / name)
    expect(page.locator(".preview .alert")).to_contain_text(message)
    start(page)
    expect(page.locator(".batch > .alert")).to_contain_text(message)
    assert "gradio" not in page.locator(".preview").inner_text() + page.locator(".batch").inner_text()
    if "10,000" in message:
        expect(page.locator(".preview code")).to_have_text(f"python -m bon batch {name} results.jsonl")
    deadline = time.monotonic() + 60  # a preview also stores its file for a moment
    while (without_batch := folders_without_batch()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert without_batch == []


def folders_without_batch() -> list[Path]:
    """The folders on the server that refused files have left."""
    return [folder for folder in jobs.root().iterdir() if folder.is_dir() and not (folder / "job.json").exists()]


def the_prompt_column_is_found_or_asked_for(page, tmp_path):
    rows = [{"title": "Night", "words": f"The film {i}"} for i in range(3)]
    choose_file(page, write_rows(tmp_path, "odd.csv", rows))
    expect(page.locator(".preview")).to_have_text("Which column holds the prompts? ")
    start(page)
    expect(page.locator(".batch .alert")).to_contain_text("title, words")
    choose(page, "column", "words")
    expect(page.locator(".preview")).to_contain_text("prompts in the column words")
    start(page)
    expect_phase(page, "done")
    expect(page.locator(".batch .winners .prompt").first).to_have_text("The film 2")


def the_encoding_is_asked_for_where_it_is_not_utf8(page, tmp_path):
    (tmp_path / "old.csv").write_bytes("prompt\nThe café\n".encode("cp1252"))
    choose_file(page, tmp_path / "old.csv")
    expect(page.locator(".preview .alert")).to_have_text(
        "old.csv is not UTF-8 text. Choose its encoding in the field Encoding, or save the file as UTF-8.")
    choose(page, "encoding", "Western European .Windows")
    expect(page.locator(".preview li")).to_have_text("The café")
    start(page)
    wait_until_done(page, "old.csv")
    expect(page.locator(".batch .winners .prompt")).to_have_text("The café")
    choose_file(page, write_rows(tmp_path, "new.csv", [{"prompt": "The naïve"}]))
    expect(page.locator(".preview li")).to_have_text("The naïve")
    expect(page.locator("#batch-encoding")).to_be_hidden()


def failed_rows_are_counted_and_listed(page, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "This movie"}\n{"prompt": ""}\nno json\n', encoding="utf-8")
    choose_file(page, path)
    expect(page.locator(".preview")).to_contain_text("1 row cannot be read and will count as failed")
    start(page)
    wait_until_done(page, "in.jsonl")
    assert page.locator(".batch .errors li").count() == 2
    expect(page.locator(".batch .errors")).to_contain_text("line 3 is not JSON")
    expect(page.locator(".batch")).to_contain_text("with an error in place of a result")
    expect(page.locator(".batch .facts")).to_contain_text("rows failed")
    results = [json.loads(line) for line in download_result(page).read_text("utf-8").splitlines()]
    assert [bool(row["error"]) for row in results] == [False, True, True]


def markup_in_texts_is_not_interpreted(page, tmp_path):
    choose_file(page, write_rows(tmp_path, "nasty.jsonl", [{"prompt": NASTY, NASTY: "x"}]))
    expect(page.locator(".preview li")).to_have_count(1)
    expect(page.locator(".preview li")).to_have_text(NASTY)
    start(page)
    wait_until_done(page, "nasty.jsonl")
    expect(page.locator(".batch .winners .prompt")).to_have_text(NASTY)
    page.locator(".batch summary").click()
    assert page.evaluate("window.hacked") is None


def test_a_batch_continues_without_its_tab_and_resumes_where_it_stopped(open_tab, served, gate, tmp_path, sampler):
    page = open_tab()
    path = write_rows(tmp_path, "in.csv", make_rows(200))
    expected = output_without_page(path, tmp_path / "out.jsonl", sampler)
    gate.calls = 0
    a_batch_continues_without_its_tab_and_is_found_again(page, served, gate, path, expected)
    a_stopped_batch_resumes_to_the_same_result(page, gate, path.rename(tmp_path / "again.csv"), expected)
    visitors_see_only_their_own_batches(open_tab())


def a_batch_continues_without_its_tab_and_is_found_again(page, served, gate, path, expected):
    gate.open.clear()
    start_batch(page, path)
    expect(page.locator(".batch .status")).to_contain_text("64 of 200 rows")
    page.goto("about:blank")
    gate.open.set()
    page.goto(served)
    wait_until_ready(page)
    page.get_by_role("tab", name="Batch").click()
    expect_phase(page, "done")
    assert download_result(page).read_bytes() == expected


def a_stopped_batch_resumes_to_the_same_result(page, gate, path, expected):
    gate.calls = 0
    gate.open.clear()
    start_batch(page, path)
    expect(page.locator(".batch .status")).to_contain_text("64 of 200 rows")
    page.locator("[data-do=stop]").click()
    expect_phase(page, "stopped")
    expect(page.locator(".batch .status")).to_contain_text("Stopped at 64 of 200.")
    gate.open.set()
    page.locator("[data-do=resume]").click()
    wait_until_done(page, path.name)
    assert download_result(page).read_bytes() == expected


def visitors_see_only_their_own_batches(other_page):
    expect_phase(other_page, "empty")
    # Not with an invented id either, or one that would lead to another folder.
    other_page.evaluate("localStorage['bon-batches'] = JSON.stringify(['x'.repeat(32), '../../etc', ''])")
    other_page.reload()
    wait_until_ready(other_page)
    other_page.get_by_role("tab", name="Batch").click()
    expect(other_page.locator(".batch > .alert")).to_have_text("A batch from this browser is no longer on the server.")
    assert "again.csv" not in other_page.content()
    assert "in.csv" not in other_page.content()


def test_the_tab_is_accessible_and_fits(page, axe, tmp_path):
    expect_phase(page, "empty")
    assert layout_faults(page, axe) == []
    choose_file(page, write_rows(tmp_path, f"{'long' * 20}.csv", make_rows(70)))
    expect(page.locator(".preview b")).to_be_visible()
    assert layout_faults(page, axe) == []
    start(page)
    expect_phase(page, "done")
    assert layout_faults(page, axe) == []


# A public page, and the rules of batches without a browser.


def visitor(address="1.2.3.4"):
    return SimpleNamespace(client=SimpleNamespace(host=address), headers={})


@pytest.fixture
def public(monkeypatch, tmp_path, sampler, gate):
    loaded = Future()
    loaded.set_result(sampler)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    state = AppState(Deployment(public=True, prompt=40, rate=1000, rows=70))
    state.models.load = lambda _: loaded
    gate.calls = 0
    yield state
    gate.open.set()
    state.batches.close()


def start_publicly(
    state: AppState, path: Path | None, address="1.2.3.4", pasted="", encoding=None, **changes
) -> dict:
    batch_settings = {"n": 4, "min_tokens": 2, "max_tokens": 8, "seed": "7"}
    form = FIRST_VALUES | {"prompt": "", **changes}
    values = [*({**batch_settings, **changes}[name] for name in TAB_SETTINGS), *(form[name] for name in FIELDS)]
    return BatchHandlers(state).start(
        visitor(address), path and str(path), pasted, encoding, None, "results", ".jsonl", *values)


@pytest.mark.parametrize(("rows", "changes", "message"), [
    (make_rows(71), {}, "more than the 70 rows"),
    ([{"prompt": "x" * 41}], {}, "at most 40"),
    (make_rows(2), {"n": 65}, "at most 64"),
    (make_rows(2), {"model": "/etc"}, "offers the models"),
    (make_rows(2), {"scorer": "someone/else"}, "offers the scorers"),
])
def test_a_public_page_refuses_more_than_its_limits(public, tmp_path, rows, changes, message):
    assert message in start_publicly(public, write_rows(tmp_path, "in.csv", rows), **changes)["error"]
    assert list(jobs.root().glob("*")) == []


def test_a_preview_reads_one_row_more_than_the_page_takes(public, tmp_path, monkeypatch):
    read_rows, rows = [], DelimitedText.rows

    def counted_rows(self):
        for row in rows(self):
            read_rows.append(row)
            yield row

    monkeypatch.setattr(DelimitedText, "rows", counted_rows)
    view, *_, count = BatchHandlers(public).preview(str(write_rows(tmp_path, "in.csv", make_rows(5000))), "")
    assert "more than the 70 rows" in view["error"]
    assert view["command"].startswith("python -m bon batch in.csv")
    assert (count, len(read_rows)) == (0, 71)
    assert BatchHandlers(public).preview(str(write_rows(tmp_path, "in.csv", make_rows(70))), "")[-1] == 70


def test_a_preview_finds_the_column_of_the_prompts_as_the_batch_does(public, tmp_path):
    path = write_rows(tmp_path, "in.jsonl", [{"id": 1, "words": "no"}, *({"id": i, "prompt": "Hi"} for i in range(9))])
    view, columns, *_ = BatchHandlers(public).preview(str(path), "")
    assert (view["prompts"], columns["value"]) == (["Hi", "Hi"], "prompt")
    batch = public.batches.find(start_publicly(public, path)["started"])
    batch.join()
    assert batch.order.column == "prompt"


@pytest.mark.parametrize(("prompts", "mixed"), [
    (["Hi", [{"role": "user", "content": "Hi"}]], True), (["Hi", "Ho"], False)])
def test_a_preview_says_that_chats_and_other_prompts_get_the_same_lengths(public, tmp_path, prompts, mixed):
    path = write_rows(tmp_path, "in.jsonl", [{"prompt": prompt} for prompt in prompts])
    view, *_ = BatchHandlers(public).preview(str(path), "")
    assert ("get the same lengths here" in view["line"]) == mixed


def test_two_previews_are_made_at_a_time_and_no_visitors_run_waits_for_their_threads(public, monkeypatch):
    handlers, together, most, done = BatchHandlers(public), threading.Barrier(2, timeout=60), [], []

    def preview(number):
        most.append(len(most) - len(done) + 1)
        together.wait()  # passes only where two are made at the same time
        assert not threading.current_thread().name.startswith("AnyIO")
        done.append(number)
        return number

    async def many():
        return await asyncio.gather(*map(handlers.preview_in_turn, range(8)))

    monkeypatch.setattr(handlers, "preview", preview)
    assert asyncio.run(many()) == list(range(8))
    assert max(most) == 2


def test_a_disk_that_takes_nothing_more_is_named_at_preview_and_start(public, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    path = write_rows(tmp_path, "in.csv", make_rows(2))
    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr("shutil.copyfile", full)
    answers = [BatchHandlers(public).preview(None, "This movie")[0], start_publicly(public, None, pasted="This movie"),
               start_publicly(public, path)]
    for answer in answers:
        assert answer["error"].startswith("The server cannot write to its disk (No space left on device).")
        assert str(tmp_path) not in answer["error"]
    assert list(jobs.root().glob("*")) == []


def test_a_batch_that_the_disk_does_not_let_go_stays(public, tmp_path, monkeypatch):
    handlers, who = BatchHandlers(public), visitor("1.2.3.4")
    key = start_publicly(public, write_rows(tmp_path, "in.csv", make_rows(2)))["started"]
    public.batches.find(key).join()

    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        for name in ("unlink", "rmdir"):
            patch.setattr(os, name, read_only)
        view = decode_messages(handlers.act({"key": key, "do": "remove"}, who))
        assert (view["phase"], view["key"]) == ("done", key)
        assert view["error"].startswith("The server cannot write to its disk (Read-only file system).")
    assert handlers.views([key])[0]["phase"] == "done"
    assert handlers.act({"key": key, "do": "remove"}, who)["phase"] == "gone"
    assert list(jobs.root().glob("*")) == []


NESTED = "[" * 100_000


@pytest.mark.parametrize(("name", "content"), [
    ("job.json", ""), ("job.json", "{"), ("job.json", "[]"), ("job.json", "null"), ("job.json", NESTED),
    ("job.json", '{"order": {}, "end": {}}'), ("journal", NESTED + "\n"), ("journal", "{}\n" + NESTED + "\n"),
    ("journal", "{}\n5\n"), ("end", "{}"), ("end", "5"),
], ids=lambda value: value[:16])
def test_a_broken_folder_of_a_batch_is_a_batch_that_is_gone(public, tmp_path, name, content):
    key = start_publicly(public, write_rows(tmp_path, "in.csv", make_rows(2)))["started"]
    batch = public.batches.find(key)
    batch.join()
    batch.save("interrupted")
    assert BatchHandlers(AppState(public.deployment)).views([key])[0]["phase"] == "interrupted"
    if name == "end":
        job = json.loads((batch.folder / "job.json").read_text())
        name, content = "job.json", json.dumps(job | {"end": json.loads(content)})
    (batch.folder / ("in.best.jsonl.partial" if name == "journal" else name)).write_text(content)
    again = AppState(public.deployment)
    assert BatchHandlers(again).views([key])[0]["phase"] == "gone"
    assert BatchHandlers(again).act({"key": key, "do": "resume"}, visitor("1.1.1.1"))["phase"] == "gone"
    public.batches.remove(batch)


def test_a_public_page_reads_no_parquet(public, tmp_path):
    path = write_rows(tmp_path, "in.parquet", make_rows(2))
    assert "does not accept Parquet" in start_publicly(public, path)["error"]
    assert "does not accept Parquet" in BatchHandlers(public).preview(str(path), "")[0]["error"]


def test_a_visitor_whose_batches_take_much_room_removes_one_before_the_next(public, tmp_path, monkeypatch):
    path = write_rows(tmp_path, "in.csv", make_rows(2))
    key = start_publicly(public, path, "1.1.1.1")["started"]
    batch = public.batches.find(key)
    batch.join()
    monkeypatch.setattr(sizes, "VISITOR_BYTES", batch.bytes - 1)
    assert "Your batches keep more than" in start_publicly(public, path, "1.1.1.1")["error"]
    assert "started" in start_publicly(public, path, "2.1.1.1")
    BatchHandlers(public).act({"key": key, "do": "remove"}, visitor("1.1.1.1"))
    assert "started" in start_publicly(public, path, "1.1.1.1")


def test_each_visitor_may_run_one_batch_and_all_together_a_few(public, gate, tmp_path):
    path = write_rows(tmp_path, "in.csv", make_rows(70))
    gate.open.clear()
    gate.calls = 1
    first_key = start_publicly(public, path, "1.1.1.1")["started"]
    assert "You already have a batch running" in start_publicly(public, path, "1.1.1.1")["error"]
    for i in range(2, 5):
        assert "started" in start_publicly(public, path, f"{i}.1.1.1")
    assert "4 batches are already running here" in start_publicly(public, path, "9.1.1.1")["error"]
    BatchHandlers(public).act({"key": first_key, "do": "stop"}, visitor("1.1.1.1"))
    public.batches.find(first_key).join()
    assert "started" in start_publicly(public, path, "1.1.1.1")
    gate.open.set()


def test_a_batch_that_waits_for_its_turn_can_be_stopped(public, tmp_path):
    with public.batches._shared.turn:  # as while another batch works on a group of rows
        key = start_publicly(public, write_rows(tmp_path, "in.csv", make_rows(3)))["started"]
        batch = public.batches.find(key)
        BatchHandlers(public).act({"key": key, "do": "stop"}, visitor("1.1.1.1"))
        batch.join(60)
        assert batch.phase == "stopped"


def test_a_download_link_gives_no_power_over_a_batch(public, tmp_path):
    handlers, stranger = BatchHandlers(public), visitor("9.9.9.9")
    key = start_publicly(public, write_rows(tmp_path, "in.csv", make_rows(3)))["started"]
    batch = public.batches.find(key)
    batch.join()
    (view,) = handlers.views([key])
    file = jobs.outputs_root().parent / view["files"][0]["path"]
    assert file.read_bytes() == (batch.folder / batch.order.output).read_bytes()
    batch_id, _, secret = key.partition(".")
    assert batch_id in view["files"][0]["path"]
    assert secret not in (batch.folder / "job.json").read_text("utf-8")
    public.batches._by_id.clear()  # as after a restart of the server
    for other in (batch_id, f"{batch_id}.", f"{batch_id}.{secret[:-1]}", f"{batch_id}.{secret}x", f"{batch_id}.é",
                  f"{secret}.{batch_id}", f"../bon-batches/{key}", "", "."):
        assert handlers.views([other]) == [{"key": other, "phase": "gone"}]
        for action in ("stop", "resume", "remove"):
            assert handlers.act({"key": other, "do": action}, stranger) == {"key": other, "phase": "gone"}
    assert handlers.views([key])[0]["phase"] == "done"
    assert handlers.act({"key": key, "do": "remove"}, visitor())["phase"] == "gone"
    assert not file.exists()


def test_outputs_are_copied_where_files_cannot_be_linked(public, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    batch = public.batches.find(start_publicly(public, write_rows(tmp_path, "in.csv", make_rows(3)))["started"])
    batch.join()
    for _ in range(2):
        (file,) = batch.served_outputs()
        assert file.read_bytes() == (batch.folder / batch.order.output).read_bytes()
        assert len(list(file.parent.iterdir())) == 1


def test_the_upload_of_a_stranger_goes_once_a_batch_has_it_and_the_page_asks_for_it_again(public, tmp_path):
    file = write_rows(tmp_path, "in.csv", make_rows(3))
    public.uploads.add("1.2.3.4", file)
    batch = public.batches.find(start_publicly(public, file)["started"])
    batch.join()
    assert (batch.phase, file.exists()) == ("done", False)
    message = "The file is no longer on the server. Upload it again."
    assert start_publicly(public, file)["error"] == message
    assert BatchHandlers(public).preview(str(file), "")[0] == {"error": message}


def test_expired_batches_are_deleted(public, tmp_path):
    batch = public.batches.find(start_publicly(public, write_rows(tmp_path, "in.csv", make_rows(3)))["started"])
    batch.join()
    (file,) = batch.served_outputs()
    public.batches.sweep(3600)
    assert batch.folder.is_dir()
    assert file.exists()
    public.batches.sweep(-1)
    assert not batch.folder.exists()
    assert not file.parent.exists()
    assert public.batches._find(batch.id) is None


def test_folders_of_batches_are_readable_only_by_their_owner(public, tmp_path):
    batch = public.batches.find(start_publicly(public, write_rows(tmp_path, "in.csv", make_rows(3)))["started"])
    assert (batch.folder.stat().st_mode & 0o777, batch.folder.parent) == (0o700, jobs.root())
    batch.join()


def test_a_batch_waits_for_a_visitor_and_gives_the_same_result(public, gate, sampler, tmp_path):
    path = write_rows(tmp_path, "in.csv", make_rows(70))
    gate.open.clear()
    gate.calls = 1
    batch = public.batches.find(start_publicly(public, path)["started"])
    while gate.calls < 2:
        time.sleep(0.01)
    with public.waiting.count_run():
        while gate.calls < 2 or public.batches._shared.turn.locked():
            time.sleep(0.01)
        gate.open.set()  # the batch makes no progress while a visitor waits
        time.sleep(0.2)
        assert batch.progress["done"] == 0
    batch.join()
    assert batch.phase == "done"
    expected = output_without_page(path, tmp_path / "out.jsonl", sampler)
    assert (batch.folder / batch.order.output).read_bytes() == expected


def test_an_error_is_worded_for_the_page(public, tmp_path):
    path = tmp_path / "in.csv"
    batch = jobs.Batch(path.parent, jobs.Order("mine.csv", "in.csv", "o", {}, None, None, 1, 0, 0.0))
    assert "--resume" not in batch.explain(InputError("output", "free some disk space and continue with --resume."))
    assert batch.explain(InputError("input", f"{path} is odd")) == "mine.csv is odd"
    assert "has changed since this batch began" in batch.explain(InputError("resume", "x --overwrite"))
    assert issubclass(LimitError, Exception)
