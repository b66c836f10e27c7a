"""Whole visits: hostile texts, presses that come early, layout shifts, a page that is left, and what a page stores."""

import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from playwright.sync_api import expect

from bon.errors import InputError, ModelError
from bon.messages import say
from bon.ui.batch import handlers as batch_handlers
from bon.ui.compare import handlers as compare_handlers
from bon.ui.generate import share_links
from tests.support.browser import ARRIVED, DESK, DRAWN, PHONE_SIZE, Play, close_page, open_page
from tests.ui.test_page import complete_run, expect_phase, fill_settings, open_tab, run, winner

#: Each sets window.hacked, or asks for a picture, if it is taken for anything but text.
PAYLOADS = (
    *r"""
<script>hacked=1</script>
<img src=x onerror=hacked=1>
<svg onload=hacked=1>
<svg><script>hacked=1</script>
<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>
<body onload=hacked=1>
<details open ontoggle=hacked=1>
<a href=javascript:hacked=1>x</a>
<math><mtext></mtext><mglyph><svg onload=hacked=1>
<style>@import 'http://a.invalid'</style>
<link rel=stylesheet href=http://a.invalid/x.css>
<meta http-equiv=refresh content='0;url=http://a.invalid'>
<base href=http://a.invalid/>
<object data=http://a.invalid></object>
<video src=x onerror=hacked=1>
</textarea><script>hacked=1</script>
</script><script>hacked=1</script>
</title><img src=x onerror=hacked=1>
--><img src=x onerror=hacked=1>
]]><img src=x onerror=hacked=1>
'"><img src=x onerror=hacked=1>
" onmouseover=hacked=1 x="
`${hacked=1}`
${hacked=1}
{{hacked=1}}
{{#each value}}{{this}}{{/each}}
\x3cimg src=x onerror=hacked=1\x3e
\u003cimg src=x onerror=hacked=1\u003e
&lt;img src=x onerror=hacked=1&gt;
[x](javascript:hacked=1) ![x](http://a.invalid/x.png)
=HYPERLINK("http://a.invalid")
""".strip().splitlines(),
    "\u202e<img src=x onerror=hacked=1>",
)


#: Puts markup into a document by innerHTML, as a fault in a script would. It sets window.hacked if any of it runs.
INJECT = """() => new Promise((done) => {
    const place = document.body.appendChild(document.createElement("div"));
    place.innerHTML = `<script>hacked = 1</script><img src=x onerror=hacked=2><svg onload=hacked=3></svg>
        <iframe srcdoc="<script>parent.hacked = 4</script>"></iframe><details open ontoggle=hacked=5></details>
        <a href="javascript:hacked=6">x</a><base href="http://a.invalid/"><object data="http://a.invalid"></object>`;
    place.append(Object.assign(document.createElement("script"), { textContent: "hacked = 7" }));
    place.append(Object.assign(document.createElement("script"), { src: "data:text/javascript,hacked=8" }));
    place.querySelector("a").click();
    const frameLoaded = new Promise((loaded) => place.querySelector("iframe").addEventListener("load", loaded));
    const imageFailed = new Promise((failed) => place.querySelector("img").addEventListener("error", failed));
    Promise.all([frameLoaded, imageFailed]).then(() => setTimeout(() => done(place.remove())));
})"""


def injected_markup_runs_nothing(page) -> None:
    address = page.evaluate("document.baseURI")
    page.evaluate(INJECT)
    assert page.evaluate("() => window.hacked") is None
    assert page.evaluate("document.baseURI") == address


def assert_unharmed(page) -> None:
    assert page.evaluate("() => window.hacked") is None
    assert page.left == []
    assert page.errors == []


