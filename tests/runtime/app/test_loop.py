"""The loop with its threads: never behind, nothing lost of files, a bad frame survived, no end without its cause."""

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
from iern.runtime.app.frame_analyzer import IN_A_ROW, FrameAnalyzer
from iern.runtime.app.loop import watch
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.errors import SessionError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.session import Predictions, Session
from iern.runtime.sources.base import Frame, Source
from iern.runtime.sources.open_source import open_source
from iern.runtime.system.latency import LoopStats
from iern.runtime.webcam import main
from repository import PHOTOS


class Slow(Session):
    """The tiny model on a machine that needs so long for a batch."""

    def __init__(self, seconds: float) -> None:
        self._inner, self._seconds = OnnxSession(tiny_model(), "cpu", threads=1), seconds
        super().__init__(self._inner.artifact, "cpu", max_batch=16)

    def _run(self, faces: np.ndarray) -> Predictions:
        time.sleep(self._seconds)
        return self._inner(faces)

    def close(self) -> None:
        self._inner.close()


class Failing(Slow):
    """The tiny model on a backend that fails in the calls of which `bad` says so; call 0 is the warm-up."""

    def __init__(self, bad, error: Exception | None = None) -> None:
        super().__init__(0)
        self._bad, self._error, self._calls = bad, error or SessionError("the GPU is gone"), -1

    def _run(self, faces: np.ndarray) -> Predictions:
        self._calls += 1
        if self._bad(self._calls):
            raise self._error
        return super()._run(faces)


class Made(Source):
    """A file of so many frames, all of one picture; `error` ends it early."""

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
    """The views of a run, taken by a sink that needs `pause` seconds for each."""
    views: list[FrameResult] = []

    def take(view: FrameResult) -> None:
        time.sleep(pause)
        views.append(view)

    watch(source, FrameAnalyzer(FaceDetector(), session), [take], LoopStats(), max_frames)
    return views


@contextlib.contextmanager
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 10
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def test_the_picture_of_a_camera_faster_than_the_model_does_not_grow_old():
    """A camera of 50 frames a second, and a model of at most 8: what queued would soon be as old as the run is long."""
    ages, tally, start = [], LoopStats(), time.monotonic()

    def look(view: FrameResult) -> None:
        ages.append(time.monotonic() - view.frame.captured)

    images = [face_picture()] * 1000
    with mjpeg_server(images, pause=0.02, then="hang") as address, open_source(f"http://{address}/cam") as source:
        watch(source, FrameAnalyzer(FaceDetector(), Slow(0.12)), [look], tally, max_frames=40)
    elapsed = time.monotonic() - start
    assert np.median(ages[-7:]) < elapsed / 3
    assert np.median(ages[-7:]) < 3 * np.median(ages[3:10])
    assert tally.dropped > 40
    assert tally.age == pytest.approx(1000 * ages[-1], abs=500)


