"""Files of an earlier version: records, links, journals, a browser's history and the page's batches (support/older)."""

import csv
import json
import re
import shutil
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import expect

import bon
from bon import flow
from bon.cli.main import main
from bon.messages import describe
from bon.settings import Request, Settings
from bon.ui.app_state import AppState
from bon.ui.batch import jobs
from bon.ui.batch.handlers import BatchHandlers
from bon.ui.generate import run_view
from bon.ui.generate.handlers import GenerateHandlers
from bon.ui.hosting.deployment import Deployment
from tests.support.browser import wait_until_ready
from tests.support.forms import FIRST_VALUES, accept, request_of
from tests.ui.test_history_tab import listed_texts, open_generate_tab, open_history, plant, press
from tests.ui.test_page import expect_phase

OLDER = Path(__file__).parents[1] / "support" / "older"
VISITOR = SimpleNamespace(client=SimpleNamespace(host="1.2.3.4"), headers={})
#: The most by which a score computed on another processor may differ.
ROUNDING = 1e-4
#: What the form holds at first.


def read_json(name):
    return json.loads((OLDER / name).read_text(encoding="utf-8"))


ENTRIES, LINKS = read_json("history.json"), read_json("links.json")
RECORDS = {f"{entry['phase']}-{json.loads(entry['record'])['prompt']}": entry["record"] for entry in ENTRIES}
RECORDS |= {"command": (OLDER / "command.json").read_text(encoding="utf-8")}


@pytest.fixture(scope="module")
def sampler():
    """The embedded models where the older version ran them."""
    return bon.load(device="cpu")


def sampler_for(settings):
    return bon.load(scorer=settings.scorer, target=settings.target, device="cpu")


@pytest.fixture
def page(monkeypatch, tmp_path, sampler):
    """The state of a page that keeps its batches in a folder of the test."""
    loaded = Future()
    loaded.set_result(sampler)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    state = AppState(Deployment())
    state.models.load = lambda _: loaded
    yield state
    state.batches.close()


def text_and_numbers(content: str) -> tuple[list[str], list[float]]:
    """A file's fractions, and the text between them."""
    fraction = r"-?\d+\.\d+(?:e-\d+)?"
    return re.split(fraction, content), [float(text) for text in re.findall(fraction, content)]


def _lines(path: Path) -> list[str]:
    """The lines of an output; of a CSV file its rows of cells, since an older version quoted fewer of them."""
    if path.suffix != ".csv":
        return path.read_text("utf-8").splitlines()
    with path.open(encoding="utf-8", newline="") as file:
        return list(map(json.dumps, csv.reader(file)))


def same(made: Path, expected: Path) -> bool:
    """Whether two outputs are equal but for the last digits of scores, and for one of 512 candidates.

    A number that draws one of its tokens is 1e-9 from the border of two; that version's sums fell on the wrong side.
    """
    (text, numbers), (older_text, older) = (text_and_numbers("\n".join(_lines(path))) for path in (made, expected))
    far = [abs(number - other) for number, other in zip(numbers, older, strict=True) if abs(number - other) > ROUNDING]
    return text == older_text and len(far) <= 1 and sum(far) < 1 / 64  # in the mean of 64 scores


