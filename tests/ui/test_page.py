"""The page in a real browser: the app with the embedded models, and a scripted run held at every state."""

import json
import re
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
from gradio_client import Client
from playwright.sync_api import Page, expect

from bon.assets_folder import assets_folder
from bon.errors import EngineError
from bon.ui.hosting import error_log
from tests.support.browser import (
    ARRIVED,
    DRAWN,
    PHONE_SIZE,
    ROOT,
    SCORES,
    TEXTS,
    Play,
    layout_faults,
    overflow_pixels,
    set_variant,
)

NASTY = (
    "<script>window.hacked=1</script> ${window.hacked=1} {{#each value}}{{this}}{{/each}} "
    "\\x3cimg src=x onerror=window.hacked=1\\x3e <img src=x onerror=window.hacked=1> `${alert(1)}` &lt;b&gt;"
)
PHONE = {"viewport": PHONE_SIZE, "has_touch": True}
CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}
BEST = "This movie was a delight from the first shot to the last."


def run(page: Page) -> None:
    page.click("#generate")


def complete_run(page: Page, start=run, **wait) -> None:
    """Runs to the end, however quick the run is and whatever was shown before. start: what begins it."""
    page.evaluate("""() => { window.over = false;
        document.addEventListener("bon:ended", () => { window.over = true; }, { once: true }); }""")
    start(page)
    page.wait_for_function("window.over", **wait)
    expect_phase(page, "done")


def expect_phase(page: Page, name: str, **wait) -> None:
    """Waits for the result to be in a state."""
    expect(page.locator(".bon")).to_have_attribute("data-phase", name, **wait)
    if name in ("done", "failed", "stopped"):  # the next run can begin, and all is drawn before anything is read
        page.wait_for_function("!bon.busy")
        page.evaluate(DRAWN)
        page.evaluate(ARRIVED)


def row_indices(page: Page) -> list[int]:
    """The numbers of the candidates in the order of their rows, folded ones included."""
    return page.eval_on_selector_all(".bon .row", "rows => rows.map(row => Number(row.dataset.index))")


def winner(page: Page) -> str:
    return page.text_content(".bon blockquote")


def open_tab(page: Page, name: str) -> None:
    """Goes to a tab, which on a narrow screen may be in the menu of those that have no room."""
    more = page.get_by_role("button", name="More tabs")
    if more.is_visible():
        more.click()
    page.locator("#tabs :is([role=tab], .overflow-dropdown button):visible", has_text=name).click()


def fill_settings(page: Page, **values) -> None:
    """Opens the settings and fills them in."""
    page.click("#settings-line")
    for name, value in values.items():
        page.fill(f"#{name} input", str(value))


def reset_page(stage, page: Page) -> None:
    """Sets the page back to a scripted run of five candidates that does not wait."""
    stage.play, stage.loads = Play(TEXTS, SCORES), None
    page.fill("#prompt textarea", "This movie")


# Each state of a run, with a scripted run that waits where the test says.


def test_a_run_is_shown_from_loading_to_its_end(stage, visit):
    page = visit(stage, **CLIPBOARD)
    stop_while_loading_works(stage, page)
    loading_says_so_and_writing_shows_the_leader(stage, page)
    done_shows_winner_facts_and_charts(page)
    terms_explain_themselves_to_the_keyboard(page)
    copy_gives_prompt_and_text(page)
    low_ranks_are_folded_and_can_be_opened(stage, page)
    a_single_candidate_is_shown_without_comparison(stage, page)
    the_worst_can_be_selected(stage, page)


def stop_while_loading_works(stage, page):
    stage.loads = Future()
    run(page)
    expect_phase(page, "loading")
    page.click("#stop")
    expect_phase(page, "stopped")
    stage.loads.set_result(stage)
    assert stage.runs == 0


