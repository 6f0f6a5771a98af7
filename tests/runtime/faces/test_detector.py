"""The detector finds each face once, at its place, whatever the size of the photograph or the face."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from doubles.pasted_faces import pasted_faces
from doubles.tiny_artifact import tiny_model
from iern.runtime.bundled import YUNET
from iern.runtime.errors import ArtifactError, ImageError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import read_image
from repository import PHOTOS

FACES = {"astronaut": 1, "obama_portrait": 1, "biden_portrait": 1, "obama_and_biden": 3}
"""The number of visible faces, counted by eye. The third in the last photograph is a child at the lower right."""

EYES = {
    "astronaut": [(203, 101), (247, 104)],
    "obama_portrait": [(389, 188), (483, 186)],
    "biden_portrait": [(242, 146), (295, 158)],
}
"""Pupils, x and y in pixels of the photograph, the left one in the image first. Measured by eye on an enlargement."""


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


def boxes(faces: list[Detection]) -> list[tuple[float, ...]]:
    return [(face.x, face.y, face.width, face.height, face.score, *face.landmarks.ravel()) for face in faces]


def side(face: Detection) -> float:
    return max(face.width, face.height)


def slice_of(image: np.ndarray, face: Detection, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of the square around a face that is in the image, and its upper left corner (x, y)."""
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


def assert_found_once(faces: list[Detection], centres: np.ndarray, within: np.ndarray) -> None:
    """Assert that the faces are at those places, one at each. `within` is the tolerance at each place, in pixels."""
    assert len(faces) == len(centres)
    distances = [np.abs(centres - centre(face)).max(axis=1) / within for face in faces]
    assert sorted(np.argmin(distances, axis=1)) == list(range(len(centres)))
    assert np.min(distances, axis=1).max() < 1


def test_small_faces_in_a_large_photograph_are_all_found_and_nothing_else(detector):
    sides = [120, 80, 60, 40] * 15
    image, centres = pasted_faces(4000, 3000, sides)
    assert_found_once(detector.in_photograph(image), centres, 0.3 * np.array(sides))
    assert len(detector(image)) < 30, "a frame of a video is searched in a smaller copy"


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize("width", [100, None, 2000])
def test_an_ordinary_photograph_gives_the_faces_of_a_frame(detector, name, width):
    image = photo(name) if width is None else resized(photo(name), width)
    assert boxes(detector.in_photograph(image)) == boxes(detector(image))


def test_a_longest_side_finds_small_faces_in_frames_and_holds_for_photographs():
    image, centres = pasted_faces(1600, 120, [28] * 9)
    assert FaceDetector()(image) == []
    wide, narrow = FaceDetector(longest_side=1600), FaceDetector(longest_side=640)
    assert_found_once(wide(image), centres, np.full(9, 9.0))
    assert_found_once(wide.in_photograph(image), centres, np.full(9, 9.0))
    assert narrow.in_photograph(image) == []


def test_large_and_small_faces_in_one_photograph_are_each_found_once(detector):
    large = photo("astronaut")[:400, :400]
    image, centres = pasted_faces(4000, 3000, [40, 60] * 4)
    image[1000:3000, 1000:3000] = resized(large, 2000)
    (expected,) = detector(large)
    centres = np.vstack([centres, [1000 + 5 * centre(expected)]])
    assert_found_once(detector.in_photograph(image), centres, np.array([15] * 8 + [60]))


@pytest.mark.parametrize("shape", [(200_000, 3), (1, 1)])
def test_the_copy_of_a_strip_stays_small(detector, shape):
    assert detector.in_photograph(np.full((*shape, 3), 120, np.uint8)) == []


def test_threads_that_share_a_detector_each_get_their_own_faces(detector):
    images = [resized(photo(name), width) for name in FACES for width in (200, 300, 400, 500)]
    expected = [boxes(detector(image)) for image in images]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: boxes(detector(image)), images * 6))
    assert found == expected * 6


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copied_or_pickled_detector_is_another_one_with_the_same_settings(tmp_path, monkeypatch, again):
    (tmp_path / "yunet.onnx").write_bytes(YUNET.read_bytes())
    monkeypatch.chdir(tmp_path)
    detector = FaceDetector("yunet.onnx", score=0.9, longest_side=300)
    monkeypatch.chdir("/")
    twin, image = again(detector), photo("astronaut")
    assert boxes(twin(image)) == boxes(detector(image))
    assert twin.longest_side == 300
    assert twin._yunet is not detector._yunet


def test_after_uneven_scaling_a_face_is_at_its_place(detector):
    image = photo("astronaut")[:301, :453]  # 640 / 453 * 301 is not a whole number
    (face,) = detector(image)
    (expected,) = detector(photo("astronaut"))
    assert np.abs(centre(face) - centre(expected)).max() < 0.05 * side(expected)


def test_a_face_in_a_narrow_strip_is_at_its_place(detector):
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


def test_the_face_is_found_in_grey_sixteen_bit_and_alpha_frames(detector):
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
def test_an_array_that_is_not_an_image_is_refused(detector, frame):
    with pytest.raises(ImageError, match="expected"):
        detector(frame)


def test_the_frame_is_not_changed(detector):
    image = photo("astronaut")
    before = image.copy()
    detector(image)
    assert np.array_equal(image, before)


def test_with_a_higher_score_fewer_faces_count():
    assert len(FaceDetector(score=0.99)(photo("astronaut"))) == 0


@pytest.mark.parametrize(
    "content",
    [None, b"", b"no model", YUNET.read_bytes()[:100_000], tiny_model()],
    ids=["absent", "empty", "text", "truncated", "another network"],
)
def test_a_model_that_is_not_a_detector_is_refused_in_one_line_with_a_remedy(tmp_path, capfd, content):
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
