"""Inputs made even before they are rounded: a row is rounded by its largest number, and few columns hold the largest.

Columns are divided by what they usually hold (SmoothQuant, arXiv 2211.10438). Where that is not enough, each block of
columns is mixed by a Hadamard matrix, so that a large number becomes many smaller ones (QuaRot, arXiv 2404.00456). The
weights are changed the opposite way, so that the product is the same.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

#: Columns that are mixed together at most: mixing costs as much as so many further outputs of a layer in float32.
BLOCK = 64
#: Divisors are powers of the STEPS-th root of 2, so that the last digits of a measurement change none.
STEPS = 4
#: The largest exponent of 2 in a divisor: a column may be zero.
MOST = 10.0


class Evening:
    """Makes inputs [..., in] of one or several layers even, and weights [out, in] fit them.

    divisor: what each column is divided by [in]. mixes: whether columns are mixed.
    """

    divisor: Tensor

    def __init__(self, columns: int, divisor: Tensor | None = None, mixes: bool = True) -> None:
        self.divisor = torch.ones(columns) if divisor is None else divisor
        self._factor, self._mixes = self.divisor.reciprocal(), mixes

    def of_inputs(self, x: Tensor) -> Tensor:
        """The inputs in float32, divided and mixed."""
        x = x * self._factor
        return _mixed(x) if self._mixes else x

    def of_weights(self, weight: Tensor) -> Tensor:
        """The weights whose product with such inputs is the former product."""
        weight = weight * self.divisor
        return _mixed(weight) if self._mixes else weight


def _mixed(x: Tensor) -> Tensor:
    """The columns of [..., columns], mixed in blocks of a power of two."""
    columns = x.shape[-1]
    mixing = _hadamard(min(BLOCK, columns & -columns))
    return (x.reshape(-1, len(mixing)) @ mixing).view(x.shape)


@functools.cache
def _hadamard(size: int) -> Tensor:
    """The symmetric orthogonal matrix of this size, a power of two, whose entries are equal but for their signs."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / size**0.5


def evenings(model: nn.Module, weights: Mapping[nn.Module, Tensor], texts: Sequence[Sequence[int]], least_gain: float
             ) -> dict[nn.Module, Evening]:
    """For each layer with weights [out, in] how its inputs are made even, by what they are for these token ids.

    Layers that are called one after the other with the same input share one. least_gain: mixes the columns where this
    makes the squares of the rows' largest numbers so many times smaller.
    """
    squares: dict[nn.Module, Tensor] = {}
    readers = _read(model, weights, texts, lambda layer, rows: squares.update(
        {layer: squares.get(layer, torch.zeros(rows.shape[1])) + rows.square().sum(0)}))
    divided = {layer: Evening(len(squares[layer]), _divisor(squares[layer], [weights[one] for one in layers]), False)
               for layer, layers in readers.items()}
    gains: dict[nn.Module, list[float]] = {layer: [] for layer in readers}

    def measure(layer: nn.Module, rows: Tensor) -> None:
        before = divided[layer].of_inputs(rows)
        after = _mixed(before)
        gains[layer].append(float((before.abs().amax(-1) / after.abs().amax(-1).clamp(min=1e-12)).square().mean()))

    _read(model, weights, texts, measure)
    even: dict[nn.Module, Evening] = {}
    for first, layers in readers.items():
        mixes = sum(gains[first]) >= least_gain * len(gains[first])
        shared = Evening(len(squares[first]), divided[first].divisor, mixes)
        even |= dict.fromkeys(layers, shared)
    return even


@torch.inference_mode()
def _read(model: nn.Module, layers: Iterable[nn.Module], texts: Sequence[Sequence[int]],
          see: Callable[[nn.Module, Tensor], None]) -> dict[nn.Module, list[nn.Module]]:
    """Lets the model read texts and `see` each input [rows, in], with the layer that is called with it first.

    Returns the layers that are called with the same input, by the first of them.
    """
    first_of: dict[nn.Module, nn.Module] = {}
    latest: list[Tensor] = []
    current: nn.Module = model

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal current
        if not latest or inputs[0] is not latest[0]:
            latest[:], current = [inputs[0]], layer
            see(layer, inputs[0].reshape(-1, inputs[0].shape[-1]).float())
        first_of.setdefault(layer, current)

    hooks = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        for ids in texts:
            model(input_ids=torch.tensor([list(ids)]))
    finally:
        for handle in hooks:
            handle.remove()
    readers: dict[nn.Module, list[nn.Module]] = {}
    for layer, first in first_of.items():
        readers.setdefault(first, []).append(layer)
    return readers


def _divisor(squares: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """What columns with these sums of squares are divided by, where such weights [out, in] read them.

    Inputs and weights are then of one size, for which the errors of their roundings are least together.
    """
    of_weights = torch.stack([weight.float().square().mean(0) for weight in weights]).amax(0)
    exponent = ((squares.log2() - of_weights.log2()) / 4).nan_to_num()  # of squares: hence a quarter, not a half
    return ((exponent - exponent.median()) * STEPS).round().div(STEPS).clamp(-MOST, MOST).exp2()
