"""The bundled clip, and the script that made it."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.sources.open_source import open_source
from repository import PHOTOS, ROOT

SCRIPT = ROOT / "runtime" / "media" / "make_demo.py"


def test_the_bundled_clip_is_small_and_shows_one_person_then_two():
    assert DEMO_CLIP.stat().st_size < 1_500_000
    detect = FaceDetector()
    faces = {}
    for frame in open_source(DEMO_CLIP):
        if frame.index % 20 == 0 or 100 <= frame.index < 120:
            faces[frame.index] = len(detect(frame.image))
    assert 9 < frame.time < 12
    assert [faces[index] for index in (0, 20, 40, 60, 80, 120, 140)] == [1, 1, 1, 1, 1, 2, 2]
    assert max(faces.values()) == 2, "the last cross-fade shows no third face, which would spoil the still"


@pytest.mark.slow
def test_the_clip_can_be_made_again_from_the_photographs(tmp_path):
    made = tmp_path / "again.mp4"
    subprocess.run([sys.executable, str(SCRIPT), str(PHOTOS), "--output", str(made)], check=True)
    pairs = list(zip(open_source(DEMO_CLIP), open_source(made), strict=True))
    assert max(float(np.abs(a.image.astype(int) - b.image).mean()) for a, b in pairs) < 2, "another encoder may differ"


def test_a_folder_without_the_photographs_is_refused_and_leaves_nothing(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--output", str(tmp_path / "clip.mp4")]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "has no astronaut.jpg" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_animation_has_every_second_frame_of_the_video_and_its_duration(tmp_path):
    made = tmp_path / "loop.webp"
    command = [sys.executable, SCRIPT.with_name("make_animation.py"), DEMO_CLIP, made, "--width", "120", "--every", "8"]
    assert subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.startswith(f"wrote {made}")
    frames = [frame for frame in open_source(DEMO_CLIP) if frame.index % 8 == 0]
    with Image.open(made) as picture:
        assert (picture.n_frames, picture.size) == (len(frames), (120, 90))
        seconds = 0.0
        for index in range(picture.n_frames - 1):
            picture.seek(index)
            picture.load()
            seconds += picture.info["duration"] / 1000
            if index == 5:
                small = cv2.resize(frames[index].image, (120, 90), interpolation=cv2.INTER_AREA)
                seen = np.array(picture.convert("RGB"))[..., ::-1]
                assert np.abs(seen.astype(float) - small).mean() < 8
    assert seconds == pytest.approx(frames[-1].time, abs=0.05)