def loading_says_so_and_writing_shows_the_leader(stage, page):
    stage.loads, stage.play = Future(), Play(TEXTS, SCORES, hold=4)
    run(page)
    expect_phase(page, "loading")
    expect(page.locator(".bon .status")).to_contain_text("Loading the model…")
    stage.loads.set_result(stage)
    expect(page.locator(".bon .status b")).to_have_text("Scored 4 of 5")
    assert row_indices(page) == [1, 3, 0, 2, 4]
    assert winner(page) == BEST
    expect(page.locator(".bon .tag")).to_have_text("Leading so far")
    expect(page.locator(".bon .row[data-index='4'] .words")).to_have_text("is a sandwich. It ha")
    expect(page.locator(".bon")).to_have_attribute("aria-busy", "true")
    expect(page.locator(".bon .facts")).to_be_hidden()
    stage.play.go.set()
    expect_phase(page, "done")
    expect(page.locator(".bon")).to_have_attribute("aria-busy", "false")
    assert row_indices(page) == [3, 0, 4, 2]


def done_shows_winner_facts_and_charts(page):
    assert winner(page) == BEST
    expect(page.locator(".bon .tag")).to_have_text("Winner of 5")
    assert page.text_content(".bon .points") == "0.970probability of positive+0.430 over one sample"
    assert page.eval_on_selector_all(".facts dd", "all => all.map(one => one.textContent)") == [
        "0.970", "0.540", "83%", "≤ 0.81",
    ]
    assert page.locator(".strip .dot").count() == 5
    assert page.locator(".strip .dot.best").get_attribute("data-index") == "1"
    assert "1: 0.540, 2: 0.783, 4: 0.952, 5: 0.970" in page.get_attribute(".insight .curve svg", "aria-label")
    facts = page.eval_on_selector_all(".meta > span", "all => all.map(one => one.firstChild.textContent)")
    assert facts[:3] == ["candidate 1", "10 tokens", "log-probability −20.0"]
    assert re.fullmatch(r"seed \d+", facts[3])


def terms_explain_themselves_to_the_keyboard(page):
    term = page.get_by_role("button", name="win rate against one sample")
    term.focus()
    expect(page.locator(".bubble")).to_contain_text("n/(n+1)")
    bubble = page.locator(".bubble").bounding_box()
    number = page.locator(".facts > div", has=term).locator("dd").bounding_box()
    assert bubble["y"] + bubble["height"] <= number["y"] or number["y"] + number["height"] <= bubble["y"]
    expect(term).to_have_accessible_description(re.compile("How often the best of 5"))
    page.keyboard.press("Escape")
    expect(page.locator(".bubble")).to_be_hidden()


def copy_gives_prompt_and_text(page):
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == BEST


def low_ranks_are_folded_and_can_be_opened(stage, page):
    stage.play = Play([f" number {i}." for i in range(20)], [i / 20 for i in range(20)])
    complete_run(page)
    assert row_indices(page) == list(range(18, -1, -1))
    expect(page.locator(".row[data-index='12']")).to_be_visible()
    expect(page.locator(".row[data-index='11']")).to_be_hidden()
    page.get_by_text("The other 12").click()
    expect(page.locator(".row[data-index='0']")).to_be_visible()


def a_single_candidate_is_shown_without_comparison(stage, page):
    stage.play = Play(TEXTS[:1], SCORES[:1])
    complete_run(page)
    expect(page.locator(".bon .tag")).to_have_text("The only candidate")
    expect(page.locator(".bon .gain")).to_have_text("")
    assert row_indices(page) == []


def the_worst_can_be_selected(stage, page):
    reset_page(stage, page)
    page.click("#settings-line")
    page.click("#select input")
    page.get_by_role("option", name="the worst").click()
    expect(page.locator("#settings-line")).to_contain_text("the worst first")
    complete_run(page)
    expect(page.locator(".bon .tag")).to_have_text("The worst of 5")
    assert winner(page) == "This movie was dull."


def test_the_queue_shows_the_position_and_stop_leaves_it(stage, visit):
    stage.play.hold = 2
    running, next_in_queue, last_in_queue = visit(stage), visit(stage), visit(stage)
    run(running)
    expect_phase(running, "writing")
    run(next_in_queue)
    expect(next_in_queue.locator(".bon .status b")).to_have_text("Next in the queue.")
    expect(next_in_queue.locator(".bon")).to_have_attribute("data-waits", "")
    expect(next_in_queue.locator(".bon .hero")).to_have_css("filter", "grayscale(1)")
    run(last_in_queue)
    expect(last_in_queue.locator(".bon .status b")).to_have_text("Waiting, 2nd in the queue.")
    next_in_queue.click("#stop")
    expect(next_in_queue.locator("#generate")).not_to_have_attribute("data-running", "")
    expect(next_in_queue.locator(".bon .hero")).to_have_css("filter", "none")
    stage.play.go.set()
    expect_phase(running, "done")
    expect_phase(last_in_queue, "done")
    assert stage.runs == 2


