"""The History tab in a real browser: what is kept, opened, run again, removed and set side by side."""

import json
import re

from playwright.sync_api import Page, expect

from bon.errors import EngineError
from bon.ui.app_state import AppState
from bon.ui.generate import run_view
from bon.ui.generate.handlers import GenerateHandlers
from bon.ui.hosting.deployment import Deployment
from tests.support.browser import (
    DESK,
    DRAWN,
    PHONE_SIZE,
    SCORES,
    TEXTS,
    Play,
    layout_faults,
    overflow_pixels,
    set_variant,
)
from tests.ui.test_page import NASTY, complete_run, expect_phase, fill_settings, open_tab, run, winner
from tests.ui.test_run_view import run_with_scores

#: Texts that break careless pages: markup, templates, handlers, URLs, entities, odd characters and a great length.
TEXTS_OF_ALL_KINDS = (
    NASTY, "<svg onload=window.hacked=1>", "</script><script>window.hacked=1</script>", "${window.hacked=1}",
    "{{constructor.constructor(1)}}", "javascript:window.hacked=1", '" onmouseover="window.hacked=1',
    "' autofocus onfocus=hacked=1 '", "&lt;img src=x onerror=window.hacked=1&gt;", "<!--", "[x](javascript:1)",
    "\u202ehidden\u2066\u0000\ufeff", "w" * 3000,
)
CLOSED = "Object.defineProperty(window, 'indexedDB', {get() { throw new DOMException('no', 'SecurityError') }})"


def record(seed=7, scores=(0.2, 0.9, 0.4), **changes) -> dict:
    """A run as the page keeps it."""
    run_record = run_view.record(run_with_scores(list(scores)).result())
    run_record["settings"] |= {"seed": seed}
    return run_record | changes


def keep(page: Page, *records, ended: str = "done") -> None:
    """Stores runs as if they had ended in this phase."""
    for record_text in records:
        record_text = record_text if isinstance(record_text, str) else json.dumps(record_text)
        page.evaluate("([record, phase]) => bon.historyStore.save({record, phase})", [record_text, ended])


def plant(page: Page, **entry) -> None:
    """Puts an entry into the browser's storage, even an invalid one."""
    page.evaluate("""(entry) => new Promise((done) => {
        const opening = indexedDB.open('bon-history', 1);
        opening.onsuccess = () => {
            const change = opening.result.transaction('runs', 'readwrite');
            change.objectStore('runs').put(entry);
            change.oncomplete = () => (opening.result.close(), done());
        } })""", entry)


def clear_storage(page: Page) -> None:
    """Empties the browser's storage without the page's code."""
    open_generate_tab(page)
    page.evaluate("""() => new Promise((done) => {
        const opening = indexedDB.open('bon-history', 1);
        opening.onsuccess = () => {
            const change = opening.result.transaction('runs', 'readwrite');
            change.objectStore('runs').clear();
            change.oncomplete = () => (opening.result.close(), done());
        } })""")


def open_history(page: Page) -> Page:
    """Opens the tab and waits until it is drawn."""
    # The tab replaces its list by the stored runs, which removes this marker.
    page.evaluate("document.querySelector('.history .runs')?.append(document.createElement('hr'))")
    open_tab(page, "History")
    page.wait_for_selector(".history .runs hr", state="detached")
    page.wait_for_selector(".history .runs", state="attached")
    page.evaluate(DRAWN)
    page.evaluate("() => bon.historyStore.all().then(() => {})")
    page.evaluate(DRAWN)
    expect(page.locator(".history .under")).not_to_be_empty()
    return page


def open_generate_tab(page: Page) -> None:
    page.get_by_role("tab", name="Generate").click()


def listed_texts(page: Page) -> list[str]:
    """The rows' texts, newest first."""
    return page.locator(".history .run .text").all_text_contents()


def press(page: Page, name: str, row: int = 0) -> None:
    page.locator(".history .run").nth(row).get_by_role("button", name=re.compile(f"^{name}")).click()


# Storing and opening runs.


def test_runs_are_kept_listed_and_opened_as_they_were(stage, visit):
    page, other_page = visit(stage), visit(stage)
    a_browser_without_runs_is_told_what_the_tab_is_for(page)
    a_run_that_ends_meanwhile_appears_and_the_sample_does_not(stage, page)
    a_run_is_kept_with_its_facts_and_survives_a_reload(page)
    board = runs_are_listed_newest_first_with_how_they_ended(stage, page)
    a_stopped_run_opens_as_stopped(page, board)
    the_keyboard_opens_a_run_as_it_was_without_generating(stage, page)
    assert listed_texts(open_history(other_page)) == []  # a visitor does not see the runs of another


