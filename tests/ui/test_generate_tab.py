"""A finished run on the page: reranking, details, continuing, downloads and present mode."""

import csv
import io
import json
import re
from types import SimpleNamespace

import pytest
from playwright.sync_api import Page, expect

import bon
from bon.ui.app_state import AppState
from bon.ui.generate import run_view
from bon.ui.generate.handlers import GenerateHandlers
from bon.ui.hosting.deployment import Deployment
from tests.support.browser import layout_faults, overflow_pixels
from tests.ui.test_page import PHONE, complete_run, fill_settings, row_indices, winner

N, SEED = 8, 8  # a seed without near-ties, which other rows in the batch could turn


@pytest.fixture
def ran(app, visit):
    """A page on which best of 8 has run."""
    def ran(**context) -> Page:
        page = visit(app, **context)
        fill_settings(page, n=N, seed=SEED)
        complete_run(page, timeout=60_000)
        return page

    return ran


def with_query(app, query: str) -> SimpleNamespace:
    return SimpleNamespace(url=f"{app.url}/?{query}")


@pytest.fixture(scope="module")
def sampler():
    return bon.load("embedded")


@pytest.fixture(scope="module")
def result(sampler):
    """The same run in Python."""
    return sampler.run("This movie", n=N, seed=SEED, finish="sentence")


def expect_ranking(result, page: Page) -> None:
    """Asserts that the page shows this ranking."""
    expect(page.locator(".bon blockquote")).to_have_text("This movie" + result.best.text)
    assert row_indices(page) == [c.index for c in result.candidates[1:]]
    assert page.text_content(".bon .points b") == run_view.format_score(result.best.score)
    marks = page.locator(".bon .rows .words").evaluate_all("words => words.map((word) => word.dataset.cut ?? '')")
    assert marks == [f"cut at {c.tokens} tokens" if c.cut else "" for c in result.candidates[1:]]
    assert "" in marks
    assert any(marks)


def save(page: Page, form: str) -> tuple[str, str]:
    """Downloads the run in a form of the menu; the name and the text of the file."""
    page.locator(".menu summary").click()
    with page.expect_download() as download:
        page.locator(".menu .choices").get_by_role("button", name=form).click()
    return download.value.suggested_filename, download.value.path().read_bytes().decode("utf-8")


def the_downloads_hold_the_run(page, result, browser):
    name, text = save(page, "JSON")
    assert name == f"best-of-{N}-seed-{SEED}.json"
    record = json.loads(text)
    assert [c["text"] for c in record["candidates"]] == [c.text for c in result.candidates]
    assert [c["score"] for c in record["candidates"]] == pytest.approx([c.score for c in result.candidates], abs=1e-5)
    assert record["settings"]["seed"] == SEED
    _, text = save(page, "CSV")
    table = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [int(line["index"]) for line in table] == [c.index for c in result.candidates]
    _, text = save(page, "Report")
    report = browser.new_page()
    requests = []
    report.on("request", lambda request: requests.append(request.url))
    report.set_content(text)
    mark = f" (cut at {result.best.tokens} tokens)" if result.best.cut else ""
    assert report.text_content("blockquote") == winner(page) + mark
    assert report.locator("svg:visible").count() == 2
    assert report.locator("tbody tr").count() == N
    assert requests == []
    report.close()


def test_a_run_is_reranked_inspected_and_downloaded(ran, sampler, result, axe, browser):
    page = ran()
    the_page_says_how_long_it_will_take(page)
    a_candidate_opens_by_keyboard_and_shows_its_tokens(page, result)
    the_downloads_hold_the_run(page, result, browser)
    another_label_reranks_the_same_texts(page, sampler, result)
    another_selection_rule_reranks_them(page, sampler, result)
    a_failed_reranking_leaves_the_run_and_shows_its_reason(page)
    a_download_that_the_server_refuses_shows_a_reason_in_place_of_a_file(page)
    details_menu_and_present_mode_are_accessible_and_fit(page, axe)


def the_page_says_how_long_it_will_take(page):
    expect(page.locator("#estimate")).to_contain_text("s here")
    page.fill("#n input", "0")
    expect(page.locator("#estimate")).to_have_text("")
    page.fill("#n input", str(N))


def a_candidate_opens_by_keyboard_and_shows_its_tokens(page, result):
    runner_up = result.candidates[1]
    row = page.locator(f".bon .row[data-index='{runner_up.index}']")
    row.locator(".more").focus()
    page.keyboard.press("Enter")
    pieces = row.locator(".piece")
    assert "".join(pieces.all_text_contents()) == "".join(text for text, _ in runner_up.pieces) == runner_up.text
    tips = pieces.evaluate_all("all => all.map(piece => piece.dataset.tip)")
    assert all(re.fullmatch(r"−?\d+\.\d\d nats", tip) for tip in tips)
    logprobs = [float(tip.split()[0].replace("−", "-")) for tip in tips]
    assert logprobs == pytest.approx([logprob for _, logprob in runner_up.pieces], abs=0.02)
    assert f"{runner_up.tokens} tokens" in row.locator(".detail dl").text_content()
    page.keyboard.press("Enter")
    expect(row.locator(".detail")).to_have_count(0)


