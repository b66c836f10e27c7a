"""Bad input is refused before any work, with the field at fault and what to do."""

import math
import pickle

import numpy as np
import pytest
import torch

import bon
from bon.errors import BonError, InputError
from bon.settings import SEED_MAX, Request, Sampling, Settings, clean, read_escapes, write_escapes

CHAT = [{"role": "user", "content": "Hello"}]


def settings_error(**settings):
    with pytest.raises(InputError) as error:
        Settings(**settings)
    return error.value


@pytest.mark.parametrize("name", ["n", "keep", "min_tokens", "max_tokens"])
@pytest.mark.parametrize("value", [
    0, -1, 10**7, pytest.param(10**5000, id="huge"), 2.5, math.nan, math.inf, "16", "many", True, [4], 1 + 2j,
])
def test_a_count_that_is_no_whole_number_in_range_is_refused_by_name(name, value):
    error = settings_error(**{"n": 4096, "max_tokens": 100_000, name: value})
    assert error.field == name
    assert name in str(error)


@pytest.mark.parametrize("name", ["n", "reject", "select", "softness", "stop"])
def test_none_is_refused_where_a_value_is_needed(name):
    assert settings_error(**{name: None}).field == name


def test_a_setting_of_none_takes_the_filled_value_or_else_its_default():
    settings = Settings(temperature=None, max_tokens=9)
    assert (settings.temperature, settings.max_tokens, settings.model) == (None, 9, None)
    assert settings.lengths == (8, 9)
    assert settings.sampling == Sampling(1.0, 0, 1.0)
    filled = settings.filled(temperature=0.6, max_tokens=99)
    assert (filled.temperature, filled.max_tokens, filled.model, filled.unit) == (0.6, 9, "embedded", "probability")
    assert filled.filled(temperature=0.1) == filled


def test_a_run_records_the_values_that_were_used():
    settings = bon.best_of_n("This movie", n=2, temperature=None, model="embedded", seed=1).settings
    assert settings == Settings(n=2, seed=1).filled()


def test_n_may_go_from_1_to_4096():
    assert (Settings(n=1).n, Settings(n=4096).n) == (1, 4096)
    assert "from 1 to 4096, not 4097" in str(settings_error(n=4097))


def test_keep_cannot_exceed_n_and_the_error_names_both():
    error = settings_error(n=4, keep=5)
    assert error.field == "keep"
    assert "keep is 5" in str(error)
    assert "n = 4" in str(error)
    assert Settings(n=4, keep=4).keep == 4


def test_min_tokens_cannot_exceed_max_tokens_and_the_error_names_both():
    error = settings_error(min_tokens=9, max_tokens=8)
    assert error.field == "min_tokens"
    assert "min_tokens (9) is above max_tokens (8)" in str(error)
    assert Settings(min_tokens=8, max_tokens=8).min_tokens == 8


@pytest.mark.parametrize("value", [
    "", [""], ["a", ""], ["a"] * 9, ["a" * 65], 5, [5], None, b"a", {"a": "b"}, iter("ab"), {"a"}])
def test_stop_strings_that_cannot_be_are_refused_by_name(value):
    error = settings_error(stop=value)
    assert (error.field, "stop" in str(error)) == ("stop", True)


def test_stop_strings_are_a_list_or_a_single_one_and_have_a_line_each_on_the_form():
    stops = ("\n\n", " the ", "\\end\\\\n", "\t\r", "é" * 64, "\ud800")
    settings = Settings(stop=stops)
    assert settings.stop == (*stops[:-1], "\ufffd")
    assert Settings(stop="User:").stop == ("User:",)
    assert settings.to_dict()["stop"] == list(settings.stop)
    assert Settings.of(settings.to_dict()) == settings
    lines = list(map(write_escapes, settings.stop))
    assert not any("\n" in line for line in lines)
    assert tuple(map(read_escapes, lines)) == settings.stop


@pytest.mark.parametrize("value", [0, 0.0, -0.5, math.nan, math.inf, -math.inf, "1", "warm", True, [1.0], 10**400])
def test_a_temperature_that_is_no_finite_number_above_zero_is_refused(value):
    assert settings_error(temperature=value).field == "temperature"


@pytest.mark.parametrize("value", [0, 0.0, -0.1, 1.0001, 2, math.nan, math.inf, "0.9", True])
def test_a_top_p_outside_zero_to_one_is_refused(value):
    assert settings_error(top_p=value).field == "top_p"


@pytest.mark.parametrize("value", [-1, 1.5, math.nan, "5", True])
def test_a_top_k_that_is_negative_or_not_whole_is_refused(value):
    assert settings_error(top_k=value).field == "top_k"


@pytest.mark.parametrize("value", [-1, 2**53, 1.5, math.nan, "7", True])
def test_a_seed_that_a_browser_could_not_hold_is_refused(value):
    assert settings_error(seed=value).field == "seed"


def test_the_largest_seed_is_exact_in_a_double():
    assert int(float(Settings(seed=SEED_MAX).seed)) == SEED_MAX


