"""The image reader of training, evaluation and the runtime: all see the same pixels of the same file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.errors import ImageError
from iern.runtime.imaging import tiff
from iern.runtime.imaging.damage import damage_inside
from iern.runtime.imaging.formats import HEAD, avif_turn, chunks_of_png, count_images, image_kind, start_of_scan
from iern.runtime.imaging.heic import decode_heic

Image = NDArray[np.uint8]
"""(height, width, 3) uint8, channels blue, green, red, upright."""

WITH_ALPHA = ("PNG", "WebP", "TIFF", "GIF", "AVIF", "JPEG 2000")
"""Kinds whose transparency OpenCV drops, so that the image is decoded once more with it."""


class ImageWarning(UserWarning):
    """An image was read, but it is damaged inside, or its file holds more images than one."""


@dataclass(frozen=True)
class ImageFile:
    """An image and what its reader noticed about the file."""

    image: Image
    damage: str
    """What is damaged inside, in the decoder's words; empty if nothing was noticed. Part of the image is garbage."""
    count: int
    """Images in the file. Only the first is read."""


def read_image(path: Path | str) -> Image:
    """File -> (H, W, 3) uint8 BGR, upright by its EXIF orientation, eight bits, transparent parts on white.

    Warns (ImageWarning) if the image is damaged inside, or if the file holds several. Raises ImageError, with the
    file's name, if the file is absent, empty, cut off or no image.
    """
    file = load_image(path)
    if file.damage:
        warnings.warn(f"{path}: {describe_damage(file)}; copy the file again", ImageWarning, stacklevel=2)
    if file.count > 1:
        warnings.warn(f"{path}: {describe_count(file)}", ImageWarning, stacklevel=2)
    return file.image


