"""The sound of a video in its recording: the same packets at the same times, or a line that says why not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from doubles.made_up_results import grey_result, levels, times
from iern.runtime.outputs.video.recording import recording

RATE = 48_000


def write_video(path: Path, codec: str, seconds: float, sound_seconds: float) -> Path:
    """A grey video at 10 frames a second, with a tone that is silent except from 1.0 to 1.5 s."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4" if path.suffix != ".webm" else "libvpx", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=RATE)
        sound.layout = "mono"
        for number in range(round(10 * seconds)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 100, np.uint8), "bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(video.encode(frame))
        moments = np.arange(round(RATE * sound_seconds)) / RATE
        tone = np.where((moments >= 1) & (moments < 1.5), 12_000 * np.sin(2 * np.pi * 440 * moments), 0)
        resampler = av.AudioResampler(format=sound.format, layout="mono", rate=RATE, frame_size=sound.frame_size or 960)
        whole = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], format="s16", layout="mono")
        whole.sample_rate, whole.pts = RATE, 0
        for part in [*resampler.resample(whole), *resampler.resample(None)]:
            container.mux(sound.encode(part))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def record(path: Path, video: Path, first: int, last: int) -> None:
    """Record the frames from `first` to `last`, as they come from the video."""
    with recording(path, 10, sound_of=video) as write:
        for number in range(first, last + 1):
            write(grey_result(100, number / 10))


def loud(path: Path) -> tuple[float, float]:
    """The first and last second at which there is a tone."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    found = [frame.time for frame in frames if np.abs(frame.to_ndarray().astype(float)).max() > 0.1 * full(frame)]
    return found[0], found[-1]


def full(frame: av.AudioFrame) -> float:
    return 1.0 if "flt" in frame.format.name else 32768.0


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".webm", "libopus"), (".mp4", "libopus")])
def test_the_sound_is_copied_and_stays_with_the_frames(tmp_path, capsys, suffix, codec):
    video = write_video(tmp_path / f"in{suffix}", codec, 3, 3)
    record(tmp_path / f"out{suffix}", video, 0, 29)
    assert loud(tmp_path / f"out{suffix}") == pytest.approx(loud(video), abs=0.03)
    assert loud(video) == pytest.approx((1.0, 1.5), abs=0.06)
    assert times(tmp_path / f"out{suffix}") == pytest.approx([number / 10 for number in range(30)], abs=0.002)
    assert capsys.readouterr().out == ""


def test_a_recording_that_begins_later_and_ends_earlier_has_the_sound_of_its_part(tmp_path):
    video = write_video(tmp_path / "in.mp4", "aac", 3, 3)
    record(tmp_path / "out.mp4", video, 8, 20)
    assert loud(tmp_path / "out.mp4") == pytest.approx((0.2, 0.7), abs=0.06)
    with av.open(str(tmp_path / "out.mp4")) as container:
        last = [frame.time for frame in container.decode(audio=0)][-1]
    assert 1.1 < last < 1.3


def test_sound_that_ends_early_does_not_hold_up_the_frames_of_a_growing_file(tmp_path):
    video = write_video(tmp_path / "in.mp4", "aac", 9, 1)
    with recording(tmp_path / "out.mp4", 10, sound_of=video) as write:
        for number in range(80):
            write(grey_result(100, number / 10))
        assert len(levels(tmp_path / "out.mp4")) >= 75
    assert len(levels(tmp_path / "out.mp4")) == 80


def test_sound_that_the_format_cannot_hold_is_left_out_with_a_line(tmp_path, capsys):
    video = write_video(tmp_path / "in.mp4", "aac", 1, 1)
    record(tmp_path / "out.webm", video, 0, 9)
    assert f"note: {tmp_path / 'out.webm'}: no sound: .webm cannot hold aac; .mp4 can" in capsys.readouterr().out
    assert len(levels(tmp_path / "out.webm")) == 10


def test_a_video_without_sound_is_recorded_without_a_word(tmp_path, capsys):
    record(tmp_path / "silent.mp4", tmp_path / "absent.mp4", 0, 9)
    record(tmp_path / "out.mp4", tmp_path / "silent.mp4", 0, 9)
    assert len(levels(tmp_path / "out.mp4")) == 10
    assert capsys.readouterr().out == ""
