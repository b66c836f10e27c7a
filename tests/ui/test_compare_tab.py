"""The Compare tab in a real browser: live cards, table and figure, Stop, failures, downloads."""

import csv
import io
import json
import re
import threading
from types import SimpleNamespace

import pytest
from playwright.sync_api import expect

from bon.compare import comparison_run
from bon.compare.comparison_run import ComparisonModels
from bon.compare.events import PromptDone
from bon.errors import ModelError
from bon.result import Timing
from bon.scorers.callable_scorer import CallableScorer
from bon.settings import Settings
from bon.ui.app_state import AppState
from bon.ui.compare import comparison_view
from bon.ui.compare.handlers import CompareHandlers
from bon.ui.hosting.deployment import Deployment
from bon.ui.work.speed_estimate import format_estimate
from tests.compare.test_comparison import engine_of, sentiment
from tests.support.browser import DESK, PHONE_SIZE, layout_faults, set_variant
from tests.support.forms import FIRST_VALUES, request_of

NASTY = "<img src=x onerror=window.hacked=1> ${window.hacked=1} </script>"


@pytest.fixture(scope="module")
def models() -> ComparisonModels:
    """Tiny models to compare."""
    return ComparisonModels(engine_of(0), sentiment(0), engine_of(1, name="tuned"), sentiment(4))


@pytest.fixture
def compared_with(page_state, monkeypatch):
    """Gives the page the models of a comparison."""
    return lambda models: monkeypatch.setattr(page_state.models, "comparison_models", lambda settings: models)


@pytest.fixture
def page(served, visit, models, compared_with):
    """The Compare tab over tiny models, with a seed by which no text is empty."""
    compared_with(models)
    page = visit(SimpleNamespace(url=f"{served}/?seed=7"))
    page.get_by_role("tab", name="Compare").click()
    return page


def start(page, prompts, n=4):
    page.fill("#compare-prompts textarea", prompts)
    page.fill("#compare-n input", str(n))
    page.click("#compare-start")


def expect_phase(page, name):
    expect(page.locator(".comparison")).to_have_attribute("data-phase", name)


def wait_until_done(page, last_prompt):
    """Waits until the comparison that ends with this prompt is done; an earlier one may be shown until then."""
    expect(page.locator(".comparison .card .prompt").first).to_have_text(last_prompt)
    expect_phase(page, "done")


def system_names(page):
    return page.locator(".comparison tbody th").all_inner_texts()


def test_comparisons_are_shown_stopped_and_downloaded_and_errors_named(
        page, page_state, models, compared_with, monkeypatch):
    the_tab_opens_with_a_finished_comparison_that_says_what_it_is(page)
    the_time_is_estimated_from_runs_so_far(page, page_state)
    three_systems_are_shown_with_table_and_figure(page)
    the_downloads_hold_the_comparison_of_the_page(page)
    markup_in_texts_and_labels_is_not_interpreted(page, models, compared_with)
    a_missing_model_is_named_and_the_others_are_compared(page, models, compared_with)
    stop_keeps_the_finished_prompts(page, models, compared_with)
    a_failure_midway_shows_its_reason_and_keeps_finished_prompts(page, models, compared_with)
    errors_are_shown_in_the_tab(page, "This movie", 0, "from 1")
    errors_are_shown_in_the_tab(page, "word " * 400, 4, "Prompt 1")
    models_that_cannot_be_loaded_are_an_error_in_the_tab(page, page_state, monkeypatch)


def the_time_is_estimated_from_runs_so_far(page, page_state):
    for n in (2, 24):
        settings = Settings(n=n, model="embedded", min_tokens=8, max_tokens=32)
        page_state.speeds.record(SimpleNamespace(settings=settings, timing=Timing(total=0.1 * n)))
    start_text = page.locator("#compare-estimate")
    page.fill("#compare-prompts textarea", "One\nTwo")
    expect(start_text).to_have_text(re.compile(r"about \d+ s here"))
    page.fill("#compare-prompts textarea", "")
    expect(start_text).to_have_text(re.compile(r"about \d+ (s|min) here"))
    page.fill("#compare-n input", "0")
    expect(start_text).to_have_text("")
    page.fill("#compare-n input", "4")


