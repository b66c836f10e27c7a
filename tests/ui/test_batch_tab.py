"""The Batch tab in a real browser: files in, the batch on the server whoever looks on, files out."""

import csv
import json
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
from bon.batch.input_rows import Dataset
from bon.errors import InputError, LimitError
from bon.settings import Settings
from bon.ui.app_state import AppState
from bon.ui.batch import jobs
from bon.ui.batch.handlers import TAB_SETTINGS, BatchHandlers
from bon.ui.generate.form_values import FIELDS
from bon.ui.hosting.deployment import Deployment
from tests.compare.test_comparison import engine_of, sentiment
from tests.support.browser import opened, unfit

NASTY = "<img src=x onerror=window.hacked=1> ${window.hacked=1} </script>"
PROMPTS = ["This movie", "The plot of the film", "The hotel room"]
SETTINGS = Settings(n=4, seed=7, min_tokens=2, max_tokens=8)


class Gate:
    """An engine that waits, while `open` is not set, before it works on any rows but the first."""

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
    return Gate(engine_of(0))


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
    """Opens the Batch tab; at the end nothing goes on."""
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


def rows(count: int) -> list[dict]:
    return [{"id": i, "prompt": PROMPTS[i % 3]} for i in range(count)]


def file_of(folder: Path, name: str, made: list[dict]) -> Path:
    """The rows as a file of the format that the name says."""
    path = folder / name
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(made), path)
    elif path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            out = csv.DictWriter(file, list(made[0]))
            out.writeheader()
            out.writerows(made)
    elif path.suffix == ".txt":
        path.write_text("".join(row["prompt"] + "\n" for row in made), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return path


def give(page, path: Path) -> None:
    if (before := page.locator("#batch-file [aria-label=Clear]")).count():
        before.click()
        expect(page.locator(".preview")).to_be_empty()
    page.set_input_files("#batch-file input[type=file]", path)


def choose(page, field: str, words: str) -> None:
    page.click(f"#batch-{field} input")
    page.get_by_role("option", name=re.compile(f"^{words}")).click()


def start(page, **numbers) -> None:
    for name, value in {"n": 4, "min": 2, "max": 8, "seed": 7, **numbers}.items():
        page.fill(f"#batch-{name} input", str(value))
    page.click("#batch-start")


def phase(page, name) -> None:
    expect(page.locator(".batch")).to_have_attribute("data-phase", name)


def done(page, name: str) -> None:
    """Waits until the batch of this name is shown, and done."""
    expect(page.locator(".batch .under").first).to_contain_text(name)
    phase(page, "done")


def started(page, path: Path, name="running", **numbers) -> None:
    give(page, path)
    expect(page.locator(".preview b")).to_be_visible()
    start(page, **numbers)
    phase(page, name)


def downloaded(page) -> Path:
    with page.expect_download() as download:
        page.locator(".batch .head .download").first.click()
    return download.value.path()


def alone(path: Path, output: Path, sampler, **how) -> bytes:
    """What the same task comes to without the page."""
    for _ in batch_run.stream(Task(Dataset(path), output, SETTINGS, **how), sampler.engine, sampler.scorer):
        pass
    return output.read_bytes()


def test_files_of_every_kind_come_in_and_go_out(page, tmp_path, sampler):
    pasted_lines_are_prompts(page)
    for count, name in enumerate(("in.csv", "in.jsonl", "in.parquet", "in.txt"), 70):
        a_format_is_shown_done_and_brought_home(page, tmp_path, sampler, name, count)
    the_result_has_the_chosen_form_and_format(page, tmp_path, "preference", "preference", ".parquet", 6)
    the_result_has_the_chosen_form_and_format(page, tmp_path, "sft", "SFT", ".csv", 5)
    an_earlier_batch_is_a_click_away(page)
    remove_deletes_all_of_it(page)


def pasted_lines_are_prompts(page):
    page.fill("#batch-paste textarea", "This movie\n\n  The hotel room  \n")
    expect(page.locator(".preview")).to_contain_text("2 rows")
    start(page)
    phase(page, "done")
    made = [json.loads(line) for line in downloaded(page).read_text("utf-8").splitlines()]
    assert [row["prompt"] for row in made] == ["This movie", "The hotel room"]
    page.fill("#batch-paste textarea", "")
    expect(page.locator(".preview")).to_be_empty()


def a_format_is_shown_done_and_brought_home(page, tmp_path, sampler, name, count):
    path = file_of(tmp_path, name, rows(count))
    give(page, path)
    expect(page.locator(".preview")).to_contain_text(f"{count} rows")
    assert page.locator(".preview li").all_inner_texts() == PROMPTS
    start(page)
    done(page, name)
    expect(page.locator(".batch .winners li")).to_have_count(5)
    expect(page.locator(".batch .winners .prompt").first).to_have_text(PROMPTS[(count - 1) % 3])
    assert downloaded(page).read_bytes() == alone(path, tmp_path / f"{name}.out.jsonl", sampler)


def the_result_has_the_chosen_form_and_format(page, tmp_path, form, words, ending, count):
    give(page, file_of(tmp_path, f"for-{form}.jsonl", rows(count)))
    expect(page.locator(".preview")).to_contain_text(f"{count} rows")
    choose(page, "as", words)
    choose(page, "format", ending[1:].upper())
    start(page)
    done(page, f"for-{form}.jsonl")
    expect(page.locator(".batch .head .download").first).to_contain_text(f"for-{form}.{form}{ending}")
    path = downloaded(page)
    if ending == ".parquet":
        found = pyarrow.parquet.read_table(path).to_pylist()
    else:
        with open(path, newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
    assert {"prompt", "input_id" if "input_id" in found[0] else "id"} <= set(found[0])
    assert ({"chosen", "rejected"} if form == "preference" else {"completion"}) <= set(found[0])


def an_earlier_batch_is_a_click_away(page):
    expect(page.locator(".batch .under").first).to_contain_text("for-sft.jsonl")
    page.get_by_role("button", name="Open: in.csv").click()
    expect(page.locator(".batch .under").first).to_contain_text("in.csv")


def remove_deletes_all_of_it(page):
    kept = "JSON.parse(localStorage['bon-batches'])"
    folder = jobs.root() / page.evaluate(f"{kept}[0]")
    assert folder.is_dir()
    page.on("dialog", lambda dialog: dialog.accept())
    for left in range(page.evaluate(f"{kept}.length") - 1, -1, -1):
        page.locator("[data-do=remove]").click()
        page.wait_for_function(f"{kept}.length === {left}")
        expect(page.locator(".batch .others li")).to_have_count(max(0, left - 1))
    phase(page, "empty")
    assert not folder.exists()


#: Files that cannot work: their names, what is in them, and what is said.
UNFIT = [
    ("a.csv", b"prompt\n", "a.csv has no row"),
    ("a.txt", b"", "a.txt has no row"),
    ("b.txt", b"\x00\x01\x02", "b.txt is not text"),
    ("a.jsonl", b"\xff\xfeno", "UTF"),
    ("a.parquet", b"PAR1 not really", "a.parquet cannot be read as Parquet"),
    ("a.xlsx", b"PK", "a.xlsx must end in one of .csv"),
    ("many.csv", b"prompt\n" + b"This movie\n" * 10_001, "at most 10,000"),
]


def test_what_cannot_work_is_said_where_it_is(page, tmp_path):
    nothing_to_do_is_said(page)
    for name, content, said in UNFIT:
        a_file_that_cannot_work_is_said_so_without_the_servers_paths(page, tmp_path, name, content, said)
    the_column_is_found_or_asked_for(page, tmp_path)
    rows_that_fail_are_counted_and_shown(page, tmp_path)
    texts_stay_texts(page, tmp_path)


def nothing_to_do_is_said(page):
    start(page)
    expect(page.locator(".batch > .alert")).to_have_text("Choose a file of prompts, or paste some.")
    page.fill("#batch-paste textarea", "This movie")
    expect(page.locator(".preview")).to_contain_text("1 row")
    start(page, n=0)
    expect(page.locator(".batch > .alert")).to_contain_text("n must be a whole number from 1 to 256")
    page.fill("#batch-paste textarea", "")
    expect(page.locator(".preview")).to_be_empty()


def a_file_that_cannot_work_is_said_so_without_the_servers_paths(page, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    give(page, tmp_path / name)
    expect(page.locator(".preview .alert")).to_contain_text(said)
    start(page)
    expect(page.locator(".batch > .alert")).to_contain_text(said)
    assert "gradio" not in page.locator(".preview").inner_text() + page.locator(".batch").inner_text()
    if "10,000" in said:
        expect(page.locator(".preview code")).to_have_text(f"python -m bon batch {name} results.jsonl")
    deadline = time.monotonic() + 60  # previews, too, put a file into a folder for a moment
    while (without_batch := folders_without_batch()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert without_batch == []


def folders_without_batch() -> list[Path]:
    """What refused files have left on the server."""
    return [folder for folder in jobs.root().iterdir() if folder.is_dir() and not (folder / "job.json").exists()]


def the_column_is_found_or_asked_for(page, tmp_path):
    made = [{"title": "Night", "words": f"The film {i}"} for i in range(3)]
    give(page, file_of(tmp_path, "odd.csv", made))
    expect(page.locator(".preview")).to_have_text("Which column holds the prompts? ")
    start(page)
    expect(page.locator(".batch .alert")).to_contain_text("title, words")
    choose(page, "column", "words")
    expect(page.locator(".preview")).to_contain_text("prompts in the column words")
    start(page)
    phase(page, "done")
    expect(page.locator(".batch .winners .prompt").first).to_have_text("The film 2")


def rows_that_fail_are_counted_and_shown(page, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "This movie"}\n{"prompt": ""}\nno json\n', encoding="utf-8")
    give(page, path)
    expect(page.locator(".preview")).to_contain_text("1 row cannot be read and will count as failed")
    start(page)
    done(page, "in.jsonl")
    assert page.locator(".batch .errors li").count() == 2
    expect(page.locator(".batch .errors")).to_contain_text("line 3 is not JSON")
    expect(page.locator(".batch .facts")).to_contain_text("rows failed")
    made = [json.loads(line) for line in downloaded(page).read_text("utf-8").splitlines()]
    assert [bool(row["error"]) for row in made] == [False, True, True]


def texts_stay_texts(page, tmp_path):
    give(page, file_of(tmp_path, "nasty.jsonl", [{"prompt": NASTY, NASTY: "x"}]))
    expect(page.locator(".preview li")).to_have_count(1)
    expect(page.locator(".preview li")).to_have_text(NASTY)
    start(page)
    done(page, "nasty.jsonl")
    expect(page.locator(".batch .winners .prompt")).to_have_text(NASTY)
    page.locator(".batch summary").click()
    assert page.evaluate("window.hacked") is None


def test_a_batch_goes_on_without_its_tab_and_from_where_it_was_stopped(open_tab, served, gate, tmp_path, sampler):
    page = open_tab()
    path = file_of(tmp_path, "in.csv", rows(200))
    wanted = alone(path, tmp_path / "out.jsonl", sampler)
    gate.calls = 0
    a_batch_goes_on_without_its_tab_and_is_found_again(page, served, gate, path, wanted)
    stop_keeps_what_is_done_and_resume_comes_to_the_same(page, gate, path.rename(tmp_path / "again.csv"), wanted)
    visitors_see_their_own_batches_alone(open_tab())


def a_batch_goes_on_without_its_tab_and_is_found_again(page, served, gate, path, wanted):
    gate.open.clear()
    started(page, path)
    expect(page.locator(".batch .status")).to_contain_text("64 of 200 rows")
    page.goto("about:blank")
    gate.open.set()
    page.goto(served)
    opened(page)
    page.get_by_role("tab", name="Batch").click()
    phase(page, "done")
    assert downloaded(page).read_bytes() == wanted


def stop_keeps_what_is_done_and_resume_comes_to_the_same(page, gate, path, wanted):
    gate.calls = 0
    gate.open.clear()
    started(page, path)
    expect(page.locator(".batch .status")).to_contain_text("64 of 200 rows")
    page.locator("[data-do=stop]").click()
    phase(page, "stopped")
    expect(page.locator(".batch .status")).to_contain_text("Stopped at 64 of 200.")
    gate.open.set()
    page.locator("[data-do=resume]").click()
    done(page, path.name)
    assert downloaded(page).read_bytes() == wanted


def visitors_see_their_own_batches_alone(other):
    phase(other, "empty")
    # Nor by a made-up id, or one that would lead elsewhere.
    other.evaluate("localStorage['bon-batches'] = JSON.stringify(['x'.repeat(32), '../../etc', ''])")
    other.reload()
    opened(other)
    other.get_by_role("tab", name="Batch").click()
    expect(other.locator(".batch > .alert")).to_have_text("A batch from this browser is no longer on the server.")
    assert "again.csv" not in other.content()
    assert "in.csv" not in other.content()


def test_the_tab_is_accessible_and_fits(page, axe, tmp_path):
    phase(page, "empty")
    assert unfit(page, axe) == []
    give(page, file_of(tmp_path, f"{'long' * 20}.csv", rows(70)))
    expect(page.locator(".preview b")).to_be_visible()
    assert unfit(page, axe) == []
    start(page)
    phase(page, "done")
    assert unfit(page, axe) == []


# A page for strangers, and the rules without a browser.


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


def asked(state: AppState, path: Path | None, who="1.2.3.4", pasted="", **changes) -> dict:
    own = {"n": 4, "min_tokens": 2, "max_tokens": 8, "seed": "7"}
    form = {"prompt": "", "n": 16, "target": "POSITIVE", "min_tokens": 8, "max_tokens": 32, "temperature": 1,
            "top_p": 1, "top_k": 0, "seed": "", "model": "embedded", "scorer": "", "reject": False, "select": "best",
            "softness": 0.1, "chat": None, **changes}
    values = [*({**own, **changes}[name] for name in TAB_SETTINGS), *(form[name] for name in FIELDS)]
    return BatchHandlers(state).start(visitor(who), path and str(path), pasted, None, "results", ".jsonl", *values)


@pytest.mark.parametrize(("made", "changes", "said"), [
    (rows(71), {}, "at most 70"),
    ([{"prompt": "x" * 41}], {}, "at most 40"),
    (rows(2), {"n": 65}, "at most 64"),
    (rows(2), {"model": "/etc"}, "offers the models"),
    (rows(2), {"scorer": "someone/else"}, "offers the scorers"),
])
def test_a_public_page_refuses_more_than_it_gives_away(public, tmp_path, made, changes, said):
    assert said in asked(public, file_of(tmp_path, "in.csv", made), **changes)["error"]
    assert list(jobs.root().glob("*")) == []


def test_strangers_parquet_is_not_read(public, tmp_path):
    path = file_of(tmp_path, "in.parquet", rows(2))
    assert "does not accept Parquet" in asked(public, path)["error"]
    assert "does not accept Parquet" in BatchHandlers(public).preview(str(path), "")[0]["error"]


def test_a_stranger_has_one_batch_at_a_time_and_all_have_a_few(public, gate, tmp_path):
    path = file_of(tmp_path, "in.csv", rows(70))
    gate.open.clear()
    gate.calls = 1
    first = asked(public, path, "1.1.1.1")["started"]
    assert "You already have a batch running" in asked(public, path, "1.1.1.1")["error"]
    for i in range(2, 5):
        assert "started" in asked(public, path, f"{i}.1.1.1")
    assert "4 batches are already running here" in asked(public, path, "9.1.1.1")["error"]
    BatchHandlers(public).act({"id": first, "do": "stop"}, visitor("1.1.1.1"))
    public.batches.find(first).join()
    assert "started" in asked(public, path, "1.1.1.1")
    gate.open.set()


def test_batches_are_swept_when_their_time_is_over(public, tmp_path):
    made = public.batches.find(asked(public, file_of(tmp_path, "in.csv", rows(3)))["started"])
    made.join()
    public.batches.sweep(3600)
    assert made.folder.is_dir()
    public.batches.sweep(-1)
    assert not made.folder.exists()
    assert public.batches.find(made.id) is None


def test_folders_can_be_read_by_their_owner_alone(public, tmp_path):
    made = public.batches.find(asked(public, file_of(tmp_path, "in.csv", rows(3)))["started"])
    assert (made.folder.stat().st_mode & 0o777, made.folder.parent) == (0o700, jobs.root())
    made.join()


def test_a_batch_gives_way_to_a_visitor_and_comes_to_the_same(public, gate, sampler, tmp_path):
    path = file_of(tmp_path, "in.csv", rows(70))
    gate.open.clear()
    gate.calls = 1
    made = public.batches.find(asked(public, path)["started"])
    while gate.calls < 2:
        time.sleep(0.01)
    with public.waiting.count_run():
        while gate.calls < 2 or public.batches._shared.turn.locked():
            time.sleep(0.01)
        gate.open.set()  # nothing goes on while somebody waits
        time.sleep(0.2)
        assert made.progress["done"] == 0
    made.join()
    assert made.phase == "done"
    assert (made.folder / made.order.output).read_bytes() == alone(path, tmp_path / "out.jsonl", sampler)


def test_a_failure_is_said_in_the_pages_words(public, tmp_path):
    path = tmp_path / "in.csv"
    made = jobs.Batch(path.parent, jobs.Order("mine.csv", "in.csv", "o", {}, None, None, 1, 0, 0.0))
    assert "--resume" not in made.explain(InputError("output", "free some disk space and continue with --resume."))
    assert made.explain(InputError("input", f"{path} is odd")) == "mine.csv is odd"
    assert "has changed since this batch began" in made.explain(InputError("resume", "x --overwrite"))
    assert issubclass(LimitError, Exception)
