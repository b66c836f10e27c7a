"""What a visit feels like, measured: `python -m tests.visit_times [--visits 3] [URL]`.

Each visit is a Chromium context of its own, and so has an empty cache. Times count from the first byte of the page's
answer. Interactive is the moment of the first press of Generate that the page answers, tried again and again from the
moment that the button is seen. Shifts are summed up; of a run, from its first words on. Nothing here passes or fails: a
machine at work with something else tells other times.
"""

import argparse
import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from playwright.sync_api import Browser, Page

from tests.support.browser import App, chromium

SIZES = ((1280, 800), (390, 844))
WATCH = """
    window.felt = { shifts: [], tasks: [], from: 0 };
    const note = (type, into, value) => new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) felt[into].push([entry.startTime, value(entry)]);
    }).observe({ type, buffered: true });
    note("layout-shift", "shifts", (entry) => entry.value);
    note("longtask", "tasks", (entry) => entry.duration);
    felt.press = () => {
        felt.from = performance.now();
        document.querySelector("#generate").click();
    };
    felt.since = (into, from) => felt[into].filter(([at]) => at > from).map(([, value]) => value);
    felt.words = () => document.querySelector(".bon .live .row .words")?.textContent;
    addEventListener("DOMContentLoaded", () => {
        const look = () => {
            if (felt.words() && !felt.first) felt.first = performance.now() - felt.from;
            requestAnimationFrame(look);
        };
        look();
    });
"""
#: Presses Generate from the moment that it is seen until the page answers.
EAGER = """
    const running = () => document.querySelector("#generate")?.hasAttribute("data-running");
    const press = () => {
        if (running()) return;
        const button = document.querySelector("#generate");
        if (!button?.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || button.disabled)
            return requestAnimationFrame(press);
        const at = performance.now();
        const answered = () => {
            if (running()) window.answered = at - performance.getEntriesByType("navigation")[0].responseStart;
            else if (performance.now() - at > 500) press();
            else requestAnimationFrame(answered);
        };
        button.click();
        answered();
    };
    addEventListener("DOMContentLoaded", press);
"""


@dataclass
class Weight:
    """What came over the network."""

    requests: int = 0
    transferred: int = 0
    decoded: int = 0

    def watch(self, page: Page) -> None:
        """Counts what the page asks for from now on."""
        client = page.context.new_cdp_session(page)
        client.send("Network.enable")
        client.on("Network.requestWillBeSent", self._sent)
        client.on("Network.dataReceived", self._received)
        client.on("Network.loadingFinished", self._finished)

    def _sent(self, event: dict) -> None:
        if event["request"]["url"].startswith("http"):
            self.requests += 1

    def _received(self, event: dict) -> None:
        self.decoded += event["dataLength"]

    def _finished(self, event: dict) -> None:
        self.transferred += event["encodedDataLength"]


@contextlib.contextmanager
def visited(browser: Browser, url: str, size: tuple[int, int], *scripts: str) -> Iterator[Page]:
    """A page with an empty cache, watched from its beginning."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    page = context.new_page()
    for script in scripts:
        page.add_init_script(f"{{{script}}}")
    page.weight = Weight()
    page.weight.watch(page)
    page.goto(url, wait_until="commit")
    yield page
    context.close()


def settled(page: Page) -> None:
    """Returns once the page has its model and rests."""
    page.wait_for_function("document.querySelector('.chips')?.textContent.includes('scorer')")
    page.wait_for_timeout(1500)


def run(page: Page, n: int) -> dict[str, float]:
    """A whole run: when its first words came, what shifted, and the longest task, in milliseconds."""
    page.fill("#n input", str(n))
    page.wait_for_timeout(700)
    page.evaluate("felt.first = 0, felt.press()")
    page.wait_for_function("felt.first && document.querySelector('.bon').dataset.phase === 'done'")
    page.wait_for_timeout(1000)
    # The press itself changes the page, as is asked of it; what the words do to it from then on is nobody's wish.
    shifts, tasks = page.evaluate("[felt.since('shifts', felt.from + felt.first + 50), felt.since('tasks', felt.from)]")
    return {"first words": page.evaluate("felt.first"), "shift": sum(shifts), "task": max(tasks, default=0)}


def visit(browser: Browser, url: str, size: tuple[int, int]) -> dict[str, float]:
    """The figures of one visit."""
    with visited(browser, url, size, WATCH, EAGER) as page:
        page.wait_for_function("window.answered")
        out = {"interactive, ms": page.evaluate("window.answered")}
    with visited(browser, url, size, WATCH) as page:
        settled(page)
        weight = page.weight
        out |= {
            "first paint, ms": page.evaluate(
                "performance.getEntriesByName('first-contentful-paint')[0].startTime"
                " - performance.getEntriesByType('navigation')[0].responseStart"
            ),
            "requests": weight.requests,
            "transferred, kB": weight.transferred / 1e3,
            "decoded, kB": weight.decoded / 1e3,
            "shifts of the load": sum(page.evaluate("felt.since('shifts', 0)")),
            "longest task of the load, ms": max(page.evaluate("felt.since('tasks', 0)"), default=0),
        }
        of_16, of_64 = run(page, 16), run(page, 64)
    return out | {
        "first words, ms": of_16["first words"],
        "shifts of a best of 16": of_16["shift"],
        "shifts of a best of 64": of_64["shift"],
        "longest task of a best of 64, ms": of_64["task"],
    }


def main() -> None:
    """Prints the median of some visits, and the worst of them, at each size of window."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="of a page that runs already; else one is started")
    parser.add_argument("--visits", type=int, default=3)
    args = parser.parse_args()
    app = None if args.url else App().wait()
    if app:
        app.cpu_when_idle()
    with chromium() as browser:
        for size in SIZES:
            seen = [visit(browser, args.url or app.url, size) for _ in range(args.visits)]
            print(f"\n{size[0]} x {size[1]}, {args.visits} visits: median, worst")
            for name in seen[0]:
                values = [one[name] for one in seen]
                digits = 3 if name.startswith("shifts") else 0
                print(f"  {name:34} {statistics.median(values):9.{digits}f} {max(values):9.{digits}f}")
    if app:
        app.end()


if __name__ == "__main__":
    main()
