"""The About tab: a figure to play with, the models' cards, and the present settings as code that works."""

import ast
import json
import shlex

from playwright.sync_api import expect

from bon.cli.main import main
from tests.support.browser import PHONE_SIZE, sideways
from tests.ui.test_page import settings, to_tab

CODE = ("python", "shell", "client", "curl", "mcp")
PROMPT = "It's a \"film\" with $HOME and `ticks`"


def test_the_present_settings_are_code_that_works(app, visit, capsys):
    page = visit(app)
    the_figure_draws_the_best_of_more(page)
    page.get_by_role("tab", name="Generate").click()
    code = code_of(page)
    the_python_asks_for_the_present_settings(code)
    the_command_line_runs_as_it_stands(code, capsys)
    curl_sends_the_present_settings(code)
    agents_are_told_the_address(code, app)
    page.set_viewport_size(PHONE_SIZE)
    the_cards_are_there_and_a_phone_holds_them(page)


def code_of(page) -> dict[str, str]:
    """The code that the page shows for a prompt full of quotes and a few settings."""
    page.fill("#prompt textarea", PROMPT)
    page.get_by_label("negative").check()
    settings(page, n=5, seed=9, temperature=0.7)
    to_tab(page, "About and API")
    expect(page.locator("code[data-code='python']")).to_contain_text("temperature")
    return {node: page.text_content(f"code[data-code='{node}']") for node in CODE}


def the_python_asks_for_the_present_settings(code):
    call = next(node for node in ast.walk(ast.parse(code["python"])) if getattr(node, "keywords", None))
    assert ast.literal_eval(call.args[0]) == PROMPT
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert given == {"n": 5, "target": "NEGATIVE", "temperature": 0.7, "seed": 9}
    client = ast.parse(code["client"])
    assert any(isinstance(node, ast.Constant) and node.value == PROMPT for node in ast.walk(client))


def the_command_line_runs_as_it_stands(code, capsys):
    words = shlex.split(code["shell"])
    assert words[:4] == ["python", "-m", "bon", PROMPT]
    assert main(words[3:]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = {"n": 5, "seed": 9, "temperature": 0.7}
    assert found["prompt"] == PROMPT
    assert found["target"] == "NEGATIVE"
    assert {name: found["settings"][name] for name in wanted} == wanted


def curl_sends_the_present_settings(code):
    body = shlex.split(code["curl"].split(" -d ", 1)[1].rsplit(" | cut", 1)[0])[0]
    assert json.loads(body) == {"prompt": PROMPT, "n": 5, "target": "NEGATIVE", "temperature": 0.7, "seed": 9}


def agents_are_told_the_address(code, app):
    assert json.loads(code["mcp"]) == {"mcpServers": {"bon": {"url": f"{app.url}/gradio_api/mcp/"}}}


def the_figure_draws_the_best_of_more(page):
    to_tab(page, "About and API")
    assert page.locator(".play .dot").count() == 8
    page.locator(".play input").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".play output")).to_have_text("N = 16")
    assert page.locator(".play .dot").count() == 16
    expect(page.locator(".play .outcome")).to_contain_text("16/17 = 0.941")
    page.get_by_role("button", name="Draw again").click()
    expect(page.locator(".play .outcome")).to_contain_text("Mean of 2 draws")


def the_cards_are_there_and_a_phone_holds_them(page):
    card = page.locator(".card").filter(has_text="Sentiment: the built-in scorer")
    card.locator("button").first.click()
    expect(card).to_contain_text("Do not use it to decide anything about people")
    assert sideways(page) <= 0
