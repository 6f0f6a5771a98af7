"""The command that writes rendered heads, on a made face model."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from doubles.face_kit import write_face_kit
from iern.runtime.imaging.images import read_image
from iern.train.data.manifest import load_data
from iern.train.render import main
from iern.train.rendered.expressions import EXPRESSIONS, shape_names
from iern.train.rendered.picture import SIZE
from repository import ROOT

COMMAND = ROOT / "train" / "render.py"


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return write_face_kit(tmp_path_factory.mktemp("kit") / "ICT-FaceKit", shape_names())


def children_of(process):
    return Path(f"/proc/{process}/task/{process}/children")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_set_is_the_same_for_any_number_of_processes_and_training_reads_it(kit, tmp_path, capsys):
    sets = {}
    for workers in (1, 2):
        out = tmp_path / f"by_{workers}"
        assert main([str(kit), "--out", str(out), "--count", "3", "--seed", "4", "--workers", str(workers)]) == 0
        sets[workers] = contents(out)
        assert f"21 pictures of 2 people in {out}: 21 train" in capsys.readouterr().out
    assert sets[1] == sets[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["by_1", "by_2"]
    data = load_data(tmp_path / "by_1", EXPRESSIONS)
    assert len(data.records) == 21 and list(data.strata) == ["rendered"]
    with open(tmp_path / "by_1" / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["subject"] for row in rows} == {"rendered000000", "rendered000001"}
    pictures = [read_image(tmp_path / "by_1" / row["path"]) for row in rows]
    assert {picture.shape for picture in pictures} == {(SIZE, SIZE, 3)}
    assert len({picture.tobytes() for picture in pictures}) == 21


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_nothing_and_no_process(kit, tmp_path, number):
    out = tmp_path / "set"
    arguments = [sys.executable, str(COMMAND), str(kit), "--out", str(out), "--count", "1000", "--workers", "2"]
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", start_new_session=True
    )
    signal.signal(signal.SIGINT, inherited)
    try:
        wait_until(lambda: list(tmp_path.rglob("*.jpg")) or process.poll() is not None)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # a terminal sends it to every process
        else:
            process.send_signal(number)
        _, errors = process.communicate(timeout=120)
        wait_until(lambda: not group_is_alive(process.pid))
    finally:
        if group_is_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def group_is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_kit_without_a_face_to_be_seen_is_given_up(tmp_path, capfd):
    tiny = write_face_kit(tmp_path / "kit", shape_names(), scale=1e-4)
    assert main([str(tiny), "--out", str(tmp_path / "set"), "--count", "1", "--workers", "1"]) == 1
    message = capfd.readouterr().err
    assert "no face was found in 20 pictures of rendered000000 with anger" in message and "Traceback" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["kit"]


@pytest.mark.slow
@pytest.mark.skipif(not children_of(os.getpid()).is_file(), reason="Linux lists the children of a process")
def test_a_process_that_is_killed_is_one_line_and_leaves_nothing(kit, tmp_path):
    arguments = [sys.executable, str(COMMAND), str(kit), "--out", str(tmp_path / "set"), "--workers", "1"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, encoding="utf-8") as process:
        wait_until(lambda: list(tmp_path.rglob("*.jpg")) or process.poll() is not None)
        children = children_of(process.pid).read_text(encoding="utf-8").split()
        commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
        (worker,) = (int(child) for child, command in commands.items() if b"spawn_main" in command)
        os.kill(worker, signal.SIGKILL)
        errors = process.stderr.read()
    assert process.returncode == 1
    assert "one of 1 processes was killed" in errors and "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for name, message in (("set", "holds files already; give a new or empty folder"), ("file", "is a file")):
        assert main([str(tmp_path / "no_kit"), "--out", str(tmp_path / name)]) == 1
        assert message in capsys.readouterr().err
    assert contents(tmp_path) == {"set/notes.txt": b"mine", "file": b"mine"}


def test_a_missing_kit_is_one_line_with_where_to_find_it_and_nothing_is_written(tmp_path, capsys):
    assert main([str(tmp_path / "no_kit"), "--out", str(tmp_path / "set")]) == 1
    message = capsys.readouterr().err
    assert "generic_neutral_mesh.obj: cannot be read" in message and "github.com/USC-ICT/ICT-FaceKit" in message
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_the_kit_is_not_written_over(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "--out would overwrite KIT" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--count", "0"], ["--seed", "-1"], ["--seed", "x"], ["--workers", "0"]])
def test_impossible_numbers_are_wrong_usage(tmp_path, arguments):
    with pytest.raises(SystemExit) as exit_:
        main([str(tmp_path), "--out", str(tmp_path / "set"), *arguments])
    assert exit_.value.code == 2
