"""The crop, compared with a second, independent implementation in float64."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from iern.runtime.errors import ImageError
from iern.runtime.imaging.detection import MEAN_FACE, Detection
from iern.runtime.imaging.images import read_image
from iern.runtime.imaging.preprocess import InputSpec, crop_face, crop_faces, face_square, resize_face
from repository import PHOTOS

PHOTO = PHOTOS / "astronaut.jpg"
ROUNDING = 2
"""Grey levels. The crop is rounded to bytes twice, and OpenCV's weights have 5 to 11 bits."""


def face(x: float, y: float, width: float, height: float, roll: float = 0.0) -> Detection:
    """A face whose eyes are turned clockwise by `roll` degrees about the centre of its box."""
    centre = np.array([x + width / 2, y + height / 2])
    upright = np.array([[-0.2, -0.15], [0.2, -0.15], [0, 0.05], [-0.15, 0.25], [0.15, 0.25]]) * height
    return Detection(x, y, width, height, centre + upright @ rotation(roll).T, 0.9)


def rotation(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def waves(height: int = 150, width: int = 200) -> np.ndarray:
    """(height, width, 3) uint8, a smooth image that differs in each channel."""
    y, x = np.mgrid[:height, :width]
    channels = [np.sin(x / 9 + k) * np.cos(y / (7 + k)) + np.sin((x + 2 * y) / 23) for k in range(3)]
    return np.rint(127 + 60 * np.dstack(channels)).astype(np.uint8)


def golden_crop(frame: np.ndarray, where: Detection, spec: InputSpec) -> np.ndarray:
    """(size, size, 3) float64: the square as an area of the plane, sampled and resampled without OpenCV."""
    side, roll, centre = golden_square(where, spec)
    samples = max(2, min(round(side), 4 * spec.size))
    along = ((np.arange(samples) + 0.5) / samples - 0.5) * side  # from the centre, pixels of the frame
    points = np.stack(np.meshgrid(along, along), axis=-1) @ rotation(roll).T + centre
    crop = bilinear(frame.astype(np.float64), points[..., 0] - 0.5, points[..., 1] - 0.5)  # pixel 0 covers 0 to 1
    weights = area_weights(samples, spec.size) if samples >= spec.size else cubic_weights(samples, spec.size)
    return np.einsum("iy,jx,yxc->ijc", weights, weights, crop)


def golden_square(where: Detection, spec: InputSpec) -> tuple[float, float, np.ndarray]:
    """Side in pixels, turn in degrees, and (2,) centre of the crop."""
    centre = np.array([where.x + where.width / 2, where.y + where.height / 2])
    if spec.alignment == "landmarks":
        # x = a u - b v + c, y = b u + a v + d for each point (u, v) of the mean face: ten equations, four unknowns.
        (u, v), one = MEAN_FACE.T, np.ones(5)
        rows = np.block([[u[:, None], -v[:, None], one[:, None], 0 * one[:, None]],
                         [v[:, None], u[:, None], 0 * one[:, None], one[:, None]]])  # fmt: skip
        a, b, x, y = np.linalg.lstsq(rows, where.landmarks.T.ravel(), rcond=None)[0]
        return spec.margin * float(np.hypot(a, b)), float(np.degrees(np.arctan2(b, a))), np.array([x, y])
    (x0, y0), (x1, y1) = where.landmarks[:2]
    roll = np.degrees(np.arctan2(y1 - y0, x1 - x0)) if spec.alignment == "eyes" else 0.0
    return spec.margin * max(where.width, where.height), float(roll), centre


def bilinear(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values between pixel centres. Outside the image the nearest border pixel is used."""
    x, y = np.clip(x, 0, image.shape[1] - 1), np.clip(y, 0, image.shape[0] - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = np.minimum(left + 1, image.shape[1] - 1), np.minimum(top + 1, image.shape[0] - 1)
    u, v = (x - left)[..., None], (y - top)[..., None]
    upper = (1 - u) * image[top, left] + u * image[top, right]
    lower = (1 - u) * image[bottom, left] + u * image[bottom, right]
    return (1 - v) * upper + v * lower


def area_weights(before: int, after: int) -> np.ndarray:
    """(after, before): the share of each old pixel in the area of each new one."""
    edges = np.linspace(0, before, after + 1)
    start, stop = edges[:-1, None], edges[1:, None]
    old = np.arange(before)
    return np.clip(np.minimum(stop, old + 1) - np.maximum(start, old), 0, None) * after / before


def cubic_weights(before: int, after: int) -> np.ndarray:
    """(after, before): Keys' cubic with a = -0.75 and repeated border pixels."""
    a, weights = -0.75, np.zeros((after, before))
    for new in range(after):
        place = (new + 0.5) * before / after - 0.5
        for old in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            d = abs(place - old)
            near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
            weights[new, min(max(old, 0), before - 1)] += near if d <= 1 else far if d < 2 else 0
    return weights


@pytest.mark.parametrize(
    "where",
    [
        face(60, 40, 70, 80),
        face(60.3, 40.8, 71.5, 64.2, roll=17),
        face(90, 50, 40, 50, roll=-160),
        face(80, 60, 12, 15, roll=30),
        face(-10, 90, 60, 70, roll=5),
        face(150, -20, 90, 80),
    ],
    ids=["upright", "turned", "head down", "small, enlarged", "over the corner", "over the top"],
)
@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(48),
        InputSpec(24, margin=1.4),
        InputSpec(48, alignment="none"),
        InputSpec(48, margin=0.95, alignment="landmarks"),
    ],
    ids=str,
)
def test_the_crop_is_the_golden_crop(where, spec):
    frame = waves()
    difference = np.abs(crop_face(frame, where, spec) - golden_crop(frame, where, spec))
    assert difference.max() <= ROUNDING


