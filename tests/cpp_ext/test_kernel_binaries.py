"""Each GPU gets the binaries that can run on it, in order. A damaged folder is reported with its remedy."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from iern.cpp_ext.kernel_binaries import BINARIES, MANIFEST, BinariesError, binaries_for, read_manifest

SHIPPED = (
    "sm_75",
    "sm_80",
    "sm_86",
    "sm_87",
    "sm_88",
    "sm_89",
    "sm_90",
    "sm_100",
    "sm_103",
    "sm_110",
    "sm_120",
    "sm_121",
)
PTX = "strata_tail.compute_75.ptx"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the binaries, to be damaged."""
    return shutil.copytree(BINARIES, tmp_path / "binaries")


@pytest.mark.parametrize("capability", SHIPPED)
def test_a_gpu_gets_the_cubin_of_its_own_architecture_then_the_ptx(capability):
    found = dict(binaries_for(capability))
    assert list(found) == [f"strata_tail.{capability}.cubin", PTX]
    assert found[f"strata_tail.{capability}.cubin"] == (BINARIES / f"strata_tail.{capability}.cubin").read_bytes()


def test_ptx_ends_in_the_one_zero_byte_that_the_driver_expects():
    content = dict(binaries_for("sm_87"))[PTX]
    assert content == (BINARIES / PTX).read_bytes() + b"\0"
    assert content.count(b"\0") == 1


@pytest.mark.parametrize("capability", ["sm_122", "sm_130", "sm_101"])
def test_a_gpu_that_no_compiler_supports_gets_only_the_ptx(capability):
    assert [name for name, _ in binaries_for(capability)] == [PTX]


@pytest.mark.parametrize("capability", ["sm_53", "sm_62", "sm_70", "sm_72"])
def test_a_gpu_older_than_the_ptx_gets_nothing(capability):
    assert not list(binaries_for(capability))


@pytest.mark.parametrize("capability", ["8.7", "87", "compute_87", "sm_9", "sm_90a", "sm_87\n", ""])
def test_a_capability_in_another_form_is_refused(capability):
    with pytest.raises(ValueError, match="write it as sm_87"):
        list(binaries_for(capability))


def test_a_file_is_read_when_it_is_taken(folder):
    (folder / PTX).unlink()
    found = binaries_for("sm_87", folder)
    assert next(found)[0] == "strata_tail.sm_87.cubin"
    with pytest.raises(BinariesError, match=rf"{re.escape(PTX)}: cannot be read \(No such file.*; install iern again"):
        next(found)


def test_a_file_with_one_bit_changed_is_refused(folder):
    path = folder / "strata_tail.sm_87.cubin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        BinariesError, match=r"sm_87\.cubin: is not the file that manifest\.json describes; install iern"
    ):
        next(binaries_for("sm_87", folder))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"source_sha256": "", "files": {"a": {}}}', '{"files": 1}', "\xff"]
)
def test_a_damaged_manifest_is_refused(folder, text):
    (folder / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(BinariesError, match=r"manifest\.json: damaged \(\w+: .*; install iern again"):
        read_manifest(folder)


def test_a_missing_folder_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json: cannot be read.*cpp_ext/build_binaries\.py"):
        list(binaries_for("sm_87", tmp_path / "nowhere"))
