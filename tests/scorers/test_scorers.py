"""Scorers against their models, which are called directly with one text at a time."""

import math
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import DistilBertForTokenClassification, GPT2Config, GPT2ForSequenceClassification, pipeline

import bon
from bon import flow
from bon.api import Sampler
from bon.errors import InputError, ModelError, ScoringError
from bon.models import running
from bon.report.axis import score_axis
from bon.result import Candidate
from bon.scorers.base import Item, score_items
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.classifier import PAD_TO_MULTIPLE, Classifier
from bon.scorers.factory import as_scorer
from bon.scorers.logprob import MeanLogprobScorer
from bon.scorers.reward_model import RewardScorer
from bon.scorers.sentiment import SentimentScorer
from bon.scorers.weighted import WeightedScorer
from bon.settings import Request, Settings
from tests.support import tiny

TEXTS = [
    "This movie is a delight, and the lead earns every tear. Do not miss it.",
    "awful",
    "The hotel room was awful. I want my money back!",
    "a delight",
    "I was surprised that the soup was warm; my new phone is not.",
    "",
    "😀 soup",
    "Do not miss the lead. Do not miss the soup. Do not miss the phone. Do not miss the tear.",
]


def items(texts, prompt=""):
    return [Item(prompt, Candidate(index=i, text=text)) for i, text in enumerate(texts)]


def scores(scorer, texts, prompt=""):
    return list(scorer.score(items(texts, prompt)).values)


@torch.no_grad()
def plain_logits(model, texts, tokenizer=None):
    """Logits of each text by a call of its own."""
    tokenizer = tokenizer or tiny.tokenizer()
    encoded = [tokenizer(text)["input_ids"] or [tokenizer.pad_token_id] for text in texts]
    return torch.stack([model(torch.tensor([ids])).logits[0] for ids in encoded])


def make_classifier(model, **options):
    return Classifier(model, tiny.tokenizer(), **options)


def reward_model(outputs=1, pad=True, seed=0):
    """A GPT-2 with a classification head, as most reward models are."""
    torch.manual_seed(seed)
    config = tiny.gpt2().config.to_dict() | {"num_labels": outputs}
    model = GPT2ForSequenceClassification(GPT2Config(**config)).eval()
    model.config.pad_token_id = model.config.pad_token_id if pad else None
    return model


def with_special_tokens():
    """A tokenizer that puts a token before and after every text, as BERT's does."""
    tokenizer = tiny.tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tiny.END} $A {tiny.END}", special_tokens=[(tiny.END, tokenizer.eos_token_id)]
    )
    return tokenizer


@torch.no_grad()
def mixed_classifier():
    """A classifier that is certain of NEGATIVE for some of the texts and of POSITIVE for others."""
    model = tiny.classifier()
    model.classifier.weight *= 6
    model.classifier.bias -= plain_logits(model, TEXTS).mean(0)
    return model


def test_a_text_that_is_certainly_negative_never_beats_a_positive_one():
    model = mixed_classifier()
    probabilities = plain_logits(model, TEXTS).softmax(-1)
    negative, positive = ([i for i in range(8) if probabilities[i, side] > 0.5] for side in (0, 1))
    # By the score of the winning label, as the classic example has it, some of them would.
    assert probabilities[negative, 0].max() > probabilities[positive, 1].min()
    target_scores = scores(SentimentScorer(make_classifier(model)), TEXTS)
    assert max(target_scores[i] for i in negative) < min(target_scores[i] for i in positive)


@pytest.mark.parametrize("labels", [("NEGATIVE", "POSITIVE"), ("POSITIVE", "NEGATIVE")])
def test_the_target_is_found_by_name_at_any_index(labels):
    model = tiny.classifier(labels)
    expected = plain_logits(model, TEXTS).softmax(-1)[:, labels.index("POSITIVE")]
    assert scores(SentimentScorer(make_classifier(model)), TEXTS) == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_three_units_are_probability_logit_and_margin_over_the_next_label():
    model = tiny.classifier(("sad", "joy", "fear"))
    logits = plain_logits(model, TEXTS)
    expected = {
        "probability": logits.softmax(-1)[:, 1],
        "logit": logits[:, 1],
        "margin": logits[:, 1] - torch.maximum(logits[:, 0], logits[:, 2]),
    }
    for unit, values in expected.items():
        unit_scores = scores(SentimentScorer(make_classifier(model), "joy", unit), TEXTS)
        assert unit_scores == pytest.approx(values.tolist(), abs=1e-5)