def test_every_early_end_is_shown_keeps_finished_candidates_and_ends_the_work(stage, visit, caplog):
    page = visit(stage)
    for how in ("click", "Escape"):
        stop_keeps_finished_candidates_and_ends_the_work(stage, page, how)
    failure_midway_shows_its_reason_and_keeps_finished_candidates(stage, page)
    unexpected_failure_has_a_plain_message_and_is_logged(stage, page, caplog)
    closing_the_tab_ends_the_work(stage, page)


def stop_keeps_finished_candidates_and_ends_the_work(stage, page, how):
    stage.play = Play(TEXTS, SCORES, hold=3)
    run(page)
    expect(page.locator(".bon .status b")).to_have_text("Scored 3 of 5")
    page.click("#stop") if how == "click" else page.keyboard.press("Escape")
    expect_phase(page, "stopped")
    expect(page.locator(".bon .status b")).to_have_text("Stopped after 3 of 5.")
    expect(page.locator(".bon .tag")).to_have_text("Best of the 3 that were scored")
    assert winner(page) == BEST
    assert row_indices(page) == [0, 2, 3, 4]
    assert stage.play.closed.wait(10)
    # The device is free again: the next run begins although the stopped one was never released.
    stage.play = Play(TEXTS, SCORES)
    complete_run(page)


def failure_midway_shows_its_reason_and_keeps_finished_candidates(stage, page):
    stage.play = Play(TEXTS, SCORES, hold=3, error=EngineError("Memory ran out. Ask for fewer candidates."))
    run(page)
    expect_phase(page, "writing")
    stage.play.go.set()
    expect_phase(page, "failed")
    expect(page.locator(".bon [role=alert]")).to_have_text("Memory ran out. Ask for fewer candidates.")
    expect(page.locator(".bon .status")).to_contain_text("3 of 5 had been scored")
    assert winner(page) == BEST


def unexpected_failure_has_a_plain_message_and_is_logged(stage, page, caplog):
    stage.play = Play(TEXTS, SCORES, hold=0, error=RuntimeError("a secret of the machine"))
    stage.play.go.set()
    run(page)
    expect(page.locator(".bon [role=alert]")).to_have_text(error_log.UNEXPECTED)
    expect_phase(page, "failed")
    assert "secret" not in page.content()
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text  # the message of an error may quote the prompt


def closing_the_tab_ends_the_work(stage, page):
    stage.play = Play(TEXTS, SCORES, hold=1)
    run(page)
    expect_phase(page, "writing")
    page.context.close()
    assert stage.play.closed.wait(20)


# The form.


def test_the_form_is_filled_in_checked_and_sent(stage, visit):
    page = visit(stage)
    control_enter_generates(stage, page)
    example_slider_dice_and_summary(page)
    faults_are_shown_at_their_fields_and_nothing_runs(stage, page)
    markup_in_texts_is_not_interpreted(stage, page)


def control_enter_generates(stage, page):
    page.focus("#prompt textarea")
    page.keyboard.press("End")
    page.keyboard.type(" again")
    page.keyboard.press("Control+Enter")
    expect_phase(page, "done")
    assert winner(page).startswith("This movie again")
    assert stage.runs == 1


def example_slider_dice_and_summary(page):
    page.get_by_role("button", name="The hotel room").click()
    expect(page.locator("#prompt textarea")).to_have_value("The hotel room")
    page.focus("#n-slider input[type=range]")
    page.keyboard.press("End")
    expect(page.locator("#n input")).to_have_value("64")
    page.fill("#n input", "200")
    expect(page.locator("#n-slider input[type=range]")).to_have_value("64")
    fill_settings(page, max_tokens=48, top_p=0.9)
    page.get_by_role("button", name="Random seed").click()
    expect(page.locator("#seed input")).to_have_value(re.compile(r"\d+"))
    seed = page.input_value("#seed input")
    expect(page.locator("#settings-line")).to_have_text(
        f"Settings: 8 to 48 tokens, whole sentences, temperature 1, top-p 0.9, seed {seed}"
    )


