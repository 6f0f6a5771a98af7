"""Records in a pipe: the standard output has nothing else, and a reader that stops reading does not hold up the end."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.webcam import main

SMALL_PIPE = 4096
"""Bytes."""


@pytest.fixture
def arguments(model) -> list[str]:
    return ["--headless", "--source", str(DEMO_CLIP), "--model", model]


@pytest.mark.parametrize("option", ["--jsonl", "--csv"])
def test_the_standard_output_has_the_records_and_everything_else_is_on_stderr(tmp_path, capfd, arguments, option):
    still = tmp_path / "out.png"
    assert main([*arguments, "--max-frames", "3", "--still", str(still), option, "-"]) == 0
    printed, error = capfd.readouterr()
    lines = printed.splitlines()
    if option == "--jsonl":
        assert [json.loads(line)["frame"] for line in lines] == [0, 1, 2]
    else:
        assert {row["frame"] for row in csv.DictReader(lines, strict=True)} == {"0", "1", "2"}
    assert "demo.mp4 -> " in error
    assert "3 frames, " in error
    assert f"wrote {still}" in error
    assert "wrote /dev/stdout" not in error


def test_only_one_kind_of_records_can_be_the_standard_output(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--jsonl", "-", "--csv", "-"])
    assert left.value.code == 2
    assert "only one of them can be the standard output" in capsys.readouterr().err


def test_a_fifo_without_a_reader_is_an_error_of_one_line(tmp_path, capsys, arguments):
    fifo = tmp_path / "out.jsonl"
    os.mkfifo(fifo)
    assert main([*arguments, "--jsonl", str(fifo)]) == 1
    assert capsys.readouterr().err == f"error: {fifo}: no program reads this FIFO; start the reader first\n"


@pytest.mark.skipif(sys.platform != "linux", reason="changes the size of a pipe")
def test_sigterm_ends_a_loop_whose_reader_has_stopped_reading(tmp_path, arguments):
    fifo = tmp_path / "out.jsonl"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, SMALL_PIPE)
    command = [sys.executable, "-m", "iern.runtime.webcam", *arguments, "--jsonl", str(fifo)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")
    try:
        deadline = time.monotonic() + 60
        while not waiting(reader) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)  # more records than the pipe takes
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=30)
    finally:
        process.kill()
        os.close(reader)
    assert process.returncode == 1
    assert f"error: {fifo}: cannot be written (its reader has stopped reading)" in error


def waiting(reader: int) -> int:
    """The bytes that a pipe holds."""
    return struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, bytes(4)))[0]


def test_a_second_loop_that_would_write_the_same_records_or_recording_is_refused(tmp_path, capsys, arguments):
    """The first program is a lock on the file, as the loop itself takes it."""
    for option, path in (("--jsonl", tmp_path / "out.jsonl"), ("--record", tmp_path / "out.webm")):
        path.write_bytes(b"the first program's")
        with open(path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert main([*arguments, "--max-frames", "1", option, str(path)]) == 1
        assert f"error: {path}: another program is writing to it" in capsys.readouterr().err
        assert Path(path).read_bytes() == b"the first program's"
