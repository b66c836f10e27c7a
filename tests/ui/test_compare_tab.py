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
from bon.scorers.callable_scorer import CallableScorer
from bon.ui.compare import comparison_view
from bon.ui.generate import form_values
from tests.compare.test_comparison import engine_of, sentiment
from tests.support.browser import unfit
from tests.support.forms import request_of

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
    """The Compare tab over tiny models."""
    compared_with(models)
    page = visit(SimpleNamespace(url=served))
    page.get_by_role("tab", name="Compare").click()
    return page


def start(page, prompts, n=4):
    page.fill("#compare-prompts textarea", prompts)
    page.fill("#compare-n input", str(n))
    page.click("#compare-start")


def phase(page, name):
    expect(page.locator(".comparison")).to_have_attribute("data-phase", name)


def done(page, last):
    """Waits for the comparison whose last prompt this is: what an earlier one left may be shown until then."""
    expect(page.locator(".comparison .card .prompt").first).to_have_text(last)
    phase(page, "done")


def heads(page):
    return page.locator(".comparison tbody th").all_inner_texts()


def test_systems_are_compared_and_all_of_it_is_shown_and_kept(page, page_state, models, compared_with, monkeypatch):
    the_tab_opens_with_a_finished_comparison_that_says_what_it_is(page)
    three_systems_stand_side_by_side_with_table_and_figure(page)
    the_downloads_are_the_comparison_on_the_page(page)
    texts_stay_texts(page)
    what_is_missing_is_said_and_the_rest_stands(page, models, compared_with)
    stop_keeps_the_prompts_that_are_done(page, models, compared_with)
    a_failure_midway_says_why_and_keeps_what_was_done(page, models, compared_with)
    what_cannot_work_is_said_in_the_tab(page, "This movie", 0, "from 1")
    what_cannot_work_is_said_in_the_tab(page, "word " * 400, 4, "Prompt 1")
    models_that_cannot_be_loaded_are_said(page, page_state, monkeypatch)


def the_tab_opens_with_a_finished_comparison_that_says_what_it_is(page):
    phase(page, "sample")
    expect(page.locator(".comparison .status")).to_contain_text("An example over the 32 built-in prompts.")
    assert page.locator(".comparison .card h2").all_inner_texts() == ["Base model", "Tuned model", "Best of 16"]
    assert heads(page)[:2] == ["base", "tuned"]
    expect(page.locator(".comparison svg")).to_be_visible()
    assert page.evaluate("() => { const t = document.querySelector('.comparison table');"
                         "return t.scrollWidth - t.parentElement.clientWidth; }") == 0


def three_systems_stand_side_by_side_with_table_and_figure(page):
    start(page, "This movie\nThe hotel room")
    done(page, "The hotel room")
    assert page.locator(".comparison .card h2").all_inner_texts() == ["Base model", "Tuned model", "Best of 4"]
    assert heads(page) == ["base", "tuned", "best of 2", "best of 4", "soft best of 4", "average of the best 4",
                           "worst of 4"]
    expect(page.locator(".comparison .card blockquote .prompt").first).to_have_text("The hotel room")
    scores = [float(text) for text in page.locator(".comparison .card .score").all_inner_texts()]
    assert scores[2] >= scores[0]
    expect(page.locator(".comparison svg")).to_be_visible()
    expect(page.locator(".comparison .sentence")).to_contain_text(re.compile("nats|ahead"))


