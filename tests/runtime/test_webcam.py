"""The command as its users run it: real files, a real model file, the real detector."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from doubles.made_up_results import times
from doubles.servers.mjpeg_server import mjpeg_server
from doubles.tiny_artifact import EXPRESSIONS, tiny_artifact, tiny_model
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.sources import files as sources
from iern.runtime.system.files import sha256
from iern.runtime.system.processor import processor
from iern.runtime.webcam import main
from repository import PHOTOS


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    """Six frames at 10 per second: two without a face, two with one and two with two."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (480, 360))
    for image in (np.full((360, 480, 3), 127, np.uint8), photo("astronaut"), two_people()):
        writer.write(cv2.resize(image, (480, 360)))
        writer.write(cv2.resize(image, (480, 360)))
    writer.release()
    return str(path)


def photo(name: str) -> np.ndarray:
    image = cv2.imread(str(PHOTOS / f"{name}.jpg"))
    return image[: 3 * image.shape[1] // 4]


def two_people() -> np.ndarray:
    image = cv2.imread(str(PHOTOS / "obama_and_biden.jpg"))
    height, width = image.shape[:2]
    return image[height // 10 : 6 * height // 10, 3 * width // 10 : 7 * width // 10]


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def frames_in(path: Path) -> int:
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    return count


def run_program(program: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, **options)


def error_of(capsys, *argv: str) -> str:
    """The one line on stderr with which the command ends with status 1."""
    assert main(argv) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_a_video_is_annotated_recorded_and_written_as_data(tmp_path, capsys, model, clip):
    video, still, lines = tmp_path / "out.mp4", tmp_path / "out.png", tmp_path / "out.jsonl"
    outputs = ["--record", str(video), "--still", str(still), "--jsonl", str(lines)]
    assert main(["--source", clip, "--model", model, "--headless", *outputs]) == 0
    found = records(lines)
    assert [(record["frame"], record["time"]) for record in found] == [(i, i / 10) for i in range(6)]
    assert [len(record["faces"]) for record in found] == [0, 0, 1, 1, 2, 2]
    for record in found:
        assert set(record["latency_ms"]) == {"detect", "preprocess", "infer", "total", "age"}
        for face in record["faces"]:
            assert tuple(face["probabilities"]) == EXPRESSIONS
            assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-4)
            assert face["probability"] == max(face["probabilities"].values())
            assert 0 < face["disagreement"] < 1
    left, right = sorted(face["box"][0] for face in found[-1]["faces"])
    assert left < 240 < right
    assert frames_in(video) == 6
    assert cv2.imread(str(still)).shape == (360, 480, 3)
    printed = capsys.readouterr().out
    assert f"clip.avi -> {Path(model).name} on cpu" in printed
    assert "6 frames, 6 faces, " in printed
    assert all(f"\n{stage} " in printed for stage in ("detect", "preprocess", "infer", "total"))
    assert all(f"wrote {path}" in printed for path in (video, still, lines))
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl", "out.mp4", "out.png"]


def test_all_faces_of_a_frame_go_through_one_call(monkeypatch, model, clip):
    batches = []
    run = OnnxSession._run

    def counted(self, faces):
        batches.append(len(faces))
        return run(self, faces)

    monkeypatch.setattr(OnnxSession, "_run", counted)
    assert main(["--source", clip, "--model", model, "--headless"]) == 0
    assert batches == [1, 1, 1, 2, 2], "the warm-up, then one call per frame that shows a face"


def test_a_corrupt_image_in_a_folder_is_skipped_and_counted(tmp_path, capsys, model):
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(PHOTOS / "astronaut.jpg", folder / "a.jpg")
    (folder / "b.jpg").write_bytes((PHOTOS / "obama_portrait.jpg").read_bytes()[:3000])
    cv2.imwrite(str(folder / "c.png"), np.zeros((200, 300, 3), np.uint8))
    shutil.copy(PHOTOS / "biden_portrait.jpg", folder / "d.jpg")
    video = tmp_path / "out.mp4"
    assert main(["--source", str(folder), "--model", model, "--headless", "--record", str(video)]) == 0
    printed = capsys.readouterr().out
    listed = [line.partition(":")[0] for line in printed.splitlines() if line.startswith(("a.", "c.", "d."))]
    assert listed == ["a.jpg", "c.png", "d.jpg"]
    assert "c.png: no face" in printed
    assert "note: skipped 1 of 4 images; the first: " in printed
    assert "b.jpg" in printed
    assert times(video) == [0, 2, 3], "an image lasts a second, and the one before the corrupt image lasts two"


def test_the_face_in_a_photograph_of_ten_megapixels_is_found(tmp_path, capsys, model):
    path = tmp_path / "large.jpg"
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(PHOTOS / "astronaut.jpg")), (3200, 3200)))
    lines = tmp_path / "out.jsonl"
    assert main(["--source", str(path), "--model", model, "--headless", "--jsonl", str(lines)]) == 0
    ((face,),) = [record["faces"] for record in records(lines)]
    x, y, width, height = face["box"]
    assert 1100 < x + width / 2 < 1700
    assert 500 < y + height / 2 < 1000
    assert capsys.readouterr().out.count("large.jpg: ") == 1


