"""Linear layers with weights in the layout that the processor's kernels read: in float32, bf16, float16 or int8.

A matrix product of a few rows is bound by reading its weights. oneDNN reads them in blocks of its own; from the plain
layout they are converted, or read slowly, at each product.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from bon.models.number_types import int8_products, processor
from bon.models.number_types.evening import Evening

#: Types of layers by name: to import them takes a second, and where nobody did, no layer is of these types.
NEW_GELU, CONV1D = "transformers.activations.NewGELUActivation", "transformers.pytorch_utils.Conv1D"
#: The largest number that float16 holds.
MOST_HALF = 65504
#: Below this many weights a product is too small to gain from it.
SMALLEST = 1 << 16
#: Products of more rows are computed in parts: with 512 to 1,024 rows oneDNN took twice as long per row where measured.
MANY_ROWS = 128


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch on this processor packs weights of a number type."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


class PackedLinear(nn.Module):
    """A linear layer with weights in oneDNN's layout; exact up to the order of sums.

    weight: [out, in]. bias: [out].
    """

    out_features: int
    in_features: int
    packed: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return self._product(x) if x.numel() <= MANY_ROWS * self.in_features else _by_parts(self._product, x)

    def _product(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


def can_halve() -> bool:
    """Whether this build of torch on this processor multiplies weights in float16 with inputs in float32."""
    available = "fbgemm" in torch.backends.quantized.supported_engines and processor.has_avx2()
    return available and hasattr(torch.ops.quantized, "linear_prepack_fp16")


class HalfLinear(nn.Module):
    """A linear layer with weights in float16, half of what float32 reads, which FBGEMM multiplies in float32.

    weight: [out, in], its numbers smaller than `MOST_HALF`. bias: [out].
    """

    out_features: int
    in_features: int
    packed: torch.ScriptObject

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        with int8_products.fbgemm():
            self.packed = torch.ops.quantized.linear_prepack_fp16(weight.float().contiguous(), bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        product: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self.packed)
        return product


def _by_parts(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The products of [..., in], `MANY_ROWS` rows at a time."""
    parts = [product(part) for part in x.reshape(-1, x.shape[-1]).split(MANY_ROWS)]
    return torch.cat(parts).view(*x.shape[:-1], -1)


class Int8Linear(nn.Module):
    """A linear layer in int8: weights rounded with a scale per output, inputs with one per row.

    weight: [out, in]. bias: [out]. evening: makes inputs even before they are rounded. product: from rows in [-1, 1]
    [rows, in], in float32 and even, to their product [rows, out]. torch must have an int8 kernel for the processor
    (`int8_products.kernel`).
    """

    out_features: int
    in_features: int
    product: int8_products.Product
    evening: Evening | None
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, evening: Evening | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.evening = evening
        weight = weight.float().contiguous()
        if evening:
            weight = evening.of_weights(weight)
        kernel = int8_products.kernel()
        assert kernel  # as the docstring asks
        scale = weight.abs().amax(1).clamp(min=1e-12) / kernel.largest_weight
        rounded = (weight / scale.unsqueeze(-1)).round().to(torch.int8)
        self.product = kernel.product(rounded, scale)
        self.bias = None if bias is None else bias.float()

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out] in the type of x."""
        return self._product(x) if x.numel() <= MANY_ROWS * self.in_features else _by_parts(self._product, x)

    def _product(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        if self.evening:
            rows = self.evening.of_inputs(rows)
        largest = rows.abs().amax(-1, keepdim=True).float().clamp_(min=1e-12)
        out = self.product(rows / largest)
        out = out.mul_(largest) if self.bias is None else torch.addcmul(self.bias, out, largest)
        return out.to(x.dtype).view(*x.shape[:-1], self.out_features)


class PartLinear(nn.Module):
    """Some of the outputs of a layer that stands for several linear layers of one input.

    Whoever needs all of them calls `whole` once.
    """

    whole: "FastLinear"
    in_features: int
    out_features: int

    def __init__(self, whole: "FastLinear", start: int, end: int) -> None:
        super().__init__()
        self.whole, self._start, self._end = whole, start, end
        self.in_features, self.out_features = whole.in_features, end - start

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., end - start]."""
        return self.whole(x)[..., self._start : self._end]


FastLinear: TypeAlias = PackedLinear | HalfLinear | Int8Linear


