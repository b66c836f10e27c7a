"""A batch on many workers: Ray Data sends groups of rows to processes that hold the models.

A worker runs `bon.batch.batch_run.make_records`, as a plain run does; journal and output stay in the command's process
and records arrive in the order of their rows. So the output is that of a plain run, byte for byte, and each can resume
the other. A worker that dies is restarted and its rows are run again, from the same random streams.
"""

import dataclasses
import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bon import __version__, configure_threads, messages
from bon.batch import batch_run
from bon.batch.batch_run import Group
from bon.batch.export_formats import ExportFormat, Record
from bon.batch.input_rows import Row
from bon.engines.base import defaults_of
from bon.errors import BonError, EngineError, InputError
from bon.messages import say
from bon.settings import Defaults, Settings, parse_digits

if TYPE_CHECKING:  # the sampler imports torch, which takes seconds
    from bon.api import Sampler

LOOPBACK = "127.0.0.1"
#: Groups of rows that one Ray Data pipeline takes, queued or done: this bounds its memory, whatever the file's size.
#: Between two pipelines the workers restart, which takes seconds after many minutes of work.
PIPELINE_GROUPS = 10_000
#: Seconds that a cluster may take to accept a connection.
CONNECT_TIMEOUT = 10.0


@contextmanager
def connected(address: str, loading: Mapping[str, Any], count: int | None = None) -> Iterator["RayWorkers"]:
    """Workers on a Ray cluster, usable within the context.

    address: `local` starts Ray on this machine alone, where no other machine reaches it; HOST:PORT or `auto` joins a
    cluster that this machine is part of. loading: what each worker passes to `bon.load`. count: of the workers; None:
    one for each GPU, or where there are none or device is cpu, for each core. Raises `InputError` where Ray is not
    installed, no cluster answers or it has no room for so many, and what loading raises on a worker.
    """
    if address not in ("local", "auto"):
        _check_address(address)
    loopback = address == "local" or address.rpartition(":")[0] in (LOOPBACK, "localhost")
    ray = _import_ray(loopback)
    _start(ray, address, loopback)
    try:
        yield RayWorkers(ray, loading, count)
    finally:
        ray.shutdown()


class RayWorkers:
    """A pool of worker processes, each with its own models: `bon.batch.batch_run.Workers`. Made by `connected`.

    count: of the workers. resources: of each worker, such as {"num_gpus": 1}. machines: of the cluster.
    """

    count: int
    resources: dict[str, int]
    machines: int

    def __init__(self, ray: ModuleType, loading: Mapping[str, Any], count: int | None = None):
        self._ray = ray
        self._load = partial(_load_sampler, os.getcwd(), dict(loading))
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.machines = len(nodes)
        self.count, self.resources = worker_resources(nodes, count, loading.get("device"))
        self._description = self._describe_first_worker()
        self._defaults = Defaults(**self._description.pop("defaults"))

    def describe(self) -> dict[str, Any]:
        """What the output depends on of models and machines."""
        return dict(self._description)

    def defaults(self) -> Defaults:
        """The values that the model brings along, as a worker has it."""
        return self._defaults

    def map(self, groups: Iterable[Group], settings: Settings, export_format: ExportFormat) -> Iterator[list[Record]]:
        """The records of each group, in their order. Raises what a worker raises; `EngineError` where Ray gives up."""
        groups = iter(groups)
        while part := list(islice(groups, PIPELINE_GROUPS)):
            yield from self._map_part(part, settings, export_format)

    def _map_part(self, groups: Sequence[Group], settings: Settings,
                  export_format: ExportFormat) -> Iterator[list[Record]]:
        """The records of as many groups as one Ray Data pipeline takes."""
        data = self._ray.data
        items = [{"group": pickle.dumps(Group(_without_columns(group.rows), _without_columns(group.neighbours)))}
                 for group in groups]
        results = data.from_items(items, override_num_blocks=len(items)).map(
            Worker, fn_constructor_args=(self._load, self._description, settings, export_format),
            compute=data.ActorPoolStrategy(size=self.count), **self.resources,
        )
        try:
            for item in results.iter_rows():
                yield _unpack(item["records"])
        except self._ray.exceptions.RayError as error:
            raise EngineError(say("error.ray_gave_up", error=_last_line(error), resume="--resume")) from error

    def _describe_first_worker(self) -> dict[str, Any]:
        """What one worker says of its models. Raises here, before any work, what cannot work on the cluster."""
        # One call for each process: it ends then, and gives back the memory of its models.
        describe = self._ray.remote(max_calls=1, **self.resources)(_describe_worker)
        try:
            description = _unpack(self._ray.get(describe.remote(self._load)))
        except self._ray.exceptions.RayError as error:
            if "No module named 'bon'" in str(error):
                raise InputError("ray", say("error.worker_without_bon", version=__version__)) from error
            raise EngineError(say("error.worker_could_not_begin", error=_last_line(error))) from error
        version = description.pop("version")
        if version != __version__:
            raise InputError("ray", say("error.worker_of_other_version", version=version, own=__version__))
        return description


