"""The window in a real X server: its keys are pressed there, and its pixels are read from the server's own memory."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from doubles.tiny_artifact import tiny_model
from iern.runtime.app.window import NOTICE_S
from repository import PHOTOS

PATIENCE = 120
"""seconds: a machine may be busy."""

pytestmark = [
    pytest.mark.skipif(not cv2.currentUIFramework(), reason="this OpenCV has no windows: pip install opencv-python"),
    pytest.mark.skipif(
        not (shutil.which("Xvfb") and shutil.which("xdotool")), reason="needs apt-get install xvfb xdotool"
    ),
]


@pytest.fixture
def screen(tmp_path, monkeypatch) -> Iterator[Callable[[], np.ndarray]]:
    """An X server; yields what reads its screen as (H, W, 3) BGR."""
    memory = tmp_path / "screen"
    memory.mkdir()
    # With -displayfd the server takes a free number and writes it once it accepts connections.
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24", "-fbdir", str(memory)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8")
    try:
        assert server.stdout
        monkeypatch.setenv("DISPLAY", f":{server.stdout.readline().strip()}")
        (dump,) = memory.iterdir()  # in the format of xwd: a header, a colour map, and the pixels at the end
        yield lambda: np.fromfile(dump, np.uint8)[-600 * 800 * 4 :].reshape(600, 800, 4)[..., :3]
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def model(tmp_path) -> str:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_model())
    return str(path)


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(PHOTOS / "astronaut.jpg"))[:400, :400], (320, 240)))
    return path


@pytest.fixture
def film(tmp_path) -> Path:
    """Half a minute at 10 frames a second, each of another grey."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    for number in range(300):
        writer.write(np.full((240, 320, 3), 40 + 37 * number % 160, np.uint8))
    writer.release()
    return path


@pytest.fixture
def watching(tmp_path, model, screen) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The command in a folder of its own; yields when it has answered the first image, or shows a film's window."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with contextlib.ExitStack() as stack:

        def start(source: Path, *more: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "iern.runtime.webcam", "--source", str(source), "--model", model, *more]
            said = stack.enter_context(open(tmp_path / "said", "w", encoding="utf-8"))
            process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.PIPE, encoding="utf-8")
            stack.callback(process.communicate)
            stack.callback(process.kill)
            sign = "\nkeys in the window" if source.suffix == ".avi" else ".png: "
            until(lambda: sign in (tmp_path / "said").read_text(encoding="utf-8"))
            return process

        yield start


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def press(key: str) -> None:
    """A second passes between focus and key: Qt hears no key before it has heard of the focus."""
    command = ["xdotool", "search", "--sync", "--name", "^IERN$", "windowfocus", "sleep", "1", "key", key]
    subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)


def settled(screen: Callable[[], np.ndarray]) -> np.ndarray:
    """The screen once nothing has moved on it for longer than a notice stands there."""
    before = np.zeros(0, np.uint8)
    while not np.array_equal(before, after := screen()):
        before = after
        time.sleep(NOTICE_S + 1)
    return before


def moves(screen: Callable[[], np.ndarray]) -> bool:
    before = screen()
    time.sleep(1)
    return not np.array_equal(before, screen())


def left(process: subprocess.Popen[str], tmp_path: Path) -> str:
    """What the command said; it ended well."""
    _, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, error) == (0, "")
    return (tmp_path / "said").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", ["q", "Escape"])
def test_a_key_leaves_and_the_answers_are_kept(tmp_path, photo, watching, key):
    lines = tmp_path / "out.jsonl"
    process = watching(photo, "--jsonl", str(lines))
    press(key)
    assert "1 frame, " in left(process, tmp_path)
    assert len([json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]) == 1


@pytest.mark.slow
def test_any_other_key_shows_the_next_image(tmp_path, photo, watching):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(photo, folder / name)
    process = watching(folder)
    press("Left")
    time.sleep(1)
    press("Right")
    assert "2 frames, " in left(process, tmp_path)


@pytest.mark.slow
def test_a_snapshot_is_what_is_shown_with_and_without_the_overlay(tmp_path, photo, watching):
    process = watching(photo)
    pictures = tmp_path / "folder"
    press("s")
    until(lambda: len(list(pictures.glob("iern_*.png"))) == 1)
    (first,) = pictures.iterdir()
    press("o")
    time.sleep(1.2)  # the name has whole seconds
    press("s")
    until(lambda: len(list(pictures.glob("iern_*.png"))) == 2)
    (second,) = set(pictures.iterdir()) - {first}
    press("q")
    assert left(process, tmp_path).count("wrote iern_") == 2
    plain = cv2.imread(str(photo))
    assert np.array_equal(cv2.imread(str(second)), plain)
    drawn = cv2.imread(str(first))
    assert drawn.shape == plain.shape
    assert not np.array_equal(drawn, plain)


@pytest.mark.slow
def test_c_shows_the_answer_under_each_context_beside_the_mean_and_takes_it_away(tmp_path, photo, watching, screen):
    process = watching(photo)
    before = settled(screen)
    press("c")
    until(lambda: not np.array_equal(screen(), before))
    press("c")
    until(lambda: np.array_equal(screen(), before))
    press("q")
    left(process, tmp_path)


@pytest.mark.slow
def test_h_shows_the_keys_over_the_picture_and_takes_them_away(tmp_path, photo, watching, screen):
    process = watching(photo)
    before = settled(screen)
    press("h")
    until(lambda: not np.array_equal(screen(), before))
    shown = settled(screen)
    assert shown.mean() < before.mean(), "the ground is darkened"
    press("h")
    until(lambda: np.array_equal(screen(), before))
    press("q")
    left(process, tmp_path)


@pytest.mark.slow
def test_p_stops_the_film_and_lets_it_go_on(tmp_path, film, watching, screen):
    process = watching(film)
    until(lambda: moves(screen))
    press("p")
    until(lambda: not moves(screen))
    assert not moves(screen)
    press("p")
    until(lambda: moves(screen))
    press("q")
    left(process, tmp_path)


@pytest.mark.slow
def test_r_records_until_it_is_pressed_again(tmp_path, film, watching):
    process = watching(film)
    press("r")
    until(lambda: list((tmp_path / "folder").glob("iern_*.webm")))
    time.sleep(1)
    press("r")
    until(lambda: "wrote iern_" in (tmp_path / "said").read_text(encoding="utf-8"))
    assert process.poll() is None, "the loop goes on"
    press("q")
    said = left(process, tmp_path)
    (video,) = (tmp_path / "folder").iterdir()
    assert f"wrote {video.name}" in said
    capture = cv2.VideoCapture(str(video))
    assert capture.read()[0]
