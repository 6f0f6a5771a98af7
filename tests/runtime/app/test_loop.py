"""The loop and its threads: live pictures stay fresh, files lose no frame, and errors arrive with their cause."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from doubles.servers.mjpeg_server import mjpeg_server
from doubles.tiny_artifact import tiny_model
from iern.runtime.app.frame_analyzer import MAX_FAILURES_IN_A_ROW, AnalysisFailures, FrameAnalyzer
from iern.runtime.app.loop import run_loop
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.errors import ServerLostError, SessionError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.session import Predictions, Session
from iern.runtime.sources.base import Frame, Source
from iern.runtime.sources.open_source import open_source
from iern.runtime.system.latency import LoopStats
from iern.runtime.webcam import main
from repository import PHOTOS


class Slow(Session):
    """The tiny model on a machine that needs `seconds` for a batch."""

    def __init__(self, seconds: float) -> None:
        self._inner, self._seconds = OnnxSession(tiny_model(), "cpu", threads=1), seconds
        super().__init__(self._inner.artifact, "cpu", max_batch=16)

    def _run(self, faces: np.ndarray) -> Predictions:
        time.sleep(self._seconds)
        return self._inner(faces)

    def _free(self) -> None:
        self._inner.close()


class Failing(Slow):
    """The tiny model on a backend that fails in each call for which `bad` is true. Call 0 is the warm-up."""

    def __init__(self, bad, error: Exception | None = None) -> None:
        super().__init__(0)
        self._bad, self._error, self._calls = bad, error or SessionError("the GPU is gone"), -1

    def _run(self, faces: np.ndarray) -> Predictions:
        self._calls += 1
        if self._bad(self._calls):
            raise self._error
        return super()._run(faces)


class Made(Source):
    """A file of `count` frames, all of one picture. `error` is raised after them."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        super().__init__("made", fps=25)
        self._count, self._error, self.image = count, error, face_picture()

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._count):
            if self._stopped:
                return
            yield Frame(self.image, index / 25, index, self.name, time.monotonic())
        if self._error:
            raise self._error


def face_picture() -> np.ndarray:
    return cv2.resize(cv2.imread(str(PHOTOS / "astronaut.jpg"))[:400, :400], (224, 224))


def watched(source: Source, session: Session, *, max_frames: int | None = None, pause: float = 0) -> list[FrameResult]:
    """The results of a run, taken by a sink that needs `pause` seconds for each."""
    results: list[FrameResult] = []

    def take(result: FrameResult) -> None:
        time.sleep(pause)
        results.append(result)

    run_loop(source, FrameAnalyzer(FaceDetector(), session), [take], LoopStats(), max_frames)
    return results


@contextlib.contextmanager
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 10
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def test_the_picture_of_a_camera_faster_than_the_model_does_not_grow_old():
    """The camera gives 50 frames a second, the model takes at most 8. A queue would grow as old as the run is long."""
    ages, stats, start = [], LoopStats(), time.monotonic()

    def note_age(result: FrameResult) -> None:
        ages.append(time.monotonic() - result.frame.captured)

    images = [face_picture()] * 1000
    with mjpeg_server(images, pause=0.02, then="hang") as address, open_source(f"http://{address}/cam") as source:
        run_loop(source, FrameAnalyzer(FaceDetector(), Slow(0.12)), [note_age], stats, max_frames=40)
    elapsed = time.monotonic() - start
    assert np.median(ages[-7:]) < elapsed / 3
    assert np.median(ages[-7:]) < 3 * np.median(ages[3:10])
    assert stats.dropped > 40
    assert stats.age == pytest.approx(1000 * ages[-1], abs=500)


