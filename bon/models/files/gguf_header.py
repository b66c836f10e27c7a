"""The header of a GGUF file: its architecture and its size, and whether the file is whole.

The package gguf reads headers too, but takes seconds where there is a vocabulary. The format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import os
import struct
from dataclasses import dataclass
from math import prod
from typing import Any

from bon.errors import ModelError
from bon.messages import say

MAGIC = b"GGUF"
#: The struct formats of values of a fixed size, by the numbers of their types; and the other two types.
FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
#: The boundary at which the data of a tensor begin where the header names no other.
ALIGNMENT = 32
#: Bytes that loading takes beside the numbers in float32, for the tokenizer among others. Measured: 0.02 to 0.2 GB with
#: 336 million parameters and 400 tokens, 0.27 to 0.45 GB with SmolLM2's 135 million and 49,152 tokens.
BESIDE_NUMBERS = 300_000_000


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says. parameters: how many numbers the tensors hold. files: into how many files the model is
    split. end: where the data of the last tensor end, in bytes from the beginning of the file.
    """

    architecture: str
    parameters: int
    files: int
    end: int

    @property
    def float32_bytes(self) -> int:
        """The size of all tensors in float32."""
        return 4 * self.parameters

    @property
    def loading_bytes(self) -> int:
        """About the memory that loading takes at its peak, in whatever type the numbers are kept afterwards."""
        return self.float32_bytes + BESIDE_NUMBERS


def read_header(path: str, place: str) -> Header:
    """The header of a file. place: what to call it.

    Raises `ModelError` for a file that is no GGUF, that is cut off, or that is one of several.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[: len(MAGIC)] != MAGIC:
                raise ModelError(say("error.gguf_magic", model=place))
            header = _Reader(data).header()
    except OSError as error:
        raise ModelError(say("error.gguf_unreadable", model=place, reason=error.strerror or str(error))) from error
    except (struct.error, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise ModelError(say("error.gguf_cut_off", model=place)) from error
    if header.files > 1:
        raise ModelError(say("error.gguf_split", model=place, n=header.files))
    if header.end > os.path.getsize(path):
        raise ModelError(say("error.gguf_cut_off", model=place))
    return header


class _Reader:
    """Reads the values of a header one after the other. Raises `struct.error` where the file ends before."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._position = data, len(MAGIC)

    def header(self) -> Header:
        """The whole header. Raises errors of any type for values that no header has."""
        _, tensors, values = self._fixed("IQQ")
        metadata = {}
        for _ in range(values):
            key = self._string()
            metadata[key] = self._value(*self._fixed("I"))
        sizes, parameters, end = _bytes_of_types(), 0, 0
        for _ in range(tensors):
            self._string()
            shape = self._fixed(f"{self._fixed('I')[0]}Q")
            type_number, offset = self._fixed("IQ")
            numbers, bytes_ = sizes.get(type_number, (1, 0))
            parameters += prod(shape)
            end = max(end, offset + prod(shape) // numbers * bytes_)
        alignment = metadata.get("general.alignment", ALIGNMENT)
        data_start = -(-self._position // alignment) * alignment
        files = metadata.get("split.count", 1)
        return Header(metadata["general.architecture"], parameters, files, data_start + end)

    def _fixed(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._data, self._position)
        self._position += struct.calcsize(f"<{form}")
        return values

    def _string(self) -> str:
        length, = self._fixed("Q")
        self._skip(length)
        return self._data[self._position - length : self._position].decode("utf-8", "replace")

    def _skip(self, length: int) -> None:
        if length > len(self._data) - self._position:
            raise struct.error
        self._position += length

    def _value(self, type_number: int) -> Any:
        """A value of this type; None for an array."""
        if type_number == STRING:
            return self._string()
        if type_number != ARRAY:
            return self._fixed(FIXED[type_number])[0]
        element_type, count = self._fixed("IQ")
        if element_type in FIXED:
            self._skip(count * struct.calcsize(FIXED[element_type]))
        else:
            for _ in range(count):
                if element_type == STRING:
                    self._skip(*self._fixed("Q"))
                else:
                    self._value(element_type)
        return None


def _bytes_of_types() -> dict[int, tuple[int, int]]:
    """For each type of tensors, how many numbers a block has and how many bytes; empty without the package gguf."""
    try:
        from gguf import GGML_QUANT_SIZES
    except ImportError:
        return {}
    return {int(type_number): sizes for type_number, sizes in GGML_QUANT_SIZES.items()}
