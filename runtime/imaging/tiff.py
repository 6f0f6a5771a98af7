"""The directories of a TIFF file: one an image, each a table of numbers (TIFF 6.0, and BigTIFF)."""

from __future__ import annotations

import contextlib
import mmap
import struct
import zlib
from collections.abc import Iterator

Directory = dict[int, tuple[int, ...]]
"""Tag -> its whole numbers."""

TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Types of whole numbers -> their `struct` codes. Other fields are left out."""

SUBFILE, COMPRESSION, STRIPS, STRIP_SIZES, TILES, TILE_SIZES, CHILDREN = 254, 259, 273, 279, 324, 325, 330
REDUCED, MASK = 1, 4
"""Bits of SUBFILE: a smaller copy of another image, and its transparency."""
DEFLATE = (8, 32946)
"""The codes of COMPRESSION whose data ends with a checksum."""


def directories(content: bytes | mmap.mmap) -> Iterator[Directory]:
    """Each directory of a TIFF file, in the order of the file. It ends at the first one that is cut off."""
    order = "<" if content[:2] == b"II" else ">"
    big = b"+" in content[2:4]
    offset, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    seen: set[int] = set()
    with contextlib.suppress(struct.error):
        at = struct.unpack_from(order + offset, content, 8 if big else 4)[0]
        while at and at not in seen:
            seen.add(at)
            entries = struct.unpack_from(order + count, content, at)[0]
            first = at + struct.calcsize(order + count)
            places = range(first, first + entry * entries, entry)
            yield dict(_field(content, place, order, offset) for place in places)
            at = struct.unpack_from(order + offset, content, first + entry * entries)[0]


def count_pages(content: bytes | mmap.mmap) -> int:
    """How many images the file holds, without smaller copies and masks."""
    return sum(not _subfile(directory) & (REDUCED | MASK) for directory in directories(content))


def begins_with_thumbnail(content: bytes) -> bool:
    """Whether the first image is a smaller copy of another one, as in the raw files of many cameras."""
    first = next(directories(content), {})
    return bool(_subfile(first) & REDUCED) and (CHILDREN in first or count_pages(content) > 0)


def damaged_strips(content: bytes) -> int:
    """How many strips or tiles of the first image do not unpack. Only those packed by deflate have a checksum."""
    first = next(directories(content), {})
    if first.get(COMPRESSION, (1,))[0] not in DEFLATE:
        return 0
    starts, sizes = (TILES, TILE_SIZES) if TILES in first else (STRIPS, STRIP_SIZES)
    places = zip(first.get(starts, ()), first.get(sizes, ()), strict=False)
    return sum(not _unpacks(content[start : start + size]) for start, size in places)


def _subfile(directory: Directory) -> int:
    return directory.get(SUBFILE, (0,))[0]


def _field(content: bytes | mmap.mmap, place: int, order: str, offset: str) -> tuple[int, tuple[int, ...]]:
    """(tag, its numbers) of the entry at `place`; no numbers if it is a field of another type."""
    tag, kind, length = struct.unpack_from(f"{order}HH{offset}", content, place)
    if kind not in TYPES:
        return tag, (0,)
    numbers = f"{order}{length}{TYPES[kind]}"
    inline = place + 4 + struct.calcsize(order + offset)
    fits = struct.calcsize(numbers) <= struct.calcsize(order + offset)
    at = inline if fits else struct.unpack_from(order + offset, content, inline)[0]
    return tag, struct.unpack_from(numbers, content, at)


def _unpacks(packed: bytes) -> bool:
    try:
        unpacker = zlib.decompressobj()
        unpacker.decompress(packed)
    except zlib.error:
        return False
    return unpacker.eof
