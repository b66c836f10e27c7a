"""Batches on a real Ray cluster of two node processes on loopback, which the tests start and stop."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bon import api
from bon.batch import batch_run, ray_workers, resume_journal
from bon.batch.batch_run import Finished, Task
from bon.batch.input_rows import Dataset
from bon.cli.main import main
from bon.errors import EngineError, InputError, ModelError
from bon.messages import say
from bon.result import Candidate
from bon.scorers.base import Item
from bon.settings import Settings
from tests.support.processes import HEED

if importlib.util.find_spec("ray") is None:  # not imported here: Ray reads its environment variables on import
    pytest.skip("Ray is an extra: pip install 'ray[data]'", allow_module_level=True)

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(n=8, seed=7, min_tokens=2, max_tokens=8)
PROMPTS = ["This movie", "The plot of the film", "The hotel room", "This movie", "I was surprised that"]
#: Nothing may listen beyond loopback, and workers keep their priority on a busy machine. Without authentication Ray
#: writes no tokens into the home folder.
ENV = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled",
       "RAY_ENABLE_AUTO_CONNECT": "0", "RAY_worker_niceness": "0", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two nodes with a core each."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENV.items():
            patch.setenv(name, value)
        patch.delenv("PYTHONPATH", raising=False)  # workers find bon by the folder of the command
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 100_000_000, "node_ip_address": ray_workers.LOOPBACK,
                "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(**node)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def file(tmp_path) -> Path:
    """150 rows, of which some prompts are equal and one is empty: five batches."""
    rows = [{"id": i, "prompt": f"{PROMPTS[i % 5]}{' was' * (i % 3)}"} for i in range(150)]
    rows[70]["prompt"] = ""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "in.jsonl"


def task_of(file: Path, name: str, **how) -> Task:
    return Task(Dataset(file), file.with_name(name), SETTINGS, **how)


def plain(file: Path, loading: dict) -> bytes:
    """The output of a run in this process."""
    sampler = api.load(**loading)
    list(batch_run.stream(task_of(file, "plain.jsonl"), sampler.engine, sampler.scorer))
    return file.with_name("plain.jsonl").read_bytes()


class Troubled:
    """Rates by a classifier. Its process dies at its second call, once, as by SIGKILL from outside.

    Where there is a file `gone` in the folder of signs, it rates nothing and says that the server is gone.
    """

    def __init__(self, classifier: str, signs: Path):
        self.classifier, self.signs, self.calls = classifier, signs, 0

    def __call__(self, texts: list[str]) -> list[float]:
        self.calls += 1
        if self.calls == 2 and not (self.signs / "fell").exists():
            (self.signs / "fell").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if (self.signs / "gone").exists():
            raise EngineError(say("error.zerogpu", reason="The server is gone."))
        items = [Item("", Candidate(index=i, text=text)) for i, text in enumerate(texts)]
        return list(api.as_scorer(self.classifier).score(items).values)


def test_workers_without_bon_are_an_error_in_one_line(cluster, file, tmp_path, capsys, monkeypatch):
    import ray

    monkeypatch.chdir(tmp_path)  # workers find bon by the folder of the command, and here is none
    assert main(["batch", str(file), str(file.with_name("out.jsonl")), "--ray", cluster.address]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    assert "bon is not installed on a worker. Install bon" in err
    assert not ray.is_initialized()


def test_a_killed_worker_a_stop_and_an_error_lose_nothing_and_the_bytes_are_those_of_a_plain_run(
        cluster, file, lm_folder, classifier_folder, tmp_path, monkeypatch):
    """All in a few runs, since each worker takes seconds to start."""
    import ray

    loading = {"model": lm_folder, "scorer": Troubled(classifier_folder, tmp_path)}
    out = file.with_name("out.jsonl")
    with ray_workers.connected(cluster.address, loading) as workers:
        assert (workers.count, workers.resources, workers.machines) == (2, {"num_cpus": 1}, 2)
        assert not (tmp_path / "fell").exists()
        monkeypatch.setattr(ray_workers, "PIPELINE_GROUPS", 4)
        events = batch_run.stream_with(workers, task_of(file, out.name))
        assert [next(events).done for _ in range(4)] == [0, 32, 64, 96]
        events.close()
        assert (tmp_path / "fell").exists()

        workers.count = 1  # another number of workers can resume the run
        monkeypatch.setattr(ray_workers, "PIPELINE_GROUPS", 1)  # nothing is lost between two groups either
        events = batch_run.stream_with(workers, task_of(file, out.name, resume=True))
        assert [next(events).done for _ in range(2)] == [96, 128]
        (tmp_path / "gone").touch()
        with pytest.raises(EngineError, match=r"^The server is gone\.$") as gone:
            next(events)
        assert gone.value.key == "error.zerogpu"
        (tmp_path / "gone").unlink()
        with pytest.raises(ModelError, match="There is no folder /none"):
            ray_workers.RayWorkers(ray, {"model": "/none"})
    sampler = api.load(**loading)  # a run without Ray can resume it, too
    *begun, done = batch_run.stream(task_of(file, out.name, resume=True), sampler.engine, sampler.scorer)
    assert begun[0].done == 128
    assert isinstance(done, Finished)
    assert (done.rows, done.written, done.failed, list(done.errors)) == (150, 150, 1, [70])
    assert out.read_bytes() == plain(file, loading)


def command(file: Path, *more: str, **env: str) -> subprocess.Popen:
    """`python -m bon batch` in a process and a session of its own."""
    argv = [sys.executable, "-m", "bon", "batch", str(file), str(file.with_name("out.jsonl")), "-n", "8",
            "--min-tokens", "2", "--max-tokens", "8", "--seed", "7", *more]
    return subprocess.Popen(argv, cwd=ROOT, env={**os.environ, **ENV, "PYTHONPATH": str(ROOT), **env},
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                            preexec_fn=HEED)


def listeners(session: int) -> set[str]:
    """The addresses, as the kernel writes them, on which the processes of a session listen."""
    inodes = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes[f"socket:[{fields[9]}]"] = fields[1].split(":")[0]
    addresses = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                addresses |= {inodes[link] for fd in (folder / "fd").iterdir() if (link := os.readlink(fd)) in inodes}
        except OSError:  # it ended meanwhile
            continue
    return addresses


@pytest.mark.skipif(sys.platform != "linux", reason="who listens is read from /proc")
def test_local_listens_on_loopback_alone_and_ctrl_c_keeps_the_finished_rows(file, lm_folder, classifier_folder):
    loading = {"model": lm_folder, "scorer": classifier_folder}
    models = ("--model", lm_folder, "--scorer", classifier_folder)
    process = command(file, *models, "--ray", "local", "--ray-workers", "1", HOME=str(file.parent),
                      RAY_AUTH_MODE="token", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1")
    journal = resume_journal.journal_path(file.with_name("out.jsonl"))
    while process.poll() is None and not (journal.exists() and journal.stat().st_size > 5000):
        time.sleep(0.05)
    addresses = listeners(process.pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "of 150 rows are kept; the same command with --resume goes on." in err
    assert err.count("\n") == 1
    assert addresses
    assert all(address.endswith("0100007F") for address in addresses)
    sampler = api.load(**loading)
    list(batch_run.stream(task_of(file, "out.jsonl", resume=True), sampler.engine, sampler.scorer))
    assert file.with_name("out.jsonl").read_bytes() == plain(file, loading)


@pytest.mark.parametrize(("argv", "message"), [
    (["--ray", "127.0.0.1:1"], "There is no Ray cluster at 127.0.0.1:1"),
    (["--ray", "127.0.0.1:" + "9" * 5000], "There is no Ray cluster"), (["--ray", "here"], "HOST:PORT"),
    (["--ray", "ray://127.0.0.1:10001"], "ray job submit"), (["--ray-workers", "2"], "needs --ray"),
    (["--ray", "local", "--ray-workers", "0"], "ray_workers must be"), (["--ray", "local", "--dry-run"], "leave --ray"),
])
def test_arguments_that_cannot_work_are_refused_in_one_line_before_ray_starts(file, capsys, argv, message):
    assert main(["batch", str(file), str(file.with_name("out.jsonl")), *argv]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_without_ray_its_extra_is_named(file, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["batch", str(file), str(file.with_name("out.jsonl")), "--ray", "local"]) == 2
    assert "pip install 'ray[data]'" in capsys.readouterr().err


@pytest.mark.parametrize(("nodes", "count", "device", "expected"), [
    ([{"CPU": 2.0}], None, None, (2, {"num_cpus": 1})),
    ([{"CPU": 8.0}], 2, None, (2, {"num_cpus": 4})),
    ([{"CPU": 3.0}, {"CPU": 3.0}], 1, None, (1, {"num_cpus": 3})),
    ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0}], None, None, (4, {"num_gpus": 1})),
    ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0}], None, "cpu", (24, {"num_cpus": 1})),
])
def test_each_worker_has_a_gpu_or_its_share_of_the_cores(nodes, count, device, expected):
    assert ray_workers.worker_resources(nodes, count, device) == expected


def test_more_workers_than_fit_are_refused():
    with pytest.raises(InputError, match="room for 4 workers, one per GPU, not 5"):
        ray_workers.worker_resources([{"CPU": 16.0, "GPU": 4.0}], 5)
