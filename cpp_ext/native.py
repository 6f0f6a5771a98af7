"""The compiled tail: plain shared libraries on raw pointers, called through ctypes.

They use neither Python nor PyTorch, so one build serves every version of both. `IERN_BUILD_TAIL=1 pip install -e .`
builds them in this folder, see docs/kernel.md.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

CHANNELS = 16
"""Channels per block of the kernel, as in strata_tail.h."""
THREADS = 128
"""Threads per block, as in strata_tail.h."""
GRID_LIMIT = 65535
"""Largest number of strata, and of faces, in one launch: CUDA's limit for the second and third side of a grid."""

CPU, CUDA = "strata_tail_cpu", "strata_tail_cuda"


class Tail(ctypes.Structure):
    """`struct Tail` of strata_tail.h: addresses of dense arrays, then sizes. 0 is a null pointer."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("u", "h", "weight", "bias")),
        *((name, ctypes.c_void_p) for name in ("partials", "done")),
        *((name, ctypes.c_void_p) for name in ("stratum_logits", "logits", "probabilities")),
        *((name, ctypes.c_int) for name in ("faces", "strata", "channels", "height", "width", "expressions")),
        ("temperature", ctypes.c_float),
        ("mean_of_softmax", ctypes.c_int),
    )


def kernel_name(windowed: bool, half: bool) -> str:
    """The name of the kernel in strata_tail.cu for maps with or without h, in half or single precision."""
    return f"strata_tail_{'windowed' if windowed else 'pooled'}_{'half' if half else 'float'}"


def grid(faces: int, strata: int, channels: int) -> tuple[int, int, int]:
    """The grid of a launch. Its blocks have THREADS threads."""
    return -(-channels // CHANNELS), strata, faces


def partials_shape(faces: int, strata: int, channels: int, expressions: int) -> tuple[int, int, int, int]:
    """The shape of the float32 workspace `partials`. The other workspace, `done`, is (faces,) of 32-bit zeros."""
    return faces, -(-channels // CHANNELS), strata, expressions


@functools.cache
def library(name: str, folder: Path = Path(__file__).parent) -> ctypes.CDLL | None:
    """The library CPU or CUDA. None if it is not built."""
    path = folder / f"{name}.so"
    if not path.exists():
        return None
    loaded = ctypes.CDLL(str(path))
    if name == CPU:
        loaded.strata_tail_cpu.argtypes, loaded.strata_tail_cpu.restype = (ctypes.POINTER(Tail), ctypes.c_int), None
    else:
        loaded.strata_tail_cuda.argtypes = ctypes.POINTER(Tail), ctypes.c_int, ctypes.c_void_p
        loaded.strata_tail_error.argtypes, loaded.strata_tail_error.restype = (ctypes.c_int,), ctypes.c_char_p
    return loaded


def run_on_cpu(loaded: ctypes.CDLL, tail: Tail, half: bool) -> None:
    """Run the tail. All addresses are of host memory; `partials` and `done` are not used."""
    loaded.strata_tail_cpu(tail, half)


def run_on_cuda(loaded: ctypes.CDLL, tail: Tail, half: bool, stream: int) -> None:
    """Enqueue the tail on a stream of the current device. All addresses are of its memory.

    Launches that overlap must not share a workspace.
    """
    code = loaded.strata_tail_cuda(tail, half, stream)
    if code:
        raise RuntimeError(f"the kernel of the averaging tail did not start: {loaded.strata_tail_error(code).decode()}")
