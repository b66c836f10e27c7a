"""Serves a GGUF file by llama.cpp's own server, from the wheel of xllamacpp: `python FILE PORT [SLOTS] [CONTEXT]`."""

import sys
import threading

import xllamacpp

if __name__ == "__main__":
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.port = sys.argv[1], int(sys.argv[2])
    parameters.n_parallel, context = (int(number) for number in (sys.argv[3:] or ["4", "512"]))
    parameters.n_ctx = parameters.n_parallel * context
    # More threads would wait for each other where other work shares the machine.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    threading.Event().wait()