def a_browser_without_runs_is_told_what_the_tab_is_for(page):
    open_history(page)
    expect(page.locator(".history .blank")).to_contain_text("Finished runs are kept here")
    expect(page.locator(".history .tools")).to_be_hidden()
    page.get_by_role("button", name="Generate the first").click()
    expect(page.locator("#generate")).to_be_visible()


def a_run_that_ends_meanwhile_appears_and_the_sample_does_not(stage, page):
    stage.play.hold = 3
    fill_settings(page, seed=11)
    run(page)
    expect_phase(page, "writing")
    open_history(page)
    assert listed_texts(page) == []
    stage.play.go.set()
    expect(page.locator(".history .run")).to_have_count(1)
    expect(page.locator(".history .blank")).to_be_hidden()


def a_run_is_kept_with_its_facts_and_survives_a_reload(page):
    for _ in range(2):
        assert listed_texts(page) == ["This movie was a delight from the first shot to the last."]
        row = page.locator(".history .run")
        expect(row.locator(".points")).to_have_text("0.970probability of positive")
        assert row.locator(".facts > *").all_text_contents() == ["just now", "best of 5", "seed 11", "scripted"]
        page.reload()
        page.wait_for_selector(".bon[data-phase='sample']")
        open_history(page)
    open_generate_tab(page)


def runs_are_listed_newest_first_with_how_they_ended(stage, page) -> str:
    stage.play = Play(TEXTS, SCORES, hold=3)
    page.fill("#prompt textarea", "The second")
    run(page)
    expect(page.locator(".bon .status b")).to_have_text("Scored 3 of 5")
    page.click("#stop")
    expect_phase(page, "stopped")
    board = page.text_content(".bon .board")
    stage.play = Play(TEXTS, SCORES, hold=2, error=EngineError("No memory."))
    stage.play.go.set()
    page.fill("#prompt textarea", "The third")
    run(page)
    expect_phase(page, "failed")
    open_history(page)
    assert [text.split(" was")[0] for text in listed_texts(page)] == ["The third", "The second", "This movie"]
    assert page.locator(".history .ended").all_text_contents() == ["failed after 2 of 5", "stopped after 3 of 5"]
    return board


def a_stopped_run_opens_as_stopped(page, board):
    page.reload()
    page.wait_for_selector(".bon[data-phase='sample']")
    open_history(page)
    press(page, "Open", 1)
    expect_phase(page, "stopped")
    expect(page.locator(".bon .status b")).to_have_text("Stopped after 3 of 5.")
    assert page.text_content(".bon .board") == board


def the_keyboard_opens_a_run_as_it_was_without_generating(stage, page):
    stage.play, runs = Play(TEXTS, SCORES), stage.runs
    page.fill("#prompt textarea", "The hotel room")
    page.locator("#target label", has_text="negative").click()
    fill_settings(page, seed=12, temperature=0.7, top_k=9, max_tokens=40, n=17)
    complete_run(page)
    before = {part: page.text_content(f".bon {part}") for part in (".hero", ".insight", ".board", ".status")}
    page.reload()
    page.wait_for_selector(".bon[data-phase='sample']")
    open_history(page)
    page.focus("#history-clear")
    page.keyboard.press("Tab")  # the box
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Open The hotel room"
    page.keyboard.press("Enter")
    expect_phase(page, "done")
    assert {part: page.text_content(f".bon {part}") for part in before} == before
    expect(page.locator(".bon .hero")).to_be_focused()
    for field, value in {"seed": "12", "temperature": "0.7", "top_k": "9", "max_tokens": "40", "n": "17"}.items():
        expect(page.locator(f"#{field} input")).to_have_value(value)
    expect(page.locator("#prompt textarea")).to_have_value("The hotel room")
    expect(page.locator("#target label.selected")).to_have_text("negative")
    assert stage.runs == runs + 1
    assert len(listed_texts(open_history(page))) == 4


def test_the_storage_is_limited_and_unreadable_runs_break_nothing(stage, visit):
    page = visit(stage)
    unreadable_runs_are_left_out(page)
    a_record_that_only_the_server_refuses_is_an_error(page)
    a_server_that_does_not_answer_is_an_error(page)
    nothing_is_opened_during_a_run(stage, page)
    the_newest_fifty_stay(page)
    a_few_megabytes_stay_and_the_newest_run_of_any_size(page)


