"""The History tab in a real browser: what is kept, opened, run again, removed and set side by side."""

import json
import re

from playwright.sync_api import Page, expect

from bon.errors import EngineError
from bon.ui.app_state import AppState
from bon.ui.generate import run_view
from bon.ui.generate.handlers import GenerateHandlers
from bon.ui.hosting.deployment import Deployment
from tests.support.browser import DESK, DRAWN, PHONE_SIZE, SCORES, TEXTS, Play, sideways, unfit, variant
from tests.ui.test_page import NASTY, phase, ran, run, settings, to_tab, winner
from tests.ui.test_run_view import state

#: What has broken pages: markup, templates, handlers, addresses, entities, odd characters, and a great length.
TEXTS_OF_ALL_KINDS = (
    NASTY, "<svg onload=window.hacked=1>", "</script><script>window.hacked=1</script>", "${window.hacked=1}",
    "{{constructor.constructor(1)}}", "javascript:window.hacked=1", '" onmouseover="window.hacked=1',
    "' autofocus onfocus=hacked=1 '", "&lt;img src=x onerror=window.hacked=1&gt;", "<!--", "[x](javascript:1)",
    "\u202ehidden\u2066\u0000\ufeff", "w" * 3000,
)
CLOSED = "Object.defineProperty(window, 'indexedDB', {get() { throw new DOMException('no', 'SecurityError') }})"


def record(seed=7, scores=(0.2, 0.9, 0.4), **changes) -> dict:
    """A run as the page keeps it."""
    told = run_view.record(state(list(scores)).result())
    told["settings"] |= {"seed": seed}
    return told | changes


def keep(page: Page, *records, phase: str = "done") -> None:
    """Ends runs, as far as the store can tell."""
    for told in records:
        told = told if isinstance(told, str) else json.dumps(told)
        page.evaluate("([record, phase]) => bon.store.keep({record, phase})", [told, phase])


def plant(page: Page, **entry) -> None:
    """Puts an entry into the browser's storage, whatever it is."""
    page.evaluate("""(entry) => new Promise((done) => {
        const asked = indexedDB.open('bon-history', 1);
        asked.onsuccess = () => {
            const change = asked.result.transaction('runs', 'readwrite');
            change.objectStore('runs').put(entry);
            change.oncomplete = () => (asked.result.close(), done());
        } })""", entry)


def wipe(page: Page) -> None:
    """Empties the browser's storage, unseen by the page."""
    generate(page)
    page.evaluate("""() => new Promise((done) => {
        const asked = indexedDB.open('bon-history', 1);
        asked.onsuccess = () => {
            const change = asked.result.transaction('runs', 'readwrite');
            change.objectStore('runs').clear();
            change.oncomplete = () => (asked.result.close(), done());
        } })""")


def history(page: Page) -> Page:
    """Goes to the tab, and waits until it is drawn."""
    # When the tab comes up, whatever is in the list goes, and what is kept is read.
    page.evaluate("document.querySelector('.history .runs')?.append(document.createElement('hr'))")
    to_tab(page, "History")
    page.wait_for_selector(".history .runs hr", state="detached")
    page.wait_for_selector(".history .runs", state="attached")
    page.evaluate(DRAWN)
    page.evaluate("() => bon.store.all().then(() => {})")
    page.evaluate(DRAWN)
    expect(page.locator(".history .under")).not_to_be_empty()
    return page


def generate(page: Page) -> None:
    page.get_by_role("tab", name="Generate").click()


def listed(page: Page) -> list[str]:
    """The rows' texts, newest first."""
    return page.locator(".history .run .text").all_text_contents()


def act(page: Page, name: str, row: int = 0) -> None:
    page.locator(".history .run").nth(row).get_by_role("button", name=re.compile(f"^{name}")).click()


# What is kept.


def test_runs_are_kept_listed_and_opened_as_they_were(stage, visit):
    page, other = visit(stage), visit(stage)
    a_browser_without_runs_is_told_what_will_be_here(page)
    a_run_that_ends_meanwhile_appears_where_the_sample_does_not(stage, page)
    a_run_is_kept_with_its_facts_and_survives_a_reload(page)
    board = runs_are_listed_newest_first_with_how_they_ended(stage, page)
    a_stopped_run_opens_as_stopped(page, board)
    the_keyboard_opens_a_run_as_it_was_without_generating(stage, page)
    assert listed(history(other)) == []  # nothing of one visitor is seen by another


def a_browser_without_runs_is_told_what_will_be_here(page):
    history(page)
    expect(page.locator(".history .blank")).to_contain_text("Finished runs are kept here")
    expect(page.locator(".history .tools")).to_be_hidden()
    page.get_by_role("button", name="Generate the first").click()
    expect(page.locator("#generate")).to_be_visible()


