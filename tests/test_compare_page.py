"""The Compare tab in a real browser: live cards, table and figure, Stop, failures, downloads."""

import csv
import io
import json
import re

import pytest
from playwright.sync_api import expect

from bon import compare
from bon.compare import Contest
from bon.comparison import Compared
from bon.errors import ModelError
from bon.scorers import CallableScorer
from bon.ui import compared, fields, layout, loaders, theme
from tests.browser import free_port, open_page, violations
from tests.test_compare import engine_of, sentiment

NASTY = "<img src=x onerror=window.hacked=1> ${window.hacked=1} </script>"


@pytest.fixture(scope="module")
def served():
    """The page over tiny models, and the contest that it compares, which a test may exchange."""
    entrants = {"now": Contest(engine_of(0), sentiment(0), engine_of(1, name="tuned"), sentiment(4))}
    patch, port = pytest.MonkeyPatch(), free_port()
    patch.setattr(loaders, "contest", lambda settings: entrants["now"])
    demo = layout.build()
    demo.launch(**theme.launch_options(), server_port=port, prevent_thread_lock=True, quiet=True)
    yield f"http://127.0.0.1:{port}", entrants
    demo.close()
    patch.undo()


@pytest.fixture
def page(served, browser):
    """The Compare tab; at the end nothing has left the host or failed in a script."""
    page = open_page(browser, served[0], accept_downloads=True)
    page.get_by_role("tab", name="Compare").click()
    yield page
    page.context.close()
    assert (page.left, page.errors) == ([], [])


def start(page, prompts, n=4):
    page.fill("#compare-prompts textarea", prompts)
    page.fill("#compare-n input", str(n))
    page.click("#compare-start")


def phase(page, name):
    expect(page.locator(".comparison")).to_have_attribute("data-phase", name)


def heads(page):
    return page.locator(".comparison tbody th").all_inner_texts()


def test_the_tab_opens_with_a_finished_comparison_that_says_what_it_is(page):
    phase(page, "sample")
    expect(page.locator(".comparison .status")).to_contain_text("A sample over the 32 prompts in the box.")
    assert page.locator(".comparison .card h2").all_inner_texts() == ["Base model", "Tuned model", "Best of 16"]
    assert heads(page)[:2] == ["base", "tuned"]
    expect(page.locator(".comparison svg")).to_be_visible()
    assert page.evaluate("() => { const t = document.querySelector('.comparison table');"
                         "return t.scrollWidth - t.parentElement.clientWidth; }") == 0


def test_without_its_sample_the_tab_says_what_it_is_for(tmp_path):
    shown = compared.sample(tmp_path / "comparison.json")
    assert (shown["phase"], shown["title"]) == ("empty", "Does tuning beat sampling?")


def test_three_systems_stand_side_by_side_with_table_and_figure(page):
    start(page, "This movie\nThe hotel room")
    phase(page, "done")
    assert page.locator(".comparison .card h2").all_inner_texts() == ["Base model", "Tuned model", "Best of 4"]
    assert heads(page) == ["base", "tuned", "best of 2", "best of 4", "soft best of 4", "average of the best 4",
                           "worst of 4"]
    expect(page.locator(".comparison .card blockquote .prompt").first).to_have_text("The hotel room")
    scores = [float(text) for text in page.locator(".comparison .card .score").all_inner_texts()]
    assert scores[2] >= scores[0]
    expect(page.locator(".comparison svg")).to_be_visible()
    expect(page.locator(".comparison .sentence")).to_contain_text(re.compile("nats|ahead"))


def test_the_downloads_are_the_comparison_on_the_page(page):
    start(page, "This movie\nThe hotel room")
    phase(page, "done")
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


def test_stop_keeps_the_prompts_that_are_done(page):
    start(page, "\n".join(f"This movie number {i}" for i in range(60)), n=16)
    expect(page.locator(".comparison .status b")).to_have_text(re.compile(r"Prompt ([3-9]|\d\d) of 60"))
    page.click("#compare-stop")
    phase(page, "stopped")
    expect(page.locator(".comparison .status")).to_contain_text("What is done stays.")
    assert "best of 16" in heads(page)
    start(page, "This movie")
    phase(page, "done")


