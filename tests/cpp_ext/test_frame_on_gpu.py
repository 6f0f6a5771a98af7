"""The kernels of frame.cu from a shipped binary on a GPU: YuNet's outputs to faces to crops, all on the device.

The same test runs with the source on the CPU, which shows that Python's structures are those of frame.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu_check.kernel import DriverModule
from doubles.gpu.frame_on_cpu import DEVIATION, MEAN, compile_frame
from doubles.gpu.kernel_on_cpu import COMPILER, NO_COMPILER
from iern.cpp_ext.frame import native, reference
from iern.cpp_ext.kernel_binaries import FRAME_BINARIES, binaries_for
from iern.runtime.faces.yunet_rows import STRIDES, rows_of
from iern.runtime.imaging.detection import MEAN_FACE

Launch = Callable[[str, tuple[int, int, int], int, ctypes.Structure], None]

HEIGHT, WIDTH, MOST, SIZE, MARGIN = 192, 256, 16, 112, 0.95
SCALE = 2.0
"""Pixels of the frame for one of the detector's picture."""


def on_cpu(folder: Path) -> Launch:
    if COMPILER is None:
        pytest.skip(NO_COMPILER)
    loaded = ctypes.CDLL(str(compile_frame(folder / "frame.so", "-shared", "-fPIC")))

    def launch(kernel: str, grid: tuple[int, int, int], threads: int, argument: ctypes.Structure) -> None:
        assert loaded.launch_on_cpu(native.KERNELS.index(kernel), *grid[:2], threads, ctypes.byref(argument)) == 0

    return launch


def on_gpu() -> Launch:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    torch.zeros(1, device="cuda")  # makes the primary context current
    images = binaries_for("sm_{}{}".format(*torch.cuda.get_device_capability()), FRAME_BINARIES)
    module = DriverModule(ctypes.CDLL("libcuda.so.1"), images, native.KERNELS)
    return lambda *launch: module.launch(*launch, torch.cuda.current_stream().cuda_stream)


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, tmp_path_factory) -> tuple[str, Launch]:
    return request.param, on_cpu(tmp_path_factory.mktemp("frame")) if request.param == "cpu" else on_gpu()


def network_outputs() -> list[np.ndarray]:
    """YuNet's outputs for a picture with three faces, of which neighbouring cells see two."""
    rng = np.random.default_rng(5)
    grids = [(HEIGHT // stride, WIDTH // stride) for stride in STRIDES]
    outputs = [np.zeros((1, rows * columns, values)) for values in (1, 1, 4, 10) for rows, columns in grids]
    for index, cells in ((0, (100, 101)), (1, (70, 71)), (2, (20,))):
        for nth, cell in enumerate(cells):
            outputs[index][0, cell] = outputs[3 + index][0, cell] = 0.95 - 0.1 * nth
            outputs[6 + index][0, cell] = 0.3 - nth, 0.2, 1.5, 1.6
            outputs[9 + index][0, cell] = (4.5 * MEAN_FACE + rng.normal(0, 0.1, (5, 2))).ravel()
    return [output.astype(np.float32) for output in outputs]


def test_from_the_detectors_outputs_to_crops_everything_stays_on_the_device(device):
    name, launch = device
    outputs = network_outputs()
    frame = np.random.default_rng(6).integers(0, 256, (int(SCALE * HEIGHT), int(SCALE * WIDTH), 3), np.uint8)

    maps = [torch.from_numpy(output).to(name) for output in outputs]
    scores = torch.empty(native.cells(HEIGHT, WIDTH), device=name)
    rows, counts = torch.empty(1, MOST, 15, device=name), torch.empty(1, dtype=torch.int32, device=name)
    addresses = (ctypes.c_void_p * 12)(*(tensor.data_ptr() for tensor in maps))
    workspace = (tensor.data_ptr() for tensor in (scores, rows, counts))
    argument = native.Rows(addresses, *workspace, 1, HEIGHT, WIDTH, MOST, 0.7, 0.3)
    launch(native.ROWS, native.rows_grid(1), native.ROWS_THREADS, argument)

    pixels = torch.from_numpy(frame).to(name)
    crops = torch.zeros(MOST, SIZE, SIZE, 3, dtype=torch.uint8, device=name)
    halves = torch.zeros(MOST, 3, SIZE, SIZE, dtype=torch.float16, device=name)
    for kernel, faces in ((native.CROP_BYTES, crops), (native.CROP_HALF, halves)):
        where = pixels.data_ptr(), rows.data_ptr() + 4 * 4, counts.data_ptr(), faces.data_ptr()
        sizes = *frame.shape[:2], frame.strides[0], 15, MOST, SIZE
        settings = (
            MARGIN,
            SCALE,
            SCALE,
            *((ctypes.c_float * len(v))(*v) for v in (MEAN_FACE.ravel(), MEAN, DEVIATION)),
        )
        argument = native.Crop(*where, *sizes, *settings)
        launch(kernel, native.crop_grid(MOST, SIZE), native.CROP_THREADS, argument)

    (expected,) = rows_of(outputs, WIDTH, 0.7, 0.3)
    count = int(counts[0])
    assert count == len(expected) == 3
    found = rows[0, :count].cpu().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    twins = [
        reference.crop_face(frame, SCALE * row[4:14].reshape(5, 2).astype(float), MEAN_FACE, SIZE, MARGIN)
        for row in expected
    ]
    levels = np.abs(crops[:count].cpu().numpy().astype(int) - np.stack(twins))
    assert levels.max() <= 1
    assert (levels == 0).mean() > 0.999
    assert not crops[count:].any(), "there is no face"
    normalised = (crops.cpu().numpy()[:count, ..., ::-1] - np.float32(MEAN)) / np.float32(DEVIATION)
    np.testing.assert_array_equal(halves[:count].cpu(), normalised.astype(np.float16).transpose(0, 3, 1, 2))
