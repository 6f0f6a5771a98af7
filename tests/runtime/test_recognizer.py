"""The library: one picture, several, and a video, with the real detector and a real model file."""

from __future__ import annotations

import copy
import dataclasses
import multiprocessing
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from doubles.pasted_faces import pasted_faces
from doubles.tiny_artifact import EXPRESSIONS, STRATA, tiny_artifact, tiny_model
from iern.runtime import Detection, ExpressionRecognizer, Face, Prediction
from iern.runtime.backends.onnx import open_session
from iern.runtime.errors import ArgumentError, ArtifactError, ImageError, SessionError, SourceError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.preprocess import InputSpec, read_faces
from iern.runtime.sources.open_source import open_source
from repository import PHOTOS


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


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_gives_each_picture_what_it_gets_alone(recognizer, picture, kind):
    images = [picture, np.zeros((41, 33, 3), np.uint8), cv2.resize(picture, (250, 250))]
    together = recognizer(kind(images))
    assert [len(faces) for faces in together] == [1, 0, 1]
    for image, faces in zip(images, together, strict=True):
        for face, alone in zip(faces, recognizer(image), strict=True):
            assert face.detection.x == alone.detection.x
            assert face.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
            assert face.frame_size == alone.frame_size == image.shape[1::-1]
    assert recognizer(kind([])) == []


def test_the_pictures_of_a_list_are_not_kept(recognizer, picture, monkeypatch):
    """A list of many large files fits in memory: when a picture is read, those before it are gone."""
    monkeypatch.setattr("iern.runtime.recognizer.FACES_TOGETHER", 2)
    read, alive = [], []

    def noting(images, name):
        for index in range(5):
            image = cv2.resize(picture, (200 + index, 200))
            alive.append(sum(each() is not None for each in read))
            read.append(weakref.ref(image))
            yield image
            del image

    monkeypatch.setattr("iern.runtime.recognizer.to_images", lambda images: noting(images, ""))
    assert [faces[0].frame_size for faces in recognizer([1])] == [(200 + index, 200) for index in range(5)]
    assert max(alive) <= 1


@pytest.mark.parametrize("together", [1, 2, 3, 64])
def test_the_faces_of_a_list_are_the_same_however_many_the_model_gets_at_once(
    recognizer, picture, monkeypatch, together
):
    empty = np.zeros((40, 40, 3), np.uint8)
    images = [empty, picture, empty, np.hstack([picture, picture]), picture, empty]
    expected = [values(recognizer(image)) for image in images]
    monkeypatch.setattr("iern.runtime.recognizer.FACES_TOGETHER", together)
    assert [len(faces) for faces in expected] == [0, 1, 0, 2, 1, 0]
    for faces, alone in zip(recognizer(images), expected, strict=True):
        assert np.array(values(faces)) == pytest.approx(np.array(alone), abs=1e-5)


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


@pytest.mark.parametrize("wrong", [None, "absent.jpg", "https://a.b/c.jpg", np.zeros((4, 4)), b"photo.jpg"], ids=repr)
def test_what_is_no_picture_is_refused_and_in_a_list_with_its_index(recognizer, picture, wrong):
    with pytest.raises(ImageError) as alone:
        recognizer(wrong)
    for call, name in ((recognizer, "images"), (recognizer.classify, "crops")):
        with pytest.raises(ImageError) as in_list:
            call([picture, wrong, picture])
        assert str(in_list.value) == f"{name}[1]: {alone.value}"


def test_a_picture_gives_the_same_faces_in_every_form(tmp_path, recognizer, picture):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), picture)
    with Image.open(path) as opened:
        forms = [path, str(path), path.as_uri(), opened]
        expected = values(recognizer(picture))
        assert expected and [values(recognizer(form)) for form in forms] == [expected] * 4
        expected = recognizer.classify(picture).probabilities
        for prediction in recognizer.classify(forms):
            assert prediction.probabilities == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def by_landmarks():
    """A recognizer whose crops follow the landmarks alone."""
    artifact = dataclasses.replace(tiny_artifact(), input=InputSpec(32, 0.9, "landmarks"))
    with ExpressionRecognizer(tiny_model(artifact), provider="cpu", threads=1) as opened:
        yield opened


def test_the_boxes_and_landmarks_of_another_detector_give_what_its_own_detections_give(by_landmarks, picture):
    two = np.hstack([picture, picture])
    found = [face.detection for face in by_landmarks(two)][::-1]
    boxes = [(each.x, each.y, each.width, each.height) for each in found]
    faces = by_landmarks(two, boxes=boxes, landmarks=[each.landmarks for each in found])
    assert values(faces) == values(by_landmarks(two)[::-1])
    assert [(face.detection.score, face.track) for face in faces] == [(1.0, None)] * 2


