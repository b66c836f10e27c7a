"""The export formats of a batch: the rows of each form, and the writers of each file format."""

import csv
import datetime
import decimal
import json
import math
import uuid

import numpy
import pyarrow
import pyarrow.parquet
import pytest

from bon.batch import export_formats, writers
from bon.batch.export_formats import BEST, PREFERENCE, SCORED, SFT
from bon.batch.input_rows import Dataset, Row
from bon.errors import InputError
from bon.result import Candidate, Result, Timing
from bon.settings import Settings

CHAT = [{"role": "user", "content": "Hi"}]
NAN = math.nan
FORMULA = '=HYPERLINK("http://x","y")'


def result(*candidates: tuple[str, float], **settings) -> Result:
    """A result of candidates with text and score, best first."""
    ranked = [Candidate(i, text, score, i + 1, tokens=3, ended="eos") for i, (text, score) in enumerate(candidates)]
    settings_of_run = Settings(n=len(ranked), seed=0, **settings)
    return Result("p", "m", "s", None, "reward", settings_of_run, tuple(ranked), None, Timing())


@pytest.fixture
def dataset(tmp_path):
    """A file with a column called score besides the prompt."""
    (tmp_path / "in.csv").write_text("id,prompt,score\n7,The plot,5\n")
    return Dataset(tmp_path / "in.csv")


def exported_rows(form, dataset, *candidates, margin=0.0, row=None) -> export_formats.ExportedRows:
    row = row or next(dataset.rows())
    record = export_formats.result_record(row.number, result(*candidates), form)
    return export_formats.output_rows(form, dataset, row, record, margin)


TWO = ((" good", 0.9), (" bad", 0.25))


def test_the_plain_form_adds_the_winner_to_the_columns_of_the_row(dataset):
    (row,) = exported_rows(BEST, dataset, *TWO).rows
    assert row == {"id": "7", "prompt": "The plot", "input_score": "5", "completion": " good", "score": 0.9,
                   "mean_score": None, "n": 2, "tokens": 3, "ended": "eos", "error": None}
    assert export_formats.output_columns(BEST, dataset, dataset.survey()) == list(row)


def test_a_row_that_failed_has_its_error_and_no_completion(dataset):
    failure = export_formats.failure_record(0, "too long")
    (row,) = export_formats.output_rows(BEST, dataset, next(dataset.rows()), failure).rows
    assert (row["id"], row["completion"], row["error"]) == ("7", None, "too long")


@pytest.mark.parametrize("form", [SFT, PREFERENCE, SCORED])
def test_training_data_has_no_rows_that_failed(dataset, form):
    failure = export_formats.failure_record(0, "too long")
    exported = export_formats.output_rows(form, dataset, next(dataset.rows()), failure)
    assert exported == export_formats.ExportedRows((), "failed")


def test_the_sft_form_has_the_completion_of_the_winner(dataset):
    (row,) = exported_rows(SFT, dataset, *TWO).rows
    assert row == {"row": 0, "prompt": "The plot", "completion": " good", "score": 0.9, "id": "7", "input_score": "5"}


def test_preferences_are_best_and_worst_with_their_margin(dataset):
    (row,) = exported_rows(PREFERENCE, dataset, (" good", 0.9), (" so", 0.5), (" bad", 0.25)).rows
    assert (row["prompt"], row["chosen"], row["rejected"]) == ("The plot", " good", " bad")
    assert (row["score_chosen"], row["score_rejected"], row["margin"]) == (0.9, 0.25, 0.65)


@pytest.mark.parametrize(("candidates", "margin", "reason"), [
    ([(" a", 0.5), (" a", 0.5)], 0.0, "equal"), ([(" a", 0.5), (" b", 0.5)], 0.0, "margin"),
    ([(" a", 0.5), (" b", 0.25)], 0.3, "margin"), ([(" a", 0.5), (" b", 0.25)], 0.25, None),
])
def test_pairs_without_a_preference_are_left_out(dataset, candidates, margin, reason):
    exported = exported_rows(PREFERENCE, dataset, *candidates, margin=margin)
    assert (exported.left_out, len(exported.rows)) == (reason, 0 if reason else 1)