def test_no_text_of_prompt_or_model_is_interpreted_as_code(browser, stage, visit, tmp_path):
    stage.play = Play([f" {payload}" for payload in PAYLOADS], [i / len(PAYLOADS) for i in range(len(PAYLOADS))])
    page = visit(stage)
    fill_settings(page, n=len(PAYLOADS), seed=1)
    page.fill("#prompt textarea", "".join(PAYLOADS))
    run(page)
    expect_phase(page, "done")
    row_texts = page.locator(".bon .words").all_text_contents()
    winner_text = winner(page).removeprefix("".join(PAYLOADS)).strip()
    assert sorted([winner_text, *row_texts]) == sorted(map(str.strip, PAYLOADS))
    page.locator(".bon .fold summary").click()
    for row in page.locator(".bon .row").all():
        row.locator(".more").click()
        row.hover()
    assert_unharmed(page)
    page.locator(".menu summary").click()
    with page.expect_download() as download:
        page.locator(".menu .choices").get_by_role("button", name="Report").click()
    open_tab(page, "History")
    expect(page.locator(".history")).to_contain_text(PAYLOADS[0])
    open_tab(page, "About and API")
    expect(page.locator("code[data-code='python']")).to_contain_text("hacked")
    assert_unharmed(page)
    report = browser.new_context().new_page()
    requests = []
    report.on("request", lambda request: requests.append(request.url))
    download.value.save_as(tmp_path / "run.html")
    report.goto((tmp_path / "run.html").as_uri())
    report.evaluate(DRAWN)
    assert report.evaluate("() => window.hacked") is None
    assert len(requests) == 1
    text = report.text_content("body")
    assert [payload for payload in PAYLOADS if payload not in text] == []
    injected_markup_runs_nothing(report)
    report.context.close()
    injected_markup_runs_nothing(page)
    assert len(page.errors) >= 7  # the violations, all of which the fixture `visit` would report
    page.errors.clear()


# Presses that come before the form is filled in, or before the chosen model is known.


@pytest.fixture
def fill(monkeypatch):
    """What a link fills in waits for this event."""
    goes_on, fill_form = threading.Event(), share_links.fill_form

    def fill_later(*arguments):
        assert goes_on.wait(60)
        return fill_form(*arguments)

    monkeypatch.setattr(share_links, "fill_form", fill_later)
    yield goes_on
    goes_on.set()


def open_early(visit, stage, query: str, **context):
    """The page of a link, as soon as it has its parts."""
    return visit(SimpleNamespace(url=f"{stage.url}/?{query}"), ready=False, **context)


def expect_held(page, button: str = "#generate") -> None:
    """Asserts that the button shows that it waits."""
    expect(page.locator(button)).to_have_attribute("data-doing", "Waiting…")
    expect(page.locator(button)).to_have_attribute("aria-disabled", "true")


def ran(stage) -> list[tuple]:
    """The prompt, the seed and the messages of each run."""
    return [(r.prompt, r.settings.seed, r.messages) for r in stage.requests]


def test_a_press_before_the_form_is_filled_can_be_stopped_or_runs_what_the_link_fills_in(stage, visit, fill):
    page = open_early(visit, stage, "prompt=My+new+phone&seed=2896323314")
    for stop in (lambda: page.click("#stop"), lambda: page.keyboard.press("Escape")):
        page.keyboard.press("Control+Enter")
        expect_held(page)
        stop()
        expect(page.locator("#generate")).not_to_have_attribute("data-running", "")
    page.click("#generate")
    expect_held(page)
    page.keyboard.press("Control+Enter")  # a second press, which changes nothing
    page.click("#generate", force=True)
    assert stage.runs == 0
    fill.set()
    expect_phase(page, "done")
    assert winner(page).startswith("My new phone")
    assert page.locator("#prompt textarea").input_value() == "My new phone"
    assert ran(stage) == [("My new phone", 2896323314, None)]
    expect(page.locator("#generate")).not_to_have_attribute("data-running", "")
    run(page)
    for _ in range(600):  # the page still says "done" of the run before
        if stage.runs == 2:
            break
        page.wait_for_timeout(100)
    assert stage.runs == 2
    expect_phase(page, "done")


def test_what_a_visitor_writes_before_the_form_is_filled_stays_and_runs(stage, visit, fill):
    page = open_early(visit, stage, "prompt=My+new+phone&seed=7&n=9")
    page.locator("#generate").focus()
    page.keyboard.press("Enter")
    expect_held(page)
    page.fill("#prompt textarea", "My own text")
    page.fill("#n input", "3")
    fill.set()
    expect_phase(page, "done")
    assert ran(stage) == [("My own text", 7, None)]
    assert stage.requests[0].settings.n == 3
    expect(page.locator("#prompt textarea")).to_have_value("My own text")
    expect(page.locator("#n-slider input[type=range]")).to_have_value("3")


def test_a_form_that_cannot_be_filled_releases_the_press(stage, visit, monkeypatch):
    def fail(*_):
        raise ModelError(say("error.not_loaded_here"))

    monkeypatch.setattr(share_links, "fill_form", fail)
    page = open_early(visit, stage, "prompt=Hi")
    page.keyboard.press("Control+Enter")
    expect_phase(page, "done")
    assert ran(stage)[0][0] == "This movie"