def the_tab_opens_with_a_finished_comparison_that_says_what_it_is(page):
    expect_phase(page, "sample")
    expect(page.locator(".comparison .status")).to_contain_text("An example over the 32 built-in prompts.")
    assert page.locator(".comparison .card h2").all_inner_texts() == ["Base model", "Tuned model", "Best of 16"]
    assert system_names(page)[:2] == ["base", "tuned"]
    expect(page.locator(".comparison blockquote[data-cut]")).to_have_count(0)  # all end with a sentence
    expect(page.locator(".comparison svg")).to_be_visible()
    assert page.evaluate("() => { const t = document.querySelector('.comparison table');"
                         "return t.scrollWidth - t.parentElement.clientWidth; }") == 0


def three_systems_are_shown_with_table_and_figure(page):
    start(page, "This movie\nThe hotel room")
    wait_until_done(page, "The hotel room")
    assert page.locator(".comparison .card h2").all_inner_texts() == ["Base model", "Tuned model", "Best of 4"]
    assert system_names(page) == ["base", "tuned", "best of 2", "best of 4", "soft best of 4", "worst of 4"]
    expect(page.locator(".comparison .card blockquote .prompt").first).to_have_text("The hotel room")
    scores = [float(text) for text in page.locator(".comparison .card .score").all_inner_texts()]
    assert scores[2] >= scores[0]
    expect(page.locator(".comparison svg")).to_be_visible()
    expect(page.locator(".comparison .sentence")).to_contain_text(re.compile("nats|ahead"))