def test_boxes_without_landmarks_are_cut_out_as_they_are(recognizer, picture):
    box = (100, 30, 80, 80)
    (face,) = recognizer(picture, boxes=[box])
    assert (face.box, face.detection.landmarks) == (box, None)
    margin = recognizer.artifact.input.margin
    side = margin * 80
    left, top = round(140 - side / 2), round(70 - side / 2)
    crop = picture[top : top + round(side), left : left + round(side)]
    assert face.probabilities == pytest.approx(recognizer.classify(crop).probabilities, abs=0.02)
    assert recognizer(picture, boxes=[]) == []


def test_boxes_are_not_searched_for(picture):
    def no_detector(image: np.ndarray) -> list[Detection]:
        raise AssertionError

    with ExpressionRecognizer(tiny_model(), provider="cpu", threads=1, detector=no_detector) as recognizer:
        assert len(recognizer(picture, boxes=np.array([[10, 10, 40, 40]]))) == 1


def test_boxes_that_do_not_fit_are_refused(recognizer, picture):
    for image, arguments, message in (
        (picture, {"boxes": [(400, 0, 10, 10)]}, r"boxes\[0\].*outside the image of 320x320"),
        (picture, {"landmarks": np.zeros((1, 5, 2))}, "landmarks without boxes"),
        ([picture], {"boxes": [(1, 1, 9, 9)]}, "one picture at a time"),
    ):
        with pytest.raises(ArgumentError, match=message):
            recognizer(image, **arguments)


def test_ready_crops_of_any_size_are_classified_as_evaluation_reads_them(tmp_path, recognizer, picture):
    """The authority is the model's own session on the faces that evaluation reads from files."""
    crops = [picture[30:130, 90:190], picture[20:68, 100:148, 0], picture[:11, :7]]
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, crop in zip(paths, crops, strict=True):
        cv2.imwrite(str(path), crop)
    session = open_session(tiny_model(), "cpu", threads=1)
    expected = session(read_faces(paths, session.artifact.input))
    predictions = recognizer.classify(crops)
    assert all(isinstance(prediction, Prediction) for prediction in predictions)
    for prediction, row in zip(predictions, expected.probabilities, strict=True):
        assert list(prediction.probabilities.values()) == pytest.approx(row.tolist(), abs=1e-6)
    assert recognizer.classify(crops[1]).probabilities == pytest.approx(predictions[1].probabilities, abs=1e-6)
    assert recognizer.classify([]) == []


def test_a_detector_of_the_callers_own_is_used_for_pictures_videos_and_frames(picture):
    def my_detector(image: np.ndarray) -> list[Detection]:
        return [Detection(5, 6, 70, 80), Detection(100, 100, 40, 40, score=0.2)]

    with ExpressionRecognizer(tiny_model(), provider="cpu", threads=1, detector=my_detector) as recognizer:
        pipeline = recognizer.pipeline()
        frames = [faces for _, faces in recognizer.video(PHOTOS / "astronaut.jpg")]
        found = [recognizer(picture), *recognizer([picture]), pipeline(picture, 0.0).faces, *frames]
        tracks = [face.track for face in pipeline(picture, 0.1).faces]
    assert [[face.box for face in faces] for faces in found] == [[(5, 6, 70, 80), (100, 100, 40, 40)]] * 4
    assert tracks == [1, 2]


def test_what_cannot_be_called_is_no_detector():
    with pytest.raises(ArgumentError, match=r"found the detector 'yunet.onnx'; expected a function.*FaceDetector"):
        ExpressionRecognizer(tiny_model(), detector="yunet.onnx")


def test_small_faces_are_found_in_pictures_and_image_files_but_not_in_frames(tmp_path, recognizer):
    image, centres = pasted_faces(1600, 120, [28] * 9)
    path = tmp_path / "group.png"
    cv2.imwrite(str(path), image)
    assert len(recognizer(image)) == len(centres)
    assert [len(faces) for faces in recognizer([image])] == [len(centres)]
    assert [len(faces) for _, faces in recognizer.video(path)] == [len(centres)]
    assert [len(faces) for _, faces in recognizer.video(tmp_path)] == [len(centres)]
    assert recognizer.pipeline()(image, 0.0).faces == []


def test_threads_that_share_a_recognizer_each_get_the_answer_of_one_thread(recognizer, picture):
    images = [cv2.resize(picture, (side, side)) for side in range(200, 600, 50)]
    expected = [values(recognizer(image)) for image in images]

    def through_all_calls(image: np.ndarray) -> list[list[tuple[float, ...]]]:
        pipeline = recognizer.pipeline(half_life=0)
        return [values(faces) for faces in (recognizer(image), *recognizer([image]), pipeline(image, 0.0).faces)]

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
    "list": lambda recognizer, image: recognizer([image]),
    "empty list": lambda recognizer, image: recognizer([]),
    "crop": lambda recognizer, image: recognizer.classify(image),
    "no crops": lambda recognizer, image: recognizer.classify([]),
    "no boxes": lambda recognizer, image: recognizer(image, boxes=[]),
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


def test_importing_the_package_alone_loads_neither_opencv_nor_onnxruntime():
    program = """
import sys
import weakref
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
