"""The kernels of frame.cu, run on the CPU under several schedules, compared with the code that the loop uses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from doubles.gpu.frame_on_cpu import DEVIATION, KERNEL, MEAN, compile_frame, run_crop, run_rows
from doubles.gpu.kernel_on_cpu import COMPILER, NO_COMPILER, SANITIZERS
from doubles.pasted_faces import pasted_faces
from iern.cpp_ext.frame import native, reference
from iern.runtime.backends.providers import import_onnxruntime
from iern.runtime.bundled import YUNET
from iern.runtime.faces.yunet import INPUT, OUTPUTS
from iern.runtime.faces.yunet_rows import STRIDES, rows_of
from iern.runtime.imaging.detection import MEAN_FACE, Detection
from iern.runtime.imaging.images import read_image
from iern.runtime.imaging.preprocess import InputSpec, crop_face
from repository import PHOTOS

pytestmark = pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)

FINE = cv2.getVersionMajor() >= 5
"""Whether OpenCV samples between pixels exactly. Before, it took the nearest 32nd of a pixel."""
PHOTOGRAPH = (0.3, 2) if FINE else (0.3, 4)
"""Grey levels by which a crop of a photograph may differ from the loop's: on average, and at most. OpenCV rounds to
bytes twice. Found: 0.21 and 1, or 0.25 and 3."""
NOISE = (0.3, 2) if FINE else (0.9, 8)
"""The same for noise. Found: 0.21 and 1, or 0.80 and 6."""
RIGHT = 0.999
"""The share of values that must equal the twin's. The others differ by one level, at which float32 rounds otherwise."""
PIXELS = 1e-5
"""Relative error of boxes: CUDA's exponential function is not numpy's."""
SIDES = (3, 30, 60, 105, 113, 150, 224, 330, 447, 500, 900)
"""Sides of faces, in pixels: enlarged, as large as the crop, averaged, and sampled at four times its size."""


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    return compile_frame(tmp_path_factory.mktemp("frame") / "run_frame")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory) -> Path:
    return compile_frame(tmp_path_factory.mktemp("frame") / "run_frame", *SANITIZERS)


def faces_anywhere(frame: np.ndarray, sides: tuple[float, ...] = SIDES, seed: int = 0) -> np.ndarray:
    """(F, 5, 2) float32 landmarks of faces of these sides, turned by any angle, in the frame and beyond its border."""
    rng = np.random.default_rng(seed)
    found = []
    for side in sides:
        angle = rng.uniform(-np.pi, np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centre = rng.uniform(-0.1, 1.1, 2) * frame.shape[1::-1]
        found.append(side * (MEAN_FACE @ turn.T + rng.normal(0, 0.02, (5, 2))) + centre)
    return np.array(found, np.float32)


def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (240, 320, 3), np.uint8)


def loop_crops(frame: np.ndarray, landmarks: np.ndarray, size: int, margin: float) -> np.ndarray:
    spec = InputSpec(size, margin, "landmarks")
    return np.stack([crop_face(frame, Detection(0, 0, 1, 1, points.astype(float)), spec) for points in landmarks])


def twin_crops(frame: np.ndarray, landmarks: np.ndarray, size: int, margin: float) -> np.ndarray:
    return np.stack([reference.crop_face(frame, points.astype(float), MEAN_FACE, size, margin) for points in landmarks])


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - other.astype(int))


def assert_near(crops: np.ndarray, others: np.ndarray, mean: float, most: int) -> None:
    levels = difference(crops, others)
    assert levels.mean(axis=(1, 2, 3)).max() < mean
    assert levels.max() <= most


@pytest.mark.parametrize("photo", sorted(PHOTOS.glob("*.jpg")), ids=lambda path: path.stem)
def test_a_crop_of_a_photograph_is_that_of_the_loop_and_of_the_twin(program, photo):
    frame = read_image(photo)
    landmarks = faces_anywhere(frame)
    crops = run_crop(program, frame, landmarks, size=112, margin=0.95)
    assert_near(crops, loop_crops(frame, landmarks, 112, 0.95), *PHOTOGRAPH)
    levels = difference(crops, twin_crops(frame, landmarks, 112, 0.95))
    assert levels.max() <= 1
    assert (levels == 0).mean() > RIGHT


@pytest.mark.parametrize(("size", "margin"), [(24, 1.4), (48, 0.95), (1, 1.0)])
def test_of_noise_too_a_crop_is_that_of_the_twin(program, size, margin):
    frame = noise()
    landmarks = faces_anywhere(frame)
    levels = difference(
        run_crop(program, frame, landmarks, size=size, margin=margin), twin_crops(frame, landmarks, size, margin)
    )
    assert levels.max() <= 1
    assert (levels == 0).mean() > RIGHT


def test_of_noise_a_crop_differs_from_the_loops_by_few_grey_levels(program):
    frame = noise()
    landmarks = faces_anywhere(frame)
    crops = run_crop(program, frame, landmarks, size=48, margin=0.95)
    assert_near(crops, loop_crops(frame, landmarks, 48, 0.95), *NOISE)


