"""A batch on many workers: Ray Data takes its parts to processes that hold the models, and brings the records in order.

What a worker does with some rows is `bon.batch.batch_run.records`, as everywhere; journal and output stay with the
command. So the output is that of a plain run, byte for byte, and either goes on with what the other began. A worker
that dies is started again and gets its rows again, which draw from the same random streams.
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
from typing import Any

from bon import __version__, configure_threads, messages
from bon.batch import batch_run
from bon.batch.export_formats import Form, Record
from bon.batch.input_rows import Row
from bon.errors import BonError, EngineError, InputError
from bon.messages import say
from bon.settings import Settings

LOOPBACK = "127.0.0.1"
#: Batches that Ray holds at once, those that wait and those that are done: its memory does not grow with the file.
#: Between two such lots the workers start anew, seconds after what takes many minutes.
LOT = 10_000
#: Seconds that a cluster may take to answer at its address.
PATIENCE = 10.0


@contextmanager
def joined(address: str, loading: Mapping[str, Any], count: int | None = None) -> Iterator["RayWorkers"]:
    """Workers on a Ray cluster; within it they can be used.

    address: `local` starts Ray on this machine alone, where nobody else reaches it; HOST:PORT or `auto` joins a
    cluster that this machine is part of. loading: what each worker gives to `bon.load`. count: of the workers; None:
    one for each GPU, or where there are none or device is cpu, for each core. Raises `InputError` where Ray is not
    installed, no cluster answers or it has no room for so many, and what loading raises on a worker.
    """
    if address not in ("local", "auto"):
        _check_answers(address)
    near = address == "local" or address.rpartition(":")[0] in (LOOPBACK, "localhost")
    ray = _ray(near)
    _start(ray, address, near)
    try:
        yield RayWorkers(ray, loading, count)
    finally:
        ray.shutdown()


class RayWorkers:
    """A pool of workers, each with model and scorer of its own: `bon.batch.batch_run.Workers`. Made by `joined`.

    count: how many. each: what each has to itself, such as {"num_gpus": 1}. machines: on which they may be.
    """

    def __init__(self, ray: Any, loading: Mapping[str, Any], count: int | None = None):
        self._ray = ray
        self._load = partial(_loaded, os.getcwd(), dict(loading))
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.machines = len(nodes)
        self.count, self.each = room(nodes, count, loading.get("device"))
        self._facts = self._asked()

    def describe(self) -> dict[str, Any]:
        """What the output depends on of models and machines."""
        return dict(self._facts)

    def map(self, batches: Iterable[Sequence[Row]], settings: Settings, form: Form) -> Iterator[list[Record]]:
        """The records of each batch, in their order. Raises what the work raises, `EngineError` where Ray gives up."""
        batches = iter(batches)
        while lot := list(islice(batches, LOT)):
            yield from self._mapped(lot, settings, form)

    def _mapped(self, lot: Sequence[Sequence[Row]], settings: Settings, form: Form) -> Iterator[list[Record]]:
        data = self._ray.data
        items = [{"rows": pickle.dumps([dataclasses.replace(row, columns={}) for row in rows])} for rows in lot]
        made = data.from_items(items, override_num_blocks=len(items)).map(
            Worker, fn_constructor_args=(self._load, self._facts, settings, form),
            compute=data.ActorPoolStrategy(size=self.count), **self.each,
        )
        try:
            for item in made.iter_rows():
                yield _unpacked(item["made"])
        except self._ray.exceptions.RayError as error:
            raise EngineError(say("error.ray_gave_up", error=_last_line(error), resume="--resume")) from error

    def _asked(self) -> dict[str, Any]:
        """What a worker says of itself and its models. What cannot work on the cluster shows here."""
        ask = self._ray.remote(max_calls=1, **self.each)(_facts)  # one call: its process gives the memory back
        try:
            found = _unpacked(self._ray.get(ask.remote(self._load)))
        except self._ray.exceptions.RayError as error:
            if "No module named 'bon'" in str(error):
                raise InputError("ray", say("error.worker_without_bon", version=__version__)) from error
            raise EngineError(say("error.worker_could_not_begin", error=_last_line(error))) from error
        version = found.pop("version")
        if version != __version__:
            raise InputError("ray", say("error.worker_of_other_version", version=version, own=__version__))
        return found


def room(nodes: Sequence[Mapping[str, float]], count: int | None, device: str | None = None) -> tuple[int, dict]:
    """How many workers there will be, and what each of them has to itself.

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
    """One worker: holds the models, and does one batch after the other.

    Errors go home as values: raised here they would come home as Ray's, a page long.
    """

    def __init__(self, load: Callable[[], Any], facts: Mapping[str, Any], settings: Settings, form: Form):
        self._sampler, self._settings, self._form = load(), settings, form
        here = _described(self._sampler)
        differences = messages.join(
            say("error.workers_differ_in", name=name, one=str(facts[name]), other=str(here[name]))
            for name in facts if facts[name] != here[name]
        )
        self._unlike = say("error.workers_differ", differences=differences) if differences else None

    def __call__(self, item: Mapping[str, bytes]) -> dict[str, bytes]:
        return {"made": _packed(lambda: self._records(pickle.loads(item["rows"])))}

    def _records(self, rows: Sequence[Row]) -> list[Record]:
        if self._unlike:
            raise InputError("ray", self._unlike)
        return batch_run.records(rows, self._sampler.engine, self._sampler.scorer, self._settings, self._form)