def test_a_message_before_the_model_is_known_is_sent_as_a_message(stage, visit):
    stage.chats, stage.loads = True, Future()
    page = open_early(visit, stage, "")
    page.fill("#prompt textarea", "Which film?")
    page.keyboard.press("Control+Enter")
    expect_held(page)
    expect(page.locator(".bon .status")).to_contain_text("Loading the model…")
    page.fill("#prompt textarea", "Which book?")
    assert stage.runs == 0
    stage.loads.set_result(stage)
    expect_phase(page, "done")
    assert ran(stage)[0][2] == ({"role": "user", "content": "Which book?"},)
    expect(page.locator("body")).to_have_attribute("data-chat", "new")


def test_the_first_example_becomes_a_message_before_it_runs(stage, visit):
    stage.chats, stage.loads = True, Future()
    page = open_early(visit, stage, "")
    page.click("#generate")
    expect_held(page)
    stage.loads.set_result(stage)
    expect_phase(page, "done")
    example = page.locator("#prompt textarea").input_value()
    assert example == "Which film tonight?"
    assert ran(stage)[0][2] == ({"role": "user", "content": example},)


def test_a_linked_model_that_loads_with_generate_is_known_before_the_run(stage, visit):
    stage.chats = True
    page = open_early(visit, stage, "model=someone/model&prompt=Hi")
    expect(page.locator(".chips")).to_contain_text("loads with Generate")
    run(page)
    expect_phase(page, "done")
    assert ran(stage)[0][2] == ({"role": "user", "content": "Hi"},)


def test_a_load_that_fails_releases_the_press_with_its_error(stage, visit):
    stage.loads = Future()
    page = open_early(visit, stage, "")
    run(page)
    expect_held(page)
    stage.loads.set_exception(ModelError(say("error.not_loaded_here")))
    expect(page.locator(".bon .alert")).to_contain_text(say("error.not_loaded_here"))
    expect_phase(page, "failed")
    expect(page.locator("#generate")).not_to_have_attribute("data-running", "")


def test_a_model_chosen_while_another_loads_is_the_one_that_runs(stage, page_state, visit, monkeypatch):
    loads = {}
    monkeypatch.setattr(page_state.models, "load", lambda s: loads.setdefault(s.model, Future()))
    page = open_early(visit, stage, "")
    run(page)
    expect_held(page)
    page.click("#settings-line")
    page.fill("#model input", "someone/other")
    page.keyboard.press("Tab")
    expect(page.locator(".chips")).to_contain_text("someone/other")
    loads["embedded"].set_result(stage)
    expect_held(page)
    loads["someone/other"].set_result(stage)
    expect_phase(page, "done")
    assert [r.settings.model for r in stage.requests] == ["someone/other"]
    loads["someone/third"] = Future()
    loads["someone/third"].set_result(stage)
    page.fill("#model input", "someone/third")
    complete_run(page, lambda page: page.keyboard.press("Control+Enter"))  # while the name is still typed
    assert [r.settings.model for r in stage.requests] == ["someone/other", "someone/third"]


def test_comparisons_and_batches_that_begin_early_have_the_links_settings(stage, visit, fill, monkeypatch):
    begun = []

    def record(values, _deployment):
        begun.append((values["temperature"], values["top_k"]))
        raise InputError("input", say("error.batch.nothing"))

    for handlers in (compare_handlers, batch_handlers):
        monkeypatch.setattr(handlers, "settings_of", record)
    page = open_early(visit, stage, "temperature=0.5&top_k=40")
    open_tab(page, "Compare")
    page.click("#compare-start")
    expect_held(page, "#compare-start")
    page.click("#compare-stop")
    expect(page.locator("#compare-start")).not_to_have_attribute("data-running", "")
    page.locator("#compare-start").focus()
    page.keyboard.press("Enter")
    expect_held(page, "#compare-start")
    open_tab(page, "Batch")
    page.fill("#batch-paste textarea", "Hi")
    page.click("#batch-start")
    expect_held(page, "#batch-start")
    assert begun == []
    fill.set()
    expect(page.locator("#batch [role=alert]")).to_contain_text("Choose a file of prompts")
    open_tab(page, "Compare")
    expect(page.locator(".comparison [role=alert]")).to_contain_text("Choose a file of prompts")
    assert begun == [(0.5, 40), (0.5, 40)]
    assert stage.runs == 0