def test_the_age_and_the_drops_are_on_the_screen_in_the_log_and_in_the_summary(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("iern.runtime.app.wiring.LOG_INTERVAL", 0.0)
    model = tmp_path / "tiny.onnx"
    model.write_bytes(tiny_model())
    with mjpeg_server([face_picture()] * 500, pause=0.01, then="hang") as address:
        url = f"http://{address}/cam"
        with open_source(url) as source:
            results = watched(source, Slow(0.05), max_frames=5)
        assert main(["--headless", "--source", url, "--model", str(model), "--max-frames", "5"]) == 0
    assert f"   age {0:.0f} ms   " in results[0].status
    age, dropped = results[-1].status.split("   ")[2:4]
    assert float(age.split()[1]) > 50
    assert dropped == f"{results[-1].dropped} dropped"
    printed = capsys.readouterr().out
    assert "\nage " in printed and "\nshown " in printed
    logged = [line for line in printed.splitlines() if " fps   " in line]
    assert len(logged) == 5
    assert all("   age " in line and " dropped   " in line for line in logged)


def test_every_frame_of_a_file_arrives_once_and_in_order_however_slow_the_output():
    with no_thread_left():
        results = watched(Made(60), Slow(0), pause=0.01)
    assert [result.frame.index for result in results] == list(range(60))
    assert all(len(result.faces) == 1 for result in results)
    assert results[-1].dropped == 0
    assert "age" not in results[-1].status, "the age of a file's frame means nothing"


def test_frames_that_fail_are_left_out_and_counted_and_the_reason_is_printed_once(capsys):
    results = watched(Made(40), Failing(lambda call: call % 10 == 5))
    assert [result.frame.index for result in results] == [index for index in range(40) if index % 10 != 4]
    printed = capsys.readouterr().out
    assert printed.count("failed: the GPU is gone") == 1
    assert "frame 4 of made" in printed
    assert "   4 failed   " in results[-1].status


def test_a_detector_that_fails_in_one_frame_does_not_end_the_loop(capsys):
    source = Made(10)

    class Weak(FaceDetector):
        calls = 0

        def __call__(self, frame: np.ndarray):
            self.calls += 1
            return super().__call__(frame if self.calls != 4 else frame[:0])  # the real one's own error

    results: list[FrameResult] = []
    run_loop(source, FrameAnalyzer(Weak(), Slow(0), search="every-frame"), [results.append], LoopStats())
    assert [result.frame.index for result in results] == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert "frame 2 of made failed: expected a frame of" in capsys.readouterr().out


@pytest.mark.parametrize("error", [SessionError("the GPU is gone"), ZeroDivisionError("the GPU is gone")])
def test_a_model_that_always_fails_ends_the_loop_with_the_cause(error):
    results: list[FrameResult] = []
    with no_thread_left(), pytest.raises(SessionError, match=r"30 frames in a row failed.*the GPU is gone"):
        run_loop(
            Made(500),
            FrameAnalyzer(FaceDetector(), Failing(lambda call: call > 50, error)),
            [results.append],
            LoopStats(),
        )
    assert len(results) == 50, "the outputs got the earlier frames"
    assert MAX_FAILURES_IN_A_ROW == 30


def test_a_camera_outlasts_a_server_of_the_model_that_is_gone_and_a_file_does_not():
    frame, lost = Frame(face_picture(), 0.0, 0, "made", 0.0), ServerLostError("gpu.lan is not reached")
    stats = LoopStats()
    camera, file = AnalysisFailures(stats, live=True), AnalysisFailures(LoopStats())
    for _ in range(10 * MAX_FAILURES_IN_A_ROW):
        camera.add(frame, lost)
    assert stats.failed == 10 * MAX_FAILURES_IN_A_ROW
    with pytest.raises(SessionError, match=r"30 frames in a row failed; the last error: gpu.lan is not reached"):
        for _ in range(MAX_FAILURES_IN_A_ROW):
            file.add(frame, lost)
    with pytest.raises(SessionError, match=r"30 frames in a row failed; the last error: the GPU is gone"):
        for _ in range(MAX_FAILURES_IN_A_ROW):
            camera.add(frame, SessionError("the GPU is gone"))


@pytest.mark.parametrize(("error", "calls"), [(ServerLostError("not reached"), 1), (SessionError("refused"), 4)])
def test_a_server_that_does_not_answer_is_asked_once_for_the_frames_of_all_cameras(error, calls):
    """Each call may take the whole timeout."""
    session = Failing(lambda call: True, error)
    frames = [Frame(face_picture(), 0.0, 0, name, 0.0, source=name) for name in ("door", "hall", "yard")]
    assert FrameAnalyzer(FaceDetector(), session)(frames) == [error] * 3
    assert session._calls + 1 == calls


def test_a_model_that_does_not_return_is_noticed_and_one_that_does_is_not(monkeypatch):
    monkeypatch.setattr("iern.runtime.app.frame_analyzer.STUCK_AFTER", 0.2)
    analyzer, stuck = FrameAnalyzer(FaceDetector(), Slow(1.0)), []
    run_loop(Made(2), analyzer, [], LoopStats(), on_each_iteration=[lambda: stuck.append(analyzer.stuck)])
    assert True in stuck and False in stuck
    assert not analyzer.stuck


def test_a_short_run_in_which_every_frame_fails_is_an_error():
    with pytest.raises(SessionError, match="3 frames in a row failed"):
        watched(Made(3), Failing(lambda call: call > 0))


@pytest.mark.parametrize("error", [RuntimeError("a bug"), MemoryError("too large"), SystemExit("a library's way out")])
def test_an_error_that_ends_a_thread_is_raised_after_the_frames_before_it(error):
    results: list[FrameResult] = []
    with no_thread_left(), pytest.raises(type(error)) as raised:
        run_loop(Made(20, error), FrameAnalyzer(FaceDetector(), Slow(0)), [results.append], LoopStats())
    assert raised.value is error
    assert len(results) == 20


def test_a_sink_that_raises_ends_the_threads_too():
    def full(result: FrameResult) -> None:
        raise OSError(28, "No space left on device")

    with no_thread_left(), pytest.raises(OSError, match="No space left"):
        run_loop(Made(10_000), FrameAnalyzer(FaceDetector(), Slow(0)), [full], LoopStats())


def test_an_unexpected_error_ends_the_loop_and_the_outputs_are_finished(tmp_path, monkeypatch, capsys):
    """The model's library raises its own error in every frame from the tenth on."""
    model, clip, video, lines = (tmp_path / name for name in ("tiny.onnx", "clip.avi", "out.mp4", "out.jsonl"))
    model.write_bytes(tiny_model())
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, (224, 224))
    for _ in range(60):
        writer.write(face_picture())
    writer.release()
    run, calls = OnnxSession._run, iter(range(1000))

    def failing(self, faces):
        if next(calls) > 10:
            raise RuntimeError("CUDA error 700")
        return run(self, faces)

    monkeypatch.setattr(OnnxSession, "_run", failing)
    arguments = ["--headless", "--source", str(clip), "--model", str(model)]
    assert main([*arguments, "--record", str(video), "--jsonl", str(lines)]) == 1
    error = capsys.readouterr().err
    assert "30 frames in a row failed; the last error: RuntimeError: CUDA error 700" in error
    assert error.count("\n") == 1
    assert len(lines.read_text(encoding="utf-8").splitlines()) == 10
    capture = cv2.VideoCapture(str(video))
    assert sum(1 for _ in iter(lambda: capture.read()[0], False)) == 10