def a_run_that_ends_meanwhile_appears_where_the_sample_does_not(stage, page):
    stage.play.hold = 3
    settings(page, seed=11)
    run(page)
    phase(page, "writing")
    history(page)
    assert listed(page) == []
    stage.play.go.set()
    expect(page.locator(".history .run")).to_have_count(1)
    expect(page.locator(".history .blank")).to_be_hidden()


def a_run_is_kept_with_its_facts_and_survives_a_reload(page):
    for _ in range(2):
        assert listed(page) == ["This movie was a delight from the first shot to the last."]
        row = page.locator(".history .run")
        expect(row.locator(".points")).to_have_text("0.970probability of positive")
        assert row.locator(".facts > *").all_text_contents() == ["just now", "best of 5", "seed 11", "scripted"]
        page.reload()
        page.wait_for_selector(".bon[data-phase='sample']")
        history(page)
    generate(page)


def runs_are_listed_newest_first_with_how_they_ended(stage, page) -> str:
    stage.play = Play(TEXTS, SCORES, hold=3)
    page.fill("#prompt textarea", "The second")
    run(page)
    expect(page.locator(".bon .status b")).to_have_text("Scored 3 of 5")
    page.click("#stop")
    phase(page, "stopped")
    board = page.text_content(".bon .board")
    stage.play = Play(TEXTS, SCORES, hold=2, error=EngineError("No memory."))
    stage.play.go.set()
    page.fill("#prompt textarea", "The third")
    run(page)
    phase(page, "failed")
    history(page)
    assert [text.split(" was")[0] for text in listed(page)] == ["The third", "The second", "This movie"]
    assert page.locator(".history .ended").all_text_contents() == ["failed after 2 of 5", "stopped after 3 of 5"]
    return board


def a_stopped_run_opens_as_stopped(page, board):
    page.reload()
    page.wait_for_selector(".bon[data-phase='sample']")
    history(page)
    act(page, "Open", 1)
    phase(page, "stopped")
    expect(page.locator(".bon .status b")).to_have_text("Stopped after 3 of 5.")
    assert page.text_content(".bon .board") == board


def the_keyboard_opens_a_run_as_it_was_without_generating(stage, page):
    stage.play, runs = Play(TEXTS, SCORES), stage.runs
    page.fill("#prompt textarea", "The hotel room")
    page.locator("#target label", has_text="negative").click()
    settings(page, seed=12, temperature=0.7, top_k=9, max_tokens=40, n=17)
    ran(page)
    before = {part: page.text_content(f".bon {part}") for part in (".hero", ".insight", ".board", ".status")}
    page.reload()
    page.wait_for_selector(".bon[data-phase='sample']")
    history(page)
    page.focus("#history-clear")
    page.keyboard.press("Tab")  # the box
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Open The hotel room"
    page.keyboard.press("Enter")
    phase(page, "done")
    assert {part: page.text_content(f".bon {part}") for part in before} == before
    expect(page.locator(".bon .hero")).to_be_focused()
    for field, value in {"seed": "12", "temperature": "0.7", "top_k": "9", "max_tokens": "40", "n": "17"}.items():
        expect(page.locator(f"#{field} input")).to_have_value(value)
    expect(page.locator("#prompt textarea")).to_have_value("The hotel room")
    expect(page.locator("#target label.selected")).to_have_text("negative")
    assert stage.runs == runs + 1
    assert len(listed(history(page))) == 4


def test_so_much_is_kept_and_what_cannot_be_read_breaks_nothing(stage, visit):
    page = visit(stage)
    what_cannot_be_read_is_left_out_and_breaks_nothing(page)
    a_record_that_only_the_server_finds_broken_is_said(page)
    a_server_that_does_not_answer_is_said(page)
    while_a_run_goes_on_nothing_is_opened(stage, page)
    the_newest_fifty_stay(page)
    a_few_megabytes_stay_and_the_newest_however_large(page)


def what_cannot_be_read_is_left_out_and_breaks_nothing(page):
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
    history(page)
    assert len(listed(page)) == 1
    expect(page.locator(".history .trouble")).to_have_text("7 saved runs cannot be read and are not shown.")
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".history .gone")).to_contain_text("8 runs removed.")
    page.reload()
    page.wait_for_selector(".bon[data-phase='sample']")
    assert listed(history(page)) == []


def a_record_that_only_the_server_finds_broken_is_said(page):
    wipe(page)
    keep(page, record(settings={"n": 0, "seed": 7}))
    history(page)
    act(page, "Open")
    expect(page.locator(".history .feedback")).to_contain_text("not a run saved by bon")
    expect(page.locator(".history")).to_be_visible()


