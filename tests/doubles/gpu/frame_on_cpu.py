"""Compiles frame.cu for the CPU with tests/doubles/gpu/cuda_on_cpu, and runs its kernels on a case."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from doubles.gpu.kernel_on_cpu import COMPILER, SHIM
from iern.runtime.imaging.detection import MEAN_FACE
from repository import ROOT

KERNEL = ROOT / "cpp_ext" / "frame" / "frame.cu"
MEAN, DEVIATION = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
"""Of red, green and blue: made up, and different."""


def compile_frame(output: Path, *options: str, source: Path = KERNEL) -> Path:
    """Compile a program that runs the kernels of `source`. In our own kernels, warnings are errors."""
    warnings = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas") if source == KERNEL else ("-w",)
    folders = (f"-I{SHIM}", f"-I{ROOT / 'cpp_ext'}", f"-I{KERNEL.parent}", f'-DKERNEL_SOURCE="{source}"')
    command = [COMPILER, "-std=c++17", "-O1", *options, *warnings, *folders, SHIM / "run_frame.cpp", "-o", output]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    return output


def run_rows(
    program: Path,
    outputs: Sequence[NDArray],
    size: tuple[int, int],
    *,
    score: float,
    overlap: float,
    most: int = 16,
    seed: int = 2,
) -> list[NDArray]:
    """YuNet's outputs for pictures of (height, width) -> the rows of each. Those behind the count must be untouched."""
    pictures = len(outputs[0])
    header = np.array([0, seed, pictures, *size, most], np.int32), np.array([score, overlap], np.float32)
    written = _run(program, *header, *(np.ascontiguousarray(output, np.float32) for output in outputs))
    counts = np.frombuffer(written[: 4 * pictures], np.int32)
    rows = np.frombuffer(written[4 * pictures :], np.float32).reshape(pictures, most, 15)
    assert all((of_one[count:] == -7).all() for of_one, count in zip(rows, counts, strict=True))
    return [of_one[:count] for of_one, count in zip(rows, counts, strict=True)]


def run_crop(
    program: Path,
    frame: NDArray,
    landmarks: NDArray,
    *,
    size: int,
    margin: float,
    most: int = 0,
    half: bool = False,
    scale: tuple[float, float] = (1, 1),
    seed: int = 2,
) -> NDArray:
    """(H, W, 3) frame and (F, 5, 2) landmarks -> (F, size, size, 3) bytes, or (F, 3, size, size) half.

    The frame's rows may be apart, and so may the landmarks of the faces. Room for `most` faces must stay untouched
    behind them.
    """
    count, most = len(landmarks), max(most, len(landmarks))
    row_bytes, stride = frame.strides[0], landmarks.strides[0] // 4 if count else 10
    sizes = [1 + half, seed, *frame.shape[:2], row_bytes, stride, most, size, count]
    settings = [margin, *scale, *MEAN_FACE.ravel(), *MEAN, *DEVIATION]
    length = row_bytes * (len(frame) - 1) + 3 * frame.shape[1]
    pixels = np.lib.stride_tricks.as_strided(frame, (length,), (1,))
    reach = (stride * (count - 1) + 10,) if count else (0,)
    points = np.lib.stride_tricks.as_strided(landmarks, reach, (4,))
    written = _run(program, np.array(sizes, np.int32), np.array(settings, np.float32), pixels, points)
    faces = np.frombuffer(written, np.uint8).reshape(most, -1)
    assert (faces[count:] == 77).all()
    shape = (count, 3, size, size) if half else (count, size, size, 3)
    return faces[:count].copy().view(np.float16 if half else np.uint8).reshape(shape)


def _run(program: Path, *arrays: NDArray) -> bytes:
    """Run on the input of these arrays -> what it writes. RuntimeError if it fails."""
    content = b"".join(array.tobytes() for array in arrays)
    result = subprocess.run([program], input=content, capture_output=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stderr.decode("utf-8", "replace"))
    return result.stdout
