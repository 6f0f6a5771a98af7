"""Recordings: every frame has its own time and any size, and the file plays at any moment, even on a full disk."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from doubles.made_up_results import grey_result, levels, played, times
from iern.runtime.app.command_line import RECORDINGS
from iern.runtime.errors import OutputError
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.video.container import FORMATS, Encoder
from iern.runtime.outputs.video.recording import recording
from repository import ROOT

suffixes = pytest.mark.parametrize("suffix", RECORDINGS)


def record(path: Path, results, fps: float = 0.0) -> None:
    with recording(path, fps) as write:
        for result in results:
            write(result)


def test_every_suffix_that_is_offered_has_its_format():
    assert tuple(FORMATS) == RECORDINGS


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".MP4"])
def test_a_recording_plays_back_frame_by_frame(tmp_path, capfd, suffix):
    path = tmp_path / f"out{suffix}"
    record(path, [grey_result(20 * index, index / 10) for index in range(10)], fps=10)
    assert levels(path) == pytest.approx([20 * index for index in range(10)], abs=5)
    assert times(path) == pytest.approx([index / 10 for index in range(10)], abs=0.002)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10, rel=0.01)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 10
    assert os.listdir(tmp_path) == [path.name]
    assert capfd.readouterr() == ("", "")


@suffixes
def test_a_player_can_seek(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    record(path, [grey_result(4 * index, index / 10) for index in range(60)], fps=10)
    capture = cv2.VideoCapture(str(path))
    assert capture.set(cv2.CAP_PROP_POS_FRAMES, 40)
    assert capture.read()[1].mean() == pytest.approx(160, abs=5)


@suffixes
@pytest.mark.parametrize("rate", [3, 30])
def test_a_frame_to_which_a_player_can_jump_comes_every_two_seconds_at_any_rate(tmp_path, suffix, rate):
    path = tmp_path / f"out{suffix}"
    record(path, [grey_result(index, index / rate) for index in range(7 * rate)])
    with av.open(str(path)) as container:
        keys = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.is_keyframe]
    assert keys == pytest.approx([0, 2, 4, 6], abs=0.34)


@suffixes
def test_a_growing_recording_plays_except_for_its_last_frame(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    with recording(path, 10) as write:
        for index in range(20):
            write(grey_result(10 * index, index / 10))
        shown = levels(path)
    assert len(shown) >= 19
    assert shown == pytest.approx([10 * index for index in range(len(shown))], abs=5)


@suffixes
def test_recorded_time_is_real_time_even_if_the_rate_changes(tmp_path, suffix):
    """Ten frames at 4 a second, twenty at 20, and a picture that lasts 3 s: 6.5 s in all."""
    reached = [index / 4 for index in range(11)] + [2.5 + index / 20 for index in range(1, 21)] + [6.5]
    path = tmp_path / f"out{suffix}"
    record(path, [grey_result(7 * index, 1000 + seconds) for index, seconds in enumerate(reached)])
    assert levels(path) == pytest.approx([7 * index for index in range(len(reached))], abs=3)
    assert times(path) == pytest.approx(reached, abs=0.002)
    capture = cv2.VideoCapture(str(path))
    length = capture.get(cv2.CAP_PROP_FRAME_COUNT) / capture.get(cv2.CAP_PROP_FPS)
    assert 6.5 <= length <= 6.5 + 4 + 0.1, "the last picture lasts as long as the one before it"


@suffixes
@pytest.mark.parametrize("fps", [0.0, 90_000.0])
def test_a_source_with_no_or_a_nonsense_rate_is_recorded_in_the_time_of_its_frames(tmp_path, suffix, fps):
    path = tmp_path / f"out{suffix}"
    record(path, [grey_result(20 * index, index / 5) for index in range(10)], fps=fps)
    assert levels(path) == pytest.approx([20 * index for index in range(10)], abs=3)
    assert times(path) == pytest.approx([index / 5 for index in range(10)], abs=0.001)


@suffixes
def test_frames_that_come_faster_than_a_screen_shows_them_are_all_kept(tmp_path, capsys, suffix):
    path = tmp_path / f"out{suffix}"
    record(path, [grey_result(index, index / 240) for index in range(120)])
    assert levels(path) == pytest.approx(list(range(120)), abs=5)
    assert times(path) == pytest.approx([index / 240 for index in range(120)], abs=0.002)
    assert capsys.readouterr() == ("", "")


@suffixes
@pytest.mark.parametrize(("width", "height"), [(321, 241), (1, 1), (4096, 17), (17, 4096)])
def test_odd_sizes_are_recorded_with_their_last_row_or_column_repeated(tmp_path, suffix, width, height):
    path = tmp_path / f"out{suffix}"
    record(path, [grey_result(100 + 50 * index, index / 10, width=width, height=height) for index in range(3)])
    assert [image.shape for image in played(path)] == 3 * [(height + height % 2, width + width % 2, 3)]
    assert [image[-1, -1].mean() for image in played(path)] == pytest.approx([100, 150, 200], abs=8)


def test_another_size_of_a_live_source_begins_another_file_and_is_reported(tmp_path, capsys):
    path, sizes = tmp_path / "out.mp4", ((64, 48), (64, 48), (80, 60), (1, 1), (64, 48))
    record(path, [grey_result(100, index / 10, width=w, height=h) for index, (w, h) in enumerate(sizes)])
    names = ["out-001.mp4", "out-002.mp4", "out-003.mp4", "out.mp4"]
    assert sorted(os.listdir(tmp_path)) == names
    assert [len(played(tmp_path / name)) for name in names] == [1, 1, 1, 2]
    printed = capsys.readouterr().out
    assert f"frames changed from 64x48 to 80x60: the recording continues in {tmp_path / 'out-001.mp4'}" in printed
    assert printed.count("continues in") == 3


def test_pictures_of_a_folder_are_fitted_but_never_shrunk_to_less_than_half(tmp_path):
    path = tmp_path / "out.webm"
    sizes = [(128, 96), (64, 96), (200, 150), (1000, 750), (1, 1)]
    record(path, [grey_result(200, float(i), width=w, height=h) for i, (w, h) in enumerate(sizes)], fps=1)
    shown = played(path)
    assert [image.shape for image in shown] == 3 * [(96, 128, 3)]
    assert shown[1][48, 64].mean() == pytest.approx(200, abs=5)
    assert shown[1][48, 5].mean() == pytest.approx(0, abs=5)
    assert shown[2].mean() == pytest.approx(200, abs=5)
    assert [image.shape for image in played(tmp_path / "out-001.webm")] == 2 * [(750, 1000, 3)]


@pytest.mark.parametrize("jump", [-3600.0, -2.0, 3600.0, 1e9])
def test_a_clock_that_jumps_begins_another_file_and_both_play(tmp_path, capsys, jump):
    path = tmp_path / "out.webm"
    before = [grey_result(50, index / 10) for index in range(5)]
    record(path, before + [grey_result(150, 0.5 + jump + index / 10) for index in range(5)])
    for name in ("out.webm", "out-001.webm"):
        assert times(tmp_path / name) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=0.002)
    assert "clock jumped" in capsys.readouterr().out


def in_segment(number: int, result: FrameResult) -> FrameResult:
    """The same result in another segment of its source."""
    frame = result.frame
    values = {field.name: getattr(frame, field.name) for field in dataclasses.fields(frame)}
    return dataclasses.replace(result, frame=SimpleNamespace(**{**values, "segment": number}))


def test_a_source_that_came_back_begins_another_file(tmp_path, capsys):
    record(tmp_path / "out.mp4", [grey_result(50), grey_result(50, 0.1), in_segment(1, grey_result(150, 0.2))])
    assert levels(tmp_path / "out-001.mp4") == pytest.approx([150], abs=3)
    assert "the source came back, or its clock was reset: the recording continues in" in capsys.readouterr().out


def test_pictures_of_a_folder_stay_in_one_file_even_if_their_sizes_count_as_segments(tmp_path):
    widths = (64, 60, 64, 64)
    record(
        tmp_path / "out.mp4", [in_segment(min(i, 2), grey_result(9, i, width=w)) for i, w in enumerate(widths)], fps=1
    )
    assert os.listdir(tmp_path) == ["out.mp4"]
    assert len(played(tmp_path / "out.mp4")) == 4


def test_a_file_that_has_grown_large_is_followed_by_another(tmp_path, monkeypatch):
    monkeypatch.setattr("iern.runtime.outputs.video.recording.LARGEST_BYTES", 20_000)
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), np.uint8)
    results = [with_image(grey_result(0, index / 10), image) for index, image in enumerate(noise)]
    record(tmp_path / "out.mp4", results)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 2
    assert sum(len(played(path)) for path in files) == 20


@suffixes
def test_frames_at_one_time_are_all_kept(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    record(path, [grey_result(20 * index, 0.0) for index in range(10)])
    assert levels(path) == pytest.approx([20 * index for index in range(10)], abs=5)


def test_without_frames_there_is_no_video(tmp_path):
    record(tmp_path / "out.mp4", [])
    assert os.listdir(tmp_path) == []


def test_a_size_that_cannot_be_encoded_is_an_error_and_leaves_no_file(tmp_path):
    message = r"frames of 16400x1 cannot be encoded for \.mp4 .*; try another"
    with pytest.raises(OutputError, match=message):
        record(tmp_path / "out.mp4", [grey_result(100, width=16400, height=1)])
    assert os.listdir(tmp_path) == []


def test_an_error_in_the_loop_leaves_a_finished_recording(tmp_path):
    path = tmp_path / "out.mp4"
    with pytest.raises(RuntimeError, match="the loop fails"), recording(path, 10) as write:
        write(grey_result(100))
        raise RuntimeError("the loop fails")
    assert levels(path) == pytest.approx([100], abs=3)


@suffixes
def test_a_full_disk_leaves_what_was_recorded_and_a_file_that_plays(tmp_path, suffix):
    """In a process of its own a limit on the size of files makes writes fail, as a full disk does."""
    path = tmp_path / f"out{suffix}"
    program = f"""
        import resource
        from pathlib import Path
        from iern.runtime.outputs.video.recording import recording
        from doubles.made_up_results import grey_result
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        with recording(Path({str(path)!r}), 10) as write:
            for index in range(1000):
                try:
                    write(grey_result(index % 250, index / 10, width=320, height=240))
                except OSError as error:
                    print(index, error.strerror)
                    break
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=environment)
    written, _, reason = result.stdout.partition(" ")
    assert reason.strip() == os.strerror(27), "File too large"
    shown = levels(path)
    assert int(written) - 1 <= len(shown) <= int(written) and len(shown) > 5
    assert shown == pytest.approx([index % 250 for index in range(len(shown))], abs=5)
    assert path.stat().st_size <= 60_000