def faults_are_shown_at_their_fields_and_nothing_runs(stage, page):
    runs = stage.runs
    page.fill("#prompt textarea", "   ")
    page.fill("#n input", "257")
    for field, value in {"max_tokens": 32, "min_tokens": 40, "temperature": 0, "top_p": 1.5, "top_k": -1,
                         "seed": "soon"}.items():
        page.fill(f"#{field} input", str(value))
    page.click("#settings-line")
    expect(page.locator("#temperature input")).to_be_hidden()
    run(page)
    for field, message in {
        "prompt": "Write a few words", "n": "from 1 to 256", "min_tokens": "is above max_tokens",
        "temperature": "must be above 0", "top_p": "at most 1", "top_k": "at least 0", "seed": "whole number",
    }.items():
        expect(page.locator(f"#{field} div.validation-error")).to_contain_text(message)
    expect(page.locator("#temperature input")).to_be_visible()
    assert page.locator("div.validation-error").count() == 7
    expect_phase(page, "done")  # as it was
    assert winner(page).startswith("This movie again")
    assert stage.runs == runs
    page.fill("#prompt textarea", "This movie")
    page.fill("#n input", "5")
    for field, value in {"min_tokens": 8, "temperature": 1, "top_p": 1, "top_k": 0, "seed": 7}.items():
        page.fill(f"#{field} input", str(value))
    complete_run(page)
    assert page.locator(".validation-error").count() == 0


def markup_in_texts_is_not_interpreted(stage, page):
    stage.play = Play([f" {NASTY} one", f" {NASTY} two"], [0.2, 0.9])
    page.fill("#prompt textarea", NASTY)
    complete_run(page)
    assert winner(page) == f"{NASTY} {NASTY} two"
    expect(page.locator(".row .words")).to_have_text(f"{NASTY} one")
    page.hover(".dot.best")
    expect(page.locator(".bubble")).to_contain_text("<script>")
    assert page.locator(".bon :is(script, img, b b)").count() == 0
    page.fill("#seed input", NASTY)
    run(page)
    expect(page.locator("#seed div.validation-error")).to_contain_text("<script>")
    stage.play = Play(TEXTS, SCORES, hold=0, error=EngineError(NASTY))
    stage.play.go.set()
    page.fill("#seed input", "")
    run(page)
    expect(page.locator(".bon [role=alert]")).to_have_text(NASTY)
    assert page.evaluate("window.hacked") is None


# Layout and accessibility.


def test_every_state_is_accessible_fits_and_has_the_systems_colours(stage, visit, axe):
    page = visit(stage)
    assert light(page)
    set_variant(page, PHONE_SIZE, "dark")
    assert dark(page)
    faults_by_state = {"sample": layout_faults(page, axe)}
    assert light(page)
    stage.loads = Future()
    run(page)
    expect_phase(page, "loading")
    faults_by_state["loading"] = layout_faults(page, axe)
    stage.loads.set_result(stage)
    stage.loads, stage.play = None, Play(TEXTS, SCORES, hold=0)
    page.click("#stop")
    expect_phase(page, "stopped")
    run(page)
    expect_phase(page, "writing")
    page.click("#stop")
    expect(page.locator(".bon .tag")).to_have_text("Nothing was scored")
    expect(page.locator(".bon .board h2")).to_have_text("Candidates")
    expect_phase(page, "stopped")
    faults_by_state["nothing scored"] = layout_faults(page, axe)
    stage.play = Play(TEXTS, SCORES, hold=3, error=EngineError("Memory ran out. Ask for fewer candidates."))
    stage.play.go.set()
    run(page)
    expect_phase(page, "failed")
    faults_by_state["failed"] = layout_faults(page, axe)
    stage.play = Play(TEXTS, SCORES, hold=3)
    run(page)
    expect(page.locator(".bon .status b")).to_have_text("Scored 3 of 5")
    faults_by_state["writing"] = layout_faults(page, axe)
    stage.play.go.set()
    expect_phase(page, "done")
    faults_by_state["done"] = layout_faults(page, axe)
    fill_settings(page, temperature=0)
    run(page)
    expect(page.locator("div.validation-error")).to_have_count(1)
    faults_by_state["faults"] = layout_faults(page, axe)
    open_tab(page, "About and API")
    expect(page.get_by_role("heading", name="How it works")).to_be_visible()
    faults_by_state["about"] = layout_faults(page, axe)
    assert {name: faults for name, faults in faults_by_state.items() if faults} == {}


