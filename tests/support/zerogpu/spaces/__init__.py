"""Stands in for the package `spaces` of a ZeroGPU Space: works in forks, passes values by pickle, keeps a record.

BON_TEST_RECORD names the file that gets a line of JSON for each decoration and each call.
"""

import inspect
import json
import os
import pickle
import signal
import sys
from multiprocessing import get_context


def record(**what):
    with open(os.environ["BON_TEST_RECORD"], "a") as file:
        file.write(json.dumps({**what, "process": os.getpid()}) + "\n")


record(event="imported", torch="torch" in sys.modules, gradio="gradio" in sys.modules)


def GPU(task=None, *, duration=60):
    if task is None:
        return lambda task: GPU(task, duration=duration)
    record(event="decorated", task=task.__name__)
    assert inspect.isgeneratorfunction(task)

    def borrow(*args):
        seconds = duration(*args) if callable(duration) else duration
        record(event="called", task=task.__name__, seconds=seconds)
        args = pickle.loads(pickle.dumps(args))
        here, there = get_context("fork").Pipe(duplex=False)

        def work():
            record(event="working", task=task.__name__)
            for value in task(*args):
                there.send(value)
            there.send(None)
            signal.pause()  # until it is ended, by a signal that measures of coverage heed, not in the midst of ending

        process = get_context("fork").Process(target=work, daemon=True)
        process.start()
        there.close()
        try:
            while (value := here.recv()) is not None:
                yield value
        finally:
            process.terminate()
            process.join()

    return borrow