@suffixes
def test_a_recording_into_a_fifo_or_a_file_in_use_is_refused_before_the_first_frame(tmp_path, suffix):
    fifo, taken = tmp_path / f"fifo{suffix}", tmp_path / f"taken{suffix}"
    os.mkfifo(fifo)
    with pytest.raises(OutputError, match="is not a file; a recording needs one"), recording(fifo, 10):
        pass
    with recording(taken, 10) as write:
        write(grey_result(100))
        with pytest.raises(OutputError, match="another program is writing to it"), recording(taken, 10):
            pass
    assert levels(taken) == pytest.approx([100], abs=3)


def with_image(result: FrameResult, image: np.ndarray) -> FrameResult:
    return dataclasses.replace(result, frame=dataclasses.replace(result.frame, image=image))


def moving_texture(number: int, width: int = 320, height: int = 240) -> np.ndarray:
    """A photograph-like texture that moves by a pixel a frame, with the noise of a sensor."""
    random = np.random.default_rng(0)
    texture = cv2.GaussianBlur(random.integers(0, 255, (height, width + 400, 3), np.uint8), (0, 0), 3) * 3.0 - 250
    shown = texture[:, number : number + width] + np.random.default_rng(number).normal(0, 3, (height, width, 3))
    return np.clip(shown, 0, 255).astype(np.uint8)


