"""What reaches a terminal: characters of models, servers and files that would control it are shown as escapes."""

import ast
import fcntl
import json
import os
import re
import struct
import termios
import threading
from pathlib import Path

import pytest

from bon import cli
from bon.cli.main import COMMANDS, main
from bon.cli.output import progress_line
from bon.result import show_controls
from tests.support import tiny
from tests.support.model_servers import Fake, completion

#: A title, a cleared screen, a colour by C1, an override and an isolate; and how a terminal shows them.
HOSTILE = "evil\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2066"
SHOWN = r"evil\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2066"
#: What clears the line of progress: the only sequence that commands send themselves.
CLEARED_LINE = "\r\x1b[K"
SMALL = ("-n", "2", "--seed", "1", "--min-tokens", "1", "--max-tokens", "4")


@pytest.fixture
def on_terminal(monkeypatch):
    """Runs the command line with a terminal as standard output and error; gives the status and what arrived there."""
    def on_terminal(*argv: str, columns: int = 0, colours: bool = False) -> tuple[int, str]:
        terminal, program_side = os.openpty()
        size = struct.pack("4H", 24, columns, 0, 0)
        fcntl.ioctl(program_side, termios.TIOCSWINSZ, size)
        for name in ("COLUMNS", "FORCE_COLOR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NO_COLOR", "" if colours else "1")
        received = []

        def read() -> None:
            try:
                while data := os.read(terminal, 65536):
                    received.append(data)
            except OSError:  # the other side is closed
                pass

        reader = threading.Thread(target=read)
        reader.start()
        with monkeypatch.context() as patch, open(program_side, "w", encoding="utf-8") as stream:
            patch.setattr("sys.stdout", stream)
            patch.setattr("sys.stderr", stream)
            status = main(list(argv))
        reader.join()
        os.close(terminal)
        return status, b"".join(received).decode().replace("\r\n", "\n")

    return on_terminal


def assert_harmless(text: str) -> None:
    text = text.replace(CLEARED_LINE, "")
    assert [c for c in text if not (c in "\n\t" or c.isprintable())] == []


@pytest.fixture(scope="module")
def hostile_classifier(tmp_path_factory) -> str:
    return tiny.save(tiny.classifier(("NEGATIVE", HOSTILE)), tmp_path_factory.mktemp("classifier"))


@pytest.fixture
def prompts_file(tmp_path) -> str:
    """A file whose columns, prompts and name are hostile."""
    file = tmp_path / f"{HOSTILE}.csv"
    file.write_text(f'prompt,"{HOSTILE}"\n"This {HOSTILE} movie",x\n', encoding="utf-8")
    return str(file)


@pytest.fixture(params=["prompt", "label", "compared label", "columns", "no such column", "file name", "option"])
def command(request, lm_folder, classifier_folder, hostile_classifier, prompts_file, tmp_path) -> list[str]:
    """A command that prints something hostile."""
    models = ["--model", lm_folder, "--scorer", classifier_folder, *SMALL]
    label = ["--model", lm_folder, "--scorer", hostile_classifier, "--target", HOSTILE, *SMALL]
    output = str(tmp_path / "out.jsonl")
    return {
        "prompt": [f"This {HOSTILE} movie", *models], "label": ["This movie", *label],
        "compared label": ["compare", "This movie", *label, "--tuned", "none", "--judge", "none"],
        "columns": ["batch", prompts_file, output, "--dry-run", *models],
        "no such column": ["batch", prompts_file, output, "--prompt-column", 2 * HOSTILE, *models],
        "file name": ["batch", prompts_file, str(tmp_path / f"{HOSTILE}.jsonl"), *models],
        "option": ["This movie", f"--{HOSTILE}"],
    }[request.param]


def test_nothing_that_a_command_prints_controls_the_terminal(on_terminal, command):
    _, text = on_terminal(*command)
    assert_harmless(text)
    assert SHOWN in re.sub(r"\s", "", text)


def test_no_text_of_a_server_controls_the_terminal(on_terminal):
    def behave(handler, body, number):
        if number < 2:
            handler.send(200, completion({**body, "n": 1}, [HOSTILE], finish=HOSTILE))
        else:
            handler.send(400, {"error": {"message": HOSTILE}})

    server = Fake(behave, models=(HOSTILE,))
    command = ["This movie", "--endpoint", server.url, "--scorer", "logprob", *SMALL]
    for _ in range(2):
        _, text = on_terminal(*command)
        assert_harmless(text)
        assert SHOWN in re.sub(r"\s", "", text)
    server.shutdown()
    server.server_close()


