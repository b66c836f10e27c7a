"""What the processor computes fast in this process: its features, less those that oneDNN is told not to use."""

import functools
import os
import platform

import torch

#: Instruction sets by the names that `ONEDNN_MAX_CPU_ISA` takes, from which on oneDNN uses a feature.
BF16 = ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10", "AVX2_VNNI_2")
TILES = ("AVX512_CORE_AMX", "AVX10_1_512_AMX", "AVX10_2_512_AMX")


def _onednn_may_use(instruction_sets: tuple[str, ...]) -> bool:
    """Whether the environment lets oneDNN use one of these, by the beginnings of their names."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()
    return limit in ("", "ALL", "DEFAULT") or limit.startswith(instruction_sets)


def _has(feature: str) -> bool:
    """Whether torch finds a feature of the processor, by the name of its check."""
    check = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return check is not None and check()


def is_arm() -> bool:
    """Whether it is a 64-bit ARM."""
    return platform.machine().lower() in ("arm64", "aarch64")


def has_avx2() -> bool:
    """Whether it has AVX2, which every kernel of int8 needs."""
    return _has("avx2")


@functools.cache
def has_avx512() -> bool:
    """Whether oneDNN multiplies matrices with AVX-512."""
    available = torch.backends.mkldnn.is_available() and _has("avx512")
    return available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # what oneDNN asks AVX-512 for


def has_tiles() -> bool:
    """Whether oneDNN multiplies matrices by tiles (AMX)."""
    return _has("amx_tile") and _onednn_may_use(TILES)


def multiplies_bf16() -> bool:
    """Whether it multiplies matrices in bf16 without emulating it."""
    if is_arm():
        return _has("arm_bf16")
    return (_has("avx512_bf16") or _has("amx_tile")) and _onednn_may_use(BF16)