def test_labels_that_do_not_exclude_each_other_have_probabilities_of_their_own():
    model = tiny.classifier(("rude", "funny", "long"), problem_type="multi_label_classification")
    expected = plain_logits(model, TEXTS)[:, 1].sigmoid()
    assert scores(SentimentScorer(make_classifier(model), "funny"), TEXTS) == pytest.approx(expected.tolist(), abs=1e-5)


def regression_model(**config):
    """A classifier whose three outputs are quantities without bounds."""
    return tiny.classifier(("valence", "arousal", "dominance"), **config)


def test_a_regression_with_several_outputs_gives_the_targets_output_as_score(engine):
    model = regression_model(problem_type="regression")
    scorer = SentimentScorer(make_classifier(model), "arousal")
    assert scores(scorer, TEXTS) == pytest.approx(plain_logits(model, TEXTS)[:, 1].tolist(), abs=1e-4)
    result = flow.run(Request("This movie", Settings(n=8, seed=1, target="arousal")), engine, scorer)
    assert (result.unit, result.target) == ("score", "arousal")
    result_scores = [c.score for c in result.candidates if not c.empty]
    axis = score_axis(result_scores, result.unit)
    assert axis.low <= min(result_scores) < max(result_scores) <= axis.high != 1.0


def test_a_sampler_takes_another_output_of_a_regression_and_ranks_by_it(engine):
    model = regression_model(problem_type="regression")
    sampler = Sampler(engine, SentimentScorer(make_classifier(model), "valence"), "model")
    result = sampler.run("This movie", n=8, seed=1, target="dominance")
    assert (result.target, result.unit) == ("dominance", "score")
    reranked = sampler.rerank(result, target="valence")
    rated = [c for c in reranked.candidates if not c.empty]
    expected = plain_logits(model, ["This movie" + c.text for c in rated])[:, 0].tolist()
    assert [c.score for c in rated] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("unit", ["logit", "margin"])
def test_a_regression_has_no_logits(unit):
    with pytest.raises(InputError, match=r"its own unit \(score\)") as error:
        SentimentScorer(make_classifier(regression_model(problem_type="regression")), "valence", unit)
    assert error.value.field == "unit"
    with pytest.raises(InputError, match="probability, logit, margin"):
        SentimentScorer(make_classifier(regression_model()), "valence", "score")


@pytest.mark.parametrize("problem", [None, "regression", "multi_label_classification", "single_label_classification"])
@pytest.mark.parametrize("function", [None, "none", "sigmoid", "softmax"])
def test_a_pipeline_scores_with_the_function_that_it_applies(problem, function):
    pipe = pipeline("text-classification", model=regression_model(problem_type=problem), tokenizer=tiny.tokenizer(),
                    device="cpu", function_to_apply=function)
    texts = [text for text in TEXTS if text]
    expected = [{d["label"]: d["score"] for d in rated}["arousal"] for rated in pipe(texts, top_k=None)]
    scorer = as_scorer(pipe, "arousal")
    assert scores(scorer, texts) == pytest.approx(expected, abs=1e-4)
    raw = function == "none" or (function is None and problem == "regression")
    assert scorer.unit == ("score" if raw else "probability")


@pytest.mark.parametrize("numbers", [{1: "sad", 2: "joy", 3: "fear"}, {"2": "fear", "0": "sad", "1": "joy"},
                                     {10: "fear", 9: "joy", 2: "sad"}])
