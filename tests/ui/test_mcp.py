"""The page as a tool for agents, through a real MCP client against the real app."""

import asyncio
import importlib.util
import json

import pytest
from gradio_client import Client

ARGUMENTS = {"prompt": "This movie", "n": 4, "seed": 8}

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("mcp"), reason="gradio[mcp] is not installed")


def result_of_session(app, act):
    """The result of `act` in a session with the app's MCP server."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def run_session():
        async with (
            streamablehttp_client(f"{app.url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await act(session)

    return asyncio.run(run_session())


def test_there_is_one_tool_with_a_documented_schema(app):
    tools = result_of_session(app, lambda session: session.list_tools()).tools
    assert [tool.name for tool in tools] == ["best_of_n"]
    schema = tools[0].inputSchema
    assert schema["properties"]["n"]["type"] in ("integer", "number")
    assert "1 to 4096" in schema["properties"]["n"]["description"]
    assert schema["properties"]["prompt"]["type"] == "string"
    assert "best first" in tools[0].description


def test_an_agent_gets_the_winner_of_the_endpoint(app):
    app.cpu_when_idle()  # once it has warmed up: other rows in the batch could turn a near-tie
    answer = result_of_session(app, lambda session: session.call_tool("best_of_n", ARGUMENTS))
    assert not answer.isError
    tool_result = json.loads(answer.content[0].text)
    expected = Client(app.url, verbose=False).predict(**ARGUMENTS, api_name="/best_of_n")
    assert [c["text"] for c in tool_result["candidates"]] == [c["text"] for c in expected["candidates"]]
    assert tool_result["candidates"][0]["score"] == pytest.approx(expected["candidates"][0]["score"], abs=1e-5)
    assert tool_result["settings"] == expected["settings"]


def test_a_wrong_argument_is_an_error_with_its_message(app):
    answer = result_of_session(app, lambda session: session.call_tool("best_of_n", {**ARGUMENTS, "n": 0}))
    assert answer.isError
    assert "n must be a whole number from 1 to 4096" in answer.content[0].text
