"""Files are complete or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
import textwrap

import pytest

from iern.runtime.errors import OutputError
from iern.runtime.system.files import atomic_path, cache_folder, sha256, write_errors, write_text


def test_a_block_without_an_exception_replaces_the_older_file_and_leaves_no_other(tmp_path):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".onnx"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("older", [None, b"old"])
def test_a_block_with_an_exception_leaves_the_older_file_and_no_partial_one(tmp_path, error, older):
    target = tmp_path / "model.onnx"
    if older:
        target.write_bytes(older)
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([older] if older else [])


def test_a_killed_process_leaves_the_older_file_whole(tmp_path):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    code = """
        import os, signal, sys
        from iern.runtime.system.files import atomic_path
        with atomic_path(sys.argv[1]) as temporary:
            temporary.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(target)], check=False)
    assert done.returncode != 0
    assert target.read_bytes() == b"old"


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    target = tmp_path / "model.onnx"
    with atomic_path(target) as first, atomic_path(target) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert target.read_bytes() == b"first", "the one that ended last"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space or choose another place"),
        (errno.EDQUOT, "free some space or choose another place"),
        (errno.EACCES, "choose another place"),
    ],
)
def test_a_write_that_fails_is_one_error_with_the_file_and_the_remedy(tmp_path, number, remedy):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with pytest.raises(OutputError) as failure, atomic_path(target):
        raise OSError(number, os.strerror(number))
    reason = f"cannot be written ({os.strerror(number)}); {remedy}"
    assert str(failure.value) == f"{target}: {reason}; an older file is unchanged"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such-input"), atomic_path(tmp_path / "out" / "a.json"):
        (tmp_path / "no-such-input").read_bytes()
    with pytest.raises(OutputError, match=r"set: cannot be written"), write_errors(tmp_path / "set"):
        raise PermissionError(errno.EACCES, "no", str(tmp_path))


@pytest.mark.skipif(os.name != "posix", reason="FIFOs are POSIX's")
def test_a_folder_a_fifo_or_a_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to(os.devnull)
    for name in ("fifo", "folder", "device"):
        with pytest.raises(OutputError, match=f"{name}: is not a file, and would be replaced by one"):
            write_text(tmp_path / name, "{}")
    assert (tmp_path / "fifo").is_fifo()
    assert (tmp_path / "device").is_symlink()


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "report.json", "{}")
    assert (tmp_path / "a" / "b" / "report.json").read_text(encoding="utf-8") == "{}"


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_file_gets_the_permissions_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "atomic", "")
        with open(tmp_path / "plain", "w", encoding="utf-8"):
            pass
        assert os.umask(umask) == umask  # and the process keeps its own
    finally:
        os.umask(before)
    atomic, plain = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("atomic", "plain"))
    assert atomic == plain


def test_text_is_utf_8_under_a_locale_that_is_not(tmp_path):
    target = tmp_path / "names.txt"
    text = "Überraschung 怒り"
    code = f"import sys; from iern.runtime.system.files import write_text; write_text(sys.argv[1], {text!a})"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, str(target)], check=True, env=environment)
    assert target.read_bytes() == text.encode()


def test_the_checksum_is_sha256_of_all_bytes(tmp_path):
    data = os.urandom((1 << 20) + 17)  # more than one block
    (tmp_path / "data").write_bytes(data)
    assert sha256(tmp_path / "data") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("system", "folder"),
    [
        ("linux", ".cache/iern"),
        ("freebsd14", ".cache/iern"),
        ("darwin", "Library/Caches/iern"),
        ("win32", "AppData/Local/iern"),
    ],
)
def test_the_cache_is_where_the_system_keeps_such_files_unless_another_place_is_chosen(
    tmp_path, monkeypatch, system, folder
):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == tmp_path / folder
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "chosen"))
    assert cache_folder() == tmp_path / "chosen" / "iern"