def the_downloads_hold_the_comparison_of_the_page(page):
    base_score = page.locator(".comparison tbody tr:first-child td").first.inner_text().split()[0]
    files = {}
    for form in ("CSV", "JSON", "HTML"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download {form}").click()
        files[form] = download.value.path().read_text(encoding="utf-8")
    record = json.loads(files["JSON"])
    assert [sample["prompt"] for sample in record["samples"]] == ["This movie", "The hotel room"]
    assert f"{record['table'][0]['score']['mean']:.3f}" == base_score
    assert float(next(csv.DictReader(io.StringIO(files["CSV"])))["score"]) == record["table"][0]["score"]["mean"]
    assert base_score in files["HTML"]
    # The report loads no other files.
    report = page.context.browser.new_page()
    requests = []
    report.on("request", lambda request: requests.append(request.url))
    report.set_content(files["HTML"])
    assert report.locator("table").count() == 2
    assert requests == []
    report.close()


def markup_in_texts_and_labels_is_not_interpreted(page, models, compared_with):
    label = f"</text></svg>{NASTY}"
    compared_with(ComparisonModels(models.base, sentiment(0, ("NEGATIVE", label)), models.tuned, models.judge))
    start(page, NASTY)
    wait_until_done(page, NASTY)
    expect(page.locator(".comparison svg text").filter(has_text=label)).to_have_count(1)
    assert page.locator(".comparison img").count() == 0
    assert page.evaluate("window.hacked") is None


def a_missing_model_is_named_and_the_others_are_compared(page, models, compared_with):
    compared_with(ComparisonModels(models.base, models.scorer, notes=("The tuned model is missing: no such folder.",)))
    start(page, "This movie")
    wait_until_done(page, "This movie")
    assert page.locator(".comparison .card h2").all_inner_texts() == ["Base model", "Best of 4"]
    expect(page.locator(".comparison .notes")).to_contain_text("The tuned model is missing: no such folder.")


def models_with_waiting_judge(models) -> tuple[ComparisonModels, threading.Event]:
    """Models whose judge waits after the first prompts, and the event that releases it."""
    calls, goes_on = [], threading.Event()

    def judge(texts):
        calls.append(texts)
        if len(calls) > 4:
            goes_on.wait(0.2)
        return [0.5] * len(texts)

    return ComparisonModels(models.base, models.scorer, models.tuned, CallableScorer(judge)), goes_on


def stop_keeps_the_finished_prompts(page, models, compared_with):
    waiting, goes_on = models_with_waiting_judge(models)
    compared_with(waiting)
    start(page, "\n".join(f"This movie number {i}" for i in range(60)), n=16)
    expect(page.locator(".comparison .status b")).to_have_text(re.compile(r"Prompt ([3-9]|\d\d) of 60"))
    page.click("#compare-stop")
    expect_phase(page, "stopped")
    expect(page.locator(".comparison .status")).to_contain_text("Finished work is kept.")
    assert "best of 16" in system_names(page)
    goes_on.set()
    compared_with(models)
    start(page, "The next movie")
    wait_until_done(page, "The next movie")


def a_failure_midway_shows_its_reason_and_keeps_finished_prompts(page, models, compared_with):
    calls = []

    def judge(texts):
        calls.append(texts)
        if len(calls) > 4:
            raise RuntimeError("no more tea")
        return [0.5] * len(texts)

    compared_with(ComparisonModels(models.base, models.scorer, models.tuned, CallableScorer(judge)))
    start(page, "This movie\nThe hotel room\nThe end")
    expect(page.locator(".comparison [role=alert]")).to_contain_text("no more tea")
    expect_phase(page, "failed")
    assert "best of 4" in system_names(page)
    expect(page.get_by_role("button", name="Download CSV")).to_be_visible()


def errors_are_shown_in_the_tab(page, prompts, n, message):
    start(page, prompts, n)
    expect(page.locator(".comparison [role=alert]")).to_contain_text(message)
    expect_phase(page, "failed")


def models_that_cannot_be_loaded_are_an_error_in_the_tab(page, page_state, monkeypatch):
    def missing(settings):
        raise ModelError("There is no folder nowhere.")

    monkeypatch.setattr(page_state.models, "comparison_models", missing)
    start(page, "This movie")
    expect(page.locator(".comparison [role=alert]")).to_have_text("There is no folder nowhere.")
    expect_phase(page, "failed")


def test_every_state_fits_and_is_accessible(page, axe, models, compared_with):
    the_table_is_stacked_where_its_columns_have_no_room(page)
    faults_by_state = {"sample": layout_faults(page, axe)}
    start(page, "This movie\nThe hotel room")
    wait_until_done(page, "The hotel room")
    faults_by_state["done"] = layout_faults(page, axe)
    waiting, goes_on = models_with_waiting_judge(models)
    compared_with(waiting)
    start(page, "\n".join(f"This movie number {i}" for i in range(60)), n=16)
    expect_phase(page, "writing")
    faults_by_state["writing"] = layout_faults(page, axe)
    expect_phase(page, "writing")
    page.click("#compare-stop")
    expect_phase(page, "stopped")
    goes_on.set()
    faults_by_state["stopped"] = layout_faults(page, axe)
    start(page, "This movie", n=0)
    expect_phase(page, "failed")
    faults_by_state["failed"] = layout_faults(page, axe)
    assert {name: faults for name, faults in faults_by_state.items() if faults} == {}


def the_table_is_stacked_where_its_columns_have_no_room(page):
    table, row = page.locator(".comparison .scroll"), page.locator(".comparison tbody tr").nth(1)
    for size in (DESK, PHONE_SIZE):
        set_variant(page, size, "light")
        assert table.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    assert row.locator("td").first.evaluate("(cell) => getComputedStyle(cell, '::before').content") == '"mean score "'
    expect(row.get_by_role("cell")).to_have_count(6)  # to screen readers it is still a table
    assert row.locator("td").last.bounding_box()["y"] > row.locator("th").bounding_box()["y"]
    set_variant(page, DESK, "light")
    assert row.locator("td").last.bounding_box()["y"] == row.locator("th").bounding_box()["y"]


def test_the_estimate_counts_a_tuned_model_where_there_is_one():
    state, size = AppState(Deployment()), {"min_tokens": 8, "max_tokens": 32}
    for model in ("embedded", "smollm2"):
        for n in (1, 16):
            settings = Settings(n=n, model=model, **size)
            state.speeds.record(SimpleNamespace(settings=settings, timing=Timing(total=float(n))))
    estimate = CompareHandlers(state).estimate
    assert estimate("This movie", 16, 8, 32, "embedded", "") == format_estimate(2 * 16 + 3)
    assert estimate("This movie", 16, 8, 32, "smollm2", "") == format_estimate(16 + 2)


def test_without_its_sample_the_tab_says_what_it_is_for(tmp_path):
    view = comparison_view.sample_view(tmp_path / "comparison.json")
    assert (view["phase"], view["title"]) == ("empty", "Does tuning beat sampling?")


def test_the_table_is_computed_for_few_of_many_prompts(models):
    models = ComparisonModels(models.base, models.scorer)
    progress, tables = comparison_view.ComparisonProgress(60), []
    settings = request_of(FIRST_VALUES | {"n": 1, "min_tokens": 1, "max_tokens": 1, "seed": "3"}).settings
    for event in comparison_run.stream(["This"] * 60, models, settings):
        progress.add(event)
        if isinstance(event, PromptDone):
            tables.append(json.dumps(progress.view()["about"]))
    assert len(set(tables)) < 45
    assert progress.view("done")["about"].startswith("60 prompts")
