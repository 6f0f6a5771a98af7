"""Several sources in one loop: one batch for the model, the answers of each source alone, a grid as the picture."""

from __future__ import annotations

import csv
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from doubles.made_up_results import grey_result, played
from doubles.tiny_artifact import STRATA, tiny_model
from iern.runtime.app.command_line import parse
from iern.runtime.app.frame_analyzer import FrameAnalysis, FrameAnalyzer
from iern.runtime.app.grid import Grid
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.errors import SessionError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.session import Predictions, Session
from iern.runtime.sources.base import Frame, Source, State
from iern.runtime.sources.group import SourceGroup
from iern.runtime.system.latency import LoopStats
from iern.runtime.webcam import main
from repository import PHOTOS


class Counting(Session):
    """The tiny model, with its strata collapsed or not. Keeps the number of faces of each call."""

    def __init__(self, collapsed: bool = False, bad: int = -1) -> None:
        """A batch of `bad` faces fails."""
        self._inner, self._collapsed, self._bad = OnnxSession(tiny_model(), "cpu", threads=1), collapsed, bad
        artifact = self._inner.artifact
        if collapsed:
            artifact = dataclasses.replace(artifact, strata=("mean",), collapsed_from=len(STRATA))
        super().__init__(artifact, "cpu", max_batch=16)
        self.batches: list[int] = []

    def _run(self, faces: np.ndarray) -> Predictions:
        self.batches.append(len(faces))
        if len(faces) == self._bad:
            raise SessionError("the GPU is gone")
        found = self._inner(faces)
        return dataclasses.replace(found, stratum_logits=found.logits[:, np.newaxis]) if self._collapsed else found

    def _free(self) -> None:
        self._inner.close()


def frames_of(source: str, count: int, fps: float = 10, width: int = 224) -> list[Frame]:
    """A face, and for each frame another brightness."""
    face = cv2.resize(cv2.imread(str(PHOTOS / "astronaut.jpg"))[:400, :400], (width, width))
    images = [cv2.convertScaleAbs(face, alpha=1 - 0.02 * index) for index in range(count)]
    return [
        Frame(image, index / fps, index, source, time.monotonic(), source=source) for index, image in enumerate(images)
    ]


def faces_of(analyses: list[FrameAnalysis | Exception]) -> dict[str, list[np.ndarray]]:
    """Source -> the smoothed and the raw probabilities of each of its faces, and its box."""
    found: dict[str, list[np.ndarray]] = {}
    for each in analyses:
        assert isinstance(each, FrameAnalysis)
        for face in each.faces:
            box = face.detection
            values = [*face.probabilities.values(), *face.raw_probabilities.values(), box.x, box.y, face.track]
            found.setdefault(each.frame.source, []).append(np.array(values))
    return found


@pytest.mark.parametrize("strata", ["all", "all once a second"])
def test_a_joint_batch_gives_each_source_the_answers_that_it_gets_alone(strata):
    """The sources are a frame apart, so that one wants all strata while the other wants the collapsed ones."""
    front, back = frames_of("front", 14), frames_of("back", 14, width=256)
    back = [dataclasses.replace(frame, time=frame.time + 0.5) for frame in back]

    def sessions() -> dict[str, Session]:
        return {"collapsed": Counting(collapsed=True)} if strata != "all" else {}

    def analyzed(*batches: list[Frame]) -> tuple[dict[str, list[np.ndarray]], Counting, dict[str, Session]]:
        full, more = Counting(), sessions()
        analyzer = FrameAnalyzer(FaceDetector(), full, **more)
        found = faces_of([each for batch in batches for each in analyzer(batch)])
        return found, full, more

    first, others = front[0], list(zip(front[1:], back, strict=False))
    together, full, more = analyzed([first], *map(list, others))
    alone = analyzed(*([frame] for frame in front))[0] | analyzed(*([frame] for frame in back[:13]))[0]
    assert together.keys() == alone.keys() == {"front", "back"}
    for source, faces in alone.items():
        np.testing.assert_allclose(together[source], faces, atol=1e-5)
    if strata == "all":
        assert full.batches == [1] + [2] * 13
        return
    (collapsed,) = more.values()
    assert sum(full.batches) + sum(collapsed.batches) == 27
    assert collapsed.batches.count(2) >= 9, "most frames share a batch"
    assert len(full.batches) == len(front) // 10 + 1 + 2, "front at 0 and 1 s, back at 0.5 and 1.5 s"