def grounds(page: Page) -> list[int]:
    """How bright the page, its result and its form are, from 0 to 765."""
    return page.evaluate("""() => ['.gradio-container', '.hero', '#form'].map(
        where => getComputedStyle(document.querySelector(where)).backgroundColor.match(/\\d+/g).slice(0, 3)
            .reduce((sum, one) => sum + Number(one), 0))""")


def light(page: Page) -> bool:
    page.evaluate(ARRIVED)
    return all(ground > 3 * 230 for ground in grounds(page))


def dark(page: Page) -> bool:
    page.evaluate(ARRIVED)
    return all(ground < 3 * 40 for ground in grounds(page))


def test_a_phone_in_dark_mode_needs_no_sideways_scrolling_and_has_large_targets(stage, visit):
    page = visit(stage, **PHONE, color_scheme="dark")
    assert dark(page)
    for width in (360, 390):
        page.set_viewport_size({"width": width, "height": 780})
        assert overflow_pixels(page) <= 0
    fill_settings(page)
    for width in (360, 390):
        narrow_screens_do_not_scroll_sideways(stage, page, width)
    page.set_viewport_size(PHONE_SIZE)
    reset_page(stage, page)
    complete_run(page)
    targets_are_large_enough_for_a_finger(page)


def narrow_screens_do_not_scroll_sideways(stage, page, width):
    stage.play = Play([" " + "word " * 120, " " + "w" * 300, *TEXTS], [0.5, 0.99, *SCORES], hold=3)
    page.set_viewport_size({"width": width, "height": 780})
    page.evaluate("scrollTo(0, 0)")
    run(page)
    expect_phase(page, "writing")
    assert overflow_pixels(page) <= 0
    # The result is below the form there, so the first words bring it up.
    page.wait_for_function("document.querySelector('.bon').getBoundingClientRect().top < innerHeight / 3")
    stage.play.go.set()
    expect_phase(page, "done")
    assert overflow_pixels(page) <= 0


def targets_are_large_enough_for_a_finger(page):
    small = page.evaluate(
        """() => [...document.querySelectorAll('#main :is(button, input, summary, textarea), [role=tab]')]
          .filter(node => node.checkVisibility() && !node.closest('[aria-hidden=true], .head'))
          .map(node => ['radio', 'checkbox'].includes(node.type) ? node.closest('label') : node)
          .map(node => [node.textContent || node.ariaLabel, node.getBoundingClientRect().height
            - 2 * Math.min(0, parseFloat(getComputedStyle(node, '::after').top) || 0)])
          .filter(([, height]) => height < 43.5)"""
    )
    assert small == []


def test_rows_glide_unless_the_visitor_wants_no_motion(stage, visit):
    page = visit(stage)
    rows_glide(stage, page)
    stage.play.go.set()
    expect_phase(page, "done")
    page.emulate_media(reduced_motion="reduce")
    reduced_motion_is_respected(stage, page)


def rows_glide(stage, page):
    # Animations are counted when they begin, since they end before a test could look.
    page.evaluate("""() => { const animate = Element.prototype.animate; window.moved = 0;
        Element.prototype.animate = function (frames, ...more) {
            moved += this.matches('.row') && Boolean(frames[0].transform);
            return animate.call(this, frames, ...more);
        } }""")
    for _ in range(5):  # a browser with too little of the processor may draw two states as one
        stage.play = Play(TEXTS, SCORES, hold=4)
        run(page)
        expect(page.locator(".bon .status b")).to_have_text("Scored 4 of 5")
        if page.evaluate("moved") > 0:
            return
        stage.play.go.set()
        expect_phase(page, "done")
    pytest.fail("no row glided")