def test_the_scored_form_has_every_candidate_with_its_score(dataset):
    rows = exported_rows(SCORED, dataset, *TWO).rows
    assert [(row["row"], row["prompt"], row["completion"], row["score"]) for row in rows] == [
        (0, "The plot", " good", 0.9), (0, "The plot", " bad", 0.25)]


def test_labels_compare_with_the_mean_of_all_complete_candidates(dataset):
    ranked = ((" a", 0.9), (" b", 0.8), (" c", 0.1))
    assert [row["label"] for row in exported_rows(SCORED, dataset, *ranked).rows] == [True, True, False]
    record = export_formats.result_record(0, result(*ranked), SCORED, keep=2)
    rows = export_formats.output_rows(SCORED, dataset, next(dataset.rows()), record).rows
    assert [row["label"] for row in rows] == [True, True]


@pytest.mark.parametrize("scores", [[0.7] * 3, [0.1] * 3, [0.5]])
def test_candidates_with_equal_scores_have_no_labels(dataset, scores):
    texts = [(f" {i}", score) for i, score in enumerate(scores)]
    assert exported_rows(SCORED, dataset, *texts) == export_formats.ExportedRows([], "same")


def test_rejected_candidates_are_no_examples(dataset):
    dropped = Candidate(2, " half", 0.99, 3, ended="rejected")
    complete = result(*TWO)
    with_dropped = Result(**{**vars(complete), "candidates": (*complete.candidates, dropped)})
    record = export_formats.result_record(0, with_dropped, PREFERENCE)
    assert [c["text"] for c in record["candidates"]] == [" good", " bad"]


@pytest.mark.parametrize(("form", "names"), [
    (SFT, {"prompt", "completion"}), (PREFERENCE, {"prompt", "chosen", "rejected"}),
    (SCORED, {"prompt", "completion"})])
def test_chats_become_messages(dataset, form, names):
    row = Row(0, messages=CHAT, columns={"messages": CHAT})
    for out in exported_rows(form, dataset, *TWO, row=row).rows:
        for name in names:
            assert {message["role"] for message in out[name]} == {"user" if name == "prompt" else "assistant"}


@pytest.mark.parametrize(("form", "name"), [(SFT, "completion"), (PREFERENCE, "chosen"), (SCORED, "completion")])
def test_a_continued_message_is_one_turn(dataset, form, name):
    messages = [*CHAT, {"role": "assistant", "content": "It is"}]
    row = Row(0, messages=messages, columns={"messages": messages})
    row_written = exported_rows(form, dataset, *TWO, row=row).rows[0]
    assert (row_written["prompt"], row_written[name]) == (CHAT, [{"role": "assistant", "content": "It is good"}])


def test_columns_with_names_that_trainers_use_are_renamed(tmp_path):
    (tmp_path / "in.jsonl").write_text(json.dumps({"prompt": "a", "text": "b", "input_text": "c", "messages": CHAT}))
    dataset = Dataset(tmp_path / "in.jsonl")
    (row,) = exported_rows(SFT, dataset, *TWO).rows
    assert (row["input_text"], row["input_input_text"], row["input_messages"]) == ("b", "c", CHAT)
    assert set(row).isdisjoint({"text", "messages"})


def test_the_prompt_of_a_template_is_a_column(tmp_path):
    (tmp_path / "in.csv").write_text("title,prompt\nDune,old\n")
    dataset = Dataset(tmp_path / "in.csv", template="On {title}:")
    (row,) = exported_rows(BEST, dataset, *TWO).rows
    assert (row["title"], row["input_prompt"], row["prompt"]) == ("Dune", "old", "On Dune:")
    assert export_formats.output_columns(BEST, dataset, dataset.survey()) == list(row)


@pytest.mark.parametrize(("form", "settings", "margin", "field"), [
    (PREFERENCE, {"n": 1}, 0, "as"), (SCORED, {"n": 1}, 0, "as"), (PREFERENCE, {"select": "worst"}, 0, "as"),
    (SFT, {}, 0.1, "margin"),
    (PREFERENCE, {}, -1, "margin"), (BEST, {"keep": 2}, 0, "keep"),
])
def test_settings_that_make_no_data_are_refused(form, settings, margin, field):
    with pytest.raises(InputError) as raised:
        form.check(Settings(**settings), margin)
    assert raised.value.field == field


# Files.