def opened(record: str) -> dict:
    """A record as this version holds it: settings and facts that came after it are at their defaults."""
    raw = json.loads(record)
    later = {name: Settings().filled().to_dict()[name]
             for name in ("finish", "min_p", "typical_p", "repetition_penalty", "stop")}
    assert not later.keys() & raw["settings"].keys()
    facts = {"full_text": None, "tokens_left_out": 0, "unrated": False}
    candidates = [facts | candidate for candidate in raw["candidates"]]
    return raw | {"settings": raw["settings"] | later, "candidates": candidates, "dtype": None}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_opens_with_all_that_it_holds(record):
    raw, result = opened(record), run_view.read_record(record)
    again = run_view.record(result)
    for name in raw.keys() - {"candidates"}:
        assert json.loads(json.dumps(again[name])) == raw[name], name
    for candidate, older in zip(again["candidates"], raw["candidates"], strict=True):
        assert {name: json.loads(json.dumps(candidate[name])) for name in older} == older


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_repeats_to_the_same_texts(record):
    older = run_view.read_record(record)
    result = flow.last_result(sampler_for(older.settings).stream_request(Request(older.prompt, older.settings)))
    if any(c.ended == "stopped" for c in older.candidates):
        texts = {c.index: c.text for c in result.candidates}
        assert all(texts[c.index].startswith(c.text) for c in older.candidates)
        return
    facts = [[(c.index, c.rank, c.text, c.ended, c.tokens) for c in run.candidates] for run in (result, older)]
    assert facts[0] == facts[1]
    assert [c.score for c in result.candidates] == pytest.approx([c.score for c in older.candidates], abs=ROUNDING)
    assert result.settings == older.settings
    assert list(map(describe, result.notes)) == list(map(describe, older.notes))  # their English may be another


@pytest.mark.parametrize("link", LINKS, ids=[link["values"]["prompt"] for link in LINKS])
def test_a_share_link_fills_in_what_it_did(link):
    values, ignored = accept(dict(parse_qsl(urlsplit(link["link"]).query)), FIRST_VALUES)
    assert ignored == []
    used = {name: value for name, value in link["values"].items() if value is not None}  # None: a scorer without labels
    assert request_of(FIRST_VALUES | values) == request_of(FIRST_VALUES | used)


def test_a_history_entry_opens_and_is_ranked_by_other_rules(page):
    handlers = GenerateHandlers(page)
    for entry in ENTRIES:
        view = run_view.unpack(handlers.open_record(entry["record"]))
        assert (view["phase"], view["record"]) == (entry["phase"], opened(entry["record"]))
    soft = ENTRIES[-1]["record"]
    older = run_view.read_record(soft)
    choice = {"record": soft, "target": "NEGATIVE", "select": "best", "softness": 0.1}
    reranked = run_view.unpack(handlers.rerank(choice, VISITOR))["record"]
    scores = {c.index: 1 - c.score for c in older.candidates}
    assert {c["index"]: c["score"] for c in reranked["candidates"]} == pytest.approx(scores, abs=ROUNDING)
    assert [c["index"] for c in reranked["candidates"]] == sorted(scores, key=lambda index: -scores[index])


BATCHES = {"results.jsonl": [], "pairs.csv": ["--as", "preference", "--temperature", "0.8", "--target", "NEGATIVE"]}


@pytest.mark.parametrize(("name", "options"), BATCHES.items(), ids=BATCHES)
def test_a_batch_goes_on_from_its_journal_to_the_same_output(name, options, tmp_path, capsys):
    shutil.copy(OLDER / "batches/prompts.csv", tmp_path)
    journal = Path(shutil.copy(OLDER / f"batches/{name}.partial", tmp_path))
    of_run = ["--skip-bad", "-n", "64", "--min-tokens", "2", "--max-tokens", "8", "--device", "cpu", *options]
    # The status is 1 since a row fails.
    assert main(["batch", str(tmp_path / "prompts.csv"), str(tmp_path / name), *of_run, "--resume"]) == 1
    assert "seed 5" in capsys.readouterr().out  # which stands in the journal alone
    assert not journal.exists()
    assert same(tmp_path / name, OLDER / "batches" / name)
    # These are made of the journal's first group.
    assert _lines(tmp_path / name)[:3] == _lines(OLDER / "batches" / name)[:3]
    if options:
        failed = f"{name}.failed.jsonl"
        assert (tmp_path / failed).read_bytes() == (OLDER / "batches" / failed).read_bytes()


def kept_batch(name: str) -> str:
    """Puts a batch of the older page where this page looks for batches; its id."""
    batch_id = name.ljust(32, "_")
    shutil.copytree(OLDER / name, jobs.root() / batch_id)
    return batch_id


