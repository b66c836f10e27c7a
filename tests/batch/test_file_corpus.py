"""Files as people have them, from Excel to jq: the command line and the page read the same rows, which are right.

`corpus/expected.json` says of each file which rows it has (a prompt, a chat, or words of the error), or why it is
refused, and the options that it needs.
"""

import json
import random
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path

import pytest

from bon.batch.export_formats import failure_record
from bon.batch.input_rows import Dataset, Row, group_digest
from bon.cli import batch_command
from bon.cli.main import main
from bon.errors import InputError
from bon.settings import Defaults, Request
from bon.ui.app_state import AppState
from bon.ui.batch.handlers import BatchHandlers
from bon.ui.batch.journal_progress import JournalProgress
from bon.ui.batch.views import batch_view
from bon.ui.hosting.deployment import Deployment
from tests.report.test_csv_text import random_texts
from tests.ui.test_batch_tab import start_publicly

CORPUS = Path(__file__).parent / "corpus"
EXPECTED = json.loads((CORPUS / "expected.json").read_text(encoding="utf-8"))
CHAT = [{"role": "user", "content": "Hi"}]


class EchoWorker:
    """Answers each prompt with `answer`, or with the prompt or chat itself as JSON; refuses what a model refuses."""

    def __init__(self, answer: str | None = None):
        self.answer = answer

    def describe(self):
        return {"model": "echo", "scorer": "echo", "target": None, "unit": "reward"}

    def defaults(self):
        """None."""
        return Defaults()

    def map(self, groups, settings, export_format):
        for group in groups:
            digest = group_digest(group.rows)
            yield [self._record(row, settings) | {"digest": digest} for row in group.rows]

    def _record(self, row: Row, settings) -> dict:
        try:
            if row.error:
                raise InputError("input", row.error)
            Request(row.prompt, settings, row.messages and tuple(row.messages))
        except InputError as error:
            return failure_record(row.number, error.message)
        text = self.answer or json.dumps(row.messages or row.prompt)
        return {"row": row.number, "candidates": [{"text": text, "score": 0.5, "tokens": 1, "ended": "eos"}], "n": 1}


@pytest.fixture
def command(monkeypatch, capsys):
    """`python -m bon batch` with an `EchoWorker`: status, standard output and standard error."""
    def command(*argv, answer=None) -> tuple[int, str, str]:
        monkeypatch.setattr(batch_command, "_workers", lambda *_: nullcontext(EchoWorker(answer)))
        capsys.readouterr()
        return main(["batch", *map(str, argv), "-n", "1", "--seed", "7"]), *capsys.readouterr()

    return command


