"""Faces are where they are, once each, however large the photograph or the face in it."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from doubles.tiny_artifact import tiny_model
from iern.runtime.bundled import YUNET
from iern.runtime.errors import ArtifactError, ImageError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import read_image
from repository import PHOTOS

FACES = {"astronaut": 1, "obama_portrait": 1, "biden_portrait": 1, "obama_and_biden": 3}
"""How many people show their face, counted by eye; the third in the last is a child at the lower right."""

EYES = {
    "astronaut": [(203, 101), (247, 104)],
    "obama_portrait": [(389, 188), (483, 186)],
    "biden_portrait": [(242, 146), (295, 158)],
}
"""Pupils, x and y in pixels of the photograph, the one on the image's left first; read off an enlargement by eye."""


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def photo(name: str) -> np.ndarray:
    return read_image(PHOTOS / f"{name}.jpg")


def resized(image: np.ndarray, width: int) -> np.ndarray:
    height = round(image.shape[0] * width / image.shape[1])
    shrinking = width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)


def centre(face: Detection) -> np.ndarray:
    return np.array([face.x + face.width / 2, face.y + face.height / 2])


def side(face: Detection) -> float:
    return max(face.width, face.height)


def slice_of(image: np.ndarray, face: Detection, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """The square about a face, as far as it lies in the image, and its upper left corner (x, y)."""
    left, top = np.maximum(0, np.rint(centre(face) - margin * side(face) / 2)).astype(int)
    right, bottom = np.rint(centre(face) + margin * side(face) / 2).astype(int)
    return image[top:bottom, left:right], np.array([left, top])


@pytest.mark.parametrize("name", FACES)
def test_every_person_in_a_photograph_is_one_face(detector, name):
    found = detector(photo(name))
    assert len(found) == FACES[name]
    assert all(0.7 <= face.score <= 1 for face in found)
    assert [face.score for face in found] == sorted((face.score for face in found), reverse=True)


@pytest.mark.parametrize("name", EYES)
def test_the_first_two_landmarks_are_the_eyes_from_left_to_right_and_the_mouth_is_below(detector, name):
    (face,) = detector(photo(name))
    assert face.landmarks.shape == (5, 2)
    assert np.abs(face.landmarks[:2] - EYES[name]).max() < 0.08 * side(face)
    eyes, nose, mouth = face.landmarks[:2], face.landmarks[2], face.landmarks[3:]
    assert eyes[0, 0] < nose[0] < eyes[1, 0]
    assert mouth[0, 0] < mouth[1, 0]
    assert eyes[:, 1].max() < nose[1] < mouth[:, 1].min() < face.y + face.height


@pytest.mark.parametrize(
    ("name", "width"),
    [*(("astronaut", width) for width in (150, 2000, 4000)), *(("obama_and_biden", width) for width in (2000, 4000))],
)
def test_the_same_faces_are_found_at_the_same_places_in_a_larger_and_a_smaller_photograph(detector, name, width):
    image = photo(name)
    scale = width / image.shape[1]
    expected, found = detector(image), detector(resized(image, width))
    assert len(found) == FACES[name]
    for face in found:
        nearest = min(expected, key=lambda other: np.linalg.norm(centre(other) - centre(face) / scale))
        assert np.abs(centre(face) / scale - centre(nearest)).max() < 0.06 * side(nearest)
        assert side(face) / scale == pytest.approx(side(nearest), rel=0.1)
        assert np.abs(face.landmarks / scale - nearest.landmarks).max() < 0.1 * side(nearest)


@pytest.mark.parametrize("width", [48, 112, 480, 2000, 4000])
@pytest.mark.parametrize("margin", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("name", EYES)
def test_a_face_that_fills_the_frame_is_one_face_at_its_true_size(detector, name, margin, width):
    image = photo(name)
    (in_context,) = detector(image)
    crop, corner = slice_of(image, in_context, margin)
    scale = width / crop.shape[1]
    (face,) = detector(resized(crop, width))
    assert np.abs(centre(face) / scale + corner - centre(in_context)).max() < 0.1 * side(in_context)
    assert side(face) / scale == pytest.approx(min(1, margin) * side(in_context), rel=0.15)


def test_faces_of_uneven_scaling_land_where_they_are(detector):
    image = photo("astronaut")[:301, :453]  # 640 / 453 * 301 is no whole number
    (face,) = detector(image)
    (expected,) = detector(photo("astronaut"))
    assert np.abs(centre(face) - centre(expected)).max() < 0.05 * side(expected)


def test_a_face_in_a_narrow_strip_lands_where_it_is(detector):
    face = cv2.resize(photo("astronaut")[50:190, 160:290], (36, 40), interpolation=cv2.INTER_AREA)
    strip = cv2.copyMakeBorder(face, 0, 0, 300, 304, cv2.BORDER_REPLICATE)
    (found,) = detector(strip)
    assert np.abs(centre(found) - [318, 20]).max() < 4


def test_frames_of_changing_size_each_get_their_own_faces(detector):
    image = photo("astronaut")
    for frame, count in ((image, 1), (image[:, ::2], None), (np.zeros_like(image), 0), (image[:300], 1), (image, 1)):
        found = detector(frame)
        fresh = FaceDetector()(frame)
        assert count is None or len(found) == count
        assert [(face.x, face.y, face.score) for face in found] == [(face.x, face.y, face.score) for face in fresh]


def test_grey_sixteen_bit_and_alpha_frames_show_the_face_as_well(detector):
    image = photo("astronaut")
    (expected,) = detector(image)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    for frame in (grey, grey[..., None], image.astype(np.uint16) * 257, np.dstack([image, grey])):
        (face,) = detector(frame)
        assert np.abs(centre(face) - centre(expected)).max() < 0.05 * side(expected)


@pytest.mark.parametrize("shape", [(480, 640), (2736, 3648), (1, 1), (2, 900), (24, 640), (900, 2), (640, 30)])
def test_frames_without_a_face_give_none(detector, shape):
    assert detector(np.full((*shape, 3), 120, np.uint8)) == []


@pytest.mark.parametrize("frame", [np.zeros((0, 640, 3), np.uint8), np.zeros((48, 64, 3)), None])
def test_what_is_no_frame_is_refused(detector, frame):
    with pytest.raises(ImageError, match="expected"):
        detector(frame)


def test_the_frame_is_left_as_it_was(detector):
    image = photo("astronaut")
    before = image.copy()
    detector(image)
    assert np.array_equal(image, before)


def test_a_higher_score_is_asked_for_and_given():
    assert len(FaceDetector(score=0.99)(photo("astronaut"))) == 0


@pytest.mark.parametrize(
    "content",
    [None, b"", b"no model", YUNET.read_bytes()[:100_000], tiny_model()],
    ids=["absent", "empty", "text", "truncated", "another network"],
)
def test_a_model_that_is_no_detector_is_refused_in_one_line_with_a_remedy(tmp_path, capfd, content):
    path = tmp_path / "yunet.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match="reinstall iern") as refusal:
        FaceDetector(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


def test_a_model_under_a_name_beyond_ascii_is_read(tmp_path):
    path = tmp_path / "顔 für alle.onnx"
    path.write_bytes(YUNET.read_bytes())
    assert len(FaceDetector(path)(photo("astronaut"))) == 1


def test_loading_and_detecting_writes_nothing_to_the_log():
    code = (
        "import numpy as np\n"
        "from iern.runtime.faces.detector import FaceDetector\n"
        "detector = FaceDetector()\n"
        "for size in (64, 96, 300): detector(np.zeros((size, size, 3), np.uint8))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8")
    assert (done.stdout, done.stderr) == ("", "")


def test_loading_leaves_opencvs_log_level_as_it_was():
    before = cv2.utils.logging.getLogLevel()
    FaceDetector()
    assert cv2.utils.logging.getLogLevel() == before