def reduced_motion_is_respected(stage, page):
    stage.play = Play(TEXTS, SCORES, hold=3)
    run(page)
    expect_phase(page, "writing")
    longest = "Math.max(0, ...document.getAnimations().map(a => a.effect.getTiming().duration))"
    assert page.evaluate(longest) <= 1
    stage.play.go.set()
    expect(page.locator(".bon")).to_have_attribute("data-phase", "done")
    page.evaluate(DRAWN)
    assert page.evaluate(longest) <= 1


# The real app with the embedded models.


def test_the_page_is_built_without_torch():
    code = """
import sys
from bon.ui.app_state import AppState
from bon.ui.hosting.deployment import Deployment
from bon.ui.page import build
build(AppState(Deployment()))
print('torch' in sys.modules)"""
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"


def test_visitors_of_the_real_app_get_the_results_of_the_endpoint(app, visit):
    page, other_page = visit(app), visit(app)
    empty_page_shows_the_sample(page)
    two_concurrent_visitors_each_get_their_own_run(app, [page, other_page])
    a_run_grows_sorts_and_agrees_with_the_endpoint(app, page)
    early_rejection_strikes_out_dropped_candidates(app, page)
    the_negative_target_changes_the_winner(page)


def fill_fields(page: Page, values: dict) -> None:
    """Fills in fields that can be seen."""
    for name, value in values.items():
        page.fill(f"#{name} input", str(value))


def empty_page_shows_the_sample(page):
    sample = json.loads((assets_folder() / "ui" / "sample_run.json").read_text(encoding="utf-8"))
    expect_phase(page, "sample")
    assert winner(page) == sample["prompt"] + sample["candidates"][0]["text"]
    expect(page.locator(".bon .tag")).to_contain_text("sample")
    expect(page.locator(".bon .status")).to_contain_text("press Generate")


def two_concurrent_visitors_each_get_their_own_run(app, pages):
    settings_by_page = [{"n": 32, "min_tokens": 100, "max_tokens": 200, "seed": seed} for seed in (1, 2)]
    for page, settings in zip(pages, settings_by_page, strict=True):
        fill_settings(page, **settings)
    for page in pages:
        run(page)
    for page in pages:
        # Neither waits in the queue for the other.
        expect(page.locator('.bon[data-phase="writing"], .bon[data-phase="done"]')).to_be_visible()
    client = Client(app.url, verbose=False)
    for page, settings in zip(pages, settings_by_page, strict=True):
        expect_phase(page, "done", timeout=120_000)
        best = client.predict("This movie", **settings, api_name="/best_of_n")["candidates"][0]
        assert winner(page) == "This movie" + best["text"]


def a_run_grows_sorts_and_agrees_with_the_endpoint(app, page):
    page.evaluate("""() => { window.seen = new Set(); const bon = document.querySelector('.bon');
        new MutationObserver(() => bon.dataset.phase === 'writing' && seen.add(bon.querySelector('.board').textContent))
            .observe(bon, {subtree: true, childList: true, characterData: true}) }""")
    settings = {"n": 64, "min_tokens": 64, "max_tokens": 200, "seed": 11}
    fill_fields(page, settings)
    complete_run(page, timeout=120_000)
    assert page.evaluate("seen.size") >= 3
    result = Client(app.url, verbose=False).predict("This movie", **settings, api_name="/best_of_n")
    best, *others = result["candidates"]
    assert winner(page) == "This movie" + best["text"]
    assert row_indices(page) == [c["index"] for c in others]
    assert page.text_content(".points b") in (f"{best['score']:.3f}", "> 0.999")


