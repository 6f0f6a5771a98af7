"""YuNet in onnxruntime finds the faces that OpenCV's FaceDetectorYN finds, and OpenCV runs it if onnxruntime cannot."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import cv2
import numpy as np
import onnx
import pytest

from doubles.pasted_faces import pasted_faces
from iern.runtime.bundled import YUNET
from iern.runtime.errors import SessionError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.yunet import OnnxYunet, open_yunet
from iern.runtime.imaging.images import read_image
from repository import PHOTOS

PIXELS = 0.01
"""Largest difference of boxes and landmarks, in pixels. Found: 0.0004."""
SCORE = 1e-4
"""Largest difference of scores. Found: 0.000002."""


@pytest.fixture(scope="module")
def yunet() -> OnnxYunet:
    opened = open_yunet(YUNET, 0.7, 0.3, threads=1)
    assert isinstance(opened, OnnxYunet)
    return opened


def rows_of_opencv(picture: np.ndarray) -> np.ndarray:
    """The authority: OpenCV's own detector, with its own decoding."""
    authority = cv2.FaceDetectorYN.create(str(YUNET), "", picture.shape[1::-1], 0.7, 0.3)
    rows = authority.detect(picture)[1]
    return np.empty((0, 15), np.float32) if rows is None else rows


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    assert len(found) == len(expected)
    np.testing.assert_allclose(found[:, :14], expected[:, :14], atol=PIXELS)
    np.testing.assert_allclose(found[:, 14], expected[:, 14], atol=SCORE)


@pytest.mark.parametrize("width", [96, 161, 640, 1100])
@pytest.mark.parametrize("photo", sorted(PHOTOS.glob("*.jpg")), ids=lambda path: path.stem)
def test_boxes_landmarks_and_scores_are_those_of_opencv(yunet, photo, width):
    image = read_image(photo)
    height = round(width * image.shape[0] / image.shape[1])
    picture = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    assert_equal(yunet([picture])[0], rows_of_opencv(picture))


def test_of_many_faces_each_is_that_of_opencv(yunet):
    picture, centres = pasted_faces(1280, 720, [60, 40, 30, 24] * 8)
    expected = rows_of_opencv(picture)
    assert len(expected) >= 0.9 * len(centres)
    assert_equal(yunet([picture])[0], expected)


def test_each_picture_of_a_batch_gets_its_own_faces(yunet):
    image = cv2.resize(read_image(PHOTOS / "astronaut.jpg"), (256, 256), interpolation=cv2.INTER_AREA)
    pictures = [image, np.zeros_like(image), np.ascontiguousarray(image[:, ::-1]), np.roll(image, 40, axis=1)]
    together = yunet(pictures)
    assert [len(rows) for rows in together] == [1, 0, 1, 1]
    for rows, picture in zip(together, pictures, strict=True):
        np.testing.assert_allclose(rows, yunet([picture])[0], atol=1e-3)


def test_a_model_of_a_fixed_size_runs_in_opencv(tmp_path):
    model = onnx.load(YUNET)
    for axis, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 640, 640), strict=True):
        axis.dim_value = size
    onnx.save(model, tmp_path / "zoo.onnx")
    with pytest.raises(SessionError, match="fixed size"):
        OnnxYunet((tmp_path / "zoo.onnx").read_bytes(), 0.7, 0.3, threads=1)
    image = read_image(PHOTOS / "astronaut.jpg")
    bundled, zoo = FaceDetector(threads=1), FaceDetector(tmp_path / "zoo.onnx")
    assert (bundled.engine, zoo.engine) == ("onnxruntime", "OpenCV")
    (one,), (other,) = bundled(image), zoo(image)
    np.testing.assert_allclose(one.landmarks, other.landmarks, atol=PIXELS)


def test_without_onnxruntime_opencv_finds_the_faces():
    program = textwrap.dedent(
        f"""
        import sys
        sys.modules["onnxruntime"] = None
        from iern.runtime.faces.detector import FaceDetector
        from iern.runtime.imaging.images import read_image
        detector = FaceDetector()
        print(detector.engine, len(detector(read_image({str(PHOTOS / "astronaut.jpg")!r}))))
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert (done.stdout, done.stderr) == ("OpenCV 1\n", "")
