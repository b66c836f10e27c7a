"""The whole product as its visitors meet it: whom it asks for anything, and what is left when its server dies."""

import json
import re
import signal
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bon.cli.main import main
from tests.support.browser import App, chromium, open_page, opened
from tests.ui.test_batch_tab import downloaded, file_of, rows, started
from tests.ui.test_batch_tab import phase as batch_phase
from tests.ui.test_compare_tab import heads
from tests.ui.test_compare_tab import phase as comparison_phase
from tests.ui.test_compare_tab import start as compare
from tests.ui.test_history_tab import act, history, listed
from tests.ui.test_page import phase, ran, run, to_tab, winner

MANY = {"n": 256, "seed": 1, "min_tokens": 120, "max_tokens": 200}


@pytest.fixture
def start_app():
    """Starts apps, and ends at last those that go on."""
    apps: list[App] = []

    def start_app(**environment: str) -> App:
        apps.append(App(**environment))
        return apps[-1]

    yield start_app
    for app in apps:
        app.end()


def test_a_visit_asks_nobody_but_the_server_and_survives_its_death(start_app, tmp_path: Path):
    log, prompts = tmp_path / "net.json", file_of(tmp_path, "in.csv", rows(130))
    first = start_app(SPACE_ID="someone/best-of-n", GRADIO_TEMP_DIR=str(tmp_path / "gradio"))
    again = {"GRADIO_TEMP_DIR": str(tmp_path / "gradio"), "GRADIO_SERVER_PORT": first.url.rpartition(":")[2]}
    with chromium(f"--log-net-log={log}") as own:
        page = open_page(own, first.wait().url)
        before = everything_is_looked_at_on_a_space_too(page)
        assert (page.left, page.errors) == ([], [])
        batch_comparison_and_run_begin(page, prompts, first)
        first.process.kill()
        first.process.wait()
        the_run_says_so_and_keeps_what_is_done(page)
        the_comparison_says_so_and_keeps_what_is_done(page)
        the_batch_says_so(page)
        page.goto("about:blank")  # else Gradio loads the page anew by itself, at its own time
        second = start_app(**again)
        second.url = first.url
        page.goto(second.wait().url)
        opened(page)
        the_run_that_broke_off_is_offered(page)
        earlier_runs_are_kept_and_open(page, before)
        the_page_works_with_the_next_server(page)
        command = the_batch_goes_on(page)
        found = downloaded(page).read_bytes()
        page.context.close()
    the_batch_is_that_of_the_command_line(found, command, prompts, tmp_path / "out.jsonl")
    assert asked(log, first.url) == {first.url}


def everything_is_looked_at_on_a_space_too(page: Page) -> str:
    page.fill("#n input", "3")
    ran(page)
    page.locator(".menu summary").click()
    with page.expect_download():
        page.locator(".menu .choices").get_by_role("button", name="Report").click()
    for name, shown in {"Compare": ".comparison svg", "History": ".history .run", "About and API": ".play svg"}.items():
        to_tab(page, name)
        expect(page.locator(shown).first).to_be_visible()
    best = winner(page)
    page.click(".presents")
    page.reload()
    page.wait_for_selector("[data-present] .bon[data-phase]")
    opened(page)
    page.click(".presents")
    return best


def batch_comparison_and_run_begin(page: Page, prompts: Path, app: App) -> None:
    to_tab(page, "Batch")
    started(page, prompts, re.compile("loading|running"), n=16, max=12)
    expect(page.locator(".batch .winners li").first).to_be_visible(timeout=120_000)
    to_tab(page, "Compare")
    compare(page, "\n".join(f"This movie number {i}" for i in range(60)), n=64)
    expect(page.locator(".comparison .status b")).to_have_text(re.compile(r"Prompt ([2-9]|\d\d) of 60"))
    to_tab(page, "Generate")
    page.click("#settings-line")
    for name, value in MANY.items():
        page.fill(f"#{name} input", str(value))
    run(page)
    for _ in range(1000):  # by fits and starts, so that no server outruns a page that has little of the processor
        if page.evaluate("sessionStorage.length"):
            break
        app.process.send_signal(signal.SIGCONT)
        time.sleep(0.2)
        app.process.send_signal(signal.SIGSTOP)
        page.wait_for_timeout(300)
    phase(page, "writing")
    assert page.evaluate("sessionStorage.length") == 1


def the_run_says_so_and_keeps_what_is_done(page: Page) -> None:
    phase(page, "failed")
    expect(page.locator(".bon .status b")).to_have_text("The connection was lost.")
    assert page.locator(".bon .row").count() == MANY["n"]


def the_comparison_says_so_and_keeps_what_is_done(page: Page) -> None:
    to_tab(page, "Compare")
    comparison_phase(page, "failed")
    expect(page.locator(".comparison .status b")).to_have_text("The connection was lost.")
    assert "best of 64" in heads(page)


def the_batch_says_so(page: Page) -> None:
    to_tab(page, "Batch")
    expect(page.locator(".batch > .alert")).to_have_text("The connection was lost.")


def the_run_that_broke_off_is_offered(page: Page) -> None:
    phase(page, "sample")
    expect(page.locator(".bon .offer")).to_contain_text("has been saved")


def earlier_runs_are_kept_and_open(page: Page, before: str) -> None:
    history(page)
    assert listed(page)[1].rstrip("…") == before
    act(page, "Open", 1)
    phase(page, "done")
    assert winner(page) == before


def the_page_works_with_the_next_server(page: Page) -> None:
    page.fill("#n input", "3")
    ran(page)
    assert page.locator(".bon .row").count() == 2


def the_batch_goes_on(page: Page) -> str:
    to_tab(page, "Batch")
    batch_phase(page, "interrupted")
    expect(page.locator(".batch .status")).to_contain_text("press Resume to continue")
    page.locator("[data-do=resume]").click()
    expect(page.locator(".batch")).to_have_attribute("data-phase", "done", timeout=180_000)
    return page.locator(".batch .command").text_content()


def the_batch_is_that_of_the_command_line(found: bytes, command: str, prompts: Path, out: Path) -> None:
    given = command.removeprefix("python -m bon batch in.csv in.best.jsonl ").split()
    assert main(["batch", str(prompts), str(out), *given]) == 0
    assert found == out.read_bytes()


def asked(log: Path, origin: str) -> set[str]:
    """Whom the page of an origin asked; what the browser asks on its own account (updates and so on) has no origin."""
    told = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    return {"/".join(params["url"].split("/")[:3]) for params in told if params.get("initiator") == origin}
