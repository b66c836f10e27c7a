"""Prompts from files of every format, and the irregularities of real files."""

import json
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from bon.batch.input_rows import Dataset
from bon.errors import InputError


@pytest.fixture
def file(tmp_path):
    """Writes a file and returns its path."""
    def file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return file


def prompts(path: Path, **options) -> list[str]:
    return [row.prompt for row in Dataset(path, **options).rows()]


def survey_error(path: Path, **options) -> str:
    with pytest.raises(InputError) as raised:
        Dataset(path, **options).survey()
    return str(raised.value)


@pytest.mark.parametrize(("name", "content"), [
    ("a.csv", 'id,prompt\n1,"This, my movie"\n2,The plot\n'),
    ("a.csv", 'id;prompt\r\n1;This, my movie\r\n2;The plot\r\n'),
    ("a.csv", '\ufeffprompt,id\n"This, my movie",1\nThe plot,2\n'),
    ("a.csv", 'id\tPrompt\n1\tThis, my movie\n2\tThe plot'),
    ("a.tsv", 'id\ttext\n1\tThis, my movie\n2\tThe plot\n'),
    ("a.csv", 'prompt\n"This, my movie"\n\nThe plot\n'),
    ("a.csv", '\r\n\r\nid;prompt\r\n1;This, my movie\r\n2;The plot\r\n'),
    ("a.jsonl", '{"id": 1, "prompt": "This, my movie"}\n\n{"id": 2, "prompt": "The plot"}'),
    ("a.ndjson", '\ufeff{"question": "This, my movie"}\r\n{"question": "The plot"}\r\n'),
    ("a.txt", '\ufeffThis, my movie\n\n  \nThe plot \n'),
])
def test_prompts_are_found_in_every_format(file, name, content):
    assert prompts(file(name, content)) == ["This, my movie", "The plot"]


def test_a_cell_may_hold_lines_and_quotation_marks(file):
    path = file("a.csv", 'prompt,stars\n"He said ""no"".\nTwice",5\n')
    (row,) = Dataset(path).rows()
    assert (row.prompt, dict(row.columns)) == ('He said "no".\nTwice', {"prompt": 'He said "no".\nTwice', "stars": "5"})