SHIFTS = """() => {
    window.shifted = 0;
    window.watcher?.disconnect();
    window.watcher = new PerformanceObserver((list) => {
        for (const shift of list.getEntries()) window.shifted += shift.value;
    });
    watcher.observe({ type: "layout-shift" });
}"""


def test_arriving_text_shifts_nothing(stage, visit):
    page = visit(stage)
    page.fill("#n input", "16")
    for size in (DESK, PHONE_SIZE):
        page.set_viewport_size(size)
        nothing_shifts_from_the_first_words_on(stage, page)


def nothing_shifts_from_the_first_words_on(stage, page):
    stage.play = Play([f" word{i}" * 12 for i in range(16)], [i / 16 for i in range(16)], hold=9)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".bon .status b")).to_have_text("Scored 9 of 16")
    page.evaluate(DRAWN)
    page.evaluate(SHIFTS)
    stage.play.go.set()
    expect_phase(page, "done")
    assert page.evaluate("() => window.shifted") < 0.05


def test_the_card_shrinks_to_its_winner_at_the_end_and_in_the_next_run(stage, visit):
    page = visit(stage)
    height = "document.querySelector('.hero .top').offsetHeight"
    short, long = Play([" was fine.", " was dull."], [0.9, 0.1]), Play([" was long" * 60, " was dull."], [0.5, 0.4])
    stage.play = short
    complete_run(page)
    page.evaluate(ARRIVED)
    rest = page.evaluate(height)
    stage.play = Play([*long.texts, " was fine."], [*long.scores, 0.9], hold=2)
    run(page)
    expect(page.locator(".bon .status b")).to_have_text("Scored 2 of 3")
    page.evaluate(DRAWN)
    assert page.evaluate(height) > rest + 100
    stage.play.go.set()
    expect_phase(page, "done")  # the long leader has lost to a short text
    assert page.evaluate(height) == rest
    stage.play = long
    complete_run(page)
    page.evaluate(ARRIVED)
    assert page.evaluate(height) > rest + 100
    stage.play = Play(short.texts, short.scores, hold=1)
    run(page)
    expect(page.locator(".bon .status b")).to_have_text("Scored 1 of 2")
    page.evaluate(DRAWN)
    assert page.evaluate(height) < rest + 60
    stage.play.go.set()
    expect_phase(page, "done")
    assert page.evaluate(height) == rest


def test_a_run_whose_page_is_left_is_kept_and_offered(stage, visit):
    stage.play = Play([f" number {i} is fine." for i in range(6)], [i / 6 for i in range(6)], hold=4)
    page = visit(stage)
    page.fill("#prompt textarea", "My cat")
    fill_settings(page, seed=5)
    run(page)
    expect(page.locator(".bon .status b")).to_have_text("Scored 4 of 6")
    page.wait_for_function("sessionStorage.length && sessionStorage['bon-left'].includes('number 3 is fine')")
    page.reload()
    page.locator(".bon .offer").get_by_role("button", name="Open it").click()
    expect_phase(page, "stopped")
    expect(page.locator(".bon .status b")).to_have_text("Stopped after 4 of 6.")
    assert winner(page) == "My cat number 3 is fine."
    expect(page.locator("#prompt textarea")).to_have_value("My cat")
    expect(page.locator("#seed input")).to_have_value("5")
    expect(page.locator(".bon .offer")).to_be_hidden()
    open_tab(page, "History")
    expect(page.locator(".history .run")).to_have_count(1)
    expect(page.locator(".history .ended")).to_have_text("failed after 4 of 6")
    page.reload()
    expect_phase(page, "sample")
    expect(page.locator(".bon .offer")).to_be_hidden()
    assert_unharmed(page)


def test_the_storage_of_a_page_is_cleared_before_its_context_is_reused(browser, stage):
    page = open_page(browser, stage.url)
    lent = page.context
    page.evaluate("localStorage.x = 1; sessionStorage.y = 1; document.cookie = 'z=1'")
    run(page)
    page.wait_for_function("bon.historyStore.all().then((all) => all.length)")
    close_page(page)
    page = open_page(browser, stage.url)
    assert page.context is lent
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert page.evaluate("bon.historyStore.all().then((all) => all.length)") == 0
    close_page(page)