def a_server_that_does_not_answer_is_said(page):
    wipe(page)
    keep(page, record(8))
    history(page)
    page.route(re.compile("component_server"), lambda route: route.abort())
    act(page, "Open")
    expect(page.locator(".history .feedback")).to_contain_text("The server does not answer")
    page.unroute_all()


def while_a_run_goes_on_nothing_is_opened(stage, page):
    wipe(page)
    keep(page, record(9))
    stage.play.hold = 3
    run(page)
    phase(page, "writing")
    history(page)
    for name in ("Open", "Run again"):
        act(page, name)
        expect(page.locator(".history .feedback")).to_contain_text("A run is in progress.")
    assert stage.runs == 1
    stage.play.go.set()
    expect(page.locator(".history .run")).to_have_count(2)


def the_newest_fifty_stay(page):
    wipe(page)
    keep(page, *(record(seed) for seed in range(55)))
    history(page)
    assert page.locator(".history .run").count() == 50
    seeds = [re.search(r"seed (\d+)", text)[1] for text in page.locator(".history .facts").all_text_contents()]
    assert set(seeds) == {str(seed) for seed in range(5, 55)}


def a_few_megabytes_stay_and_the_newest_however_large(page):
    wipe(page)
    keep(page, *(record(seed, prompt="Much", notes=["x" * 2_000_000]) for seed in range(4)))
    assert page.evaluate("bon.store.all().then((all) => all.length)") == 2
    keep(page, record(9, notes=["x" * 6_000_000]))
    assert page.evaluate("bon.store.all().then((all) => all.map((one) => one.size > 6e6))") == [True]


def test_a_browser_that_stores_nothing_says_so_and_the_page_works(stage, visit):
    page = visit(stage)
    quota = {"origin": stage.url, "quotaSize": 1}
    page.context.new_cdp_session(page).send("Storage.overrideQuotaForOrigin", quota)
    the_trouble_is_said_and_the_page_works(page, "storage is full")
    page.add_init_script(CLOSED)
    page.reload()
    page.wait_for_selector(".bon[data-phase='sample']")
    the_trouble_is_said_and_the_page_works(page, "does not let the page store anything")
    page.context.close()


def the_trouble_is_said_and_the_page_works(page, words):
    ran(page)
    history(page)
    assert len(listed(page)) == 1
    expect(page.locator(".history .trouble")).to_contain_text(words)
    act(page, "Open")
    expect(page.locator(".bon .hero")).to_be_focused()
    history(page)
    act(page, "Remove")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".history .run")).to_have_count(1)


# What is done with it.


def test_runs_are_set_side_by_side_and_removed(stage, visit):
    page = visit(stage)
    two_runs_stand_side_by_side(page)
    what_shares_no_axis_is_said(page, 11, {"stats": None}, "No curve for B")
    what_shares_no_axis_is_said(page, 21, {"unit": "reward", "target": None}, "cannot share an axis")
    nothing_of_it_goes_to_the_server_but_what_is_opened(page)
    what_is_removed_can_be_had_back_by_keyboard(page)


def two_runs_stand_side_by_side(page):
    first, second = record(1, [0.1, 0.5, 0.8]), record(2, [0.6, 0.97], prompt="The hotel room")
    second["settings"] |= {"temperature": 0.7, "n": 2}
    keep(page, first, second, record(3))
    history(page)
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
    assert pair.locator("svg .line").count() == 2
    expect(pair.locator("svg")).to_have_attribute("aria-label", re.compile("Run A: one sample 0.467, best of 3 0.800"))
    pair.get_by_role("button", name="Close").click()
    expect(pair).to_be_hidden()


def what_shares_no_axis_is_said(page, seed, changes, words):
    wipe(page)
    keep(page, record(seed), record(seed + 1, **changes))
    history(page)
    for i in (0, 1):
        page.locator(".history .choose input").nth(i).check()
    page.click("#history-compare")
    expect(page.locator(".history .pair figure .caption")).to_contain_text(words)


def nothing_of_it_goes_to_the_server_but_what_is_opened(page):
    wipe(page)
    asked = []
    page.on("request", lambda request: asked.append(request.post_data or ""))
    secret = record(31, prompt="a secret prompt")
    keep(page, secret, record(32))
    history(page)
    for i in (0, 1):
        page.locator(".history .choose input").nth(i).check()
    page.click("#history-compare")
    act(page, "Remove")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".history .run")).to_have_count(2)
    assert not any("secret" in data for data in asked)
    assert GenerateHandlers(AppState(Deployment())).open_record(json.dumps(secret))["record"] == json.dumps(secret)