def test_labels_are_sorted_by_their_numbers(numbers):
    model = tiny.classifier(("a", "b", "c"))
    model.config.id2label = numbers
    assert make_classifier(model).labels == ("sad", "joy", "fear")
    expected = plain_logits(model, TEXTS).softmax(-1)[:, 1].tolist()
    assert scores(SentimentScorer(make_classifier(model), "joy"), TEXTS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("names", [("sad", "joy"), ("sad", "joy", "fear", "anger"), ("joy",)])
def test_other_than_one_label_for_each_output_is_refused(names):
    model = tiny.classifier(("a", "b", "c"))
    model.config.id2label = dict(enumerate(names))
    with pytest.raises(ModelError, match=f"3 outputs and names {len(names)} labels"):
        as_scorer(make_classifier(model), "joy")


@pytest.mark.parametrize("target", ["joy", "Joy", "JOY"])
def test_a_target_may_be_written_in_any_case_and_is_shown_as_the_model_has_it(target):
    assert SentimentScorer(make_classifier(tiny.classifier(("Sad", "Joy"))), target).target == "Joy"


def test_labels_that_differ_in_case_alone_are_kept_apart():
    model = make_classifier(tiny.classifier(("joy", "Joy", "other")))
    assert [SentimentScorer(model, name).target for name in ("joy", "Joy")] == ["joy", "Joy"]


def test_an_unknown_target_is_refused_with_the_labels_there_are():
    with pytest.raises(InputError, match=r"no label 'HAPPY'. Its labels are: NEGATIVE, POSITIVE") as error:
        SentimentScorer(make_classifier(tiny.classifier()), "HAPPY")
    assert error.value.field == "target"


def test_the_default_target_is_positive_and_required_where_no_label_has_that_name():
    assert SentimentScorer(make_classifier(tiny.classifier()), None).target == "POSITIVE"
    with pytest.raises(InputError, match="LABEL_0, LABEL_1"):
        SentimentScorer(make_classifier(tiny.classifier(("LABEL_0", "LABEL_1"))), None)


def test_an_unknown_unit_is_refused():
    with pytest.raises(InputError, match="probability, logit, margin"):
        SentimentScorer(make_classifier(tiny.classifier()), unit="percent")


def test_prompt_and_continuation_are_rated_as_one_text_by_default():
    model = tiny.classifier()
    together, alone = plain_logits(model, ["This movie is a delight", " is a delight"]).softmax(-1)[:, 1].tolist()
    assert scores(SentimentScorer(make_classifier(model)), [" is a delight"], "This movie") == pytest.approx([together])
    scorer = SentimentScorer(make_classifier(model), with_prompt=False)
    assert scores(scorer, [" is a delight"], "This movie") == pytest.approx([alone])


def test_scores_have_the_order_of_the_texts_though_batches_are_sorted_by_length():
    model = tiny.classifier()
    expected = plain_logits(model, TEXTS)[:, 1].tolist()
    for order in (range(8), reversed(range(8)), [3, 0, 7, 5, 1, 6, 2, 4]):
        order, scorer = list(order), SentimentScorer(make_classifier(model, batch_size=3), unit="logit")
        logit_scores = scores(scorer, [TEXTS[i] for i in order])
        assert logit_scores == pytest.approx([expected[i] for i in order], abs=1e-5)


@pytest.mark.parametrize("make", [tiny.classifier, lambda: reward_model(2), lambda: reward_model(2, pad=False)])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_score_does_not_depend_on_the_texts_beside_it(make, batch_size):
    model = make()
    logits = make_classifier(model, batch_size=batch_size).logits([text for text in TEXTS if text])[0]
    torch.testing.assert_close(logits, plain_logits(model, [text for text in TEXTS if text]), atol=1e-4, rtol=1e-4)


def test_texts_of_similar_length_share_a_batch():
    shapes = []
    model = tiny.classifier()
    model.register_forward_pre_hook(lambda _, args, kw: shapes.append(tuple(kw["input_ids"].shape)), with_kwargs=True)
    short, long = "abcde", [f"{TEXTS[0]} {letter}" for letter in "abcde"]
    make_classifier(model, batch_size=5).logits([text for pair in zip(short, long, strict=True) for text in pair])
    longest = max(len(ids) for ids in tiny.tokenizer()(long)["input_ids"])
    assert [width for _, width in shapes] == [PAD_TO_MULTIPLE, -(-longest // PAD_TO_MULTIPLE) * PAD_TO_MULTIPLE]


def test_a_batch_is_no_wider_than_its_tokens_allow_and_every_text_is_scored(monkeypatch):
    monkeypatch.setattr("bon.scorers.classifier.BATCH_TOKENS", {"cpu": 40})
    shapes = []
    model = tiny.classifier()
    expected = plain_logits(model, TEXTS)
    model.register_forward_pre_hook(lambda _, args, kw: shapes.append(tuple(kw["input_ids"].shape)), with_kwargs=True)
    torch.testing.assert_close(make_classifier(model).logits(TEXTS)[0], expected, atol=1e-5, rtol=1e-4)
    assert sum(rows for rows, _ in shapes) == len(TEXTS)
    assert all(rows * width <= 40 or rows == 1 for rows, width in shapes)


def test_a_text_longer_than_the_scorer_reads_loses_its_beginning_and_a_note_says_so():
    model = tiny.classifier(positions=12)
    ids = tiny.tokenizer()(TEXTS[0])["input_ids"]
    assert len(ids) > 12
    logits, notes = make_classifier(model).logits([TEXTS[0], "awful"])
    torch.testing.assert_close(logits[0], model(torch.tensor([ids[-12:]])).logits[0].detach())
    assert notes == ("The scorer reads at most 12 tokens: the beginning of longer texts was cut off.",)


def test_a_token_that_the_model_does_not_know_is_bad_input_by_name():
    tokenizer, model = tiny.tokenizer(), tiny.classifier()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[MASK]"]})
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    mask_id, last_id = tokenizer.convert_tokens_to_ids("[MASK]"), model.config.vocab_size - 1
    with pytest.raises(InputError, match=rf"'\[MASK\]' \(id {mask_id}\).* end at {last_id}") as error:
        Classifier(model, tokenizer).logits(["A fine film.", "A [MASK] film."])
    assert (error.value.field, calls) == ("texts", [])


def logits_together(classifier, *texts):
    """The logits or the exception of several callers whose texts wait for the compute lock and are scored together."""
    results = [None] * len(texts)

    def call(i):
        try:
            results[i] = classifier.logits([texts[i]])[0][0]
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(texts))]
    with running._LOCK:
        for thread in threads:
            thread.start()
        while len(classifier._waiting) < len(texts):
            time.sleep(0.001)
    for thread in threads:
        thread.join(60)
    return results


def test_a_text_that_cannot_be_scored_fails_only_its_own_caller():
    model, rows = tiny.classifier(), []
    expected = plain_logits(model, TEXTS[:3])
    classifier = make_classifier(model)
    assert classifier.limit
    forward, poison = model.forward, tiny.tokenizer()(TEXTS[1])["input_ids"]

    def fails(input_ids, **kwargs):
        rows.append(len(input_ids))
        if any(row[: len(poison)] == poison for row in input_ids.tolist()):
            raise ValueError("a text that this model cannot read")
        return forward(input_ids=input_ids, **kwargs)

    model.forward = fails
    first, error, last = logits_together(classifier, *TEXTS[:3])
    assert rows[0] == 3  # they were scored together
    assert isinstance(error, ValueError)
    torch.testing.assert_close(torch.stack([first, last]), expected[[0, 2]], atol=1e-5, rtol=1e-4)


def test_a_text_whose_batch_fails_is_read_alone():
    model = tiny.classifier()
    expected, forward, odd = plain_logits(model, TEXTS), model.forward, tiny.tokenizer()(TEXTS[4])["input_ids"]

    def refuses_company(input_ids, **kwargs):
        if len(input_ids) > 1 and any(row[: len(odd)] == odd for row in input_ids.tolist()):
            raise ValueError("all texts must have the same number of ends")
        return forward(input_ids=input_ids, **kwargs)

    model.forward = refuses_company
    torch.testing.assert_close(make_classifier(model).logits(TEXTS)[0], expected, atol=1e-5, rtol=1e-4)


def test_there_is_no_note_where_every_text_fits():
    assert make_classifier(tiny.classifier()).logits(TEXTS)[1] == ()


def test_truncation_keeps_the_tokens_that_frame_a_text():
    tokenizer, model = with_special_tokens(), tiny.classifier(positions=12)
    end, bare = tokenizer.eos_token_id, tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    logits, _ = Classifier(model, tokenizer).logits([TEXTS[0]])
    torch.testing.assert_close(logits[0], model(torch.tensor([[end, *bare[-10:], end]])).logits[0].detach())


def test_a_tokenizers_own_limit_counts_too():
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = 5
    assert Classifier(tiny.classifier(), tokenizer).logits([TEXTS[0]])[1] != ()


def test_a_note_on_truncation_reaches_the_result_once(engine):
    scorer = SentimentScorer(make_classifier(tiny.classifier(positions=8)))
    request = Request("This movie is a delight, and the lead earns every tear", Settings(n=16, seed=2))
    notes = flow.run(request, engine, scorer).notes
    assert notes.count("The scorer reads at most 8 tokens: the beginning of longer texts was cut off.") == 1


def test_out_of_memory_while_scoring_continues_with_smaller_batches():
    model = tiny.classifier()
    expected = plain_logits(model, TEXTS)
    forward = model.forward

    def limited_forward(input_ids, **kwargs):
        if len(input_ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(input_ids=input_ids, **kwargs)

    model.forward = limited_forward
    logits, notes = make_classifier(model).logits(TEXTS)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert notes == ("Out of memory while scoring: continued with smaller batches.",)


def test_out_of_memory_with_a_single_text_is_a_scoring_error():
    model = tiny.classifier()

    def none_at_all(**_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model.forward = none_at_all
    with pytest.raises(ScoringError, match="one text"):
        make_classifier(model).logits(TEXTS)


def test_a_scoring_model_is_back_in_its_mode_afterwards():
    model = tiny.classifier(dropout=0.5)
    expected = plain_logits(model, TEXTS[:1])
    model.train()
    model.pre_classifier.eval()
    before = [module.training for module in model.modules()]
    logits, _ = make_classifier(model).logits(TEXTS[:1])
    torch.testing.assert_close(logits, expected)
    assert [module.training for module in model.modules()] == before


def test_a_pipeline_gives_the_score_of_the_target_and_not_of_its_winning_label():
    pipe = pipeline("text-classification", model=tiny.classifier(), tokenizer=tiny.tokenizer(), device="cpu")
    texts = [text for text in TEXTS if text]
    expected = [{d["label"]: d["score"] for d in outputs}["POSITIVE"] for outputs in pipe(texts, top_k=None)]
    assert scores(as_scorer(pipe), texts) == pytest.approx(expected, abs=1e-5)


def test_a_folder_is_loaded_and_rated_under_its_name(classifier_folder):
    scorer = bon.SentimentScorer(classifier_folder, target="NEGATIVE")
    assert scorer.name == classifier_folder
    expected = plain_logits(tiny.classifier(), TEXTS).softmax(-1)[:, 0]
    assert scores(scorer, TEXTS) == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_reward_model_gives_its_single_output(reward_folder):
    scorer = bon.RewardScorer(reward_folder)
    assert (scorer.unit, scorer.target, scorer.targets) == ("reward", None, ())
    texts = [text for text in TEXTS if text]
    assert scores(scorer, texts) == pytest.approx(plain_logits(reward_model(), texts)[:, 0].tolist(), abs=1e-4)


def test_a_reward_model_rates_a_chat_through_its_template():
    model, tokenizer = reward_model(), with_special_tokens()
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    messages = ({"role": "user", "content": "The soup?"},)
    item = Item("The soup?", Candidate(index=0, text=" warm"), messages)
    (score,) = RewardScorer(Classifier(model, tokenizer)).score([item]).values
    expected = plain_logits(model, ["<user>The soup?<assistant> warm"])
    assert score == pytest.approx(expected.item(), abs=1e-5)
    continued = Item("It is", Candidate(index=0, text=" warm"), (*messages, {"role": "assistant", "content": "It is"}))
    (score,) = RewardScorer(Classifier(model, tokenizer)).score([continued]).values
    expected = plain_logits(model, ["<user>The soup?<assistant>It is warm"])
    assert score == pytest.approx(expected.item(), abs=1e-5)
    assert (item.text(True), continued.text(True)) == ("The soup?\n warm", "It is warm")


def test_a_classifier_is_refused_by_the_scorer_for_the_other_kind():
    with pytest.raises(ModelError, match="RewardScorer"):
        SentimentScorer(make_classifier(reward_model(1)))
    with pytest.raises(ModelError, match="SentimentScorer"):
        RewardScorer(make_classifier(tiny.classifier()))


def test_the_mean_log_probability_is_the_sum_over_the_number_of_tokens(engine):
    result = flow.run(Request("This movie", Settings(n=16, seed=3)), engine, MeanLogprobScorer())
    with_tokens = [c for c in result.candidates if c.tokens]
    assert [c.score for c in with_tokens] == pytest.approx([c.logprob / c.tokens for c in with_tokens])
    assert result.unit == "nats per token"


def test_a_text_without_tokens_has_no_mean_log_probability():
    with pytest.raises(ScoringError, match="log-prob"):
        score_items(MeanLogprobScorer(), [Item("", Candidate(index=0, logprob=0.0))])


@pytest.mark.parametrize("convert", [
    list, tuple, np.array, torch.tensor, iter, pd.Series, lambda row: torch.tensor(row).half(),
    lambda row: torch.tensor(row).bfloat16(), lambda row: np.array(row, np.float16),
    lambda row: torch.tensor(row).unsqueeze(-1), lambda row: [[value] for value in row],
    lambda row: list(torch.tensor(row)), lambda row: torch.tensor(row, requires_grad=True),
])
def test_a_callable_may_return_any_row_of_numbers(convert):
    scorer = as_scorer(lambda texts: convert([float(len(text)) for text in texts]))
    assert score_items(scorer, items(["one", "seven", ""])).values == [3.0, 5.0, 0.0]


def test_a_callable_gets_prompt_and_continuation_once_per_prompt_in_order(engine):
    calls = []

    def count(texts):
        calls.append(texts)
        return range(len(texts))

    result = flow.run(Request("This movie", Settings(n=6, seed=3)), engine, as_scorer(count))
    in_order = sorted(result.candidates, key=lambda c: c.index)
    assert calls == [["This movie" + c.text for c in in_order]]
    assert [c.score for c in in_order] == [0, 1, 2, 3, 4, 5]


def test_a_callable_may_get_the_continuation_alone():
    assert scores(CallableScorer(lambda texts: [len(t) for t in texts], with_prompt=False), ["ab"], "prompt") == [2]


def test_a_callable_object_with_a_model_and_a_tokenizer_of_its_own_is_called():
    class Reward:
        model, tokenizer = tiny.classifier(), tiny.tokenizer()

        def __call__(self, texts):
            return [7.0] * len(texts)

    scorer = as_scorer(Reward())
    assert (scorer.name, scores(scorer, ["a", "b"])) == ("Reward", [7.0, 7.0])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1.0, 2.0], "returned 2 scores for 3 texts"),
        ([1.0] * 4, "returned 4 scores for 3 texts"),
        ([], "returned 0 scores for 3 texts"),
        ([1.0, math.nan, 2.0], "returned nan for candidate 1"),
        ([1.0, 2.0, math.inf], "returned inf for candidate 2"),
        (torch.tensor([1.0, 2.0, float("nan")]), "returned nan for candidate 2"),
        ([1.0, None, 2.0], "failed: TypeError"),
        ([{"label": "POSITIVE", "score": 0.9}] * 3, "failed: TypeError"),
        (["good", "bad", "bad"], "failed: ValueError"),
        (None, "failed: TypeError"),
        (0.5, "failed: TypeError"),
        ({0: 1.0, 1: 2.0, 2: 3.0}, "object of type dict. It must return a list, an array or a tensor"),
        ({1.0, 2.0, 3.0}, "object of type set"),
        (frozenset([1, 2, 3]), "object of type frozenset"),
        ("123", "object of type str"),
        (b"123", "object of type bytes"),
        (pd.DataFrame([[7.0, 8.0, 9.0]] * 3), "object of type DataFrame"),
        (torch.ones(3, 2), "failed: TypeError"),
    ],
)
def test_a_callables_result_that_is_no_row_of_finite_numbers_is_a_scoring_error(returned, message):
    with pytest.raises(ScoringError, match=message):
        score_items(as_scorer(lambda texts: returned), items(["a", "b", "c"]))


