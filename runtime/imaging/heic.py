"""HEIC images, the photographs of many phones, through pillow-heif (the extra `heic`)."""

from __future__ import annotations

import importlib

import numpy as np
from numpy.typing import NDArray

from iern.runtime.errors import ImageError, one_line
from iern.runtime.system.remedies import install


def decode_heic(content: bytes, name: str) -> tuple[NDArray[np.uint8], int]:
    """-> the main image, (H, W, 3) BGR or (H, W, 4) BGRA, upright, and the number of images in the file.

    libheif turns the image by the file's own boxes. The orientation in EXIF repeats these and is not applied again.
    Raises ImageError if pillow-heif is not installed, or the file is damaged.
    """
    try:
        library = importlib.import_module("pillow_heif")
    except ImportError as error:
        raise ImageError(
            f"{name}: is a HEIC image, and its decoder is not installed ({one_line(error)}); {install('heic')}, or "
            "convert the image to JPEG"
        ) from error
    try:
        images = library.open_heif(content, convert_hdr_to_8bit=True, bgr_mode=True)
        return np.array(images), len(images)
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError) as error:
        raise ImageError(
            f"{name}: the HEIC image cannot be decoded ({one_line(error)}): damaged or cut off; copy the file again"
        ) from error
