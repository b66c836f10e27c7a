"""The About tab: the interactive figure, the models' cards, and the present settings as code that works."""

import ast
import json
import shlex

from playwright.sync_api import expect

from bon.cli.main import main
from tests.support.browser import PHONE_SIZE, overflow_pixels, wait_until_ready
from tests.ui.test_page import fill_settings, open_tab

CODE = ("python", "shell", "client", "curl", "mcp")
STOPS = ["\n", " it's"]
PROMPT = "It's a \"film\" with $HOME and `ticks`"


def test_the_present_settings_are_code_that_works(app, visit, capsys):
    page = visit(app)
    the_figure_draws_the_best_of_more(page)
    page.get_by_role("tab", name="Generate").click()
    code = code_of(page)
    the_python_code_has_the_present_settings(code)
    the_shell_command_runs_as_shown(code, capsys)
    curl_sends_the_present_settings(code)
    the_mcp_configuration_has_the_address(code, app)
    page.set_viewport_size(PHONE_SIZE)
    the_cards_open_and_fit_on_a_phone(page)
    behind_a_proxy_the_code_names_its_folder(page, app)


def code_of(page) -> dict[str, str]:
    """The code that the page shows for a prompt full of quotes and a few settings."""
    page.fill("#prompt textarea", PROMPT)
    page.get_by_label("negative").check()
    fill_settings(page, n=5, seed=9, temperature=0.7)
    page.fill("#stop-strings textarea", "\\n\n it's")
    open_tab(page, "About and API")
    expect(page.locator("code[data-code='python']")).to_contain_text("temperature")
    return {node: page.text_content(f"code[data-code='{node}']") for node in CODE}


def the_python_code_has_the_present_settings(code):
    call = next(node for node in ast.walk(ast.parse(code["python"])) if getattr(node, "keywords", None))
    assert ast.literal_eval(call.args[0]) == PROMPT
    keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert keywords == {"n": 5, "target": "NEGATIVE", "temperature": 0.7, "seed": 9, "stop": STOPS,
                        "finish": "sentence"}
    client = ast.parse(code["client"])
    assert any(isinstance(node, ast.Constant) and node.value == PROMPT for node in ast.walk(client))


def the_shell_command_runs_as_shown(code, capsys):
    command = shlex.split(code["shell"])
    assert command[:4] == ["python", "-m", "bon", PROMPT]
    assert main(command[3:]) == 0
    record = json.loads(capsys.readouterr().out)
    settings = {"n": 5, "seed": 9, "temperature": 0.7, "stop": STOPS}
    assert record["prompt"] == PROMPT
    assert record["target"] == "NEGATIVE"
    assert {name: record["settings"][name] for name in settings} == settings


def curl_sends_the_present_settings(code):
    body = shlex.split(code["curl"].split(" -d ", 1)[1].rsplit(" | cut", 1)[0])[0]
    assert json.loads(body) == {"prompt": PROMPT, "n": 5, "target": "NEGATIVE", "temperature": 0.7, "seed": 9,
                                "stop": STOPS, "finish": "sentence"}


def the_mcp_configuration_has_the_address(code, app):
    assert json.loads(code["mcp"]) == {"mcpServers": {"bon": {"url": f"{app.url}/gradio_api/mcp/"}}}


def behind_a_proxy_the_code_names_its_folder(page, app):
    folder = f"{app.url}/tools/bon"

    def without_folder(route) -> None:
        route.continue_(url=route.request.url.replace(folder, app.url))

    page.route(f"{folder}/**", without_folder)
    page.goto(f"{folder}/?n=4#about")
    wait_until_ready(page)
    code = code_of(page)
    assert f'Client("{folder}")' in code["client"]
    assert code["curl"].startswith(f"BASE={folder}/gradio_api/call\n")
    assert json.loads(code["mcp"])["mcpServers"]["bon"]["url"] == f"{folder}/gradio_api/mcp/"


def the_figure_draws_the_best_of_more(page):
    open_tab(page, "About and API")
    assert page.locator(".play .dot").count() == 8
    page.locator(".play input").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".play output")).to_have_text("N = 16")
    assert page.locator(".play .dot").count() == 16
    expect(page.locator(".play .outcome")).to_contain_text("16/17 = 0.941")
    page.get_by_role("button", name="Draw again").click()
    expect(page.locator(".play .outcome")).to_contain_text("Mean of 2 draws")


def the_cards_open_and_fit_on_a_phone(page):
    card = page.locator(".card").filter(has_text="Sentiment: the built-in scorer")
    card.locator("button").first.click()
    expect(card).to_contain_text("Do not use it to decide anything about people")
    assert overflow_pixels(page) <= 0
