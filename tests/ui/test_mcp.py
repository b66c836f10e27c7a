"""The page as a tool for agents, through a real MCP client against the real app."""

import asyncio
import importlib.util
import json

import pytest
from gradio_client import Client

ASKED = {"prompt": "This movie", "n": 4, "seed": 8}

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("mcp"), reason="gradio[mcp] is not installed")


def in_session(app, act):
    """What `act` brings back from a session with the app's MCP server."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def talk():
        async with (
            streamablehttp_client(f"{app.url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await act(session)

    return asyncio.run(talk())


def test_there_is_one_tool_with_a_schema_that_explains_itself(app):
    tools = in_session(app, lambda session: session.list_tools()).tools
    assert [tool.name for tool in tools] == ["best_of_n"]
    schema = tools[0].inputSchema
    assert schema["properties"]["n"]["type"] in ("integer", "number")
    assert "1 to 4096" in schema["properties"]["n"]["description"]
    assert schema["properties"]["prompt"]["type"] == "string"
    assert "best first" in tools[0].description


def test_an_agent_gets_the_winner_that_the_endpoint_gives(app):
    app.cpu_when_idle()  # the app warms up: decoded together with that, a near-tie may turn
    answer = in_session(app, lambda session: session.call_tool("best_of_n", ASKED))
    assert not answer.isError
    found = json.loads(answer.content[0].text)
    wanted = Client(app.url, verbose=False).predict(**ASKED, api_name="/best_of_n")
    assert [c["text"] for c in found["candidates"]] == [c["text"] for c in wanted["candidates"]]
    assert found["candidates"][0]["score"] == pytest.approx(wanted["candidates"][0]["score"], abs=1e-5)
    assert found["settings"] == wanted["settings"]


def test_what_cannot_work_is_an_error_in_words(app):
    answer = in_session(app, lambda session: session.call_tool("best_of_n", {**ASKED, "n": 0}))
    assert answer.isError
    assert "n must be a whole number from 1 to 4096" in answer.content[0].text