def test_a_large_face_is_sampled_at_four_times_the_input_first_as_the_golden_crop_is():
    frame = cv2.GaussianBlur(cv2.resize(waves(), (1200, 900), interpolation=cv2.INTER_CUBIC), (0, 0), 3)
    where, spec = face(300, 200, 600, 650, roll=8), InputSpec(24)
    assert np.abs(crop_face(frame, where, spec) - golden_crop(frame, where, spec)).max() <= ROUNDING


@pytest.mark.parametrize("size", [16, 64, 112])
def test_at_margin_one_an_upright_face_is_the_resized_slice_of_its_box(size):
    frame = waves()
    crop = crop_face(frame, face(30, 20, 64, 64), InputSpec(size, margin=1.0))
    assert np.array_equal(crop, resize_face(frame[20:84, 30:94], InputSpec(size)))


@pytest.mark.parametrize("roll", [-40, 15, 90])
def test_a_turned_photograph_gives_nearly_the_same_crop(roll):
    photo, spec = read_image(PHOTO), InputSpec(112)
    where = face(178, 62, 91, 111)
    centre = np.array([where.x + where.width / 2, where.y + where.height / 2])
    turn = np.hstack([rotation(roll), (centre - 0.5 - rotation(roll) @ (centre - 0.5))[:, None]])
    turned = cv2.warpAffine(photo, turn, photo.shape[1::-1], flags=cv2.INTER_CUBIC)
    upright = crop_face(photo, where, spec).astype(int)
    straightened = crop_face(turned, face(178, 62, 91, 111, roll), spec).astype(int)
    assert np.abs(upright - straightened).mean() < 3
    leaning = crop_face(turned, face(178, 62, 91, 111, roll), InputSpec(112, alignment="none")).astype(int)
    assert np.abs(upright - leaning).mean() > 10  # so the limit above is a real test


def test_landmarks_of_a_moved_mean_face_give_back_its_move():
    for side, roll, x, y in ((80.0, 0.0, 50.0, 60.0), (33.3, -140.0, -5.0, 200.0), (400.0, 25.0, 7.5, 0.0)):
        landmarks = side * MEAN_FACE @ rotation(roll).T + np.array([x, y])
        square = face_square(Detection(0, 0, 1, 1, landmarks, 0.9), InputSpec(112, 0.9, "landmarks"))
        np.testing.assert_allclose((square.x, square.y, square.side), (x, y, 0.9 * side), atol=1e-9)
        assert np.degrees(square.turn) == pytest.approx(roll)


@pytest.mark.parametrize("alignment", ["landmarks", "eyes", "none"])
@pytest.mark.parametrize("box", [(60, 40, 50, 70), (60, 40, 70, 50), (-20, -10, 50, 60)], ids=str)
def test_without_landmarks_the_crop_is_the_upright_square_around_the_box(alignment, box):
    spec = InputSpec(32, 1.2, alignment)
    crop = crop_face(waves(), Detection(*box), spec)
    golden = golden_crop(waves(), face(*box), InputSpec(32, 1.2, "none"))
    assert np.abs(crop - golden).max() <= ROUNDING


def test_landmarks_on_one_point_still_give_a_crop():
    where = Detection(10, 10, 20, 20, np.full((5, 2), 20.0), 0.9)
    assert crop_face(waves(), where, InputSpec(24, 1.0, "landmarks")).shape == (24, 24, 3)


def test_a_face_that_a_data_set_has_cropped_is_used_whole():
    crop = waves(60, 80)
    small = resize_face(crop, InputSpec(20))
    golden = np.einsum("iy,jx,yxc->ijc", area_weights(60, 20), area_weights(80, 20), crop.astype(np.float64))
    assert np.abs(small - golden).max() <= 1


@pytest.mark.parametrize("shape", [(48, 48), (48, 48, 1), (48, 48, 4)])
def test_grey_and_alpha_crops_are_inputs_too(shape):
    assert resize_face(np.full(shape, 90, np.uint8), InputSpec(112)).tolist() == np.full((112, 112, 3), 90).tolist()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_all_faces_of_a_frame_become_one_batch_in_their_order(count):
    frame, spec = waves(), InputSpec(32)
    faces = [face(20 + 30 * k, 30, 40, 50, roll=10 * k) for k in range(count)]
    batch = crop_faces(frame, faces, spec)
    assert batch.shape == (count, 32, 32, 3)
    assert batch.dtype == np.uint8
    assert all(np.array_equal(row, crop_face(frame, where, spec)) for row, where in zip(batch, faces, strict=True))


def test_an_array_that_is_no_frame_is_refused():
    with pytest.raises(ImageError, match="expected"):
        crop_face(np.zeros((0, 0, 3), np.uint8), face(0, 0, 10, 10), InputSpec(32))
