"""Messages by key: their English text, how they reach the page and return, and that every error and note has a key."""

import ast
import json
import pickle

import pytest

from bon import errors, messages
from bon.errors import BonError, InputError, ModelError
from bon.messages import decode_messages, describe, encode_messages, join, replace_text, restore, say, shorten
from bon.settings import Settings
from tests.support.browser import ROOT


def test_a_message_is_its_english_text_and_knows_key_and_values():
    message = say("error.prompt_too_long", tokens="513", new="8", model="tiny", limit="512", most="504")
    assert message == ("The prompt has 513 tokens and up to 8 new ones are requested, but tiny holds 512 in all: "
                       "at most 504 for the prompt. Shorten it, or lower max_tokens.")
    assert message.key == "error.prompt_too_long"
    assert message.values["limit"] == "512"
    assert say("tokens", n=1) == "1 token"
    assert say("tokens", n=12345) == "12,345 tokens"


def test_an_error_carries_key_and_values_through_pickle_and_text():
    with pytest.raises(InputError) as raised:
        Settings(n=0)
    error = pickle.loads(pickle.dumps(raised.value))
    for copy in (raised.value, error):
        assert str(copy) == "n must be a whole number from 1 to 4096, not 0."
        assert (copy.field, copy.key) == ("n", "error.not_whole_from_to")
        assert copy.values == {"name": "n", "least": "1", "most": "4096", "value": "0"}
    plain = BonError("Nobody has a key for this.")
    assert (plain.message, plain.key, plain.values) == ("Nobody has a key for this.", None, {})


def test_a_message_keeps_its_key_and_values_through_json():
    inner = say("error.prompt_empty")
    outer = join([say("error.numbered_prompt", number="3", error=inner), "plain", ""], " ")
    assert outer == f"Prompt 3: {inner} plain"
    view = {"notes": [outer, "as it is"], "n": 3}
    back = decode_messages(json.loads(json.dumps(encode_messages(view))))
    assert back == view
    assert back["notes"][0].parts[0].values["error"].key == "error.prompt_empty"


@pytest.mark.parametrize("description", [
    None, 7, "x", [], {}, {"key": "no.such"}, {"key": "tokens"}, {"key": "tokens", "values": {}},
    {"key": ["tokens"], "values": {"n": 1}}, {"key": "chip.model", "values": {"name": [1]}},
    {"parts": 5, "separator": " "}, {"parts": [{"key": "no.such", "values": {}}], "separator": " "},
    {"parts": ["a", "b"], "separator": 3},
])
def test_a_record_with_a_broken_key_shows_its_english(description):
    text = restore("As it was written.", description)
    assert text == "As it was written."
    assert describe(text) is None


def test_a_restored_message_says_what_the_record_says():
    text = restore("Worded as of old.", {"key": "note.stopped", "values": {"scored": "1", "of": "2"}})
    assert text == "Worded as of old."
    assert describe(text) == {"key": "note.stopped", "values": {"scored": "1", "of": "2"}}


def test_texts_are_replaced_and_shortened_within_the_values_of_messages():
    message = say("error.input_changed", path="/tmp/x/in.csv", resume="--resume")
    page = replace_text(replace_text(message, "/tmp/x/", ""), "--resume", say("batch.resume"))
    assert page.startswith("in.csv changed after the run began")
    assert "continue with Resume" in page
    assert page.values["resume"].key == "batch.resume"
    assert replace_text("a plain /tmp/x/ text", "/tmp/x/", "") == "a plain  text"
    long = say("error.model_unreadable", model="m", error="e" * 5000)
    assert len(shorten(long, 100)) < 200
    assert shorten("e" * 5000, 100) == "e" * 100


#: What makes an error or a note, and which of its arguments is the text.
TEXT_ARGUMENT = {name: -1 for name in vars(errors) if name.endswith("Error")} | {"Note": 0, "_note": 0, "Step": "note"}


def texts_without_key(source: str) -> list[str]:
    """The calls in Python source that give an error or a note a plain text in place of a keyed message."""
    calls = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            argument = TEXT_ARGUMENT.get(name)
            if isinstance(argument, str):
                text_arguments = [keyword.value for keyword in node.keywords if keyword.arg == argument]
            else:
                text_arguments = node.args[argument:][:1] if argument is not None and node.args else []
            if any(isinstance(text, ast.Constant | ast.JoinedStr | ast.BinOp) for text in text_arguments):
                calls.append(ast.unparse(node))
    return calls


def test_every_error_and_note_has_a_key():
    assert texts_without_key('raise InputError("n", "no")\nStep(note=f"a {b}")\nraise ModelError(say("x"))') == [
        "InputError('n', 'no')", "Step(note=f'a {b}')"]
    plain = {str(file.relative_to(ROOT)): calls for file in (ROOT / "bon").rglob("*.py")
             if (calls := texts_without_key(file.read_text(encoding="utf-8")))}
    assert plain == {}


def test_errors_that_bon_raises_without_a_key_fail_the_test_that_meets_them(errors_without_key):
    exec(compile("ModelError('no key')", "x", "exec"), {"ModelError": ModelError, "__name__": "bon.elsewhere"})
    assert errors_without_key == ["ModelError: no key"]
    errors_without_key.clear()
    ModelError("made by a test")
    assert errors_without_key == []


def test_the_tables_are_read_once_and_english_comes_first():
    assert next(iter(messages.tables())) == "en"
    assert messages.tables() is messages.tables()