def the_downloads_are_the_comparison_on_the_page(page):
    shown = page.locator(".comparison tbody tr:first-child td").first.inner_text().split()[0]
    found = {}
    for kind in ("CSV", "JSON", "HTML"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download {kind}").click()
        found[kind] = download.value.path().read_text(encoding="utf-8")
    told = json.loads(found["JSON"])
    assert [sample["prompt"] for sample in told["samples"]] == ["This movie", "The hotel room"]
    assert f"{told['table'][0]['score']['mean']:.3f}" == shown
    assert float(next(csv.DictReader(io.StringIO(found["CSV"])))["score"]) == told["table"][0]["score"]["mean"]
    assert shown in found["HTML"]
    # The report needs nothing else: it opens alone.
    report = page.context.browser.new_page()
    asked = []
    report.on("request", lambda request: asked.append(request.url))
    report.set_content(found["HTML"])
    assert report.locator("table").count() == 2
    assert asked == []
    report.close()


def texts_stay_texts(page):
    start(page, NASTY)
    done(page, NASTY)
    assert page.evaluate("window.hacked") is None


def what_is_missing_is_said_and_the_rest_stands(page, models, compared_with):
    compared_with(ComparisonModels(models.base, models.scorer, notes=("The tuned model is missing: no such folder.",)))
    start(page, "This movie")
    done(page, "This movie")
    assert page.locator(".comparison .card h2").all_inner_texts() == ["Base model", "Best of 4"]
    expect(page.locator(".comparison .notes")).to_contain_text("The tuned model is missing: no such folder.")


def slow(models) -> tuple[ComparisonModels, threading.Event]:
    """Models whose judge waits after the first prompts until it is released, so that the test need not be quick."""
    calls, goes_on = [], threading.Event()

    def judge(texts):
        calls.append(texts)
        if len(calls) > 4:
            goes_on.wait(0.2)
        return [0.5] * len(texts)

    return ComparisonModels(models.base, models.scorer, models.tuned, CallableScorer(judge)), goes_on


def stop_keeps_the_prompts_that_are_done(page, models, compared_with):
    slowly, goes_on = slow(models)
    compared_with(slowly)
    start(page, "\n".join(f"This movie number {i}" for i in range(60)), n=16)
    expect(page.locator(".comparison .status b")).to_have_text(re.compile(r"Prompt ([3-9]|\d\d) of 60"))
    page.click("#compare-stop")
    phase(page, "stopped")
    expect(page.locator(".comparison .status")).to_contain_text("Finished work is kept.")
    assert "best of 16" in heads(page)
    goes_on.set()
    compared_with(models)
    start(page, "The next movie")
    done(page, "The next movie")


def a_failure_midway_says_why_and_keeps_what_was_done(page, models, compared_with):
    calls = []

    def judge(texts):
        calls.append(texts)
        if len(calls) > 4:
            raise RuntimeError("no more tea")
        return [0.5] * len(texts)

    compared_with(ComparisonModels(models.base, models.scorer, models.tuned, CallableScorer(judge)))
    start(page, "This movie\nThe hotel room\nThe end")
    expect(page.locator(".comparison [role=alert]")).to_contain_text("no more tea")
    phase(page, "failed")
    assert "best of 4" in heads(page)
    expect(page.get_by_role("button", name="Download CSV")).to_be_visible()


def what_cannot_work_is_said_in_the_tab(page, prompts, n, said):
    start(page, prompts, n)
    expect(page.locator(".comparison [role=alert]")).to_contain_text(said)
    phase(page, "failed")


def models_that_cannot_be_loaded_are_said(page, page_state, monkeypatch):
    def missing(settings):
        raise ModelError("There is no folder nowhere.")

    monkeypatch.setattr(page_state.models, "comparison_models", missing)
    start(page, "This movie")
    expect(page.locator(".comparison [role=alert]")).to_have_text("There is no folder nowhere.")
    phase(page, "failed")


def test_every_state_fits_and_is_accessible(page, axe, models, compared_with):
    found = {"sample": unfit(page, axe)}
    start(page, "This movie\nThe hotel room")
    done(page, "The hotel room")
    found["done"] = unfit(page, axe)
    slowly, goes_on = slow(models)
    compared_with(slowly)
    start(page, "\n".join(f"This movie number {i}" for i in range(60)), n=16)
    phase(page, "writing")
    found["writing"] = unfit(page, axe)
    phase(page, "writing")
    page.click("#compare-stop")
    phase(page, "stopped")
    goes_on.set()
    found["stopped"] = unfit(page, axe)
    start(page, "This movie", n=0)
    phase(page, "failed")
    found["failed"] = unfit(page, axe)
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_without_its_sample_the_tab_says_what_it_is_for(tmp_path):
    shown = comparison_view.sample_view(tmp_path / "comparison.json")
    assert (shown["phase"], shown["title"]) == ("empty", "Does tuning beat sampling?")


def test_a_view_is_made_anew_for_few_of_many_prompts(models):
    models = ComparisonModels(models.base, models.scorer)
    showing, tables = comparison_view.ComparisonProgress(60), []
    settings = request_of(dict.fromkeys(form_values.FIELDS) | {
        "prompt": "-", "n": 1, "min_tokens": 1, "max_tokens": 1, "temperature": 1, "top_p": 1, "top_k": 0, "seed": "3",
        "select": "best", "softness": 0.1,
    }).settings
    for event in comparison_run.stream(["This"] * 60, models, settings):
        showing.add(event)
        if isinstance(event, PromptDone):
            tables.append(json.dumps(showing.view()["about"]))
    assert len(set(tables)) < 45
    assert showing.view("done")["about"].startswith("60 prompts")
