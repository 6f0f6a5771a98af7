"""The library: one picture, many, and a film, with the real detector and a real model file."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest

from doubles.tiny_artifact import EXPRESSIONS, STRATA, tiny_model
from iern.runtime import ExpressionRecognizer, Face
from iern.runtime.errors import ArtifactError, ImageError, SessionError, SourceError
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


def test_a_film_gives_frames_with_faces_that_keep_their_track(tmp_path, recognizer, picture):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (320, 320))
    for _ in range(5):
        writer.write(picture)
    writer.release()
    found = list(recognizer.video(path, detect_every=2))
    assert [frame.index for frame, _ in found] == [0, 1, 2, 3, 4]
    assert [[face.track for face in faces] for _, faces in found] == [[1]] * 5


def test_a_film_is_opened_at_its_first_frame_and_closed_when_it_is_left(recognizer, monkeypatch):
    opened = []

    def watched(spec):
        opened.append(open_source(spec))
        return opened[-1]

    monkeypatch.setattr("iern.runtime.recognizer.open_source", watched)
    film = recognizer.video(PHOTOS / "astronaut.jpg")
    assert not opened
    next(film)
    assert not opened[0].stopped
    film.close()
    assert opened[0].stopped


def test_frames_that_one_reads_oneself_are_followed(recognizer, picture):
    perceive = recognizer.following()
    assert [perceive(picture, seconds).faces[0].track for seconds in (0.0, 0.1)] == [1, 1]


def test_what_cannot_be_is_said(recognizer, tmp_path):
    with pytest.raises(ImageError):
        recognizer(np.zeros(3, np.uint8))
    with pytest.raises(SourceError):
        next(recognizer.video(tmp_path / "absent.mp4"))
    with pytest.raises(ArtifactError):
        ExpressionRecognizer(tmp_path / "absent.onnx")


def test_a_recognizer_that_was_closed_says_so(picture):
    with ExpressionRecognizer(tiny_model(), provider="cpu", threads=1) as recognizer:
        pass
    with pytest.raises(SessionError, match="closed"):
        recognizer(picture)


@pytest.mark.parametrize("page", ["README.md", "docs/library.md"])
def test_the_lines_on_the_page_work_as_they_are(tmp_path, page):
    """With the bundled model, on a photograph of that name."""
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