def worker_resources(nodes: Sequence[Mapping[str, float]], count: int | None,
                     device: str | None = None) -> tuple[int, dict[str, int]]:
    """The number of workers, and the GPUs or cores of each.

    nodes: the resources of each machine, by Ray's names. Raises `InputError` where so many do not fit.
    """
    gpus = 0 if device == "cpu" else sum(int(node.get("GPU", 0)) for node in nodes)
    cores = [int(node.get("CPU", 0)) for node in nodes]
    most = gpus or sum(cores)
    if not most or (count or 1) > most:
        key = "error.too_many_workers_for_gpus" if gpus else "error.too_many_workers_for_cores"
        raise InputError("ray_workers", say(key, most=str(most), given=str(count or 1)))
    if gpus:
        return count or gpus, {"num_gpus": 1}
    count = count or most
    return count, {"num_cpus": next(k for k in range(max(cores), 0, -1) if sum(c // k for c in cores) >= count)}


class Worker:
    """One worker: loads the models once, and makes the records of one group after the other.

    Errors return as values: an error raised here would reach the command as Ray's, with a page of text.
    """

    def __init__(self, load: Callable[[], "Sampler"], description: Mapping[str, Any], settings: Settings,
                 export_format: ExportFormat):
        self._sampler, self._settings, self._format = load(), settings, export_format
        actual = _describe_sampler(self._sampler)
        differences = messages.join(
            say("error.workers_differ_in", name=name, one=str(description[name]), other=str(actual.get(name)))
            for name in description if description[name] != actual.get(name)
        )
        self._mismatch = say("error.workers_differ", differences=differences) if differences else None

    def __call__(self, item: Mapping[str, bytes]) -> dict[str, bytes]:
        return {"records": _pack(lambda: self._records(pickle.loads(item["group"])))}

    def _records(self, group: Group) -> list[Record]:
        if self._mismatch:
            raise InputError("ray", self._mismatch)
        return batch_run.make_records(group, self._sampler.engine, self._sampler.scorer, self._settings, self._format)


def _without_columns(rows: Iterable[Row]) -> list[Row]:
    """The rows without what no worker needs of them."""
    return [dataclasses.replace(row, columns={}) for row in rows]


def _describe_worker(load: Callable[[], "Sampler"]) -> bytes:
    return _pack(lambda: _describe_with_defaults(load()) | {"version": __version__})


def _describe_with_defaults(sampler: "Sampler") -> dict[str, Any]:
    return _describe_sampler(sampler) | {"defaults": dataclasses.asdict(defaults_of(sampler.engine))}


def _describe_sampler(sampler: "Sampler") -> dict[str, Any]:
    return batch_run.LocalWorker(sampler.engine, sampler.scorer).describe()


def _load_sampler(folder: str, loading: Mapping[str, Any]) -> "Sampler":
    """Loads in the command's folder where the worker has it, so that relative paths mean the same there."""
    configure_threads()
    from bon import api

    with suppress(OSError):
        os.chdir(folder)
    return api.load(**loading)


def _pack(work: Callable[[], object]) -> bytes:
    """What `work` returns, or the error that it raises, for `_unpack`."""
    try:
        return pickle.dumps(work())
    except BonError as error:
        return pickle.dumps(error)
    except Exception as error:  # other errors may not survive pickling
        return pickle.dumps(EngineError(say("error.raised_on_worker", type=type(error).__name__, error=str(error))))


def _unpack(packed: bytes) -> Any:
    """What `_pack` was given to return. Raises the error that was raised there."""
    value = pickle.loads(packed)
    if isinstance(value, BonError):
        raise value
    return value


def _import_ray(loopback: bool) -> ModuleType:
    """The ray package, quiet, and on a loopback address closed to other machines."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else Ray's core logs to standard error
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # else a thread that outlives the work starts Ray again
    if loopback:  # by default Ray listens on every interface, without authentication
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError("ray", say("error.no_ray")) from error
    return ray


def _start(ray: ModuleType, address: str, loopback: bool) -> None:
    """Starts Ray or joins a cluster, without any of Ray's own output."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    options |= {"_node_ip_address": LOOPBACK} if loopback else {}
    options |= {"include_dashboard": False} if address == "local" else {}
    try:
        with _silent_stderr():
            ray.init(address, **options)
    except Exception as error:  # Ray raises many types, some of them built in
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError("ray", say("error.ray_not_started", reason=reason) if address == "local" else
                         say("error.ray_not_joined", address=address, reason=reason)) from error
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Within it, standard error is discarded, also what Ray's core writes to the descriptor past `sys.stderr`."""
    saved, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(devnull)


def _check_address(address: str) -> None:
    """Raises `InputError` at once for an address that is none or does not answer; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if "/" in host or not host or not port.isdecimal():
        raise InputError("ray", say("error.ray_address", address=address))
    try:
        socket.create_connection((host, parse_digits(port)), CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise InputError("ray", say("error.no_ray_cluster", address=address, reason=str(error))) from error


def _last_line(error: Exception) -> str:
    """The last line of a Ray error, which says what happened, under the worker's traceback."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