def test_the_number_of_frames_can_be_limited(tmp_path, model, clip):
    lines = tmp_path / "out.jsonl"
    assert main(["--source", clip, "--model", model, "--headless", "--max-frames", "2", "--jsonl", str(lines)]) == 0
    assert len(records(lines)) == 2


@pytest.mark.parametrize("fallback", [True, False])
def test_the_demo_without_a_camera_or_a_display_writes_a_video_and_a_still(
    tmp_path, monkeypatch, capsys, model, clip, fallback
):
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    source = "97" if fallback else clip
    assert main(["--demo", "--source", source, "--model", model, "--max-frames", "5"]) == 0
    printed = capsys.readouterr().out
    assert ("camera 97: not found" in printed) == fallback
    assert ("demo.mp4 -> " in printed) == fallback
    assert "wrote demo_output/annotated.webm" in printed
    assert "wrote demo_output/still.png" in printed
    assert "5 frames, " in printed
    assert frames_in(tmp_path / "demo_output" / "annotated.webm") == 5
    assert cv2.imread(str(tmp_path / "demo_output" / "still.png")) is not None


def test_a_lost_stream_is_an_error_but_the_earlier_results_are_kept(tmp_path, capsys, model):
    video, lines = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    outputs = ["--record", str(video), "--jsonl", str(lines)]
    with mjpeg_server([cv2.resize(photo("astronaut"), (320, 240))] * 15, pause=0.02) as address:
        url = f"http://user:secret@{address}/cam"
        error = error_of(capsys, "--source", url, "--model", model, "--headless", "--give-up", "0", *outputs)
    assert "lost after 15 frames" in error
    assert "secret" not in error
    assert 1 <= len(records(lines)) <= 15
    assert "secret" not in lines.read_text(encoding="utf-8")
    assert frames_in(video) >= 1
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl", "out.mp4"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_finish_the_recording(tmp_path, model, number):
    video, lines = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    image = cv2.resize(photo("astronaut"), (320, 240))
    with mjpeg_server([image] * 40, pause=0.02, then="repeat") as address:
        command = [sys.executable, "-m", "iern.runtime.webcam", "--source", f"http://{address}/cam", "--headless"]
        command += ["--model", model, "--record", str(video), "--jsonl", str(lines)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        deadline = time.monotonic() + 60
        while not video.exists() and time.monotonic() < deadline:
            time.sleep(0.05)  # the recording opens with the first frame
        time.sleep(0.3)
        process.send_signal(number)
        printed, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    assert f"wrote {video}" in printed
    assert frames_in(video) >= 1
    assert len(records(lines)) >= 1
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl", "out.mp4"]


def test_a_missing_model_or_source_is_an_error_of_one_line(tmp_path, capsys, model, clip):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(Path(model).read_bytes()[:300])
    assert "no such file" in error_of(capsys, "--headless", "--source", clip, "--model", str(tmp_path / "no.onnx"))
    assert "broken.onnx" in error_of(capsys, "--headless", "--source", clip, "--model", str(broken))
    assert "no such file" in error_of(capsys, "--headless", "--source", "no.mp4", "--model", model)
    assert "camera 97: not found" in error_of(capsys, "--headless", "--source", "97", "--model", model)


def test_an_output_that_cannot_be_written_is_an_error_of_one_line(tmp_path, capsys, model, clip):
    (tmp_path / "file").write_bytes(b"")
    for option, name in (("--record", "out.mp4"), ("--still", "out.png"), ("--jsonl", "out.jsonl")):
        path = tmp_path / "file" / name
        assert str(tmp_path) in error_of(capsys, "--headless", "--source", clip, "--model", model, option, str(path))
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="onnxruntime has CUDA")
def test_another_provider_than_requested_is_reported_and_is_an_error_with_strict(capsys, model, clip):
    arguments = ["--headless", "--source", clip, "--model", model, "--provider", "cuda"]
    assert "CUDA" in error_of(capsys, *arguments, "--strict")
    assert main(arguments) == 0
    assert "note: runs on cpu: this onnxruntime was built without CUDA" in capsys.readouterr().out


