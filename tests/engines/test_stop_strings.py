"""Stop strings: where a text ends, what of it is kept, and that no piece of one is ever shown."""

import dataclasses
import math
from itertools import product

import pytest
import torch
from transformers import StopStringCriteria

import bon
from bon import flow
from bon.engines.local.engine import LocalEngine
from bon.engines.stop_strings import certain_length, find_stop
from bon.events import Done, Ended, Wrote
from bon.run_state import drawing_logprob
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.logprob import MeanLogprobScorer
from bon.settings import Request, Settings
from bon.stats.lengths import LengthSampler
from tests.engines.test_local_engine import Scripted
from tests.support import tiny


def by_length(texts):
    return [float(len(text)) for text in texts]


def make_request(prompt="This movie", **settings):
    return Request(prompt, Settings(**{"n": 12, "seed": 7, "min_tokens": 20, "max_tokens": 40} | settings))


def run(engine, request, scorer=None):
    result = flow.run(request, engine, scorer or CallableScorer(by_length))
    return sorted(result.candidates, key=lambda c: c.index)


# Where a stop string ends a text.


@pytest.mark.parametrize(("text", "stops", "kept"), [
    ("a cat.", ["."], "a cat"), ("a cat.", ["!", "at", "cat"], "a "), ("abc", ["abc", "b"], "a"),
    ("xab", ["ab", "b"], "x"), ("xab", ["a", "ab"], "x"), ("aab", ["ab"], "a"), ("stop", ["stop"], ""),
    ("no end", ["\n"], None), ("", ["a"], None), ("🎉!", ["🎉"], ""), ("any", [], None),
])
def test_the_stop_string_that_is_complete_first_ends_the_text(text, stops, kept):
    place = find_stop(text, stops)
    assert (None if place is None else text[:place]) == kept


@pytest.mark.parametrize("stops", [["ab"], ["aab", "bb"], ["aba", "b"], ["abab", "aabb"], []])
def test_a_text_is_searched_and_shown_as_if_it_came_character_by_character(stops):
    for letters in product("ab", repeat=7):
        text = "".join(letters)
        first = next((i for i in range(8) if any(text[:i].endswith(stop) for stop in stops)), None)
        place = find_stop(text, stops)
        assert (place is None) == (first is None)
        for searched in range(8 if first is None else first):
            assert find_stop(text, stops, searched) == place
            # No text that goes on so ends before what was shown of its beginning.
            assert certain_length(text[:searched], stops) <= (7 if place is None else place)
        if first is not None and place is not None:
            assert text[place:first] in stops
            assert not any(stop in text[:place] for stop in stops)
    assert certain_length("babaa", ["aab"]) == 3


# In this process.


def substrings(text):
    """Some parts of a text, without bytes that are no character; most begin or end within a token."""
    parts = [text[place : place + length] for place, length in ((3, 1), (5, 2), (9, 3), (12, 5), (20, 8), (30, 4))]
    return [part for part in parts if part and "\ufffd" not in part]


def test_a_text_ends_at_the_token_at_which_transformers_criterion_ends_it(engine):
    full = run(engine, make_request())
    ended = 0
    for stops in ([["."], ["e", "zz"]] + [[stop] for c in full[:2] for stop in substrings(c.text)]):
        criterion = StopStringCriteria(engine.tokenizer, stops)
        for whole, candidate in zip(full, run(engine, make_request(stop=stops)), strict=True):
            ids = torch.tensor([whole.token_ids])
            stop = next((i for i in range(1, ids.shape[1] + 1) if criterion(ids[:, :i], None)[0]), None)
            assert candidate.ended == (whole.ended if stop is None else "stop_string")
            assert candidate.token_ids == whole.token_ids[:stop]
            expected = whole.text if stop is None else whole.text[: find_stop(whole.text, stops)]
            assert candidate.text == expected
            ended += stop is not None
    assert ended > 12


@torch.no_grad()
def test_the_kept_tokens_are_those_that_write_the_kept_text(engine):
    request = make_request(stop=["e", " a", "h"], temperature=0.7)
    ids = engine.encode(request).ids
    stopped = [c for c in run(engine, request, MeanLogprobScorer()) if c.ended == "stop_string" and not c.empty]
    assert any(c.tokens < len(c.token_ids) for c in stopped)
    for c in stopped:
        with_last, without_last = (len(engine.decode(c.token_ids[:count])) for count in (c.tokens, c.tokens - 1))
        assert with_last >= len(c.text) > without_last
        logits = engine.model(torch.tensor([[*ids, *c.token_ids]])).logits[0, len(ids) - 1 : -1]
        raw, shaped = ((logits / t).log_softmax(-1).gather(-1, torch.tensor(c.token_ids)[:, None])[:, 0]
                       for t in (1.0, 0.7))
        assert c.logprob == pytest.approx(raw[: c.tokens].sum().item(), rel=1e-4)
        assert c.score == pytest.approx(c.logprob / c.tokens)
        # What was drawn is more: the tokens of the stop string, and a cap that allows them.
        assert c.sampled_logprob == pytest.approx(shaped.sum().item(), rel=1e-4)
        lengths = LengthSampler(20, 41)
        caps = math.log(lengths.probability(len(c.token_ids), math.inf))
        assert drawing_logprob(c, lengths) == pytest.approx(c.sampled_logprob + caps)


