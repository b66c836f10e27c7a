"""Training data on the Hub, up to the call that sends it."""

import json

import pytest
from huggingface_hub import DatasetCard

from bon.batch import batch_run, export_formats, hub_upload, resume_journal
from bon.batch.batch_run import Task
from bon.batch.input_rows import Dataset
from bon.cli.main import main
from bon.errors import BonError, InputError
from bon.scorers.callable_scorer import CallableScorer
from bon.settings import Settings
from tests.support.hub_stand_in import RecordingApi


class Hub(RecordingApi):
    """Takes the calls of `HfApi` that pushing makes."""

    def create_commit(self, name: str, operations, **arguments) -> None:
        files = {operation.path_in_repo: operation.path_or_fileobj for operation in operations}
        self.calls.append(("commit", name, arguments | {"sent": files}))


@pytest.fixture
def task(tmp_path) -> Task:
    """Three prompts, of which one is empty, for preferences."""
    (tmp_path / "in.jsonl").write_text('{"prompt": "This movie"}\n{"prompt": ""}\n{"prompt": "The plot"}\n')
    settings = Settings(n=4, seed=7, max_tokens=8)
    rows, output = Dataset(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    return Task(rows, output, settings, export_formats.PREFERENCE, resume=True)


@pytest.fixture
def scorer():
    """A scorer that prefers texts with many different letters."""
    return CallableScorer(lambda texts: [float(len(set(text))) for text in texts])


def test_file_and_card_go_in_one_commit(task, engine, scorer):
    *_, done = batch_run.stream(task, engine, scorer)
    hub = Hub()
    assert hub_upload.push("ada/pairs", task.output, done, private=True, api=hub).endswith("/datasets/ada/pairs")
    (_, _, creation), (_, name, commit) = hub.calls
    assert (creation, name) == ({"repo_type": "dataset", "private": True, "exist_ok": True}, "ada/pairs")
    assert commit["repo_type"] == "dataset"
    assert commit["sent"]["data/train.jsonl"] == str(task.output)
    card = DatasetCard(commit["sent"]["README.md"].decode())
    assert card.data.configs == [{"config_name": "default", "data_files": [{"split": "train",
                                                                           "path": "data/train.jsonl"}]}]
    assert card.data.size_categories == ["n<1K"]
    for part in ("# pairs", "Best of 4: `tiny`", "prompts: 3", "rows: 2", "that failed: 1", "| seed | `7` |",
                 "| as | `preference` |"):
        assert part in card.text


def test_names_cannot_leave_their_place_in_the_card(task, engine, scorer):
    *_, done = batch_run.stream(task, engine, scorer)
    done.plan.update(target="<b>`x`|\n# Head", model="a`b")
    card = hub_upload.card("ada/pairs", "data/train.jsonl", done)
    assert "| target | `<b>'x'\\| # Head` |" in card
    assert "Best of 4: `a'b`" in card


def test_a_failed_upload_is_resumed_without_new_texts(task, engine, scorer):
    def fail(_):
        raise BonError("no network")

    with pytest.raises(BonError, match="no network"):
        list(batch_run.stream(task, engine, scorer, deliver=fail))
    assert resume_journal.journal_path(task.output).exists()
    deliveries = []
    start, *_ = batch_run.stream(task, engine, scorer, deliver=deliveries.append)
    assert (start.done, len(deliveries), deliveries[0].written) == (3, 1, 2)
    assert not resume_journal.journal_path(task.output).exists()


def test_a_missing_token_or_invalid_name_is_refused_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("bon.report.hub_writing.get_token", lambda: None)
    argv = ["batch", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--push-to-hub"]
    assert main([*argv, "ada/pairs"]) == 2
    assert "hf auth login" in capsys.readouterr().err
    assert main([*argv, "pairs"]) == 2
    assert "USER/DATASET" in capsys.readouterr().err


def test_the_command_sends_what_it_wrote(task, tmp_path, lm_folder, capsys, monkeypatch):
    hub = Hub()
    monkeypatch.setattr("bon.report.hub_writing.authorized_api", lambda: hub)
    argv = ["batch", str(task.dataset.path), str(task.output), "--model", lm_folder, "-n", "2", "--push-to-hub", "a/b"]
    assert main(argv) == 1
    assert "sent: https://huggingface.co/datasets/a/b" in capsys.readouterr().out
    rows = [json.loads(line) for line in task.output.read_text().splitlines()]
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert "rows that failed: 1" in hub.calls[1][2]["sent"]["README.md"].decode()


def test_an_invalid_name_is_refused_before_anything_is_sent(task, engine, scorer):
    *_, done = batch_run.stream(task, engine, scorer)
    hub = Hub()
    with pytest.raises(InputError, match="USER/DATASET"):
        hub_upload.push("pairs", task.output, done, api=hub)
    assert hub.calls == []


@pytest.mark.parametrize(("rows", "category"), [
    (0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (2_000_000, "1M<n<10M"),
    (20_000_000, "10M<n<100M"), (300_000_000, "100M<n<1B"),
])
def test_sizes_are_the_categories_of_the_hub(rows, category):
    assert hub_upload._size_category(rows) == category
