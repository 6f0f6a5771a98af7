"""Which 8-bit dot products a processor has, read from what real systems report."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys

import pytest

from iern.runtime.system import processor as module
from iern.runtime.system.processor import DOT_PRODUCTS, Processor, processor

HASWELL = "model name\t: Intel(R) Core(TM) i7-4770 CPU @ 3.40GHz\nflags\t\t: fpu sse2 ssse3 fma avx f16c avx2 erms\n"
CASCADE_LAKE = "model name\t: Intel(R) Xeon(R) Gold 6248\nflags\t\t: fpu avx2 avx512f avx512bw avx512_vnni\n"
SAPPHIRE_RAPIDS = (
    "model name\t: Intel(R) Xeon(R) Platinum 8480+\nflags\t\t: avx2 avx_vnni avx512_vnni amx_tile amx_int8\n"
)
ALDER_LAKE = "model name\t: 12th Gen Intel(R) Core(TM) i7-12700\nflags\t\t: fpu avx2 avx_vnni vaes\nflags\t\t: none\n"
PI_4 = (
    "Features\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\nModel\t\t: Raspberry Pi 4\n"
)
PI_5 = (
    "Features\t: fp asimd aes asimdhp cpuid asimdrdm lrcpc dcpop asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
)


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "name", "dot_products", "saturates"),
    [
        (HASWELL, "x86_64", "Intel(R) Core(TM) i7-4770 CPU @ 3.40GHz", (), True),
        (CASCADE_LAKE, "x86_64", "Intel(R) Xeon(R) Gold 6248", ("avx512_vnni",), False),
        (
            *(SAPPHIRE_RAPIDS, "AMD64", "Intel(R) Xeon(R) Platinum 8480+"),
            ("avx512_vnni", "avx_vnni", "amx_int8"),
            False,
        ),
        (ALDER_LAKE, "x86_64", "12th Gen Intel(R) Core(TM) i7-12700", ("avx_vnni",), False),
        (PI_4, "aarch64", "Arm 0x41 0xd08", (), False),
        (PI_5, "aarch64", "Arm 0x41 0xd0b", ("asimddp",), False),
        ("", "x86_64", "", None, False),
        ("processor\t: 0\nhart\t\t: 2\nisa\t\t: rv64imafdc\n", "riscv64", "", None, False),
    ],
)
def test_linux_lists_the_instructions(tmp_path, cpuinfo, machine, name, dot_products, saturates):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(cpuinfo, encoding="utf-8")
    found = processor(tmp_path, "linux", machine)
    assert (found.name, found.dot_products, found.saturates) == (name, dot_products, saturates)
    assert found.x86 == (machine != "aarch64" and machine != "riscv64")


@pytest.mark.parametrize(
    ("machine", "values", "dot_products"),
    [
        ("arm64", {"hw.optional.arm.FEAT_DotProd": "1"}, ("asimddp",)),
        ("arm64", {"hw.optional.arm.FEAT_DotProd": "0"}, ()),
        ("arm64", {}, None),
        ("x86_64", {"machdep.cpu.features": "FPU SSE4.2 AVX1.0", "machdep.cpu.leaf7_features": "AVX2 BMI2"}, ()),
        ("x86_64", {"machdep.cpu.leaf7_features": "AVX2 AVX512F AVX512VNNI"}, ("avx512_vnni",)),
        ("x86_64", {}, None),
    ],
)
def test_macos_is_asked_for_its_values(monkeypatch, machine, values, dot_products):
    answers = {"machdep.cpu.brand_string": "Apple M1", **values}
    monkeypatch.setattr(module, "output_of", lambda *command: answers.get(command[-1], "") + "\n")
    found = processor(system="darwin", machine=machine)
    assert (found.name, found.dot_products) == ("Apple M1", dot_products)


def test_another_system_is_unknown_and_does_not_count_as_saturating():
    found = processor(system="win32", machine="AMD64")
    assert found.x86
    assert found.dot_products is None
    assert not found.saturates
    assert str(Processor("", True, None)) == "this processor"


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("lscpu"), reason="needs lscpu")
def test_on_this_machine_it_agrees_with_lscpu():
    output = subprocess.run(["lscpu"], capture_output=True, encoding="utf-8", check=True, env={"LC_ALL": "C"}).stdout
    flags = next(line for line in output.splitlines() if line.startswith("Flags:")).split()
    assert set(processor().dot_products) == set(DOT_PRODUCTS) & set(flags)
    assert processor().x86 == (platform.machine() == "x86_64")