@pytest.mark.parametrize("value", ["percent", "", 1, ["logit"], "Probability"])
def test_an_unknown_unit_is_refused_with_the_units_there_are(value):
    error = settings_error(unit=value)
    assert error.field == "unit"
    assert "probability, logit, margin" in str(error)


@pytest.mark.parametrize("name", ["model", "scorer", "target"])
@pytest.mark.parametrize("value", ["", "  ", 5, ["gpt2"]])
def test_a_name_that_is_no_text_is_refused(name, value):
    assert settings_error(**{name: value}).field == name


def test_an_unknown_setting_is_refused_with_the_settings_there_are():
    with pytest.raises(InputError, match=r"no setting 'samples'\. The settings are: n, target, min_tokens") as error:
        Settings.of({"n": 4, "samples": 4})
    assert error.value.field == "samples"


def test_whole_numbers_of_any_kind_become_ints():
    settings = Settings(n=np.int64(4), keep=2.0, top_k=np.float64(5.0), seed=torch.tensor(3), max_tokens=np.uint8(40))
    values = (settings.n, settings.keep, settings.top_k, settings.seed, settings.max_tokens)
    assert values == (4, 2, 5, 3, 40)
    assert {type(value) for value in values} == {int}


def test_numbers_of_any_kind_become_floats():
    settings = Settings(temperature=np.float32(0.5), top_p=1)
    assert (settings.temperature, settings.top_p) == (0.5, 1.0)
    assert {type(settings.temperature), type(settings.top_p)} == {float}


def test_a_missing_seed_is_drawn_and_a_given_one_kept():
    assert Settings(seed=5).with_seed().seed == 5
    seeds = {Settings().with_seed().seed for _ in range(20)}
    assert len(seeds) > 15
    assert all(0 <= seed <= SEED_MAX for seed in seeds)


def test_values_cannot_be_changed_afterwards():
    with pytest.raises(AttributeError):
        Settings().n = 0


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t ", "\u00a0\u3000", None])
def test_a_blank_prompt_is_refused_unless_an_unconditional_sample_is_asked_for(prompt):
    with pytest.raises(InputError, match=r"The prompt is empty\. Write a few words") as error:
        Request(prompt)
    assert error.value.field == "prompt"
    assert Request(prompt, unconditional=True).unconditional


@pytest.mark.parametrize("prompt", [5, ["This movie"], b"This movie", 1.5, True])
def test_a_prompt_that_is_no_text_is_refused(prompt):
    with pytest.raises(InputError, match="must be a text") as error:
        Request(prompt)
    assert error.value.field == "prompt"


@pytest.mark.parametrize("prompt", [
    "😀👩‍👩‍👧", "שלום עולם", "\x00\x07\x1b[31m", "<script>alert(1)</script>", "${HOME} {{x}} %s", "a" * 100_000,
    " leading and trailing ", "\ufffd",
])
def test_strange_prompts_pass_unchanged(prompt):
    assert Request(prompt).prompt == prompt


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [("a\ud800b", "a\ufffdb"), ("\udfff", "\ufffd"), ("\ud83d\ude00", "😀"), ("\ude00\ud83d", "\ufffd\ufffd")],
)
def test_lone_surrogates_are_replaced_and_pairs_joined(text, cleaned):
    assert clean(text) == Request(text).prompt == cleaned
    assert Request(messages=[{"role": "user", "content": text}]).messages[0]["content"] == cleaned


def test_every_text_of_a_message_can_be_encoded():
    (message,) = Request(messages=[{"role": "user\ud800", "content": "Hi", "name": "\udfff"}]).messages
    assert all(value.encode("utf-8") for value in message.values())


@pytest.mark.parametrize("messages", [
    [], (), "Hello", {"role": "user", "content": "Hello"}, 5, ["Hello"], [None], [{"role": "user"}],
    [{"content": "Hello"}], [{"role": "user", "content": None}], [{"role": 1, "content": "Hello"}],
    [{"role": "user", "content": " "}], [*CHAT, {"role": "user", "content": ""}], iter(CHAT),
])
def test_messages_that_are_no_chat_are_refused(messages):
    with pytest.raises(InputError) as error:
        Request(messages=messages)
    assert error.value.field == "messages"


def test_messages_are_kept_as_they_are():
    chat = [{"role": "system", "content": ""}, {"role": "user", "content": "Hello", "name": "Ann"}]
    assert list(Request(messages=chat).messages) == chat


@pytest.mark.parametrize("other_prompt", [{"messages": CHAT}, {"prompt_ids": (1, 2)}])
def test_two_kinds_of_prompt_at_once_are_refused(other_prompt):
    with pytest.raises(InputError, match="not both"):
        Request("This movie", **other_prompt)


def test_bad_input_is_both_an_error_of_bon_and_a_value_error():
    error = settings_error(n=0)
    assert isinstance(error, BonError)
    assert isinstance(error, ValueError)


def test_an_input_error_crosses_a_process_boundary_whole():
    copy = pickle.loads(pickle.dumps(InputError("n", "n is wrong.")))
    assert (copy.field, str(copy)) == ("n", "n is wrong.")
