"""Whole visits: hostile texts, layout shifts, a page that is left during a run, and what a page stores."""

from playwright.sync_api import expect

from tests.support.browser import DESK, DRAWN, PHONE_SIZE, Play, close_page, open_page
from tests.ui.test_page import expect_phase, fill_settings, open_tab, run, winner

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