def what_is_removed_can_be_had_back_by_keyboard(page):
    wipe(page)
    keep(page, *(record(seed) for seed in (1, 2, 3)))
    history(page)
    page.locator(".history .run").nth(1).get_by_role("button", name="Remove").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".history .run")).to_have_count(2)
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".history .run")).to_have_count(3)
    seeds = [text.split("seed ")[1][0] for text in page.locator(".history .facts").all_text_contents()]
    assert seeds == ["3", "2", "1"]
    act(page, "Remove", 1)
    expect(page.locator(".history .gone")).to_contain_text("Removed")
    page.reload()
    page.wait_for_selector(".bon[data-phase='sample']")
    assert len(listed(history(page))) == 2
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".history .gone")).to_contain_text("2 runs removed.")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".history .run")).to_have_count(2)
    page.get_by_role("button", name="Clear all").click()
    page.reload()
    page.wait_for_selector(".bon[data-phase='sample']")
    assert listed(history(page)) == []


def test_run_again_gives_the_same_and_is_kept_as_its_own_run(app, visit):
    page = visit(app)
    page.fill("#n input", "6")
    settings(page, temperature=0.9)
    run(page)
    phase(page, "done", timeout=120_000)
    before, seed = winner(page), page.locator(".bon .meta").text_content()
    page.fill("#prompt textarea", "Something else")
    page.fill("#temperature input", "2")
    history(page)
    ran(page, lambda page: act(page, "Run again"))
    expect(page.locator("#prompt textarea")).to_have_value("This movie")
    assert winner(page) == before
    assert page.locator(".bon .meta").text_content() == seed
    expect(page.locator("#temperature input")).to_have_value("0.9")
    assert len(listed(history(page))) == 2


# How it looks and who can use it.


def test_texts_of_all_kinds_stay_texts_at_any_width(stage, visit):
    page = visit(stage)
    texts_stay_texts(page)
    no_width_scrolls_sideways(page)


def texts_stay_texts(page):
    for i, text in enumerate(TEXTS_OF_ALL_KINDS):
        told = record(i, prompt=text, model=text, scorer=text, target=text)
        for c in told["candidates"]:
            c["text"] = f" {text}"
        keep(page, told)
    history(page)
    assert set(listed(page)) == {f"{text} {text[:399]}" for text in TEXTS_OF_ALL_KINDS}
    assert sideways(page) <= 0
    for i in range(len(TEXTS_OF_ALL_KINDS)):
        box = page.locator(".history .choose input").nth(i)
        box.scroll_into_view_if_needed()
        box.check()
        if i:
            page.click("#history-compare")
    act(page, "Remove", 1)
    act(page, "Open", 5)
    expect(page.locator("#generate")).to_be_visible()
    assert page.evaluate("window.hacked") is None
    assert page.locator(".history :is(script, img, iframe, a), .bon :is(script, img)").count() == 0


def no_width_scrolls_sideways(page):
    wipe(page)
    keep(page, record(1), record(2, prompt="w" * 300, model="m" * 90, unit="logit", scores=[-3.0, 2.0]),
         record(2**53 - 1, prompt="word " * 90))
    history(page)
    assert too_wide(page) == {}
    for i in (0, 1):
        page.locator(".history .choose input").nth(i).check()
    page.click("#history-compare")
    expect(page.locator(".history .pair")).to_be_visible()
    assert too_wide(page) == {}


def too_wide(page) -> dict[int, int]:
    """By how many pixels the page is too wide for windows of some widths, where it is."""
    found = {}
    for width in (360, 390, 700, 1920):
        page.set_viewport_size({"width": width, "height": 844})
        page.evaluate(DRAWN)
        found[width] = sideways(page)
    return {width: over for width, over in found.items() if over > 0}


def test_every_state_is_accessible(stage, visit, axe):
    page = history(visit(stage))
    found = {"empty": unfit(page, axe)}
    keep(page, record(1), record(2, [0.1, 0.3], prompt="The hotel room"), record(3))
    keep(page, record(4), phase="stopped")
    plant(page, id="fault", v=1, at=1, size=1, record="{")
    generate(page)
    history(page)
    found["list"] = unfit(page, axe)
    for i in (0, 2):
        page.locator(".history .choose input").nth(i).check()
    page.click("#history-compare")
    expect(page.locator(".history .pair svg")).to_be_visible()
    found["pair"] = unfit(page, axe)
    act(page, "Remove", 1)
    found["removed"] = unfit(page, axe)
    for size in (PHONE_SIZE, DESK):
        variant(page, size, "light")
        assert small(page) == []
    page.get_by_role("button", name="Clear all").click()
    found["cleared"] = unfit(page, axe)
    assert {name: faults for name, faults in found.items() if faults} == {}


def small(page) -> list:
    """What is too small for a finger."""
    return page.evaluate("""() => [...document.querySelectorAll('.history :is(button, label)')]
        .filter((node) => node.checkVisibility()).map((node) => [node.textContent, node.getBoundingClientRect().height])
        .filter(([, height]) => height < 43.5)""")
