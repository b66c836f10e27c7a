"""Whom a visit asks for anything, by the browser's own log."""

import json
from pathlib import Path

from tests.browser import App, chromium, open_page
from tests.test_page import phase, run, to_tab


def test_a_whole_visit_asks_nobody_but_the_server_on_a_space_too(tmp_path: Path):
    app, log = App(SPACE_ID="someone/best-of-n"), tmp_path / "net.json"
    app.wait()
    with chromium(f"--log-net-log={log}") as own:
        page = open_page(own, app.url)
        page.fill("#n input", "3")
        run(page)
        phase(page, "done", timeout=60_000)
        page.locator(".menu summary").click()
        with page.expect_download():
            page.locator(".menu .choices").get_by_role("button", name="Report").click()
        for name in ("Compare", "History", "About and API"):
            to_tab(page, name)
            page.wait_for_timeout(500)
        page.click(".presents")
        page.reload()
        page.wait_for_selector("[data-present] .bon[data-phase]")
        page.wait_for_timeout(2000)
        assert page.left == []
        assert page.errors == []
        page.context.close()
    app.end()
    assert asked(log, app.url) == {app.url}


def asked(log: Path, origin: str) -> set[str]:
    """Whom the page of an origin asked; what the browser asks on its own account (updates and so on) has no origin."""
    told = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    return {"/".join(params["url"].split("/")[:3]) for params in told if params.get("initiator") == origin}