def test_a_pipe_gets_every_character(capsys, lm_folder, hostile_classifier, prompts_file, classifier_folder, tmp_path):
    label = ["--model", lm_folder, "--scorer", hostile_classifier, "--target", HOSTILE, *SMALL]
    assert main(["compare", "This movie", *label, "--tuned", "none", "--judge", "none"]) == 0
    assert HOSTILE in capsys.readouterr().out
    models = ["--model", lm_folder, "--scorer", classifier_folder, *SMALL]
    assert main(["batch", prompts_file, str(tmp_path / "out.jsonl"), "--dry-run", *models]) == 0
    assert f"columns: prompt, {HOSTILE}" in capsys.readouterr().out


def test_tabs_line_ends_and_letters_of_all_scripts_stay():
    for text in ("a\tb\nc\r\nd", "👩‍👩‍👧 🇩🇪 می‌خواهم שלום e\u0301 日本語\u200f\u200e"):
        assert show_controls(text) == text
    assert show_controls("a\rb\x0b\x85\x7f\0") == r"a\rb\x0b\x85\x7f\x00"


def test_every_command_prints_through_the_functions_that_show_controls():
    for file in Path(cli.__path__[0]).glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        prints = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert len(prints) == (2 if file.stem == progress_line.__module__.rpartition(".")[2] else 0), file.name


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_lines_are_no_wider_than_the_terminal(on_terminal, lm_folder, classifier_folder, columns):
    models = ("--model", lm_folder, "--scorer", classifier_folder)
    status, text = on_terminal("This movie " * 8, "-n", "3", "--max-tokens", "60", *models, columns=columns)
    assert status == 0
    lines = text.split(CLEARED_LINE)[-1].splitlines()
    assert max(map(len, lines)) <= min(columns, 88)


@pytest.mark.parametrize("command", ["compare", "models", "batch --dry-run", "batch", "batch --nothing"])
def test_no_command_prints_lines_wider_than_the_terminal(
        on_terminal, monkeypatch, lm_folder, classifier_folder, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    Path("prompts.csv").write_text('"","prompt","a column with a long name","and one more"\n1,"This movie was",2,3\n')
    models = ("--model", lm_folder, "--scorer", classifier_folder, *SMALL)
    name, *options = command.split()
    arguments = {"compare": ("This movie", "My phone", "-n", "8", "--tuned", lm_folder, *models),
                 "batch": ("prompts.csv", "out.jsonl", *models)}
    status, text = on_terminal(name, *arguments.get(name, ()), *options, columns=60)
    assert status == (2 if "--nothing" in options else 0)
    lines = [line for part in text.split(CLEARED_LINE) for line in part.splitlines()]
    assert max(map(len, lines)) <= 60


def test_json_stays_on_one_line_on_a_narrow_terminal(on_terminal):
    status, text = on_terminal("models", "--json", columns=60)
    assert (status, text.count("\n")) == (0, 1)
    assert len(json.loads(text)["models"]) > 1


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_no_wider_than_the_terminal(monkeypatch, capsys, command):
    monkeypatch.setenv("COLUMNS", "60")
    assert main([*filter(None, [command]), "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


def test_only_terminals_get_colours_unless_a_variable_says_otherwise(
        on_terminal, monkeypatch, capsys, lm_folder, classifier_folder):
    command = ("This movie", *SMALL, "--model", lm_folder, "--scorer", classifier_folder)
    monkeypatch.setenv("TERM", "xterm")
    _, coloured = on_terminal(*command, colours=True)
    _, plain = on_terminal(*command)
    assert re.search(r"\x1b\[1;32m   1  [ \d.-]{6,}\x1b\[0m  ", coloured)
    seconds = r"[\d.]+ s"
    assert re.sub(seconds, "", re.sub(r"\x1b\[[\d;]*m", "", coloured)) == re.sub(seconds, "", plain)
    assert on_terminal("model", colours=True)[1].startswith("\x1b[1;31mbon:\x1b[0m There is no command model")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b[1" not in on_terminal(*command, colours=True)[1]
    forced = {"FORCE_COLOR": "1"}
    for variables, expected in (({}, False), (forced, True), ({**forced, "NO_COLOR": "1"}, False)):
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        assert main(list(command)) == 0
        assert ("\x1b[" in capsys.readouterr().out) == expected