def unreadable_runs_are_left_out(page):
    good = record()
    keep(page, good)
    faults = [
        {"v": 1, "at": 1, "size": 9, "record": "{not json"},
        {"v": 0, "at": 2, "size": 9, "record": json.dumps(good)},
        {"v": 1, "at": 3, "size": 9, "record": json.dumps({**good, "candidates": [{"score": "high"}]})},
        {"v": 1, "at": 4, "size": 9, "record": json.dumps({**good, "timing": None})},
        {"v": 1, "at": 5, "size": 9},
        {"at": "yesterday", "record": None},
        {"v": 1, "at": 1e300, "size": 9, "record": json.dumps(good)},
    ]
    for i, fault in enumerate(faults):
        plant(page, id=f"fault {i}", **fault)
    open_history(page)
    assert len(listed_texts(page)) == 1
    expect(page.locator(".history .trouble")).to_have_text("7 saved runs cannot be read and are not shown.")
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".history .gone")).to_contain_text("8 runs removed.")
    page.reload()
    page.wait_for_selector(".bon[data-phase='sample']")
    assert listed_texts(open_history(page)) == []


def a_record_that_only_the_server_refuses_is_an_error(page):
    clear_storage(page)
    keep(page, record(settings={"n": 0, "seed": 7}))
    open_history(page)
    press(page, "Open")
    expect(page.locator(".history .feedback")).to_contain_text("not a run saved by bon")
    expect(page.locator(".history")).to_be_visible()


def a_server_that_does_not_answer_is_an_error(page):
    clear_storage(page)
    keep(page, record(8))
    open_history(page)
    page.route(re.compile("component_server"), lambda route: route.abort())
    press(page, "Open")
    expect(page.locator(".history .feedback")).to_contain_text("The server does not answer")
    page.unroute_all()


def nothing_is_opened_during_a_run(stage, page):
    clear_storage(page)
    keep(page, record(9))
    stage.play.hold = 3
    run(page)
    expect_phase(page, "writing")
    open_history(page)
    for name in ("Open", "Run again"):
        press(page, name)
        expect(page.locator(".history .feedback")).to_contain_text("A run is in progress.")
    assert stage.runs == 1
    stage.play.go.set()
    expect(page.locator(".history .run")).to_have_count(2)


def the_newest_fifty_stay(page):
    clear_storage(page)
    keep(page, *(record(seed) for seed in range(55)))
    open_history(page)
    assert page.locator(".history .run").count() == 50
    seeds = [re.search(r"seed (\d+)", text)[1] for text in page.locator(".history .facts").all_text_contents()]
    assert set(seeds) == {str(seed) for seed in range(5, 55)}


def a_few_megabytes_stay_and_the_newest_run_of_any_size(page):
    clear_storage(page)
    keep(page, *(record(seed, prompt="Much", notes=["x" * 2_000_000]) for seed in range(4)))
    assert page.evaluate("bon.historyStore.all().then((all) => all.length)") == 2
    keep(page, record(9, notes=["x" * 6_000_000]))
    assert page.evaluate("bon.historyStore.all().then((all) => all.map((one) => one.size > 6e6))") == [True]


def test_the_page_works_and_says_so_where_the_browser_stores_nothing(stage, visit):
    page = visit(stage)
    quota = {"origin": stage.url, "quotaSize": 1}
    page.context.new_cdp_session(page).send("Storage.overrideQuotaForOrigin", quota)
    the_reason_is_shown_and_the_page_works(page, "storage is full")
    page.add_init_script(CLOSED)
    page.reload()
    page.wait_for_selector(".bon[data-phase='sample']")
    the_reason_is_shown_and_the_page_works(page, "does not let the page store anything")
    page.context.close()


def the_reason_is_shown_and_the_page_works(page, message):
    complete_run(page)
    open_history(page)
    assert len(listed_texts(page)) == 1
    expect(page.locator(".history .trouble")).to_contain_text(message)
    press(page, "Open")
    expect(page.locator(".bon .hero")).to_be_focused()
    open_history(page)
    press(page, "Remove")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".history .run")).to_have_count(1)


# Comparing and removing runs.


