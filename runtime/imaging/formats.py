"""What kind of image a file is, by its content and not by its name, and how many images it holds."""

from __future__ import annotations

import contextlib
import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from iern.runtime.imaging import tiff

HEAD = 256
"""Bytes that are enough to recognise every kind."""

SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR",
    b"\x59\xa6\x6a\x95": "Sun raster",
}
BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    b"crx ": "Canon CR3",
}
"""Names of the coding in the `ftyp` box of ISO base media files (ISO/IEC 14496-12), which videos have too."""
GENERIC_BRANDS = (b"mif1", b"msf1")
"""Image files whose coding only the compatible brands name."""
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
"""Lengths of the header of a BMP. `BM` alone may begin a text."""

IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
        *(".heic", ".heif", ".hif", ".jp2", ".j2k", ".pgm", ".ppm", ".pbm", ".pnm"),
    }
)
"""Names that promise an image. If the content is none, the image is damaged: an error is reported."""

Content = bytes | mmap.mmap

NEXT_JPEG = re.compile(rb"\xff\xd9[\0\xff]*\xff\xd8\xff")
"""The end of a JPEG, padding, and the start of the next one."""
IMAGE_OF_GIF, EXTENSION_OF_GIF = 0x2C, 0x21
"""Block types of a GIF. An extension has, for example, the time that the next image is shown."""


def image_kind(head: bytes) -> str:
    """The first HEAD bytes of a file -> `JPEG`, `PNG`, `HEIC` and so on; empty if it is no known image."""
    for signature, kind in SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        return _kind_of_iso_media(head)
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADERS:
        return "BMP"
    return "PNM" if re.match(rb"P[1-6]\s+(#|\d+\s)|P7\nWIDTH ", head) else ""


def kind_of_file(path: Path) -> str:
    """As `image_kind`, of a regular file; empty for anything else, and if it cannot be read."""
    try:
        if not path.is_file():  # reading a pipe would take its first bytes away
            return ""
        with path.open("rb") as file:
            return image_kind(file.read(HEAD))
    except OSError:
        return ""


