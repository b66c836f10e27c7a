"""What the int8 kernels of this process compute, as JSON: for tests that start it with other switches of libraries."""

import json

import torch

from bon.models.number_types import int8_products, processor, table
from bon.models.number_types.int8_products import Kernel

#: Columns and outputs of the weights.
SHAPES = ((64, 48), (200, 300), (768, 130))


def is_never_saturated(kernel: Kernel) -> bool:
    """Whether the largest rows and weights give what 64-bit integers give, for few and many rows."""
    generator = torch.Generator().manual_seed(0)
    for columns, outputs in SHAPES:
        weights = torch.full((outputs, columns), kernel.largest_weight, dtype=torch.int8)
        weights[1::3] *= -1
        weights[2::3] = torch.randint(-kernel.largest_weight, kernel.largest_weight + 1, (len(weights[2::3]), columns),
                                      generator=generator).to(torch.int8)
        product = kernel.product(weights, torch.ones(outputs))
        for count in (1, 5, 64, 130):
            whole = torch.randint(-kernel.largest, kernel.largest + 1, (count, columns), generator=generator)
            whole[::2] = kernel.largest
            whole[1::4] = -kernel.largest
            expected = (whole @ weights.t().to(torch.int64)).double() / kernel.largest
            if not torch.allclose(product(whole / kernel.largest).double(), expected, rtol=1e-5, atol=1e-2):
                return False
    return True


def are_rows_apart(kernel: Kernel) -> bool:
    """Whether a row alone gives, bit for bit, what it gives among 63 others."""
    generator = torch.Generator().manual_seed(0)
    for columns, outputs in SHAPES:
        weights = torch.randint(-kernel.largest_weight, kernel.largest_weight + 1, (outputs, columns),
                                generator=generator).to(torch.int8)
        product = kernel.product(weights, torch.rand(outputs, generator=generator))
        rows = torch.rand(64, columns, generator=generator) * 2 - 1
        together = product(rows)
        if not all(torch.equal(product(rows[i : i + 1])[0], together[i]) for i in (0, 17, 63)):
            return False
    return True


def report() -> dict:
    """The kernels that are exact, those of them that compute as they should, and what the table says."""
    exact = [kernel for kernel in int8_products.KERNELS if kernel.is_exact()]
    good = [kernel for kernel in exact if is_never_saturated(kernel) and are_rows_apart(kernel)]
    chosen = int8_products.kernel()
    return {
        "exact": [f"{kernel.name} {kernel.largest}" for kernel in exact],
        "good": [f"{kernel.name} {kernel.largest}" for kernel in good],
        "chosen": chosen and f"{chosen.name} {chosen.largest}",
        "kind": table.this_kind().name, "bf16": processor.multiplies_bf16(), "tiles": processor.has_tiles(),
    }


if __name__ == "__main__":
    print(json.dumps(report()))
