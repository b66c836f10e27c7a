"""What the browser tests stand on: Chromium, the real app in a process of its own, and a page with a scripted run."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from bon.schema import Candidate, Clock, Done, Ended, Event, Row, Scored, Settings, Started, Timing, Wrote
from bon.state import RunState

ROOT = Path(__file__).parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@contextlib.contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """A headless Chromium: BON_CHROMIUM's, the machine's own, or Playwright's. options: more of its own flags."""
    path = os.environ.get("BON_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*quiet, *options])
        yield browser
        browser.close()


def open_page(browser: Browser, url: str, **context) -> Page:
    """The app's page with its result drawn; `page.left` and `page.errors` collect what should not happen."""
    page = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context}).new_page()
    page.left, page.errors, own = [], [], (url.partition("/?")[0], "data:", "blob:")
    page.on("request", lambda r: page.left.append(r.url) if not r.url.startswith(own) else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector(".bon[data-phase] .status b")
    # Chips that no longer say so: the page has asked the server what runs there.
    page.wait_for_function("!document.querySelector('.chips').textContent.includes('loading')")
    return page


def violations(page: Page, axe: str) -> list[str]:
    # What is on its way from one place to another has no contrast to measure: it arrives now, nothing sets out.
    page.emulate_media(reduced_motion="reduce")
    page.evaluate("() => document.getAnimations().forEach(a => a.effect.getTiming().iterations < 9 && a.finish())")
    page.evaluate(axe)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")["violations"]
    page.emulate_media(reduced_motion="no-preference")
    return [f"{v['id']}: {[(n['html'], [c['message'] for c in n['any']]) for n in v['nodes']]}" for v in found]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class App:
    """`python app.py` in a process of its own, from this checkout or a copy of it."""

    def __init__(self, folder: Path = ROOT, **environment: str):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        given = {**os.environ, "GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1", **environment}
        self.process = subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=given)

    def wait(self) -> "App":
        """Returns once the page answers."""
        while self.process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=5) as answer:
                assert answer.status == 200
                return self
            time.sleep(0.1)
        raise AssertionError(f"app.py ended with {self.process.returncode}")

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
    """Stands in for `loaders.load`: every load gives a sampler that plays `play`."""

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

    def stream(self, prompt: str, **settings) -> Iterator[Event]:
        """Plays the run."""
        self.runs += 1
        return self.play.events(prompt, Settings.of(settings).with_seed())
