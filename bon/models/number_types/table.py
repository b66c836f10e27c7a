"""The number types that models get by default, by the kind of processor. Nothing is timed when a model is loaded."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bon.models.number_types import int8_products, processor

#: Below this many parameters a model is small: its weights fit the processor's cache, and float32, which is exact, is
#: as fast as bf16. From here on products take most of a step; those of int8 take less than half of float32's time.
SMALL = 30_000_000


def _has_vnni() -> bool:
    """Whether rows of 8 bits are multiplied exactly."""
    kernel = int8_products.kernel()
    return kernel is not None and kernel.largest == 127


@dataclass(frozen=True, slots=True)
class ProcessorKind:
    """A kind of processor with its number types; small models are in float32 on each.

    is_here: whether this process runs on one, less what its libraries are told not to use. larger: of generators.
    differing: of larger generators that int8 would change too much. classifiers: of larger ones. tested: on what.
    """

    name: str
    is_here: Callable[[], bool]
    larger: str
    differing: str
    classifiers: str
    tested: str


#: The first that is here counts.
KINDS = (
    ProcessorKind("AMX", processor.has_tiles, "bf16", "bf16", "bf16", "earlier versions, int8 not compared"),
    ProcessorKind("AVX-512 with VNNI and bf16",
                  lambda: processor.has_avx512() and _has_vnni() and processor.multiplies_bf16(),
                  "int8", "bf16", "bf16", "AMD Zen 4 and Zen 5"),
    ProcessorKind("AVX-512 with VNNI", lambda: processor.has_avx512() and _has_vnni(),
                  "int8", "float16", "float32", "emulated on AMD Zen 5"),
    # Rows of fewer than 8 bits choose another winner too often: with SmolLM2 in 7 of 50 runs, bf16 in 2.
    ProcessorKind("AVX-512", processor.has_avx512, "float16", "float16", "float32", "emulated on AMD Zen 5"),
    ProcessorKind("AVX2", processor.has_avx2, "float16", "float16", "float32", "emulated on AMD Zen 5"),
    ProcessorKind("ARM", processor.is_arm, "float32", "float32", "float32", "not tested"),
    ProcessorKind("other", lambda: True, "float32", "float32", "float32", "not tested"),
)


@functools.cache
def this_kind() -> ProcessorKind:
    """The kind of processor that this process runs on."""
    return next(processor_kind for processor_kind in KINDS if processor_kind.is_here())


def markdown() -> Iterator[str]:
    """The table in Markdown, line by line; this machine's row is marked."""
    millions = SMALL // 1_000_000
    heads = ("processor", f"below {millions}M parameters", "larger", "larger, where int8 differs too much",
             "larger classifiers", "tested on")
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for row in KINDS:
        here = " (this machine)" if row is this_kind() else ""
        cells = (row.name + here, "float32", row.larger, row.differing, row.classifiers, row.tested)
        yield "| " + " | ".join(cells) + " |"
