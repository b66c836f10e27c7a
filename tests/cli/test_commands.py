"""The command line: its standard output, standard error and exit status."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bon
from bon.cli.main import main
from bon.compare.systems import systems
from bon.events import Scored
from bon.settings import Settings
from tests.support import tiny
from tests.support.processes import HEED

ROOT = Path(__file__).parents[2]
PROMPT = "This movie"


@pytest.fixture
def run(capsys, lm_folder, classifier_folder):
    """The command line on tiny models: status, standard output and standard error."""
    def run(*argv: str) -> tuple[int, str, str]:
        models = () if argv[:1] == ("models",) else ("--model", lm_folder, "--scorer", classifier_folder)
        capsys.readouterr()  # what making the models printed
        status = main([*models, *argv])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def result_of(run):
    """The dict that --json prints, of a run that succeeds with an empty standard error."""
    def result_of(*argv: str) -> dict:
        status, out, err = run("--json", *argv)
        assert (status, err) == (0, "")
        assert out.count("\n") == 1
        assert out.endswith("\n")
        return json.loads(out)

    return result_of


def assert_refused(outcome: tuple[int, str, str], *parts: str) -> None:
    status, out, err = outcome
    assert (status, out) == (2, "")
    assert err.startswith("bon: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def test_plain_output_shows_winner_runners_up_and_facts(run):
    status, out, err = run(PROMPT, "-n", "3", "--seed", "7")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if re.match(r" +\d  +[01]\.\d{3}  ", line)] == ["1", "2", "3"]
    for part in ("prompt: This movie", "POSITIVE probability", "one sample scores", "seed 7", "tokens in"):
        assert part in out


def test_json_is_the_dict_of_the_result_on_one_line(result_of, lm_folder, classifier_folder):
    record = result_of(PROMPT, "-n", "4", "--seed", "7")
    expected = bon.best_of_n(PROMPT, model=lm_folder, scorer=classifier_folder, n=4, seed=7).to_dict()
    assert {**record, "timing": None} == {**json.loads(json.dumps(expected)), "timing": None}


def test_the_same_seed_repeats_the_run_and_fewer_candidates_are_the_first_of_more(result_of):
    def by_index(result: dict) -> list[str]:
        return [c["text"] for c in sorted(result["candidates"], key=lambda c: c["index"])]

    eight = by_index(result_of(PROMPT, "-n", "8", "--seed", "7"))
    assert by_index(result_of(PROMPT, "-n", "8", "--seed", "7")) == eight
    assert by_index(result_of(PROMPT, "--n", "4", "--seed", "7")) == eight[:4]


def test_every_option_reaches_the_settings(result_of, lm_folder, classifier_folder):
    options = {"n": 5, "target": "NEGATIVE", "min_tokens": 2, "max_tokens": 6, "temperature": 0.5, "top_p": 0.75,
               "top_k": 20, "seed": 11, "unit": "logit", "keep": 3}
    argv = [argument for name, value in options.items() for argument in ("--" + name.replace("_", "-"), str(value))]
    result = result_of(PROMPT, *argv, "--stop", "!?", "--stop", r"\n\\n", "--repetition-penalty", "1.1")
    options |= {"stop": ["!?", "\n\\n"], "repetition_penalty": 1.1}
    expected = {**options, "model": lm_folder, "scorer": classifier_folder}
    assert {name: result["settings"][name] for name in expected} == expected
    assert (result["target"], result["unit"], len(result["candidates"])) == ("NEGATIVE", "logit", 3)
    assert all(2 <= c["cap"] <= 6 for c in result["candidates"])


def test_without_a_seed_each_run_has_a_fresh_one_and_shows_it(result_of):
    seed, other_seed = (result_of(PROMPT, "-n", "2")["settings"]["seed"] for _ in range(2))
    assert seed != other_seed


def test_the_scorer_may_be_the_models_log_probability(result_of):
    assert result_of(PROMPT, "-n", "2", "--scorer", "logprob")["unit"] == "nats per token"


def test_device_and_number_type_can_be_chosen(result_of):
    assert len(result_of(PROMPT, "-n", "2", "--device", "cpu", "--dtype", "bf16")["candidates"]) == 2


def test_unconditional_needs_no_prompt(result_of):
    assert len(result_of("--unconditional", "-n", "2")["candidates"]) == 2


@pytest.mark.parametrize(("argv", "message"), [
    (("",), "prompt is empty"),
    ((" \n\t ",), "prompt is empty"),
    ((PROMPT, "-n", "0"), "from 1 to 4096"),
    ((PROMPT, "-n", "-3"), "from 1 to 4096"),
    ((PROMPT, "-n", "4097"), "4097"),
    ((PROMPT, "-n", "2.5"), "whole number"),
    ((PROMPT, "-n", "two"), "'two'"),
    ((PROMPT, "-n", "9" * 5000), "whole number"),
    ((PROMPT, "-n", "4", "--keep", "0"), "keep"),
    ((PROMPT, "-n", "4", "--keep", "5"), "keep is 5"),
    ((PROMPT, "--min-tokens", "9", "--max-tokens", "3"), "min_tokens (9) is above max_tokens (3)"),
    ((PROMPT, "--min-tokens", "0"), "min_tokens"),
    ((PROMPT, "--temperature", "0"), "above 0"),
    ((PROMPT, "--temperature", "-1"), "above 0"),
    ((PROMPT, "--temperature", "nan"), "temperature must be a number"),
    ((PROMPT, "--temperature", "warm"), "'warm'"),
    ((PROMPT, "--top-p", "0"), "top_p"),
    ((PROMPT, "--top-p", "1.1"), "1.1"),
    ((PROMPT, "--top-k", "-1"), "top_k"),
    ((PROMPT, "--seed", "-1"), "seed"),
    ((PROMPT, "--seed", "x"), "seed"),
    ((PROMPT, "--unit", "stars"), "'stars'"),
    ((PROMPT, "--target", "NICE"), "NEGATIVE, POSITIVE"),
    ((PROMPT, "--target", ""), "target"),
    ((PROMPT, "--scorer", "logprob", "--target", "POSITIVE"), "target"),
    ((PROMPT, "--model", ""), "model"),
    ((PROMPT, "--model", "./nowhere"), "no folder ./nowhere"),
    ((PROMPT, "--model", "~nobody/x"), "~nobody/x"),
    ((PROMPT, "--model", "a b"), "'a b'"),
    ((PROMPT, "--model", "a/b/c"), "'a/b/c'"),
    ((PROMPT, "--model", "x" * 10_000), "not a preset"),
    ((PROMPT, "--model", "/" + "x" * 10_000), "no folder"),
    ((PROMPT, "--scorer", "a b"), "'a b'"),
    ((PROMPT, "--device", "toaster"), "no device 'toaster'"),
    ((PROMPT, "--dtype", "int3"), "bf16"),
    ((PROMPT, "--max-tokens", "300"), "256"),
    ((PROMPT, "--no-such-option"), "--no-such-option"),
    ((PROMPT, "-n"), "expected one argument"),
    ((PROMPT, "--temp", "1"), "--temp"),
    ((PROMPT, "another"), "another"),
    (("models", "more"), "more"),
])
def test_input_that_cannot_work_ends_with_2_and_one_line(run, argv, message):
    assert_refused(run(*argv), message)


def test_a_prompt_of_100_000_characters_is_refused_with_both_numbers(run):
    outcome = run("This movie is great. " * 5000)
    assert_refused(outcome, "256 in all", "at most 224")
    assert len(outcome[2]) < 1000


def test_a_folder_without_a_model_is_refused(run, tmp_path):
    assert_refused(run(PROMPT, "--model", str(tmp_path)), "config.json", str(tmp_path))


def test_a_folder_with_broken_weights_is_refused(run, tmp_path):
    folder = tiny.save(tiny.gpt2(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    assert_refused(run(PROMPT, "--model", folder), folder)


@pytest.mark.parametrize("prompt", [
    "👩‍👩‍👧 🇺🇳 ❤️", "هذا الفيلم رائع", "सिनेमा", "<script>alert(1)</script>", "${7*7}", "a\0b", "line\nline", "\ud83d",
    "caf\udce9", "--".join("ab"),
])
def test_any_text_can_be_a_prompt(result_of, prompt):
    record = result_of(prompt, "-n", "2")
    assert record["prompt"] == re.sub("[\ud800-\udfff]", "\ufffd", prompt)
    assert len(record["candidates"]) == 2


def test_a_prompt_that_is_a_subcommand_or_an_option_follows_two_dashes(result_of):
    assert result_of("-n", "2", "--", "models")["prompt"] == "models"
    assert result_of("-n", "2", "--", "--json")["prompt"] == "--json"


def test_two_dashes_first_make_a_prompt_of_a_subcommand(capsys):
    assert main(["--", "models"]) in (0, 2)  # 2 where the embedded models are not made yet
    assert "gpt2-imdb" not in capsys.readouterr().out


@pytest.mark.parametrize("hostile", ["\x1b[31mred\x1b]0;title\x07", "\x9b31m", "a\rb", "\u202eback", "\u2028", "\x7f"])
def test_no_control_character_of_a_prompt_reaches_the_terminal(run, hostile):
    _, out, _ = run("This " + hostile, "-n", "2")
    assert all(c == "\n" or c.isprintable() for c in out)


def test_no_control_character_of_a_name_reaches_the_terminal(run, tmp_path):
    labels = ("NEGATIVE\x1b[2J", "POSITIVE\x1b[2J")
    folder = tiny.save(tiny.classifier(labels), tmp_path / "sc\x1b[31morer")
    for argv in (("--target", labels[1]), ("--target", "x"), ("--target", labels[1], "--device", "\x1b[1m")):
        _, out, err = run(PROMPT, "-n", "2", "--scorer", folder, *argv)
        assert out + err
        assert all(c == "\n" or c.isprintable() for c in out + err)


def test_letters_joined_by_invisible_characters_stay_joined(run):
    prompt = "می‌خواهم 👩‍👧"
    assert prompt in run(prompt, "-n", "2")[1]


def test_a_non_breaking_space_is_shown_as_a_space(run):
    assert "prompt: 100 km away" in run("100\u00a0km\u3000away", "-n", "2")[1]


@pytest.mark.parametrize("option", ["--csv", "--html"])
@pytest.mark.parametrize("name", ["none/x", ".", "x" * 300, "/sys/x"])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(run, monkeypatch, tmp_path, option, name):
    monkeypatch.setattr("bon.api.stream", None)
    monkeypatch.chdir(tmp_path)
    assert_refused(run(PROMPT, option, name), option, "Name")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--messages", "--file"])
def test_an_input_file_is_not_overwritten(capsys, tmp_path, option):
    (tmp_path / "in").write_text('[{"role": "user", "content": "Hi"}]')
    (tmp_path / "link").symlink_to("in")
    command = ("compare",) if option == "--file" else ()
    status = main([*command, option, str(tmp_path / "in"), "--csv", str(tmp_path / "link")])
    assert (status, (tmp_path / "in").read_text()[:2]) == (2, "[{")
    assert "is also the input" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "message"), [
    ([], "is not UTF-8 text"), (["--encoding", "cp1252"], "no prompts"), (["--encoding", "utf-16"], "encoding utf-16"),
    (["--encoding", "no-such"], "no encoding no-such"),
])
def test_a_comparison_reads_its_file_in_the_encoding_that_is_named(capsys, tmp_path, options, message):
    (tmp_path / "in.txt").write_bytes("\xa0\n\xa0".encode("cp1252"))
    status = main(["compare", "--file", str(tmp_path / "in.txt"), *options])
    assert_refused((status, *capsys.readouterr()), message)


def test_an_encoding_without_a_file_is_refused(capsys):
    status = main(["compare", PROMPT, "--encoding", "cp1252"])
    assert_refused((status, *capsys.readouterr()), "--encoding", "--file")


def test_a_file_that_fails_after_the_work_loses_no_other_output(run, monkeypatch, tmp_path):
    csv, html = tmp_path / "a.csv", tmp_path / "a.html"
    monkeypatch.setattr("bon.report.result_files.run_csv", lambda result: csv.mkdir() or "")
    status, out, err = run(PROMPT, "-n", "2", "--seed", "7", "--csv", str(csv), "--html", str(html))
    assert (status, err.count("\n")) == (1, 1)
    assert f"--csv {csv} could not be written (Is a directory). The result is printed above" in err
    assert "prompt: This movie" in out
    assert html.read_text().startswith("<!doctype html>")


def test_a_failure_while_scoring_ends_with_1_and_one_line(run, monkeypatch):
    monkeypatch.setattr("bon.scorers.sentiment.SentimentScorer.score", lambda self, items: 1 / 0)
    status, out, err = run(PROMPT, "-n", "2")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "ZeroDivisionError" in err


def test_an_unexpected_failure_ends_with_1_and_one_line(run, monkeypatch):
    monkeypatch.setattr("bon.engines.local.engine.LocalEngine.generate", lambda self, jobs: 1 / 0)
    status, out, err = run(PROMPT, "-n", "2")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "division by zero" in err


def test_ctrl_c_prints_the_candidates_so_far(run, monkeypatch):
    from bon import api

    def interrupted(*args):
        for event in stream_request(*args):
            yield event
            if isinstance(event, Scored):
                raise KeyboardInterrupt

    stream_request = api.Sampler.stream_request
    monkeypatch.setattr(api.Sampler, "stream_request", interrupted)
    status, out, err = run("--json", PROMPT, "-n", "16", "--seed", "7")
    assert (status, err) == (130, "")
    scored = [c for c in json.loads(out)["candidates"] if c["score"] is not None]
    assert [c["rank"] for c in scored] == [1]


def test_ctrl_c_before_anything_is_written_ends_quietly(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("bon.models.loading.causal", interrupted)
    assert run(PROMPT, "-n", "2") == (130, "", "")


def test_models_lists_the_presets_and_which_files_exist(run, monkeypatch, tmp_path):
    monkeypatch.setattr("bon.models.presets.assets_folder", lambda: tmp_path)
    (tmp_path / "models").mkdir()
    tiny.save(tiny.gpt2(), tmp_path / "models/reviews")
    status, out, err = run("models")
    assert (status, err) == (0, "")
    assert f"{tmp_path}/models/reviews (here, " in out
    assert f"{tmp_path}/models/sentiment (not here)" in out
    assert "lvwerra/gpt2-imdb (" in out


def test_models_reports_a_missing_shard(run, monkeypatch, tmp_path):
    monkeypatch.setattr("bon.models.presets.assets_folder", lambda: tmp_path)
    folder = tmp_path / "models/reviews"
    tiny.gpt2().save_pretrained(folder, max_shard_size="40KB")
    tiny.tokenizer().save_pretrained(folder)

    def state() -> str:
        return json.loads(run("models", "--json")[1])["models"][0]["model_state"]

    assert state() == "here"
    sorted(folder.glob("*.safetensors"))[-1].unlink()
    assert state() == "partly here"


def test_help_and_version_end_with_0(run):
    assert "--min-tokens" in run("--help")[1]
    assert run("--version") == (0, f"bon {bon.__version__}\n", "")


def test_help_names_every_option_of_the_settings(run):
    for name in bon.Settings.__dataclass_fields__:
        assert "--" + name.replace("_", "-") in run("--help")[1]


LIGHT = """
import sys
import bon
from bon.cli import options
from bon.cli.main import main
for argv in (["--help"], ["--version"], ["x", "-n", "0"], ["x", "--model", "./nowhere"], ["modles"]):
    main(argv)