@pytest.fixture
def page(tmp_path, monkeypatch):
    """What the handlers of a private page share; models never finish loading."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    state = AppState(Deployment())
    state.models.load = lambda _: Future()
    yield state
    state.batches.close()


def file_of(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def options_of(expected: dict) -> list[str]:
    skip_bad = ["--skip-bad"] if expected.get("skip_bad") else []
    return [*skip_bad, *(["--encoding", expected["encoding"]] if "encoding" in expected else [])]


def outcomes(path: Path) -> list:
    """The prompt, chat or error of each row of a JSONL output of `EchoWorker`."""
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    return [{"error": row["error"]} if row["error"] else json.loads(row["completion"]) for row in rows]


def assert_equal(found: list, expected: list) -> None:
    """Whether the outcomes are as expected, where an error is expected with some words of its text."""
    assert [{"error": right["error"]} if isinstance(right, dict) and isinstance(outcome, dict)
            and right["error"] in outcome["error"] else outcome
            for outcome, right in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize("name", EXPECTED)
def test_the_command_reads_the_right_rows(command, tmp_path, name):
    expected, out = EXPECTED[name], tmp_path / "out.jsonl"
    status, _, err = command(CORPUS / name, out, *options_of(expected))
    if "refused" in expected:
        assert (status, err.count("\n")) == (2, 1)
        assert expected["refused"] in err
    else:
        assert_equal(outcomes(out), expected["rows"])
        assert status == int(any(isinstance(row, dict) for row in expected["rows"]))


@pytest.mark.parametrize("name", EXPECTED)
def test_the_page_reads_the_same_rows(page, name):
    expected, handlers = EXPECTED[name], BatchHandlers(page)
    view, _, encodings, count = handlers.preview(str(CORPUS / name), "")
    answer = start_publicly(page, CORPUS / name)
    assert encodings["visible"] == ("not UTF-8" in view.get("error", ""))
    if "refused" in expected or "encoding" in expected:
        assert view["error"].startswith(name)
        assert "--encoding" not in view["error"]
        assert answer["error"] == view["error"]
        if "encoding" not in expected:
            return
        encoding = {"shift_jis": "cp932"}.get(expected["encoding"], expected["encoding"])
        view, _, encodings, count = handlers.preview(str(CORPUS / name), "", None, encoding)
        assert (encodings["value"], encodings["visible"]) == (encoding, True)
        answer = start_publicly(page, CORPUS / name, encoding=encoding)
    batch = page.batches.find(answer["started"])
    rows = list(batch.order.dataset(batch.folder).rows())
    assert_equal([{"error": str(row.error or "empty")} if row.error or not (row.messages or row.prompt) else
                  row.messages or row.prompt for row in rows], expected["rows"])
    assert f"--encoding {batch.order.encoding}" in batch_view(batch)["command"] or batch.order.encoding is None
    assert (count, batch.order.bad) == (len(rows), sum(row.error is not None for row in rows))
    assert "error" not in view


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("name", [name for name in EXPECTED if "rows" in EXPECTED[name]])
def test_what_is_written_is_read_back_equal(command, tmp_path, name, ending):
    expected, out = EXPECTED[name], tmp_path / f"out{ending}"
    command(CORPUS / name, out, *options_of(expected))
    column = Dataset(CORPUS / name, skip_bad=True, encoding=expected.get("encoding")).column
    again = list(Dataset(out, column=column).rows())
    assert len(again) == len(expected["rows"])
    assert [(row.messages or row.prompt) for row, right in zip(again, expected["rows"], strict=True)
            if not isinstance(right, dict)] == [right for right in expected["rows"] if not isinstance(right, dict)]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_any_texts_are_read_back_equal(command, tmp_path, ending):
    texts = [text for text in random_texts(1500) if text.strip()]
    draw = random.Random(1)
    rows = [{"prompt": text, "=note": draw.choice(texts), "bon_escaped": draw.choice(["yes", "no"])} for text in texts]
    source = file_of(tmp_path, "in.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    status, _, err = command(source, tmp_path / f"out{ending}")
    again = list(Dataset(tmp_path / f"out{ending}").rows())
    assert [row.prompt for row in again] == texts
    assert [{name: row.columns[name] for name in rows[0]} for row in again] == rows
    assert (status, ("begin with an apostrophe" in err)) == (0, ending == ".csv")


def test_a_result_of_escaped_prompts_has_them_escaped_once(command, tmp_path):
    source = file_of(tmp_path, "in.csv", "prompt\n=1+1\n'=2\n")
    command(source, tmp_path / "first.csv")
    command(tmp_path / "first.csv", tmp_path / "second.csv")
    assert [row.prompt for row in Dataset(tmp_path / "second.csv").rows()] == ["=1+1", "'=2"]
    assert (tmp_path / "second.csv").read_text().count("bon_escaped") == 1


def test_plain_results_say_that_cells_were_escaped_and_only_then(command, tmp_path):
    source = file_of(tmp_path, "in.txt", "This movie\nThe plot\n")
    assert "apostrophe" not in command(source, tmp_path / "a.csv")[2]
    said = command(source, tmp_path / "b.csv", answer="1;=2")[2]
    assert "In 2 rows, texts that a spreadsheet could run as formulas begin with an apostrophe" in said
    assert "bon_escaped" in said
    assert "apostrophe" not in command(source, tmp_path / "c.jsonl", answer="=2")[2]


@pytest.mark.parametrize("form", [[], ["--as", "sft"]])
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_lone_surrogate_does_not_keep_an_output_from_being_written(command, tmp_path, ending, form):
    chat = json.dumps(json.dumps([{"role": "user", "content": "half \ud800"}]))
    source = file_of(tmp_path, "in.jsonl", f'{{"prompt": {chat}}}\n{{"prompt": "half \\udfff"}}\n')
    status, _, err = command(source, tmp_path / f"out{ending}", *form, answer="an answer \ud83d of half")
    assert (status, err.count("Traceback")) == (0, 0)
    assert [row.columns["completion"] for row in Dataset(tmp_path / f"out{ending}", column="completion").rows()][1] == (
        "an answer \ufffd of half")
    assert [row.messages or row.prompt for row in Dataset(tmp_path / f"out{ending}", column="prompt").rows()] == [
        [{"role": "user", "content": "half \ufffd"}], "half \ufffd"]


def test_the_page_shows_the_journal_of_a_text_with_a_lone_surrogate(tmp_path):
    source, out = file_of(tmp_path, "in.txt", "This movie\n"), tmp_path / "out.jsonl"
    record = EchoWorker("half \ud83d")._record(Row(0, "This movie"), None)
    out.with_name("out.jsonl.partial").write_text(json.dumps({"unit": "reward"}) + "\n" + json.dumps(record) + "\n")
    (latest,) = JournalProgress(Dataset(source), out).read_new_records().values()["latest"]
    assert latest["text"] == "half \ufffd"


def test_the_page_shows_the_journal_of_a_version_that_read_more_rows(tmp_path):
    source, out = file_of(tmp_path, "in.csv", "prompt,n\nThis movie,1\n,\n"), tmp_path / "out.jsonl"
    records = [EchoWorker("fine")._record(Row(number, "This movie"), None) for number in range(2)]
    out.with_name("out.jsonl.partial").write_text("".join(json.dumps(line) + "\n" for line in [{}, *records]))
    progress = JournalProgress(Dataset(source), out).read_new_records().values()
    assert [latest["prompt"] for latest in progress["latest"]] == ["This movie", ""]


@pytest.mark.parametrize(("encoding", "words"), [
    ("no-such", "no encoding no-such"), ("base64", "no encoding base64"), ("undefined", "no encoding undefined"),
    ("ascii", "not text in the encoding ascii"), ("utf-16", "not text in the encoding utf-16"),
    ("a\0b", "no encoding"),
])
def test_an_encoding_that_is_none_or_not_the_files_is_refused_in_one_line(command, tmp_path, encoding, words):
    source = file_of(tmp_path, "in.csv", "prompt\ncaf\xe9\n".encode("cp1252"))
    status, out, err = command(source, tmp_path / "out.jsonl", "--encoding", encoding)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert words in err


@pytest.mark.parametrize(("encoding", "words"), [("no-such", "no encoding no-such"), ("cp932", "encoding cp932")])
def test_the_page_keeps_the_choice_of_the_encoding_where_it_is_not_the_files(page, tmp_path, encoding, words):
    source = file_of(tmp_path, "in.csv", "prompt\ncaf\xe9\n".encode("cp1252"))
    view, _, encodings, count = BatchHandlers(page).preview(str(source), "", None, encoding)
    assert words in view["error"]
    assert str(tmp_path) not in view["error"]
    assert (count, encodings["visible"]) == (0, True)
    assert words in start_publicly(page, source, encoding=encoding)["error"]


def test_a_byte_order_mark_overrules_the_named_encoding(command, tmp_path):
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        source = file_of(tmp_path, "in.csv", "prompt;n\nCafé;1\n".encode(encoding))
        command(source, tmp_path / "out.jsonl", "--encoding", "cp1252", "--overwrite")
        assert outcomes(tmp_path / "out.jsonl") == ["Café"]


def test_a_run_is_resumed_only_with_the_encoding_that_it_began_with(command, tmp_path):
    source = file_of(tmp_path, "in.csv", "prompt\ncaf\xe9\n".encode("cp1252"))
    (tmp_path / "out.jsonl.partial").write_text("{}\n")
    command(source, tmp_path / "other.jsonl", "--encoding", "cp1252")
    assert outcomes(tmp_path / "other.jsonl") == ["café"]
    status, _, err = command(source, tmp_path / "out.jsonl", "--encoding", "latin-1", "--resume")
    assert status == 2
    assert "encoding" in err
