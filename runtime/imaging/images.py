"""The image reader of training, evaluation and the runtime: all see the same pixels of the same file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.errors import ImageError

Image = NDArray[np.uint8]
"""(height, width, 3) uint8, channels blue, green, red, upright."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm"})


def read_image(path: Path | str) -> Image:
    """File -> (H, W, 3) uint8 BGR, upright by its EXIF orientation, eight bits, transparent parts on white.

    Raises ImageError, with the file's name, if the file is absent, empty, cut off or no image.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str = "image") -> Image:
    """Encoded bytes -> (H, W, 3) uint8 BGR, as `read_image`. Error messages begin with `name`."""
    if not data:
        raise ImageError(f"{name}: the file is empty (0 bytes); an image was expected")
    if data[:2] == b"\xff\xd8" and not _has_jpeg_end(data):
        # libjpeg fills the missing part with grey and only warns. A half-grey face must not be used for training.
        raise ImageError(f"{name}: the JPEG is cut off (no end marker in {len(data)} bytes); copy the file again")
    buffer = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR)  # applies the EXIF orientation, reduces 16 bits to 8
        if image is not None and _may_carry_alpha(data):
            raw = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            if raw is not None and raw.ndim == 3 and raw.shape[2] == 4:
                image = _over_white(image, _alpha(raw, image), premultiplied=_is_tiff(data) and raw.dtype == np.uint8)
    except cv2.error as error:
        raise ImageError(f"{name}: cannot be decoded ({error.err}); convert it to JPEG or PNG") from error
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


def _has_jpeg_end(data: bytes) -> bool:
    """Whether an end marker follows the start of the image itself.

    The search begins after the EXIF block, since a thumbnail there has its own. The marker may be anywhere after it,
    since phones append a clip.
    """
    position = 2
    while data[position : position + 1] == b"\xff":
        marker = data[position + 1 : position + 2]
        if marker == b"\xda":  # the start of scan
            break
        fill = marker == b"\xff"
        position += 1 if fill else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return data.find(b"\xff\xd9", position) >= 0


def _may_carry_alpha(data: bytes) -> bool:
    return data[:4] in (b"\x89PNG", b"RIFF") or _is_tiff(data)


def _is_tiff(data: bytes) -> bool:
    return data[:2] in (b"II", b"MM")


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


def _over_white(colours: Image, alpha: NDArray[np.float32], premultiplied: bool) -> Image:
    """Blend (H, W, 3) colours with white. `premultiplied` colours are already weighted by their alpha."""
    return np.rint(colours * (1 if premultiplied else alpha) + 255 * (1 - alpha)).clip(0, 255).astype(np.uint8)
