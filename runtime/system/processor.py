"""The processor: its name, and whether it multiplies and adds 8-bit numbers in one instruction.

With such instructions (VNNI and AMX on x86, the dot products of Arm), a network in 8 bits can be twice as fast. On
x86 without them, onnxruntime adds pairs of products in 16 bits, where large sums saturate: answers may then be wrong.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iern.runtime.system.machine import output_of, text_of

X86 = ("x86_64", "amd64", "i686", "i386")
"""Names that `platform.machine` gives x86, in lower case."""

DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp")
"""Linux's names of the instructions, the first three on x86, the last on Arm."""

SYSCTL = {"AVX512VNNI": "avx512_vnni", "AVXVNNI": "avx_vnni", "AMX-INT8": "amx_int8"}
"""macOS's names of the same on Intel."""


@dataclass(frozen=True)
class Processor:
    """What the choice between float32 and 8 bits depends on."""

    name: str
    """Such as `AMD EPYC 9354`; empty if the system does not report it."""
    x86: bool
    dot_products: tuple[str, ...] | None
    """Which of DOT_PRODUCTS it has. None: unknown on this system."""

    @property
    def saturates(self) -> bool:
        """Whether sums in 8 bits may saturate."""
        return self.x86 and self.dot_products == ()

    def __str__(self) -> str:
        return self.name or "this processor"


def processor(root: Path = Path("/"), system: str = sys.platform, machine: str = "") -> Processor:
    """This machine's processor. `root` is the folder that holds `proc`, the others are what Python reports."""
    x86 = (machine or platform.machine()).lower() in X86
    if system.startswith("linux"):
        return _on_linux(text_of(root / "proc" / "cpuinfo"), x86)
    if system == "darwin":
        return _on_macos(lambda key: output_of("sysctl", "-n", key).strip(), x86)
    return Processor(platform.processor(), x86, None)


def _on_linux(cpuinfo: str, x86: bool) -> Processor:
    """The first processor of /proc/cpuinfo. All of them have the same instructions: Linux lists the common ones."""
    entries: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            entries.setdefault(key.strip(), value.strip())
    arm = (entries.get("CPU implementer", ""), entries.get("CPU part", ""))
    name = entries.get("model name") or (f"Arm {' '.join(arm)}" if all(arm) else "")
    listed = entries.get("flags") or entries.get("Features")
    if listed is None:
        return Processor(name, x86, None)
    return Processor(name, x86, tuple(feature for feature in DOT_PRODUCTS if feature in listed.split()))


def _on_macos(sysctl: Callable[[str], str], x86: bool) -> Processor:
    """`sysctl(key)` gives a value as text, and an empty text for an unknown key."""
    name = sysctl("machdep.cpu.brand_string")
    if x86:
        listed = f"{sysctl('machdep.cpu.features')} {sysctl('machdep.cpu.leaf7_features')}".split()
        return Processor(name, x86, tuple(SYSCTL[each] for each in SYSCTL if each in listed) if listed else None)
    dot_product = sysctl("hw.optional.arm.FEAT_DotProd")
    return Processor(name, x86, ("asimddp",) if dot_product == "1" else () if dot_product == "0" else None)
