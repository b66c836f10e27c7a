"""The process of one program that is timed: bon, or a peer that a user would run instead.

Started with one argument, a JSON object of `program`, `model` and `scorer` (folders, or null), `dtype` and `threads`.
It answers with one line of JSON: the facts of what it loaded, or the module that is `missing`. Each line on standard
input, an object of `n`, `prompt` (token ids) and `lengths`, is answered with another: the seconds of each query by part
(`total`, `write`, ...), and bytes of memory at the peak, in all and above those in use with the weights loaded.

Nothing here imports bon, so that a Python without it can run the file; `NAME_runner.py` beside it loads program NAME.
"""

import gc
import json
import os
import re
import sys
import warnings
from importlib import import_module
from pathlib import Path


def memory(name: str) -> int:
    """Bytes in use (VmRSS) or at the peak since it was reset (VmHWM); 0 where the system does not say."""
    status = Path("/proc/self/status")
    line = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(line[1]) * 1024 if line else 0


def main(argument: str) -> None:
    """Loads the program, then answers each line on standard input with one turn."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    warnings.filterwarnings("ignore")
    spec = json.loads(argument)
    try:
        load = import_module(f"{spec['program']}_runner").load
        run, facts = load(spec["model"], spec["scorer"], spec["dtype"], spec["threads"])
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": error.name}), file=answers, flush=True)
        return
    gc.collect()
    loaded = memory("VmRSS")
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        work = json.loads(line)
        if Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")
        queries = [run(work["n"], work["prompt"], length) for length in work["lengths"]]
        peak = memory("VmHWM")
        print(json.dumps({"queries": queries, "peak": peak, "memory": peak - loaded}), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