def test_the_precision_is_as_requested_and_printed(tmp_path, capsys, model, clip):
    path = tmp_path / "tiny.onnx"
    shutil.copy(model, path)
    arguments = ["--headless", "--source", clip, "--model", str(path), "--provider", "cpu", "--precision"]
    assert "make it: python export/to_int8.py" in error_of(capsys, *arguments, "int8")
    described = dataclasses.replace(tiny_artifact(), float_sha256=sha256(path))
    (tmp_path / "tiny.int8.onnx").write_bytes(tiny_model(described))
    assert main([*arguments, "fp32"]) == 0
    assert "-> tiny.onnx on cpu" in capsys.readouterr().out
    if processor().saturates:
        assert "may saturate" in error_of(capsys, *arguments, "int8")
    else:
        assert main([*arguments, "int8"]) == 0
        assert "-> tiny.onnx in 8 bits on cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--precision", "fp16"], "invalid choice"),
        (["--record", "out.mkv"], "must end in one of .mp4 .webm"),
        (["--record", "out.avi"], "must end in one of .mp4 .webm"),
        (["--still", "out.gif"], "must end in one of .png .jpg .jpeg"),
        (["--max-frames", "0"], "at least 1"),
        (["--max-frames", "many"], "at least 1"),
        (["--provider", "tpu"], "invalid choice"),
        (["--head"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_names_what_is_allowed(capsys, argv, message):
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["rtsp://me:secret@cam/1"], ["--fps", "rtsp://me:secret@cam/1"]])
def test_wrong_usage_repeats_no_url_that_may_hold_a_password(capsys, argv):
    with pytest.raises(SystemExit):
        main(argv)
    assert "secret" not in capsys.readouterr().err


def test_the_time_of_the_start_replaces_its_codes_in_a_file_name(tmp_path, model, clip):
    before = time.strftime("%Y")
    arguments = ["--headless", "--source", clip, "--model", model, "--max-frames", "1"]
    for option, name in (
        ("--record", "%Y.webm"),
        ("--jsonl", "%Y.jsonl"),
        ("--csv", "100%%.csv"),
        ("--still", "a.png"),
    ):
        arguments += [option, str(tmp_path / name)]
    assert main(arguments) == 0
    assert sorted(os.listdir(tmp_path)) == ["100%.csv", f"{before}.jsonl", f"{before}.webm", "a.png"]


