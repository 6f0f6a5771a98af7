"""The picture that a caller of the library has, as pixels: a path, a `file://` URL, a PIL image or an array."""

from __future__ import annotations

import importlib
import mimetypes
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard
from urllib.parse import urlsplit

import numpy as np

from iern.runtime.errors import ImageError, one_line
from iern.runtime.imaging.images import Image, as_bgr, over_white, read_image

if TYPE_CHECKING:
    import PIL.Image

AnyImage: TypeAlias = "str | os.PathLike[str] | np.ndarray | PIL.Image.Image"
"""What the library takes as one picture."""

EXPECTED = (
    "expected a path, a file:// URL, a PIL image or an array (height, width, 3) of uint8 in the order blue, green, red"
)

WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
"""Modes of PIL with a channel for the transparency."""

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://|(file):/", re.IGNORECASE)


def to_image(picture: AnyImage) -> Image:
    """A picture -> (H, W, 3) uint8 BGR, upright.

    A path or `file://` URL is read by `read_image`, which may warn with an ImageWarning. A PIL image gives what
    `read_image` gives for its file: it is turned as its EXIF data say, put on white if it is transparent, and reduced
    to 8 bits. Of an image with several frames, the current one is taken. An array is taken as it is: BGR, BGRA
    (alpha is dropped) or grey, of 8 or 16 bits.
    Raises ImageError for anything else, and if a file cannot be read. Nothing is downloaded.
    """
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    if isinstance(picture, (str, os.PathLike)):
        return _from_file(os.fspath(picture))
    if _is_pil(picture):
        return _from_pil(picture)
    raise ImageError(f"found {_kind(picture)}, {EXPECTED}{_remedy(picture)}")


def to_images(pictures: Iterable[AnyImage], name: str = "images") -> Iterator[Image]:
    """Yield each picture as `to_image` does, one at a time. An ImageError begins with `name` and the index."""
    for index, picture in enumerate(pictures):
        try:
            yield to_image(picture)
        except ImageError as error:
            raise ImageError(f"{name}[{index}]: {error}") from error


def _from_array(array: np.ndarray) -> Image:
    if array.ndim == 4 or (array.ndim == 3 and array.shape[2] > 4):
        raise ImageError(
            f"found an array of shape {array.shape}, {EXPECTED}; pass the pictures of a stack as a list, list(stack), "
            "and move the channels of a (3, height, width) array last"
        )
    return as_bgr(array)


def _from_file(text: str) -> Image:
    path = _local_path(text)
    try:
        if path.is_dir():
            raise ImageError(f"{path}: is a folder; pass a list of its files, or call recognizer.video(folder)")
        return read_image(path)
    except ValueError as error:  # a zero byte in the name
        raise ImageError(f"{text!r}: cannot be a path ({error}); check it") from error
    except ImageError as error:
        if (mimetypes.guess_type(path.name)[0] or "").startswith("video/"):
            raise ImageError(f"{error}; for a video, call recognizer.video(path)") from error
        raise


def _local_path(text: str) -> Path:
    """A path or `file://` URL -> the path. Raises ImageError for other URLs."""
    match = _URL.match(text)
    if match is None:
        return Path(text)
    scheme = (match[1] or match[2]).lower()
    if scheme == "file":
        from urllib.request import url2pathname  # here, because it imports an HTTP client

        url = urlsplit(text)
        if url.netloc not in ("", "localhost"):
            raise ImageError(f"{text}: is on another machine ({url.netloc}); copy the file here, and pass its path")
        return Path(url2pathname(url.path))
    if scheme in ("http", "https", "ftp"):
        raise ImageError(
            f"found an {scheme}:// URL; nothing is downloaded. Fetch the picture first, for example with "
            "urllib.request.urlretrieve(url, 'photo.jpg'), and pass the file. A camera's stream is for recognizer.video"
        )
    raise ImageError(f"found a URL of the kind {scheme}://, {EXPECTED}; a stream is for recognizer.video(url)")


def _is_pil(picture: object) -> TypeGuard[PIL.Image.Image]:
    """Whether it is a PIL image, without importing PIL: if nobody has imported it, there is no such image."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(picture, pil.Image)


def _from_pil(picture: PIL.Image.Image) -> Image:
    try:
        picture.load()
        return _pixels(importlib.import_module("PIL.ImageOps").exif_transpose(picture))
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(
            f"the PIL image of mode {picture.mode} and size {picture.size} cannot be read ({one_line(error)}); open "
            'its file again, or call image.convert("RGB") first'
        ) from error


def _pixels(picture: PIL.Image.Image) -> Image:
    """An upright PIL image -> (H, W, 3) uint8 BGR. Raises ValueError if its mode has no conversion."""
    if picture.mode.startswith("I"):
        levels = np.asarray(picture)
        if levels.size and not 0 <= levels.min() <= levels.max() <= np.iinfo(np.uint16).max:
            raise ValueError(f"grey levels from {levels.min()} to {levels.max()}, expected 16 bits")
        return as_bgr(levels.astype(np.uint16))
    if picture.mode == "F":
        raise ValueError("grey levels as fractions, expected 8 or 16 bits")
    if picture.mode in WITH_ALPHA or "transparency" in picture.info:
        pixels = np.asarray(picture.convert("RGBA"))
        alpha = (pixels[..., 3:] / 255).astype(np.float32)
        return over_white(as_bgr(pixels[..., 2::-1]), alpha, premultiplied=False)
    return np.ascontiguousarray(as_bgr(np.asarray(picture.convert("RGB")))[..., ::-1])


def _kind(picture: object) -> str:
    """The name of the type, with its module if that is not Python's own: `torch.Tensor`."""
    kind = type(picture)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _remedy(picture: object) -> str:
    """What to do with some things that people have instead of a picture; empty if nothing is known of it."""
    if picture is None:
        return "; cv2.imread returns None if it cannot read a file: pass the path itself"
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return "; iern.runtime.imaging.images.decode_image(data) decodes the content of a file"
    if isinstance(picture, (list, tuple)):
        return "; several pictures are one list, not a list of lists"
    if hasattr(picture, "__array__"):
        return "; one picture becomes an array by numpy.asarray, several are a list or a tuple"
    return "; several pictures are a list or a tuple" if isinstance(picture, Iterable) else ""