def test_the_age_and_the_drops_are_on_the_screen_in_the_log_and_in_the_summary(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("iern.runtime.app.wiring.LOG_EVERY", 0.0)
    model = tmp_path / "tiny.onnx"
    model.write_bytes(tiny_model())
    with mjpeg_server([face_picture()] * 500, pause=0.01, then="hang") as address:
        url = f"http://{address}/cam"
        with open_source(url) as source:
            views = watched(source, Slow(0.05), max_frames=5)
        assert main(["--headless", "--source", url, "--model", str(model), "--max-frames", "5"]) == 0
    assert f"   age {0:.0f} ms   " in views[0].status
    age, dropped = views[-1].status.split("   ")[2:4]
    assert float(age.split()[1]) > 50
    assert dropped == f"{views[-1].dropped} dropped"
    said = capsys.readouterr().out
    assert "\nage " in said and "\nshown " in said
    logged = [line for line in said.splitlines() if " fps   " in line]
    assert len(logged) == 5
    assert all("   age " in line and " dropped   " in line for line in logged)


def test_every_frame_of_a_file_arrives_once_and_in_order_however_slow_the_output():
    with no_thread_left():
        views = watched(Made(60), Slow(0), pause=0.01)
    assert [view.frame.index for view in views] == list(range(60))
    assert all(len(view.faces) == 1 for view in views)
    assert views[-1].dropped == 0
    assert "age" not in views[-1].status, "a file's frame is as old as the reader wishes"


def test_frames_that_get_no_answer_are_left_out_counted_and_said_once(capsys):
    views = watched(Made(40), Failing(lambda call: call % 10 == 5))
    assert [view.frame.index for view in views] == [index for index in range(40) if index % 10 != 4]
    said = capsys.readouterr().out
    assert said.count("got no answer: the GPU is gone") == 1
    assert "frame 4 of made" in said
    assert "   4 failed   " in views[-1].status


def test_a_detector_that_fails_in_one_frame_does_not_end_the_loop(capsys):
    source = Made(10)

    class Weak(FaceDetector):
        calls = 0

        def __call__(self, frame: np.ndarray):
            self.calls += 1
            return super().__call__(frame if self.calls != 4 else frame[:0])  # the real one's own error

    views: list[FrameResult] = []
    watch(source, FrameAnalyzer(Weak(), Slow(0)), [views.append], LoopStats())
    assert [view.frame.index for view in views] == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert "frame 2 of made got no answer: expected a frame of" in capsys.readouterr().out


@pytest.mark.parametrize("error", [SessionError("the GPU is gone"), ZeroDivisionError("the GPU is gone")])
def test_a_model_that_only_fails_ends_the_loop_with_the_cause(error):
    views: list[FrameResult] = []
    with no_thread_left(), pytest.raises(SessionError, match=r"30 frames in a row got no answer.*the GPU is gone"):
        watch(
            Made(500),
            FrameAnalyzer(FaceDetector(), Failing(lambda call: call > 50, error)),
            [views.append],
            LoopStats(),
        )
    assert len(views) == 50, "what came before is with the outputs"
    assert IN_A_ROW == 30


def test_a_model_that_does_not_come_back_is_noticed_and_one_that_does_is_not(monkeypatch):
    monkeypatch.setattr("iern.runtime.app.frame_analyzer.STUCK", 0.2)
    judge, stuck = FrameAnalyzer(FaceDetector(), Slow(1.0)), []
    watch(Made(2), judge, [], LoopStats(), turns=[lambda: stuck.append(judge.stuck)])
    assert True in stuck and False in stuck
    assert not judge.stuck


def test_a_few_frames_that_all_fail_are_no_success_either():
    with pytest.raises(SessionError, match="3 frames in a row got no answer"):
        watched(Made(3), Failing(lambda call: call > 0))


@pytest.mark.parametrize("error", [RuntimeError("a bug"), MemoryError("too large"), SystemExit("a library's way out")])
def test_whatever_ends_a_thread_is_raised_with_its_reason_after_the_frames_before_it(error):
    views: list[FrameResult] = []
    with no_thread_left(), pytest.raises(type(error)) as raised:
        watch(Made(20, error), FrameAnalyzer(FaceDetector(), Slow(0)), [views.append], LoopStats())
    assert raised.value is error
    assert len(views) == 20


def test_an_output_that_fails_ends_the_threads_too():
    def full(view: FrameResult) -> None:
        raise OSError(28, "No space left on device")

    with no_thread_left(), pytest.raises(OSError, match="No space left"):
        watch(Made(10_000), FrameAnalyzer(FaceDetector(), Slow(0)), [full], LoopStats())


def test_the_outputs_are_finished_whatever_ended_the_loop(tmp_path, monkeypatch, capsys):
    """An error that nobody foresaw, of the model's library, in every frame from the tenth on."""
    model, film, video, lines = (tmp_path / name for name in ("tiny.onnx", "film.avi", "out.avi", "out.jsonl"))
    model.write_bytes(tiny_model())
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 10, (224, 224))
    for _ in range(60):
        writer.write(face_picture())
    writer.release()
    run, calls = OnnxSession._run, iter(range(1000))

    def failing(self, faces):
        if next(calls) > 10:
            raise RuntimeError("CUDA error 700")
        return run(self, faces)

    monkeypatch.setattr(OnnxSession, "_run", failing)
    asked = ["--headless", "--source", str(film), "--model", str(model), "--record", str(video), "--jsonl", str(lines)]
    assert main(asked) == 1
    error = capsys.readouterr().err
    assert "30 frames in a row got no answer, the last: RuntimeError: CUDA error 700" in error
    assert error.count("\n") == 1
    assert len(lines.read_text(encoding="utf-8").splitlines()) == 10
    capture = cv2.VideoCapture(str(video))
    assert sum(1 for _ in iter(lambda: capture.read()[0], False)) == 10