def is_image_file(path: Path) -> bool:
    """Whether the content of a file is an image, or its name promises one. For the files of a folder.

    A damaged image, whose content is not recognised, so remains among the images and is reported by its reader.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return not path.is_dir()
    return kind_of_file(path) != ""


def is_still_image(path: Path) -> bool:
    """Whether the content of a file is an image, and no video: animated GIFs and rows of JPEGs are videos."""
    kind = kind_of_file(path)
    if kind not in ("GIF", "JPEG"):
        return kind != ""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if kind == "GIF":
            blocks = list(_blocks_of_gif(content))  # without an extension FFmpeg shows only one of the images
            return blocks.count(IMAGE_OF_GIF) < 2 or EXTENSION_OF_GIF not in blocks
        return next(_following_jpegs(content), None) is None


def count_images(content: Content) -> int:
    """How many images a file holds, at least 1. Those of a HEIC file are not counted here.

    Thumbnails and masks do not count, nor do the depth maps, brightness maps and previews in a camera's JPEG.
    """
    kind = image_kind(content[:HEAD])
    count = 1
    with contextlib.suppress(struct.error, IndexError):  # a cut-off file
        if kind == "JPEG":
            count += sum(1 for _ in _following_jpegs(content))
        elif kind == "PNG":
            count = _frames_of_png(content)
        elif kind == "GIF":
            count = sum(block == IMAGE_OF_GIF for block in _blocks_of_gif(content))
        elif kind == "WebP":
            count = sum(name == b"ANMF" for name, _ in _chunks_of_riff(content))
        elif kind == "TIFF":
            count = tiff.count_pages(content)
        elif kind == "AVIF" and b"avis" in content[:HEAD]:
            count = _frames_of_avif(content)
    return max(1, count)


def start_of_scan(content: Content) -> int:
    """Where the pixels of a JPEG begin: after its header, with any thumbnail in it."""
    position = 2
    while content[position : position + 1] == b"\xff":
        marker = content[position + 1 : position + 2]
        if marker == b"\xda":
            break
        fill = marker == b"\xff"
        position += 1 if fill else 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return position


def avif_turn(content: bytes) -> tuple[int, int | None]:
    """How the decoded pixels of an AVIF are turned upright: quarters counterclockwise, then the mirrored axis.

    The axis is 0 to flip top and bottom, 1 to flip left and right, None for neither. By the boxes `irot` and `imir` of
    ISO/IEC 23008-12; that standard makes the orientation in EXIF a mere remark.
    """
    quarters = re.search(rb"\0\0\0\x09irot(.)", content[: _end_of_meta(content)], re.DOTALL)
    axis = re.search(rb"\0\0\0\x09imir(.)", content[: _end_of_meta(content)], re.DOTALL)
    return quarters[1][0] & 3 if quarters else 0, axis[1][0] & 1 if axis else None


def _kind_of_iso_media(head: bytes) -> str:
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)) - 3, 4))]
    if brands[0] in BRANDS:
        return BRANDS[brands[0]]
    if brands[0] in GENERIC_BRANDS:
        return next((BRANDS[brand] for brand in brands if brand in BRANDS), "HEIC")
    return ""


def _following_jpegs(content: Content) -> Iterator[re.Match[bytes]]:
    """The places where another JPEG follows, as in a row of camera frames.

    None if the header lists several images (CIPA DC-007): the others belong to the first one.
    """
    start = start_of_scan(content)
    return iter(()) if b"MPF\0" in content[:start] else NEXT_JPEG.finditer(content, start)


def _frames_of_png(content: Content) -> int:
    """The number in the chunk `acTL`, which precedes the pixels of an animated PNG."""
    for name, at, _ in chunks_of_png(content):
        if name == b"acTL":
            return int(struct.unpack_from(">I", content, at)[0])
        if name == b"IDAT":
            break
    return 1


def chunks_of_png(content: Content) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of the data of each chunk of a PNG, to IEND or to where the file is cut off.

    The end of the last one is where its length puts it, which may be beyond the file. Four bytes of checksum follow.
    """
    name, end = b"", 4
    while name != b"IEND" and end + 16 <= len(content):
        length, name = struct.unpack_from(">I4s", content, end + 4)
        start = end + 12
        end = start + length
        yield name, start, end


def _blocks_of_gif(content: Content) -> Iterator[int]:
    """IMAGE_OF_GIF for each image, and EXTENSION_OF_GIF for each extension."""
    at = 13 + _palette_length(content[10])
    with contextlib.suppress(IndexError):  # a cut-off file
        while (block := content[at]) in (IMAGE_OF_GIF, EXTENSION_OF_GIF):
            yield block
            at += 11 + _palette_length(content[at + 9]) if block == IMAGE_OF_GIF else 2
            while length := content[at]:
                at += 1 + length
            at += 1


def _palette_length(flags: int) -> int:
    """Bytes of the colours after a GIF's header whose flags these are."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _chunks_of_riff(content: Content) -> Iterator[tuple[bytes, int]]:
    """(name, position) of each chunk of a RIFF file, such as a WebP."""
    at = 12
    while at + 8 <= len(content):
        name, length = struct.unpack_from("<4sI", content, at)
        yield name, at
        at += 8 + length + length % 2


def _frames_of_avif(content: Content) -> int:
    """The number of samples that the box `stsz` of the first track states; 1 if there is no track."""
    at = content.find(b"stsz")
    return int(struct.unpack_from(">I", content, at + 12)[0]) if at >= 0 else 1


def _end_of_meta(content: bytes) -> int:
    """The end of the box `meta`, which describes the images of an AVIF."""
    at = content.find(b"meta", 0, 4096)
    return at - 4 + int.from_bytes(content[at - 4 : at], "big") if at >= 4 else 0
