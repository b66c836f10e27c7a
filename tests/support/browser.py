"""What the browser tests stand on: Chromium, the real app in a process of its own, and a page with a scripted run."""

import asyncio
import atexit
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from bon.events import Clock, Done, Ended, Event, Row, Scored, Started, Wrote
from bon.result import Candidate, Timing
from bon.run_state import RunState
from bon.settings import Request, Settings

ROOT = Path(__file__).parents[2]
DESK, PHONE_SIZE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
CONTRAST = ("color-contrast",)
#: What was asked for has been drawn: a frame begins after the one in which the page heard of it.
DRAWN = "() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@functools.cache
def driver() -> tuple[Playwright, asyncio.AbstractEventLoop]:
    """Playwright, of which a process can have but one at a time, and its event loop."""
    started = sync_playwright().start()
    atexit.register(started.stop)
    return started, asyncio.get_running_loop()


def loop_runs(yes: bool) -> None:
    """Playwright leaves its event loop running in the thread: for what opens no browser, it can count as not there."""
    if driver.cache_info().currsize:
        asyncio._set_running_loop(driver()[1] if yes else None)


@contextlib.contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """Chromium: BON_CHROMIUM's, the machine's own, or Playwright's; with BON_HEADED set it can be watched.

    options: more of its own flags.
    """
    path = os.environ.get("BON_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync"]
    loop_runs(True)
    browser = driver()[0].chromium.launch(
        executable_path=path, args=[*quiet, *options], headless=not os.environ.get("BON_HEADED"),
    )
    # Contexts of pages that have been left, by their options: what knows the page's scripts opens it in half the time.
    browser.spare = {}
    yield browser
    browser.close()


