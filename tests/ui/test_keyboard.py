"""A whole visit by keyboard alone: everything is reached, in order, with a focus that is seen, and nothing holds it."""

import re

from playwright.sync_api import Page, expect

from tests.support.browser import Play
from tests.ui.test_page import phase, ran, winner

TEXTS = [f" was number {i}." for i in range(12)]

#: What has the focus, in words, and whether it is seen: an outline or a ring on it or what holds it, in the window.
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


def step(page: Page, key: str = "Tab") -> str:
    """Moves the focus by a key, and says what has it."""
    page.keyboard.press(key)
    focused = page.evaluate(FOCUSED)
    if focused is None:
        return ""
    assert focused["seen"], f"{focused['words']} has a focus that nobody sees"
    return focused["words"]


def to(page: Page, selector: str, key: str = "Tab", most: int = 150) -> None:
    """Moves the focus to what the selector means."""
    passed = []
    for _ in range(most):
        passed.append(step(page, key))
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not among {passed}")


def write(page: Page, text: str) -> None:
    """Types a text in place of what a field holds."""
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def scripted(hold: int | None = None) -> Play:
    """A run of twelve candidates."""
    return Play(TEXTS, [i / 12 for i in range(12)], hold=hold)


def test_a_run_is_set_up_written_and_stopped(stage, visit):
    page = visit(stage)
    a_screen_reader_is_told_how_the_run_stands(stage, page)
    a_run_is_written_stopped_and_read(stage, page)
    the_settings_are_changed_and_left_again(page)
    the_tabs_are_gone_through(page)


def test_a_result_is_gone_through_opened_and_presented(stage, visit):
    page = visit(stage)
    stage.play = scripted()
    the_focus_goes_round_in_the_order_of_the_page(page)
    a_result_is_opened_explained_and_taken_home(page)
    present_mode_is_entered_used_and_left(page)


def a_run_is_written_stopped_and_read(stage, page):
    stage.play = scripted(5)
    to(page, "#prompt textarea")
    write(page, "My cat")
    to(page, "#examples .example")
    page.keyboard.press("Enter")
    expect(page.locator("#prompt textarea")).to_have_value("This movie")
    to(page, "#n input")
    write(page, "12")
    to(page, "#n-slider input[type=range]")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#n input")).to_have_value("13")
    page.keyboard.press("ArrowLeft")
    to(page, "#target input")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#target input").nth(1)).to_be_checked()
    page.keyboard.press("ArrowLeft")
    to(page, "#generate")
    page.keyboard.press("Enter")
    phase(page, "writing")
    expect(page.locator("#generate")).to_be_focused()
    to(page, "#stop")
    page.keyboard.press("Space")
    phase(page, "stopped")
    expect(page.locator("#stop")).to_be_focused()
    stage.play = scripted()
    to(page, "#generate", "Shift+Tab")
    ran(page, lambda page: page.keyboard.press("Space"))


def the_settings_are_changed_and_left_again(page):
    to(page, "#settings-line")
    page.keyboard.press("Enter")
    values = {"min_tokens": 4, "max_tokens": 20, "temperature": 0.8, "top_p": 0.9, "top_k": 5, "seed": 3}
    for name, value in values.items():
        to(page, f"#{name} input")
        write(page, str(value))
    to(page, "#dice")
    page.keyboard.press("Enter")
    expect(page.locator("#seed input")).not_to_have_value("3")
    to(page, "#reject input")
    page.keyboard.press("Space")
    expect(page.locator("#reject input")).to_be_checked()
    to(page, "#select input")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    to(page, "#softness input")
    to(page, "#model input")
    to(page, "#scorer input")
    step(page)
    to(page, "#settings-line", "Shift+Tab")
    expect(page.locator("#settings-line")).to_contain_text("temperature 0.8")
    page.keyboard.press("Enter")
    expect(page.locator("#temperature input")).to_be_hidden()


def a_result_is_opened_explained_and_taken_home(page):
    to(page, ".hero .more")
    page.keyboard.press("Enter")
    expect(page.locator(".hero > .detail")).to_be_visible()
    to(page, ".menu summary")
    page.keyboard.press("Enter")
    to(page, ".menu .choices .copy")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith(".html")
    expect(page.locator(".menu summary")).to_be_focused()
    to(page, ".facts .term")
    expect(page.locator("#view .bubble")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#view .bubble")).to_be_hidden()
    to(page, ".board .more")
    page.keyboard.press("Enter")
    expect(page.locator(".board .detail")).to_be_visible()
    to(page, ".fold summary")
    page.keyboard.press("Enter")
    expect(page.locator(".fold .row").first).to_be_visible()


def the_tabs_are_gone_through(page):
    to(page, "#tabs [role=tab]")
    for name in ("Compare", "History", "About and API", "Generate"):
        to(page, f"#tabs [role=tab][data-tab-id={name.split()[0].lower()}]")
        page.keyboard.press("Enter")
        expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")


def present_mode_is_entered_used_and_left(page):
    to(page, ".presents")
    page.keyboard.press("Enter")
    expect(page.locator("body")).to_have_attribute("data-present", "")
    ran(page, lambda page: page.keyboard.press("2"))
    assert winner(page).startswith("The hotel room")
    to(page, ".hero .more")
    page.keyboard.press("Escape")
    expect(page.locator("body")).not_to_have_attribute("data-present", "")
    expect(page.locator(":focus")).to_have_count(1)


def the_focus_goes_round_in_the_order_of_the_page(page):
    page.keyboard.press("Control+Enter")
    phase(page, "done")
    page.evaluate("document.activeElement.blur()")
    round_trip = []
    for _ in range(120):
        round_trip.append(step(page))
        if len(round_trip) > 1 and round_trip[-1] == round_trip[0]:
            break
    assert round_trip[-1] == round_trip[0]
    landmarks = [
        "button: Present", "button: Generate", "button: About and API", "button: This movie", "input: Candidates, N",
        "button: Stop", "button: Details", "summary: Download", "button: one sample, on average",
        "button: Details of candidate 11", "summary: The other 4",
    ]
    assert [words for words in dict.fromkeys(round_trip) if words in landmarks] == landmarks


def a_screen_reader_is_told_how_the_run_stands(stage, page):
    page.evaluate("""() => {
        const said = document.querySelector(".bon [aria-live=polite]");
        window.told = [];
        new MutationObserver(() => told.push(said.textContent)).observe(said, { childList: true });
    }""")
    stage.play = scripted(5)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".bon .status b")).to_have_text("Scored 5 of 12")
    page.keyboard.press("Escape")
    phase(page, "stopped")
    stage.play = scripted()
    page.keyboard.press("Control+Enter")
    phase(page, "done")
    told = [words for words in page.evaluate("told") if not re.match("Starting|Next in the queue", words)]
    assert told[:3] == ["Writing.", "Stopped after 5 of 12. Finished work is kept.", "Writing."]
    assert re.fullmatch(r"Done\. Best of 12 in .*", told[-1])
