"""GGUF files: how one is named, that it gives what the same model in safetensors gives, and what is refused."""

import importlib.metadata
import re
import shutil
import sys
from pathlib import Path

import pytest

import bon
from bon.cli.main import main
from bon.errors import InputError, ModelError
from bon.models import loading, presets
from bon.models.files import gguf_header, memory
from bon.models.files.gguf_names import hub_file
from tests.support import tiny
from tests.support.gguf_files import smollm2_file, write_gguf

RUN = {"n": 4, "seed": 7, "min_tokens": 4, "max_tokens": 12, "scorer": "logprob"}
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<a>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A folder with a Llama of two layers in safetensors."""
    return tiny.save(tiny.llama(), tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def file(folder, tmp_path_factory) -> Path:
    """The model of `folder` as a GGUF file in float32, alone in its folder."""
    return Path(write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.F32.gguf", folder, template=TEMPLATE))


def texts(result: bon.Result) -> list[tuple[str, float]]:
    return [(c.text, c.logprob) for c in result.candidates]


def assert_refused(name: str | Path, *parts: str) -> None:
    with pytest.raises(ModelError) as refusal:
        bon.load(str(name), "logprob")
    for part in parts:
        assert part in str(refusal.value)


def test_a_file_gives_what_its_model_gives_in_safetensors_however_it_is_named(file, folder, monkeypatch, capsys):
    expected = texts(bon.best_of_n("This movie", model=folder, **RUN))
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("HOME", str(file.parent))
    folder_and_file = f"{file.parent}:{file.name}"
    for name in (str(file), file.name, f"./{file.name}", f"~/{file.name}", str(file.parent), ".", folder_and_file):
        assert texts(bon.best_of_n("This movie", model=name, **RUN)) == expected, name
    assert len({key[1] for key in loading.LIVE if str(key[1]).endswith(file.name)}) == 1  # loaded once
    assert capsys.readouterr().err == ""  # of the loader's own progress bar, too


def test_a_chat_is_written_with_the_template_of_the_file_and_not_with_one_beside_it(file, tmp_path):
    copy = shutil.copy(file, tmp_path / "with.gguf")
    (tmp_path / "chat_template.jinja").write_text("another model's")
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "another model\'s", "eos_token": "movie"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    engine = bon.load(str(copy), "logprob").engine
    messages = [{"role": "user", "content": "Hi"}]
    assert engine.decode(engine.encode(bon.Request(messages=messages)).ids) == "<user>Hi<a>"


def test_safetensors_beside_a_file_are_preferred_and_the_file_is_read_where_it_is_named(file, folder, tmp_path):
    both = shutil.copytree(folder, tmp_path / "both")
    copy = shutil.copy(file, both)
    assert presets.checked_place(str(both)) == str(both)
    assert presets.checked_place(str(copy)) == str(copy)
    (both / "model.safetensors").unlink()
    assert presets.checked_place(str(both)) == str(copy)


def test_a_folder_with_several_files_lists_them_and_says_how_to_name_one(file, tmp_path):
    for name in ("b.Q8_0.gguf", "a.Q4_0.GGUF"):
        shutil.copy(file, tmp_path / name)
    example = str(tmp_path / "a.Q4_0.GGUF")
    assert_refused(tmp_path, "a.Q4_0.GGUF, b.Q8_0.gguf", example)
    assert presets.checked_place(example) == example
    assert presets.state(example) == "here"


@pytest.mark.parametrize("name", [
    "C:\\models\\x.gguf", "C:x.gguf", "C:/models/x.gguf", "./x.gguf", "~/x.gguf", "/none/x.gguf", "x.gguf",
    "models/x.gguf", "\\\\host\\share\\x.gguf", "user/repo:..\\x.gguf",
])
def test_the_path_of_a_file_that_is_absent_is_never_a_repository(name):
    assert_refused(name, f"no file {name}", "USER/REPO:FILE.gguf")


@pytest.mark.parametrize("name", [
    "C:\\x.gguf", "user/repo:../x.gguf", "user/repo:/x.gguf", "user/repo", "user/repo:x.bin",
])
def test_other_names_are_no_files_on_the_hub(name):
    assert hub_file(name) == (name, "")


@pytest.mark.parametrize("name", ["repo:x.gguf", "a/b/c:x.gguf", "user/re po:x.gguf", "user/repo:x.bin"])
def test_names_that_can_be_neither_path_nor_repository_are_refused(name):
    with pytest.raises(InputError) as refusal:
        presets.find(name)
    assert refusal.value.field == "model"
    assert "GGUF file" in str(refusal.value)


def test_files_of_a_repository_may_be_in_folders():
    assert presets.find("user/repo:Q4/x.gguf").model == "user/repo:Q4/x.gguf"
    assert hub_file("user/repo:Q4/x.gguf") == ("user/repo", "Q4/x.gguf")


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.5, 0.9999])
def test_a_file_that_is_cut_off_is_named(share, file, tmp_path):
    cut, content = tmp_path / "cut.gguf", file.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    assert_refused(cut, str(cut), "incomplete", "Download it again")


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "incomplete"), (b"GGUF", "incomplete"), (b"<!DOCTYPE html>", "does not begin as one"),
    (b"GGUF\x03\0\0\0" + b"\xff" * 64, "incomplete"), (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    (b"GGUF\x03\0\0\0" + b"\0" * 16, "incomplete"),
])
def test_a_file_of_something_else_is_refused(content, reason, tmp_path):
    (tmp_path / "x.gguf").write_bytes(content)
    assert_refused(tmp_path / "x.gguf", "x.gguf", reason)


def test_one_of_several_parts_is_refused_with_the_command_that_joins_them(folder, tmp_path):
    part = write_gguf(tmp_path / "x-00001-of-00002.gguf", folder, split__count=2)
    assert_refused(part, "one of 2 files", "llama-gguf-split --merge")


@pytest.mark.parametrize("name", ["clip", "rwkv7", "of-its-own"])
def test_an_architecture_that_transformers_cannot_read_is_named(name, folder, tmp_path):
    assert_refused(write_gguf(tmp_path / "x.gguf", folder, name), f"architecture {name}", "llama.cpp", "endpoint")


def test_a_file_is_refused_as_scorer(file, folder):
    with pytest.raises(ModelError, match="a model that writes"):
        bon.load(folder, str(file))


def test_a_missing_package_is_named(file, monkeypatch):
    loading.LIVE.clear()
    found = importlib.metadata.distributions
    monkeypatch.setattr(importlib.metadata, "distributions",
                        lambda **by: [] if by.get("name") == "accelerate" else found(**by))
    assert_refused(file, "pip install accelerate")


def test_the_header_tells_the_size_in_float32():
    facts = gguf_header.read_header(str(smollm2_file()), "smollm2")
    assert (facts.architecture, facts.files) == ("llama", 1)
    assert facts.float32_bytes == 4 * 134_515_008
    assert facts.loading_bytes == facts.float32_bytes + gguf_header.BESIDE_NUMBERS
    assert facts.end == smollm2_file().stat().st_size


def test_a_file_that_memory_has_no_room_for_is_refused_before_it_is_loaded(file, monkeypatch, capsys):
    loading.LIVE.clear()
    # Enough for the numbers, but not for what loading takes beside them.
    monkeypatch.setattr(memory, "free_bytes", lambda: gguf_header.BESIDE_NUMBERS)
    assert main(["This movie", "--model", str(file), "-n", "1"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "takes about 0.3 GB of memory" in err
    assert "0.3 GB are free" in err


def test_in_a_container_its_share_of_memory_counts(tmp_path):
    of_machine = memory.free_bytes(tmp_path)
    assert of_machine > 10**8
    texts_by_name = {"memory.max": "5000000", "memory.current": "2000000", "memory.stat": "inactive_file 500000\n"}
    for name, text in texts_by_name.items():
        (tmp_path / name).write_text(text)
    assert memory.free_bytes(tmp_path) == 3_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes(tmp_path) > 10**8


@pytest.mark.parametrize(("size", "text"), [
    (5_000, "5 kB"), (98_362_432, "98 MB"), (538_060_032, "0.5 GB"), (7 * 4 * 10**9, "28 GB")])
def test_sizes_are_texts(size, text):
    assert memory.format_bytes(size) == text


def test_a_terminal_shows_the_size_in_memory_before_the_model_is_loaded(file, monkeypatch, capsys):
    loading.LIVE.clear()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(memory, "free_bytes", lambda: 0)  # so that loading ends here
    assert main(["This movie", "--model", str(file), "-n", "1"]) == 2
    assert re.search(rf"{re.escape(str(file))}: \d+ kB; loading it takes about 0.3 GB of memory.*are free",
                     capsys.readouterr().err, re.DOTALL)
