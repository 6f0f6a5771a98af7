"""The faces of training images: those that the detector finds, in the order of the files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from iern.runtime.errors import ImageError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.images import read_image
from iern.train.data.detections import find_faces
from repository import PHOTOS

PORTRAITS = [PHOTOS / name for name in ("astronaut.jpg", "obama_portrait.jpg", "biden_portrait.jpg")]


def test_each_image_has_its_largest_face_or_none_in_the_order_of_the_files(tmp_path):
    empty = tmp_path / "empty.png"
    cv2.imwrite(str(empty), np.full((64, 64, 3), 90, np.uint8))
    together = PHOTOS / "obama_and_biden.jpg"
    paths = [PORTRAITS[0], empty, together, *PORTRAITS[1:]]
    counted = []
    found = find_faces(paths, lambda: counted.append(1))
    assert len(counted) == len(paths)
    assert [face is None for face in found] == [False, True, False, False, False]
    detector = FaceDetector()
    for path, face in zip(paths, found, strict=True):
        if face is not None:
            expected = max(detector(read_image(path)), key=lambda each: each.width * each.height)
            np.testing.assert_array_equal(face.landmarks, expected.landmarks)
    assert len(detector(read_image(together))) > 1


def test_a_small_crop_of_a_data_set_is_searched_too():
    face = find_faces([PORTRAITS[0]])[0]
    left, top, side = int(face.x - 0.1 * face.height), int(face.y), int(face.height)
    small = cv2.resize(
        read_image(PORTRAITS[0])[top : top + side, left : left + side], (48, 48), interpolation=cv2.INTER_AREA
    )
    (found,) = [max(FaceDetector()(small), key=lambda each: each.width * each.height)]
    np.testing.assert_allclose(found.landmarks, (face.landmarks - (left, top)) * 48 / side, atol=3)


def test_an_image_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.png"):
        find_faces([PORTRAITS[0], broken])
