"""The kind of a file is decided by its content, and its images are counted. Pillow writes the files."""

from __future__ import annotations

import io
import os
import struct

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from iern.runtime.imaging.formats import count_images, image_kind, is_image_file, is_still_image, kind_of_file

KINDS = {
    "JPEG": "JPEG",
    "MPO": "JPEG",
    "PNG": "PNG",
    "GIF": "GIF",
    "BMP": "BMP",
    "DIB": "",
    "TIFF": "TIFF",
    "JPEG2000": "JPEG 2000",
    "WEBP": "WebP",
    "AVIF": "AVIF",
    "PPM": "PNM",
}
"""Pillow's name of a format -> ours; empty for a format that OpenCV does not read."""


def noise(seed: int = 0, width: int = 24, height: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(kind: str, count: int = 1, **options: object) -> bytes:
    """The bytes of a file of `count` different images."""
    buffer = io.BytesIO()
    if count > 1:
        options |= {"save_all": True, "append_images": [noise(seed) for seed in range(1, count)]}
    noise().save(buffer, kind, **options)
    return buffer.getvalue()


def gif_of_images_only(count: int) -> bytes:
    """The blocks of one image, repeated after a header and 256 colours; no block has their time."""
    whole = encoded("GIF")
    colours_end = 13 + 3 * 256
    return whole[:colours_end] + whole[colours_end:-1] * count + b";"


def boxes(major: bytes, *compatible: bytes) -> bytes:
    """The first box of an ISO base media file, which videos and HEIC and AVIF images have."""
    brands = major + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(100)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_an_image_is_recognised_by_its_first_bytes(kind):
    assert image_kind(encoded(kind)) == KINDS[kind]


@pytest.mark.parametrize("extension", [".jp2", ".pgm", ".pam", ".hdr", ".ras"])
def test_the_kinds_that_opencv_writes_are_recognised(extension):
    image = np.asarray(noise(width=64, height=64))
    if extension in (".pgm", ".hdr"):
        image = image[..., 0] if extension == ".pgm" else image.astype(np.float32)
    content = cv2.imencode(extension, image)[1].tobytes()
    assert image_kind(content) != ""


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (boxes(b"heic", b"mif1", b"heic"), "HEIC"),
        (boxes(b"mif1", b"miaf", b"heix"), "HEIC"),
        (boxes(b"msf1", b"hevc"), "HEIC"),
        (boxes(b"mif1", b"miaf", b"avif"), "AVIF"),
        (boxes(b"isom", b"iso2", b"avc1", b"mp41"), ""),
        (boxes(b"qt  "), ""),
        (b"BMW drivers are happy\n" * 9, ""),
        (b"P2 is the second participant\n" * 9, ""),
        (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), ""),
        (b"RIFF\x24\0\0\0AVI LIST" + bytes(40), ""),
        (b"", ""),
        (b"\xff", ""),
    ],
    ids=["HEIC", "a generic HEIC", "a HEIC sequence", "a generic AVIF", "MP4", "MOV", "text that begins as a BMP",
         "text that begins as a PNM", "sound", "AVI", "nothing", "one byte"],
)  # fmt: skip
def test_an_image_is_told_from_a_video_and_a_text_that_begins_alike(content, kind):
    assert image_kind(content) == kind


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_images_of_animations_and_pages_are_counted(kind, count):
    assert count_images(encoded(kind, count)) == count


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "JPEG"])
def test_an_animation_that_is_cut_off_anywhere_is_counted_without_an_error(kind):
    content = encoded(kind, 1 if kind == "JPEG" else 3)
    assert all(1 <= count_images(content[:length]) <= 3 for length in range(0, len(content), 7))


def test_the_pages_of_a_big_tiff_are_counted():
    assert count_images(encoded("TIFF", 3, big_tiff=True)) == 3


def test_a_gif_of_which_ffmpeg_shows_one_image_only_is_counted_as_images():
    content = gif_of_images_only(3)
    with av.open(io.BytesIO(content)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 1
    assert count_images(content) == 3


def test_pages_that_point_in_a_circle_are_counted_once():
    content = bytearray(encoded("TIFF"))
    first = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    assert count_images(bytes(content)) == 1


def test_the_previews_of_a_camera_in_one_jpeg_are_no_further_images():
    assert count_images(encoded("MPO", 3)) == 1
    assert count_images(encoded("JPEG") * 3) == 3, "a row of camera frames"


def test_a_thumbnail_in_the_header_of_a_jpeg_is_no_further_image():
    block = b"Exif\0\0" + encoded("JPEG") * 2
    whole = encoded("JPEG")
    assert count_images(whole[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + whole[2:]) == 1


@pytest.mark.parametrize(
    ("content", "still"),
    [
        (encoded("GIF"), True),
        (encoded("GIF", 3, duration=100), False),
        (encoded("GIF", 3, disposal=0), False),
        (gif_of_images_only(3), True),
        (encoded("JPEG"), True),
        (encoded("JPEG") + bytes(5000), True),
        (encoded("MPO", 2), True),
        (encoded("JPEG") + bytes(12) + encoded("JPEG"), False),
        (encoded("WEBP", 3), True),
        (b"hello\n" * 50, False),
        (b"", False),
    ],
    ids=["a still GIF", "an animated GIF", "a GIF without times", "a GIF of images only", "a JPEG", "a padded JPEG",
         "a JPEG with a preview", "a row of JPEGs", "an animated WebP", "text", "nothing"],
)  # fmt: skip
def test_a_file_of_any_name_is_a_still_image_by_its_content(tmp_path, content, still):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert is_still_image(path) == still


def test_a_file_of_a_folder_is_an_image_by_its_content_or_if_its_name_promises_one(tmp_path):
    files = {"photo": encoded("AVIF"), "a.mp4": encoded("PNG"), "damaged.JPG": b"", "notes.txt": b"hello"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.jpg").mkdir()
    assert {path.name for path in tmp_path.iterdir() if is_image_file(path)} == {"photo", "a.mp4", "damaged.JPG"}


def test_a_pipe_is_not_read_to_learn_its_kind(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert kind_of_file(tmp_path / "pipe") == ""  # opening it would wait for a writer
    assert kind_of_file(tmp_path / "absent") == kind_of_file(tmp_path) == ""
