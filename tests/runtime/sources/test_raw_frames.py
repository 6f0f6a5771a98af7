"""Frames from a pipe: all whole ones are delivered, a partial one is reported, and nothing blocks for ever."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from iern.runtime.errors import SourceError
from iern.runtime.sources.open_source import open_source
from iern.runtime.sources.raw_frames import RawFrames, as_image
from iern.runtime.sources.settings import RawFormat, parse_raw_format

SMALL = RawFormat(5, 3)


@contextlib.contextmanager
def pipe(data: bytes, size: int = 7) -> Iterator[int]:
    """The reading end of a pipe. Another thread writes into it, in parts of `size` bytes that do not fit a frame."""
    reading, writing = os.pipe()

    def write() -> None:
        for start in range(0, len(data), size):
            os.write(writing, data[start : start + size])
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield reading
    finally:
        thread.join()
        os.close(reading)


def random_frames(count: int, layout: RawFormat = SMALL) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, layout.height, layout.width, 3), dtype=np.uint8)


def test_every_frame_comes_whole_with_its_time_by_the_stated_rate():
    images = random_frames(6)
    with pipe(images.tobytes()) as descriptor:
        source = RawFrames(descriptor, SMALL, fps=10)
        frames = list(source)
    assert np.array_equal([frame.image for frame in frames], images)
    assert [frame.time for frame in frames] == pytest.approx([i / 10 for i in range(6)])
    assert (source.note, source.live, source.state, source.details) == ("", False, "ended", "5x3 bgr24, 10 fps")
    assert frames[0].image.flags.writeable


def test_a_length_that_is_no_number_of_frames_is_an_error_after_the_whole_ones():
    frames = []
    with pipe(random_frames(3).tobytes()[:-4]) as descriptor, pytest.raises(SourceError) as caught:
        frames.extend(RawFrames(descriptor, SMALL, None))
    assert len(frames) == 2
    assert "in the middle of a frame, after 2 whole frames (41 of 45 bytes)" in str(caught.value)
    assert "shift all frames" in str(caught.value)


def test_a_programs_words_among_the_pixels_are_refused_before_they_shift_a_frame():
    words = b"Setting pipeline to PAUSED ...\nPipeline is live and does not need PREROLL ...\n"
    layout = RawFormat(64, 48)
    with pipe(words + random_frames(3, layout).tobytes(), size=4096) as descriptor:
        with pytest.raises(SourceError, match=r"begins with text .*'Setting pipeline.*fdsink fd=3 3>&1 1>&2"):
            list(RawFrames(descriptor, layout, None))
        while os.read(descriptor, 4096):
            pass


@pytest.mark.parametrize("levels", [[10], [32], [65], [126], [110, 10], [80, 81, 82, 83, 84, 85, 86, 10], [97, 32, 10]])
def test_pixels_that_happen_to_be_printable_are_no_text(levels):
    with pipe((bytes(levels) * 2 * SMALL.size)[: 2 * SMALL.size]) as descriptor:
        assert len(list(RawFrames(descriptor, SMALL, None))) == 2


@pytest.mark.parametrize("data", [b"", b"too short"])
def test_an_end_before_the_first_frame_is_an_error(data):
    with pipe(data) as descriptor, pytest.raises(SourceError, match=r"before the first frame .*--stdin-format"):
        list(RawFrames(descriptor, SMALL, None))


def test_stop_wakes_a_reader_of_a_silent_pipe():
    reading, writing = os.pipe()
    source = RawFrames(reading, SMALL, None)
    threading.Timer(0.3, source.stop).start()
    start = time.monotonic()
    assert list(source) == []
    assert time.monotonic() - start < 30
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("pixels", "data", "blue_green_red"),
    [
        ("bgr24", bytes([1, 2, 3]), [1, 2, 3]),
        ("rgb24", bytes([1, 2, 3]), [3, 2, 1]),
        ("bgra", bytes([1, 2, 3, 255]), [1, 2, 3]),
        ("gray", bytes([7]), [7, 7, 7]),
    ],
)
def test_the_pixel_layouts_become_blue_green_red(pixels, data, blue_green_red):
    layout = parse_raw_format(f"1x1:{pixels}")
    assert layout.size == len(data)
    assert as_image(data, layout).tolist() == [[blue_green_red]]


def test_a_terminal_is_refused_with_a_command_that_works():
    owner, terminal = pty.openpty()
    with pytest.raises(SourceError, match=r"a terminal; pipe frames .*-pix_fmt bgr24 -s 5x3 -"):
        RawFrames(terminal, SMALL, None)
    os.close(owner)
    os.close(terminal)


def test_stdin_without_a_format_is_refused():
    with pytest.raises(SourceError, match="--stdin-format 640x480:bgr24"):
        open_source("-")


@pytest.mark.parametrize("text", ["640x480", "640x480:h264", "x480:bgr24", "0x5:gray", "640*480:gray", ":bgr24"])
def test_a_format_that_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match="expected WIDTHxHEIGHT"):
        parse_raw_format(text)


def test_a_real_process_reads_its_stdin():
    program = textwrap.dedent(
        """
        from iern.runtime.errors import SourceError
        from iern.runtime.sources.open_source import open_source
        from iern.runtime.sources.settings import RawFormat, SourceSettings
        source = open_source("-", SourceSettings(stdin_format=RawFormat(64, 48), fps=5))
        try:
            for frame in source:
                print(frame.time, int(frame.image[0, 0, 0]))
        except SourceError as error:
            print(error)
        """
    )
    data = b"".join(bytes([level]) * (64 * 48 * 3) for level in (10, 20, 30)) + b"half"
    result = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, check=True)
    assert result.stdout.decode().startswith("0.0 10\n0.2 20\n0.4 30\nstdin: ended in the middle of a frame")
