"""The images of a data set are found by their content, and files that are left out or damaged are reported."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from iern.export.parity.gate_faces import crops_of_data_set
from iern.runtime.errors import DataError
from iern.train.data.manifest import input_files, load_data, verify_images

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def encoded(extension: str) -> bytes:
    return cv2.imencode(extension, NOISE)[1].tobytes()


def data_set(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_folders_give_images_of_every_kind_and_the_files_left_out_are_reported(tmp_path):
    images = {f"web/happy/{i}{name}": encoded(kind) for i, (name, kind) in enumerate([
        (".gif", ".gif"), (".avif", ".avif"), (".jfif", ".jpg"), (".jp2", ".jp2"), ("", ".png"), (".mp4", ".webp"),
    ])}  # fmt: skip
    others = {"web/happy/labels.txt": b"happy", "web/sad/x.csv": b"a,b", "web/happy/.hidden": b"", "README": b"faces"}
    outside = {"a.png": encoded(".png"), "web/b": encoded(".png")}
    root = data_set(tmp_path, images | others | outside)
    reported: list[str] = []
    data = load_data(root, report=reported.append)
    expected = {root / name for name in images}
    assert {face.path for face in data.records} == expected
    assert set(input_files(root)) == expected
    assert set(crops_of_data_set(root)) == expected
    assert reported == [
        f"{root}: left out 2 files that are no images, the first is {root}/web/happy/labels.txt",
        f"{root}: left out 2 images outside of <confounder>/<expression>/, the first is {root}/a.png",
    ]


def test_an_empty_image_of_a_folder_is_not_left_out_without_an_error(tmp_path):
    root = data_set(tmp_path, {"web/happy/a.jpg": b"", "web/happy/b.png": encoded(".png")})
    with pytest.raises(DataError, match=r"1 of 2 images cannot be read or are damaged(.|\n)*a\.jpg"):
        verify_images(load_data(root).records)


def test_an_image_that_is_damaged_inside_is_refused_for_training_with_its_name(tmp_path):
    content = encoded(".jpg")
    middle = len(content) // 2
    broken = content[:middle] + bytes(500) + content[middle + 500 :]
    root = data_set(tmp_path, {"web/happy/a.jpg": content, "web/happy/b.jpg": broken})
    with pytest.raises(DataError, match=r"1 of 2 images cannot be read or are damaged(.|\n)*b\.jpg: is damaged inside"):
        verify_images(load_data(root).records)
