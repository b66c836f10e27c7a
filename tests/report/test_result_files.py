"""Result files and charts: read back and compared with the run."""

import csv
import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser

import pytest

from bon.cli.main import main
from bon.events import Ended, Note, Scored, Started
from bon.report import result_files, run_charts
from bon.report.numbers import format_duration
from bon.result import Candidate
from bon.run_state import RunState
from bon.settings import Settings

TEXTS = (" was <b>fine</b>.", "=1+1", " said \"no\", twice", "\nnew line", " @import 'x'")
SCORES = (0.5, 0.9, 0.1, 0.7, None)


def make_run(texts=TEXTS, scores=SCORES, unit="probability", **settings):
    """A run with these texts and scores; None was never scored."""
    state = RunState()
    n = len(texts)
    state.add(Started("<i>A", "lm & co", "judge", "POSITIVE", unit, Settings(n=n, seed=3, **settings), (9,) * n))
    for i, (text, score) in enumerate(zip(texts, scores, strict=True)):
        if score is not None:
            state.add(Ended(Candidate(i, text, tokens=5, cap=9, ended="eos", logprob=-1.25)))
            state.add(Scored(i, score, {"logprob": -0.25}))
    state.add(Note("a <note>"))
    return state.result(stopped=None in scores)


class Page(HTMLParser):
    """The tags of a page and the text between them."""

    def __init__(self, source: str):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_numbers_that_json_lacks_are_null():
    run = make_run(scores=SCORES[:4], texts=TEXTS[:4])
    run = dataclasses.replace(run, candidates=tuple(
        dataclasses.replace(c, logprob=-math.inf, parts={"x": math.nan}) for c in run.candidates))
    record = json.loads(result_files.run_json(run), parse_constant=pytest.fail)
    assert {(c["logprob"], c["parts"]["x"]) for c in record["candidates"]} == {(None, None)}
    assert [c["score"] for c in record["candidates"]] == [0.9, 0.7, 0.5, 0.1]


def test_the_json_is_that_of_to_dict():
    run = make_run()
    assert json.loads(result_files.run_json(run)) == json.loads(json.dumps(run.to_dict()))


def test_the_csv_has_every_candidate_best_first():
    rows = list(csv.DictReader(io.StringIO(result_files.run_csv(make_run()), newline="")))
    assert [row["index"] for row in rows] == ["1", "3", "0", "2", "4"]
    assert [row["score"] for row in rows] == ["0.9", "0.7", "0.5", "0.1", ""]
    assert rows[2]["text"] == " was <b>fine</b>."
    assert rows[2]["part: logprob"] == "-0.25"
    assert rows[4]["ended"] == "stopped"


@pytest.mark.parametrize(("text", "escaped"), [
    ("=1+1", "'=1+1"), ("+x", "'+x"), ("@SUM(A1)", "'@SUM(A1)"), (" =1", "' =1"), ("\t=1", "'\t'=1"),
    ("\r=1", "'\r'=1"), ("1;=1", "1;'=1"), ("-1", "-1"),
])
def test_no_text_becomes_a_formula(text, escaped):
    row = next(csv.DictReader(io.StringIO(result_files.run_csv(make_run((text,), (0.5,))), newline="")))
    assert row["text"] == escaped
    assert float(row["logprob"]) == -1.25  # numbers stay numbers


