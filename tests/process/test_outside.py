"""A whole visit to the app: the hosts that it contacts, and what survives the death of its server."""

import json
import re
import signal
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bon.cli.main import main
from tests.support.browser import App, chromium, open_page, wait_until_ready
from tests.ui.test_batch_tab import download_result, make_rows, start_batch, write_rows
from tests.ui.test_batch_tab import expect_phase as expect_batch_phase
from tests.ui.test_compare_tab import expect_phase as expect_comparison_phase
from tests.ui.test_compare_tab import start as start_comparison
from tests.ui.test_compare_tab import system_names
from tests.ui.test_history_tab import listed_texts, open_history, press
from tests.ui.test_page import complete_run, expect_phase, open_tab, run, winner

MANY = {"n": 256, "seed": 1, "min_tokens": 120, "max_tokens": 200}


@pytest.fixture
def start_app():
    """Starts apps, and ends those that still run."""
    apps: list[App] = []

    def start_app(**environment: str) -> App:
        apps.append(App(**environment))
        return apps[-1]

    yield start_app
    for app in apps:
        app.end()


def test_a_visit_contacts_only_the_server_and_survives_its_death(start_app, tmp_path: Path):
    log, prompts = tmp_path / "net.json", write_rows(tmp_path, "in.csv", make_rows(130))
    server = start_app(SPACE_ID="someone/best-of-n", GRADIO_TEMP_DIR=str(tmp_path / "gradio"))
    same_address = {"GRADIO_TEMP_DIR": str(tmp_path / "gradio"), "GRADIO_SERVER_PORT": server.url.rpartition(":")[2]}
    with chromium(f"--log-net-log={log}") as visitor:
        page = open_page(visitor, server.wait().url)
        before = every_tab_is_visited_as_on_a_space(page)
        assert (page.left, page.errors) == ([], [])
        start_batch_comparison_and_run(page, prompts, server)
        server.process.kill()
        server.process.wait()
        the_run_names_the_lost_connection_and_keeps_its_candidates(page)
        the_comparison_names_the_lost_connection_and_keeps_its_prompts(page)
        the_batch_names_the_lost_connection(page)
        page.goto("about:blank")  # else Gradio itself would reload the page at some time
        restarted = start_app(**same_address)
        restarted.url = server.url
        page.goto(restarted.wait().url)
        wait_until_ready(page)
        the_interrupted_run_is_offered(page)
        earlier_runs_are_stored_and_open(page, before)
        the_page_works_with_the_restarted_server(page)
        command = the_batch_resumes(page)
        output = download_result(page).read_bytes()
        page.context.close()
    the_batch_equals_that_of_the_command_line(output, command, prompts, tmp_path / "out.jsonl")
    assert requested_hosts(log, server.url) == {server.url}


def every_tab_is_visited_as_on_a_space(page: Page) -> str:
    page.fill("#n input", "3")
    complete_run(page)
    page.locator(".menu summary").click()
    with page.expect_download():
        page.locator(".menu .choices").get_by_role("button", name="Report").click()
    selectors = {"Compare": ".comparison svg", "History": ".history .run", "About and API": ".play svg"}
    for name, selector in selectors.items():
        open_tab(page, name)
        expect(page.locator(selector).first).to_be_visible()
    best = winner(page)
    page.click(".presents")
    page.reload()
    page.wait_for_selector("[data-present] .bon[data-phase]")
    wait_until_ready(page)
    page.click(".presents")
    return best


def start_batch_comparison_and_run(page: Page, prompts: Path, app: App) -> None:
    open_tab(page, "Batch")
    start_batch(page, prompts, re.compile("loading|running"), n=16, max=12)
    expect(page.locator(".batch .winners li").first).to_be_visible(timeout=120_000)
    open_tab(page, "Compare")
    start_comparison(page, "\n".join(f"This movie number {i}" for i in range(60)), n=64)
    expect(page.locator(".comparison .status b")).to_have_text(re.compile(r"Prompt ([2-9]|\d\d) of 60"))
    open_tab(page, "Generate")
    page.click("#settings-line")
    for name, value in MANY.items():
        page.fill(f"#{name} input", str(value))
    run(page)
    for _ in range(1000):  # the server runs in short turns, so that it cannot outrun a page on a busy machine
        if page.evaluate("sessionStorage.length"):
            break
        app.process.send_signal(signal.SIGCONT)
        time.sleep(0.2)
        app.process.send_signal(signal.SIGSTOP)
        page.wait_for_timeout(300)
    expect_phase(page, "writing")
    assert page.evaluate("sessionStorage.length") == 1


def the_run_names_the_lost_connection_and_keeps_its_candidates(page: Page) -> None:
    expect_phase(page, "failed")
    expect(page.locator(".bon .status b")).to_have_text("The connection was lost.")
    assert page.locator(".bon .row").count() == MANY["n"]


def the_comparison_names_the_lost_connection_and_keeps_its_prompts(page: Page) -> None:
    open_tab(page, "Compare")
    expect_comparison_phase(page, "failed")
    expect(page.locator(".comparison .status b")).to_have_text("The connection was lost.")
    assert "best of 64" in system_names(page)


def the_batch_names_the_lost_connection(page: Page) -> None:
    open_tab(page, "Batch")
    expect(page.locator(".batch > .alert")).to_have_text("The connection was lost.")


def the_interrupted_run_is_offered(page: Page) -> None:
    expect_phase(page, "sample")
    expect(page.locator(".bon .offer")).to_contain_text("has been saved")


def earlier_runs_are_stored_and_open(page: Page, before: str) -> None:
    open_history(page)
    assert listed_texts(page)[1].rstrip("…") == before
    press(page, "Open", 1)
    expect_phase(page, "done")
    assert winner(page) == before


def the_page_works_with_the_restarted_server(page: Page) -> None:
    page.fill("#n input", "3")
    complete_run(page)
    assert page.locator(".bon .row").count() == 2


def the_batch_resumes(page: Page) -> str:
    open_tab(page, "Batch")
    expect_batch_phase(page, "interrupted")
    expect(page.locator(".batch .status")).to_contain_text("press Resume to continue")
    page.locator("[data-do=resume]").click()
    expect(page.locator(".batch")).to_have_attribute("data-phase", "done", timeout=180_000)
    return page.locator(".batch .command").text_content()


def the_batch_equals_that_of_the_command_line(output: bytes, command: str, prompts: Path, out: Path) -> None:
    options = command.removeprefix("python -m bon batch in.csv in.best.jsonl ").split()
    assert main(["batch", str(prompts), str(out), *options]) == 0
    assert output == out.read_bytes()


def requested_hosts(log: Path, origin: str) -> set[str]:
    """The hosts that the page of an origin contacted; requests of the browser itself have no origin."""
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    return {"/".join(params["url"].split("/")[:3]) for params in events if params.get("initiator") == origin}
