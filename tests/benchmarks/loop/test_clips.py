"""The made clips have the faces that they promise, always the same ones, and repeat without a jump."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.loop.clips import MOST_FACES, PERIOD, demo_clip, made_clip
from iern.runtime.bundled import YUNET
from iern.runtime.errors import SourceError


@pytest.fixture(scope="module")
def demo():
    return demo_clip()


def test_the_bundled_clip_has_the_frames_that_its_container_states(demo):
    assert len(demo.frames) == 156
    assert demo.size == (640, 480)


@pytest.mark.parametrize("faces", [1, 3, MOST_FACES])
def test_a_made_clip_shows_as_many_faces_as_opencv_finds_in_it(demo, faces):
    """By OpenCV's own detector on the whole frame: the loop's detector is what the clips test."""
    yunet = cv2.FaceDetectorYN.create("onnx", np.fromfile(YUNET, np.uint8), np.empty(0, np.uint8), (1280, 720))
    clip = made_clip(faces, demo)
    assert clip.size == (1280, 720)
    assert [len(yunet.detect(frame)[1]) for frame in clip.frames[:: PERIOD // 3]] == [faces] * 3


def test_a_made_clip_is_the_same_each_time(demo):
    assert all(map(np.array_equal, made_clip(2, demo).frames[:3], made_clip(2, demo).frames[:3]))


def test_a_made_clip_repeats_itself_without_a_jump(demo):
    frames = [frame.astype(float) for frame in made_clip(4, demo).frames]
    steps = [np.abs(after - before).mean() for before, after in zip(frames, [*frames[1:], frames[0]], strict=True)]
    assert 0 < steps[-1] < 1.5 * np.median(steps)


@pytest.mark.parametrize("faces", [0, MOST_FACES + 1])
def test_a_number_of_faces_without_cells_is_refused(demo, faces):
    with pytest.raises(SourceError, match=f"found {faces} faces, expected 1 to {MOST_FACES}"):
        made_clip(faces, demo)