def test_texts_stay_texts(page):
    start(page, NASTY)
    phase(page, "done")
    expect(page.locator(".comparison .card .prompt").first).to_have_text(NASTY)
    assert page.evaluate("window.hacked") is None


def test_what_is_missing_is_said_and_the_rest_stands(page, served):
    before = served[1]["now"]
    served[1]["now"] = Contest(before.base, before.scorer, notes=("The tuned model is missing: no such folder.",))
    try:
        start(page, "This movie")
        phase(page, "done")
    finally:
        served[1]["now"] = before
    assert page.locator(".comparison .card h2").all_inner_texts() == ["Base model", "Best of 4"]
    expect(page.locator(".comparison .notes")).to_contain_text("The tuned model is missing: no such folder.")


def test_a_failure_midway_says_why_and_keeps_what_was_done(page, served):
    before, calls = served[1]["now"], []

    def judge(texts):
        calls.append(texts)
        if len(calls) > 4:
            raise RuntimeError("no more tea")
        return [0.5] * len(texts)

    served[1]["now"] = Contest(before.base, before.scorer, before.tuned, CallableScorer(judge))
    try:
        start(page, "This movie\nThe hotel room\nThe end")
        phase(page, "failed")
    finally:
        served[1]["now"] = before
    expect(page.locator(".comparison [role=alert]")).to_contain_text("no more tea")
    assert "best of 4" in heads(page)
    expect(page.get_by_role("button", name="Download CSV")).to_be_visible()


@pytest.mark.parametrize(("prompts", "n", "said"), [
    ("This movie", 0, "from 1"), ("word " * 400, 4, "Prompt 1"),
])
def test_what_cannot_work_is_said_in_the_tab(page, prompts, n, said):
    start(page, prompts, n)
    phase(page, "failed")
    expect(page.locator(".comparison [role=alert]")).to_contain_text(said)


def test_models_that_cannot_be_loaded_are_said(page, monkeypatch):
    def missing(settings):
        raise ModelError("There is no folder nowhere.")

    monkeypatch.setattr(loaders, "contest", missing)
    start(page, "This movie")
    phase(page, "failed")
    expect(page.locator(".comparison [role=alert]")).to_have_text("There is no folder nowhere.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phones_need_no_sideways_scrolling_and_axe_finds_nothing(served, browser, axe, scheme):
    page = open_page(browser, served[0], viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.get_by_role("tab", name="Compare").click()
    assert violations(page, axe) == []
    start(page, "This movie\nThe hotel room")
    phase(page, "done")
    assert violations(page, axe) == []
    start(page, "\n".join(f"This movie number {i}" for i in range(60)), n=16)
    phase(page, "writing")
    assert violations(page, axe) == []
    page.click("#compare-stop")
    phase(page, "stopped")
    assert violations(page, axe) == []
    start(page, "This movie", n=0)
    phase(page, "failed")
    assert violations(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.context.close()


def test_a_view_is_made_anew_for_few_of_many_prompts(served):
    entrants = Contest(served[1]["now"].base, served[1]["now"].scorer)
    showing, tables = compared.Showing(60), []
    settings = fields.request_of(dict.fromkeys(fields.FIELDS) | {
        "prompt": "-", "n": 1, "min_tokens": 1, "max_tokens": 1, "temperature": 1, "top_p": 1, "top_k": 0, "seed": "3",
        "softness": 0.1,
    }).settings
    for event in compare.stream(["This"] * 60, entrants, settings):
        showing.add(event)
        if isinstance(event, Compared):
            tables.append(json.dumps(showing.view()["about"]))
    assert len(set(tables)) < 45
    assert showing.view("done")["about"].startswith("60 prompts")
