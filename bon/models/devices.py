"""The choice of a model's device and number type."""

import torch

from bon.errors import InputError
from bon.messages import say
from bon.models.number_types import processor, table

#: Number types by the names that users give them. int8: for weights and the inputs of each product, on processors.
DTYPES = {"float32": "float32", "bf16": "bf16", "bfloat16": "bf16", "float16": "float16", "int8": "int8"}


def choose_device(device: str | None = None) -> str:
    """`device`, or for None or `auto` the fastest that this machine has, as torch names it.

    Raises `InputError` for a device that torch cannot use.
    """
    if device and device != "auto":
        return _checked_device(device)
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _checked_device(device: str) -> str:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError("device", say("error.no_such_device", device=repr(device))) from error
    return device


def native_bf16(device: str) -> bool:
    """Whether the device multiplies matrices in bf16 without emulating it."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and processor.multiplies_bf16()


def choose_dtype(dtype: str | None, device: str, parameters: int, classifies: bool = False) -> str:
    """The number type called `dtype`, or for None or `auto` the default of the device.

    parameters: how many the model has. On processors `bon.models.number_types.table` decides; int8 is for models that
    it changes little. Raises `InputError` for an unknown name.
    """
    if named := named_dtype(dtype):
        return named
    if device == "mps":
        return "float16"
    if parameters < table.SMALL:
        return "float32"
    if device == "cpu":
        return table.this_kind().classifiers if classifies else table.this_kind().larger
    return "bf16" if native_bf16(device) else "float32"


def named_dtype(dtype: str | None) -> str | None:
    """The number type called `dtype`; None for None and `auto`. Raises `InputError` for any other name."""
    if dtype and dtype != "auto" and dtype not in DTYPES:
        raise InputError("dtype", say("error.no_such_dtype", names=", ".join(DTYPES), value=repr(dtype)))
    return DTYPES.get(dtype or "auto")
