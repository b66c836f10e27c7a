"""Products of rows with weights that are rounded to int8, by the first kernel that is exact on this processor.

Kernels for processors without VNNI add two products in 16 bits: there 8 bits saturate. Rows from -90 to 90, which a
kernel holds as 0 to 180, and weights from -91 to 91 do not: 2 x 180 x 91 < 2^15. That loses less than 7 bits for one of
the two and 8 for the other. A kernel is tried on the largest numbers, so that the switches of its library count, and is
never timed.
"""

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from bon.models.number_types import processor

#: From rows in [-1, 1] [rows, in], in float32, to their product [rows, out] with the weights.
Product: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A way of multiplying.

    largest, largest_weight: rows and weights are rounded to whole numbers of at most that size. make: gives the product
    for weights [out, in], rounded so, the scale of each output [out], and `largest`.
    """

    name: str
    largest: int
    largest_weight: int
    make: Callable[[Tensor, Tensor, int], Product]

    def product(self, rounded: Tensor, scale: Tensor) -> Product:
        """The product for rounded weights [out, in] in int8 and the scale of each output [out]."""
        return self.make(rounded, scale, self.largest)

    def is_exact(self) -> bool:
        """Whether the largest numbers are multiplied exactly; False also where torch lacks the kernel."""
        weights = torch.full((64, 256), self.largest_weight, dtype=torch.int8)
        weights[1::2] *= -1
        rows = torch.ones(4, 256)
        rows[1::2] = -1
        try:
            computed = self.product(weights, torch.ones(64))(rows)
        except (AttributeError, RuntimeError, TypeError):
            return False
        return torch.allclose(computed, rows @ weights.t().float(), rtol=1e-5)


def _onednn(rounded: Tensor, scale: Tensor, largest: int) -> Product:
    """oneDNN's product for processors with tiles."""
    packed, zero = torch.ops.onednn.qlinear_prepack(rounded, None), torch.zeros(len(scale), dtype=torch.int64)
    return lambda rows: torch.ops.onednn.qlinear_pointwise(
        (rows * largest).round_().to(torch.int8), 1 / largest, 0, packed, scale, zero, None, 1.0, 0, torch.float32,
        "none", [], "",
    )


@contextmanager
def fbgemm() -> Iterator[None]:
    """Within it torch packs weights for FBGEMM."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


def _fbgemm(rounded: Tensor, scale: Tensor, largest: int) -> Product:
    """FBGEMM's product, which holds rows as numbers from 0 on."""
    zero = torch.zeros(len(scale), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates this type of tensor; `_int_mm` stands in for it
        weight = torch._make_per_channel_quantized_tensor(rounded, scale.double(), zero, 0)
    with fbgemm():
        packed = torch.ops.quantized.linear_prepack(weight, None)
    product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
    zero_row = 128 if largest == 127 else largest
    return lambda rows: product(rows, 1 / largest, zero_row, packed)


def _int_mm(rounded: Tensor, scale: Tensor, largest: int) -> Product:
    """torch's product of plain int8 matrices, by oneDNN.

    oneDNN adds 128 to the rows where the processor multiplies only unsigned numbers with signed ones. Rows of fewer
    than 8 bits are moved down first, so that it then holds them as numbers from 0 on; what the move takes off each
    output is added again.
    """
    weights, scale = rounded.t(), scale / largest
    if largest == 127:
        return lambda rows: torch._int_mm((rows * largest).round_().to(torch.int8), weights).mul(scale)
    moved_by = 128 - largest
    added = rounded.sum(1, dtype=torch.int32) * moved_by
    return lambda rows: torch._int_mm(
        (rows * largest).round_().sub_(moved_by).to(torch.int8), weights
    ).add_(added).mul(scale)


#: The most exact and then the fastest first. With one thread of an AMD Zen 5, 8 rows x 768 x 3072: FBGEMM 71 us,
#: `_int_mm` 130; for 128 rows 985 and 926. Without VNNI (emulated) 98 and 167 for 8 rows; with AVX2 alone (emulated)
#: `_int_mm` takes two to five times as long for 8 rows and fewer.
KERNELS = (
    Kernel("onednn", 127, 127, _onednn), Kernel("fbgemm", 127, 127, _fbgemm), Kernel("int_mm", 127, 127, _int_mm),
    Kernel("fbgemm", 90, 91, _fbgemm), Kernel("int_mm", 90, 91, _int_mm),
)


def least_gain_of_mixing() -> float:
    """From which gain on mixing the columns of inputs pays (`bon.models.number_types.evening`).

    With 8 bits little is lost without, and a product takes half as long as in bf16: 5 leaves it to few layers. With
    fewer bits more is lost, and the alternative is float32. By SmolLM2: 5 and 1.5 meet the check's bound.
    """
    best = kernel()
    return 5.0 if best and best.largest == 127 else 1.5


@functools.cache
def kernel() -> Kernel | None:
    """The kernel of this process; None where torch has none that is exact on this processor."""
    # Without tiles oneDNN computes this product by a reference of its own, which takes a thousand times as long.
    candidates = KERNELS if processor.has_tiles() else KERNELS[1:]
    return next((candidate for candidate in candidates if candidate.is_exact()), None)
