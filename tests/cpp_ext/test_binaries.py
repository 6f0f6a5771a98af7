"""The binaries in the package: made from the present source, whole, and for the intended GPUs, as read from the files.

No GPU takes part.
"""

from __future__ import annotations

import platform
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from iern.cpp_ext import build_binaries, native
from iern.cpp_ext.compile_native import find_nvcc
from iern.cpp_ext.frame import native as frame_native
from iern.cpp_ext.kernel_binaries import BINARIES, FRAME_BINARIES, MANIFEST, Binary, read_manifest
from iern.runtime.system.files import sha256

KERNELS = {
    "strata_tail": {native.kernel_name(windowed, half) for windowed in (False, True) for half in (False, True)},
    "frame": set(frame_native.KERNELS),
}
FOLDERS = {"strata_tail": BINARIES, "frame": FRAME_BINARIES}
SHIPPED = [binary for folder in FOLDERS.values() for binary in read_manifest(folder).binaries]
CUBINS = [binary for binary in SHIPPED if binary.is_cubin]
PTX = {family: FOLDERS[family] / f"{family}.compute_75.ptx" for family in FOLDERS}
REMEDY = "run python cpp_ext/build_binaries.py, and commit cpp_ext/binaries"

NVCC = find_nvcc()
QUICK = ("strata_tail.sm_87.cubin", "strata_tail.sm_121.cubin", "frame.sm_87.cubin")
MOST_REGISTERS = 64
"""As in test_kernel_compiles.py."""
ENTRY_REGISTERS, FRAME_SIZE = 0x2F, 0x11
"""Attributes of functions in a cubin's section .nv.info."""


def family_of(binary: Binary) -> str:
    return binary.name.partition(".")[0]


def content_of(binary: Binary) -> bytes:
    return (FOLDERS[family_of(binary)] / binary.name).read_bytes()


def c_string(content: bytes, start: int) -> str:
    return content[start : content.index(b"\0", start)].decode()


def sections(cubin: bytes) -> dict[str, tuple[int, int]]:
    """Name -> offset and size of the sections of a 64-bit ELF file."""
    start, count, names = *struct.unpack_from("<Q", cubin, 40), *struct.unpack_from("<HH", cubin, 60)
    headers = [struct.unpack_from("<IIQQQQ", cubin, start + 64 * index) for index in range(count)]
    return {c_string(cubin, headers[names][4] + name): (at, size) for name, _, _, _, at, size in headers}