def open_page(browser: Browser, url: str, **context) -> Page:
    """The app's page with its result drawn; `page.left` and `page.errors` collect what should not happen."""
    kind = repr(sorted(context.items()))
    if spare := browser.spare.get(kind):
        page = spare.pop().new_page()
        forget(page, "/".join(url.split("/")[:3]))
    else:
        page = browser.new_context(**{"viewport": DESK, **context}).new_page()
    page.kind, page.left, page.errors, own = kind, [], [], (url.partition("/?")[0], "data:", "blob:")
    page.on("request", lambda r: page.left.append(r.url) if not r.url.startswith(own) else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.set_default_timeout(120_000)
    page.goto(url)
    opened(page)
    return page


def forget(page: Page, origin: str) -> None:
    """Wipes all that pages of an origin have stored in this page's context: it knows nothing but their scripts."""
    asked = {"origin": origin, "storageTypes": "all"}
    page.context.new_cdp_session(page).send("Storage.clearDataForOrigin", asked)
    page.context.clear_cookies()


def opened(page: Page) -> None:
    """Waits for the page to be there, as after a reload."""
    page.wait_for_selector(".bon[data-phase] .status b")
    # Chips that no longer say so: the page has asked the server what runs there.
    page.wait_for_function("!document.querySelector('.chips').textContent.match(/loading|cargando/)")


def leave(page: Page) -> None:
    """Closes a page, and lends its context to the next one."""
    page.close()
    if page.context.pages:
        page.context.close()
    else:
        page.context.browser.spare.setdefault(page.kind, []).append(page.context)


def variant(page: Page, size: dict[str, int], scheme: str) -> None:
    """Shows the page at a size and in a colour scheme; what follows that of itself has done so."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(size)
    page.evaluate(DRAWN)


def violations(page: Page, axe: str, *rules: str) -> list[str]:
    """What axe finds: by all of its rules, or by the ones given."""
    with still(page):
        return heard(page, axe, *rules)


@contextlib.contextmanager
def still(page: Page) -> Iterator[None]:
    """What is on its way from one place to another has no contrast to measure: here nothing sets out."""
    page.emulate_media(reduced_motion="reduce")
    yield
    page.emulate_media(reduced_motion="no-preference")


#: What begins to move arrives; what moves without an end goes on.
ARRIVED = "() => document.getAnimations().forEach((a) => a.effect.getTiming().iterations < 9 && a.finish())"


def heard(page: Page, axe: str, *rules: str) -> list[str]:
    """What axe says of the page once all that moves has arrived."""
    page.evaluate(ARRIVED)
    if page.evaluate("!window.axe"):
        page.evaluate(axe)
    asked = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    found = page.evaluate("(asked) => axe.run(document, asked)", asked)["violations"]
    return [f"{v['id']}: {[(n['html'], [c['message'] for c in n['any']]) for n in v['nodes']]}" for v in found]


def sideways(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return page.evaluate("() => document.documentElement.scrollWidth - innerWidth")


def unfit(page: Page, axe: str) -> list[str]:
    """What is wrong with the page as it stands: at a desk and on a phone, in light and in dark.

    The size decides on all of axe's rules, the colours on contrast alone. Leaves the page at a desk in light.
    """
    found = []
    with still(page):
        for size, scheme, rules in ((PHONE_SIZE, "dark", ()), (PHONE_SIZE, "light", CONTRAST), (DESK, "dark", CONTRAST),
                                    (DESK, "light", ())):
            variant(page, size, scheme)
            where = f"{size['width']} {scheme}"
            found += [f"{where}: {fault}" for fault in heard(page, axe, *rules)]
            if (over := sideways(page)) > 0:
                found.append(f"{where}: {over} pixels too wide")
    return found


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class App:
    """The page in a process of its own: `python app.py` from this checkout or a copy of it, or other arguments."""

    def __init__(self, folder: Path = ROOT, arguments: Sequence[str] = ("app.py",), **environment: str):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        given = {**os.environ, "GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1", **environment}
        self.process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=given)

    def wait(self) -> "App":
        """Returns once the page answers."""
        while self.process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=5) as answer:
                assert answer.status == 200
                return self
            time.sleep(0.1)
        raise AssertionError(f"the page ended with {self.process.returncode}")

    def cpu_when_idle(self) -> float:
        """Seconds of processor time spent so far, read once they have stopped growing."""
        now, before = self.cpu(), -1.0
        while now - before > 0.05:
            time.sleep(0.5)
            now, before = self.cpu(), now
        return now

    def cpu(self) -> float:
        """Seconds of processor time spent so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Ends the process."""
        self.process.terminate()
        self.process.wait()


TEXTS = [
    " was fine.", " was a delight from the first shot to the last.", " was dull.", " had me smiling all the way home.",
    " is a sandwich. It has bread on both sides.",
]
SCORES = [0.5, 0.97, 0.04, 0.88, 0.31]


@dataclass
class Play:
    """One scripted run: what is written and scored, in this order, and where it waits for the test."""

    texts: list[str]
    scores: list[float]
    hold: int | None = None  # candidates scored before it waits
    error: Exception | None = None  # raised instead of going on
    go: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)

    def events(self, prompt: str, settings: Settings) -> Iterator[Event]:
        """The events; like a real engine it yields all the time, and closing it ends it."""
        state = RunState()
        try:
            for event in self._raw(prompt, settings):
                state.add(event)
                yield event
            yield Done(state.result())
        finally:
            self.closed.set()

    def _raw(self, prompt: str, settings: Settings) -> Iterator[Event]:
        caps = tuple(len(text.split()) for text in self.texts)
        yield Started(prompt, "scripted", "judge", settings.target, settings.unit, settings, caps)
        yield Wrote(tuple(Row(i, text[: len(text) // 2], 1) for i, text in enumerate(self.texts)))
        for i, (text, score, cap) in enumerate(zip(self.texts, self.scores, caps, strict=True)):
            if i == self.hold:
                yield from self._wait()
            yield Ended(Candidate(i, text, tokens=cap, cap=cap, ended="eos", logprob=-2.0 * cap))
            yield Scored(i, score)
        yield Clock(Timing(decode=1.0, total=1.0, tokens=sum(caps), tokens_per_second=float(sum(caps))))

    def _wait(self) -> Iterator[Event]:
        while not self.go.is_set():
            time.sleep(0.02)
            yield Clock(Timing())
        if self.error:
            raise self.error


class Stage:
    """Stands in for a `ModelLoader`: every load gives a sampler that plays `play`."""

    name, target, unit, targets = "judge", "POSITIVE", "probability", ("NEGATIVE", "POSITIVE")

    def __init__(self):
        self.play: Play | None = None
        self.loads: Future | None = None  # in place of an immediate one
        self.runs = 0
        self.engine = self.scorer = self

    def load(self, *_, **__) -> Future:
        """A future with the scripted sampler."""
        future = self.loads or Future()
        if self.loads is None:
            future.set_result(self)
        return future

    def describe(self) -> dict:
        """Facts for the chips."""
        return {"name": "scripted", "parameters": 4_800_000, "device": "cpu", "dtype": "bfloat16", "context": 256}

    def stream_request(self, request: Request, live: bool = False) -> Iterator[Event]:
        """Plays the run."""
        self.runs += 1
        return self.play.events(request.prompt, request.settings.filled().with_seed())
