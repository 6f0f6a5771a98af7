"""The library: one picture, several, and a video, with the real detector and a real model file."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from doubles.pasted_faces import pasted_faces
from doubles.tiny_artifact import EXPRESSIONS, STRATA, tiny_model
from iern.runtime import ExpressionRecognizer, Face
from iern.runtime.errors import ArtifactError, ImageError, SessionError, SourceError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.sources.open_source import open_source
from repository import PHOTOS, ROOT


@pytest.fixture(scope="module")
def recognizer():
    with ExpressionRecognizer(tiny_model(), provider="cpu", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return cv2.resize(cv2.imread(str(PHOTOS / "astronaut.jpg")), (320, 320), interpolation=cv2.INTER_AREA)


def test_a_picture_gives_its_faces(recognizer, picture):
    (face,) = recognizer(picture)
    assert isinstance(face, Face)
    assert tuple(face.probabilities) == EXPRESSIONS
    assert face.expression in EXPRESSIONS
    assert face.track is None
    assert face.stratum_probabilities.shape == (len(STRATA), len(EXPRESSIONS))
    assert recognizer(np.zeros((1, 1, 3), np.uint8)) == []
    assert (recognizer.provider, recognizer.artifact.expressions) == ("cpu", EXPRESSIONS)


def test_a_batch_gives_each_picture_what_it_gets_alone(recognizer, picture):
    images = [picture, np.zeros((41, 33, 3), np.uint8), cv2.resize(picture, (250, 250))]
    together = recognizer.batch(iter(images))
    assert [len(faces) for faces in together] == [1, 0, 1]
    for image, faces in zip(images, together, strict=True):
        for face, alone in zip(faces, recognizer(image), strict=True):
            assert face.detection.x == alone.detection.x
            assert face.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    assert recognizer.batch([]) == []


def test_a_video_gives_frames_with_faces_that_keep_their_track(tmp_path, recognizer, picture):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (320, 320))
    for _ in range(5):
        writer.write(picture)
    writer.release()
    found = list(recognizer.video(path, search="every-frame"))
    assert [frame.index for frame, _ in found] == [0, 1, 2, 3, 4]
    assert [[face.track for face in faces] for _, faces in found] == [[1]] * 5


def test_a_video_is_opened_at_its_first_frame_and_closed_with_the_iteration(recognizer, monkeypatch):
    opened = []

    def watched(spec):
        opened.append(open_source(spec))
        return opened[-1]

    monkeypatch.setattr("iern.runtime.recognizer.open_source", watched)
    frames = recognizer.video(PHOTOS / "astronaut.jpg")
    assert not opened
    next(frames)
    assert not opened[0].stopped
    frames.close()
    assert opened[0].stopped


def test_faces_are_followed_in_frames_that_the_caller_reads(recognizer, picture):
    pipeline = recognizer.pipeline()
    assert [pipeline(picture, seconds).faces[0].track for seconds in (0.0, 0.1)] == [1, 1]


def test_what_cannot_be_opened_or_recognised_is_an_error(recognizer, tmp_path):
    with pytest.raises(ImageError):
        recognizer(np.zeros(3, np.uint8))
    with pytest.raises(SourceError):
        next(recognizer.video(tmp_path / "absent.mp4"))
    with pytest.raises(ArtifactError):
        ExpressionRecognizer(tmp_path / "absent.onnx")


def values(faces: list[Face]) -> list[tuple[float, ...]]:
    """Return the boxes and probabilities, to be compared exactly."""
    return [(face.detection.x, face.detection.width, *face.probabilities.values()) for face in faces]


def test_a_batch_that_is_one_picture_is_refused_with_what_to_call(recognizer, picture):
    for one in (picture, picture[..., 0]):
        with pytest.raises(ImageError, match=r"found one array.*expected a list of images.*recognizer\(image\)"):
            recognizer.batch(one)
    assert [len(faces) for faces in recognizer.batch(np.stack([picture, picture]))] == [1, 1]


@pytest.mark.parametrize("wrong", [None, 7, "photo.jpg", b"photo.jpg", {"a": 1}], ids=lambda it: type(it).__name__)
def test_a_batch_that_is_no_list_is_refused(recognizer, wrong):
    with pytest.raises(ImageError, match=f"^found {type(wrong).__name__}, expected a list of images"):
        recognizer.batch(wrong)


@pytest.mark.parametrize("wrong", [None, "photo.jpg", np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), []])
def test_what_is_no_picture_in_a_batch_is_refused_with_its_index(recognizer, picture, wrong):
    with pytest.raises(ImageError, match=r"^images\[1\]: expected"):
        recognizer.batch([picture, wrong, picture])
    with pytest.raises(ImageError, match=r"^expected"):
        recognizer(wrong)


def test_small_faces_are_found_in_pictures_and_image_files_but_not_in_frames(tmp_path, recognizer):
    image, centres = pasted_faces(1600, 120, [28] * 9)
    path = tmp_path / "group.png"
    cv2.imwrite(str(path), image)
    assert len(recognizer(image)) == len(centres)
    assert [len(faces) for faces in recognizer.batch([image])] == [len(centres)]
    assert [len(faces) for _, faces in recognizer.video(path)] == [len(centres)]
    assert [len(faces) for _, faces in recognizer.video(tmp_path)] == [len(centres)]
    assert recognizer.pipeline()(image, 0.0).faces == []


def test_threads_that_share_a_recognizer_each_get_the_answer_of_one_thread(recognizer, picture):
    images = [cv2.resize(picture, (side, side)) for side in range(200, 600, 50)]
    expected = [values(recognizer(image)) for image in images]

    def through_all_calls(image: np.ndarray) -> list[list[tuple[float, ...]]]:
        pipeline = recognizer.pipeline(half_life=0)
        return [values(faces) for faces in (recognizer(image), *recognizer.batch([image]), pipeline(image, 0.0).faces)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(through_all_calls, images * 4))
    assert found == [[faces] * 3 for faces in expected] * 4


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda it: pickle.loads(pickle.dumps(it))}


@pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("form", ["path", "bytes"])
def test_a_copied_or_pickled_recognizer_opens_its_model_again(tmp_path, monkeypatch, picture, again, form):
    (tmp_path / "tiny.onnx").write_bytes(tiny_model())
    monkeypatch.chdir(tmp_path)
    model = "tiny.onnx" if form == "path" else tiny_model()
    recognizer = ExpressionRecognizer(model, provider="cpu", threads=1, detector=FaceDetector(longest_side=300))
    monkeypatch.chdir("/")
    twin, expected = again(recognizer), values(recognizer(picture))
    recognizer.close()
    assert values(twin(picture)) == expected
    twin.close()


def test_a_recognizer_works_in_a_pool_of_processes(recognizer, picture):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (faces,) = pool.map(recognizer, [picture])
    assert values(faces) == values(recognizer(picture))


def test_a_pipeline_and_an_open_model_are_not_copied_but_refused_with_what_to_do(recognizer):
    for thing, remedy in ((recognizer.pipeline(), "make one for each source"), (recognizer._session, "open_session")):
        for again in COPIES.values():
            with pytest.raises(SessionError, match=remedy):
                again(thing)


CLOSED: dict[str, Callable[[ExpressionRecognizer, np.ndarray], object]] = {
    "call": lambda recognizer, image: recognizer(image),
    "batch": lambda recognizer, image: recognizer.batch([image]),
    "empty batch": lambda recognizer, image: recognizer.batch([]),
    "video": lambda recognizer, image: next(recognizer.video(PHOTOS / "astronaut.jpg")),
    "pipeline": lambda recognizer, image: recognizer.pipeline(),
    **{name: lambda recognizer, image, again=again: again(recognizer) for name, again in COPIES.items()},
}


@pytest.mark.parametrize("use", CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize("side", [320, 1])
def test_a_closed_recognizer_says_so_even_if_there_is_no_face(picture, use, side):
    with ExpressionRecognizer(tiny_model(), provider="cpu", threads=1) as recognizer:
        pipeline = recognizer.pipeline()
    with pytest.raises(SessionError, match="the recognizer is closed; make a new one"):
        use(recognizer, picture[:side, :side])
    with pytest.raises(SessionError, match="closed"):
        pipeline(picture[:side, :side], 0.0)


@pytest.mark.parametrize("page", ["README.md", "docs/library.md"])
def test_the_lines_on_the_page_work_as_they_are(tmp_path, page):
    """They run with the bundled model, on a photograph of that name."""
    text = (ROOT / page).read_text(encoding="utf-8").partition("# As a library")[2]
    program = textwrap.dedent(re.search(r"(?:^(?: {4}.*)?\n)+", text.lstrip("\n"), re.MULTILINE)[0])
    assert len([line for line in program.splitlines() if line]) <= 5
    cv2.imwrite(str(tmp_path / "photo.jpg"), cv2.imread(str(PHOTOS / "astronaut.jpg")))
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"happiness\W+0\.\d", result.stdout)


def test_importing_the_package_alone_loads_neither_opencv_nor_onnxruntime():
    program = """
import sys
import iern.runtime
assert not {"cv2", "onnxruntime", "numpy"} & set(sys.modules)
assert "ExpressionRecognizer" in iern.runtime.__all__
try:
    iern.runtime.nothing
except AttributeError as error:
    assert "nothing" in str(error)
else:
    raise AssertionError
from iern.runtime import ExpressionRecognizer
assert "cv2" in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
