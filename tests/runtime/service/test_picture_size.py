"""The size in a header is the decoder's, for every way to write a picture, and a header that lies is not believed."""

from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, features

from iern.runtime.errors import ImageError
from iern.runtime.imaging.images import decode_image
from iern.runtime.service.picture_size import MOST_SCANS, KindError, picture_size

WAYS = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"comment": b"\xff\xc0 \xff\xda looks like markers " * 9}),
    ("JPEG", {"exif": b"Exif\0\0II*\0" + bytes(100)}),
    ("JPEG", {"restart_marker_blocks": 1}),
    ("PNG", {}),
    ("PNG", {"interlace": True}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"exif": b"Exif\0\0II*\0" + bytes(100)}),
]
SIZES = [(1, 1), (17, 3), (640, 480), (257, 1025)]


def written(kind: str, size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 4), np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kind", "options"), WAYS)
def test_the_size_is_that_of_the_decoded_picture(kind, options, size):
    data = written(kind, size, **options)
    assert picture_size(data) == size == decode_image(data).shape[1::-1]


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "L"), ("PNG", "L"), ("PNG", "RGBA"), ("WEBP", "RGBA")])
def test_grey_and_transparent_pictures_have_their_size_too(kind, mode):
    assert picture_size(written(kind, (31, 7), mode)) == (31, 7)


def test_pillow_wrote_all_kinds():
    assert features.check("webp")


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"GIF89a" + bytes(99), b"II*\0" + bytes(99), b"<svg></svg>", b"BM"])
def test_other_kinds_are_refused(data):
    with pytest.raises(KindError, match="expected a JPEG, PNG or WebP"):
        picture_size(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_header_that_is_cut_off_anywhere_is_refused_or_states_the_right_size(kind):
    data = written(kind, (640, 480))
    refused = 0
    for length in range(8, 700):
        try:
            assert picture_size(data[:length]) == (640, 480)
        except ImageError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_no_damage_to_the_header_makes_a_picture_larger_than_was_read_from_it(kind):
    """What matters for memory: whatever OpenCV still decodes has the size that was checked."""
    data, random = written(kind, (64, 48)), np.random.default_rng(1)
    decoded = 0
    for _ in range(600):
        damaged = bytearray(data)
        for at in random.integers(8, 64 if kind != "JPEG" else 700, 2):
            damaged[at % len(data)] = random.integers(256)
        if kind == "PNG":  # otherwise its checksum is wrong, and nothing is decoded
            damaged[29:33] = zlib.crc32(damaged[12:29]).to_bytes(4, "big")
        try:
            size = picture_size(bytes(damaged))
        except ImageError:
            continue
        if size[0] * size[1] > 1 << 20:
            continue  # it would be refused or decoded as stated
        image = cv2.imdecode(np.frombuffer(bytes(damaged), np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is not None:
            decoded += 1
            assert image.shape[1::-1] == size
    assert decoded > (0 if kind == "PNG" else 50)


def test_a_png_whose_chunk_states_gigabytes_is_refused_before_opencv_allocates_them():
    data = bytearray(written("PNG", (64, 48)))
    data[33:35] = b"\xc5\x00"  # the length of IDAT
    with pytest.raises(ImageError, match="header of the PNG"):
        picture_size(bytes(data))


def test_a_jpeg_of_thousands_of_scans_is_refused():
    data = written("JPEG", (64, 64), progressive=True)
    scan = data.index(b"\xff\xda")
    assert picture_size(data) == (64, 64)
    with pytest.raises(ImageError, match=f"expected at most {MOST_SCANS}"):
        picture_size(data[:scan] + b"\xff\xda" * MOST_SCANS + data[scan:])
