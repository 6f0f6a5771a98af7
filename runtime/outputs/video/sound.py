"""The sound of a video file, copied into a recording of its frames without encoding it again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.packet import Packet

COPIED = {".mp4": ("aac", "mp3", "ac3", "eac3", "alac", "opus"), ".webm": ("opus", "vorbis")}
"""Suffix of a recording -> FFmpeg's names of the codecs of sound that such a file may hold."""


class Sound:
    """The packets of a file's sound track, by the times of its frames. A context manager."""

    def __init__(self, video: Path, start: float) -> None:
        """`start` is the time of the recording's first frame, in seconds from the first frame of the video.

        Raises ValueError if there is no sound track, and OSError or av.FFmpegError if the file cannot be read.
        """
        self._resources = contextlib.ExitStack()
        with contextlib.ExitStack() as opening:
            # FFmpeg takes names in UTF-8 only, so the file is opened here.
            container = opening.enter_context(av.open(opening.enter_context(video.open("rb")), "r"))
            stream, pictures = container.streams.best("audio"), container.streams.best("video")
            if not isinstance(stream, AudioStream) or pictures is None or stream.time_base is None:
                raise ValueError("the video has no sound")
            self.stream = stream
            first = float((pictures.start_time or 0) * (pictures.time_base or 0))
            self._offset = round((first + start) / stream.time_base)
            self._packets = container.demux(stream)
            self._next: Packet | None = None
            self._resources = opening.pop_all()

    @property
    def codec(self) -> str:
        """FFmpeg's name of its codec."""
        return self.stream.codec_context.name

    def until(self, seconds: float) -> Iterator[Packet]:
        """The packets up to that time of the recording, each once, with the recording's times.

        Damaged sound ends early.
        """
        while (packet := self._next or self._read()) is not None:
            assert packet.pts is not None and packet.time_base is not None
            self._next = packet
            if packet.pts * packet.time_base > seconds:
                return
            self._next = None
            yield packet

    def _read(self) -> Packet | None:
        """The next packet that begins in the recording."""
        with contextlib.suppress(av.FFmpegError):
            for packet in self._packets:
                if packet.pts is None or packet.pts < self._offset:
                    continue
                packet.pts -= self._offset
                packet.dts = packet.pts
                return packet
        return None

    def close(self) -> None:
        self._resources.close()


def sound_for(recording: Path, video: Path, start: float) -> tuple[Sound | None, str]:
    """The sound of `video`, if a file named `recording` may hold it, and otherwise why not, in words."""
    try:
        sound = Sound(video, start)
    except (ValueError, OSError, av.FFmpegError):  # no sound, or none that can be read: the pictures matter
        return None, ""
    allowed = COPIED[recording.suffix.lower()]
    if sound.codec in allowed:
        return sound, ""
    sound.close()
    others = [suffix for suffix, codecs in COPIED.items() if sound.codec in codecs]
    remedy = f"; {others[0]} can" if others else ""
    return None, f"no sound: {recording.suffix} cannot hold {sound.codec}{remedy}"