@pytest.mark.parametrize("stops", [["e"], ["is a", " the"], ["lead earns every tear. Do"]])
def test_no_piece_of_a_stop_string_is_shown(engine, stops):
    state, shown, pieces = {}, 0, {}
    for event in flow.stream(make_request(stop=stops), engine, CallableScorer(by_length)):
        if isinstance(event, Wrote):
            for row in event.rows:
                state.setdefault(row.index, []).append(row)
        if isinstance(event, Ended):
            for row in state.get(event.candidate.index, ()):
                assert event.candidate.text.startswith(row.text)
                assert row.tokens <= event.candidate.tokens
            shown += any(row.text for row in state.get(event.candidate.index, ()))
        if isinstance(event, Done):
            pieces = {c.text: c.pieces for c in event.result.candidates}
    assert shown
    assert all("".join(piece for piece, _ in pieces[text]) == text for text in pieces)


def test_texts_are_the_same_whether_anybody_watches(engine):
    request = make_request(stop=["e", "ar"])
    (result,) = flow.run_many([request], engine, CallableScorer(by_length))
    unwatched = sorted(result.candidates, key=lambda c: c.index)
    facts = [[(c.text, c.tokens, c.ended, c.logprob) for c in cs] for cs in (run(engine, request), unwatched)]
    assert facts[0] == facts[1]


def scripted(text, prompt="This movie"):
    """An engine that writes this text, and its prompt's ids."""
    tokenizer = tiny.tokenizer()
    ids = tuple(tokenizer(prompt)["input_ids"])
    script = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
    return LocalEngine(Scripted(script, len(ids)), tokenizer, name="scripted"), script


@pytest.mark.parametrize(("text", "stops", "kept", "ended"), [
    (" ab🎉 more", ["🎉"], " ab", "stop_string"),
    (" 🎉🎂 more", ["🎂"], " 🎉", "stop_string"),
    (" ab🎉 more", ["\ufffd"], " ab🎉 more", "eos"),
    (" is all", ["movie is", "This"], " is all", "eos"),  # the prompt does not count
    (" is all", [" is"], "", "stop_string"),
    ("\n\nUser: hi", ["\n\n", "User:"], "", "stop_string"),
    (" one\nUser: hi", ["\n\n", "\nUser:"], " one", "stop_string"),
    (" a\tb", ["\t"], " a", "stop_string"),
])
def test_characters_of_several_tokens_and_the_prompts_border(text, stops, kept, ended):
    engine, script = scripted(text)
    (candidate,) = run(engine, make_request(n=1, min_tokens=60, max_tokens=60, stop=stops))
    assert (candidate.text, candidate.ended) == (kept, ended)
    decoded = [engine.decode(script[:count]) for count in range(len(script))]
    assert candidate.tokens == next(count for count, part in enumerate(decoded) if part.startswith(kept))


def test_a_stop_string_that_is_complete_at_the_cap_ends_the_text_and_a_begun_one_does_not():
    engine, script = scripted(" one two")
    cap = len(script) - 1
    for stop, ended, text in (("two", "stop_string", " one "), ("two!", "length", " one two")):
        (candidate,) = run(engine, make_request(n=1, min_tokens=cap, max_tokens=cap, stop=[stop]))
        assert (candidate.text, candidate.ended) == (text, ended)
        assert "".join(piece for piece, _ in candidate.pieces) == text
        assert sum(logprob for _, logprob in candidate.pieces) == pytest.approx(candidate.logprob)


def test_texts_that_begin_with_a_stop_string_are_empty_and_have_no_score():
    engine, _ = scripted(" is all")
    result = flow.run(make_request(n=3, stop=[" "]), engine, MeanLogprobScorer())
    assert [(c.text, c.tokens, c.score, c.settled) for c in result.candidates] == [("", 0, None, True)] * 3
    assert [note.key for note in result.notes] == ["note.all_empty_at_stop"]


def test_early_rejection_compares_texts_that_stop_strings_end(engine):
    whole = run(engine, make_request(n=16, stop=["e"], min_tokens=30))
    result = run(engine, make_request(n=16, stop=["e"], min_tokens=30, reject=0.5))
    assert {c.ended for c in result} >= {"rejected", "stop_string"}
    for full, candidate in zip(whole, result, strict=True):
        assert full.text.startswith(candidate.text)
        assert candidate.ended == "rejected" or candidate.text == full.text


def test_the_real_model_writes_and_stops_as_with_transformers():
    engine = bon.load("smollm2", dtype="float32").engine
    settings = Settings(n=1, top_k=1, repetition_penalty=1.2, min_tokens=24, max_tokens=24)
    request = Request(settings=settings, messages=[{"role": "user", "content": "What is the capital of France?"}])
    ids = engine.encode(request).ids
    text = run(engine, request)[0].text
    for stops in ([], [text[9:21], "zzz"]):
        own_stops = {"stop_strings": stops, "tokenizer": engine.tokenizer} if stops else {}
        reference = engine.model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
            repetition_penalty=1.2, max_new_tokens=24, pad_token_id=0, **own_stops,
        )[0, len(ids) :].tolist()
        (candidate,) = run(engine, request.with_settings(dataclasses.replace(settings, stop=stops)))
        assert list(candidate.token_ids) == [token for token in reference if token not in engine.rules.eos]
        assert candidate.text == (text[:9] if stops else text)
        assert (candidate.ended == "stop_string") == bool(stops)
