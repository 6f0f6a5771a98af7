"""HEIC photographs of phones are read whole, or refused with the remedy. pillow-heif writes them."""

from __future__ import annotations

import io
import sys

import av
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from iern.runtime.errors import ImageError, SourceError
from iern.runtime.imaging.images import ImageWarning, decode_image, load_image, read_image
from iern.runtime.sources.open_source import open_source
from repository import PHOTOS

pillow_heif.register_heif_opener()
ORIENTATION = 0x0112


def photo(width: int = 300, height: int = 220) -> Image.Image:
    return Image.open(PHOTOS / "astronaut.jpg").convert("RGB").crop((120, 20, 420, 240)).resize((width, height))


def heic(image: Image.Image, orientation: int = 1, **options: object) -> bytes:
    """As phones write it: the orientation is in a box of the file, and once more in EXIF."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "HEIF", quality=95, exif=exif.tobytes(), **options)
    return buffer.getvalue()


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The mean, in levels of 255."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def test_a_heic_photograph_of_several_tiles_is_read_whole_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 128)
    path = tmp_path / "IMG_0001.jpg"
    path.write_bytes(heic(photo(), 6))
    with av.open(str(path)) as container:
        assert container.streams.video[0].width == 128, "FFmpeg opens its first tile as a video"
    (frame,) = open_source(path)
    expected = np.asarray(photo().transpose(Image.Transpose.ROTATE_270))[..., ::-1]
    assert difference(frame.image, expected) < 3
    assert difference(read_image(path), expected) < 3


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(1, None), (2, Image.Transpose.FLIP_LEFT_RIGHT), (3, Image.Transpose.ROTATE_180), (8, Image.Transpose.ROTATE_90)],
)
def test_a_heic_photograph_is_turned_once(orientation, turn):
    stored = photo(60, 44)
    upright = stored if turn is None else stored.transpose(turn)
    assert difference(decode_image(heic(stored, orientation)), np.asarray(upright)[..., ::-1]) < 4


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_a_heic_of_any_pixels_becomes_bgr_of_eight_bits_over_white(mode):
    image = photo(64, 48)
    if mode == "RGBA":
        image.putalpha(Image.new("L", image.size, 0))
        expected = np.full((48, 64, 3), 255, np.uint8)
    else:
        expected = np.repeat(np.asarray(image.convert("L"))[..., None], 3, 2)
        image = Image.fromarray(expected[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert("L")
    read = decode_image(heic(image))
    assert (read.shape, read.dtype) == ((48, 64, 3), np.uint8)
    assert difference(read, expected) < 3


def test_the_images_of_a_heic_file_are_counted(tmp_path):
    path = tmp_path / "burst.heic"
    path.write_bytes(heic(photo(64, 48), save_all=True, append_images=[photo(64, 48)]))
    assert load_image(path).count == 2
    with pytest.warns(ImageWarning, match=r"burst\.heic: holds 2 images"):
        read_image(path)


def test_a_cut_off_heic_is_refused_with_its_name(tmp_path):
    path = tmp_path / "photo.heic"
    content = heic(photo(64, 48))
    for part in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(part * len(content))])
        with pytest.raises(ImageError, match=r"photo\.heic.*copy the file again") as refusal:
            read_image(path)
        assert "\n" not in str(refusal.value)


def test_a_heic_is_refused_with_the_package_to_install_if_its_decoder_is_absent(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "photo.heic"
    path.write_bytes(heic(photo(64, 48)))
    with pytest.raises(SourceError, match=r"photo\.heic: is a HEIC image.*pip install 'iern\[heic\]'") as refusal:
        open_source(path)
    assert "\n" not in str(refusal.value)