def test_runs_are_shown_side_by_side_and_removed(stage, visit):
    page = visit(stage)
    two_runs_are_shown_side_by_side(page)
    a_missing_curve_or_axis_is_explained(page, 11, {"stats": None}, "No curve for B")
    a_missing_curve_or_axis_is_explained(page, 21, {"unit": "reward", "target": None}, "cannot share an axis")
    only_an_opened_run_is_sent_to_the_server(page)
    removed_runs_can_be_restored_by_keyboard(page)


def two_runs_are_shown_side_by_side(page):
    run_a, run_b = record(1, [0.1, 0.5, 0.8]), record(2, [0.6, 0.97], prompt="The hotel room")
    run_b["settings"] |= {"temperature": 0.7, "n": 2}
    keep(page, run_a, run_b, record(3))
    open_history(page)
    expect(page.locator("#history-compare")).to_have_attribute("aria-disabled", "true")
    page.click("#history-compare", force=True)
    expect(page.locator(".history .feedback")).to_contain_text("First choose two runs")
    boxes = page.locator(".history .choose input")
    for i in (0, 1, 2):  # the first choice gives way to the third
        boxes.nth(i).check()
    assert [boxes.nth(i).is_checked() for i in range(3)] == [False, True, True]
    boxes.nth(1).uncheck()
    assert [boxes.nth(i).is_checked() for i in range(3)] == [False, False, True]
    expect(page.locator("#history-compare")).to_have_attribute("aria-disabled", "true")
    boxes.nth(1).check()
    page.click("#history-compare")
    pair = page.locator(".history .pair")
    assert pair.locator("blockquote").all_text_contents() == ["This movie text 2", "The hotel room text 1"]
    assert pair.locator(".points b").all_text_contents() == ["0.800", "0.970"]
    cells = {row[0]: row[1:] for row in pair.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))")}
    assert cells["Score"] == ["0.800", "0.970"]
    assert cells["One sample, on average"] == ["0.467", "0.785"]
    assert cells["N differs"] == ["3", "2"]
    assert cells["Seed differs"] == ["1", "2"]
    assert cells["Temperature differs"] == ["1", "0.7"]
    assert {"Tokens", "Seconds"} < set(cells)
    expect(pair.locator(".caption").last).to_contain_text("model lm")
    expect(pair.locator(".caption").last).to_contain_text(
        "top-p off, top-k off, min-p off, typical off, repetition penalty off, stop strings none")
    assert pair.locator("svg .line").count() == 2
    expect(pair.locator("svg")).to_have_attribute("aria-label", re.compile("Run A: one sample 0.467, best of 3 0.800"))
    pair.get_by_role("button", name="Close").click()
    expect(pair).to_be_hidden()


def a_missing_curve_or_axis_is_explained(page, seed, changes, message):
    clear_storage(page)
    keep(page, record(seed), record(seed + 1, **changes))
    open_history(page)
    for i in (0, 1):
        page.locator(".history .choose input").nth(i).check()
    page.click("#history-compare")
    expect(page.locator(".history .pair figure .caption")).to_contain_text(message)


def only_an_opened_run_is_sent_to_the_server(page):
    clear_storage(page)
    request_bodies = []
    page.on("request", lambda request: request_bodies.append(request.post_data or ""))
    secret = record(31, prompt="a secret prompt")
    keep(page, secret, record(32))
    open_history(page)
    for i in (0, 1):
        page.locator(".history .choose input").nth(i).check()
    page.click("#history-compare")
    press(page, "Remove")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".history .run")).to_have_count(2)
    assert not any("secret" in data for data in request_bodies)
    assert GenerateHandlers(AppState(Deployment())).open_record(json.dumps(secret))["record"] == json.dumps(secret)


def removed_runs_can_be_restored_by_keyboard(page):
    clear_storage(page)
    keep(page, *(record(seed) for seed in (1, 2, 3)))
    open_history(page)
    page.locator(".history .run").nth(1).get_by_role("button", name="Remove").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".history .run")).to_have_count(2)
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".history .run")).to_have_count(3)
    seeds = [text.split("seed ")[1][0] for text in page.locator(".history .facts").all_text_contents()]
    assert seeds == ["3", "2", "1"]
    press(page, "Remove", 1)
    expect(page.locator(".history .gone")).to_contain_text("Removed")
    page.reload()
    page.wait_for_selector(".bon[data-phase='sample']")
    assert len(listed_texts(open_history(page))) == 2
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".history .gone")).to_contain_text("2 runs removed.")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".history .run")).to_have_count(2)
    page.get_by_role("button", name="Clear all").click()
    page.reload()
    page.wait_for_selector(".bon[data-phase='sample']")
    assert listed_texts(open_history(page)) == []


