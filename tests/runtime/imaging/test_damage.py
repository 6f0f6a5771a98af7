"""Damage inside an image file, which OpenCV passes over, is noticed."""

from __future__ import annotations

import io
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from iern.runtime.errors import ImageError
from iern.runtime.imaging import damage
from iern.runtime.imaging.damage import damage_inside
from iern.runtime.imaging.images import ImageWarning, decode_image, load_image, read_image
from repository import PHOTOS

JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "with restarts": {"restart_marker_rows": 1},
    "full colour": {"subsampling": 0, "quality": 95},
    "grey": {"mode": "L"},
    "print colours": {"mode": "CMYK"},
}


def encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.open(PHOTOS / "astronaut.jpg").convert(mode).crop((120, 20, 360, 196)).save(buffer, kind, **options)
    return buffer.getvalue()


def with_zeros(content: bytes, part: float, length: int = 300) -> bytes:
    start = int(part * len(content))
    return content[:start] + bytes(length) + content[start + length :]


def with_flipped_bit(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 64]) + content[position + 1 :]


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_a_jpeg_that_is_damaged_inside_is_noticed_and_a_whole_one_is_not(options):
    whole = encoded("JPEG", **options)
    assert damage_inside(whole) == ""
    broken = [with_zeros(whole, part / 20) for part in range(4, 18)]
    assert all(decode_image(content).shape == (176, 240, 3) for content in broken), "OpenCV decodes it to garbage"
    assert sum(bool(damage_inside(content)) for content in broken) >= 12


@pytest.mark.parametrize("photo", sorted(PHOTOS.glob("*.jpg")), ids=lambda path: path.stem)
def test_no_photograph_of_the_tests_counts_as_damaged(photo):
    assert load_image(photo).damage == ""


def test_what_cameras_add_to_a_jpeg_is_no_damage():
    whole = encoded("JPEG")
    for content in (whole + bytes(9000), whole + encoded("PNG"), whole[:2] + b"\xff" * 5 + whole[2:]):
        assert damage_inside(content) == ""


def test_damage_is_found_alike_by_several_threads():
    whole, broken = encoded("JPEG"), with_zeros(encoded("JPEG"), 0.5)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(damage_inside, [whole, broken] * 100))
    assert [bool(text) for text in found] == [False, True] * 100


def test_a_jpeg_is_read_without_simplejpeg(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    damage._decoder_of_jpeg.cache_clear()
    try:
        assert damage_inside(with_zeros(encoded("JPEG"), 0.5)) == ""
        assert damage_inside(with_flipped_bit(encoded("PNG"), 5000)) != ""
    finally:
        damage._decoder_of_jpeg.cache_clear()


@pytest.mark.parametrize("chunk", [b"IHDR", b"PLTE", b"IDAT"])
def test_a_png_with_a_flipped_bit_in_a_chunk_that_gives_its_pixels_is_refused(tmp_path, chunk):
    content = encoded("PNG", "P")
    path = tmp_path / "face.png"
    path.write_bytes(with_flipped_bit(content, content.index(chunk) + 7))
    with pytest.raises(ImageError, match=r"face\.png.*copy the file again"):
        read_image(path)


def test_a_png_that_loses_its_transparency_to_a_flipped_bit_is_noticed():
    """libpng leaves out a `tRNS` whose checksum is wrong, and goes on."""
    buffer = io.BytesIO()
    Image.open(PHOTOS / "astronaut.jpg").convert("P").resize((60, 44)).save(buffer, "PNG", transparency=7)
    content = buffer.getvalue()
    assert damage_inside(content) == ""
    broken = with_flipped_bit(content, content.index(b"tRNS") + 4)
    assert decode_image(broken).shape == (44, 60, 3)
    assert damage_inside(broken) == "the checksum of its chunk 'tRNS' is wrong"


def test_a_png_that_ends_within_a_chunk_counts_as_damaged():
    content = encoded("PNG")
    assert all(damage_inside(content[:length]) for length in range(8, len(content) - 13, 997) if length > 20)


@pytest.mark.parametrize("options", [{"strip_size": 1 << 30}, {"big_tiff": True}, {}])
def test_a_tiff_packed_by_deflate_that_is_damaged_inside_is_noticed(options):
    content = encoded("TIFF", compression="tiff_adobe_deflate", **options)
    assert damage_inside(content) == ""
    broken = with_zeros(content, 0.5)
    assert decode_image(broken).shape == (176, 240, 3), "OpenCV decodes it to garbage"
    assert "checksum of 1 of its strips" in damage_inside(broken)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM"])
def test_a_whole_image_of_another_kind_does_not_count_as_damaged(kind):
    assert damage_inside(encoded(kind)) == ""


def test_a_damaged_image_is_read_with_a_warning_that_names_it_and_a_whole_one_without(tmp_path):
    for name, content in {"whole.jpg": encoded("JPEG"), "broken.jpg": with_zeros(encoded("JPEG"), 0.5)}.items():
        (tmp_path / name).write_bytes(content)
    with pytest.warns(
        ImageWarning, match=r"broken\.jpg: is damaged inside.*\(Corrupt JPEG.*copy the file again"
    ) as warned:
        image = read_image(tmp_path / "broken.jpg")
    assert warned[0].filename == __file__, "the warning points at the caller"
    assert np.array_equal(image, cv2.imread(str(tmp_path / "broken.jpg")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(tmp_path / "whole.jpg")


def test_a_file_of_several_images_is_read_with_a_warning(tmp_path):
    image = Image.open(PHOTOS / "astronaut.jpg").resize((60, 44))
    image.save(tmp_path / "pages.tif", save_all=True, append_images=[image.rotate(90), image.rotate(180)])
    with pytest.warns(ImageWarning, match=r"pages\.tif: holds 3 images, only the first is read"):
        read = read_image(tmp_path / "pages.tif")
    assert np.array_equal(read, np.asarray(image)[..., ::-1])


def test_the_checksum_of_a_png_is_the_crc_of_its_standard():
    content = encoded("PNG")
    end = content.index(b"IEND")
    assert zlib.crc32(b"IEND") == int.from_bytes(content[end + 4 : end + 8], "big")