def test_parquet_keeps_types(tmp_path):
    table = pyarrow.table({"id": [1, None], "prompt": ["a", "b"], "tags": [["x"], []]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert [dict(row.columns) for row in Dataset(tmp_path / "a.parquet").rows()] == table.to_pylist()


def test_equal_prompts_stay_apart_and_rows_are_numbered_from_any_start(file):
    dataset = Dataset(file("a.txt", "same\nsame\nother\n"))
    assert [(row.number, row.prompt) for row in dataset.rows()] == [(0, "same"), (1, "same"), (2, "other")]
    assert [row.number for row in dataset.rows(2)] == [2]


def test_the_survey_has_the_number_and_the_columns_of_all_rows(file):
    path = file("a.jsonl", '{"prompt": "a"}\n{"prompt": "b", "id": 1}\n')
    survey = Dataset(path).survey()
    assert (survey.rows, survey.unreadable, survey.columns) == (2, 0, ("prompt", "id"))
    assert survey.size == path.stat().st_size


def test_a_column_can_be_named(file):
    path = file("a.csv", "prompt,title\nx,Dune\n")
    assert prompts(path, column="title") == ["Dune"]
    assert "The columns are: prompt, title" in survey_error(path, column="name")


def test_without_a_prompt_column_the_columns_are_listed(file):
    message = survey_error(file("a.csv", "title,stars\nDune,5\n"))
    assert "title, stars" in message
    assert "--prompt-column" in message


def test_the_only_column_is_the_prompts(file):
    assert prompts(file("a.csv", "title\nDune\n")) == ["Dune"]


def test_a_template_makes_prompts_from_columns(file):
    path = file("a.csv", "title,film year\nDune,1984\nAlien,\n")
    first, second = Dataset(path, template="A {{review}} of {title} ({film year}):").rows()
    assert first.prompt == "A {review} of Dune (1984):"
    assert (second.prompt, second.error) == (None, "This row has no film year, which the template needs.")


def test_a_nan_counts_as_missing_in_a_template(tmp_path):
    table = pyarrow.table({"title": ["Dune", "Alien"], "stars": [5.0, float("nan")]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    first, second = Dataset(tmp_path / "a.parquet", template="{title}, {stars}:").rows()
    assert (first.prompt, second.prompt, second.error) == (
        "Dune, 5.0:", None, "This row has no stars, which the template needs.")


@pytest.mark.parametrize(("template", "message"), [
    ("A review", "names no column"), ("{name}:", "{name}, which is not a column"), ("{title", "cannot be read"),
    ("{title.__class__}", "not a column"), ("{title!r}", "not a column"), ("{title:>20}", "not a column"),
    ("{}", "not a column"),
])
def test_a_template_that_cannot_work_is_refused(file, template, message):
    assert message in survey_error(file("a.csv", "title\nDune\n"), template=template)


def test_column_and_template_together_are_refused(file):
    assert "not both" in survey_error(file("a.csv", "title\nDune\n"), template="{title}", column="title")


CHAT = [{"role": "user", "content": "Hi"}]


def test_messages_are_a_chat(file, tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"messages": [CHAT]}), tmp_path / "a.parquet")
    cell = json.dumps(CHAT).replace('"', '""')
    for path in (file("a.jsonl", json.dumps({"id": 1, "messages": CHAT})),
                 file("b.jsonl", json.dumps({"prompt": CHAT})),
                 file("a.csv", f'id,messages\n1,"{cell}"\n'), tmp_path / "a.parquet"):
        (row,) = Dataset(path).rows()
        assert (row.prompt, row.messages, row.error) == (None, CHAT, None)


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.jsonl", '{"prompt": "a"}\n' * 6 + '{"prompt": "b"\n', "line 7 is not JSON"),
    ("a.jsonl", '{"prompt": "a"}\n' + "[" * 100_000 + "\n", "line 2 is not JSON"),
    ("a.jsonl", '{"prompt": "a"}\n"b"\n', "line 2 is not a JSON object"),
    ("a.csv", "id,prompt\n1,a\n2,b,c\n", "line 3 has 3 cells but the header has 2"),
    ("a.csv", 'id,prompt\n1,"a"b\n', "line 2 cannot be read"),
    ("a.csv", 'id,prompt\n1,a\n2,b\n3,"never closed\n', "line 4 cannot be read: a quotation mark begins a cell"),
])
def test_a_row_that_cannot_be_read_is_named_by_its_line_and_can_be_skipped(file, name, content, message):
    path = file(name, content)
    assert message in survey_error(path)
    assert "--skip-bad" in survey_error(path)
    if content.startswith("id,prompt\n1,\"a\"b"):
        assert "no row that can be read" in survey_error(path, skip_bad=True)
    else:
        rows = list(Dataset(path, skip_bad=True).rows())
        assert rows[0].error is None
        assert message in rows[-1].error
        assert Dataset(path, skip_bad=True).survey().unreadable == 1


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.csv", "", "no rows"), ("a.csv", "prompt\n", "no rows"), ("a.jsonl", "\n\n", "no rows"),
    ("a.txt", " \n", "no rows"),
    ("a.csv", b"prompt\n\x00\x01\x02", "not text"), ("a.txt", "a\n".encode("utf-16-le"), "UTF-16"),
    ("a.csv", "prompt\ncafé\n".encode("latin-1"), "UTF-8"), ("a.csv", "prompt,prompt\na,b\n", "twice"),
    ("a.parquet", b"PAR1 not really", "cannot be read as Parquet"), ("a.xlsx", b"PK", "one of .csv"),
])
def test_a_file_that_cannot_work_is_refused(file, name, content, message):
    assert message in survey_error(file(name, content))


@pytest.mark.skipif(sys.platform != "linux", reason="a file of /proc that nobody can read")
def test_an_error_of_the_system_is_in_the_message(tmp_path):
    (tmp_path / "a.txt").symlink_to("/proc/self/mem")
    for path in (tmp_path / "a.txt", tmp_path / ("x" * 300 + ".txt")):
        assert "cannot be read" in survey_error(path)


def test_an_absent_file_is_named(tmp_path):
    assert "There is no file" in survey_error(tmp_path / "a.csv")


@pytest.mark.parametrize(("value", "message"), [(5, "not int"), ({"a": 1}, "not dict")])
def test_a_prompt_that_is_no_text_fails_in_its_row_alone(file, value, message):
    first, second = Dataset(file("a.jsonl", json.dumps({"prompt": value}) + '\n{"prompt": "b"}')).rows()
    assert message in first.error
    assert (second.prompt, second.error) == ("b", None)


