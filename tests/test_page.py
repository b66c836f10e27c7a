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

from bon.errors import EngineError
from bon.models import assets
from bon.ui import journal, layout, loaders, theme
from tests.browser import ROOT, Play, Stage, free_port, open_page, violations

TEXTS = [
    " was fine.", " was a delight from the first shot to the last.", " was dull.", " had me smiling all the way home.",
    " is a sandwich. It has bread on both sides.",
]
SCORES = [0.5, 0.97, 0.04, 0.88, 0.31]
NASTY = (
    "<script>window.hacked=1</script> ${window.hacked=1} {{#each value}}{{this}}{{/each}} "
    "\\x3cimg src=x onerror=window.hacked=1\\x3e <img src=x onerror=window.hacked=1> `${alert(1)}` &lt;b&gt;"
)
# Other work may share the machine: a wait is there to end, not to measure.
expect.set_options(timeout=30_000)
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


@pytest.fixture(scope="module")
def _served():
    """The page over a scripted sampler, in this process."""
    stage, patch, port = Stage(), pytest.MonkeyPatch(), free_port()
    patch.setattr(loaders, "load", stage.load)
    patch.setitem(layout.TURNS, "concurrency_limit", 1)  # so that a second visitor waits in line
    demo = layout.build()
    demo.launch(**theme.launch_options(), server_port=port, prevent_thread_lock=True, quiet=True)
    yield stage, f"http://127.0.0.1:{port}"
    demo.close()
    patch.undo()


@pytest.fixture
def stage(_served):
    """The scripted sampler, with five candidates and no stop on the way."""
    stage, stage.url = _served
    stage.play, stage.loads, stage.runs = Play(TEXTS, SCORES), None, 0
    yield stage
    stage.play.go.set()


@pytest.fixture
def visit(browser):
    """Opens pages, and checks at the end that none of them left its host or had a script that failed."""
    pages: list[Page] = []

    def open_one(where, **context) -> Page:
        pages.append(open_page(browser, where.url, **context))
        return pages[-1]

    yield open_one
    for page in pages:
        page.context.close()
        assert page.left == []
        assert page.errors == []


def run(page: Page) -> None:
    page.click("#generate")


SETTLED = """async () => {
    for (let i = 0; i < 3; i++) await new Promise((drawn) => setTimeout(drawn, 100));
    const ending = document.getAnimations().filter((a) => a.effect.getComputedTiming().iterations !== Infinity);
    const late = new Promise((over) => setTimeout(over, 1500));
    await Promise.race([Promise.allSettled(ending.map((a) => a.finished)), late]);
}"""


def phase(page: Page, name: str, **wait) -> None:
    """Waits for the result to be in a state."""
    expect(page.locator(".bon")).to_have_attribute("data-phase", name, **wait)
    if name in ("done", "failed", "stopped"):  # what is drawn last, and what fades in, is there before anything is read
        page.evaluate(SETTLED)


def rows(page: Page) -> list[int]:
    """The numbers of the candidates in the order of their rows, folded ones included."""
    return page.eval_on_selector_all(".bon .row", "rows => rows.map(row => Number(row.dataset.index))")


def winner(page: Page) -> str:
    return page.text_content(".bon blockquote")


def to_tab(page: Page, name: str) -> None:
    """Goes to a tab, which on a narrow screen may be in the menu of those that have no room."""
    more = page.get_by_role("button", name="More tabs")
    if more.is_visible():
        more.click()
    page.locator("#tabs :is([role=tab], .overflow-dropdown button):visible", has_text=name).click()


def settings(page: Page, **values) -> None:
    """Opens the settings and fills them in."""
    page.click("#settings-line")
    for name, value in values.items():
        page.fill(f"#{name} input", str(value))


