"""Video files that play while they grow and after a kill, encoded and written by FFmpeg through PyAV.

FFmpeg writes an MP4 in fragments of one frame, and turns it into an ordinary MP4 when it is finished; a WebM in
clusters of one frame, with an index at the end. Each frame is in the file as soon as it is encoded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
from av.audio.stream import AudioStream
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from iern.runtime.errors import OutputError, one_line
from iern.runtime.imaging.images import Image
from iern.runtime.outputs.video.sound import Sound
from iern.runtime.system.append_only_file import AppendOnlyFile
from iern.runtime.system.cpu_budget import cpu_budget

USUAL_FPS = 15.0
"""The rate that the encoder is told if the source's is not known. The frames have times of their own."""
HIGHEST_FPS = 1000.0
"""A higher stated rate is not believed."""
KEY_FRAME_SECONDS = 2.0
"""A player can jump to a key frame: a frame that refers to no other."""
TIME_BASE = Fraction(1, 90_000)
"""Seconds of a tick. A frame of every usual rate lasts a whole number of them. A WebM rounds to milliseconds."""
MOST_THREADS = 2
"""Threads of the encoder. The loop needs the cores, too."""

COLOURS = dict.fromkeys(("colorspace", "color_primaries", "color_trc"), "smpte170m") | {"color_range": "tv"}
"""Players that are not told guess other colours for large frames than for small ones."""


class Encoder(NamedTuple):
    """One of FFmpeg's encoders, as fast as a camera and without frames that wait for later ones."""

    name: str
    options: Mapping[str, str]


H264 = Encoder("libx264", {"preset": "superfast", "tune": "zerolatency", "crf": "23"})
VP9 = Encoder(
    "libvpx-vp9",
    {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "row-mt": "1", "crf": "32", "b": "0"},
)
VP8 = Encoder("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "crf": "12", "b": "8M"})


class Format(NamedTuple):
    """How the files of one suffix are written."""

    name: str
    """FFmpeg's name."""
    options: Mapping[str, str]
    encoders: tuple[Encoder, ...]
    """The preferred one first. A build of FFmpeg need not have it."""


WRITTEN_AT_ONCE = {"flush_packets": "1", "max_interleave_delta": "200000"}
"""Packets do not wait for each other for longer than 0.2 s, such as for sound that has ended."""
FORMATS = {
    ".mp4": Format("mp4", {"movflags": "hybrid_fragmented+frag_every_frame", **WRITTEN_AT_ONCE}, (H264, VP9)),
    ".webm": Format("webm", {"cluster_time_limit": "1", **WRITTEN_AT_ONCE}, (VP9, VP8)),
}


class VideoContainer:
    """A video file that is being written. Times are seconds from the first frame, each later than the one before."""

    def __init__(self, path: Path, width: int, height: int, fps: float, sound: Sound | None = None) -> None:
        """`fps` is the source's rate, 0 if it is not known. `sound` is copied until the time of the last frame.

        Raises OSError, and OutputError if frames of this size cannot be encoded, and then leaves no file.
        """
        self.width, self.height = width, height
        self._path, self._sound = path, sound
        self._encoder = _encoder_of(path)
        self._last_key = -KEY_FRAME_SECONDS
        self._sound_stream: AudioStream | None = None
        self._buffer = _Buffer()
        chosen = FORMATS[path.suffix.lower()]
        self._container = av.open(self._buffer, "w", format=chosen.name, options=dict(chosen.options))
        try:
            self._stream = self._open_encoder(fps if 0 < fps <= HIGHEST_FPS else USUAL_FPS)
            if sound is not None:
                self._sound_stream = self._container.add_stream_from_template(sound.stream)
            self._file = AppendOnlyFile(path)
        except BaseException:
            self._buffer.abandon()
            raise

    @property
    def size(self) -> int:
        """Bytes until now."""
        return self._file.size

    def add(self, image: Image, seconds: float) -> None:
        """Add a frame of (height, width, 3). Raises OSError, and then the file is as it was before."""
        # OpenCV converts several times as fast as FFmpeg, and grey stays the same grey.
        halved_colours = cv2.cvtColor(self._padded(image), cv2.COLOR_BGR2YUV_I420)
        frame = VideoFrame.from_ndarray(halved_colours, format="yuv420p")
        frame.pts, frame.time_base = round(seconds / TIME_BASE), TIME_BASE
        if seconds - self._last_key >= KEY_FRAME_SECONDS:
            frame.pict_type, self._last_key = PictureType.I, seconds
        packets = self._stream.encode(frame)
        self._copy_sound(seconds)
        self._container.mux(packets)
        self._buffer.write_into(self._file)

    def close(self) -> None:
        """Write the last frames and the index, and close. Raises OSError, and then the file plays all the same."""
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._buffer.write_into(self._file)
        finally:
            self._buffer.abandon()
            self._file.close()

    def _copy_sound(self, seconds: float) -> None:
        if self._sound is not None and self._sound_stream is not None:
            for packet in self._sound.until(seconds):
                packet.stream = self._sound_stream
                self._container.mux(packet)

    def _open_encoder(self, fps: float) -> VideoStream:
        rate = Fraction(fps).limit_denominator(1001)
        stream = self._container.add_stream(self._encoder.name, rate=rate, options={**self._encoder.options, **COLOURS})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = (side + side % 2 for side in (self.width, self.height))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = TIME_BASE
        stream.codec_context.gop_size = 10_000  # key frames are chosen by time
        stream.codec_context.thread_count = min(MOST_THREADS, cpu_budget())
        try:
            stream.codec_context.open()
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(
                f"{self._path}: frames of {self.width}x{self.height} cannot be encoded for {self._path.suffix} "
                f"({one_line(error)}); try another of {' '.join(FORMATS)}"
            ) from error
        return stream

    def _padded(self, image: Image) -> Image:
        """The picture with its last column or row repeated if there is an odd number: two share a colour."""
        right, below = self._stream.width - image.shape[1], self._stream.height - image.shape[0]
        if not (right or below):
            return image
        return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)


class _Buffer:
    """What FFmpeg writes, kept until a frame is complete. So a full disk never cuts a frame."""

    def __init__(self) -> None:
        self._at = self._end = 0
        self._waiting: list[tuple[int, bytes]] = []
        self._abandoned = False

    def write(self, data: bytes) -> int:
        if not self._abandoned:
            self._waiting.append((self._at, bytes(data)))
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def write_into(self, file: AppendOnlyFile) -> None:
        """Append what is new at once, and then replace what FFmpeg has written again. Raises OSError."""
        waiting, self._waiting = self._waiting, []
        file.append(b"".join(data for at, data in waiting if at >= file.size))
        for at, data in waiting:
            if at < file.size - len(data):
                file.overwrite(at, data)

    def abandon(self) -> None:
        """Take no more: what FFmpeg writes when it is freed belongs to no file."""
        self._abandoned = True


def _encoder_of(path: Path) -> Encoder:
    """The first encoder that this FFmpeg has. Raises OutputError if it has none of them."""
    candidates = FORMATS[path.suffix.lower()].encoders
    for encoder in candidates:
        if _exists(encoder.name):
            return encoder
    names = " or ".join(encoder.name for encoder in candidates)
    raise OutputError(f"{path}: this PyAV has no encoder {names}; pip install --force-reinstall av, or another suffix")


def _exists(encoder: str) -> bool:
    try:
        av.Codec(encoder, "w")
    except ValueError:  # av's UnknownCodecError is one
        return False
    return True