def early_rejection_strikes_out_dropped_candidates(app, page):
    settings = {"n": 16, "min_tokens": 20, "max_tokens": 60, "seed": 5}
    fill_fields(page, settings)
    page.check("#reject input")
    expect(page.locator("#settings-line")).to_contain_text("early rejection")
    complete_run(page, timeout=120_000)
    client = Client(app.url, verbose=False)
    best, *others = client.predict("This movie", **settings, reject=0.5, api_name="/best_of_n")["candidates"]
    assert winner(page) == "This movie" + best["text"]
    assert best["ended"] != "rejected"
    assert row_indices(page) == [c["index"] for c in others]
    dropped = page.locator('.bon .row[data-state="rejected"]')
    assert dropped.count() == sum(c["ended"] == "rejected" for c in others) > 4
    assert "line-through" in dropped.first.locator(".words").evaluate("node => getComputedStyle(node).textDecoration")
    expect(dropped.first.locator(".tokens")).to_contain_text("dropped at ")
    expect(page.locator(".bon .facts")).to_contain_text("dropped unfinished")
    expect(page.locator(".bon .insight .curve")).to_be_hidden()
    expect(page.locator(".bon .notes")).to_contain_text("Early rejection dropped")
    page.uncheck("#reject input")


def the_negative_target_changes_the_winner(page):
    fill_fields(page, {"n": 16, "min_tokens": 8, "max_tokens": 32, "seed": 3})
    complete_run(page, timeout=60_000)
    best = winner(page)
    page.locator("#target label", has_text="negative").click()
    run(page)
    expect(page.locator(".points .unit")).to_have_text("probability of negative", timeout=60_000)
    expect_phase(page, "done", timeout=60_000)
    assert winner(page) != best


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads processor time from /proc")
def test_stop_ends_the_computation(app, visit):
    page = visit(app)
    fill_settings(page, n=64, min_tokens=150, max_tokens=200)
    before = app.cpu_when_idle()
    complete_run(page, timeout=300_000)
    cpu_of_a_quarter = app.cpu_when_idle() - before
    page.fill("#n input", "256")
    run(page)
    expect_phase(page, "writing", timeout=60_000)
    page.keyboard.press("Escape")
    expect_phase(page, "stopped")
    # The time until the key press arrived does not count.
    cpu_at_stop = app.cpu()
    assert app.cpu_when_idle() - cpu_at_stop < cpu_of_a_quarter


def test_another_model_can_be_chosen_and_an_unknown_one_is_refused_by_name(app, visit, lm_folder, reward_folder):
    page = visit(app)
    expect(page.locator("#target")).to_be_visible()
    fill_settings(page)
    for field, folder in {"model": lm_folder, "scorer": reward_folder}.items():
        page.fill(f"#{field} input", folder)
        page.keyboard.press("Enter")
    expect(page.locator(".chips")).to_contain_text(f"scorer: {Path(reward_folder).name}", timeout=60_000)
    expect(page.locator("#target")).to_be_hidden()
    run(page)
    expect_phase(page, "done", timeout=60_000)
    expect(page.locator(".points .unit")).to_have_text("reward")
    page.fill("#model input", "./nowhere")
    page.keyboard.press("Enter")
    expect(page.locator(".chips")).to_contain_text("not available", timeout=60_000)
    run(page)
    expect_phase(page, "failed", timeout=60_000)
    expect(page.locator(".bon [role=alert]")).to_contain_text("./nowhere")


def test_the_endpoint_is_typed_streams_and_names_wrong_arguments(app):
    client = Client(app.url, verbose=False)
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert [name for name in endpoints if name != "/best_of_n_as_json"] == ["/best_of_n"]
    required = [p["parameter_name"] for p in endpoints["/best_of_n"]["parameters"] if not p["parameter_has_default"]]
    assert required == []
    job = client.submit("This movie", n=16, min_tokens=24, api_name="/best_of_n")
    result = job.result()
    tokens = [sum(c["tokens"] for c in part["candidates"]) for part in job.outputs()]
    assert tokens == sorted(tokens)
    assert len(set(tokens)) > 1
    assert [c["rank"] for c in result["candidates"]] == list(range(1, 17))
    assert len(client.predict("This movie", n=4, keep=2, api_name="/best_of_n")["candidates"]) == 2
    for name, value, message in (("n", 0, "from 1 to 4096"), ("target", "JOY", "JOY"), ("model", "no such", "no such")):
        with pytest.raises(Exception, match=message):
            client.predict("This movie", **{name: value}, api_name="/best_of_n")
