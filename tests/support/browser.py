"""Support for browser tests: Chromium, the real app in a process of its own, and a page with a scripted run."""

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
#: Resolves once a change is drawn: a frame begins after the one in which the page got it.
DRAWN = "() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@functools.cache
def driver() -> tuple[Playwright, asyncio.AbstractEventLoop]:
    """Playwright, of which a process can have only one, and its event loop."""
    started = sync_playwright().start()
    atexit.register(started.stop)
    return started, asyncio.get_running_loop()


def set_loop_running(yes: bool) -> None:
    """Marks Playwright's event loop, which stays in the thread, as running or not, for tests that open no browser."""
    if driver.cache_info().currsize:
        asyncio._set_running_loop(driver()[1] if yes else None)


@contextlib.contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """Chromium: BON_CHROMIUM's, the machine's own, or Playwright's; with BON_HEADED set it can be watched.

    options: further flags of Chromium.
    """
    path = os.environ.get("BON_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync"]
    set_loop_running(True)
    browser = driver()[0].chromium.launch(
        executable_path=path, args=[*quiet, *options], headless=not os.environ.get("BON_HEADED"),
    )
    # Contexts of closed pages, by their options: one that has the page's scripts opens it in half the time.
    browser.spare = {}
    yield browser
    browser.close()


def open_page(browser: Browser, url: str, ready: bool = True, **context) -> Page:
    """Opens the page and waits until it is ready; `page.left` and `page.errors` collect foreign requests and errors.

    ready: False waits for the page's parts alone. An error is a failed script, or a violation of the page's content
    policy.
    """
    context_options = repr(sorted(context.items()))
    if spare := browser.spare.get(context_options):
        page = spare.pop().new_page()
        clear_storage(page, "/".join(url.split("/")[:3]))
    else:
        page = browser.new_context(**{"viewport": DESK, **context}).new_page()
    page.context_options, page.left, page.errors = context_options, [], []
    allowed = (url.partition("/?")[0], "data:", "blob:")
    page.on("request", lambda r: page.left.append(r.url) if not r.url.startswith(allowed) else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text) if is_fault(message.text) else None)
    page.set_default_timeout(120_000)
    page.goto(url)
    if ready:
        wait_until_ready(page)
    else:
        page.wait_for_selector(".first-paint", state="detached")
    return page


def is_fault(message: str) -> bool:
    """Whether a message of the browser's console is about a violation of a content policy, or a failed component."""
    return "Content Security Policy" in message or "Error executing js_on_load" in message


def clear_storage(page: Page, origin: str) -> None:
    """Deletes all that pages of an origin have stored in this page's context but their scripts."""
    arguments = {"origin": origin, "storageTypes": "all"}
    page.context.new_cdp_session(page).send("Storage.clearDataForOrigin", arguments)
    page.context.clear_cookies()


def wait_until_ready(page: Page) -> None:
    """Waits until the page is ready, as after a reload."""
    page.wait_for_selector(".bon[data-phase] .status b")
    # The chips no longer say so once the page has the server's model and scorer.
    page.wait_for_function("!document.querySelector('.chips').textContent.match(/loading|cargando/)")


def close_page(page: Page) -> None:
    """Closes a page and keeps its context for the next one."""
    page.close()
    if page.context.pages:
        page.context.close()
    else:
        page.context.browser.spare.setdefault(page.context_options, []).append(page.context)


def set_variant(page: Page, size: dict[str, int], scheme: str) -> None:
    """Shows the page at a size and in a colour scheme, and waits until that is drawn."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(size)
    page.evaluate(DRAWN)


def axe_violations_at_rest(page: Page, axe: str, *rules: str) -> list[str]:
    """The violations that axe finds while nothing moves, by all of its rules or by these."""
    with reduced_motion(page):
        return axe_violations(page, axe, *rules)


@contextlib.contextmanager
def reduced_motion(page: Page) -> Iterator[None]:
    """A context without animations, since the contrast of moving elements cannot be measured."""
    page.emulate_media(reduced_motion="reduce")
    yield
    page.emulate_media(reduced_motion="no-preference")


#: Finishes all animations but endless ones.
ARRIVED = "() => document.getAnimations().forEach((a) => a.effect.getTiming().iterations < 9 && a.finish())"


def axe_violations(page: Page, axe: str, *rules: str) -> list[str]:
    """The violations that axe finds once all animations have finished."""
    page.evaluate(ARRIVED)
    if page.evaluate("!window.axe"):
        page.evaluate(axe)
    options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    violations = page.evaluate("(options) => axe.run(document, options)", options)["violations"]
    return [f"{v['id']}: {[(n['html'], [c['message'] for c in n['any']]) for n in v['nodes']]}" for v in violations]


def overflow_pixels(page: Page) -> int:
    """The number of pixels by which the page is wider than its window."""
    return page.evaluate("() => document.documentElement.scrollWidth - innerWidth")


def layout_faults(page: Page, axe: str) -> list[str]:
    """The faults of the page's layout and accessibility: on a desktop and a phone, in light and in dark mode.

    All of axe's rules are checked at each size, and contrast in each colour scheme. The page is left on a desktop in
    light mode.
    """
    faults = []
    with reduced_motion(page):
        for size, scheme, rules in ((PHONE_SIZE, "dark", ()), (PHONE_SIZE, "light", CONTRAST), (DESK, "dark", CONTRAST),
                                    (DESK, "light", ())):
            set_variant(page, size, scheme)
            name = f"{size['width']} {scheme}"
            faults += [f"{name}: {fault}" for fault in axe_violations(page, axe, *rules)]
            if (overflow := overflow_pixels(page)) > 0:
                faults.append(f"{name}: {overflow} pixels too wide")
    return faults


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
        environment_variables = {**os.environ, "GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1", **environment}
        self.process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment_variables)

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
    """One scripted run: its texts and scores, in this order, and where it waits for the test."""

    texts: list[str]
    scores: list[float]
    hold: int | None = None  # candidates scored before it waits
    error: Exception | None = None  # raised instead of going on
    go: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)

    def events(self, prompt: str, settings: Settings, messages: tuple | None = None) -> Iterator[Event]:
        """The events; like a real engine it yields all the time, and closing it ends it."""
        state = RunState()
        try:
            for event in self._raw(prompt, settings, messages):
                state.add(event)
                yield event
            yield Done(state.result())
        finally:
            self.closed.set()

    def _raw(self, prompt: str, settings: Settings, messages: tuple | None) -> Iterator[Event]:
        caps = tuple(len(text.split()) for text in self.texts)
        yield Started(prompt, "scripted", "judge", settings.target, settings.unit, settings, caps, messages)
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
        self.requests: list[Request] = []  # of the runs
        self.chats = False  # whether the sampler's model answers chats
        self.engine = self.scorer = self

    def load(self, *_, **__) -> Future:
        """A future with the scripted sampler."""
        future = self.loads or Future()
        if self.loads is None:
            future.set_result(self)
        return future

    def describe(self) -> dict:
        """Facts for the chips."""
        return {"name": "scripted", "parameters": 4_800_000, "device": "cpu", "dtype": "bfloat16", "context": 256,
                "chats": self.chats}

    def stream_request(self, request: Request, live: bool = False) -> Iterator[Event]:
        """Plays the run."""
        self.runs += 1
        self.requests.append(request)
        messages = request.messages and tuple(request.messages)
        prompt = messages[-1]["content"] if messages else request.prompt
        return self.play.events(prompt, request.settings.filled().with_seed(), messages)
