"""A visit by keyboard alone: everything is reached in order with a visible focus, and nothing traps the focus."""

import re

from playwright.sync_api import Page, expect

from tests.support.browser import Play
from tests.ui.test_page import complete_run, expect_phase, winner

TEXTS = [f" was number {i}." for i in range(12)]

#: The name of the focused element, and whether its focus is visible: an outline or ring on it or around it.
FOCUSED = """() => {
    const node = document.activeElement;
    if (!node || node === document.body) return null;
    const ringed = (one) => {
        const style = getComputedStyle(one);
        return (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2) || style.boxShadow !== "none";
    };
    const box = node.getBoundingClientRect();
    const inside = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    const words = node.getAttribute("aria-label") || node.textContent.trim().slice(0, 40) || node.id || node.className;
    return {
        words: `${node.tagName.toLowerCase()}: ${words || node.closest("[id]")?.id}`,
        seen: inside && [node, node.closest("label"), node.closest(".wrap")].filter(Boolean).some(ringed),
    };
}"""


def move_focus(page: Page, key: str = "Tab") -> str:
    """Moves the focus by a key; the name of the element that has it then."""
    page.keyboard.press(key)
    focused = page.evaluate(FOCUSED)
    if focused is None:
        return ""
    assert focused["seen"], f"{focused['words']} has an invisible focus"
    return focused["words"]


def move_focus_to(page: Page, selector: str, key: str = "Tab", limit: int = 150) -> None:
    """Moves the focus to the element that matches the selector."""
    passed = []
    for _ in range(limit):
        passed.append(move_focus(page, key))
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not among {passed}")


def replace_text(page: Page, text: str) -> None:
    """Types a text in place of the content of the focused field."""
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def scripted(hold: int | None = None) -> Play:
    """A run of twelve candidates."""
    return Play(TEXTS, [i / 12 for i in range(12)], hold=hold)


def test_a_run_is_set_up_written_and_stopped(stage, visit):
    page = visit(stage)
    a_screen_reader_is_told_the_state_of_the_run(stage, page)
    a_run_is_written_stopped_and_read(stage, page)
    the_settings_are_changed_and_left_again(page)
    the_tabs_are_visited(page)


def test_a_result_is_visited_opened_and_presented(stage, visit):
    page = visit(stage)
    stage.play = scripted()
    tab_visits_everything_in_the_order_of_the_page_and_returns(page)
    a_result_is_opened_explained_and_downloaded(page)
    present_mode_is_entered_used_and_left(page)


def a_run_is_written_stopped_and_read(stage, page):
    stage.play = scripted(5)
    move_focus_to(page, "#prompt textarea")
    replace_text(page, "My cat")
    move_focus_to(page, "#examples .example")
    page.keyboard.press("Enter")
    expect(page.locator("#prompt textarea")).to_have_value("This movie")
    move_focus_to(page, "#n input")
    replace_text(page, "12")
    move_focus_to(page, "#n-slider input[type=range]")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#n input")).to_have_value("13")
    page.keyboard.press("ArrowLeft")
    move_focus_to(page, "#target input")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#target input").nth(1)).to_be_checked()
    page.keyboard.press("ArrowLeft")
    move_focus_to(page, "#generate")
    page.keyboard.press("Enter")
    expect_phase(page, "writing")
    expect(page.locator("#generate")).to_be_focused()
    move_focus_to(page, "#stop")
    page.keyboard.press("Space")
    expect_phase(page, "stopped")
    expect(page.locator("#stop")).to_be_focused()
    stage.play = scripted()
    move_focus_to(page, "#generate", "Shift+Tab")
    complete_run(page, lambda page: page.keyboard.press("Space"))