@pytest.mark.parametrize(("name", "output"), [
    ("page-batch-interrupted", "page-batch-done/prompts.best.jsonl"), ("page-batch-stopped", None),
])
def test_a_batch_of_the_page_goes_on(page, name, output):
    handlers, batch_id = BatchHandlers(page), kept_batch(name)
    (view,) = handlers.views([batch_id])
    assert (view["phase"], view["seed"], view["progress"]) == (name.rpartition("-")[2], "5", 4 / 9)
    handlers.act({"key": batch_id, "do": "resume"}, VISITOR)
    batch = page.batches.find(batch_id)
    batch.join()
    assert (batch.phase, batch.end.get("error")) == ("done", None)
    made = batch.folder / batch.order.output
    if output:
        assert same(made, OLDER / output)
    else:
        rows = [json.loads(line) for line in made.read_text("utf-8").splitlines()]
        assert [row["row"] for row in rows] == [0, 2, 3, 4, 5, 6, 7, 8]


def test_a_batch_of_the_page_that_is_done_is_shown(page):
    (view,) = BatchHandlers(page).views([kept_batch("page-batch-done")])
    assert (view["phase"], view["failed"], len(view["latest"])) == ("done", 1, 5)
    assert [file["name"] for file in view["files"]] == ["prompts.best.jsonl"]


def test_the_batches_that_a_browser_lists_go_on(served, page_state, sampler, visit, monkeypatch):
    loaded, keys = Future(), read_json("listed-batches.json")
    loaded.set_result(sampler)
    monkeypatch.setattr(page_state.models, "load", lambda _: loaded)
    shutil.copytree(OLDER / "page-batch-listed", jobs.root() / keys[0])
    page = visit(SimpleNamespace(url=served))
    page.evaluate("(keys) => { localStorage['bon-batches'] = JSON.stringify(keys) }", keys)
    page.reload()
    wait_until_ready(page)
    page.get_by_role("tab", name="Batch").click()
    batch = page.locator(".batch")
    expect(batch).to_have_attribute("data-phase", "stopped")
    batch.locator("[data-do=resume]").click()
    expect(batch).to_have_attribute("data-phase", "done")
    with page.expect_download() as download:
        batch.locator(".head .download").click()
    assert same(Path(download.value.path()), OLDER / "page-batch-done/prompts.best.jsonl")
    page.on("dialog", lambda dialog: dialog.accept())
    batch.locator("[data-do=remove]").click()
    expect(batch).to_have_attribute("data-phase", "empty")
    assert not (jobs.root() / keys[0]).exists()


def test_the_history_of_a_browser_is_listed_and_opens(stage, visit):
    page = open_history(visit(stage))
    for entry in ENTRIES:
        plant(page, **entry)
    open_generate_tab(page)
    assert [text.partition("…")[0][:8] for text in listed_texts(open_history(page))] == [
        json.loads(entry["record"])["prompt"][:8] for entry in ENTRIES]
    for number, (entry, link) in enumerate(zip(ENTRIES, LINKS, strict=True)):
        run = json.loads(entry["record"])
        # A switch is not ticked where a record lacks it.
        later = {name: FIRST_VALUES[name] is not True and FIRST_VALUES[name]
                 for name in FIRST_VALUES.keys() - link["values"].keys()}
        assert page.evaluate("(run) => bon.formValues(run)", run) == link["values"] | later
        query = urlsplit(page.evaluate("(run) => bon.shareLink(run)", run)).query
        assert dict(parse_qsl(query)) == dict(parse_qsl(urlsplit(link["link"]).query))
        press(page, "Open", number)
        expect_phase(page, entry["phase"])
        if entry["phase"] == "done":  # as the run before may be, whose text is shown until the answer comes
            best = run["candidates"][0]["text"].strip()
            expect(page.locator(".bon blockquote")).to_have_text(re.compile(re.escape(best) + "$"))
        open_history(page)
    open_generate_tab(page)