def another_label_reranks_the_same_texts(page, sampler, result):
    expect_ranking(result, page)
    page.get_by_label("negative").check()
    expect(page.locator(".bon .points .unit")).to_have_text("probability of negative")
    reranked = sampler.rerank(result, target="NEGATIVE")
    expect_ranking(reranked, page)
    assert {c.text for c in reranked.candidates} == {c.text for c in result.candidates}
    expect(page.locator(".bon")).to_have_attribute("data-phase", "done")
    page.get_by_label("positive").check()
    expect(page.locator(".bon .points .unit")).to_have_text("probability of positive")
    expect_ranking(result, page)


def another_selection_rule_reranks_them(page, sampler, result):
    page.click("#select input")
    page.get_by_role("option", name="the worst").click()
    expect(page.locator(".bon .tag")).to_have_text(f"The worst of {N}")
    expect_ranking(sampler.rerank(result, select="worst"), page)


def a_failed_reranking_leaves_the_run_and_shows_its_reason(page):
    before = winner(page)
    page.evaluate("() => bon.rerank('POSITIVE', 'nonsense', 0.1)")
    expect(page.locator(".bon .alert")).to_contain_text("select must be one of")
    assert winner(page) == before


def a_download_that_the_server_refuses_shows_a_reason_in_place_of_a_file(page):
    saved = []
    page.on("download", lambda download: saved.append(download))
    page.route(re.compile("component_server"), lambda route: route.fulfill(status=400, body='{"detail": ""}'))
    page.click(".menu summary")
    page.get_by_role("button", name="CSV").click()
    expect(page.locator(".bon .alert")).to_contain_text("The server made no file")
    assert saved == []
    page.unroute_all()


def details_menu_and_present_mode_are_accessible_and_fit(page, axe):
    page.click(".bon .hero .more")
    page.locator(".bon .row .more").first.click()
    page.click(".menu summary")
    assert layout_faults(page, axe) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Present").click()
    assert layout_faults(page, axe) == []


def test_the_winner_can_be_continued_on_a_phone(ran, result):
    page = ran(**PHONE)
    the_winner_has_its_detail_and_a_new_run_closes_it(page, result)
    the_winner_becomes_the_prompt_and_there_is_a_way_back(page, result)
    nothing_scrolls_sideways(page)


def the_winner_has_its_detail_and_a_new_run_closes_it(page, result):
    page.click(".bon .hero .more")
    assert "".join(page.locator(".hero .piece").all_text_contents()) == result.best.text
    complete_run(page)
    expect(page.locator(".bon .detail")).to_have_count(0)


def the_winner_becomes_the_prompt_and_there_is_a_way_back(page, result):
    page.get_by_role("button", name="Continue").click()
    longer = "This movie" + result.best.text
    expect(page.locator("#prompt textarea")).to_have_value(longer)
    complete_run(page)
    assert page.text_content(".bon blockquote .prompt") == longer
    page.get_by_role("button", name="Back to “This movie”").click()
    expect(page.locator("#prompt textarea")).to_have_value("This movie")
    expect(page.locator(".back")).to_be_hidden()


def nothing_scrolls_sideways(page):
    page.click(".bon .hero .more")
    page.locator(".bon .row .more").first.click()
    assert overflow_pixels(page) <= 0
    page.get_by_role("button", name="Present").click()
    assert overflow_pixels(page) <= 0


def test_present_mode_is_for_a_projector_and_leaves_the_address_as_it_was(app, visit):
    page = visit(with_query(app, "a=b&view=present"), viewport={"width": 1280, "height": 720})
    digits_typed_into_the_prompt_start_nothing(page)
    present_mode_shows_winner_and_axis_on_a_projector(page)
    other_parameters_of_the_address_stay(page)


def digits_typed_into_the_prompt_start_nothing(page):
    page.fill("#prompt textarea", "")
    page.type("#prompt textarea", "12")
    expect(page.locator("#prompt textarea")).to_have_value("12")
    expect(page.locator(".bon")).to_have_attribute("data-phase", "sample")
    page.evaluate("document.activeElement.blur()")


def present_mode_shows_winner_and_axis_on_a_projector(page):
    expect(page.locator("#n")).to_be_hidden()
    complete_run(page, lambda page: page.keyboard.press("2"))
    assert winner(page).startswith("The hotel room")
    assert page.evaluate("scrollY") == 0
    prompt, generate = (page.locator(part).bounding_box() for part in ("#prompt textarea", "#generate"))
    assert prompt["width"] > 640
    assert prompt["y"] + prompt["height"] == pytest.approx(generate["y"] + generate["height"], abs=2)
    for part in (".bon blockquote", ".bon .points b", ".bon .strip svg"):
        box = page.locator(part).first.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 720
    page.keyboard.press("Escape")
    expect(page.locator("#n")).to_be_visible()
    assert "view=" not in page.url


def other_parameters_of_the_address_stay(page):
    assert page.url.endswith("?a=b")
    page.get_by_role("button", name="Present").click()
    assert page.url.endswith("?a=b&view=present")
    page.get_by_role("button", name="Leave present mode").click()
    assert page.url.endswith("?a=b")


def test_an_invalid_record_is_refused():
    view = run_view.unpack(GenerateHandlers(AppState(Deployment())).open_record('{"candidates": 3}'))
    assert view["phase"] == "failed"
    assert "cannot be opened" in view["error"]