def test_a_batch_that_fails_is_tried_again_for_each_source_alone_and_a_bad_frame_stays_with_its_source():
    session = Counting(bad=2)
    analyses = FrameAnalyzer(FaceDetector(), session)([*frames_of("front", 1), *frames_of("back", 1)])
    assert [len(each.faces) for each in analyses] == [1, 1]
    assert session.batches == [2, 1, 1]
    bad = dataclasses.replace(frames_of("bad", 1)[0], image=np.zeros((0, 0, 3), np.uint8))
    good, error = FrameAnalyzer(FaceDetector(), Counting())([*frames_of("front", 1), bad])
    assert isinstance(good, FrameAnalysis) and isinstance(error, Exception)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--source", "0", "--source", "1", "--source", "00"], "sources 1 and 3 are the same one"),
        (["--source", "clip.mp4", "--source", "./clip.mp4"], "sources 1 and 2 are the same one"),
        (["--source", "0", "--source", "-"], "stdin"),
        (["--source", "a", "--source", "b", "--annotate", "out"], "--annotate is for one source"),
        (["--source", "0", "--source", "1", "--serve", "1", "--allow-source", "2"], "--allow-source is for one source"),
        (["--source", "0", "--source", "1", "--mqtt", "mqtt://b/t", "--mqtt-discovery"], "--mqtt-discovery is for one"),
    ],
)
def test_what_cannot_apply_to_several_sources_is_refused_with_the_reason(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_equal_cameras_are_refused_without_their_password(capsys):
    with pytest.raises(SystemExit):
        parse(["--source", "rtsp://u:secret@cam/a", "--source", "rtsp://u:secret@cam/a"])
    assert "secret" not in capsys.readouterr().err


def test_sources_come_from_the_environment_as_a_list_or_as_one(monkeypatch):
    monkeypatch.setenv("IERN_SOURCE", "my clip.mp4")
    assert parse([]).sources == ("my clip.mp4",)
    monkeypatch.setenv("IERN_SOURCES", "rtsp://a/1 rtsp://b/2")
    assert parse([]).sources == ("rtsp://a/1", "rtsp://b/2")
    assert parse(["--source", "3"]).sources == ("3",)


@pytest.fixture(scope="module")
def run(tmp_path_factory, model) -> Path:
    """A folder with what the command wrote: about two clips together, and about each alone in `0.jsonl`, `1.jsonl`."""
    folder = tmp_path_factory.mktemp("several")
    capture = cv2.VideoCapture(str(DEMO_CLIP))
    images = [cv2.resize(capture.read()[1], (320, 240)) for _ in range(12)]
    clips = [folder / "front.avi", folder / "back.avi"]
    for clip, shown in zip(clips, (images, images[::-1][:8]), strict=True):
        writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
        for image in shown:
            writer.write(image)
        writer.release()
    common = ["--headless", "--model", model]
    for number, clip in enumerate(clips):
        assert main([*common, "--source", str(clip), "--jsonl", str(folder / f"{number}.jsonl")]) == 0
    outputs = {"--jsonl": "all.jsonl", "--csv": "all.csv", "--record": "all.mp4", "--summary": "all.html"}
    written = [word for option, name in outputs.items() for word in (option, str(folder / name))]
    assert main([*common, "--source", str(clips[0]), "--source", str(clips[1]), *written]) == 0
    return folder


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_records_of_several_sources_are_those_of_each_alone_with_its_name(run):
    together = records(run / "all.jsonl")
    for number, name in enumerate(("front.avi", "back.avi")):
        alone = records(run / f"{number}.jsonl")
        ours = [record for record in together if record["source"] == str(run / name)]
        assert all("source" not in record for record in alone), "one source has the records of always"
        assert [(r["frame"], r["time"], r["name"]) for r in ours] == [(r["frame"], r["time"], r["name"]) for r in alone]
        assert len({record["start"] for record in ours}) == 1
        for ours_one, alone_one in zip(ours, alone, strict=True):
            for face, expected in zip(ours_one["faces"], alone_one["faces"], strict=True):
                assert (face["track"], face["box"]) == (expected["track"], expected["box"])
                assert face["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-4)
    assert len(together) == 12 + 8


def test_the_table_has_a_column_for_the_source_and_the_summary_a_part_for_each(run):
    with open(run / "all.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["source"] for row in rows} == {str(run / "front.avi"), str(run / "back.avi")}
    page = (run / "all.html").read_text(encoding="utf-8")
    assert page.count("<h1>") == 2 and page.count("</html>") == 1
    assert "<td>12 " in page and "<td>8 " in page


def test_a_recording_of_several_sources_is_a_grid_with_a_picture_for_each_time(run):
    pictures = played(run / "all.mp4")
    assert len(pictures) == 12, "every time of the longer clip"
    assert pictures[0].shape == (480, 1280, 3)
    assert pictures[-1][:, 640:].mean() < 0.6 * pictures[0][:, 640:].mean(), "the clip that has ended is dark"


def test_max_frames_counts_all_sources_and_the_counts_of_each_are_printed(run, model, capsys):
    sources = ["--source", str(run / "front.avi"), "--source", str(run / "back.avi")]
    assert main(["--headless", "--model", model, *sources, "--max-frames", "7"]) == 0
    printed = capsys.readouterr().out
    assert "\n7 frames, " in printed
    counts = [int(line.split(": ")[1].split()[0]) for line in printed.splitlines() if line.startswith("  /")]
    assert sum(counts) == 7 and max(counts) - min(counts) == 1


def test_the_demo_plays_the_clip_in_place_of_a_source_that_is_absent_under_a_name_that_reports_it(run, model, capsys):
    sources = ["--source", str(run / "front.avi"), "--source", "nowhere.mp4"]
    lines = run / "demo.jsonl"
    arguments = ["--headless", "--model", model, *sources, "--max-frames", "4", "--jsonl", str(lines)]
    assert main(arguments) == 1
    assert "nowhere.mp4: no such file" in capsys.readouterr().err
    assert main([*arguments, "--demo", "--record", str(run / "d.mp4"), "--still", str(run / "d.png")]) == 0
    assert {record["source"] for record in records(lines)} == {str(run / "front.avi"), "demo.mp4 for nowhere.mp4"}


class Camera(Source):
    """A live source in a state that the test sets."""

    live = True
    shown: State = "live"

    @property
    def state(self) -> State:
        return self.shown

    def __iter__(self) -> Iterator[Frame]:
        yield from ()


def result_of(source: str, level: int) -> FrameResult:
    result = grey_result(level, faces=1)
    return dataclasses.replace(result, frame=dataclasses.replace(result.frame, source=source))


def test_the_tile_of_a_lost_camera_turns_dark_without_a_frame_and_says_why(monkeypatch):
    monkeypatch.setattr("iern.runtime.app.grid.SHORTEST_INTERVAL", 0.0)
    cameras = {"front": Camera("front", 0), "back": Camera("back", 0)}
    grids: list[FrameResult] = []
    grid = Grid(SourceGroup(cameras), LoopStats(), [grids.append])
    grid(result_of("front", 90))
    assert grids[-1].tiles[1].state == "no frame yet"
    grid(result_of("back", 200))
    assert [tile.faces for tile in grids[-1].tiles] == [1, 1]
    before = grids[-1].frame.image
    cameras["back"].shown = "reconnecting"
    grid.update()
    (front, back), after = grids[-1].tiles, grids[-1].frame.image
    assert (back.state, back.faces, front.faces, len(grids[-1].faces)) == ("reconnecting", 0, 1, 1)
    middle = back.top + back.height // 2, back.left + back.width // 2
    assert before[middle].max() == 200 and after[middle].max() < 100
    assert (after[:, : front.width] == before[:, : front.width]).all()
    count = len(grids)
    grid.update()
    assert len(grids) == count, "nothing has changed"
    cameras["back"].shown = "live"
    grid(result_of("back", 200))
    assert grids[-1].frame.image[middle].max() == 200 and grids[-1].tiles[1].faces == 1


def test_no_picture_is_made_while_none_is_wanted_and_the_next_one_shows_all_sources():
    grids: list[FrameResult] = []
    wanted = False
    cameras = {"front": Camera("front", 0), "back": Camera("back", 0)}
    grid = Grid(SourceGroup(cameras), LoopStats(), [grids.append], wanted=lambda: wanted)
    for source in cameras:
        grid(result_of(source, 90))
    assert not grids
    wanted = True
    grid.finish()
    assert [tile.faces for tile in grids[0].tiles] == [1, 1]
