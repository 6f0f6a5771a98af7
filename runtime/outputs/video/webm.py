"""WebM with VP8, for browsers: https://www.matroska.org/technical/elements.html. Each picture is a cluster."""

from __future__ import annotations

import struct
from pathlib import Path

from iern.runtime.outputs.video.container import VideoContainer

UNKNOWN_SIZE = b"\x01" + 7 * b"\xff"
SEEK_HEAD_SIZE = 26
"""Bytes reserved at the head for the seek head, which `finish` writes: it points to the index."""
CUE_INTERVAL = 1.0
"""Seconds between two pictures to which a player can jump."""


class WebM(VideoContainer):
    """Pictures are WebP files in the simple lossy format, which contains a key frame of VP8."""

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        super().__init__(path, width, height, fps)
        self._pictures = 0
        self._last = self._interval = 0.0
        self._cues: list[tuple[int, int]] = []
        self._file.append(_element("1A45DFA3", _HEAD))
        self._segment = self._file.append(bytes.fromhex("18538067") + UNKNOWN_SIZE) + 12
        self._seek_head = self._file.append(_void(SEEK_HEAD_SIZE))
        scale_and_names = _uint("2AD7B1", 1_000_000) + _element("4D80", b"iern") + _element("5741", b"iern")
        self._duration = self._file.append(_element("1549A966", _void(11) + scale_and_names)) + 5
        self._rate = self._file.append(_element("1654AE6B", _element("AE", _void(8) + self._track()))) + 7

    def add(self, picture: bytes, seconds: float) -> None:
        time = round(1000 * seconds)
        block = _element("A3", b"\x81\0\0\x80" + _vp8(picture))  # track 1, at the cluster's own time, a key frame
        at = self._file.append(_element("1F43B675", _uint("E7", time) + block))
        self._pictures += 1
        self._interval, self._last = seconds - self._last, seconds
        if not self._cues or time - self._cues[-1][0] >= 1000 * CUE_INTERVAL:
            self._cues.append((time, at - self._segment))
            self._write_length()

    def finish(self) -> None:
        """Write the length, and an index for seeking."""
        self._write_length()
        points = b"".join(
            _element("BB", _uint("B3", time) + _element("B7", _uint("F7", 1) + _uint("F1", at)))
            for time, at in self._cues
        )
        at = self._file.append(_element("1C53BB6B", points)) - self._segment
        seek = _element("53AB", bytes.fromhex("1C53BB6B")) + _element("53AC", struct.pack(">Q", at))
        self._file.overwrite(self._seek_head, _element("114D9B74", _element("4DBB", seek)))
        self._file.overwrite(self._segment - 8, struct.pack(">Q", (self._file.size - self._segment) | 1 << 56))

    def _write_length(self) -> None:
        """Write the length in milliseconds, and the mean duration of a picture in nanoseconds."""
        length = self._last + self.last_duration(self._interval)
        self._file.overwrite(self._duration, bytes.fromhex("448988") + struct.pack(">d", 1000 * length))
        mean = round(1e9 * length / max(1, self._pictures))
        if mean < 1 << 32:
            self._file.overwrite(self._rate, bytes.fromhex("23E38384") + struct.pack(">I", mean))

    def _track(self) -> bytes:
        number, video, unlaced = _uint("D7", 1) + _uint("73C5", 1), _uint("83", 1), _uint("9C", 0)
        shape = _uint("B0", self.width) + _uint("BA", self.height)
        return number + video + unlaced + _element("86", b"V_VP8") + _element("E0", shape)


def _vp8(webp: bytes) -> bytes:
    """The content of the first chunk of a WebP file."""
    assert webp[12:16] == b"VP8 ", "not a WebP file in the simple lossy format"
    return webp[20 : 20 + int.from_bytes(webp[16:20], "little")]


def _element(name: str, content: bytes) -> bytes:
    """An EBML element: its identifier (`name`, in hexadecimal), length and content."""
    size = len(content)
    length = bytes([0x80 | size]) if size < 127 else struct.pack(">I", size | 1 << 28)
    return bytes.fromhex(name) + length + content


def _uint(name: str, value: int) -> bytes:
    return _element(name, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _void(size: int) -> bytes:
    """An element of `size` bytes that readers skip."""
    return b"\xec" + bytes([0x80 | size - 2]) + bytes(size - 2)


_HEAD = b"".join(
    (
        *(_uint("4286", 1), _uint("42F7", 1), _uint("42F2", 4), _uint("42F3", 8)),  # versions and limits of EBML
        *(_element("4282", b"webm"), _uint("4287", 2), _uint("4285", 2)),
    )
)
