"""A file that grows: whole after each append, used by one program at a time, and never a reason to wait for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from iern.runtime.errors import OutputError
from iern.runtime.system import append_only_file
from iern.runtime.system.append_only_file import AppendOnlyFile, refuse_if_in_use

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="FIFOs and locks are POSIX's")


def closing(path: Path, data: bytes) -> None:
    file = AppendOnlyFile(path)
    file.append(data)
    file.close()


@pytest.fixture
def fifo(tmp_path) -> Path:
    os.mkfifo(tmp_path / "out.jsonl")
    return tmp_path / "out.jsonl"


def test_a_fifo_without_a_reader_is_an_error_at_once(fifo):
    with pytest.raises(OutputError, match=r"out.jsonl: no program reads this FIFO; start the reader first"):
        AppendOnlyFile(fifo)
    assert fifo.is_fifo()


def test_a_reader_of_a_fifo_gets_every_byte_also_if_it_is_slow(fifo):
    data = os.urandom(300_000)  # several times what a pipe holds
    got = []

    def read() -> None:
        with open(fifo, "rb", buffering=0) as file:
            while block := file.read(10_000):
                got.append(block)
                time.sleep(0.001)

    reader = threading.Thread(target=read)
    reader.start()
    deadline = time.monotonic() + 30
    while True:
        try:
            file = AppendOnlyFile(fifo)
            break
        except OutputError:  # the reader has not opened it yet
            assert time.monotonic() < deadline
            time.sleep(0.01)
    for start in range(0, len(data), 100_000):
        assert file.append(data[start : start + 100_000]) == start
    file.close()
    reader.join()
    assert b"".join(got) == data


def test_after_an_interruption_a_reader_that_does_not_read_is_not_waited_for_long(fifo, monkeypatch):
    monkeypatch.setattr(append_only_file, "PATIENCE_MS", 200)
    interrupted = threading.Event()
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    file = AppendOnlyFile(fifo, interrupted.is_set)
    interrupting = threading.Timer(0.3, interrupted.set)
    interrupting.start()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="its reader has stopped reading") as failure:
        file.append(bytes(1_000_000))
    assert time.monotonic() - began >= 0.5, "until then it is waited for"
    assert failure.value.filename == str(fifo)
    file.close()
    os.close(reader)


def test_a_second_writer_of_a_file_is_refused_until_the_first_has_closed_it(tmp_path):
    path = tmp_path / "out.jsonl"
    first = AppendOnlyFile(path)
    first.append(b"first\n")
    program = "import sys; from pathlib import Path; from iern.runtime.system.append_only_file import AppendOnlyFile"
    command = [sys.executable, "-c", f"{program}; AppendOnlyFile(Path(sys.argv[1]))", str(path)]
    second = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert f"OutputError: {path}: another program is writing to it; stop that program" in second.stderr
    for refused in (AppendOnlyFile, refuse_if_in_use):
        with pytest.raises(OutputError, match="another program is writing"):
            refused(path)
    assert path.read_bytes() == b"first\n", "the refused ones have emptied it"
    first.close()
    refuse_if_in_use(path)
    closing(path, b"next\n")
    assert path.read_bytes() == b"next\n"


def test_devices_may_be_written_by_many():
    files = [AppendOnlyFile(Path(os.devnull)) for _ in range(2)]
    for file in files:
        file.append(b"x")
        file.close()


def test_a_write_that_fails_names_the_file_and_leaves_whole_appends(tmp_path):
    """In a process of its own a limit on the size of files makes writes fail, as a full disk does.

    The last file is the standard output, to which a shell had written before.
    """
    program = """
        import resource, sys
        from pathlib import Path
        from iern.runtime.system.append_only_file import STDOUT, AppendOnlyFile
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        for path in (Path(sys.argv[1]), STDOUT):
            file = AppendOnlyFile(path)
            try:
                for _ in range(1000):
                    file.append(b"x" * 99 + bytes([10]))
            except OSError as error:
                print(error.filename, error.strerror, file=sys.stderr)
            file.close()
    """
    path, printed = tmp_path / "out.jsonl", tmp_path / "printed"
    printed.write_bytes(b"before\n")
    with open(printed, "ab") as output:
        command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, check=True)
    assert done.stderr.decode() == f"{path} File too large\n/dev/stdout File too large\n"
    assert path.read_bytes() == 100 * (99 * b"x" + b"\n")
    assert printed.read_bytes() == b"before\n" + 99 * (99 * b"x" + b"\n")
