"""A picture is the same pixels however it is passed to the library: as a path, a URL, a PIL image or an array."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from iern.runtime.errors import ImageError
from iern.runtime.imaging.any_image import to_image, to_images
from iern.runtime.imaging.images import ImageWarning, read_image
from repository import PHOTOS, ROOT

ORIENTATION = 0x0112
PHOTO = PHOTOS / "astronaut.jpg"


def pixels(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(5).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def palette() -> Image.Image:
    return Image.fromarray(pixels(20, 30, 3)).quantize(16)


PIL_IMAGES: dict[str, tuple[Callable[[], Image.Image], dict[str, object]]] = {
    "RGB": (lambda: Image.fromarray(pixels(20, 30, 3)), {}),
    "RGB with a transparent colour": (
        lambda: Image.fromarray(pixels(20, 30, 3)),
        {"transparency": tuple(pixels(20, 30, 3)[0, 0].tolist())},
    ),
    "RGBA": (lambda: Image.fromarray(pixels(20, 30, 4)), {}),
    "L": (lambda: Image.fromarray(pixels(20, 30)), {}),
    "LA": (lambda: Image.merge("LA", [Image.fromarray(channel) for channel in pixels(2, 20, 30)]), {}),
    "P": (palette, {}),
    "P with a transparent colour": (palette, {"transparency": 3}),
    "1": (lambda: Image.fromarray(pixels(20, 30)).convert("1"), {}),
    "I;16": (lambda: Image.fromarray(pixels(20, 30, dtype=np.uint16)), {}),
}
"""Mode -> an image of that mode, and what it is saved with."""


@pytest.mark.parametrize("make", PIL_IMAGES.values(), ids=PIL_IMAGES)
@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_a_pil_image_gives_the_pixels_of_its_file(tmp_path, make, orientation):
    image, options = make[0](), make[1]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(tmp_path / "it.png", exif=exif, **options)
    with Image.open(tmp_path / "it.png") as opened:
        assert opened.mode == image.mode
        found = to_image(opened)
    np.testing.assert_array_equal(found, read_image(tmp_path / "it.png"))
    assert found.flags.c_contiguous and found.dtype == np.uint8


def test_the_same_photograph_is_the_same_however_it_is_passed(tmp_path, monkeypatch):
    photo = cv2.imread(str(PHOTO))
    path = tmp_path / "a b%20ü#.png"
    path.write_bytes(cv2.imencode(".png", photo)[1].tobytes())
    monkeypatch.chdir(tmp_path)
    forms = [path, str(path), path.name, path.as_uri(), f"file:{path.as_uri().removeprefix('file://')}"]
    for form in [*forms, path.as_uri().replace("file://", "FILE://localhost"), Image.open(path), photo]:
        np.testing.assert_array_equal(to_image(form), photo, err_msg=str(form))


def test_arrays_of_grey_alpha_and_16_bits_become_bgr():
    grey, wide = pixels(4, 5), pixels(4, 5, 3, dtype=np.uint16)
    np.testing.assert_array_equal(to_image(grey), np.dstack([grey] * 3))
    np.testing.assert_array_equal(to_image(wide), wide // 256)
    np.testing.assert_array_equal(to_image(pixels(4, 5, 4)), pixels(4, 5, 4)[..., :3])


def test_the_current_frame_of_an_image_with_several_is_taken(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "two.tif") as opened:
        opened.seek(1)
        assert to_image(opened)[0, 0].tolist() == [255, 0, 0]
    with pytest.warns(ImageWarning, match="holds 2 images"):
        assert to_image(tmp_path / "two.tif")[0, 0].tolist() == [0, 0, 255]


class Tensor:
    """Stands for one of a library that is not installed: it becomes an array, but is none."""

    def __array__(self) -> np.ndarray:
        raise AssertionError


REFUSED: dict[str, tuple[object, str]] = {
    "web": ("https://name:secret@example.org/a.jpg", r"https:// URL; nothing is downloaded.*urlretrieve\(url"),
    "stream": ("rtsp://camera/1", r"rtsp://.*a stream is for recognizer\.video"),
    "other machine": ("file://server/a.jpg", r"another machine \(server\); copy the file here"),
    "absent": ("absent.jpg", "absent.jpg: cannot be read"),
    "zero byte": ("a\0b", "cannot be a path"),
    "folder": (PHOTOS, r"is a folder; pass a list of its files, or call recognizer\.video"),
    "clip": (ROOT / "runtime" / "media" / "demo.mp4", r"not an image.*call recognizer\.video\(path\)"),
    "nothing": (None, r"found NoneType, expected a path.*cv2\.imread returns None"),
    "number": (7, "found int, expected a path"),
    "bytes": (b"photo.jpg", r"found bytes, expected.*decode_image\(data\)"),
    "list": ([[1, 2]], "found list, expected.*not a list of lists"),
    "generator": ((x for x in "ab"), "found generator, expected.*a list or a tuple"),
    "mapping": ({"a": 1}, "found dict, expected.*a list or a tuple"),
    "tensor": (Tensor(), r"found [\w.]*test_any_image\.Tensor, expected.*numpy\.asarray"),
    "stack": (pixels(2, 8, 8, 3), r"shape \(2, 8, 8, 3\), expected.*list\(stack\)"),
    "channels first": (pixels(3, 8, 9), r"shape \(3, 8, 9\), expected.*channels.*last"),
    "fractions": (np.zeros((4, 4, 3)), "found float64; scale it to uint8"),
    "two channels": (pixels(4, 4, 2), "expected 1, 3 or 4 channels, found 2"),
    "PIL fractions": (Image.fromarray(np.zeros((4, 4), np.float32)), r"PIL image of mode F.*convert\(.RGB.\)"),
    "PIL 32 bits": (Image.fromarray(np.full((4, 4), 70000, np.int32)), r"mode I .*levels from 70000 to 70000"),
    "PIL empty": (Image.new("RGB", (0, 4)), r"found shape \(4, 0, 3\)"),
}


@pytest.mark.parametrize(("wrong", "message"), REFUSED.values(), ids=REFUSED)
def test_anything_else_is_refused_with_what_was_found_and_what_to_do(wrong, message):
    with pytest.raises(ImageError, match=message) as refused:
        to_image(wrong)
    assert "secret" not in str(refused.value)
    with pytest.raises(ImageError, match=r"^crops\[1\]: "):
        list(to_images([np.zeros((4, 4, 3), np.uint8), wrong], "crops"))


def test_a_pil_image_whose_file_is_cut_off_is_refused(tmp_path):
    (tmp_path / "half.jpg").write_bytes(PHOTO.read_bytes()[:20_000])
    with Image.open(tmp_path / "half.jpg") as opened, pytest.raises(ImageError, match=r"PIL image .* cannot be read"):
        to_image(opened)


def test_pictures_are_read_one_at_a_time(tmp_path: Path):
    paths = [tmp_path / name for name in ("one.png", "two.png")]
    cv2.imwrite(str(paths[0]), np.zeros((4, 4, 3), np.uint8))
    images = to_images(paths)
    assert next(images).shape == (4, 4, 3)
    cv2.imwrite(str(paths[1]), np.zeros((6, 6, 3), np.uint8))
    assert next(images).shape == (6, 6, 3)


def test_pil_is_not_imported_for_other_pictures(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)  # any import of it now raises ModuleNotFoundError
    assert to_image(PHOTO).shape == (512, 512, 3)
    with pytest.raises(ImageError):
        to_image(7)