ROWS = [
    {"prompt": "a,b\n\"c\"", "completion": FORMULA, "score": 0.5, "id": -5, "tags": ["x"], "mixed": 1, "none": None},
    {"prompt": "é😀", "completion": " - x", "score": 1.0, "id": 2**40, "tags": [], "mixed": "two", "none": None},
]


def test_csv_is_read_back_and_no_cell_is_a_formula(tmp_path):
    writers.write_csv(ROWS, list(ROWS[0]), tmp_path / "a.csv")
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        first, last = csv.DictReader(file)
    assert (first["prompt"], first["completion"]) == ('a,b\n"c"', "'" + FORMULA)
    assert (first["id"], first["tags"], first["none"]) == ("-5", '["x"]', "")
    assert (last["prompt"], last["completion"]) == ("é😀", "' - x")


def test_numbers_in_text_columns_stay_numbers_in_csv(tmp_path):
    writers.write_csv([{"a": "-5.25", "b": "-x", "c": "+1e3"}], "abc", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == '"-5.25","\'-x","+1e3","yes"'


def test_jsonl_is_read_back(tmp_path):
    writers.write_jsonl(ROWS, (), tmp_path / "a.jsonl")
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()] == ROWS


def test_parquet_has_the_types_of_all_rows_and_text_for_a_mixture(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "ROW_GROUP", 1)
    writers.write_parquet(ROWS, list(ROWS[0]), tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table.to_pylist() == [{**ROWS[0], "mixed": "1"}, ROWS[1]]
    assert table.schema.field("none").type == pyarrow.string()


@pytest.mark.parametrize("values", [
    [{}, {}], [[{"x": {}}], None], [2**60 + 1, 0.5], [True, 3], [[1], 3], [10**30, None], [[1, "x"], None],
    [{"x": 1}, {"x": "z"}],
])
def test_parquet_stores_values_without_a_common_type_as_text(tmp_path, values):
    rows = [{"meta": value, "n": i} for i, value in enumerate(values)]
    writers.write_parquet(rows, ["meta", "n"], tmp_path / "a.parquet")
    stored = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["n"] for row in stored] == [0, 1]
    assert [row["meta"] and json.loads(row["meta"]) for row in stored] == values


def test_types_of_parquet_that_json_lacks_become_text(tmp_path):
    row = {"when": datetime.datetime(2026, 1, 2, 3, 4), "raw": b"x"}
    writers.write_jsonl([row], (), tmp_path / "a.jsonl")
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {"when": "2026-01-02T03:04:00", "raw": "x"}
    writers.write_parquet([row], list(row), tmp_path / "a.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist() == [row]


def test_every_value_of_a_parquet_file_can_be_written_as_json(tmp_path):
    moment = datetime.timedelta(seconds=1)
    row = {"uuid": uuid.UUID(int=1), "price": decimal.Decimal("NaN"), "spent": moment, "array": numpy.array([1.5, NAN]),
           "number": numpy.float32(NAN), "map": [("a", NAN)], "raw": b"\xff", "day": datetime.date(2026, 1, 2)}
    writers.write_jsonl([row], (), tmp_path / "a.jsonl")
    assert json.loads((tmp_path / "a.jsonl").read_text("utf-8"), parse_constant=pytest.fail) == {
        "uuid": "00000000-0000-0000-0000-000000000001", "price": "NaN", "spent": "0:00:01", "array": [1.5, None],
        "number": None, "map": [["a", None]], "raw": "\ufffd", "day": "2026-01-02"}


def test_csv_keeps_numbers_that_are_not_finite_and_has_json_in_its_cells(tmp_path):
    writers.write_csv([{"a": NAN, "b": [NAN, 1], "c": {"x": -math.inf}}], "abc", tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="") as file:
        assert list(csv.reader(file))[1] == ["nan", "[null, 1]", '{"x": null}']


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_file_of_no_rows_still_has_its_columns(tmp_path, name):
    writers.writer(tmp_path / name)([], ["prompt", "chosen"], tmp_path / name)
    if name.endswith("parquet"):
        assert pyarrow.parquet.read_table(tmp_path / name).column_names == ["prompt", "chosen"]
    else:
        assert (tmp_path / name).read_text() == ('"prompt","chosen"\n' if name.endswith("csv") else "")


def test_an_unknown_file_ending_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.jsonl, \.ndjson, \.csv, \.parquet"):
        writers.writer(tmp_path / "a.xlsx")
