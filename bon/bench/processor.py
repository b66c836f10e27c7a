"""The processor that is measured, and how it is held to an older one's instructions."""

import os
import platform
from pathlib import Path

#: By name of an instruction set, the environment variables that hold torch, oneDNN, FBGEMM, MKL and CTranslate2 to it
#: where they are set before those are loaded.
SWITCHES = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
             "MKL_ENABLE_INSTRUCTIONS": "AVX2", "CT2_FORCE_CPU_ISA": "AVX2"},
}
#: What is told of a processor, by the name of its flag in Linux.
FEATURES = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "bf16", "amx_tile": "AMX",
            "asimd": "NEON", "bf16": "bf16", "i8mm": "int8 products"}


def variables_of(isa: str | None) -> dict[str, str]:
    """The environment variables that hold a program to an instruction set; none for None."""
    return SWITCHES[isa] if isa else {}


def description() -> str:
    """The processor's name, what it can do that matters here, and the number of its threads."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = (facts.get("flags") or facts.get("Features", "")).split()
    model = facts.get("model name") or platform.processor() or platform.machine()
    family = f" family {facts['cpu family']} model {facts['model']}" if "cpu family" in facts else ""
    return ", ".join([model + family, *(name for flag, name in FEATURES.items() if flag in flags),
                      f"{os.cpu_count()} threads"])