heavy = ["torch", "transformers", "gradio", "numpy", "huggingface_hub", "pandas"]
print([name for name in heavy if name in sys.modules], file=sys.stderr)
main(["models"])
print([name for name in heavy[:3] if name in sys.modules], file=sys.stderr)
"""


def test_neither_import_nor_help_nor_wrong_input_loads_what_takes_long_to_import():
    process = subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.stderr.splitlines()[-2:] == ["[]", "[]"]


def test_the_process_ends_with_the_status_of_the_command_and_prints_all_of_its_output():
    for argv, status, stream in ((["models", "--json"], 0, "stdout"), (["x", "-n", "0"], 2, "stderr")):
        process = subprocess.run([sys.executable, "-m", "bon", *argv], cwd=ROOT, capture_output=True, text=True)
        assert process.returncode == status
        assert getattr(process, stream).endswith("\n")
        assert process.stdout.endswith("}\n") == (stream == "stdout")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_progress_is_shown_on_a_terminal_and_ctrl_c_stops_there_and_then(lm_folder, classifier_folder):
    import pty

    terminal, terminal_of_child = pty.openpty()
    command = [sys.executable, "-m", "bon", PROMPT, "-n", "1024", "--max-tokens", "240", "--json",
               "--model", lm_folder, "--scorer", classifier_folder]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=terminal_of_child, env=env, cwd=ROOT, text=True, preexec_fn=HEED
    )
    os.close(terminal_of_child)
    shown, end = "", time.monotonic() + 300
    while not re.search(r"scored [1-9]\d* of 1024", shown) and time.monotonic() < end:
        shown += os.read(terminal, 4096).decode()
    child.send_signal(signal.SIGINT)
    out = child.communicate(timeout=300)[0]
    os.close(terminal)
    assert child.returncode == 130
    candidates = json.loads(out)["candidates"]
    assert candidates[0]["score"] is not None
    assert candidates[-1]["ended"] == "stopped"


def test_a_closed_pipe_gives_no_traceback():
    command = [sys.executable, "-m", "bon", "models"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    assert (child.wait(300), child.stderr.read()) == (1, b"")
    child.stderr.close()




# What people type.

ONE = ("-n", "1", "--min-tokens", "1", "--max-tokens", "4")


@pytest.mark.parametrize(("argv", "part"), [
    (("This", "movie"), "quotation marks: python -m bon 'This movie'"),
    (("This", "-n", "4", "movie", "was"), "'This movie was'"),
    (("model",), "did you mean `python -m bon models`? As a prompt: `python -m bon -- model`"),
    (("Models",), "python -m bon models"), (("batchs", "in.csv", "out.csv"), "python -m bon batch"),
    (("benchmark",), "python -m bon bench"), (("comp",), "python -m bon compare"),
    (("publsh",), "python -m bon publish"),
    (("batch", "in.csv"), "Give OUT after IN, or -o OUT"),
    (("batch", "in.csv", "a.jsonl", "-o", "b.jsonl"), "a.jsonl and b.jsonl"),
    (("This movie", "--nothing"), "unrecognized arguments: --nothing"),
])
def test_what_people_type_by_mistake_is_refused_with_what_to_type(capsys, argv, part):
    assert_refused((main(list(argv)), *capsys.readouterr()), part)


def test_words_like_no_command_and_words_after_two_dashes_are_prompts(result_of, run):
    for word in ("Beach", "The", "com", "modern"):
        assert result_of(word, *ONE)["prompt"] == word
    status, out, _ = run("--json", *ONE, "--", "model")
    assert (status, json.loads(out)["prompt"]) == (0, "model")


def test_a_dash_reads_the_prompt_from_standard_input(result_of, run, monkeypatch):
    for given, prompt in (("This movie\n", "This movie"), ("\ufeffTwo\nlines", "Two\nlines")):
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        assert result_of("-", *ONE)["prompt"] == prompt
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\x00"), encoding="utf-8"))
    assert_refused(run("-"), "not text in UTF-8")


def test_without_a_prompt_piped_text_is_the_prompt(result_of, run, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("This movie\n"))
    assert result_of(*ONE)["prompt"] == "This movie"


@pytest.mark.parametrize("argv", [(), ("-",), ("--chat", "-")])
@pytest.mark.parametrize("piped", ["", " \n"])
def test_empty_standard_input_is_refused_with_what_to_type(run, monkeypatch, argv, piped):
    monkeypatch.setattr("sys.stdin", io.StringIO(piped))
    assert_refused(run(*argv), "Standard input is empty", 'python -m bon "This movie"')


@pytest.mark.parametrize("argv", [(PROMPT,), ("--unconditional",), ("--chat", "Hi")])
def test_piped_text_that_no_argument_asks_for_is_left_alone(run, monkeypatch, argv):
    monkeypatch.setattr("sys.stdin", io.StringIO("of the loop around this call\n"))
    run(*ONE, *argv)
    assert sys.stdin.read() == "of the loop around this call\n"


def test_a_terminal_and_a_closed_standard_input_are_not_read(run, monkeypatch):
    terminal, program_side = os.openpty()
    with open(program_side, encoding="utf-8") as stream:
        for stdin in (stream, None):
            monkeypatch.setattr("sys.stdin", stdin)
            assert_refused(run(), "The prompt is empty")
    os.close(terminal)


def test_a_dash_reads_the_message_of_a_chat_from_standard_input(capsys, monkeypatch, tmp_path, classifier_folder):
    monkeypatch.setattr("sys.stdin", io.StringIO("Which film?\n"))
    chat_model = tiny.save(tiny.gpt2(), tmp_path, "{% for m in messages %}{{ m.content }}{% endfor %}")
    models = ("--model", chat_model, "--scorer", classifier_folder)
    assert main(["--chat", "-", "--json", *ONE, *models]) == 0
    messages = json.loads(capsys.readouterr().out)["messages"]
    assert messages == [{"role": "user", "content": "Which film?"}]


def test_the_output_of_a_batch_can_be_an_option(capsys, lm_folder, classifier_folder, tmp_path):
    (tmp_path / "in.txt").write_text("This movie\n")
    models = ("--model", lm_folder, "--scorer", classifier_folder)
    assert main(["batch", str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.jsonl"), *ONE, *models]) == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(("n", "rows"), [(3, 0), (4, 0), (5, 1)])
def test_no_row_of_a_comparison_repeats_the_base_as_the_average_of_all(n, rows):
    assert [system.k for system in systems(Settings(n=n)) if system.kind == "top"] == [4] * rows