def test_halves_are_the_normalised_grey_levels_in_planes_of_red_green_and_blue(program):
    frame = noise()
    landmarks = faces_anywhere(frame, (20, 60, 300))
    levels = run_crop(program, frame, landmarks, size=16, margin=1.1)
    expected = (levels[..., ::-1] - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    found = run_crop(program, frame, landmarks, size=16, margin=1.1, half=True)
    np.testing.assert_array_equal(found, expected.astype(np.float16).transpose(0, 3, 1, 2))


def test_a_crop_reads_padded_rows_and_landmarks_in_rows_of_the_detector_at_its_scale(program):
    whole = np.pad(noise(), ((0, 0), (0, 13), (0, 0)))
    frame = whole[:, :-13]
    landmarks = faces_anywhere(frame, (40, 90))
    rows = np.full((2, 15), np.nan, np.float32)
    rows[:, 4:14] = (landmarks / np.array([0.5, 4], np.float32)).reshape(2, 10)
    points = np.lib.stride_tricks.as_strided(rows[:, 4:], (2, 5, 2), (60, 8, 4))
    found = run_crop(program, frame, points, size=24, margin=1.0, scale=(0.5, 4))
    np.testing.assert_array_equal(found, run_crop(program, frame.copy(), landmarks, size=24, margin=1.0))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_only_as_many_faces_are_cropped_as_the_count_on_the_device_says(program, count):
    landmarks = faces_anywhere(noise(), (50,) * count).reshape(count, 5, 2)
    assert len(run_crop(program, noise(), landmarks, size=8, margin=1.0, most=4)) == count


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
def test_the_sanitizers_find_nothing_in_the_crop_even_of_landmarks_that_are_no_numbers(sanitized, half):
    frame = noise()
    wild = np.array([np.full((5, 2), value) for value in (np.nan, np.inf, 1e30, -1e30, 7)], np.float32)
    landmarks = np.concatenate([wild, faces_anywhere(frame)])
    crops = run_crop(sanitized, frame, landmarks, size=24, margin=1.0, half=half)
    assert len(crops) == len(landmarks)


def random_outputs(height: int, width: int, pictures: int, seed: int, faces: float = 0.2) -> list[np.ndarray]:
    """YuNet's twelve outputs, of which a share of cells sees faces, many of equal scores, that overlap each other."""
    rng = np.random.default_rng(seed)
    outputs: list[np.ndarray] = []
    for values in (1, 1, 4, 10):
        for stride in STRIDES:
            shape = pictures, height // stride * (width // stride), values
            if values == 1:
                seen = rng.random(shape) < faces
                outputs.append(np.where(seen, rng.choice([0.6, 0.75, 0.9, 1.2], shape), rng.normal(0, 0.2, shape)))
            else:
                outputs.append(rng.normal(0, 0.7, shape))
    return [output.astype(np.float32) for output in outputs]


def assert_equal(found: list[np.ndarray], expected: list[np.ndarray], most: int) -> None:
    assert [len(rows) for rows in found] == [min(len(rows), most) for rows in expected]
    for one, other in zip(found, expected, strict=True):
        # Landmarks and scores need no function that differs: the same bits.
        np.testing.assert_array_equal(one[:, 4:], other[:most, 4:])
        np.testing.assert_allclose(one[:, :4], other[:most, :4], rtol=PIXELS, atol=1e-4)


CASES = {
    "a square": (64, 64, 2),
    "wide": (64, 160, 1),
    "high, more cells than threads": (192, 96, 3),
    "one cell at the largest stride": (32, 32, 1),
}


@pytest.mark.parametrize("most", [1, 16, 60])
@pytest.mark.parametrize("name", CASES)
def test_rows_of_random_outputs_are_those_of_the_loop(program, name, most):
    height, width, pictures = CASES[name]
    for seed in range(2):
        outputs = random_outputs(height, width, pictures, seed, faces=0.5)
        expected = rows_of(outputs, width, 0.6, 0.3)
        assert sum(map(len, expected)) >= 1
        found = run_rows(program, outputs, (height, width), score=0.6, overlap=0.3, most=most, seed=2 * seed)
        assert_equal(found, expected, most)


def test_a_picture_without_faces_has_no_rows(program):
    outputs = random_outputs(64, 64, 2, 0, faces=0)
    assert [len(rows) for rows in run_rows(program, outputs, (64, 64), score=0.9, overlap=0.3)] == [0, 0]


def yunet_outputs(picture: np.ndarray) -> tuple[list[np.ndarray], tuple[int, int]]:
    """The real network's outputs for a picture, padded to multiples of 32 pixels, and its size then."""
    height, width = (-(-side // 32) * 32 for side in picture.shape[:2])
    padded = np.zeros((height, width, 3), np.uint8)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    graph = import_onnxruntime().InferenceSession(str(YUNET), providers=["CPUExecutionProvider"])
    return graph.run(OUTPUTS, {INPUT: cv2.dnn.blobFromImage(padded)}), (height, width)


PICTURES: dict[str, Callable[[], np.ndarray]] = {
    **{path.stem: lambda path=path: cv2.resize(read_image(path), (320, 240)) for path in sorted(PHOTOS.glob("*.jpg"))},
    "many faces": lambda: pasted_faces(1280, 720, [60, 40, 30, 24] * 8)[0],
}


@pytest.mark.parametrize("name", PICTURES)
def test_rows_of_the_real_networks_outputs_are_those_of_the_loop(program, name):
    outputs, size = yunet_outputs(PICTURES[name]())
    for score, overlap in ((0.7, 0.3), (0.3, 0.6)):
        expected = rows_of(outputs, size[1], score, overlap)
        assert len(expected[0]) >= 1
        assert_equal(run_rows(program, outputs, size, score=score, overlap=overlap, most=32), expected, 32)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_sanitizers_find_nothing_in_the_rows(sanitized, name):
    height, width, pictures = CASES[name]
    outputs = random_outputs(height, width, pictures, 0)
    expected = rows_of(outputs, width, 0.6, 0.3)
    assert_equal(run_rows(sanitized, outputs, (height, width), score=0.6, overlap=0.3), expected, 16)


def test_python_has_the_launch_sizes_the_names_and_the_arguments_of_the_source():
    header = KERNEL.with_suffix(".h").read_text(encoding="utf-8")
    constants = {name: int(value) for name, value in re.findall(r"constexpr int (\w+) = (\d+);", header)}
    assert constants["CROP_THREADS"] == native.CROP_THREADS
    assert constants["ROWS_THREADS"] == native.ROWS_THREADS
    assert constants["OVERSAMPLING"] == reference.OVERSAMPLING
    kernels = re.findall(r'extern "C" __global__ .* (\w+)\(const \w+ \w+\)', KERNEL.read_text(encoding="utf-8"))
    assert sorted(kernels) == sorted(native.KERNELS)
    for structure in (native.Crop, native.Rows):
        body = re.search(rf"struct {structure.__name__} {{(.*?)}};", header, re.DOTALL)[1]
        lines = [re.sub(r"//.*", "", line).strip().rstrip(";") for line in body.splitlines()]
        names = [name for line in lines for name in re.findall(r"(\w+)(?:\[\d+\])?(?:,|$)", line)]
        assert names == [name for name, _ in structure._fields_]


# The mistake, the right code, the planted code.
BUGS = [
    ("no barrier before the best of the warps", "    __syncthreads();\n    for (int warp", "    for (int warp"),
    ("no barrier behind it", "    __syncthreads();  // the next call writes there\n", ""),
    ("one step less", "int step = WARP / 2", "int step = WARP / 4"),
    ("a warp too few", "warp < WARPS; ++warp", "warp < WARPS - 1; ++warp"),
    ("of equal scores any", "|| (other_score == score && other_cell < cell)", ""),
    ("boxes compared in parts of pixels", "return {truncf(box.x)", "return box; return {truncf(box.x)"),
    ("scores of another picture", "rows.scores + size_t(picture) * cells", "rows.scores"),
    ("outputs of another picture", "size_t(picture) * columns * (rows.height / stride) + number", "number"),
    ("landmarks turned", "k % 2 ? cell.row : cell.column", "k % 2 ? cell.column : cell.row"),
    ("mirrored", "u * y - v * x", "v * x - u * y"),
    ("half a pixel aside", "square.x - 0.5f", "square.x"),
    ("faces behind the count", "face >= *crop.count || ", ""),
    ("one sample too many", "((i + 1) * samples - 1) / size", "(i + 1) * samples / size + 1"),
    ("columns not clamped", "x = clamped(x, 0, crop.width - 1)", "x = clamped(x, 0, crop.width - 2)"),
    ("another cubic", "A = -0.75f", "A = -0.5f"),
]


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug[0])
def test_a_planted_bug_is_caught(tmp_path, bug):
    _, right, wrong = bug
    source = KERNEL.read_text(encoding="utf-8")
    assert right in source, "the code that the planted bug replaces has changed"
    mutant = tmp_path / "mutant.cu"
    mutant.write_text(source.replace(right, wrong, 1), encoding="utf-8")
    program = compile_frame(tmp_path / "run_frame", source=mutant)
    with pytest.raises((RuntimeError, AssertionError)):
        for seed in (0, 4):
            outputs = random_outputs(192, 96, 2, seed, faces=0.5)
            found = run_rows(program, outputs, (192, 96), score=0.6, overlap=0.3, most=99, seed=seed)
            assert_equal(found, rows_of(outputs, 96, 0.6, 0.3), 99)
        test_of_noise_too_a_crop_is_that_of_the_twin(program, 48, 0.95)
        test_only_as_many_faces_are_cropped_as_the_count_on_the_device_says(program, 1)