def test_the_help_shows_examples_and_explains_the_results(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("--source rtsp://", "--headless", "disagreement", "Exit status"))


def test_a_window_without_a_display_is_refused_before_qt_aborts_the_process(monkeypatch, capsys, model, clip):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    error = error_of(capsys, "--source", clip, "--model", model)
    assert "use --headless" in error
    expected = "no display" if cv2.currentUIFramework() else "pip install opencv-python"
    assert sys.platform != "linux" or expected in error


def test_an_opencv_without_windows_is_refused_with_both_remedies(monkeypatch, capsys, model, clip):
    """The installed OpenCV is changed to report what opencv-python-headless reports."""
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "")
    monkeypatch.setenv("DISPLAY", ":0")
    error = error_of(capsys, "--source", clip, "--model", model)
    assert "pip install opencv-python in place of opencv-python-headless" in error
    assert "use --headless, with --serve to watch" in error


@pytest.mark.skipif(not cv2.currentUIFramework(), reason="this OpenCV has no windows")
@pytest.mark.skipif(sys.platform != "linux", reason="displays have names on Linux only")
def test_a_named_display_that_does_not_exist_is_refused_too(monkeypatch, capsys, model, clip):
    monkeypatch.setenv("DISPLAY", ":97")
    assert "the display :97 does not open a window" in error_of(capsys, "--source", clip, "--model", model)


def test_torch_is_never_imported(model):
    result = run_program(
        f"""
        import sys
        for name in ("torch", "torchvision", "timm", "onnx"):
            sys.modules[name] = None
        from iern.runtime.webcam import main
        sys.exit(main(["--headless", "--source", {str(PHOTOS / "astronaut.jpg")!r}, "--model", {model!r}]))
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "astronaut.jpg: " in result.stdout


def test_an_opencv_without_its_libraries_is_explained_in_one_line(tmp_path):
    """Python finds this cv2 first. It fails as the wheel does on a server without display libraries."""
    (tmp_path / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')\n",
        encoding="utf-8",
    )
    program = "import sys; from iern.runtime.webcam import main; sys.exit(main(sys.argv[1:]))"
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", program]
    result = subprocess.run(
        [*command, "--headless"], capture_output=True, encoding="utf-8", check=False, env=environment
    )
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith("error: OpenCV cannot be imported (libGL.so.1")
    assert "pip install opencv-python-headless" in result.stderr
    assert "apt-get install libgl1" in result.stderr
    help_shown = subprocess.run([*command, "--help"], capture_output=True, check=False, env=environment)
    assert help_shown.returncode == 0


def test_a_loop_in_another_thread_leaves_signals_alone(model, clip):
    result = run_program(
        f"""
        import sys, threading
        from iern.runtime.webcam import main
        status = []
        thread = threading.Thread(
            target=lambda: status.append(main(["--headless", "--source", {clip!r}, "--model", {model!r}]))
        )
        thread.start()
        thread.join()
        sys.exit(status[0])
        """
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_signal_handlers_are_restored(model, clip):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert main(["--headless", "--source", clip, "--model", model]) == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_ctrl_c_does_not_wait_for_the_source(tmp_path, monkeypatch, model, clip):
    """Two signals come while a frame is read. The second ends the command at once, and the recording can be played.

    A thread reads the frames, and signals go to the main thread, which counts two that come together as one.
    """
    recording = tmp_path / "out.mp4"
    read = sources.read_frame

    def interrupted(capture):
        deadline = time.monotonic() + 60
        while not recording.exists():  # it exists when its first frame is being written
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)
        return read(capture)

    monkeypatch.setattr(sources, "read_frame", interrupted)
    assert main(["--headless", "--source", clip, "--model", model, "--record", str(recording)]) == 130
    assert os.listdir(tmp_path) == [recording.name]
    assert frames_in(recording) == 1