def test_the_html_file_loads_nothing_and_has_no_scripts():
    source = result_files.run_html(make_run())
    page = Page(source)
    assert not {"script", "link", "img", "iframe", "b", "i", "note"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert not re.search(r"@import(?! 'x')|url\(", source)
    for text in (*TEXTS[:4], "<i>A", "lm & co", "a <note>", "seed 3"):
        assert text in page.text
    assert page.tags.count("svg") == 4


MARKUP = "</text></svg><img src=x onerror=alert(1)><script>alert(2)</script>"


def test_markup_in_any_field_of_a_record_stays_text():
    run = make_run(TEXTS[:3], SCORES[:3])
    forged = dataclasses.replace(
        run, model=MARKUP, scorer=MARKUP, target=MARKUP, unit=MARKUP, notes=(MARKUP,),
        candidates=tuple(dataclasses.replace(c, rank=MARKUP, tokens=MARKUP, ended=MARKUP) for c in run.candidates),
        timing=dataclasses.replace(run.timing, tokens=MARKUP))
    for source in (result_files.run_html(forged), forged._repr_html_(), run_charts.strip(forged).markup()):
        page = Page(source)
        assert not {"img", "script"} & set(page.tags)
        assert MARKUP in page.text + "".join(value for _, value in page.attributes)


def test_the_html_file_of_a_run_without_a_score_has_no_winner_and_no_charts():
    page = Page(result_files.run_html(make_run((" a", " b"), (None, None))))
    assert "blockquote" not in page.tags
    assert "svg" not in page.tags
    assert "(stopped after 0 tokens)" in page.text


@pytest.mark.parametrize("n", [1, 2, 5, 64, 256])
def test_the_dots_stand_at_their_scores(n):
    scores = [i / n for i in range(n)]
    run = make_run([" x"] * n, scores)
    xs = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', run_charts.strip(run).markup())]
    expected = [run_charts._x(score) for score in sorted(scores)]
    assert xs == pytest.approx(expected, abs=0.11)
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', run_charts.strip(run).markup())]
    assert min(heights) >= run_charts.TOP - 1


def test_equal_scores_are_piled_and_not_hidden():
    svg = run_charts.strip(make_run([" x"] * 9, [0.5] * 9)).markup()
    assert len(set(re.findall(r'cy="([\d.]+)"', svg))) == 9


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0 s"), (0.01, "0.1 s"), (0.94, "0.9 s"), (3, "3 s"), (99, "99 s"), (600, "10 min"), (7200, "2.0 h"),
])
def test_durations_have_the_precision_of_an_estimate(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("mean", "anchor"), [(0.1, "start"), (0.45, "start"), (0.55, "end"), (0.9, "end")])
def test_the_label_of_the_mean_extends_to_the_wider_side(mean, anchor):
    svg = run_charts.strip(make_run([" x"] * 2, [mean - 0.05, mean + 0.05])).markup()
    assert re.search(f'text-anchor="{anchor}"[^>]*>one sample {mean:.3f}', svg)


def test_the_curve_labels_the_expected_scores_of_one_and_of_all_candidates():
    svg = run_charts.curve(make_run([" x"] * 4, [0.0, 1.0, 0.5, 0.5])).markup()
    assert ">0.500<" in svg
    assert ">1.000<" in svg
    assert 'aria-label="Expected score by number of candidates: 1: 0.500, 2: 0.750, 4: 1.000"' in svg


@pytest.mark.parametrize("run", [make_run([" x"], [0.5]), make_run([" x"] * 3, [None] * 3)])
def test_there_is_no_curve_of_one_candidate_or_without_scores(run):
    assert run_charts.curve(run) is None


def test_margins_have_an_axis_of_their_own():
    svg = run_charts.strip(make_run([" x"] * 3, [-2.0, 0.0, 3.5], unit="margin")).markup()
    assert "−" in svg


def test_the_command_line_writes_csv_and_html(tmp_path, lm_folder, classifier_folder, capsys):
    files = ["--csv", str(tmp_path / "r.csv"), "--html", str(tmp_path / "r.html")]
    models = ["--model", lm_folder, "--scorer", classifier_folder]
    argv = ["This movie", "-n", "3", "--seed", "7", *models, "--json", *files]
    capsys.readouterr()
    assert main(argv) == 0
    printed = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader((tmp_path / "r.csv").open(encoding="utf-8", newline="")))
    assert [float(row["score"]) for row in rows] == [c["score"] for c in printed["candidates"]]
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("command", [["x"], ["compare", "x"]])
def test_a_missing_output_folder_is_refused_before_the_work(command, tmp_path, capsys):
    assert main([*command, "--html", str(tmp_path / "no" / "r.html")]) == 2
    assert "its folder does not exist" in capsys.readouterr().err
    assert main([*command, "--csv", str(tmp_path)]) == 2