def _facts(load: Callable[[], Any]) -> bytes:
    return _packed(lambda: {**_described(load()), "version": __version__})


def _described(sampler) -> dict[str, Any]:
    return batch_run.Here(sampler.engine, sampler.scorer).describe()


def _loaded(folder: str, loading: Mapping[str, Any]):
    """The sampler, loaded where the command runs, so that folders go by the names that they have there."""
    configure_threads()
    from bon import api

    with suppress(OSError):
        os.chdir(folder)
    return api.load(**loading)


def _packed(work) -> bytes:
    """What some work returns, or the error that it raises, for `_unpacked`."""
    try:
        return pickle.dumps(work())
    except BonError as error:
        return pickle.dumps(error)
    except Exception as error:  # others may not survive the way
        return pickle.dumps(EngineError(say("error.raised_on_worker", type=type(error).__name__, error=str(error))))


def _unpacked(made: bytes) -> Any:
    found = pickle.loads(made)
    if isinstance(found, BonError):
        raise found
    return found


def _ray(near: bool) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what it says of its own workings on standard error
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # else a thread that outlives the work starts Ray again
    if near:  # by itself Ray listens on every interface, and asks nobody who they are
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError("ray", say("error.no_ray")) from error
    return ray


def _start(ray: Any, address: str, near: bool) -> None:
    """Starts Ray or joins a cluster, without a word of Ray's own."""
    how = {"log_to_driver": False, "logging_level": logging.ERROR}
    how |= {"_node_ip_address": LOOPBACK} if near else {}
    how |= {"include_dashboard": False} if address == "local" else {}
    try:
        with _hushed():
            ray.init(address, **how)
    except Exception as error:  # of many kinds, with and without a class of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError("ray", say("error.ray_not_started", reason=reason) if address == "local" else
                         say("error.ray_not_joined", address=address, reason=reason)) from error
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


@contextmanager
def _hushed() -> Iterator[None]:
    """Ray's core says how much it will say, on the standard error that Python cannot turn off."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_answers(address: str) -> None:
    """What is wrong with an address, at once: Ray asks for minutes."""
    host, _, port = address.rpartition(":")
    if "/" in host or not host or not port.isdecimal():
        raise InputError("ray", say("error.ray_address", address=address))
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise InputError("ray", say("error.no_ray_cluster", address=address, reason=str(error))) from error


def _last_line(error: Exception) -> str:
    """Where Ray says what happened: under the traceback of its worker."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
