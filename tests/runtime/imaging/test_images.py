"""The image reader gives the same pixels however the photograph is stored. Pillow is the authority."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from iern.runtime.errors import ImageError
from iern.runtime.imaging.images import as_bgr, decode_image, read_image
from repository import PHOTOS

PHOTO = PHOTOS / "astronaut.jpg"
ORIENTATION = 0x0112
TO_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> how an upright image is turned before it is stored with it."""
LOSSLESS = [("PNG", {}), ("WEBP", {"lossless": True, "method": 0, "quality": 0}), ("TIFF", {})]


def photo() -> Image.Image:
    """The photograph, cropped so that its sides and halves all differ."""
    return Image.open(PHOTO).convert("RGB").crop((120, 20, 360, 196))


def encoded(image: Image.Image, kind: str, orientation: int | None = None, **options: object) -> bytes:
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    """(H, W, 3) BGR as Pillow reads it: upright, alpha over white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))[..., ::-1]


def largest_difference(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def differ_a_little(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two encodings of one image nearly agree. A turned JPEG has other blocks and other halved colours."""
    return a.shape == b.shape and np.abs(a.astype(float) - b.astype(float)).mean() < 1


@pytest.mark.parametrize("orientation", TO_STORED)
def test_a_photograph_stored_in_each_exif_orientation_is_read_upright(orientation):
    turn = TO_STORED[orientation]
    stored = photo() if turn is None else photo().transpose(turn)
    data = encoded(stored, "JPEG", orientation, quality=98, subsampling=0)
    upright = decode_image(data)
    assert differ_a_little(upright, np.asarray(photo())[..., ::-1])
    assert largest_difference(upright, by_pillow(data)) <= 2  # two JPEG decoders


@pytest.mark.parametrize("orientation", [0, 9, None])
def test_an_orientation_that_exif_does_not_define_is_ignored(orientation):
    data = encoded(photo(), "JPEG", orientation, quality=98)
    assert np.array_equal(decode_image(data), decode_image(encoded(photo(), "JPEG", 1, quality=98)))


def test_a_truncated_exif_block_is_ignored():
    data = encoded(photo(), "JPEG", quality=98)
    tiff = b"MM\x00*\x00\x00\x00\x08" + b"\x00\x01" + b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    for length in range(len(tiff)):  # without its value, its entry, its directory, or anything
        block = b"Exif\x00\x00" + tiff[:length]
        segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
        cut = decode_image(data[:2] + segment + data[2:])
        if length < len(tiff) - 3:  # longer ones contain the two bytes of the value
            assert np.array_equal(cut, decode_image(data)), length


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
@pytest.mark.parametrize("orientation", TO_STORED)
@pytest.mark.parametrize("alpha", [False, True])
def test_other_formats_are_read_upright_with_and_without_alpha(kind, options, orientation, alpha):
    image = photo().reduce(2)
    if alpha:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = encoded(image, kind, orientation, **options)
    assert largest_difference(decode_image(data), by_pillow(data)) <= 1  # rounding of the blend


@pytest.mark.parametrize("orientation", TO_STORED)
@pytest.mark.parametrize("alpha", [False, True])
def test_an_avif_is_read_upright_with_and_without_alpha(orientation, alpha):
    image = photo().reduce(2)
    if alpha:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = encoded(image, "AVIF", orientation, quality=100, subsampling="4:4:4")
    assert largest_difference(decode_image(data), by_pillow(data)) <= 3  # two conversions from YCbCr


def test_a_transparent_jpeg_2000_is_read_over_white():
    image = photo().reduce(2)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = encoded(image, "JPEG2000")
    assert largest_difference(decode_image(data), by_pillow(data)) <= 1


def test_a_transparent_gif_is_read_over_white():
    image = photo().reduce(2).convert("P")
    data = encoded(image, "GIF", transparency=int(np.bincount(np.asarray(image).ravel()).argmax()))
    assert np.array_equal(decode_image(data), by_pillow(data))


