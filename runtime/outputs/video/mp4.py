"""MP4 with Motion JPEG (ISO/IEC 14496-12 and -14): in fragments while it grows, an ordinary file when it is finished.

Each picture is a fragment of its own, so that the file needs no index at its end. `finish` appends the index of an
ordinary MP4, and turns a small `free` box at the head into one that covers all fragments as plain data.
"""

from __future__ import annotations

import struct
from array import array
from pathlib import Path

from iern.runtime.outputs.video.container import VideoContainer

TICKS = 90_000
"""Ticks of the clock in a second. A picture of every usual rate lasts a whole number of them."""
MATRIX = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
"""The identity: no rotation, no scale."""


class Mp4(VideoContainer):
    """Pictures are JPEG files. Each is written when the next one comes, because then its duration is known."""

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        super().__init__(path, width, height, fps)
        self._waiting: tuple[bytes, int] | None = None
        self._offsets, self._lengths, self._durations = array("Q"), array("I"), array("I")
        self._file.append(_box("ftyp", b"isom", _u32(512), b"isomiso5mp41"))
        self._free_box = self._file.append(_box("free", bytes(8)))
        self._file.append(self._index())

    def add(self, picture: bytes, seconds: float) -> None:
        start = round(TICKS * seconds)
        if self._waiting is not None:
            self._write(*self._waiting, start - self._waiting[1])
        self._waiting = picture, start

    def finish(self) -> None:
        """Write the last picture, which lasts as long as the one before it, and the index."""
        if self._waiting is not None:
            previous = self._durations[-1] / TICKS if self._durations else 0.0
            waiting, self._waiting = self._waiting, None
            self._write(*waiting, round(TICKS * self.last_duration(previous)))
        end = self._file.append(self._index())
        self._file.overwrite(self._free_box, _u32(1) + b"mdat" + struct.pack(">Q", end - self._free_box))

    def _write(self, picture: bytes, start: int, duration: int) -> None:
        fragment = _fragment(len(self._offsets) + 1, start, duration, len(picture))
        at = self._file.append(fragment + _u32(8 + len(picture)) + b"mdat" + picture)
        self._offsets.append(at + len(fragment) + 8)
        self._lengths.append(len(picture))
        self._durations.append(duration)

    def _index(self) -> bytes:
        """The `moov` box of all pictures until now. Before the first picture: of a file in fragments."""
        length = sum(self._durations)
        movie = _full("mvhd", 0, _u32(0, 0, TICKS, length, 1 << 16), b"\1\0", bytes(10), MATRIX, bytes(24), _u32(2))
        shape = _u32(self.width << 16, self.height << 16)
        track = _full("tkhd", 3, _u32(0, 0, 1, 0, length), bytes(16), MATRIX, shape)  # enabled, and in the movie
        media = _full("mdhd", 0, _u32(0, 0, TICKS, length), b"\x55\xc4\0\0")  # 0x55c4: no language
        handler = _full("hdlr", 0, _u32(0), b"vide", bytes(12), b"iern\0")
        this_file = _box("dinf", _full("dref", 0, _u32(1), _full("url ", 1)))
        information = _box("minf", _full("vmhd", 1, bytes(8)), this_file, self._samples())
        boxes = movie + _box("trak", track, _box("mdia", media, handler, information))
        in_fragments = b"" if self._offsets else _box("mvex", _full("trex", 0, _u32(1, 1, 0, 0, 0)))
        return _box("moov", boxes, in_fragments)

    def _samples(self) -> bytes:
        size = struct.pack(">HHII", self.width, self.height, 72 << 16, 72 << 16)  # pixels, and dots an inch
        entry = _box("mp4v", _u32(0, 1), bytes(16), size, _u32(0), b"\0\1", bytes(32), b"\0\x18\xff\xff", _ES)
        number = len(self._offsets)
        durations = b"".join(_u32(1, duration) for duration in self._durations)
        return _box(
            "stbl",
            _full("stsd", 0, _u32(1), entry),
            _full("stts", 0, _u32(number), durations),
            _full("stsc", 0, _u32(1, 1, 1, 1) if number else _u32(0)),  # every chunk holds one picture
            _full("stsz", 0, _u32(0, number), _u32(*self._lengths)),
            _full("co64", 0, _u32(number), struct.pack(f">{number}Q", *self._offsets)),
        )


def _fragment(number: int, start: int, duration: int, length: int) -> bytes:
    """The `moof` box of one picture. The picture begins 8 bytes after the box."""
    header, time = _full("mfhd", 0, _u32(number)), _full("tfdt", 0x1000000, struct.pack(">Q", start))
    track = _full("tfhd", 0x20000, _u32(1))  # positions count from this box
    run_size, has_offset_duration_and_length = 28, 0x301
    size = 8 + len(header) + 8 + len(track) + len(time) + run_size
    run = _full("trun", has_offset_duration_and_length, _u32(1, size + 8, duration, length))
    return _box("moof", header, _box("traf", track, time, run))


def _box(name: str, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return _u32(8 + len(content)) + name.encode("ascii") + content


def _full(name: str, version_and_flags: int, *contents: bytes) -> bytes:
    return _box(name, _u32(version_and_flags), *contents)


def _u32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def _descriptor(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content


# 0x6c: JPEG, and 0x11: a visual stream, both from ISO/IEC 14496-1; no buffer sizes or rates are stated
_DECODER = _descriptor(4, b"\x6c\x11" + bytes(11))
_ES = _full("esds", 0, _descriptor(3, b"\0\1\0" + _DECODER + _descriptor(6, b"\2")))
