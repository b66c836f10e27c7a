"""A run that ends its texts with their last complete sentence, on a model here and on a server."""

import json

import pytest

import bon
from bon import flow
from bon.api import Sampler
from bon.compare import comparison_run
from bon.compare.loading import load_models
from bon.engines.local.likelihood import log_likelihoods
from bon.engines.sentences import sentence_end
from bon.engines.server.engine import ServerEngine
from bon.report import result_files
from bon.result import as_html, as_text
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.logprob import MeanLogprobScorer
from bon.settings import Request, Settings
from tests.support.model_servers import Fake, completion

SETTINGS = {"n": 32, "seed": 5, "max_tokens": 24}


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return bon.load("embedded")


@pytest.fixture(scope="module")
def pairs(sampler):
    """The candidates of a run that cuts its texts anywhere, each with the same one where sentences are finished."""
    cut = {c.index: c for c in sampler.run("This movie", **SETTINGS).candidates}
    finished = {c.index: c for c in sampler.run("This movie", finish="sentence", **SETTINGS).candidates}
    return [(cut[i], finished[i]) for i in range(32)]


def test_only_what_the_length_cut_ends_with_its_last_complete_sentence(pairs):
    endings = set()
    for cut, finished in pairs:
        end = sentence_end(cut.text) if cut.ended == "length" else 0
        endings.add((cut.ended, bool(end), bool(end) and end < len(cut.text)))
        assert finished.text == (cut.text[:end] if end else cut.text)
        assert finished.full_text == (cut.text if end else None)
        assert finished.cut == (cut.ended == "length" and not end)
        assert (finished.ended, finished.cap, finished.generated) == (cut.ended, cut.cap, cut.tokens)
    assert {("length", True, True), ("length", False, False), ("eos", False, False)} <= endings


def test_tokens_and_log_probability_are_those_of_the_text_and_the_sampled_one_is_of_all(sampler, pairs):
    engine = sampler.engine
    prompt = engine.encode(Request("This movie")).ids
    trimmed = [(cut, finished) for cut, finished in pairs if finished.text != cut.text]
    ids = [finished.token_ids[: finished.tokens] for _, finished in trimmed]
    logprobs = log_likelihoods(engine, prompt, ids, [False] * len(ids))
    for (cut, finished), kept, logprob in zip(trimmed, ids, logprobs, strict=True):
        assert engine.decode([*prompt, *kept]).startswith("This movie" + finished.text)
        assert not engine.decode([*prompt, *kept[:-1]]).startswith("This movie" + finished.text)
        assert finished.logprob == pytest.approx(logprob, abs=1e-3)
        assert finished.sampled_logprob == pytest.approx(cut.sampled_logprob, abs=1e-4)
        assert finished.token_ids == cut.token_ids


def test_what_is_scored_is_the_text_that_is_shown(sampler):
    scored = []

    def record(texts):
        scored.extend(texts)
        return [len(text) for text in texts]

    scorer = CallableScorer(record)
    result = flow.run(Request("This movie", Settings(finish="sentence", **SETTINGS)), sampler.engine, scorer)
    assert sorted(scored) == sorted("This movie" + c.text for c in result.candidates)
    assert result.best.score == max(len("This movie" + c.text) for c in result.candidates)


def test_the_pieces_of_a_text_that_is_watched_make_it_up(sampler):
    request = Request("This movie", Settings(finish="sentence", **SETTINGS))
    result = flow.last_result(flow.stream(request, sampler.engine, sampler.scorer))
    for c in result.candidates:
        assert "".join(text for text, _ in c.pieces) == c.text
        assert sum(logprob for _, logprob in c.pieces) == pytest.approx(c.logprob, abs=1e-3)
    assert result.timing.tokens == sum(c.generated for c in result.candidates)


def test_kl_is_that_of_what_was_sampled(sampler):
    """The distance from the model is that of the run that cuts anywhere, where both choose the same candidate."""
    scorer = CallableScorer(lambda texts: [float(text.startswith("This movie is")) for text in texts])
    runs = [flow.run(Request("This movie", Settings(finish=finish, **SETTINGS)), sampler.engine, scorer)
            for finish in ("length", "sentence")]
    assert runs[0].best.index == runs[1].best.index
    assert runs[0].stats.kl_estimate == pytest.approx(runs[1].stats.kl_estimate)


def test_a_comparison_scores_whole_sentences_and_measures_kl_on_all_tokens(sampler):
    models = load_models("embedded")
    prompts = ["This movie", "The hotel room"]
    comparisons = [comparison_run.run(prompts, models, Settings(n=4, seed=3, max_tokens=16, finish=finish))
                   for finish in ("length", "sentence")]
    for cut, finished in zip(*(comparison.samples for comparison in comparisons), strict=True):
        assert len(finished.log_ratios) == 4
        assert finished.log_ratios == pytest.approx(cut.log_ratios, abs=1e-3)
        assert [c.full_text or c.text for c in finished.tuned] == [c.text for c in cut.tuned]
        assert any(c.full_text not in (None, c.text) for c in (*finished.tuned, *finished.base))


def test_reports_and_terminal_say_where_a_text_was_cut(sampler):
    result = sampler.run("This movie", finish="sentence", **SETTINGS)
    cut = [c for c in result.candidates if c.cut]
    whole = [c for c in result.candidates if not c.cut]
    assert cut
    assert whole
    for shown in (as_text(result, width=10_000), as_html(result), result_files.run_html(result)):
        for c in cut:
            assert f"cut at {c.tokens} token" in shown
        assert shown.count("cut at") - (result.best.cut and shown.startswith("<!doctype")) == len(cut)
    in_file = {c["index"]: c for c in json.loads(result_files.run_json(result))["candidates"]}
    assert {c.index: c.full_text for c in result.candidates} == {i: c["full_text"] for i, c in in_file.items()}


SENTENCES = " It was good, I think. And then it was not"


@pytest.fixture
def server():
    """Makes a server whose texts are all `SENTENCES`."""
    servers = []

    def make(told: bool, finish: str = "length") -> Fake:
        texts = [SENTENCES]
        servers.append(Fake(lambda handler, body, number: handler.send(200, completion(body, texts, told, finish))))
        return servers[-1]

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def run_on(server: Fake, scorer, **settings):
    request = Request("This movie", Settings(n=1, min_tokens=10, max_tokens=10, seed=7, **settings))
    return flow.run(request, ServerEngine.at(server.url), scorer)


def test_a_server_s_text_has_the_tokens_and_the_log_probability_of_its_sentences(server):
    best = run_on(server(told=True), MeanLogprobScorer(), finish="sentence").best
    assert (best.text, best.full_text) == (" It was good, I think.", SENTENCES)
    assert (best.tokens, best.generated, best.logprob) == (5, 10, -2.5)
    assert [text for text, _ in best.pieces] == [" It", " was", " good,", " I", " think."]


def test_where_a_server_lists_no_tokens_they_are_counted_in_proportion(server):
    best = run_on(server(told=False), CallableScorer(lambda texts: [1.0] * len(texts)), finish="sentence").best
    assert (best.text, best.logprob) == (" It was good, I think.", None)
    assert (best.tokens, best.generated) == (6, 10)


def test_a_server_s_text_stays_where_it_ended_by_itself_or_nothing_asks_for_sentences(server):
    scorer = CallableScorer(lambda texts: [1.0] * len(texts))
    for settings, finish in (({"finish": "sentence"}, "stop"), ({}, "length")):
        best = run_on(server(told=True, finish=finish), scorer, **settings).best
        assert (best.text, best.full_text) == (SENTENCES, None)
