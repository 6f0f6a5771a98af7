"""The size of an encoded picture, read from its header, so that a picture that is too large is never decoded.

A header that this file cannot read is refused, also if a decoder might forgive it: then no picture is decoded whose
size is unknown.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from iern.runtime.errors import ImageError
from iern.runtime.imaging.formats import HEAD, chunks_of_png, image_kind

MOST_SCANS = 100
"""Scans of a progressive JPEG. Programs write about 10; thousands would keep the decoder busy for minutes."""

START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The second bytes of the markers of a JPEG that state its size."""


class KindError(ImageError):
    """The bytes are of no kind of picture that the service takes."""


def picture_size(data: bytes) -> tuple[int, int]:
    """Encoded picture -> its (width, height) in pixels as its header states them. Nothing is decoded.

    Raises KindError if it is no JPEG, PNG or WebP, and ImageError if its header cannot be read.
    """
    kind = image_kind(data[:HEAD])
    if kind not in READERS:
        found = f"a {kind}" if kind else "no picture"
        raise KindError(f"found {found} of {len(data)} bytes, expected a JPEG, PNG or WebP; convert it")
    try:
        width, height = READERS[kind](data)
    except (struct.error, IndexError, ValueError) as error:
        raise ImageError(f"the header of the {kind} cannot be read; is the picture cut off?") from error
    if not (width and height):
        raise ImageError(f"the header of the {kind} states {width}x{height} pixels; write the picture again")
    if kind == "JPEG" and (scans := data.count(b"\xff\xda")) > MOST_SCANS:
        raise ImageError(f"the JPEG has {scans} scans, expected at most {MOST_SCANS}; write it again")
    return width, height


def _size_of_jpeg(data: bytes) -> tuple[int, int]:
    """The first frame header's. libjpeg refuses a second one. Thumbnails are inside segments, which are skipped."""
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ValueError("expected a marker")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA or length < 2:
            raise ValueError("expected a segment before the pixels")
        at += 2 + length


def _size_of_png(data: bytes) -> tuple[int, int]:
    """The size in IHDR. Every chunk must be as long as it states: OpenCV allocates up to 4 GB for one that is not."""
    if data[12:16] != b"IHDR":
        raise ValueError("expected IHDR first")
    width, height = struct.unpack_from(">II", data, 16)
    last = b""
    for name, _, end in chunks_of_png(data):
        if end + 4 > len(data):
            raise ValueError("expected the whole chunk")
        last = name
    if last != b"IEND":
        raise ValueError("expected IEND last")
    return width, height


def _size_of_webp(data: bytes) -> tuple[int, int]:
    """By the three first chunks of RFC 9649: VP8 (lossy), VP8L (lossless) and VP8X (extended)."""
    chunk = data[12:16]
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    raise ValueError("expected VP8, VP8L or VP8X first")


READERS: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": _size_of_jpeg,
    "PNG": _size_of_png,
    "WebP": _size_of_webp,
}
"""Kind of a picture -> the function that reads its size. The service takes these kinds."""