def load_image(path: Path | str) -> ImageFile:
    """As `read_image`, with what it would warn about as values."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    if image_kind(data[:HEAD]) == "HEIC":
        image, count = _decode_heic(data, str(path))
        return ImageFile(image, "", count)
    return ImageFile(decode_image(data, str(path)), damage_inside(data), count_images(data))


def describe_damage(file: ImageFile) -> str:
    """The damage of an image in words."""
    return f"is damaged inside, so part of it is garbage ({file.damage})"


def describe_count(file: ImageFile) -> str:
    """How many images a file holds, in words."""
    return f"holds {file.count} images, only the first is read"


def decode_image(data: bytes, name: str = "image") -> Image:
    """Encoded bytes -> (H, W, 3) uint8 BGR, as `read_image`. Error messages begin with `name`."""
    if not data:
        raise ImageError(f"{name}: the file is empty (0 bytes); an image was expected")
    kind = image_kind(data[:HEAD])
    if kind == "HEIC":
        return _decode_heic(data, name)[0]
    _refuse_parts(data, kind, name)
    try:
        image = _decode(data, kind)
    except cv2.error as error:
        raise ImageError(f"{name}: cannot be decoded ({error.err}); convert it to JPEG or PNG") from error
    if image is None and kind:
        raise ImageError(
            f"{name}: the {kind} image cannot be decoded ({len(data)} bytes): cut off, damaged, or of a variant that "
            "OpenCV does not know; copy the file again, or convert it to JPEG or PNG"
        )
    if image is None:
        raise ImageError(f"{name}: not an image that OpenCV can decode ({len(data)} bytes); expected JPEG, PNG or WebP")
    return image


def as_bgr(frame: np.ndarray) -> Image:
    """A frame of a camera or caller -> (H, W, 3) uint8 BGR.

    Takes grey (H, W) or (H, W, 1), BGR, and BGRA, of 8 or 16 bits. Alpha is dropped, since it has no meaning in a live
    source. Raises ImageError for anything else.
    """
    if not isinstance(frame, np.ndarray) or frame.ndim not in (2, 3) or frame.size == 0:
        found = f"shape {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ImageError(f"expected a frame of (height, width, 3) uint8, found {found}")
    if frame.dtype == np.uint16:
        frame = (frame >> 8).astype(np.uint8)
    if frame.dtype != np.uint8:
        raise ImageError(f"expected a frame of 8 or 16 bits, found {frame.dtype}; scale it to uint8 first")
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    if channels == 3:
        return frame
    if channels not in (1, 4):
        raise ImageError(f"expected 1, 3 or 4 channels, found {channels}")
    return cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)


def _refuse_parts(data: bytes, kind: str, name: str) -> None:
    """Raise ImageError if OpenCV would decode only a part of the image, or only its thumbnail."""
    if kind == "JPEG" and data.find(b"\xff\xd9", start_of_scan(data)) < 0:
        # libjpeg fills the missing part with grey and only warns. A half-grey face must not be used for training.
        # The marker may be anywhere, since phones append a clip.
        raise ImageError(f"{name}: the JPEG is cut off (no end marker in {len(data)} bytes); copy the file again")
    if kind == "PNG":
        for chunk, start, end in chunks_of_png(data):
            if end + 4 > len(data):  # OpenCV would allocate as much as the chunk states, up to 4 GB
                raise ImageError(
                    f"{name}: the PNG is cut off or damaged (its chunk {chunk.decode('latin-1')!a} states "
                    f"{end - start} bytes, {max(0, len(data) - start)} are left); copy the file again"
                )
    if kind == "TIFF" and tiff.begins_with_thumbnail(data):
        raise ImageError(
            f"{name}: the first image of this TIFF is only a thumbnail, as in the raw files of cameras; convert the "
            "photograph to JPEG or PNG"
        )


def _decode(data: bytes, kind: str) -> Image | None:
    """Decode by OpenCV, upright and over white; None if it cannot."""
    buffer = np.frombuffer(data, np.uint8)
    as_stored = cv2.IMREAD_IGNORE_ORIENTATION if kind == "AVIF" else 0  # OpenCV does not know how AVIF is turned
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR | as_stored)  # applies EXIF's orientation, reduces 16 bits to 8
    if image is None:
        return None
    if kind in WITH_ALPHA:
        raw = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
        if raw is not None and raw.ndim == 3 and raw.shape[2] == 4:
            image = over_white(image, _alpha(raw, image), premultiplied=kind == "TIFF" and raw.dtype == np.uint8)
    return _upright_avif(image, data) if kind == "AVIF" else image


def _upright_avif(image: Image, data: bytes) -> Image:
    quarters, axis = avif_turn(data)
    image = np.rot90(image, quarters)
    return np.ascontiguousarray(image if axis is None else np.flip(image, axis))


def _decode_heic(data: bytes, name: str) -> tuple[Image, int]:
    """The main image over white, and the number of images in the file."""
    raw, count = decode_heic(data, name)
    image = as_bgr(raw)
    if raw.ndim == 3 and raw.shape[2] == 4:
        image = over_white(image, (raw[..., 3:] / np.iinfo(raw.dtype).max).astype(np.float32), premultiplied=False)
    return image, count


def _alpha(raw: np.ndarray, upright: Image) -> NDArray[np.float32]:
    """(h, w, 4) decoded with alpha, (H, W, 3) decoded upright from the same file -> (H, W, 1) alpha, 0 to 1.

    OpenCV applies the EXIF orientation only when it drops the alpha. The right turn is the one that makes the colours
    of both equal.
    """
    for turned in _turns(raw):
        if np.array_equal(as_bgr(turned), upright):
            return (turned[..., 3:] / np.iinfo(raw.dtype).max).astype(np.float32)
    return np.ones((*upright.shape[:2], 1), np.float32)


def _turns(image: np.ndarray) -> Iterator[np.ndarray]:
    """The image in the eight orientations of EXIF; the first one is unchanged."""
    for mirrored in (image, image[:, ::-1]):
        for quarters in range(4):
            yield np.ascontiguousarray(np.rot90(mirrored, quarters))


def over_white(colours: Image, alpha: NDArray[np.float32], premultiplied: bool) -> Image:
    """Blend (H, W, 3) colours with white. `premultiplied` colours are already weighted by their alpha."""
    return np.rint(colours * (1 if premultiplied else alpha) + 255 * (1 - alpha)).clip(0, 255).astype(np.uint8)
