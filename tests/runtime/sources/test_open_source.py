"""Sources: the frames that they deliver, and their errors when they cannot."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import itertools
import math
import os
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from doubles.made_up_results import grey_result, times
from doubles.scripted_capture import ScriptedCapture, noise
from doubles.servers.mjpeg_server import mjpeg_server, serving
from iern.runtime.errors import SourceError
from iern.runtime.outputs.video.recording import recording
from iern.runtime.sources import streams
from iern.runtime.sources.capture import read_first_frame
from iern.runtime.sources.files import VideoFile
from iern.runtime.sources.open_source import open_source
from iern.runtime.sources.settings import LiveTimeouts, SourceSettings
from iern.runtime.sources.streams import without_credentials


def grey(level: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def write_video(path: Path, images: list[np.ndarray], fps: float = 10.0) -> Path:
    codec = {".avi": "MJPG", ".mp4": "mp4v"}[path.suffix]
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(image)
    writer.release()
    return path


def jpeg(level: int, width: int = 64, height: int = 48) -> bytes:
    return cv2.imencode(".jpg", grey(level, width, height))[1].tobytes()


def noise_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_video_gives_every_frame_in_order_with_the_time_of_its_own_clock(tmp_path, suffix):
    levels = list(range(10, 250, 20))
    path = write_video(tmp_path / f"clip{suffix}", [grey(level) for level in levels], fps=10)
    with open_source(str(path)) as source:
        frames = []
        for frame in source:
            frames.append(frame)
            time.sleep(0.01)  # a slow reader of a file misses nothing
    assert [frame.index for frame in frames] == list(range(len(levels)))
    assert [frame.time for frame in frames] == pytest.approx([i / 10 for i in range(len(levels))], abs=1e-3)
    assert [frame.image.mean() for frame in frames] == pytest.approx(levels, abs=4)
    assert all(frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8 for frame in frames)
    assert (source.live, source.fps, source.dropped, source.note) == (False, 10, 0, "")


def test_a_path_object_opens_like_its_text(tmp_path):
    path = write_video(tmp_path / "clip.avi", [grey(9)] * 3)
    assert len(list(open_source(path))) == 3


def test_a_video_cut_off_in_the_middle_ends_normally_and_is_reported(tmp_path):
    whole = write_video(tmp_path / "whole.avi", [grey(level) for level in range(0, 250, 5)]).read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) // 2])
    source = open_source(str(cut))
    delivered = len(list(source))
    assert 10 < delivered < 40
    assert f"ended after {delivered} of about 50 frames" in source.note


def test_a_video_that_is_stopped_early_is_not_reported_as_cut_off(tmp_path):
    source = open_source(str(write_video(tmp_path / "clip.avi", [grey(0)] * 20)))
    for frame in source:
        if frame.index == 3:
            source.stop()
    assert (frame.index, source.note) == (3, "")


def test_a_video_may_be_closed_while_another_thread_reads_it(tmp_path):
    """A second Ctrl-C does this. Without a lock OpenCV hangs now and then."""
    path = write_video(tmp_path / "clip.avi", [grey(90, 640, 480)] * 100)
    for number in range(30):
        source = open_source(path)
        reader = threading.Thread(target=lambda source=source: list(source), daemon=True)
        closer = threading.Thread(target=source.close, daemon=True)
        reader.start()
        time.sleep(number / 3000)
        closer.start()
        for thread in (reader, closer):
            thread.join(30)
            assert not thread.is_alive()


def test_a_video_whose_frames_change_size_gives_each_as_it_is_in_a_new_segment(tmp_path):
    path = tmp_path / "resized.mjpeg"
    path.write_bytes(b"".join([jpeg(50, 64, 48)] * 5 + [jpeg(200, 128, 96)] * 5))
    frames = list(open_source(str(path)))
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 5 + [(96, 128, 3)] * 5
    assert [frame.segment for frame in frames] == [0] * 5 + [1] * 5
    assert frames[-1].image.mean() == pytest.approx(200, abs=4)


def test_frames_of_ten_megapixels_pass(tmp_path):
    path = write_video(tmp_path / "large.avi", [grey(level, 3872, 2592) for level in (40, 90)])
    assert [frame.image.shape for frame in open_source(str(path))] == [(2592, 3872, 3)] * 2


def test_an_image_of_16_bit_grey_comes_as_a_frame_of_8_bit_colour(tmp_path):
    path = tmp_path / "grey16.png"
    cv2.imwrite(str(path), np.full((20, 30), 40_000, np.uint16))
    (frame,) = open_source(str(path))
    assert (frame.image.shape, frame.image.dtype, frame.name) == ((20, 30, 3), np.uint8, "grey16.png")
    assert np.all(frame.image == 40_000 >> 8)


def test_a_folder_gives_its_images_by_name_and_counts_the_unreadable_ones(tmp_path):
    (tmp_path / "b.jpg").write_bytes(jpeg(200))
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", grey(100))[1].tobytes())
    (tmp_path / "c.jpg").write_bytes(noise_jpeg()[:2000])
    (tmp_path / "d.jpg").write_bytes(b"")
    (tmp_path / "e.JPEG").write_bytes(jpeg(30))
    (tmp_path / "notes.txt").write_text("not an image", encoding="utf-8")
    (tmp_path / "._a.png").write_bytes(b"what a Mac leaves on a memory stick")
    with open_source(str(tmp_path)) as source:
        frames = list(source)
    assert [(frame.name, frame.index, frame.time) for frame in frames] == [
        ("a.png", 0, 0.0),
        ("b.jpg", 1, 1.0),
        ("e.JPEG", 4, 4.0),
    ]
    assert source.skipped == 2
    assert "skipped 2 of 5 images" in source.note
    assert "c.jpg" in source.note
    assert "cut off" in source.note
    assert "\n" not in source.note


def test_a_folder_is_read_with_its_sub_folders_and_frames_are_named_by_their_path_in_it(tmp_path):
    names = ["a/z.jpg", "a.jpg", "b/c/d.jpg", "b/e.jpg", "a-b.jpg"]
    for name in [*names, ".hidden/f.jpg", "b/.g.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(jpeg(100))
    (tmp_path / "b" / "notes.txt").write_text("not an image", encoding="utf-8")
    (tmp_path / "b" / "broken.jpg").symlink_to("nowhere.jpg")
    source = open_source(str(tmp_path))
    assert [frame.name for frame in source] == sorted(names, key=lambda name: name.split("/"))
    assert "1 file is no image and was skipped, the first is b/notes.txt" in source.note


def test_a_link_to_a_folder_above_ends_in_no_circle_and_a_link_to_a_picture_is_read(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.jpg").write_bytes(jpeg(100))
    (tmp_path / "b" / "above").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b" / "same.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "album").symlink_to(tmp_path, target_is_directory=True)
    assert [frame.name for frame in open_source(str(tmp_path))] == ["a.jpg", "b/same.jpg"]
    assert [frame.name for frame in open_source(str(tmp_path / "album"))] == ["a.jpg", "b/same.jpg"]


def test_a_folder_without_one_readable_image_is_an_error(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(SourceError, match=r"none of its images can be read; the first: .*a\.jpg.*0 bytes"):
        list(open_source(str(tmp_path)))


def bad_sources(folder: Path) -> dict[str, tuple[str, bytes | None, str]]:
    """The defect -> (file name, its content, a pattern of the message)."""
    video = write_video(folder / "whole.mp4", [grey(level) for level in range(0, 250, 5)]).read_bytes()
    return {
        "absent": ("nowhere.mp4", None, "no such file.*--source"),
        "an empty video": ("empty.mp4", b"", r"empty \(0 bytes\)"),
        "text named as a video": ("text.mp4", b"hello\n" * 50, "not a video that FFmpeg can play.*convert it"),
        "an MP4 without its end": ("cut.mp4", video[: len(video) // 2], "cut off.*copy it again"),
        "an empty image": ("empty.png", b"", r"empty \(0 bytes\)"),
        "text named as an image": ("text.png", b"hello\n" * 50, "not an image that OpenCV can decode"),
        "a cut-off JPEG": ("cut.jpg", noise_jpeg()[:2000], "cut off.*copy the file again"),
        "a file of no known kind": ("data.dat", bytes(range(256)) * 20, "not a video that FFmpeg can play"),
    }


@pytest.mark.parametrize(
    "defect",
    [
        "absent",
        "an empty video",
        "text named as a video",
        "an MP4 without its end",
        "an empty image",
        "text named as an image",
        "a cut-off JPEG",
        "a file of no known kind",
    ],
)
def test_a_bad_file_is_refused_in_one_line_with_a_remedy(tmp_path, defect):
    name, content, message = bad_sources(tmp_path)[defect]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        open_source(str(path))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_source_that_does_not_open_prints_nothing_besides_its_error(tmp_path):
    """In a process of its own, since FFmpeg reads its log level only once."""
    name, content, _ = bad_sources(tmp_path)["an MP4 without its end"]
    (tmp_path / name).write_bytes(content)
    specs = [str(tmp_path / name), "97", "rtsp://user:secret@127.0.0.1:9/cam", "http://user:secret@127.0.0.1:9/"]
    program = textwrap.dedent(
        f"""
        from iern.runtime.sources.open_source import open_source
        from iern.runtime.errors import SourceError
        for spec in {specs}:
            try:
                open_source(spec)
            except SourceError:
                print("refused")
        """
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert (result.stdout, result.stderr) == ("refused\n" * 4, "")


def test_a_folder_without_images_is_refused_with_the_formats_it_could_hold(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"no images among its 1 files; expected .*\.jpg"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("spec", [97, "97", "/dev/video97", "200", "99999999999999999999"])
def test_an_absent_camera_is_refused_with_the_list_of_those_that_exist(spec):
    with pytest.raises(SourceError, match=r"not found.*--source") as caught:
        open_source(spec)
    assert str(spec) in str(caught.value)
    if sys.platform == "linux":
        present = [str(path) for path in Path("/dev").glob("video*")]
        assert all(path in str(caught.value) for path in present or ["there is no /dev/video*"])


def test_an_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(SourceError, match=r"'gopher'; expected rtsp, .*http"):
        open_source("gopher://user:secret@host/x")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://host:554/stream", "rtsp://host:554/stream"),
        ("rtsp://user:secret@host/stream", "rtsp://host/stream"),
        ("rtsp://user:se/cr@et#x@host/stream", "rtsp://host/stream"),
        ("http://host/video?user=admin&pwd=secret", "http://host/video"),
        ("http://host/video#secret", "http://host/video"),
        ("rtsp://host/user=admin&password=secret&channel=1/live", "rtsp://host/.../live"),
        ("rtsp://secret@host", "rtsp://host"),
        ("http://host/video?token=a@secret", "http://..."),
        ("rtsp://user:sec?ret@host/stream", "rtsp://..."),
    ],
)
def test_credentials_are_removed_from_a_url(url, shown):
    assert without_credentials(url) == shown


@pytest.mark.parametrize(
    "spec",
    [
        "user:secret@host/stream",
        "rtsp:/user:secret@host/stream",
        "rtsp//user:se/secret@host",
        "user:pw@host/x?token=secret",
        "user:pw@host/key=secret/x?user=me",
        "user:pw@host/x?y#secret",
    ],
)
def test_a_mistyped_url_is_refused_without_its_password_or_token(spec):
    with pytest.raises(SourceError, match=r"^\.\.\.host.*: no such file.*--source") as caught:
        open_source(spec)
    assert "secret" not in str(caught.value)


def test_a_file_name_with_a_question_mark_is_shown_up_to_it():
    with pytest.raises(SourceError, match=r"^what: no such file"):
        open_source("what?.mp4")


def test_a_stream_that_is_lost_ends_with_an_error_that_has_its_name_without_the_password():
    with mjpeg_server([grey(level) for level in range(0, 200, 10)], pause=0.01) as address:
        settings = SourceSettings(timeouts=LiveTimeouts(give_up=0))
        source = open_source(f"http://user:secret@{address}/cam?token=secret", settings)
        frames = []
        with pytest.raises(SourceError, match="lost after 20 frames") as caught:
            frames.extend(source)  # the frames before the error stay in the list
        source.close()
    assert frames[-1].index == 19
    assert source.live
    assert source.name == f"http://{address}/cam"
    assert "secret" not in str(caught.value)


def test_a_slow_reader_of_a_stream_gets_the_latest_frame_and_dropped_ones_are_counted():
    levels = range(0, 250, 5)
    with (
        mjpeg_server([grey(level) for level in levels], pause=0.02, then="hang") as address,
        open_source(f"http://{address}/cam") as source,
    ):
        seen = []
        for frame in source:
            age = time.monotonic() - frame.captured
            seen.append((frame.index, age, float(frame.image.mean())))
            if frame.index >= 40:
                break
            time.sleep(0.2)  # ten frames arrive in that time
    indices = [index for index, _, _ in seen]
    assert len(seen) <= 10
    assert source.dropped >= indices[-1] - len(seen)
    assert max(age for _, age, _ in seen) < 0.5, "a queue would show old frames"
    assert [level for _, _, level in seen] == pytest.approx([levels[index] for index in indices], abs=4)
    assert all(a < b for a, b in itertools.pairwise(indices))


def test_stop_wakes_a_reader_that_waits_for_a_stream_without_frames(monkeypatch):
    monkeypatch.setattr(streams, "READ_TIMEOUT_MS", 3000)  # `close` waits for it
    with (
        mjpeg_server([grey(9)] * 3, pause=0.01, then="hang") as address,
        open_source(f"http://{address}/cam") as source,
    ):
        threading.Timer(0.4, source.stop).start()
        start = time.monotonic()
        list(source)
        assert 0.3 < time.monotonic() - start < 1.5


def test_python_ends_only_after_the_reading_thread_of_a_source_that_was_not_closed():
    """Otherwise the process aborts now and then."""
    with mjpeg_server([grey(9)] * 3, pause=0.01, then="hang") as address:
        program = textwrap.dedent(
            f"""
            import atexit, threading
            atexit.register(lambda: print([thread.name for thread in threading.enumerate()]))  # the last to run
            from iern.runtime.sources import open_source as capture
            from iern.runtime.sources import streams
            streams.READ_TIMEOUT_MS = 1000
            print(next(iter(capture.open_source("http://{address}/cam"))).name)
            """
        )
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    expected = f"http://{address}/cam\n['MainThread']\n"
    assert (result.returncode, result.stdout, result.stderr) == (0, expected, "")


def test_closing_a_stream_ends_its_thread():
    with mjpeg_server([grey(9)] * 200, pause=0.01) as address:
        before = threading.active_count()
        source = open_source(f"http://{address}/cam")
        name = source.name
        assert any(thread.name == name for thread in threading.enumerate())
        source.close()
        source.close()
        assert not any(thread.name == name for thread in threading.enumerate())
        assert threading.active_count() <= before + 1  # the server's own for this client


def test_a_server_that_never_answers_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr(streams, "OPEN_TIMEOUT_MS", 500)
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        with pytest.raises(SourceError, match=r"no frame within 0\.5 s") as caught:
            open_source(f"rtsp://user:secret@127.0.0.1:{server.getsockname()[1]}/cam")
        assert time.monotonic() - start < 3
    assert "secret" not in str(caught.value)


def test_a_refused_connection_is_an_error_with_a_remedy():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SourceError, match="check the address, user and password"):
        open_source(f"http://127.0.0.1:{port}/cam")


def test_a_video_on_a_web_server_gives_every_frame_and_ends(tmp_path):
    write_video(tmp_path / "clip.avi", [grey(level) for level in range(0, 200, 10)])

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    indices = []
    with (
        serving(functools.partial(Quiet, directory=str(tmp_path))) as address,
        open_source(f"http://{address}/clip.avi") as source,
    ):
        for frame in source:
            indices.append(frame.index)
            time.sleep(0.01)
    assert indices == list(range(20))
    assert not source.live


@pytest.mark.parametrize("own", [None, "rtsp_transport;udp"])
def test_the_environment_is_unchanged_after_a_stream_is_opened(monkeypatch, own):
    key = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    monkeypatch.delenv(key, raising=False)
    if own:
        monkeypatch.setenv(key, own)
    with mjpeg_server([grey(9)] * 3, pause=0.01) as address:
        open_source(f"http://{address}/cam").close()
    assert os.environ.get(key) == own


def test_images_of_different_sizes_in_a_folder_keep_their_sizes_each_in_its_own_segment(tmp_path):
    sizes = [(321, 241), (1, 1), (1, 1), (4096, 17)]
    for index, (width, height) in enumerate(sizes):
        cv2.imwrite(str(tmp_path / f"{index}.png"), grey(100, width, height))
    frames = list(open_source(tmp_path))
    assert [frame.image.shape[1::-1] for frame in frames] == sizes
    assert [frame.segment for frame in frames] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("positions", "times", "segments"),
    [
        ([0, 100, 200, 300], [0, 0.1, 0.2, 0.3], [0, 0, 0, 0]),
        ([0, 100, 90, 200], [0, 0.1, 0.1, 0.2], [0, 0, 0, 0]),
        ([90_000, 90_100, 10, 110], [90, 90.1, 90.1 + 1 / 30, 90.2 + 1 / 30], [0, 0, 1, 1]),
        ([100, 200, 7_200_000, 7_200_100], [0.1, 0.2, 0.2 + 1 / 30, 0.3 + 1 / 30], [0, 0, 1, 1]),
    ],
    ids=["steady", "a little back", "set back", "hours ahead"],
)
def test_a_video_whose_clock_jumps_continues_in_a_new_segment(positions, times, segments):
    capture = ScriptedCapture(noise(4), positions=positions)
    opened = read_first_frame(capture)
    assert opened
    frames = list(VideoFile(opened, "clip"))
    assert [frame.time for frame in frames] == pytest.approx(times)
    assert [frame.segment for frame in frames] == segments


@pytest.mark.parametrize("stated", [0.0, 90_000.0, 1e6, math.nan, math.inf, -25.0])
@pytest.mark.parametrize("own", [True, False])
def test_an_impossible_rate_is_ignored_and_a_plausible_clock_is_used(stated, own):
    clock = [0, 50, 100, 150] if own else [0, 0, 0, 0]
    opened = read_first_frame(ScriptedCapture(noise(4), positions=clock, fps=stated))
    assert opened
    source = VideoFile(opened, "clip")
    assert source.fps == 25
    assert [frame.time for frame in source] == pytest.approx([index / (20 if own else 25) for index in range(4)])


def test_a_video_that_counts_its_frames_at_90_000_a_second_is_played_and_recorded_at_a_usual_rate(tmp_path):
    """The rate of an AVI is 20 bytes into the content of its `strh`, after its scale."""
    whole = write_video(tmp_path / "clip.avi", [grey(20 * level) for level in range(10)]).read_bytes()
    at = whole.index(b"strh") + 8 + 20
    (tmp_path / "impossible.avi").write_bytes(whole[:at] + struct.pack("<II", 1, 90_000) + whole[at + 8 :])
    assert cv2.VideoCapture(str(tmp_path / "impossible.avi")).get(cv2.CAP_PROP_FPS) == 90_000
    with open_source(tmp_path / "impossible.avi") as source, recording(tmp_path / "out.webm", source.fps) as write:
        for frame in source:
            write(dataclasses.replace(grey_result(0), frame=frame))
    assert times(tmp_path / "out.webm") == pytest.approx([index / 25 for index in range(10)], abs=0.002)


def test_a_file_whose_decoder_fails_ends_and_the_cause_is_reported():
    capture = ScriptedCapture([*noise(3), cv2.error("OpenCV: bad slice"), *noise(3)])
    opened = read_first_frame(capture)
    assert opened
    with VideoFile(opened, "clip") as source:
        assert len(list(source)) == 3
        assert source.state == "ended"
    assert source.note == "clip: ended after 3 frames: the decoder failed (error: OpenCV: bad slice)"


def test_the_details_of_a_file_name_the_library_that_reads_it(tmp_path):
    with open_source(write_video(tmp_path / "clip.avi", [grey(9)] * 3)) as source:
        assert source.details == "64x48, 10 fps, MJPG, read by FFmpeg"
        assert source.state == "live"
    assert source.state == "ended"