def sideways(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return page.evaluate("() => document.documentElement.scrollWidth - innerWidth")


# The states, one after the other, with a run that waits where the test wants it.


def test_writing_shows_the_leader_and_sorts_what_is_scored(stage, visit):
    stage.play.hold = 4
    page = visit(stage)
    run(page)
    expect(page.locator(".bon .status b")).to_have_text("Scored 4 of 5")
    assert rows(page) == [1, 3, 0, 2, 4]
    assert winner(page) == "This movie was a delight from the first shot to the last."
    expect(page.locator(".bon .tag")).to_have_text("Leading so far")
    expect(page.locator(".bon .row[data-index='4'] .words")).to_have_text("is a sandwich. It ha")
    expect(page.locator(".bon")).to_have_attribute("aria-busy", "true")
    expect(page.locator(".bon .facts")).to_be_hidden()
    stage.play.go.set()
    phase(page, "done")
    expect(page.locator(".bon")).to_have_attribute("aria-busy", "false")
    assert rows(page) == [3, 0, 4, 2]


def test_done_shows_winner_facts_and_charts(stage, visit):
    page = visit(stage)
    run(page)
    phase(page, "done")
    assert winner(page) == "This movie was a delight from the first shot to the last."
    expect(page.locator(".bon .tag")).to_have_text("Winner of 5")
    assert page.text_content(".bon .points") == "0.970probability of positive+0.430 over one sample"
    assert page.eval_on_selector_all(".facts dd", "all => all.map(one => one.textContent)") == [
        "0.970", "0.540", "83%", "≤ 0.81",
    ]
    assert page.locator(".strip .dot").count() == 5
    assert page.locator(".strip .dot.best").get_attribute("data-index") == "1"
    assert "1: 0.540, 2: 0.783, 5: 0.970" in page.get_attribute(".insight .curve svg", "aria-label")
    facts = page.eval_on_selector_all(".meta > span", "all => all.map(one => one.firstChild.textContent)")
    assert facts[:3] == ["candidate 2", "10 tokens", "log-probability −20.0"]
    assert re.fullmatch(r"seed \d+", facts[3])


def test_a_single_candidate_is_shown_without_comparison(stage, visit):
    stage.play = Play(TEXTS[:1], SCORES[:1])
    page = visit(stage)
    run(page)
    phase(page, "done")
    expect(page.locator(".bon .tag")).to_have_text("The only candidate")
    expect(page.locator(".bon .gain")).to_have_text("")
    assert rows(page) == []


def test_the_worst_can_be_selected(stage, visit):
    page = visit(stage)
    page.click("#settings-line")
    page.click("#select input")
    page.get_by_role("option", name="the worst").click()
    expect(page.locator("#settings-line")).to_contain_text("the worst first")
    run(page)
    phase(page, "done")
    expect(page.locator(".bon .tag")).to_have_text("The worst of 5")
    assert winner(page) == "This movie was dull."


def test_losers_are_folded_away_but_there(stage, visit):
    stage.play = Play([f" number {i}." for i in range(20)], [i / 20 for i in range(20)])
    page = visit(stage)
    run(page)
    phase(page, "done")
    assert rows(page) == list(range(18, -1, -1))
    expect(page.locator(".row[data-index='12']")).to_be_visible()
    expect(page.locator(".row[data-index='11']")).to_be_hidden()
    page.get_by_text("The other 12").click()
    expect(page.locator(".row[data-index='0']")).to_be_visible()


def test_loading_says_so(stage, visit):
    page = visit(stage)
    stage.loads = Future()
    run(page)
    phase(page, "loading")
    expect(page.locator(".bon .status")).to_contain_text("Loading the model…")
    stage.loads.set_result(stage)
    phase(page, "done")


def test_stop_while_loading_works(stage, visit):
    page = visit(stage)
    stage.loads = Future()
    run(page)
    phase(page, "loading")
    page.click("#stop")
    phase(page, "stopped")
    stage.loads.set_result(stage)
    assert stage.runs == 0


def test_queue_shows_the_place_and_stop_leaves_it(stage, visit):
    stage.play.hold = 2
    first, second, third = visit(stage), visit(stage), visit(stage)
    run(first)
    phase(first, "writing")
    run(second)
    expect(second.locator(".bon .status b")).to_have_text("Next in line.")
    expect(second.locator(".bon")).to_have_attribute("data-waits", "")
    expect(second.locator(".bon .hero")).to_have_css("filter", "grayscale(1)")
    run(third)
    expect(third.locator(".bon .status b")).to_have_text("Waiting, 2nd in line.")
    second.click("#stop")
    expect(second.locator("#generate")).not_to_have_attribute("data-running", "")
    expect(second.locator(".bon .hero")).to_have_css("filter", "none")
    stage.play.go.set()
    phase(first, "done")
    phase(third, "done")
    assert stage.runs == 2


@pytest.mark.parametrize("how", ["click", "Escape"])
def test_stop_keeps_what_is_done_and_ends_the_work(stage, visit, how):
    stage.play.hold = 3
    page = visit(stage)
    run(page)
    expect(page.locator(".bon .status b")).to_have_text("Scored 3 of 5")
    page.click("#stop") if how == "click" else page.keyboard.press("Escape")
    phase(page, "stopped")
    expect(page.locator(".bon .status b")).to_have_text("Stopped after 3 of 5.")
    expect(page.locator(".bon .tag")).to_have_text("Best of the 3 that were scored")
    assert winner(page) == "This movie was a delight from the first shot to the last."
    assert rows(page) == [0, 2, 3, 4]
    assert stage.play.closed.wait(10)
    # The device is free again: the next run begins although the first was never let go on.
    stage.play = Play(TEXTS, SCORES)
    run(page)
    phase(page, "done")


def test_closing_the_tab_ends_the_work(stage, visit):
    stage.play.hold = 1
    page = visit(stage)
    run(page)
    phase(page, "writing")
    page.context.close()
    assert stage.play.closed.wait(20)


def test_failure_midway_says_why_and_keeps_what_was_done(stage, visit):
    stage.play.hold, stage.play.error = 3, EngineError("Memory ran out. Ask for fewer candidates.")
    page = visit(stage)
    run(page)
    phase(page, "writing")
    stage.play.go.set()
    phase(page, "failed")
    expect(page.locator(".bon [role=alert]")).to_have_text("Memory ran out. Ask for fewer candidates.")
    expect(page.locator(".bon .status")).to_contain_text("3 of 5 were scored")
    assert winner(page) == "This movie was a delight from the first shot to the last."


def test_unexpected_failure_is_plain_and_logged(stage, visit, caplog):
    stage.play.hold, stage.play.error = 0, RuntimeError("a secret of the machine")
    stage.play.go.set()
    page = visit(stage)
    run(page)
    phase(page, "failed")
    expect(page.locator(".bon [role=alert]")).to_have_text(journal.UNEXPECTED)
    assert "secret" not in page.content()
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text  # an error's message may quote the prompt


# What goes in.


def test_faults_are_shown_at_their_fields_and_nothing_runs(stage, visit):
    page = visit(stage)
    page.fill("#prompt textarea", "   ")
    page.fill("#n input", "257")
    settings(page, min_tokens=40, temperature=0, top_p=1.5, top_k=-1, seed="soon")
    page.click("#settings-line")
    run(page)
    for field, words in {
        "prompt": "Write a few words", "n": "from 1 to 256", "min_tokens": "the least cannot exceed the most",
        "temperature": "must be above 0", "top_p": "at most 1", "top_k": "at least 0", "seed": "whole number",
    }.items():
        expect(page.locator(f"#{field} div.validation-error")).to_contain_text(words)
    expect(page.locator("#temperature input")).to_be_visible()
    assert page.locator("div.validation-error").count() == 7
    phase(page, "sample")
    assert stage.runs == 0
    page.fill("#prompt textarea", "This movie")
    page.fill("#n input", "5")
    for field, value in {"min_tokens": 8, "temperature": 1, "top_p": 1, "top_k": 0, "seed": 7}.items():
        page.fill(f"#{field} input", str(value))
    run(page)
    phase(page, "done")
    assert page.locator(".validation-error").count() == 0


def test_control_enter_generates(stage, visit):
    page = visit(stage)
    page.focus("#prompt textarea")
    page.keyboard.press("End")
    page.keyboard.type(" again")
    page.keyboard.press("Control+Enter")
    phase(page, "done")
    assert winner(page).startswith("This movie again")
    assert stage.runs == 1


def test_example_slider_dice_and_summary(stage, visit):
    page = visit(stage)
    page.get_by_role("button", name="The hotel room").click()
    expect(page.locator("#prompt textarea")).to_have_value("The hotel room")
    page.focus("#n-slider input[type=range]")
    page.keyboard.press("End")
    expect(page.locator("#n input")).to_have_value("64")
    page.fill("#n input", "200")
    expect(page.locator("#n-slider input[type=range]")).to_have_value("64")
    settings(page, max_tokens=48, top_p=0.9)
    page.get_by_role("button", name="Roll a seed").click()
    expect(page.locator("#seed input")).to_have_value(re.compile(r"\d+"))
    seed = page.input_value("#seed input")
    expect(page.locator("#settings-line")).to_have_text(
        f"Settings: 8 to 48 tokens, temperature 1, top-p 0.9, seed {seed}"
    )


def test_texts_stay_texts(stage, visit):
    stage.play = Play([f" {NASTY} one", f" {NASTY} two"], [0.2, 0.9])
    page = visit(stage)
    page.fill("#prompt textarea", NASTY)
    run(page)
    phase(page, "done")
    assert winner(page) == f"{NASTY} {NASTY} two"
    expect(page.locator(".row .words")).to_have_text(f"{NASTY} one")
    page.hover(".dot.best")
    expect(page.locator(".bubble")).to_contain_text("<script>")
    assert page.locator(".bon :is(script, img, b b)").count() == 0
    settings(page, seed=NASTY)
    run(page)
    expect(page.locator("#seed div.validation-error")).to_contain_text("<script>")
    stage.play = Play(TEXTS, SCORES, hold=0, error=EngineError(NASTY))
    stage.play.go.set()
    page.fill("#seed input", "")
    run(page)
    expect(page.locator(".bon [role=alert]")).to_have_text(NASTY)
    assert page.evaluate("window.hacked") is None


# How it looks and who can use it.


def test_terms_explain_themselves_to_the_keyboard(stage, visit):
    page = visit(stage)
    run(page)
    phase(page, "done")
    term = page.get_by_role("button", name="win rate against one sample")
    term.focus()
    expect(page.locator(".bubble")).to_contain_text("n/(n+1)")
    expect(term).to_have_accessible_description(re.compile("How often the best of 5"))
    page.keyboard.press("Escape")
    expect(page.locator(".bubble")).to_be_hidden()


def test_copy_gives_prompt_and_text(stage, visit):
    page = visit(stage, permissions=["clipboard-read", "clipboard-write"])
    run(page)
    phase(page, "done")
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "This movie was a delight from the first shot to the last."


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("context", [{}, PHONE], ids=["desktop", "phone"])
def test_every_state_is_accessible(stage, visit, axe, scheme, context):
    page = visit(stage, color_scheme=scheme, **context)
    found = {"sample": violations(page, axe)}
    stage.loads = Future()
    run(page)
    phase(page, "loading")
    found["loading"] = violations(page, axe)
    stage.loads.set_result(stage)
    stage.loads, stage.play = None, Play(TEXTS, SCORES, hold=0)
    page.click("#stop")
    phase(page, "stopped")
    run(page)
    phase(page, "writing")
    page.click("#stop")
    expect(page.locator(".bon .tag")).to_have_text("Nothing was scored")
    expect(page.locator(".bon .board h2")).to_have_text("Candidates")
    found["nothing scored"] = violations(page, axe)
    stage.play = Play(TEXTS, SCORES, hold=3, error=EngineError("Memory ran out. Ask for fewer candidates."))
    stage.play.go.set()
    run(page)
    phase(page, "failed")
    found["failed"] = violations(page, axe)
    stage.play = Play(TEXTS, SCORES, hold=3)
    run(page)
    expect(page.locator(".bon .status b")).to_have_text("Scored 3 of 5")
    found["writing"] = violations(page, axe)
    stage.play.go.set()
    phase(page, "done")
    found["done"] = violations(page, axe)
    settings(page, temperature=0)
    run(page)
    expect(page.locator("div.validation-error")).to_have_count(1)
    found["faults"] = violations(page, axe)
    to_tab(page, "About and API")
    expect(page.get_by_role("heading", name="How it works")).to_be_visible()
    found["about"] = violations(page, axe)
    assert {name: faults for name, faults in found.items() if faults} == {}


@pytest.mark.parametrize("width", [360, 390])
def test_narrow_screens_do_not_scroll_sideways(stage, visit, width):
    stage.play = Play([" " + "word " * 120, " " + "w" * 300, *TEXTS], [0.5, 0.99, *SCORES], hold=3)
    page = visit(stage, viewport={"width": width, "height": 780}, has_touch=True)
    assert sideways(page) <= 0
    settings(page)
    run(page)
    phase(page, "writing")
    assert sideways(page) <= 0
    # The result is below the form there, so the first words bring it up.
    page.wait_for_function("document.querySelector('.bon').getBoundingClientRect().top < innerHeight / 3")
    stage.play.go.set()
    phase(page, "done")
    assert sideways(page) <= 0


def test_targets_are_large_enough_for_a_finger(stage, visit):
    page = visit(stage, **PHONE)
    run(page)
    phase(page, "done")
    settings(page)
    small = page.evaluate(
        """() => [...document.querySelectorAll('#main :is(button, input, summary, textarea), [role=tab]')]
          .filter(node => node.checkVisibility() && !node.closest('[aria-hidden=true], .head'))
          .map(node => ['radio', 'checkbox'].includes(node.type) ? node.closest('label') : node)
          .map(node => [node.textContent || node.ariaLabel, node.getBoundingClientRect().height
            - 2 * Math.min(0, parseFloat(getComputedStyle(node, '::after').top) || 0)])
          .filter(([, height]) => height < 43.5)"""
    )
    assert small == []


def test_dark_follows_the_system(stage, visit):
    colours = {}
    for scheme in ("light", "dark"):
        page = visit(stage, color_scheme=scheme)
        colours[scheme] = page.evaluate("""() => ['.gradio-container', '.hero', '#form'].map(
            where => getComputedStyle(document.querySelector(where)).backgroundColor)""")
    assert all(sum(rgb(c)) > 3 * 230 for c in colours["light"])
    assert all(sum(rgb(c)) < 3 * 40 for c in colours["dark"])


def rgb(colour: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", colour)[:3]]


def test_reduced_motion_is_respected(stage, visit):
    stage.play.hold = 3
    page = visit(stage, reduced_motion="reduce")
    run(page)
    phase(page, "writing")
    stage.play.go.set()
    phase(page, "done")
    assert page.evaluate("document.getAnimations().filter(a => a.effect.getTiming().duration > 1).length") == 0


def test_rows_glide_otherwise(stage, visit):
    page = visit(stage)
    # What moves is caught in the act: it would be over by the time that a test looks.
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
        phase(page, "done")
    pytest.fail("no row glided")


# The real app with the embedded models.


def test_the_page_is_built_without_torch():
    code = "import sys; from bon.ui.layout import build; build(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_empty_page_shows_the_sample(app, visit):
    sample = json.loads((assets() / "ui" / "sample.json").read_text(encoding="utf-8"))
    page = visit(app)
    phase(page, "sample")
    assert winner(page) == sample["prompt"] + sample["candidates"][0]["text"]
    expect(page.locator(".bon .tag")).to_contain_text("sample")
    expect(page.locator(".bon .status")).to_contain_text("press Generate")


def test_a_run_grows_sorts_and_agrees_with_the_endpoint(app, visit):
    page = visit(app)
    page.evaluate("""() => { window.seen = new Set(); const bon = document.querySelector('.bon');
        new MutationObserver(() => bon.dataset.phase === 'writing' && seen.add(bon.querySelector('.board').textContent))
            .observe(bon, {subtree: true, childList: true, characterData: true}) }""")
    page.fill("#n input", "64")
    settings(page, min_tokens=64, max_tokens=200, seed=11)
    run(page)
    phase(page, "done", timeout=120_000)
    assert page.evaluate("seen.size") >= 3
    client = Client(app.url, verbose=False)
    asked = {"n": 64, "min_tokens": 64, "max_tokens": 200, "seed": 11}
    result = client.predict("This movie", **asked, api_name="/best_of_n")
    best, *others = result["candidates"]
    assert winner(page) == "This movie" + best["text"]
    assert rows(page) == [c["index"] for c in others]
    assert page.text_content(".points b") in (f"{best['score']:.3f}", "> 0.999")


def test_early_rejection_strikes_out_what_it_dropped(app, visit):
    page = visit(app)
    page.fill("#n input", "16")
    settings(page, min_tokens=20, max_tokens=60, seed=5)
    page.check("#reject input")
    expect(page.locator("#settings-line")).to_contain_text("early rejection")
    run(page)
    phase(page, "done", timeout=120_000)
    client = Client(app.url, verbose=False)
    asked = {"n": 16, "min_tokens": 20, "max_tokens": 60, "seed": 5, "reject": 0.5}
    best, *others = client.predict("This movie", **asked, api_name="/best_of_n")["candidates"]
    assert winner(page) == "This movie" + best["text"]
    assert best["ended"] != "rejected"
    assert rows(page) == [c["index"] for c in others]
    dropped = page.locator('.bon .row[data-state="rejected"]')
    assert dropped.count() == sum(c["ended"] == "rejected" for c in others) > 4
    assert "line-through" in dropped.first.locator(".words").evaluate("node => getComputedStyle(node).textDecoration")
    expect(dropped.first.locator(".tokens")).to_contain_text("dropped at ")
    expect(page.locator(".bon .facts")).to_contain_text("dropped half written")
    expect(page.locator(".bon .insight .curve")).to_be_hidden()
    expect(page.locator(".bon .notes")).to_contain_text("Early rejection dropped")


def test_two_visitors_at_once_are_served_together_and_get_their_own(app, visit):
    pages = [visit(app), visit(app)]
    asked = [{"n": 32, "min_tokens": 100, "max_tokens": 200, "seed": seed} for seed in (1, 2)]
    for page, wanted in zip(pages, asked, strict=True):
        page.fill("#n input", "32")
        settings(page, **{name: value for name, value in wanted.items() if name != "n"})
    for page in pages:
        run(page)
    for page in pages:
        # Neither waits in line for the other.
        expect(page.locator('.bon[data-phase="writing"], .bon[data-phase="done"]')).to_be_visible()
    client = Client(app.url, verbose=False)
    for page, wanted in zip(pages, asked, strict=True):
        phase(page, "done", timeout=120_000)
        best = client.predict("This movie", **wanted, api_name="/best_of_n")["candidates"][0]
        assert winner(page) == "This movie" + best["text"]


def test_negative_is_looked_for(app, visit):
    page = visit(app)
    settings(page, seed=3)
    run(page)
    phase(page, "done", timeout=60_000)
    best = winner(page)
    page.locator("#target label", has_text="negative").click()
    run(page)
    expect(page.locator(".points .unit")).to_have_text("probability of negative", timeout=60_000)
    phase(page, "done", timeout=60_000)
    assert winner(page) != best


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads processor time from /proc")
def test_stop_ends_the_computation(app, visit):
    page = visit(app)
    page.fill("#n input", "128")
    settings(page, min_tokens=150, max_tokens=200)

    before = app.cpu_when_idle()
    run(page)
    phase(page, "done", timeout=300_000)
    whole = app.cpu_when_idle() - before
    run(page)
    phase(page, "writing", timeout=60_000)
    page.keyboard.press("Escape")
    phase(page, "stopped")
    # How long the key took to arrive is the browser's affair.
    stopped = app.cpu()
    assert app.cpu_when_idle() - stopped < whole / 4


def test_another_model_can_be_chosen(app, visit, lm_folder, reward_folder):
    page = visit(app)
    expect(page.locator("#target")).to_be_visible()
    settings(page)
    for field, folder in {"model": lm_folder, "scorer": reward_folder}.items():
        page.fill(f"#{field} input", folder)
        page.keyboard.press("Enter")
    expect(page.locator(".chips")).to_contain_text(f"scorer: {reward_folder}", timeout=60_000)
    expect(page.locator("#target")).to_be_hidden()
    run(page)
    phase(page, "done", timeout=60_000)
    expect(page.locator(".points .unit")).to_have_text("reward")


def test_an_unknown_model_is_refused_by_name(app, visit):
    page = visit(app)
    settings(page)
    page.fill("#model input", "./nowhere")
    page.keyboard.press("Enter")
    expect(page.locator(".chips")).to_contain_text("not available", timeout=60_000)
    run(page)
    phase(page, "failed", timeout=60_000)
    expect(page.locator(".bon [role=alert]")).to_contain_text("./nowhere")


def test_endpoint_is_typed_grows_and_names_what_is_wrong(app):
    client = Client(app.url, verbose=False)
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert [name for name in endpoints if name != "/best_of_n_as_json"] == ["/best_of_n"]
    required = [p["parameter_name"] for p in endpoints["/best_of_n"]["parameters"] if not p["parameter_has_default"]]
    assert required == []
    job = client.submit("This movie", n=16, min_tokens=24, api_name="/best_of_n")
    last = job.result()
    tokens = [sum(c["tokens"] for c in part["candidates"]) for part in job.outputs()]
    assert tokens == sorted(tokens)
    assert len(set(tokens)) > 1
    assert [c["rank"] for c in last["candidates"]] == list(range(1, 17))
    assert len(client.predict("This movie", n=4, keep=2, api_name="/best_of_n")["candidates"]) == 2
    for wrong, words in {"n": (0, "from 1 to 4096"), "target": ("JOY", "JOY"), "model": ("no such", "no such")}.items():
        with pytest.raises(Exception, match=words[1]):
            client.predict("This movie", **{wrong: words[0]}, api_name="/best_of_n")