def test_run_again_gives_the_same_and_is_kept_as_its_own_run(app, visit):
    page = visit(app)
    page.fill("#n input", "6")
    fill_settings(page, temperature=0.9)
    run(page)
    expect_phase(page, "done", timeout=120_000)
    before, seed = winner(page), page.locator(".bon .meta").text_content()
    page.fill("#prompt textarea", "Something else")
    page.fill("#temperature input", "2")
    open_history(page)
    complete_run(page, lambda page: press(page, "Run again"))
    expect(page.locator("#prompt textarea")).to_have_value("This movie")
    assert winner(page) == before
    assert page.locator(".bon .meta").text_content() == seed
    expect(page.locator("#temperature input")).to_have_value("0.9")
    assert len(listed_texts(open_history(page))) == 2


# Layout and accessibility.


def test_texts_of_all_kinds_are_shown_as_text_at_any_width(stage, visit):
    page = visit(stage)
    markup_in_texts_is_not_interpreted(page)
    no_width_scrolls_sideways(page)


def markup_in_texts_is_not_interpreted(page):
    for i, text in enumerate(TEXTS_OF_ALL_KINDS):
        run_record = record(i, prompt=text, model=text, scorer=text, target=text)
        for c in run_record["candidates"]:
            c["text"] = f" {text}"
        keep(page, run_record)
    open_history(page)
    assert set(listed_texts(page)) == {f"{text} {text[:399]}" for text in TEXTS_OF_ALL_KINDS}
    assert overflow_pixels(page) <= 0
    for i in range(len(TEXTS_OF_ALL_KINDS)):
        box = page.locator(".history .choose input").nth(i)
        box.scroll_into_view_if_needed()
        box.check()
        if i:
            page.click("#history-compare")
    press(page, "Remove", 1)
    press(page, "Open", 5)
    expect(page.locator("#generate")).to_be_visible()
    assert page.evaluate("window.hacked") is None
    assert page.locator(".history :is(script, img, iframe, a), .bon :is(script, img)").count() == 0


def no_width_scrolls_sideways(page):
    clear_storage(page)
    keep(page, record(1), record(2, prompt="w" * 300, model="m" * 90, unit="logit", scores=[-3.0, 2.0]),
         record(2**53 - 1, prompt="word " * 90))
    open_history(page)
    assert overflow_by_width(page) == {}
    for i in (0, 1):
        page.locator(".history .choose input").nth(i).check()
    page.click("#history-compare")
    expect(page.locator(".history .pair")).to_be_visible()
    assert overflow_by_width(page) == {}


def overflow_by_width(page) -> dict[int, int]:
    """By how many pixels the page is too wide, for each width of window at which it is."""
    overflows = {}
    for width in (360, 390, 700, 1920):
        page.set_viewport_size({"width": width, "height": 844})
        page.evaluate(DRAWN)
        overflows[width] = overflow_pixels(page)
    return {width: overflow for width, overflow in overflows.items() if overflow > 0}


def test_every_state_is_accessible(stage, visit, axe):
    page = open_history(visit(stage))
    faults_by_state = {"empty": layout_faults(page, axe)}
    keep(page, record(1), record(2, [0.1, 0.3], prompt="The hotel room"), record(3))
    keep(page, record(4), ended="stopped")
    plant(page, id="fault", v=1, at=1, size=1, record="{")
    open_generate_tab(page)
    open_history(page)
    faults_by_state["list"] = layout_faults(page, axe)
    for i in (0, 2):
        page.locator(".history .choose input").nth(i).check()
    page.click("#history-compare")
    expect(page.locator(".history .pair svg")).to_be_visible()
    faults_by_state["pair"] = layout_faults(page, axe)
    press(page, "Remove", 1)
    faults_by_state["removed"] = layout_faults(page, axe)
    for size in (PHONE_SIZE, DESK):
        set_variant(page, size, "light")
        assert small_targets(page) == []
    page.get_by_role("button", name="Clear all").click()
    faults_by_state["cleared"] = layout_faults(page, axe)
    assert {name: faults for name, faults in faults_by_state.items() if faults} == {}


def small_targets(page) -> list:
    """The buttons and labels that are too small for a finger, with their heights."""
    return page.evaluate("""() => [...document.querySelectorAll('.history :is(button, label)')]
        .filter((node) => node.checkVisibility()).map((node) => [node.textContent, node.getBoundingClientRect().height])
        .filter(([, height]) => height < 43.5)""")