def the_settings_are_changed_and_left_again(page):
    move_focus_to(page, "#settings-line")
    page.keyboard.press("Enter")
    values = {"min_tokens": 4, "max_tokens": 20, "temperature": 0.8, "top_p": 0.9, "top_k": 5, "seed": 3}
    for name, value in values.items():
        move_focus_to(page, f"#{name} input")
        replace_text(page, str(value))
    move_focus_to(page, "#dice")
    page.keyboard.press("Enter")
    expect(page.locator("#seed input")).not_to_have_value("3")
    move_focus_to(page, "#reject input")
    page.keyboard.press("Space")
    expect(page.locator("#reject input")).to_be_checked()
    move_focus_to(page, "#select input")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    move_focus_to(page, "#softness input")
    move_focus_to(page, "#model input")
    move_focus_to(page, "#scorer input")
    move_focus(page)
    move_focus_to(page, "#settings-line", "Shift+Tab")
    expect(page.locator("#settings-line")).to_contain_text("temperature 0.8")
    page.keyboard.press("Enter")
    expect(page.locator("#temperature input")).to_be_hidden()


def a_result_is_opened_explained_and_downloaded(page):
    move_focus_to(page, ".hero .more")
    page.keyboard.press("Enter")
    expect(page.locator(".hero > .detail")).to_be_visible()
    move_focus_to(page, ".menu summary")
    page.keyboard.press("Enter")
    move_focus_to(page, ".menu .choices .copy")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith(".html")
    expect(page.locator(".menu summary")).to_be_focused()
    move_focus_to(page, ".facts .term")
    expect(page.locator("#view .bubble")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#view .bubble")).to_be_hidden()
    move_focus_to(page, ".board .more")
    page.keyboard.press("Enter")
    expect(page.locator(".board .detail")).to_be_visible()
    move_focus_to(page, ".fold summary")
    page.keyboard.press("Enter")
    expect(page.locator(".fold .row").first).to_be_visible()


def the_tabs_are_visited(page):
    move_focus_to(page, "#tabs [role=tab]")
    for name in ("Compare", "History", "About and API", "Generate"):
        move_focus_to(page, f"#tabs [role=tab][data-tab-id={name.split()[0].lower()}]")
        page.keyboard.press("Enter")
        expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")


def present_mode_is_entered_used_and_left(page):
    move_focus_to(page, ".presents")
    page.keyboard.press("Enter")
    expect(page.locator("body")).to_have_attribute("data-present", "")
    complete_run(page, lambda page: page.keyboard.press("2"))
    assert winner(page).startswith("The hotel room")
    move_focus_to(page, ".hero .more")
    page.keyboard.press("Escape")
    expect(page.locator("body")).not_to_have_attribute("data-present", "")
    expect(page.locator(":focus")).to_have_count(1)


def tab_visits_everything_in_the_order_of_the_page_and_returns(page):
    page.keyboard.press("Control+Enter")
    expect_phase(page, "done")
    page.evaluate("document.activeElement.blur()")
    round_trip = []
    for _ in range(120):
        round_trip.append(move_focus(page))
        if len(round_trip) > 1 and round_trip[-1] == round_trip[0]:
            break
    assert round_trip[-1] == round_trip[0]
    landmarks = [
        "button: Present", "button: Generate", "button: About and API", "button: This movie", "input: Candidates, N",
        "button: Stop", "button: Details", "summary: Download", "button: one sample, on average",
        "button: Details of candidate 10", "summary: The other 4",
    ]
    assert [name for name in dict.fromkeys(round_trip) if name in landmarks] == landmarks


def a_screen_reader_is_told_the_state_of_the_run(stage, page):
    page.evaluate("""() => {
        const said = document.querySelector(".bon [aria-live=polite]");
        window.told = [];
        new MutationObserver(() => told.push(said.textContent)).observe(said, { childList: true });
    }""")
    stage.play = scripted(5)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".bon .status b")).to_have_text("Scored 5 of 12")
    page.keyboard.press("Escape")
    expect_phase(page, "stopped")
    stage.play = scripted()
    page.keyboard.press("Control+Enter")
    expect_phase(page, "done")
    announcements = [text for text in page.evaluate("told") if not re.match("Starting|Next in the queue", text)]
    assert announcements[:3] == ["Writing.", "Stopped after 5 of 12. Finished work is kept.", "Writing."]
    assert re.fullmatch(r"Done\. Best of 12 in .*", announcements[-1])