def test_values_that_json_cannot_hold_are_replaced(file):
    line = '{"prompt": "a\\ud800", "x": NaN, "y": "\\ude00\\uD83D\\uDE00", "z": [-1e400, 2.5]}'
    (row,) = Dataset(file("a.jsonl", line)).rows()
    assert dict(row.columns) == {"prompt": "a\ufffd", "x": None, "y": "\ufffd\U0001f600", "z": [None, 2.5]}


def test_a_million_rows_take_no_memory(file):
    import tracemalloc

    path = file("a.jsonl", '{"prompt": "This movie", "id": 12345}\n' * 40_000)
    assert path.stat().st_size > 1.5e6
    dataset = Dataset(path)
    tracemalloc.start()
    assert sum(1 for _ in dataset.rows()) == 40_000
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


ONE = [{"role": "user", "content": "x"}]
ASSISTANT = '{"role": "assistant", "content": "a", '


@pytest.mark.parametrize(("column", "cell", "expected"), [
    ("prompt", '[{"content": "x", "role": "user"}]', ONE),
    ("prompt", "  [ { 'role' : 'user', 'content' : 'x' } ] ", ONE),
    ("prompt", '[{"role": "user", "content": "x", "name": null}]', ONE),
    ("prompt", r"[{'role': 'user', 'content': 'it\'s \u00e9'}]", [{"role": "user", "content": "it's \u00e9"}]),
    ("prompt", '{"role": "user", "content": "x"}', '{"role": "user", "content": "x"}'),
    ("prompt", '[{"from": "human", "value": "x"}]', '[{"from": "human", "value": "x"}]'),
    ("prompt", "[]", "[]"), ("messages", "[hello]", "[hello]"), ("messages", "hello", "hello"),
    ("messages", "[]", "must be a list"), ("messages", '{"role": "user", "content": "x"}', "must be a list"),
    ("messages", "['a']", "which this one lacks: 'a'"),
    ("prompt", "[{\u201crole\u201d: \u201cuser\u201d}]", "cannot be read as one"),
    ("prompt", '[{"role": "user", "content": "x"}] and more', "cannot be read as one"),
    ("prompt", "[{'role': " + "(" * 100_000, "cannot be read as one"),
    ("prompt", '[{"role": ' + "[" * 100_000, "cannot be read as one"),
    ("prompt", '[{"role": "user", "content": "x"}, 5]', "which this one lacks: 5"),
    ("prompt", f'[{ASSISTANT}"tool_calls": [{{"id": "1"}}]}}]', "has tool_calls"),
    ("prompt", f'[{ASSISTANT}"function_call": {{"name": "f"}}}}]', "has function_call"),
    ("prompt", '[{"role": "user", "content": [{"type": "text", "text": "x"}]}]', "which this one lacks"),
])
def test_a_cell_is_a_chat_a_prompt_or_an_error(file, column, cell, expected):
    (row,) = Dataset(file("a.jsonl", json.dumps({column: cell}))).rows()
    if row.error:
        assert expected in row.error
    else:
        assert (row.messages or row.prompt) == expected


@pytest.mark.parametrize(("content", "expected"), [
    ('prompt|n\n"a|b"|1\n', [{"prompt": "a|b", "n": "1"}]),
    ("prompt\tn, m\nx\t1\n", [{"prompt": "x", "n, m": "1"}]),
    ("prompt;n\n   \nx;1\n", [{"prompt": "x", "n": "1"}]),
    ("prompt;\nx;\n;\ny;\n", [{"prompt": "x"}, {"prompt": "y"}]),
    (",prompt\n0,x\n", [{"": "0", "prompt": "x"}]),
    ("prompt,,,n\nx,,,1\n", [{"prompt": "x", "": "", "column 3": "", "n": "1"}]),
    ('prompt\n""\nx\n', [{"prompt": ""}, {"prompt": "x"}]),
    ("\ufeffSEP=;\nprompt;n\nx;1\n", [{"prompt": "x", "n": "1"}]),
])
def test_csv_is_cut_where_a_spreadsheet_would_cut_it(file, content, expected):
    assert [dict(row.columns) for row in Dataset(file("a.csv", content)).rows()] == expected


def test_objects_without_keys_are_no_rows_to_read(file):
    assert "no rows" in survey_error(file("a.jsonl", "{}\n{}\n"))


def test_names_of_later_rows_count_for_column_and_template(file):
    path = file("a.jsonl", '{"id": 1}\n{"id": 2, "title": "Dune"}\n')
    assert prompts(path, column="title") == ["", "Dune"]
    assert prompts(path, template="Of {title}:") == [None, "Of Dune:"]
    assert "The columns are: id, title" in survey_error(path, column="name")
