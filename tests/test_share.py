"""Links with settings: what the query string fills in, without a browser and in one."""

import json
from types import SimpleNamespace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from bon.ui import handlers, layout, render, share
from tests import test_page
from tests.test_page import NASTY, PHONE, phase, run, settings, sideways, winner
from tests.test_view import page as form_of

browser, app, stage, visit, _served = (
    test_page.browser, test_page.app, test_page.stage, test_page.visit, test_page._served
)
CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}
HARMLESS = {"view": "present", "__theme": "dark", "utm_source": "mail", "run": "1"}


def test_a_full_query_string_fills_the_form():
    query = {"prompt": " Hi ", "n": "32", "target": "NEGATIVE", "min_tokens": "4", "max_tokens": "9", "seed": "7",
             "temperature": "0.7", "top_p": "0.9", "top_k": "40", "model": "gpt2-imdb", "scorer": "logprob",
             "reject": "0.5", "select": "soft", "softness": "0.3"}
    assert share.accepted(query, form_of()) == ({
        "prompt": " Hi ", "n": 32, "target": "NEGATIVE", "min_tokens": 4, "max_tokens": 9, "seed": "7",
        "temperature": 0.7, "top_p": 0.9, "top_k": 40, "model": "gpt2-imdb", "scorer": "logprob",
        "reject": True, "select": "soft", "softness": 0.3,
    }, [])


def test_what_is_meant_for_others_is_nobodys_fault():
    assert share.accepted(HARMLESS, form_of()) == ({}, [])


@pytest.mark.parametrize(("name", "value", "words"), [
    ("n", "0", "from 1 to 256"), ("n", "many", "'many'"), ("n", "1e400", "n must be"), ("n", "257", "257"),
    ("temperature", "0", "above 0"), ("temperature", "nan", "number"), ("top_p", "2", "at most 1"),
    ("top_k", "-1", "at least 0"), ("seed", "-1", "seed"), ("seed", "soon", "soon"), ("reject", "0.3", "half (0.5)"),
    ("select", "median", "median"), ("softness", "0", "above 0"), ("target", "JOY", "POSITIVE and NEGATIVE"),
    ("max_tokens", "4", "cannot exceed"), ("min_tokens", "40", "cannot exceed"), ("max_tokens", "0", "max_tokens"),
    ("unit", "logit", "on this page"), ("temprature", "1", "mean temperature"),
])
def test_what_cannot_work_is_ignored_with_a_word_and_the_rest_stands(name, value, words):
    given, ignored = share.accepted({"prompt": "Hi", "select": "best", name: value}, form_of())
    assert given == {k: v for k, v in {"prompt": "Hi", "select": "best"}.items() if k != name}
    assert len(ignored) == 1
    assert words in ignored[0]


def test_all_that_is_wrong_is_said_at_once():
    query = {"n": "0", "temperature": "x", "top_p": "9", "min_tokens": "90", "max_tokens": "4", "seed": "?"}
    given, ignored = share.accepted(query, form_of())
    assert given == {}
    assert len(ignored) == 6
    assert share.accepted({name: NASTY for name in handlers.FIELDS}, form_of())[0].keys() == {
        "prompt", "model", "scorer", "target",
    }


def test_a_blank_value_is_none():
    assert share.accepted(dict.fromkeys(handlers.FIELDS, " "), form_of()) == ({}, [])


def test_labels_of_other_scorers_are_taken_on_trust():
    assert share.accepted({"target": "LABEL_1", "scorer": "some/scorer"}, form_of())[0]["target"] == "LABEL_1"


def test_the_answer_has_a_value_for_every_output():
    answer = share.linked(form_of(), SimpleNamespace(query_params={"n": "200", "seed": "x"}))
    assert len(answer) == len(handlers.FIELDS) + 2
    assert answer[-2] == 64
    assert answer[-1]["linked"] is True
    assert share.linked(form_of(), SimpleNamespace(query_params={}))[-1]["linked"] is False