@suffixes
def test_a_recording_is_several_times_smaller_than_its_frames_as_jpeg_and_looks_the_same(tmp_path, suffix):
    images = [moving_texture(number) for number in range(30)]
    path = tmp_path / f"out{suffix}"
    record(path, [with_image(grey_result(0, index / 15), image) for index, image in enumerate(images)], fps=15)
    as_jpeg = sum(len(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]) for image in images)
    assert path.stat().st_size < as_jpeg / 3
    for image, shown in zip(images, played(path), strict=True):
        assert cv2.PSNR(image, shown) > 28


@suffixes
def test_the_colours_are_those_of_the_frames(tmp_path, suffix):
    """At full HD players that are not told would take other colours than at VGA."""
    colours = np.array([[30, 30, 220], [40, 200, 40], [220, 60, 30], [0, 0, 0], [255, 255, 255]], np.uint8)
    for width, height in ((640, 480), (1920, 1080)):
        image = np.repeat(np.repeat(colours[None], height, 0), -(-width // len(colours)), 1)[:, :width]
        path = tmp_path / f"{height}{suffix}"
        record(path, [with_image(grey_result(0, 0.0), np.ascontiguousarray(image))])
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            assert (frame.colorspace, frame.color_range) == (6, 1), "BT.601 and video levels"
            shown = cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2BGR_I420)
        middles = shown[height // 2, [round((i + 0.5) * width / len(colours)) for i in range(len(colours))]]
        assert middles == pytest.approx(colours, abs=6)


@suffixes
@pytest.mark.parametrize("which", [0, 1])
def test_every_encoder_that_may_be_chosen_records(tmp_path, monkeypatch, suffix, which):
    one = FORMATS[suffix]._replace(encoders=FORMATS[suffix].encoders[which : which + 1])
    monkeypatch.setitem(FORMATS, suffix, one)
    path = tmp_path / f"out{suffix}"
    record(path, [grey_result(20 * index, index / 10) for index in range(10)], fps=10)
    assert levels(path) == pytest.approx([20 * index for index in range(10)], abs=5)


def test_a_pyav_without_the_encoder_is_an_error_with_the_remedy_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, ".mp4", FORMATS[".mp4"]._replace(encoders=(Encoder("libnone", {}),)))
    with pytest.raises(OutputError, match="has no encoder libnone; pip install"):
        record(tmp_path / "out.mp4", [grey_result(100)])
    assert os.listdir(tmp_path) == []
