"""The window on a real X server: keys are pressed there, and pixels are read from the server's memory."""

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
from iern.runtime.app.window import NOTICE_SECONDS
from repository import PHOTOS

TIMEOUT = 120
"""Seconds. The machine may be busy."""

pytestmark = [
    pytest.mark.skipif(not cv2.currentUIFramework(), reason="this OpenCV has no windows: pip install opencv-python"),
    pytest.mark.skipif(
        not (shutil.which("Xvfb") and shutil.which("xdotool")), reason="needs apt-get install xvfb xdotool"
    ),
]


@pytest.fixture
def screen(tmp_path, monkeypatch) -> Iterator[Callable[[], np.ndarray]]:
    """An X server. Yields a function that reads its screen as (H, W, 3) BGR."""
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
def video(tmp_path) -> Path:
    """Half a minute at 10 frames per second, each in a different grey."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    for number in range(300):
        writer.write(np.full((240, 320, 3), 40 + 37 * number % 160, np.uint8))
    writer.release()
    return path


@pytest.fixture
def watching(tmp_path, model, screen) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts the command in its own folder, and waits for the first image or the window."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with contextlib.ExitStack() as stack:

        def start(source: Path, *more: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "iern.runtime.webcam", "--source", str(source), "--model", model, *more]
            output = stack.enter_context(open(tmp_path / "output", "w", encoding="utf-8"))
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.PIPE, encoding="utf-8")
            stack.callback(process.communicate)
            stack.callback(process.kill)
            sign = "\nkeys in the window" if source.suffix == ".avi" else ".png: "
            until(lambda: sign in (tmp_path / "output").read_text(encoding="utf-8"))
            return process

        yield start


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def press(key: str) -> None:
    """Press a key in the window, a second after the focus: Qt ignores keys until it knows of the focus."""
    command = ["xdotool", "search", "--sync", "--name", "^IERN$", "windowfocus", "sleep", "1", "key", key]
    subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=True)


def press_until(key: str, true: Callable[[], object]) -> None:
    """Press a key until it has its effect: on a busy machine Qt loses one that comes before it knows of the focus."""
    for _ in range(8):
        press(key)
        deadline = time.monotonic() + TIMEOUT / 8
        while time.monotonic() < deadline:
            if true():
                return
            time.sleep(0.05)
    raise AssertionError(f"the key {key} had no effect")


def settled(screen: Callable[[], np.ndarray]) -> np.ndarray:
    """The screen, once nothing on it has changed for longer than a notice is shown."""
    before = np.zeros(0, np.uint8)
    while not np.array_equal(before, after := screen()):
        before = after
        time.sleep(NOTICE_SECONDS + 1)
    return before


def moves(screen: Callable[[], np.ndarray]) -> bool:
    before = screen()
    time.sleep(1)
    return not np.array_equal(before, screen())


def output_at_end(process: subprocess.Popen[str], tmp_path: Path) -> str:
    """The output of the command, which ends with status 0."""
    _, error = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, error) == (0, "")
    return (tmp_path / "output").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", ["q", "Escape"])
def test_a_key_quits_and_the_records_are_kept(tmp_path, photo, watching, key):
    lines = tmp_path / "out.jsonl"
    process = watching(photo, "--jsonl", str(lines))
    press(key)
    assert "1 frame, " in output_at_end(process, tmp_path)
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
    assert "2 frames, " in output_at_end(process, tmp_path)


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
    assert output_at_end(process, tmp_path).count("wrote iern_") == 2
    plain = cv2.imread(str(photo))
    assert np.array_equal(cv2.imread(str(second)), plain)
    drawn = cv2.imread(str(first))
    assert drawn.shape == plain.shape
    assert not np.array_equal(drawn, plain)


@pytest.mark.slow
def test_c_shows_and_hides_the_predictions_under_each_context(tmp_path, photo, watching, screen):
    process = watching(photo)
    before = settled(screen)
    press("c")
    until(lambda: not np.array_equal(screen(), before))
    press("c")
    until(lambda: np.array_equal(screen(), before))
    press("q")
    output_at_end(process, tmp_path)


@pytest.mark.slow
def test_the_picture_fills_the_window_pixel_by_pixel_and_m_mirrors_it_only_there(tmp_path, photo, watching, screen):
    """With a tool bar Qt would shrink the picture."""
    plain = cv2.imread(str(photo))
    process = watching(photo)
    press("o")
    assert np.array_equal(settled(screen)[:240, :320], plain)
    press("m")
    assert np.array_equal(settled(screen)[:240, :320], plain[:, ::-1])
    press("s")
    until(lambda: list((tmp_path / "folder").glob("iern_*.png")))
    (snapshot,) = (tmp_path / "folder").iterdir()
    assert np.array_equal(cv2.imread(str(snapshot)), plain)
    press("m")
    assert np.array_equal(settled(screen)[:240, :320], plain)
    press("q")
    output_at_end(process, tmp_path)


@pytest.mark.slow
def test_mirror_begins_with_the_mirrored_picture_and_the_records_have_the_boxes_of_the_camera(
    tmp_path, photo, watching, screen
):
    boxes = {}
    for more in ([], ["--mirror"]):
        lines = tmp_path / f"{len(more)}.jsonl"
        process = watching(photo, "--jsonl", str(lines), *more)
        press("o")
        shown = settled(screen)[:240, :320]
        press("q")
        output_at_end(process, tmp_path)
        boxes[len(more)] = [face["box"] for face in json.loads(lines.read_text(encoding="utf-8"))["faces"]]
    assert np.array_equal(shown, cv2.imread(str(photo))[:, ::-1])
    assert boxes[0] and boxes[0] == boxes[1]


@pytest.mark.slow
def test_escape_leaves_full_screen_before_it_quits(tmp_path, photo, watching, screen):
    process = watching(photo)
    press("o")
    before = settled(screen)
    press("f")
    press("Escape")
    assert np.array_equal(settled(screen), before)
    assert process.poll() is None
    press("Escape")
    output_at_end(process, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["h", "question"])
def test_h_and_the_question_mark_show_and_hide_the_keys_over_the_picture(tmp_path, photo, watching, screen, key):
    process = watching(photo)
    before = settled(screen)
    press("shift")  # as for a question mark; any other key would show the next image, and so end the loop
    assert np.array_equal(settled(screen), before)
    press_until(key, lambda: not np.array_equal(screen(), before))
    shown = settled(screen)
    assert shown.mean() < before.mean(), "the ground is darkened"
    press_until(key, lambda: np.array_equal(screen(), before))
    press("q")
    output_at_end(process, tmp_path)


@pytest.mark.slow
def test_p_pauses_the_video_and_continues_it(tmp_path, video, watching, screen):
    process = watching(video)
    until(lambda: moves(screen))
    press_until("p", lambda: not moves(screen))
    assert not moves(screen)
    press_until("p", lambda: moves(screen))
    press("q")
    output_at_end(process, tmp_path)


@pytest.mark.slow
def test_r_records_until_it_is_pressed_again_and_a_red_sign_is_shown_meanwhile(tmp_path, video, watching, screen):
    process = watching(video)
    press("r")
    until(lambda: list((tmp_path / "folder").glob("iern_*.webm")))
    until(lambda: red_in_the_corner(screen))
    time.sleep(1)
    press("r")
    until(lambda: not red_in_the_corner(screen))
    until(lambda: "wrote iern_" in (tmp_path / "output").read_text(encoding="utf-8"))
    assert process.poll() is None, "the loop continues"
    press("q")
    output = output_at_end(process, tmp_path)
    (recording,) = (tmp_path / "folder").iterdir()
    assert f"wrote {recording.name}" in output
    capture = cv2.VideoCapture(str(recording))
    assert capture.read()[0]


def red_in_the_corner(screen: Callable[[], np.ndarray]) -> bool:
    """Whether the upper right corner of the window has red pixels. The video is grey."""
    corner = screen()[:40, 250:320].astype(int)
    return bool((corner[..., 2] - corner[..., 1] > 80).any())
