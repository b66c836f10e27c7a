"""Links with settings: what the query string fills in, without a browser and in one."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from bon.ui.generate import run_view, share_links
from bon.ui.generate.form_values import FIELDS
from bon.ui.hosting.deployment import Deployment
from tests.support.browser import DRAWN, layout_faults, wait_until_ready
from tests.support.forms import accept, request_of
from tests.ui.test_page import CLIPBOARD, NASTY, expect_phase, fill_settings, run, winner
from tests.ui.test_run_view import form_inputs, run_with_scores

HARMLESS = {"view": "present", "__theme": "dark", "utm_source": "mail", "run": "1"}


def test_a_full_query_string_fills_the_form():
    query = {"prompt": " Hi ", "n": "32", "target": "NEGATIVE", "min_tokens": "4", "max_tokens": "9", "seed": "7",
             "temperature": "0.7", "top_p": "0.9", "top_k": "40", "model": "gpt2-imdb", "scorer": "logprob",
             "reject": "0.5", "select": "soft", "softness": "0.3", "stop": "\\n\n User:"}
    assert accept(query, form_inputs()) == ({
        "prompt": " Hi ", "n": 32, "target": "NEGATIVE", "min_tokens": 4, "max_tokens": 9, "seed": "7",
        "temperature": 0.7, "top_p": 0.9, "top_k": 40, "model": "gpt2-imdb", "scorer": "logprob",
        "reject": True, "select": "soft", "softness": 0.3, "stop": "\\n\n User:",
    }, [])


def test_parameters_of_others_are_ignored_without_a_warning():
    assert accept(HARMLESS, form_inputs()) == ({}, [])


@pytest.mark.parametrize(("name", "value", "message"), [
    ("n", "0", "from 1 to 256"), ("n", "many", "'many'"), ("n", "1e400", "n must be"), ("n", "257", "257"),
    ("temperature", "0", "above 0"), ("temperature", "nan", "number"), ("top_p", "2", "at most 1"),
    ("top_k", "-1", "at least 0"), ("seed", "-1", "seed"), ("seed", "soon", "soon"),
    ("seed", "9" * 4301, "seed must be"), ("n", "9" * 4301, "n must be"), ("reject", "0.3", "0.5 (on)"),
    ("select", "median", "median"), ("softness", "0", "above 0"), ("target", "JOY", "POSITIVE and NEGATIVE"),
    ("max_tokens", "4", "above max"), ("min_tokens", "40", "above max"), ("max_tokens", "0", "max_tokens"),
    ("stop", "a" * 65, "64"), ("stop", "a\n" * 9, "8"),
    ("unit", "logit", "on this page"), ("temprature", "1", "mean temperature"),
])
def test_a_wrong_value_is_ignored_with_its_reason_and_the_others_fill_the_form(name, value, message):
    accepted, ignored = accept({"prompt": "Hi", "select": "best", name: value}, form_inputs())
    assert accepted == {k: v for k, v in {"prompt": "Hi", "select": "best"}.items() if k != name}
    assert len(ignored) == 1
    assert message in ignored[0]


def test_all_wrong_values_are_reported_at_once():
    query = {"n": "0", "temperature": "x", "top_p": "9", "min_tokens": "90", "max_tokens": "4", "seed": "?"}
    accepted, ignored = accept(query, form_inputs())
    assert accepted == {}
    assert len(ignored) == 6
    assert accept(dict.fromkeys(FIELDS, NASTY), form_inputs())[0].keys() == {
        "prompt", "model", "scorer", "target",
    }


def test_a_blank_value_counts_as_missing():
    assert accept(dict.fromkeys(FIELDS, " ") | {"stop": ""}, form_inputs()) == ({}, [])
    assert accept({"stop": " "}, form_inputs()) == ({"stop": " "}, [])  # texts may end at a space


def test_labels_of_other_scorers_are_accepted_unchecked():
    assert accept({"target": "LABEL_1", "scorer": "some/scorer"}, form_inputs())[0]["target"] == "LABEL_1"


def test_the_answer_has_the_values_of_a_link_and_says_whether_there_is_one():
    answer = share_links.fill_form({"n": "200", "seed": "x"}, form_inputs(), Deployment())
    assert (answer["values"], len(answer["ignored"]), answer["linked"]) == ({"n": 200, "finish": False}, 1, True)
    assert list(answer["defaults"]) == list(FIELDS)
    answer = share_links.fill_form({}, form_inputs(), Deployment())
    assert (answer["values"], answer["ignored"], answer["linked"]) == ({}, [], False)


# In the browser.


def open_link(visit, where, context=None, **query):
    """A page opened by a link."""
    return visit(SimpleNamespace(url=f"{where.url}/?{urlencode(query)}"), **context or {})


def copy_link(page) -> str:
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    return page.evaluate("navigator.clipboard.readText()")


def notice(page):
    return page.locator(".linked")


def test_a_link_fills_the_form_and_a_run_makes_one(stage, visit):
    page = open_link(visit, stage, prompt="The hotel é & <b>", n=200, target="NEGATIVE", temperature=0.5, seed=7,
                     reject=0.5, select="soft", softness=0.2, run=1, scorer="logprob", view="later", __sign="secret")
    a_link_fills_the_form_and_runs_nothing(stage, page)
    the_link_of_a_run_has_its_changed_settings(page)
    run(page)
    expect_phase(page, "done")
    expect(notice(page)).to_be_hidden()
    assert winner(page).startswith("The hotel é & <b>")


def a_link_fills_the_form_and_runs_nothing(stage, page):
    expect(notice(page)).to_contain_text("Press Generate to run it.")
    expect(page.locator("#prompt textarea")).to_have_value("The hotel é & <b>")
    for field, value in {"n": "200", "n-slider": "64", "temperature": "0.5", "seed": "7", "softness": "0.2",
                         "scorer": "log-probability", "select": "a weighted draw"}.items():
        expect(page.locator(f"#{field} input:not([aria-hidden=true])").last).to_have_value(value)
    expect(page.locator("#reject input")).to_be_checked()
    expect(page.locator("#finish input")).not_to_be_checked()  # the link leaves it out, as those made before it do
    expect(page.locator("#target label.selected")).to_have_text("negative")
    expect(page.locator("#settings-line")).to_contain_text("seed 7")
    page.evaluate(DRAWN)
    expect_phase(page, "empty")  # no sample of another prompt beside it
    expect(page.locator(".bon .hero")).to_be_hidden()
    assert page.evaluate("bon.historyStore.all()") == []  # nor among the visitor's runs
    assert stage.runs == 0
    assert "run=1" in page.url
    assert "view=later" in page.url


def the_link_of_a_run_has_its_changed_settings(page):
    record = json.dumps(run_view.record(run_with_scores([0.2, 0.9, 0.4]).result()))
    link = page.evaluate("(record) => bon.shareLink(JSON.parse(record))", record)
    other_parameters = {"view": ["later"], "run": ["1"]}
    assert parse_qs(urlsplit(link).query) == {**other_parameters, "prompt": ["This movie"], "n": ["3"], "seed": ["7"]}
    all_settings = {"n": 200, "target": "NEGATIVE", "min_tokens": 2, "max_tokens": 9, "temperature": 0.7, "top_p": 0.9,
                    "top_k": 40, "model": "gpt2-imdb", "scorer": "logprob", "reject": 0.5, "select": "worst",
                    "softness": 0.3, "seed": 2**53 - 1, "stop": ["\n", " a\\b"], "repetition_penalty": 1.2}
    record_with_all = json.loads(record) | {"prompt": f" {NASTY} "}
    record_with_all["settings"] |= all_settings
    link = page.evaluate("(record) => bon.shareLink(record)", record_with_all)
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    accepted, ignored = accept(query, form_inputs())
    assert ignored == []
    assert accepted == all_settings | {"prompt": record_with_all["prompt"], "seed": str(2**53 - 1), "reject": True,
                                        "stop": "\\n\n a\\\\b"}
    of_preset = record_with_all | {"settings": record_with_all["settings"] | {
        "model": "smollm2", "temperature": 1, "top_p": 0.9, "min_tokens": 16, "max_tokens": 32}}
    query = parse_qs(urlsplit(page.evaluate("(record) => bon.shareLink(record)", of_preset)).query)
    # What the preset brings along is left out, and no other value: the default too is one.
    assert {name: query.get(name) for name in ("temperature", "top_p", "min_tokens", "max_tokens")} == {
        "temperature": ["1"], "top_p": None, "min_tokens": None, "max_tokens": ["32"]}
    stops = request_of(form_inputs(**accepted)).settings.stop
    assert stops == tuple(all_settings["stop"])


def test_wrong_values_of_a_link_are_listed_and_the_others_filled_in(stage, visit, axe):
    page = open_link(visit, stage, prompt="Hi", n=0, seed="<img src=x onerror=window.hacked=1>", temprature=2)
    expect(notice(page).locator("li")).to_have_count(3)
    expect(notice(page)).to_contain_text("from 1 to 256")
    expect(notice(page)).to_contain_text("<img")
    expect(notice(page)).to_contain_text("Did you mean temperature?")
    expect(page.locator("#prompt textarea")).to_have_value("Hi")
    expect(page.locator("#n input")).to_have_value("16")
    assert page.evaluate("window.hacked") is None
    assert layout_faults(page, axe) == []
    page.get_by_role("button", name="Dismiss").click()
    expect(notice(page)).to_be_hidden()


def test_links_carry_every_prompt_that_is_not_too_long_and_only_links_show_a_notice(stage, visit):
    page = open_link(visit, stage, CLIPBOARD, view="later", utm_source="mail")
    a_page_without_a_link_shows_no_notice(page)
    a_prompt_too_long_for_a_link_is_refused(page)
    for prompt in (NASTY, "a\nb\tc  d ", "é\U0001f600\u202e&=#%+?", "wort " * 900):
        a_prompt_arrives_unchanged(stage, page, prompt)


def a_page_without_a_link_shows_no_notice(page):
    page.evaluate(DRAWN)
    expect(notice(page)).to_be_hidden()
    expect(page.locator("#prompt textarea")).to_have_value("This movie")


def a_prompt_too_long_for_a_link_is_refused(page):
    page.fill("#prompt textarea", "word " * 3000)
    run(page)
    expect_phase(page, "done")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Too long for a link")).to_be_visible()


def a_prompt_arrives_unchanged(stage, page, prompt):
    page.goto(f"{stage.url}/?{urlencode({'prompt': prompt})}")
    wait_until_ready(page)
    expect(page.locator("#prompt textarea")).to_have_value(prompt)
    assert page.evaluate("window.hacked") is None


def test_a_link_of_the_real_app_gives_the_same_winner_with_its_scorer(app, visit, lm_folder, classifier_folder):
    page = visit(app, **CLIPBOARD)
    linked_page = run_copy_open_generate_gives_the_same_winner(app, visit, page)
    labels_of_another_scorer_survive_its_loading(app, linked_page, lm_folder, classifier_folder)


def run_copy_open_generate_gives_the_same_winner(app, visit, page):
    page.fill("#n input", "12")
    fill_settings(page, temperature=0.8, max_tokens=24)
    page.locator("#target label", has_text="negative").click()
    run(page)
    expect_phase(page, "done", timeout=120_000)
    link = copy_link(page)
    assert set(parse_qs(urlsplit(link).query)) == {
        "prompt", "n", "target", "temperature", "max_tokens", "seed", "finish"}
    assert page.url.rstrip("/") == app.url
    linked_page = visit(SimpleNamespace(url=link))
    expect(notice(linked_page)).to_be_visible()
    expect(linked_page.locator("#seed input")).to_have_value(re.compile(r"\d+"))
    expect(linked_page.locator("#target label.selected")).to_have_text("negative")
    run(linked_page)
    expect_phase(linked_page, "done", timeout=120_000)
    assert winner(linked_page) == winner(page)
    assert linked_page.text_content(".points b") == page.text_content(".points b")
    return linked_page


def labels_of_another_scorer_survive_its_loading(app, page, lm_folder, classifier_folder):
    query = {"model": lm_folder, "scorer": classifier_folder, "target": "NEGATIVE", "n": 2}
    page.goto(f"{app.url}/?{urlencode(query)}")
    expect(page.locator(".chips")).to_contain_text("loads with Generate", timeout=60_000)
    run(page)
    expect(page.locator(".chips")).to_contain_text(Path(classifier_folder).name, timeout=60_000)
    expect(page.locator("#target label.selected")).to_have_text("negative")


@pytest.mark.parametrize(("model", "scorer", "environment", "expected"), [
    ("embedded", "", {}, True), ("embedded", None, {}, True), ("embedded", "logprob", {}, True),
    ("smollm2", "", {}, True), ("smollm2:other.gguf", "logprob", {}, True), ("smollm2", "judge", {}, False),
    ("embedded", "embedded", {}, True), ("embedded", "judge", {}, True), ("embedded", "weak", {}, True),
    ("embedded", "0.7*embedded + 0.3*self-certainty", {}, True), (None, None, {"BON_MODEL": "/own"}, True),
    ("/own", "someone/own", {"BON_MODEL": "/own", "BON_SCORER": "someone/own"}, True),
    ("/own", "0.5*/a+0.5*/b", {"BON_MODEL": "/own", "BON_SCORER": "0.5*/a+0.5*/b"}, True),
    ("someone/listed", "someone/unlisted", {"BON_PUBLIC": "1", "BON_MODELS": "someone/listed"}, True),
    ("/folder", "", {}, False), ("./embedded", "", {}, False), ("gpt2-imdb", "", {}, False),
    ("someone/model", "logprob", {}, False), ("~", "", {}, False), ("\\\\host\\share", "", {}, False),
    ("embedded", "/folder", {}, False), ("embedded", "someone/scorer", {}, False), ("embedded", "gpt2-imdb", {}, False),
    ("embedded", "0.5*embedded+0.5*/folder", {}, False), ("embedded", "0.5*embedded*/folder", {}, False),
    ("embedded", "+/folder", {}, False), ("/own", "judge", {"BON_MODEL": "/own"}, False),
])
def test_what_a_link_may_load_before_anybody_asks_for_a_run(model, scorer, environment, expected):
    assert Deployment.of(environment).is_at_hand(model, scorer) == expected


def test_opening_a_link_loads_no_model_that_it_names(stage, page_state, visit, monkeypatch):
    loaded, load = [], page_state.models.load

    def record(settings):
        loaded.append((settings.model, settings.scorer))
        return load(settings)

    monkeypatch.setattr(page_state.models, "load", record)
    page = visit(stage)
    chips = page.locator(".chips")
    for named in ({"model": "someone/model"}, {"scorer": "/folder"}, {"model": "/folder", "scorer": "logprob"}):
        loaded.clear()
        page.goto(f"{stage.url}/?{urlencode({'prompt': 'Hi', **named})}")
        wait_until_ready(page)
        expect(chips).to_contain_text(f"model: {named.get('model', 'embedded').removeprefix('/')}")
        expect(chips).to_contain_text("loads with Generate")
        assert loaded == []
    page.reload()  # the form that the browser kept
    wait_until_ready(page)
    expect(chips).to_contain_text("loads with Generate")
    assert loaded == []
    stage.play.go.set()
    run(page)
    expect_phase(page, "done")
    expect(chips).not_to_contain_text("loads with Generate")
    assert set(loaded) == {("/folder", "logprob")}
    page.goto(f"{stage.url}/?scorer=logprob")
    wait_until_ready(page)
    expect(chips).not_to_contain_text("loads with Generate")
    assert loaded[-1] == ("embedded", "logprob")
