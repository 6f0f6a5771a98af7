"""Damage inside an image file that OpenCV decodes without an error: it fills the rest with garbage."""

from __future__ import annotations

import functools
import importlib
import zlib
from collections.abc import Callable
from typing import Any

from iern.runtime.errors import one_line
from iern.runtime.imaging import tiff
from iern.runtime.imaging.formats import HEAD, chunks_of_png, image_kind


def damage_inside(content: bytes) -> str:
    """What is damaged inside the image of a file; empty if nothing is noticed.

    JPEGs are checked by simplejpeg, if it is installed. PNGs and TIFFs packed by deflate have checksums. The other
    formats have neither: a change inside them is noticed only if it stops the decoder.
    """
    kind = image_kind(content[:HEAD])
    if kind == "JPEG":
        return _damage_of_jpeg(content)
    if kind == "PNG":
        return _damage_of_png(content)
    if kind == "TIFF" and (strips := tiff.damaged_strips(content)):
        return f"the checksum of {strips} of its strips is wrong"
    return ""


def _damage_of_jpeg(content: bytes) -> str:
    """The warning of libjpeg; empty without one. A kind of JPEG that simplejpeg does not know is not judged."""
    decode = _decoder_of_jpeg()
    if decode is None:
        return ""
    # Grey at an eighth of the size is quickest, and unpacks the same data.
    check = functools.partial(decode, content, "GRAY", min_height=1, min_width=1, min_factor=8)
    try:
        check(strict=True)
    except (ValueError, MemoryError) as warning:
        return one_line(warning) if _succeeds(functools.partial(check, strict=False)) else ""
    return ""


@functools.cache
def _decoder_of_jpeg() -> Callable[..., Any] | None:
    try:
        return importlib.import_module("simplejpeg").decode_jpeg
    except ImportError:
        return None


def _succeeds(call: Callable[[], Any]) -> bool:
    try:
        call()
    except (ValueError, MemoryError):
        return False
    return True


def _damage_of_png(content: bytes) -> str:
    """The first chunk whose checksum is wrong. libpng itself refuses only those that it cannot do without."""
    for name, start, end in chunks_of_png(content):
        if zlib.crc32(content[start - 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            return f"the checksum of its chunk {name.decode('latin-1')!a} is wrong"
    return ""
