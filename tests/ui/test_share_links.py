"""Links with settings: what the query string fills in, without a browser and in one."""

import json
import re
from types import SimpleNamespace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from bon.ui.generate import run_view, share_links
from bon.ui.generate.form_values import FIELDS
from bon.ui.hosting.deployment import Deployment
from tests.support.browser import DRAWN, opened, unfit
from tests.support.forms import accept
from tests.ui.test_page import CLIPBOARD, NASTY, phase, run, settings, winner
from tests.ui.test_run_view import page as form_of
from tests.ui.test_run_view import state

HARMLESS = {"view": "present", "__theme": "dark", "utm_source": "mail", "run": "1"}


def test_a_full_query_string_fills_the_form():
    query = {"prompt": " Hi ", "n": "32", "target": "NEGATIVE", "min_tokens": "4", "max_tokens": "9", "seed": "7",
             "temperature": "0.7", "top_p": "0.9", "top_k": "40", "model": "gpt2-imdb", "scorer": "logprob",
             "reject": "0.5", "select": "soft", "softness": "0.3"}
    assert accept(query, form_of()) == ({
        "prompt": " Hi ", "n": 32, "target": "NEGATIVE", "min_tokens": 4, "max_tokens": 9, "seed": "7",
        "temperature": 0.7, "top_p": 0.9, "top_k": 40, "model": "gpt2-imdb", "scorer": "logprob",
        "reject": True, "select": "soft", "softness": 0.3,
    }, [])


def test_what_is_meant_for_others_is_nobodys_fault():
    assert accept(HARMLESS, form_of()) == ({}, [])


@pytest.mark.parametrize(("name", "value", "words"), [
    ("n", "0", "from 1 to 256"), ("n", "many", "'many'"), ("n", "1e400", "n must be"), ("n", "257", "257"),
    ("temperature", "0", "above 0"), ("temperature", "nan", "number"), ("top_p", "2", "at most 1"),
    ("top_k", "-1", "at least 0"), ("seed", "-1", "seed"), ("seed", "soon", "soon"), ("reject", "0.3", "0.5 (on)"),
    ("select", "median", "median"), ("softness", "0", "above 0"), ("target", "JOY", "POSITIVE and NEGATIVE"),
    ("max_tokens", "4", "above max"), ("min_tokens", "40", "above max"), ("max_tokens", "0", "max_tokens"),
    ("unit", "logit", "on this page"), ("temprature", "1", "mean temperature"),
])
def test_what_cannot_work_is_ignored_with_a_word_and_the_rest_stands(name, value, words):
    given, ignored = accept({"prompt": "Hi", "select": "best", name: value}, form_of())
    assert given == {k: v for k, v in {"prompt": "Hi", "select": "best"}.items() if k != name}
    assert len(ignored) == 1
    assert words in ignored[0]


def test_all_that_is_wrong_is_said_at_once():
    query = {"n": "0", "temperature": "x", "top_p": "9", "min_tokens": "90", "max_tokens": "4", "seed": "?"}
    given, ignored = accept(query, form_of())
    assert given == {}
    assert len(ignored) == 6
    assert accept(dict.fromkeys(FIELDS, NASTY), form_of())[0].keys() == {
        "prompt", "model", "scorer", "target",
    }


def test_a_blank_value_is_none():
    assert accept(dict.fromkeys(FIELDS, " "), form_of()) == ({}, [])


def test_labels_of_other_scorers_are_taken_on_trust():
    assert accept({"target": "LABEL_1", "scorer": "some/scorer"}, form_of())[0]["target"] == "LABEL_1"


def test_the_answer_has_a_value_for_every_output():
    answer = share_links.fill_form({"n": "200", "seed": "x"}, form_of(), Deployment())
    assert len(answer) == len(FIELDS) + 2
    assert answer[-2] == 64
    assert answer[-1]["linked"] is True
    assert share_links.fill_form({}, form_of(), Deployment())[-1]["linked"] is False


# In the browser.


def linked(visit, where, context=None, **query):
    """A page opened by a link."""
    return visit(SimpleNamespace(url=f"{where.url}/?{urlencode(query)}"), **context or {})


def copied(page) -> str:
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    return page.evaluate("navigator.clipboard.readText()")


def notice(page):
    return page.locator(".linked")


def test_a_link_fills_the_form_and_a_run_makes_one(stage, visit):
    page = linked(visit, stage, prompt="The hotel é & <b>", n=200, target="NEGATIVE", temperature=0.5, seed=7,
                  reject=0.5, select="soft", softness=0.2, run=1, scorer="logprob", view="later", __sign="secret")
    a_link_fills_the_form_and_runs_nothing(stage, page)
    the_link_of_a_run_says_what_is_not_as_at_first(page)
    run(page)
    phase(page, "done")
    expect(notice(page)).to_be_hidden()
    assert winner(page).startswith("The hotel é & <b>")


