"""AVI with Motion JPEG: a fixed rate, whose gaps are filled by repeating the picture before."""

from __future__ import annotations

import struct
from pathlib import Path

from iern.runtime.outputs.video.container import VideoContainer

USUAL_FPS = 30.0
"""Pictures a second where the source states no rate, or nonsense."""
HIGHEST_FPS = 240.0
HEADERS = 212
"""Bytes before the list of pictures begins."""


class Avi(VideoContainer):
    """Pictures are JPEG files. What comes faster than the rate, by more than a picture, is left out and counted."""

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        super().__init__(path, width, height, fps if 0 < fps <= HIGHEST_FPS else USUAL_FPS)
        self._last = b""
        self._index: list[tuple[int, int]] = []
        self._file.append(self._headers())
        self._file.append(b"LIST" + _u32(0) + b"movi")  # size 0: to the end of the file, while it grows

    def add(self, picture: bytes, seconds: float) -> None:
        due = round(seconds * self.fps)
        while len(self._index) < due:
            self._write(self._last)
        self._last = picture
        if len(self._index) > due + 1:
            self.left_out += 1
        else:
            self._write(picture)

    def finish(self) -> None:
        """The index, the sizes and the number of pictures."""
        end = self._file.size
        entries = b"".join(b"00dc" + _u32(0x10, at, length) for at, length in self._index)  # 0x10: a key frame
        self._file.append(b"idx1" + _u32(len(entries)) + entries)
        self._file.overwrite(0, self._headers())
        self._file.overwrite(HEADERS + 4, _u32(end - HEADERS - 8))

    def _write(self, picture: bytes) -> None:
        at = self._file.append(b"00dc" + _u32(len(picture)) + picture + bytes(len(picture) % 2))
        self._index.append((at - HEADERS - 8, len(picture)))

    def _headers(self) -> bytes:
        number, scale, rate = len(self._index), 10_000, round(10_000 * self.fps)
        shape = self.width, self.height
        main = _chunk("avih", _u32(round(1e6 / self.fps), 0, 0, 0x10, number, 0, 1, 0, *shape, 0, 0, 0, 0))
        rates = struct.pack("<HHI4I", 0, 0, 0, scale, rate, 0, number)
        stream = _chunk("strh", b"vidsMJPG", _u32(0), rates, _u32(0, 0xFFFFFFFF, 0), struct.pack("<4H", 0, 0, *shape))
        picture = struct.pack("<IiiHH4s", 40, *shape, 1, 24, b"MJPG") + _u32(3 * self.width * self.height, 0, 0, 0, 0)
        lists = _chunk("LIST", b"hdrl", main, _chunk("LIST", b"strl", stream, _chunk("strf", picture)))
        return b"RIFF" + _u32(max(0, self._file.size - 8) if number else 0) + b"AVI " + lists


def _chunk(name: str, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return name.encode("ascii") + _u32(len(content)) + content


def _u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)
