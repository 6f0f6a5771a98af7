"""The kernels' binaries in the package, for machines without a compiler, and the order in which to load them.

A cubin is loaded only on the architecture that it was compiled for. PTX also runs on every newer one, after the driver
has compiled it. NVIDIA promises more: a cubin for 8.6 runs on 8.9, but not from or to the GPUs of Jetsons. There is a
cubin for every architecture that the compilers support, so only future GPUs would need that promise. They use the PTX.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BINARIES = Path(__file__).parent / "binaries"
"""Of the averaging tail, which most functions here take for granted."""
FRAME_BINARIES = Path(__file__).parent / "frame" / "binaries"
"""Of the kernels in frame/frame.cu."""
MANIFEST = "manifest.json"
"""Describes the other files. build_binaries.py writes it."""
REMEDY = "install iern again, or in the repository: python cpp_ext/build_binaries.py"


class BinariesError(FileNotFoundError):
    """A binary or the manifest is missing or damaged."""


@dataclass(frozen=True)
class Binary:
    """One file of the folder."""

    name: str
    compiler: str
    version: str
    """Of the compiler."""
    architecture: str
    """Such as sm_87 for a cubin, compute_75 for PTX."""
    sha256: str

    @property
    def is_cubin(self) -> bool:
        """Whether it is machine code. Otherwise it is PTX."""
        return self.architecture.startswith("sm_")

    @property
    def number(self) -> int:
        """The number of the architecture: 87 for sm_87."""
        return int(self.architecture.rpartition("_")[2])


@dataclass(frozen=True)
class BinaryManifest:
    """The files of the folder, and the source that they were compiled from."""

    source_sha256: str
    """See `build_binaries.source_sha256`."""
    binaries: tuple[Binary, ...]


def binaries_for(capability: str, folder: Path = BINARIES) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the binaries for a GPU of a compute capability such as sm_87, in the order to try them.

    Each file is read when the caller takes it. PTX ends in the zero byte that the driver expects. A driver that is
    older than the compiler may refuse the cubin, and then gets the PTX. There are no binaries for GPUs older than
    sm_75. Raises BinariesError for a missing or damaged file, and ValueError for a capability in another form.
    """
    for binary in in_order(capability, read_manifest(folder)):
        content = read_binary(binary, folder)
        yield binary.name, content if binary.is_cubin else content + b"\0"


def in_order(capability: str, manifest: BinaryManifest) -> list[Binary]:
    """The binaries for a GPU: its cubin if there is one, then the PTX if the GPU is not too old for it."""
    if not re.fullmatch(r"sm_\d{2,3}", capability):
        raise ValueError(f"the compute capability is {capability!r}; write it as sm_87")
    cubins = [binary for binary in manifest.binaries if binary.architecture == capability]
    ptx = [binary for binary in manifest.binaries if not binary.is_cubin and binary.number <= int(capability[3:])]
    return cubins + ptx


def read_manifest(folder: Path = BINARIES) -> BinaryManifest:
    """Read the folder's manifest. Raises BinariesError."""
    path = folder / MANIFEST
    try:
        values = json.loads(_read(path))
        binaries = tuple(Binary(name, **described) for name, described in values["files"].items())
        return BinaryManifest(values["source_sha256"], binaries)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BinariesError(f"{path}: damaged ({type(error).__name__}: {error}); {REMEDY}") from error


def read_binary(binary: Binary, folder: Path = BINARIES) -> bytes:
    """The file's bytes. Raises BinariesError if they are not those that were built."""
    path = folder / binary.name
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != binary.sha256:
        raise BinariesError(f"{path}: is not the file that {MANIFEST} describes; {REMEDY}")
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BinariesError(f"{path}: cannot be read ({error.strerror or error}); {REMEDY}") from error
