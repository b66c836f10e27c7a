"""transformers' loader of GGUF files, without its progress bar and without the work that it does several times."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gguf
from transformers import modeling_gguf_pytorch_utils as loader


@contextmanager
def once_and_quiet() -> Iterator[None]:
    """A context in which the loader reads a file's header once instead of three times, makes the table of the names of
    tensors once instead of for each layer, and shows no progress bar. One thread at a time may be inside.
    """
    # The loader imports the first two from gguf each time.
    changes: list[tuple[dict[str, Any], str, Any]] = [
        (vars(gguf), "GGUFReader", functools.cache(gguf.GGUFReader)),
        (vars(gguf), "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
        (vars(loader), "tqdm", functools.partial(loader.tqdm, disable=True)),
    ]
    before = [(names, name, names[name]) for names, name, _ in changes]
    for names, name, value in changes:
        names[name] = value
    try:
        yield
    finally:
        for names, name, value in before:
            names[name] = value
