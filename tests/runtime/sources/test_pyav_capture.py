"""Video files: no frame is an unfilled buffer, none is lost behind a damaged stretch, and any path can be opened."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from iern.runtime.errors import SourceError
from iern.runtime.sources.open_source import open_source
from iern.runtime.sources.pyav_capture import PyAvCapture

INTERLACED_DCT, INTERLACED_MOTION = 1 << 18, 1 << 29
"""FFmpeg's flags of an encoder."""
LEVELS = [20 + 6 * index for index in range(30)]


def picture(level: int, width: int = 320, height: int = 240) -> np.ndarray:
    """Dark on the left, the level on the right: a mean alone would not show a shifted picture."""
    image = np.full((height, width, 3), 16, np.uint8)
    image[:, width // 2 :] = level
    return image


def write_video(
    path: Path,
    codec: str,
    levels: Sequence[int] = LEVELS,
    interlaced: bool = False,
    times: Sequence[float] | None = None,
    size: tuple[int, int] = (320, 240),
    **options: str,
) -> Path:
    """A video of `picture`s at 25 frames a second, or at the given times in seconds."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        if interlaced and codec == "mpeg2video":
            stream.codec_context.flags |= INTERLACED_DCT | INTERLACED_MOTION
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(picture(level, *size), "bgr24")
            if times:
                frame.pts, frame.time_base = round(1000 * times[index]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def levels_of(path: Path) -> list[float]:
    """What each frame of a source shows on its right and left."""
    with open_source(path) as source:
        frames = list(source)
    middle = frames[0].image.shape[1] // 2
    assert all(frame.image[:, : middle - 20].mean() == pytest.approx(16, abs=3) for frame in frames)
    return [float(frame.image[:, middle + 20 :].mean()) for frame in frames]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("h264.mp4", "libx264", {"x264-params": "interlaced=1:tff=1"}),
        ("mpeg2.mpg", "mpeg2video", {}),
        ("dv.avi", "dvvideo", {}),
    ],
)
def test_an_interlaced_video_is_deinterlaced_and_never_an_unfilled_buffer(tmp_path, name, codec, options):
    path = tmp_path / name
    if codec == "dvvideo":
        write_dv(path)
    else:
        write_video(path, codec, interlaced=True, **options)
    with av.open(path) as container:
        assert next(container.decode(video=0)).interlaced_frame, "the test's own video is progressive"
    assert levels_of(path) == pytest.approx(LEVELS, abs=6)


def write_dv(path: Path) -> None:
    """DV knows two sizes and no time base but its own."""
    with av.open(path, "w") as container:
        stream = container.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for level in LEVELS:
            frame = av.VideoFrame.from_ndarray(picture(level, 720, 576), "bgr24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())


def test_fields_of_two_moments_become_one_picture_without_combs(tmp_path):
    """A bar that moves between the fields: deinterlaced, neighbouring lines agree; as it is, they do not."""
    path = tmp_path / "moving.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "interlaced=1:tff=1"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for index in range(12):
            image = np.full((240, 320, 3), 30, np.uint8)
            for field in (0, 1):
                left = 20 + 16 * index + 8 * field
                image[field::2, left : left + 40] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode())
    with open_source(path) as source:
        frames = [frame.image[..., 1].astype(float) for frame in source]
    combs = [np.abs(image[1:-1] - (image[:-2] + image[2:]) / 2).mean() for image in frames]
    assert len(frames) == 12
    assert max(combs) < 1, "about 9 in the fields as they are"


def test_a_damaged_stretch_in_the_middle_of_a_video_costs_only_itself(tmp_path):
    path = write_video(tmp_path / "whole.avi", "mpeg4", LEVELS * 3, g="5")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    with open_source(path) as source:
        frames = list(source)
    assert 80 <= len(frames) <= 90
    assert frames[-1].time == pytest.approx(89 / 25, abs=0.1), "the rest was lost"


def test_frames_that_cannot_be_decoded_are_counted_and_reported(tmp_path):
    """Each picture of Motion JPEG is for itself: without its markers it is no picture at all."""
    path = write_video(tmp_path / "whole.avi", "mjpeg", LEVELS, strict="unofficial")
    data = path.read_bytes()
    parts = data.split(b"\xff\xd8")
    assert len(parts) == 31
    for damaged in (10, 11, 12):
        parts[damaged] = bytes(len(parts[damaged]))
    (tmp_path / "damaged.avi").write_bytes(b"\xff\xd8".join(parts))
    with open_source(tmp_path / "damaged.avi") as source:
        delivered = len(list(source))
    assert 26 <= delivered < 30
    assert f"skipped {30 - delivered} damaged frames" in source.note


def test_a_whole_video_of_a_variable_rate_is_not_called_cut_off(tmp_path):
    times = [index / 25 if index < 15 else 0.6 + 2 * (index - 15) for index in range(30)]
    for name in ("variable.mp4", "variable.mkv"):
        with open_source(write_video(tmp_path / name, "libx264", times=times, bf="0")) as source:
            frames = list(source)
        assert [frame.time for frame in frames] == pytest.approx(times, abs=0.05)
        assert source.note == ""


def test_a_matroska_video_that_is_cut_off_is_reported_by_its_time(tmp_path):
    path = write_video(tmp_path / "whole.mkv", "libx264", LEVELS * 5, bf="0")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with open_source(path) as source:
        assert 30 < len(list(source)) < 140
    assert "it is cut off or damaged" in source.note


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_video_is_turned_upright_as_its_file_says(tmp_path, turn):
    """As OpenCV's own reader turns it, which is the authority here: progressive video is right there."""
    path = tmp_path / "turned.mp4"
    write_video(path, "libx264", LEVELS[:3], bf="0")
    data = bytearray(path.read_bytes())
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[turn]
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows forty bytes of its content
    struct.pack_into(">9i", data, at, cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    expected = cv2.VideoCapture(str(path)).read()[1]
    with open_source(path) as source:
        frame = next(iter(source))
    assert frame.image.shape == expected.shape
    assert np.abs(frame.image.astype(int) - expected).mean() < 2


def test_an_audio_file_is_no_video(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(SourceError, match=r"not a video that FFmpeg can play.*no video stream"):
        open_source(path)


def test_a_released_capture_gives_nothing_more(tmp_path):
    capture = PyAvCapture(write_video(tmp_path / "clip.mp4", "libx264", LEVELS[:4]))
    assert capture.read()[0]
    capture.release()
    capture.release()
    assert (capture.isOpened(), *capture.read()) == (False, False, None)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow text alone for names")
def test_names_that_are_no_text_are_opened_read_and_printed(tmp_path):
    """In the locale C without UTF-8, where not even an accent is text, and with a byte that never is."""
    for name in (b"raw\xff.mp4", "été.mp4".encode()):
        write_video(Path(os.fsdecode(bytes(tmp_path) + b"/clip.mp4")), "libx264", LEVELS[:3]).rename(
            os.fsdecode(bytes(tmp_path) + b"/" + name)
        )
    (tmp_path / "clip.jpg").write_bytes(cv2.imencode(".jpg", picture(90))[1].tobytes())
    os.rename(tmp_path / "clip.jpg", os.fsdecode(bytes(tmp_path) + b"/image\xfe.jpg"))
    program = f"""
import os, sys
from iern.runtime.webcam import main
for name in sorted(os.listdir({bytes(tmp_path)!r})):
    for more in (["--csv", "out.csv", "--jsonl", "out.jsonl", "--summary", "out.html"], ["--record", "out.mp4"]):
        assert main(["--headless", "--source", os.fsdecode({bytes(tmp_path)!r} + b"/" + name), *more]) == 0
"""
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    out = tmp_path.parent / "out"
    out.mkdir(exist_ok=True)
    result = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **bare}, cwd=out, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == b""


@pytest.mark.parametrize(
    "spec", ["/dev/video\udcff", "rtsp://camera/\udcff", "http://camera/\udcff.mp4", "csi://\udcff"]
)
def test_a_device_or_address_that_is_no_text_is_refused(spec):
    with pytest.raises(SourceError, match="bytes that are no text"):
        open_source(spec)


def test_a_title_that_is_not_utf_8_does_not_stop_the_reading(tmp_path):
    """The option for it changed with PyAV 19, so an older and a newer one are opened differently."""
    path = tmp_path / "title.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "a placeholder"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for level in LEVELS[:5]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(level, 64, 64), "bgr24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert content.count(b"a placeholder") == 1
    path.write_bytes(content.replace(b"a placeholder", b"\xff\xfe in bytes\xe4\xf6"))
    capture = PyAvCapture(path)
    assert [capture.read()[0] for _ in range(6)] == [True] * 5 + [False]
    capture.release()