def pack(model: nn.Module, evenings: dict[nn.Module, Evening] | None = None, joined: Sequence[Sequence[str]] = (),
         half: bool = False) -> bool:
    """Replaces a model's linear layers by packed ones, or with `evenings` by rounded ones; returns whether it did.

    evenings: of the inputs of linear layers; those of replaced ones are taken out. half: packs in float16 where the
    numbers allow it. joined: names of layers that read one input; in a module with them they become parts of one layer.
    Where the model's own code does more with its layers than to call them, all stay as they were. Each layer gives way
    to its replacement before the next one is packed, so that memory does not hold the weights twice.
    """
    groups = [[getattr(parent, name) for name in names] for parent in model.modules() for names in joined
              if _are_joinable(parent, names)]
    in_groups = {layer for group in groups for layer in group}
    places: dict[nn.Module, list[tuple[nn.Module, str]]] = {}
    for parent in model.modules():
        for name, layer in parent.named_children():
            if layer in in_groups or is_linear(layer) or _type_name(layer) == NEW_GELU:
                places.setdefault(layer, []).append((parent, name))
    for layer in places:
        _put(_CallableOnly(layer), places[layer])
    if not places or not _runs(model):
        for layer in places:
            _put(layer, places[layer])
        return False
    in_groups.clear()
    while groups:
        for layer, part in _parts(groups.pop(), evenings, half):
            _put(part, places.pop(layer))
    while places:
        layer, its_places = places.popitem()
        _put(_replacement(layer, evenings, half), its_places)
    return True


def _are_joinable(parent: nn.Module, names: Sequence[str]) -> bool:
    """Whether a module has linear layers of these names that one layer can stand for."""
    layers: list[Any] = [getattr(parent, name, None) for name in names]
    if not all(type(layer) is nn.Linear for layer in layers) or len({layer.bias is None for layer in layers}) > 1:
        return False
    return sum(layer.weight.numel() for layer in layers) >= SMALLEST


def _parts(layers: Sequence[nn.Linear], evenings: dict[nn.Module, Evening] | None, half: bool
           ) -> list[tuple[nn.Linear, PartLinear]]:
    """Each of several layers of one input with its part of one layer that stands for all."""
    weight = torch.cat([layer.weight.detach() for layer in layers])
    bias = None if layers[0].bias is None else torch.cat([layer.bias.detach() for layer in layers])
    whole = _new(weight, bias, layers, evenings, half)
    ends = accumulate(layer.out_features for layer in layers)
    return [(layer, PartLinear(whole, end - layer.out_features, end)) for layer, end in zip(layers, ends, strict=True)]


def _put(layer: nn.Module, places: Sequence[tuple[nn.Module, str]]) -> None:
    for parent, name in places:
        setattr(parent, name, layer)


class _CallableOnly(nn.Module):
    """A layer that can be called, and whose weights cannot be reached."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._forward = layer.forward

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self._forward(x)
        return output


def _type_name(layer: nn.Module) -> str:
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def is_linear(layer: nn.Module) -> bool:
    """Whether a module is a linear layer that gains from another layout."""
    parts: Any = layer  # Conv1D has no type here
    return (type(layer) is nn.Linear or _type_name(layer) == CONV1D) and parts.weight.numel() >= SMALLEST


def weight_and_bias(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """The weight [out, in] of a linear layer, and its bias."""
    parts: Any = layer
    weight = parts.weight.detach().t() if _type_name(layer) == CONV1D else parts.weight.detach()
    return weight, None if parts.bias is None else parts.bias.detach()


def _replacement(layer: nn.Module, evenings: dict[nn.Module, Evening] | None, half: bool) -> nn.Module:
    """A faster layer that computes the same as a replaceable one."""
    if not is_linear(layer):
        return nn.GELU(approximate="tanh")  # one kernel instead of eight
    return _new(*weight_and_bias(layer), [layer], evenings, half)


def _new(weight: Tensor, bias: Tensor | None, layers: Sequence[nn.Module],
         evenings: dict[nn.Module, Evening] | None, half: bool) -> FastLinear:
    """The layer that stands for layers of one input; takes their evenings out, of which it uses the first."""
    if evenings is None:
        return HalfLinear(weight, bias) if half and weight.abs().amax() < MOST_HALF else PackedLinear(weight, bias)
    return Int8Linear(weight, bias, next(filter(None, [evenings.pop(layer, None) for layer in layers]), None))


@torch.inference_mode()
def _runs(model: nn.Module) -> bool:
    try:
        ids = torch.zeros(1, 2, dtype=torch.long)
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except Exception:  # the model's own code may do anything with a layer's weights
        return False
    return True