def test_the_thumbnail_at_the_start_of_a_raw_photograph_is_not_taken_for_it():
    """The raw files of many cameras are TIFFs whose first image is marked as a smaller copy."""
    data = encoded(photo(), "TIFF", tiffinfo={254: 1, 330: 1000})
    with pytest.raises(ImageError, match=r"only a thumbnail.*convert the photograph"):
        decode_image(data)
    assert decode_image(encoded(photo(), "TIFF", tiffinfo={254: 2})).shape == (176, 240, 3), "a page of a document"


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK"])
def test_grey_palette_and_print_colours_become_bgr(mode):
    image = photo().convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    data = encoded(image, kind, quality=98)
    read = decode_image(data)
    assert read.shape == (176, 240, 3)
    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - by_pillow(data)).mean() < 3


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_reduced_to_eight(channels):
    eight = np.random.default_rng(0).integers(0, 256, (20, 30, channels), dtype=np.uint8)
    eight[..., 3:] = 255
    data = cv2.imencode(".png", eight.astype(np.uint16) * 257)[1].tobytes()
    assert np.array_equal(decode_image(data), np.broadcast_to(eight[..., :3], (20, 30, 3)))


def test_a_ten_megapixel_photograph_is_read_whole():
    data = encoded(photo().resize((3648, 2736), Image.Resampling.NEAREST), "JPEG", 6, quality=80)
    assert decode_image(data).shape == (3648, 2736, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.97])
def test_a_truncated_image_is_refused_with_its_name(tmp_path, kind, part):
    data = encoded(photo(), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(ImageError, match="cut") as refusal:
        read_image(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("states", [0x7FFFFFFF, 0xFFFFFFF0], ids=["2 GB", "4 GB"])
def test_a_png_with_a_chunk_that_states_gigabytes_is_refused_before_it_is_decoded(states, monkeypatch):
    data = encoded(photo(), "PNG")
    chunk = data.index(b"IDAT") - 4
    monkeypatch.setattr(cv2, "imdecode", None)  # must not be called
    with pytest.raises(ImageError, match=rf"IDAT.* states {states} bytes"):
        decode_image(data[:chunk] + states.to_bytes(4, "big") + data[chunk + 4 :])


def test_a_truncated_jpeg_with_a_whole_thumbnail_is_refused():
    thumbnail = encoded(photo().resize((60, 44)), "JPEG")
    block = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00" + thumbnail
    segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
    data = encoded(photo(), "JPEG")
    whole = data[:2] + segment + data[2:]
    assert np.array_equal(decode_image(whole), decode_image(data))
    with pytest.raises(ImageError, match="cut off"):
        decode_image(whole[: len(whole) - len(data) // 2])


def test_a_jpeg_with_a_clip_appended_as_phones_do_is_read():
    data = encoded(photo(), "JPEG")
    assert np.array_equal(decode_image(data + bytes(100_000)), decode_image(data))


def test_fill_bytes_between_the_segments_of_a_jpeg_are_no_damage():
    data = encoded(photo(), "JPEG")
    assert np.array_equal(decode_image(data[:2] + b"\xff" * 5 + data[2:]), decode_image(data))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "empty"),
        (b"neutral, happiness\n" * 20, "not an image"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40), "not an image"),
    ],
    ids=["0 bytes", "text", "sound"],
)
def test_a_file_that_is_no_image_is_refused_with_its_name_and_content(tmp_path, content, found):
    path = tmp_path / "face.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=found) as refusal:
        read_image(path)
    assert str(path) in str(refusal.value)
    assert "expected" in str(refusal.value)


def test_an_absent_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(ImageError, match=r"nobody\.jpg.*check the path"):
        read_image(tmp_path / "nobody.jpg")


def test_a_name_beyond_ascii_is_read(tmp_path):
    path = tmp_path / "Überraschung 怒り.png"
    path.write_bytes(encoded(photo(), "PNG"))
    assert np.array_equal(read_image(path), np.asarray(photo())[..., ::-1])


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3), (9, 7, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_frames_of_any_usual_kind_become_bgr(shape, dtype):
    top = np.iinfo(dtype).max
    frame = np.random.default_rng(1).integers(0, top, shape, dtype=dtype, endpoint=True)
    eight = frame if dtype == np.uint8 else (frame // 256).astype(np.uint8)
    expected = np.broadcast_to(eight.reshape(9, 7, -1)[..., :3], (9, 7, 3))
    assert np.array_equal(as_bgr(frame), expected)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((0, 640, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        None,
    ],
    ids=["0 rows", "float", "2 channels", "batch", "None"],
)
def test_an_array_that_is_no_frame_is_refused_with_the_expected_shape(frame):
    with pytest.raises(ImageError, match="expected"):
        as_bgr(frame)
