"""The server's log: what strangers send does not stand in it, and no failure fills it."""

import importlib.util
import json
import logging
import warnings

import gradio as gr
import httpx
import pytest
from gradio import mcp, routes

from bon.ui.hosting import error_log
from tests.support.served_page import PUBLIC, call_listener, serving
from tests.ui.test_mcp import result_of_session

SECRET = "zq-visitor-secret"


@pytest.fixture(scope="module")
def page():
    with serving(**PUBLIC) as page:
        yield page


@pytest.mark.skipif(not importlib.util.find_spec("mcp"), reason="gradio[mcp] is not installed")
def test_the_name_of_an_unknown_tool_is_not_logged(page, caplog, capfd):
    name = f"{SECRET}\x1b[31m\n" + "x" * 10_000
    assert result_of_session(page, lambda session: session.call_tool(name, {})).isError
    assert "Tool '%s' not listed, no validation will be performed" in caplog.messages
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


def test_a_scorer_that_a_visitor_names_is_not_logged(page, monkeypatch, caplog, capfd):
    monkeypatch.setattr(page.state.models, "load", type(page.state.models).load.__get__(page.state.models))
    for scorer in (SECRET, f"0.5*{SECRET}", [SECRET], {SECRET: 1}, f"/{SECRET}"):
        call_listener(page, "prepare", ["embedded", scorer, None])
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


def test_texts_that_libraries_make_of_values_give_way_to_their_place(caplog):
    logger = logging.getLogger(error_log.SERVERS[-1])
    logger.warning(f"Unknown method {SECRET}")
    logger.warning("Unknown method of %s", SECRET)
    logger.error("A fixed text")
    place, *texts = caplog.messages
    assert place.startswith(f"{logger.name}: WARNING at test_log.py, line ")
    assert texts == ["Unknown method of %s", "A fixed text"]


def test_nothing_that_gradio_prints_or_warns_of_a_value_is_logged_or_printed(caplog, capfd, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", error_log._log_warning)  # pytest puts its own there
    warnings.warn(f"The value {SECRET} is not in the list", UserWarning, stacklevel=1)
    gr.Dropdown(["a"]).postprocess(SECRET)
    warnings.warn("A fixed text", UserWarning, stacklevel=1)
    mcp.print(f"MCP SSE connection error: {SECRET}")
    routes.print(f"Error cleaning up file /tmp/{SECRET}: {SECRET}")
    first, second, third, printed = caplog.messages
    assert first.startswith("UserWarning at test_log.py, line ")
    assert second.startswith("UserWarning at dropdown.py, line ")
    assert third.endswith(" A fixed text")
    assert printed == "A call could not be answered."
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.skipif(not importlib.util.find_spec("mcp"), reason="gradio[mcp] is not installed")
def test_a_session_of_agents_that_there_is_not_is_not_logged(page, caplog, capfd):
    for path in ("messages/", "messages", "sse"):
        for session in (SECRET, "0" * 31 + "z", "0" * 32):
            url = f"{page.url}/gradio_api/mcp/{path}"
            content = f'{{"jsonrpc": "{SECRET}", "method": "{SECRET}"}}'
            httpx.post(url, params={"session_id": session}, content=content, timeout=30)
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


def test_the_stream_of_a_session_that_there_is_not_ends_in_a_message_and_no_failure(page, caplog):
    for query in ({"session_hash": SECRET}, {"session_hash": ""}):
        answer = httpx.get(f"{page.url}/gradio_api/queue/data", params=query, timeout=30)
        event = json.loads(answer.text.removeprefix("data:"))
        assert (event["msg"], event["session_not_found"]) == ("unexpected_error", True)
    assert not caplog.messages


def test_a_failure_takes_twenty_lines_of_the_log(caplog):
    def fail(depth: int) -> None:
        if depth == 0:
            raise ValueError(SECRET)
        try:
            fail(depth - 1)
        except ValueError as error:
            raise ValueError(SECRET) from error

    try:
        fail(30)
    except ValueError as error:
        error_log.log_failure("A test failed", error)
    assert len(caplog.messages[-1].splitlines()) == 1 + error_log.TRAIL_LINES
    assert SECRET not in caplog.text
