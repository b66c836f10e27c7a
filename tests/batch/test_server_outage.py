"""A batch whose server fails: an outage stops it with its journal kept, and a row fails only by its own fault."""

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path

import pytest

from bon import api
from bon.batch import batch_run, ray_workers, resume_journal
from bon.batch.batch_run import Finished, Group, Progress, Task
from bon.batch.export_formats import BEST
from bon.batch.input_rows import Dataset, Row
from bon.cli.main import main
from bon.engines.base import Job
from bon.engines.server import availability
from bon.engines.server.engine import ServerEngine
from bon.errors import EngineError, ServerUnavailableError
from bon.messages import decode_messages, say
from bon.scorers.callable_scorer import CallableScorer
from bon.scorers.logprob import MeanLogprobScorer
from bon.settings import Request, Settings
from bon.ui.batch import jobs
from bon.ui.batch.jobs import Loader
from bon.ui.batch.views import batch_view
from bon.ui.work.priority import WaitingRuns
from tests.support.browser import free_port
from tests.support.model_servers import Fake, Handler, completion, good

pytest.importorskip("openai")

ROOT = Path(__file__).parents[2]
ROWS, GROUP = 12, 4
Behave = Callable[[Handler, dict, int], None]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    """Small groups; retries without pauses, so that a request fails for good after three."""
    monkeypatch.setattr("bon.engines.server.retrying_client.BACKOFF", 0.005)
    monkeypatch.setattr("bon.engines.server.retrying_client.CLIENT_RETRIES", 0)
    monkeypatch.setattr("bon.batch.batch_run.GROUP_ROWS", GROUP)
    for name in ("BON_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> Iterator[Callable[..., Fake]]:
    """Makes a server that behaves as it is told."""
    made: list[Fake] = []

    def make(behave: Behave = good, **how) -> Fake:
        made.append(Fake(behave, **how))
        return made[-1]

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.fixture
def file(tmp_path) -> Path:
    """Rows whose prompts end in their numbers."""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": f"row {i}."}) + "\n" for i in range(ROWS)))
    return tmp_path / "in.jsonl"


def lengths(texts: list[str]) -> list[float]:
    return [float(len(text)) for text in texts]


def task_of(file: Path, **how) -> Task:
    settings = Settings(n=3, seed=7, min_tokens=2, max_tokens=8)
    return Task(Dataset(file), file.with_name("out.jsonl"), settings, **how)


def events_of(task: Task, server: Fake, tell=batch_run.tell_nobody) -> batch_run.BatchEvents:
    return batch_run.stream(task, ServerEngine.at(server.url, "tiny"), CallableScorer(lengths), tell=tell)


def outputs(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.with_name("out.jsonl").read_text().splitlines()]


def journal_records(file: Path) -> list[dict]:
    return [json.loads(line) for line in resume_journal.journal_path(file.with_name("out.jsonl")).open()][1:]


def failing_for(prompts: set[str], fail: Behave) -> Behave:
    """Fails for these prompts and answers all others."""
    def behave(handler, body, number):
        (fail if body["prompt"] in prompts else good)(handler, body, number)

    return behave


def answer_500(handler, body, number):
    handler.send(500, {"error": {"message": "cannot"}})


def drop(handler, body, number):
    handler.close_connection = True


def half(handler, body, number):
    handler.send(200, '{"choices": [', Content_Type="application/json")


def undisturbed(file: Path, server: Fake) -> bytes:
    """The output of a run that nothing stops."""
    task = task_of(file)
    list(events_of(task, server))
    output = task.output.read_bytes()
    task.output.unlink()
    return output


# A row that the server cannot answer.


@pytest.mark.parametrize(("group_rows", "bad", "fail"), [
    (4, {0}, answer_500), (4, {11}, drop), (4, {1, 6}, half), (4, {3, 4}, drop), (4, {4, 5, 6, 7}, answer_500),
    (1, {0}, answer_500), (1, {11}, half), (2, {2, 3}, drop), (12, {0, 1, 2, 3}, answer_500),
])
def test_a_row_that_the_server_never_answers_fails_alone(fake, file, monkeypatch, group_rows, bad, fail):
    monkeypatch.setattr("bon.batch.batch_run.GROUP_ROWS", group_rows)
    server = fake(failing_for({f"row {i}." for i in bad}, fail))
    *_, done = events_of(task_of(file), server)
    rows = outputs(file)
    assert (done.failed, {i for i, row in enumerate(rows) if row["error"]}) == (len(bad), bad)
    file.with_name("out.jsonl").unlink()
    whole = [json.loads(line) for line in undisturbed(file, fake()).splitlines()]
    assert [row for i, row in enumerate(rows) if i not in bad] == [row for i, row in enumerate(whole) if i not in bad]


def test_a_row_fails_only_after_three_failures_each_followed_by_an_answer_to_another_row(fake, file, monkeypatch):
    monkeypatch.setattr("bon.batch.batch_run.GROUP_ROWS", 1)
    outcomes: list[bool] = []

    def behave(handler, body, number):
        outcomes.append(body["prompt"] != "row 0.")
        (good if outcomes[-1] else answer_500)(handler, body, number)

    server = fake(behave)
    events = events_of(task_of(file), server)
    next(events)
    assert next(events).failed == 1
    calls = "".join("+" if answered else "-" for answered in outcomes)
    runs = [run for run in calls.replace("-+", "- +").replace("+-", "+ -").split() if run[0] == "-"]
    assert len(runs) >= batch_run.ROW_FAILURES
    assert calls.endswith("+")
    events.close()


def test_a_row_that_is_answered_at_the_second_attempt_has_the_text_of_an_undisturbed_run(fake, file):
    failures = Counter()

    def behave(handler, body, number):
        failures[body["prompt"]] += 1
        (answer_500 if body["prompt"] == "row 5." and failures["row 5."] <= 20 else good)(handler, body, number)

    *_, done = events_of(task_of(file), fake(behave))
    assert done.failed == 0
    output = file.with_name("out.jsonl").read_bytes()
    file.with_name("out.jsonl").unlink()
    assert output == undisturbed(file, fake())


def test_rows_that_the_server_refuses_fail_though_they_are_a_group_of_their_own(fake, file):
    def refuse(handler, body, number):
        handler.send(400, {"error": {"message": "too long"}})

    *_, done = events_of(task_of(file), fake(failing_for({f"row {i}." for i in range(4, 8)}, refuse)))
    assert (done.failed, set(done.errors)) == (4, {4, 5, 6, 7})
    assert all("too long" in error for error in done.errors.values())


@pytest.mark.parametrize("group_rows", [1, 4])
def test_a_server_that_refuses_every_row_stops_the_batch_whatever_the_size_of_its_groups(
        fake, file, monkeypatch, group_rows):
    monkeypatch.setattr("bon.batch.batch_run.GROUP_ROWS", group_rows)

    def refuse(handler, body, number):
        handler.send(400, {"error": {"message": "n is too large"}})

    with pytest.raises(EngineError, match="n is too large"):
        list(events_of(task_of(file), fake(refuse)))
    assert journal_records(file) == []


def test_a_prompt_that_exceeds_the_servers_context_fails_its_row_and_the_others_are_requested_together(fake, file):
    prompts = ["short", "long " * 20, "x" * 45, "last"]
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    counted, together = [], threading.Barrier(3)

    def behave(handler, body, number):
        if handler.path == "/tokenize":
            counted.append(body["prompt"])
            handler.send(200, {"count": 5 + body["prompt"].count("long") * 3})
        else:
            together.wait(20)  # for a request of each row that fits
            good(handler, body, number)

    server = fake(behave)
    server.listed = json.dumps({"object": "list", "data": [{"id": "tiny", "owned_by": "vllm", "max_model_len": 40}]})
    task = task_of(file)
    task = dataclasses.replace(task, settings=dataclasses.replace(task.settings, n=1))
    *_, done = events_of(task, server)
    assert (done.failed, set(done.errors)) == (1, {1})
    assert "65 tokens" in done.errors[1]
    assert "40" in done.errors[1]
    assert counted.count(prompts[1]) == 1
    assert [bool(row["completion"]) for row in outputs(file)] == [True, False, True, True]


# A server that answers no row.


def answer_status(status: int, **error) -> Behave:
    return lambda handler, body, number: handler.send(status, {"error": {"message": "no", **error}})


OUTAGES: dict[str, tuple[Behave, int]] = {
    "401": (answer_status(401), 1), "402": (answer_status(402), 1), "403": (answer_status(403), 1),
    "404": (answer_status(404), 1), "410": (answer_status(410), 1),
    "code": (answer_status(400, code="model_not_found"), 1), "429": (answer_status(429), 3),
    "quota": (answer_status(429, code="insufficient_quota"), 1),
    "500": (answer_500, 40), "503": (answer_status(503), 40), "dropped": (drop, 40), "garbled": (half, 40),
}


@pytest.mark.parametrize(("outage", "group_rows"), [*((outage, 4) for outage in OUTAGES), ("429", 1), ("500", 1)])
def test_an_outage_in_mid_run_stops_the_batch_which_goes_on_to_the_undisturbed_output(
        fake, file, monkeypatch, outage, group_rows):
    monkeypatch.setattr("bon.batch.batch_run.GROUP_ROWS", group_rows)
    fail, attempts = OUTAGES[outage]
    server = fake()
    expected = undisturbed(file, server)
    events = events_of(task_of(file), server)
    done = [next(events).done, next(events).done][-1]
    before, server.behave = len(server.bodies), fail
    with pytest.raises(ServerUnavailableError, match=rf"stopped with {done} of 12 rows done, .* --resume"):
        list(events)
    assert len(server.bodies) - before <= attempts * group_rows * 3
    assert [record["row"] for record in journal_records(file)] == list(range(done))
    assert not any("error" in record for record in journal_records(file))
    server.behave = good
    first, *_, finished = events_of(task_of(file, resume=True), server)
    assert isinstance(first, Progress)
    assert isinstance(finished, Finished)
    assert (first.done, finished.failed) == (done, 0)
    assert file.with_name("out.jsonl").read_bytes() == expected


def test_a_model_that_vanished_stops_the_batch_and_is_named(fake, file):
    server = fake()
    events = events_of(task_of(file), server)
    next(events)
    server.behave, server.models = answer_500, ("other",)
    with pytest.raises(ServerUnavailableError, match=r"no model tiny\. It has: other"):
        list(events)
    assert journal_records(file) == []


def test_a_bad_row_and_an_outage_at_once_are_told_apart(fake, file):
    """The outage begins while the bad row is being tried; afterwards only that row has failed."""
    bad_attempts, down = Counter(), threading.Event()

    def behave(handler, body, number):
        bad_attempts["bad"] += body["prompt"] == "row 5."
        if bad_attempts["bad"] >= 12:
            down.set()
        (answer_500 if body["prompt"] == "row 5." or down.is_set() else good)(handler, body, number)

    server = fake(behave)
    with pytest.raises(ServerUnavailableError, match="answers no row"):
        list(events_of(task_of(file), server))
    assert down.is_set()
    assert [record["row"] for record in journal_records(file)] == [0, 1, 2, 3]
    server.behave = failing_for({"row 5."}, answer_500)
    *_, done = events_of(task_of(file, resume=True), server)
    assert (done.failed, set(done.errors)) == (1, {5})
    output = file.with_name("out.jsonl").read_bytes()
    file.with_name("out.jsonl").unlink()
    assert output == undisturbed(file, server)


def test_while_rows_are_requested_alone_the_reader_is_told_why(fake, file):
    told: list[str] = []
    list(events_of(task_of(file), fake(failing_for({"row 5."}, answer_500)), told.append))
    assert [text.key for text in told] == ["note.rows_one_by_one"]
    assert "rows 4 to 7" in told[0]
    assert "500" in told[0]


# The server's process is killed, or stopped.


class ServerProcess:
    """A server in a process of its own, which can be killed and started again on its port."""

    def __init__(self, port: int):
        self.port, self.url = port, f"http://127.0.0.1:{port}/v1"
        self.start()

    def start(self) -> None:
        code = ("import sys, threading\nfrom tests.support.model_servers import Fake, good\n"
                "Fake(good, port=int(sys.argv[1]))\nprint(flush=True)\nthreading.Event().wait()")
        self.process = subprocess.Popen([sys.executable, "-c", code, str(self.port)], cwd=ROOT,
                                        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
        assert self.process.stdout.readline()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def server_process() -> Iterator[ServerProcess]:
    server = ServerProcess(free_port())
    yield server
    server.kill()


def test_the_command_stops_at_a_killed_server_and_goes_on_when_it_is_back(server_process, file, capsys, monkeypatch):
    out = file.with_name("out.jsonl")
    command = ["batch", str(file), str(out), "-n", "3", "--seed", "7", "--min-tokens", "2", "--max-tokens", "8",
               "--endpoint", server_process.url]
    assert main(command) == 0
    expected = out.read_bytes()
    out.unlink()
    add = resume_journal.Journal.add

    def add_and_kill(journal, records):
        add(journal, records)
        server_process.kill()

    with monkeypatch.context() as patch:
        patch.setattr(resume_journal.Journal, "add", add_and_kill)
        capsys.readouterr()
        assert main(command) == 1
    printed, message = capsys.readouterr()
    assert (printed, message.count("\n")) == ("", 1)
    assert "The batch stopped with 4 of 12 rows done" in message
    assert f"{server_process.url} does not answer" in message
    assert main([*command, "--resume"]) == 2  # the server is still away
    printed, message = capsys.readouterr()
    assert (printed, message.count("\n")) == ("", 1)
    assert "with 4 of 12 rows done, which are kept: continue with --resume" in message
    assert f"{server_process.url} does not answer" in message
    assert len(journal_records(file)) == 4
    server_process.start()
    assert main([*command, "--resume"]) == 0
    assert out.read_bytes() == expected


def test_a_stopped_server_is_asked_for_its_models_and_the_reader_is_told_at_once(
        server_process, file, monkeypatch):
    monkeypatch.setattr(availability, "SILENCE", 0.2)
    monkeypatch.setattr(availability, "SILENCE_LIST_TIMEOUT", 0.2)
    told: list[str] = []
    engine = ServerEngine.at(server_process.url, "tiny")

    def tell(text: str) -> None:
        told.append(text)
        server_process.process.send_signal(signal.SIGCONT)

    events = batch_run.stream(task_of(file), engine, CallableScorer(lengths), tell=tell)
    next(events)
    server_process.process.send_signal(signal.SIGSTOP)
    *_, done = events
    assert (told[0].key, done.failed) == ("note.server_stopped", 0)


def test_a_busy_server_is_told_from_a_stopped_one(fake, file, monkeypatch):
    monkeypatch.setattr(availability, "SILENCE", 0.1)
    told: list[str] = []
    ready = threading.Event()

    def wait(handler, body, number):
        assert ready.wait(20)
        good(handler, body, number)

    def tell(text: str) -> None:
        told.append(text)
        ready.set()

    list(events_of(task_of(file), fake(wait), tell))
    assert told[0].key == "note.server_busy"


def test_a_silent_server_that_can_no_longer_be_reached_stops_the_batch(fake, file, monkeypatch):
    monkeypatch.setattr(availability, "SILENCE", 0.1)
    monkeypatch.setattr(availability, "UNREACHABLE_PAUSE", 0.05)
    monkeypatch.setattr(Handler, "protocol_version", "HTTP/1.0")  # so that no open connection is used again
    told: list[str] = []
    server = fake()

    def tell(text: str) -> None:
        told.append(text.key)
        if len(told) == 1:
            server.shutdown()
            server.server_close()

    events = events_of(task_of(file), server, tell)
    assert [next(events).done, next(events).done] == [0, GROUP]
    server.behave = lambda handler, body, number: handler.gone(20)
    with pytest.raises(ServerUnavailableError, match=r"stopped with 4 of 12 rows done, .* does not answer"):
        list(events)
    assert told == ["note.server_busy", "note.server_stopped"]
    assert len(journal_records(file)) == GROUP


def test_a_prompt_says_on_the_command_line_that_its_server_is_silent(fake, capsys, monkeypatch):
    monkeypatch.setattr(availability, "SILENCE", 0.1)
    server = fake()
    ready = threading.Event()

    def wait(handler, body, number):
        assert ready.wait(20)
        good(handler, body, number)

    server.behave = wait
    monkeypatch.setattr("bon.cli.run_command.print_to_stderr", lambda text: (ready.set(), print(text, file=sys.stderr)))
    assert main(["This movie", "-n", "2", "--endpoint", server.url]) == 0
    assert "sent nothing for 0.1 seconds" in capsys.readouterr().err


def test_closing_a_batch_of_a_silent_server_takes_no_answer_of_it(fake, file, monkeypatch):
    monkeypatch.setattr("bon.engines.server.engine.STEP_INTERVAL", 0.02)
    engine = ServerEngine.at(fake(lambda handler, body, number: handler.gone(20)).url, "tiny")
    steps = engine.generate([Job((), (3,), Request("This movie", Settings(n=1, seed=7)))])
    texts = [step for step, _ in zip(steps, range(3), strict=False)]
    assert [(step.grown, step.ended) for step in texts[1:]] == [({}, {})] * 2
    steps.close()


# Log-probabilities of some tokens only.


def test_texts_with_incomplete_log_probabilities_have_no_score_and_a_row_fails_only_if_all_its_texts_are_such(
        fake, file):
    def answer(handler, body, number):
        sent = completion({**body, "n": 1})
        if body["prompt"] == "row 5." or (body["prompt"] == "row 2." and body["max_tokens"] > 4):
            for entries in sent["choices"][0]["logprobs"].values():
                del entries[0]
        handler.send(200, sent)

    *_, done = batch_run.stream(task_of(file), ServerEngine.at(fake(answer).url, "tiny"), MeanLogprobScorer())
    assert (done.failed, set(done.errors)) == (1, {5})
    assert done.errors[5].key == "note.all_unrated"
    assert [note.values["n"] for note in done.notes if note.key == "note.rows_with_unrated"] == [1]
    assert [row["score"] is None for row in outputs(file)] == [i == 5 for i in range(ROWS)]


# Ray workers.


@pytest.mark.parametrize(("fail", "rows", "expected"), [
    (answer_status(401), [0, 1], "requires a key"), (answer_500, [0, 1], "answers no row"),
    (failing_for({"row 0."}, answer_500), [0], None), (failing_for({"row 0.", "row 1."}, answer_500), [0, 1], None),
])
def test_a_ray_worker_tells_an_outage_from_a_bad_row_by_the_neighbours_that_it_is_sent(fake, fail, rows, expected):
    server = fake()
    settings = Settings(n=3, seed=7, min_tokens=2, max_tokens=8).filled()

    def load():
        return api.load("tiny", lengths, endpoint=server.url)

    sampler = load()
    description = batch_run.LocalWorker(sampler.engine, sampler.scorer).describe()
    worker = ray_workers.Worker(load, description, settings, BEST)
    server.behave = fail
    group = Group([Row(i, f"row {i}.") for i in rows], [Row(2, "row 2."), Row(3, "row 3.")])
    answer = worker({"group": pickle.dumps(group)})["records"]
    if expected:
        with pytest.raises(ServerUnavailableError, match=expected):
            ray_workers._unpack(answer)
    else:
        assert ["error" in record for record in ray_workers._unpack(answer)] == [True] * len(rows)


# The groups of a file and their neighbours.


@pytest.mark.parametrize(("start", "expected"), [
    (0, [([0, 1, 2, 3], [4, 5]), ([4, 5, 6, 7], [2, 3, 8, 9]), ([8, 9, 10, 11], [6, 7])]),
    (8, [([8, 9, 10, 11], [6, 7])]),
])
def test_a_group_has_the_rows_beside_it_as_neighbours(file, start, expected):
    groups = [([row.number for row in group.rows], [row.number for row in group.neighbours])
              for group in task_of(file).groups(start)]
    assert groups == expected


def test_groups_of_one_row_have_neighbours_too(file, monkeypatch):
    monkeypatch.setattr("bon.batch.batch_run.GROUP_ROWS", 1)
    groups = [([row.number for row in group.rows], [row.number for row in group.neighbours])
              for group in task_of(file).groups()]
    assert groups[:3] == [([0], [1]), ([1], [0, 2]), ([2], [0, 1, 3])]
    assert [rows for rows, _ in groups] == [[i] for i in range(ROWS)]
    assert groups[-1] == ([11], [9, 10])


# A batch on the page.


@pytest.fixture
def page_batch(fake, file, tmp_path, monkeypatch) -> Iterator[tuple[jobs.Batches, jobs.Batch, Fake, Loader]]:
    """A batch on the page that waits, after its first group of rows, for the test to say how its server goes on."""
    monkeypatch.setattr(jobs, "root", lambda: tmp_path / "batches")
    monkeypatch.setattr("bon.engines.server.engine.STEP_INTERVAL", 0.02)
    released = threading.Event()

    def behave(handler, body, number):
        assert int(body["prompt"][4:-1]) < GROUP or released.wait(20)
        server.after_release(handler, body, number)

    server = fake(behave)
    server.after_release, server.release = good, released.set
    task = task_of(file)

    def put(folder: Path) -> jobs.Order:
        (folder / "in.jsonl").write_bytes(file.read_bytes())
        return jobs.Order("mine.jsonl", "in.jsonl", "out.jsonl", asdict(task.settings), None, None, ROWS, 0, 0.0)

    def load() -> Future:
        loaded: Future = Future()
        loaded.set_result(api.load("tiny", lengths, endpoint=server.url))
        return loaded

    batches = jobs.Batches(WaitingRuns())
    batch, _ = batches.start(put, load)
    wait_until(lambda: batch.progress["done"] == GROUP)
    yield batches, batch, server, load
    released.set()
    batches.close()


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def test_a_batch_on_the_page_says_that_its_server_is_away_and_resumes(page_batch, file):
    batches, batch, server, load = page_batch
    server.after_release = answer_status(401)
    server.release()
    batch.join()
    view = decode_messages(batch_view(batch))
    assert (view["phase"], batch.progress["done"], batch.progress["failed"]) == ("failed", GROUP, 0)
    assert "stopped with 4 of 12 rows done" in view["error"]
    assert "continue with Resume" in view["error"]
    server.after_release = good
    batches.resume(batch, load)
    batch.join()
    assert batch.phase == "done"
    assert (batch.folder / "out.jsonl").read_bytes() == undisturbed(file, server)


def test_a_batch_on_the_page_says_why_it_takes_long_and_stops_though_its_server_is_silent(page_batch):
    _, batch, server, _ = page_batch
    batch._set_delay(say("note.server_busy", url=server.url, seconds="30"))
    assert "sent nothing for 30 seconds" in batch_view(batch)["line"]
    batch.stop()
    batch.join(10)
    assert batch.phase == "stopped"
