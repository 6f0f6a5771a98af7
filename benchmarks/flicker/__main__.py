"""Command: count how often the label of a still, noisy face changes, and how late it follows a true change."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

import numpy as np

from benchmarks import RESULTS
from benchmarks.common.results import write_with_page
from benchmarks.flicker.report import markdown
from benchmarks.flicker.sequence import (
    EXPOSURE,
    NOISE,
    SHAKE,
    Labels,
    PredictedFrame,
    Truth,
    agreement,
    camera_frames,
    changes_of,
    delay,
    is_known,
    label_changes,
    read_truth,
    replay,
    stills_of,
)
from iern.runtime.backends.onnx import open_session
from iern.runtime.bundled import MODEL
from iern.runtime.errors import DataError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.images import Image
from iern.runtime.imaging.preprocess import crop_faces
from iern.runtime.session import Session
from iern.runtime.sources.open_source import open_source
from iern.runtime.system.arguments import Parser, positive
from iern.runtime.system.file_conflicts import refuse_conflicts

OUTPUT = RESULTS / "flicker.json"
HALF_LIVES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)
"""Seconds."""
MARGINS = (0.0, 0.1, 0.2)
"""Of hysteresis, as a probability."""
ALLOWED_DELAY = 0.1
"""Seconds by which labels may follow true changes later than without smoothing, on average: hardly noticeable."""
NEGLIGIBLE = 0.02
"""Label changes a second that do not justify a wider margin or a longer half-life."""

EXAMPLES = """\
example:
  python -m benchmarks.flicker --video heads.mp4 --truth heads.csv

The table has one row for each frame: frame, strength (not used), and the expression of each face from
left to right. Stills are made of the video: the first and the middle frame of every stretch in which
nothing changes, each as a camera with noise, varying exposure and slight movement would deliver it.
The model's predictions are computed once; each setting then labels the same predictions.

The model knows a true change if, without smoothing, the face has the right label in most frames until
the next change. The best setting has the fewest label changes on the stills. It must follow every
change that the model knows, later by at most 0.1 s on average. Of settings within 0.02 changes a
second, the one with the smaller margin is best, then the one with the shorter half-life: a margin
moves the threshold.
"""


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    refuse_conflicts(
        {"--video": options.video, "--truth": options.truth, "--model": options.model},
        {"--json": options.json, "its page": options.json.with_suffix(".md")},
    )
    results = measure(options.video, options.truth, options.model, options.still_frames, options.max_frames)
    page = write_with_page(options.json, results, markdown(results))
    print(f"wrote {options.json} and {page.name}")


def measure(
    video: Path, truth_file: Path, model: Path, still_frames: int, max_frames: int | None = None
) -> dict[str, Any]:
    """Returns the content of flicker.json: plain types only. Raises DataError if the table is not the video's."""
    truth = read_truth(truth_file)
    with open_session(model, provider="cpu") as session, open_source(str(video)) as source:
        pictures = [(frame.image, frame.time) for frame in source][:max_frames]
        truth = truth[: len(pictures)] if max_frames else truth
        if len(pictures) != len(truth):
            raise DataError(
                f"{video} has {len(pictures)} frames, {truth_file.name} has {len(truth)}; pass the table of this video"
            )
        artifact, detector = session.artifact, FaceDetector()
        frames = _predicted(pictures, detector, session, "the video")
        stills = []
        for index in stills_of(truth):
            images = camera_frames(pictures[index][0], still_frames, index)
            timed = ((image, number / source.fps) for number, image in enumerate(images))
            stills.append(_predicted(timed, detector, session, f"the still of frame {index}"))
        sweep = [
            {"half_life": half_life, "margin": margin}
            | _figures(frames, stills, truth, lambda part, h=half_life, m=margin: replay(part, artifact, h, m))
            for half_life in HALF_LIVES
            for margin in MARGINS
        ]
        best = _best_setting(sweep)
    return {
        "film": {"name": video.name, "frames": len(frames), "fps": source.fps, "changes": len(changes_of(truth))},
        "stills": {"count": len(stills), "frames": still_frames, "noise": NOISE, "exposure": EXPOSURE, "shake": SHAKE},
        "model": model.name,
        "threshold": artifact.threshold,
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "allowed_delay": ALLOWED_DELAY,
        "negligible": NEGLIGIBLE,
        "sweep": sweep,
        "chosen": {key: best[key] for key in ("half_life", "margin")},
    }


def _predicted(
    pictures: Iterable[tuple[Image, float]], detector: FaceDetector, session: Session, name: str
) -> list[PredictedFrame]:
    """Find the faces in pictures with their times in seconds, and predict their expressions."""
    print(f"analysing {name}", flush=True)
    frames = []
    for image, seconds in pictures:
        faces = sorted(detector(image), key=lambda face: face.x)
        frames.append(PredictedFrame(seconds, faces, session(crop_faces(image, faces, session.artifact.input))))
    return frames


def _figures(
    frames: Sequence[PredictedFrame],
    stills: Sequence[Sequence[PredictedFrame]],
    truth: Truth,
    label: Callable[[Sequence[PredictedFrame]], tuple[Labels, int]],
) -> dict[str, Any]:
    """Label changes a second and face on the stills; on the video, the delay of each true change and the agreement."""
    changes, face_seconds = 0, 0.0
    for still in stills:
        changes += label_changes(label(still)[0])
        step = still[1].seconds - still[0].seconds
        face_seconds += step * sum(len(frame.detections) for frame in still[1:])
    labels, tracks = label(frames)
    seconds = [frame.seconds for frame in frames]
    true_changes = changes_of(truth)
    return {
        "flicker": changes / face_seconds,
        "known": [is_known(labels, change) for change in true_changes],
        "delays": [delay(labels, seconds, change) for change in true_changes],
        "tracks": tracks,
        **agreement(labels, truth),
    }


def _best_setting(sweep: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Add its mean added delay to each row, and return the best. The first row is without smoothing."""
    unsmoothed = sweep[0]
    for row in sweep:
        triples = zip(unsmoothed["known"], row["delays"], unsmoothed["delays"], strict=True)
        added = [late - before for known, late, before in triples if known and late is not None]
        row["followed"], row["added_delay"] = len(added), float(np.mean(added)) if added else None
    known_changes = sum(unsmoothed["known"])
    allowed = [row for row in sweep if row["followed"] == known_changes and (row["added_delay"] or 0) <= ALLOWED_DELAY]
    fewest = min(row["flicker"] for row in allowed)
    steady = [row for row in allowed if row["flicker"] <= fewest + NEGLIGIBLE]
    return min(steady, key=lambda row: (row["margin"], row["half_life"]))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.flicker",
        description="Measure flicker and delay of the labels of faces, before and after smoothing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--video", type=Path, required=True, metavar="FILE", help="a video of faces whose expressions are known")
    add("--truth", type=Path, required=True, metavar="CSV", help="the expressions in each frame")
    add("--model", type=Path, default=MODEL, metavar="FILE", help="exported .onnx (default: the bundled one)")
    add("--still-frames", type=positive, default=30, metavar="N", help="frames of each still (default: 30)")
    add("--max-frames", type=positive, metavar="N", help="read only the first N frames of the video")
    add("--json", type=Path, default=OUTPUT, metavar="FILE", help=f"default: {OUTPUT.name} in benchmarks/results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
