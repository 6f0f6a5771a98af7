"""The command opens nothing if an output would overwrite an input or another output, or lacks its packages."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from iern.runtime.app import loop
from iern.runtime.bundled import DEMO_CLIP, MODEL
from iern.runtime.webcam import main
from repository import PHOTOS


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with inputs, in which the command runs; opening a model or a source there is an error of the test."""

    def opened(*_: object) -> None:
        raise AssertionError("the command opened a model or a source")

    monkeypatch.setattr(loop, "_open_model", opened)
    monkeypatch.setattr(loop, "_open_source", opened)
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEMO_CLIP, tmp_path / "clip.mp4")
    shutil.copy(MODEL, tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    shutil.copy(PHOTOS / "astronaut.jpg", tmp_path / "photos" / "a.jpg")
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "a.jpg").write_bytes(b"another picture")
    (tmp_path / "photo.jpg").symlink_to("photos/a.jpg")
    (tmp_path / "link.mp4").symlink_to("clip.mp4")
    os.link("clip.mp4", "same.mp4")
    shutil.copy(DEMO_CLIP, tmp_path / "out-001.mp4")
    for name in ("office.engine", "office.engine.json"):
        (tmp_path / name).write_bytes(b"an engine")
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--source clip.mp4 --record clip.mp4", "--record would overwrite --source"),
        ("--source clip.mp4 --record link.mp4", "--record would overwrite --source (clip.mp4)"),
        ("--source clip.mp4 --record same.mp4", "--record would overwrite --source (clip.mp4)"),
        ("--source out-001.mp4 --record out.mp4", "--record would overwrite --source"),
        ("--source 0 --serve 0 --allow-source clip.mp4 --record link.mp4", "--record would overwrite --allow-source"),
        ("--source clip.mp4 --jsonl photos/../clip.mp4", "--jsonl would overwrite --source"),
        ("--source clip.mp4 --csv clip.mp4", "--csv would overwrite --source"),
        ("--source clip.mp4 --model model.onnx --jsonl model.onnx", "--jsonl would overwrite --model"),
        ("--source clip.mp4 --model office.engine --csv office.engine.json", "--csv would overwrite --model"),
        (f"--source clip.mp4 --jsonl {DEMO_CLIP}", "--jsonl would overwrite the bundled clip"),
        ("--source photo.jpg --still photo.jpg", "--still would overwrite --source"),
        ("--source photo.jpg --still photos/a.jpg", "--still would overwrite --source (photo.jpg)"),
        ("--source photos --still photos/a.jpg", "--still would overwrite --source"),
        ("--source photos --annotate photos", "--annotate would overwrite --source"),
        ("--source photo.jpg --annotate .", "--annotate would overwrite --source"),
        ("--source photos --annotate photos/annotated", "would write into --source"),
        ("--source photos --annotate clip.mp4", "writes into a folder, and this is a file"),
        ("--source photos --annotate older", "a.jpg: exists, and --annotate replaces no picture"),
        ("--source photos --annotate out --still out/a.jpg", "--still and --annotate would write the same file"),
        ("--source clip.mp4 --jsonl o.txt --csv o.txt", "--jsonl and --csv would write the same file"),
        ("--source clip.mp4 --summary o.html --csv o.html", "--csv and --summary would write the same file"),
        ("--source clip.mp4 --summary o.html --jsonl ./o.html", "--jsonl and --summary would write the same file"),
        ("--source clip.mp4 --still o.png --jsonl o.png", "--still and --jsonl would write the same file"),
        ("--source clip.mp4 --record o.mp4 --csv o.mp4", "--record and --csv would write the same file"),
    ],
)
def test_an_output_that_is_an_input_or_another_output_is_refused_and_nothing_is_opened(folder, capfd, arguments, names):
    before = contents(folder)
    assert main(["--headless", *arguments.split()]) == 1
    printed, error = capfd.readouterr()
    assert printed == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert names in error
    assert contents(folder) == before


def test_a_demo_that_would_write_over_its_own_clip_is_refused(tmp_path, monkeypatch, capfd):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    clip = tmp_path / "demo_output" / "annotated.webm"
    clip.parent.mkdir()
    shutil.copy(DEMO_CLIP, clip)
    assert main(["--demo", "--source", str(clip)]) == 1
    assert "--record would overwrite --source" in capfd.readouterr().err
    assert clip.read_bytes() == DEMO_CLIP.read_bytes()


def test_records_over_what_the_loop_prints_are_refused(folder, capfd):
    """pytest has put a file in place of the standard output."""
    if not Path("/dev/stdout").is_file():
        pytest.skip("run with pytest's own capturing")
    assert main(["--headless", "--source", "clip.mp4", "--jsonl", "/dev/fd/1"]) == 1
    assert "--jsonl and what the loop prints would write the same file" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("module", "option", "value"),
    [
        ("aiohttp", "--serve", "0"),
        ("prometheus_client", "--serve", "0"),
        ("paho.mqtt.client", "--mqtt", "mqtt://host/topic"),
    ],
)
def test_a_missing_package_of_an_output_is_reported_before_anything_is_opened(
    folder, monkeypatch, capfd, module, option, value
):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["--headless", "--source", "clip.mp4", option, value]) == 1
    assert "pip install 'iern[" in capfd.readouterr().err