def functions(cubin: bytes) -> dict[int, tuple[str, bool]]:
    """Index -> name of the functions in the symbol table, and whether they may be called from outside."""
    found, (start, size), (names, _) = {}, sections(cubin)[".symtab"], sections(cubin)[".strtab"]
    for index in range(size // 24):
        name, info = struct.unpack_from("<IB", cubin, start + 24 * index)
        if info & 15 == 2:
            found[index] = c_string(cubin, names + name), info >> 4 == 1
    return found


def attributes(cubin: bytes, wanted: int) -> dict[int, int]:
    """Index of a function -> value of one kind of attribute."""
    found, (at, size) = {}, sections(cubin)[".nv.info"]
    end = at + size
    while at < end:
        form, kind, length = struct.unpack_from("<BBH", cubin, at)
        if (form, kind) == (4, wanted):
            function, value = struct.unpack_from("<II", cubin, at + 4)
            found[function] = value
        at += 4 + (length if form == 4 else 0)
    return found


@pytest.mark.parametrize("family", FOLDERS)
def test_they_are_made_from_the_present_source(family):
    found = build_binaries.source_sha256(build_binaries.SOURCES[family])
    assert read_manifest(FOLDERS[family]).source_sha256 == found, f"the kernel has changed: {REMEDY}"


@pytest.mark.parametrize("changed", [".cu", ".h"])
def test_a_change_of_either_source_is_noticed(tmp_path, changed):
    source = build_binaries.SOURCES["strata_tail"]
    for suffix in (".cu", ".h"):
        content = source.with_suffix(suffix).read_bytes()
        (tmp_path / f"strata_tail{suffix}").write_bytes(content + b"\n" * (suffix == changed))
    assert read_manifest().source_sha256 != build_binaries.source_sha256(tmp_path / "strata_tail.cu")


@pytest.mark.parametrize("family", FOLDERS)
def test_the_folder_holds_what_the_manifest_names_and_nothing_else(family):
    folder, shipped = FOLDERS[family], read_manifest(FOLDERS[family]).binaries
    assert {path.name for path in folder.iterdir()} == {MANIFEST, *(binary.name for binary in shipped)}
    assert {binary.name: sha256(folder / binary.name) for binary in shipped} == {b.name: b.sha256 for b in shipped}
    assert {family_of(binary) for binary in shipped} == {family}


@pytest.mark.parametrize("family", FOLDERS)
def test_the_manifest_names_the_compilers_that_the_command_uses(family):
    wanted = {(each.version, name) for each in build_binaries.COMPILERS for name in each.architectures}
    shipped = read_manifest(FOLDERS[family]).binaries
    assert {(binary.version, binary.architecture) for binary in shipped} == wanted, REMEDY


@pytest.mark.parametrize("binary", CUBINS, ids=lambda binary: binary.name)
def test_a_cubin_is_for_its_architecture_and_holds_its_kernels(binary):
    cubin = content_of(binary)
    assert cubin.startswith(b"\x7fELF\x02\x01")
    machine, flags = *struct.unpack_from("<H", cubin, 18), *struct.unpack_from("<I", cubin, 48)
    assert machine == 190, "not for CUDA"
    assert {7: flags & 0xFF, 8: flags >> 8 & 0xFF}[cubin[8]] == binary.number
    assert {name for name, called in functions(cubin).values() if called} == KERNELS[family_of(binary)]


@pytest.mark.parametrize("binary", CUBINS, ids=lambda binary: binary.name)
def test_the_kernels_of_a_cubin_leave_room_for_each_other_and_spill_nothing(binary):
    cubin = content_of(binary)
    names = {index: name for index, (name, _) in functions(cubin).items()}
    registers, frames = attributes(cubin, ENTRY_REGISTERS), attributes(cubin, FRAME_SIZE)
    assert {names[index] for index in registers} == KERNELS[family_of(binary)]
    assert set(registers) <= set(frames)
    assert min(registers.values()) > 16, "not a number of registers"
    assert max(registers.values()) <= MOST_REGISTERS
    assert not any(frames.values())


@pytest.mark.parametrize("binary", CUBINS, ids=lambda binary: binary.name)
def test_a_cubin_is_in_the_format_of_its_compilers_cuda(binary):
    """CUDA 13 writes another ELF ABI than CUDA 12, so its cubin for Orin would not serve JetPack 6."""
    found = content_of(binary)[7:9]
    assert found == (b"\x33\x07" if binary.version.startswith("12.") else b"\x41\x08")


@pytest.mark.parametrize("family", FOLDERS)
def test_the_ptx_is_for_a_driver_of_cuda_12_6_and_the_oldest_gpu_and_holds_the_kernels(family):
    text = PTX[family].read_text(encoding="ascii")
    *version, target = re.search(r"^\.version (\d+)\.(\d+)\n\.target (\w+)\n", text, re.MULTILINE).groups()
    assert tuple(map(int, version)) <= (8, 5)
    assert target == "sm_75"
    assert min(binary.number for binary in CUBINS) == 75
    assert set(re.findall(r"\.visible \.entry (\w+)\(", text)) == KERNELS[family]


@pytest.mark.parametrize("binary", SHIPPED, ids=lambda binary: binary.name)
def test_a_binary_holds_no_path_and_no_line_of_source(binary):
    content = content_of(binary)
    assert not re.findall(rb"/[\w.-]{2,}/[\w.-]{2,}", content)
    assert b".debug_line" not in content
    assert b".debug_info" not in content


def nvcc(*words: str | Path) -> str:
    """The output of nvcc."""
    result = subprocess.run([NVCC, *words], capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
def test_there_is_a_cubin_for_every_gpu_that_the_newest_compiler_supports():
    release = build_binaries.COMPILERS[-1].version.rpartition(".")[0]
    if f"release {release}," not in nvcc("--version"):
        pytest.skip(f"nvcc is not of CUDA {release}")
    assert {binary.architecture for binary in CUBINS} == set(nvcc("--list-gpu-code").split())


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize(
    ("family", "architecture"),
    [
        pytest.param(family_of(binary), binary.architecture, marks=[] if binary.name in QUICK else pytest.mark.slow)
        for binary in CUBINS
    ],
)
def test_the_ptx_becomes_a_cubin_for_every_gpu_without_spilling(tmp_path, family, architecture):
    if architecture not in nvcc("--list-gpu-code").split():
        pytest.skip(f"this nvcc does not know {architecture}")
    output = nvcc("-cubin", f"-arch={architecture}", "-Xptxas=-v", PTX[family], "-o", tmp_path / "out")
    assert set(re.findall(r"Compiling entry function '(\w+)'", output)) == KERNELS[family]
    spilled = set(re.findall(r"\d+ bytes stack frame, .*", output))
    assert spilled == {"0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"}
    assert {name for name, called in functions((tmp_path / "out").read_bytes()).values() if called} == KERNELS[family]


@pytest.fixture(scope="module")
def compilers(tmp_path_factory) -> Path:
    """The folder with both versions of NVRTC, from the package registry."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the binaries were built on Linux x86_64")
    folder = tmp_path_factory.mktemp("compilers")
    try:
        for compiler in build_binaries.COMPILERS:
            build_binaries.load(compiler, folder / compiler.version)
    except build_binaries.BuildError as error:
        if "cannot be installed" not in str(error):
            raise
        pytest.skip(f"the package registry does not answer: {error}")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", FOLDERS)
def test_the_same_compilers_give_the_same_bytes_again(compilers, tmp_path, capsys, family):
    again, folder = tmp_path / "binaries", FOLDERS[family]
    assert build_binaries.main(["--kernels", family, "--output", str(again), "--compilers", str(compilers)]) == 0
    names = {path.name for path in folder.iterdir()}
    assert {path.name for path in again.iterdir()} == names
    assert [name for name in names if (again / name).read_bytes() != (folder / name).read_bytes()] == []
    output = capsys.readouterr().out
    assert all(binary.name in output for binary in SHIPPED if family_of(binary) == family)


@pytest.mark.slow
def test_a_source_that_does_not_compile_changes_nothing_and_its_line_is_reported(
    compilers, tmp_path, monkeypatch, capsys
):
    source = tmp_path / "strata_tail.cu"
    source.write_text('#include "strata_tail.h"\nnonsense\n', encoding="utf-8")
    source.with_suffix(".h").write_bytes(build_binaries.SOURCES["strata_tail"].with_suffix(".h").read_bytes())
    monkeypatch.setitem(build_binaries.SOURCES, "strata_tail", source)
    before = tmp_path / "binaries"
    build_binaries.replace_folder(before, {MANIFEST: b"{}"})
    assert build_binaries.main(["--output", str(before), "--compilers", str(compilers)]) == 1
    assert re.search(r"^error: .*does not compile for compute_75:\nstrata_tail.cu\(2\): error", capsys.readouterr().err)
    assert [path.name for path in before.iterdir()] == [MANIFEST]


def test_a_registry_without_the_compiler_is_an_error_with_a_remedy_and_changes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert build_binaries.main(["--output", str(tmp_path / "binaries")]) == 1
    output = capsys.readouterr().err
    assert re.search(r"^error: NVRTC 12\.6\.85 cannot be installed \(ERROR: No matching .*check the connection", output)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path):
    (tmp_path / "photographs").mkdir()
    with pytest.raises(build_binaries.BuildError, match=r"not a folder of binaries.*--output"):
        build_binaries.replace_folder(tmp_path, {MANIFEST: b"{}"})
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path, monkeypatch):
    target, rename = tmp_path / "binaries", Path.rename
    build_binaries.replace_folder(target, {MANIFEST: b"old"})

    def fails(path: Path, other: Path) -> Path:
        if path.name == "new":
            raise OSError("the disk is full")
        return rename(path, other)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="full"):
        build_binaries.replace_folder(target, {MANIFEST: b"new"})
    assert (target / MANIFEST).read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["binaries"]
