"""TRL's trainers train on the exported data unchanged. Runs where TRL is installed (`pip install .[train]`)."""

import json

import pytest
from transformers import GPT2ForSequenceClassification

from bon.batch import batch_run, export_formats
from bon.batch.input_rows import Dataset
from bon.engines.local.engine import LocalEngine
from bon.scorers.callable_scorer import CallableScorer
from bon.settings import Settings
from tests.support import tiny

datasets = pytest.importorskip("datasets")
trl = pytest.importorskip("trl")

CHAT = ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}")
#: A column beside the prompt with a name that trainers know, and one with another.
BESIDE = {"text": "not to be trained on", "id": 5}
STEP = {"max_steps": 1, "per_device_train_batch_size": 2, "report_to": [], "use_cpu": True, "save_strategy": "no"}


@pytest.fixture
def tokenizer():
    """A tokenizer with a chat template."""
    chat_tokenizer = tiny.tokenizer()
    chat_tokenizer.chat_template = CHAT
    return chat_tokenizer


def letters(texts):
    return [float(len(set(text))) for text in texts]


@pytest.fixture(params=["text", "chat"])
def chat(request) -> bool:
    """Whether prompts are chats."""
    return request.param == "chat"


@pytest.fixture(params=[".jsonl", ".parquet"])
def data(request, tmp_path, tokenizer, chat):
    """Makes training data of a form and loads it as people load it."""
    def data(form):
        prompts = [[{"role": "user", "content": text}] if chat else text for text in tiny.TEXTS]
        (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": p, **BESIDE}) + "\n" for p in prompts))
        out = tmp_path / f"out{request.param}"
        task = batch_run.Task(Dataset(tmp_path / "in.jsonl"), out, Settings(n=4, seed=1, max_tokens=8), form)
        *_, done = batch_run.stream(task, LocalEngine(tiny.gpt2(), tokenizer, name="tiny"), CallableScorer(letters))
        assert (done.failed, done.left_out) == (0, {})
        format_name = "parquet" if request.param == ".parquet" else "json"
        return datasets.load_dataset(format_name, data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))

    return data


def test_completions_train_a_model(data, tmp_path, tokenizer):
    config = trl.SFTConfig(str(tmp_path), **STEP)
    trainer = trl.SFTTrainer(tiny.gpt2(), config, train_dataset=data(export_formats.SFT), processing_class=tokenizer)
    assert trainer.train().training_loss > 0
    assert "completion_mask" in trainer.train_dataset.column_names or trainer.completion_only_loss


def test_preferences_train_a_model(data, tmp_path, tokenizer):
    config = trl.DPOConfig(str(tmp_path), **STEP)
    rows = data(export_formats.PREFERENCE)
    trainer = trl.DPOTrainer(tiny.gpt2(), tiny.gpt2(), config, train_dataset=rows, processing_class=tokenizer)
    assert trainer.train().training_loss > 0


def test_preferences_train_a_reward_model(data, tmp_path, tokenizer):
    base = tiny.gpt2().config
    base.num_labels = 1
    config = trl.RewardConfig(str(tmp_path), **STEP)
    trainer = trl.RewardTrainer(
        GPT2ForSequenceClassification(base), config, train_dataset=data(export_formats.PREFERENCE),
        processing_class=tokenizer,
    )
    assert trainer.train().training_loss > 0
    assert "margin" in trainer.train_dataset.column_names


def test_scored_candidates_train_a_model_as_good_or_bad(data, tmp_path, tokenizer):
    config = trl.KTOConfig(str(tmp_path), **STEP)
    rows = data(export_formats.SCORED)
    trainer = trl.KTOTrainer(tiny.gpt2(), tiny.gpt2(), config, train_dataset=rows, processing_class=tokenizer)
    assert trainer.train().training_loss > 0