def test_a_scorer_that_raises_is_a_scoring_error_that_names_scorer_and_cause():
    def judge(texts):
        raise KeyError("no such label")

    with pytest.raises(ScoringError, match="The scorer judge failed: KeyError: 'no such label'") as error:
        score_items(as_scorer(judge), items(["a"]))
    assert isinstance(error.value.__cause__, KeyError)


def test_a_keyboard_interrupt_is_no_scoring_error():
    def interrupted(texts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_items(as_scorer(interrupted), items(["a"]))


def test_each_way_to_name_a_scorer_gives_its_class(classifier_folder, reward_folder):
    scorer = CallableScorer(len)
    assert as_scorer(scorer) is scorer
    assert isinstance(as_scorer("logprob"), MeanLogprobScorer)
    assert isinstance(as_scorer(reward_folder), RewardScorer)
    assert as_scorer(classifier_folder, "NEGATIVE", "margin").target == "NEGATIVE"
    assert isinstance(as_scorer(make_classifier(tiny.classifier())), SentimentScorer)


@pytest.mark.parametrize(("task", "make"), [
    ("text-generation", tiny.gpt2),
    ("token-classification", lambda: DistilBertForTokenClassification(tiny.classifier().config)),
])
def test_a_pipeline_for_another_task_is_refused_by_the_name_of_its_task(task, make):
    pipe = pipeline(task, model=make(), tokenizer=tiny.tokenizer(), device="cpu")
    with pytest.raises(InputError, match=f"must be a text-classification pipeline, not one for {task}") as raised:
        bon.load("embedded", pipe)
    assert raised.value.field == "scorer"


@pytest.mark.parametrize("source", [7, None, object()])
def test_a_scorer_that_is_neither_name_nor_pipeline_nor_callable_is_refused(source):
    with pytest.raises(InputError) as error:
        as_scorer(source)
    assert error.value.field == "scorer"


def test_a_sum_passes_a_target_to_the_parts_that_have_labels():
    labelled, logprob = SentimentScorer(make_classifier(tiny.classifier())), MeanLogprobScorer()
    scorer = WeightedScorer([(0.7, labelled), (0.3, logprob)])
    (_, retargeted), (weight, unchanged) = scorer.for_target("negative", "logit").parts
    assert (retargeted.target, retargeted.unit, retargeted.name) == ("NEGATIVE", "logit", labelled.name)
    assert (weight, unchanged) == (0.3, logprob)
    assert (labelled.target, labelled.unit) == ("POSITIVE", "probability")


@pytest.mark.parametrize("make", [
    MeanLogprobScorer, lambda: CallableScorer(len), lambda: WeightedScorer([(2.0, MeanLogprobScorer())]),
])
def test_a_scorer_without_labels_has_no_other_target_and_no_other_unit(make):
    scorer = make()
    assert scorer.for_target(None) is scorer.for_target(None, "probability") is scorer
    for target, unit, field in (("POSITIVE", None, "target"), (None, "logit", "unit")):
        with pytest.raises(InputError) as error:
            scorer.for_target(target, unit)
        assert error.value.field == field


def test_a_callable_may_have_the_name_of_a_scorer_that_needs_a_run(engine):
    def logprob(texts):
        return [len(text) for text in texts]

    assert Sampler(engine, as_scorer(logprob), "model").score(["one", "seven"]) == [3, 5]