def a_link_fills_the_form_and_runs_nothing(stage, page):
    expect(notice(page)).to_contain_text("Press Generate to run it.")
    expect(page.locator("#prompt textarea")).to_have_value("The hotel é & <b>")
    for field, value in {"n": "200", "n-slider": "64", "temperature": "0.5", "seed": "7", "softness": "0.2",
                         "scorer": "log-probability", "select": "a weighted draw"}.items():
        expect(page.locator(f"#{field} input:not([aria-hidden=true])").last).to_have_value(value)
    expect(page.locator("#reject input")).to_be_checked()
    expect(page.locator("#target label.selected")).to_have_text("negative")
    expect(page.locator("#settings-line")).to_contain_text("seed 7")
    page.evaluate(DRAWN)
    phase(page, "sample")
    assert stage.runs == 0
    assert "run=1" in page.url
    assert "view=later" in page.url


def the_link_of_a_run_says_what_is_not_as_at_first(page):
    record = json.dumps(run_view.record(state([0.2, 0.9, 0.4]).result()))
    link = page.evaluate("(record) => bon.shareLink(JSON.parse(record))", record)
    others = {"view": ["later"], "run": ["1"]}
    assert parse_qs(urlsplit(link).query) == {**others, "prompt": ["This movie"], "n": ["3"], "seed": ["7"]}
    everything = {"n": 200, "target": "NEGATIVE", "min_tokens": 2, "max_tokens": 9, "temperature": 0.7, "top_p": 0.9,
                  "top_k": 40, "model": "gpt2-imdb", "scorer": "logprob", "reject": 0.5, "select": "worst",
                  "softness": 0.3, "seed": 2**53 - 1}
    told = json.loads(record) | {"prompt": f" {NASTY} "}
    told["settings"] |= everything
    link = page.evaluate("(told) => bon.shareLink(told)", told)
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    given, ignored = accept(query, form_of())
    assert ignored == []
    assert given == everything | {"prompt": told["prompt"], "seed": str(2**53 - 1), "reject": True}


def test_what_a_link_gets_wrong_is_said_and_the_rest_is_filled_in(stage, visit, axe):
    page = linked(visit, stage, prompt="Hi", n=0, seed="<img src=x onerror=window.hacked=1>", temprature=2)
    expect(notice(page).locator("li")).to_have_count(3)
    expect(notice(page)).to_contain_text("from 1 to 256")
    expect(notice(page)).to_contain_text("<img")
    expect(notice(page)).to_contain_text("Did you mean temperature?")
    expect(page.locator("#prompt textarea")).to_have_value("Hi")
    expect(page.locator("#n input")).to_have_value("16")
    assert page.evaluate("window.hacked") is None
    assert unfit(page, axe) == []
    page.get_by_role("button", name="Dismiss").click()
    expect(notice(page)).to_be_hidden()


def test_links_bear_every_prompt_that_is_not_too_long_and_only_links_are_announced(stage, visit):
    page = linked(visit, stage, CLIPBOARD, view="later", utm_source="mail")
    a_page_without_a_link_says_nothing(page)
    a_prompt_that_no_address_bears_is_refused(page)
    for prompt in (NASTY, "a\nb\tc  d ", "é\U0001f600\u202e&=#%+?", "wort " * 900):
        a_prompt_arrives_as_it_was(stage, page, prompt)


def a_page_without_a_link_says_nothing(page):
    page.evaluate(DRAWN)
    expect(notice(page)).to_be_hidden()
    expect(page.locator("#prompt textarea")).to_have_value("This movie")


def a_prompt_that_no_address_bears_is_refused(page):
    page.fill("#prompt textarea", "word " * 3000)
    run(page)
    phase(page, "done")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Too long for a link")).to_be_visible()


def a_prompt_arrives_as_it_was(stage, page, prompt):
    page.goto(f"{stage.url}/?{urlencode({'prompt': prompt})}")
    opened(page)
    expect(page.locator("#prompt textarea")).to_have_value(prompt)
    assert page.evaluate("window.hacked") is None


def test_a_link_of_the_real_app_gives_the_same_winner_with_its_scorer(app, visit, lm_folder, classifier_folder):
    page = visit(app, **CLIPBOARD)
    other = run_copy_open_generate_gives_the_same_winner(app, visit, page)
    labels_of_another_scorer_survive_its_loading(app, other, lm_folder, classifier_folder)


def run_copy_open_generate_gives_the_same_winner(app, visit, page):
    page.fill("#n input", "12")
    settings(page, temperature=0.8, max_tokens=24)
    page.locator("#target label", has_text="negative").click()
    run(page)
    phase(page, "done", timeout=120_000)
    link = copied(page)
    assert set(parse_qs(urlsplit(link).query)) == {"prompt", "n", "target", "temperature", "max_tokens", "seed"}
    assert page.url.rstrip("/") == app.url
    other = visit(SimpleNamespace(url=link))
    expect(notice(other)).to_be_visible()
    expect(other.locator("#seed input")).to_have_value(re.compile(r"\d+"))
    expect(other.locator("#target label.selected")).to_have_text("negative")
    run(other)
    phase(other, "done", timeout=120_000)
    assert winner(other) == winner(page)
    assert other.text_content(".points b") == page.text_content(".points b")
    return other


def labels_of_another_scorer_survive_its_loading(app, page, lm_folder, classifier_folder):
    asked = {"model": lm_folder, "scorer": classifier_folder, "target": "NEGATIVE"}
    page.goto(f"{app.url}/?{urlencode(asked)}")
    expect(page.locator(".chips")).to_contain_text(classifier_folder, timeout=60_000)
    expect(page.locator("#target label.selected")).to_have_text("negative")
