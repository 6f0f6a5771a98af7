"""Command: how often the name of a still, noisy face changes, and how late it follows a true change."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import RESULTS
from benchmarks.flicker.report import markdown
from benchmarks.flicker.sequence import (
    EXPOSURE,
    NOISE,
    SHAKE,
    Seen,
    Truth,
    agreement,
    changes_of,
    delay,
    known,
    label_changes,
    noisy,
    read_truth,
    replay,
    stills_of,
)
from iern.runtime.backends.onnx import open_session
from iern.runtime.bundled import MODEL
from iern.runtime.errors import DataError, IernError, report
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.optical_flow import FaceFinder
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import Image
from iern.runtime.imaging.preprocess import crop_faces
from iern.runtime.session import Session
from iern.runtime.sources.open_source import open_source
from iern.runtime.system.arguments import positive
from iern.runtime.system.files import write_text

OUTPUT = RESULTS / "flicker.json"
HALF_LIVES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)
"""Seconds."""
MARGINS = (0.0, 0.1, 0.2)
"""Of probability."""
ALLOWED_DELAY = 0.1
"""Seconds by which a true change may come later than without smoothing, on average: hardly noticed by who watches."""
NEGLIGIBLE = 0.02
"""Label changes a second that are no reason for a wider margin or a longer half-life."""
EVERY = (1, 2, 3, 5)
"""Frames from one detection to the next."""

EXAMPLES = """\
example:
  python -m benchmarks.flicker --video heads.mp4 --truth heads.csv

The table has a row a frame: frame, strength (not read), and the expression of each face from left to
right. Stills are made of the film: the first and the middle frame of every stretch in which nothing
changes, each as a camera with noise, wavering exposure and a slight tremble would go on showing it.
The model's answers are computed once; each setting then names the same answers.

The model knows a true change if, without smoothing, the face is called rightly in most frames until
the next. Chosen is the setting with the fewest label changes on the stills among those that follow
every change that the model knows, later by no more than 0.1 s on average; where 0.02 a second make
the difference, the smaller margin, which leaves the threshold its meaning, then the shorter half-life.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parse(argv)
    try:
        record = measure(options.video, options.truth, options.model, options.still_frames, options.max_frames)
        write_text(options.json, json.dumps(record, indent=1) + "\n")
        write_text(options.json.with_suffix(".md"), markdown(record))
    except (IernError, OSError) as error:
        return report(error)
    print(f"wrote {options.json} and {options.json.with_suffix('.md').name}")
    return 0


def measure(
    video: Path, truth_file: Path, model: Path, still_frames: int, max_frames: int | None = None
) -> dict[str, Any]:
    """Film and truth -> what flicker.json holds: plain types only. Raises DataError where the two do not fit."""
    truth = read_truth(truth_file)
    cv2.setNumThreads(1)  # so that this thread's time is all of the detector's
    with open_session(model, provider="cpu") as session, open_source(str(video)) as source:
        pictures = [(frame.image, frame.time) for frame in source][:max_frames]
        truth = truth[: len(pictures)] if max_frames else truth
        if len(pictures) != len(truth):
            raise DataError(
                f"{video}: has {len(pictures)} frames, {truth_file.name} has {len(truth)}; give its own table"
            )
        artifact, detector = session.artifact, FaceDetector()
        film = _watched(pictures, detector, session, "the film")
        stills = [
            _watched(
                ((picture, i / source.fps) for i, picture in enumerate(noisy(pictures[index][0], still_frames, index))),
                *(detector, session, f"the still of frame {index}"),
            )
            for index in stills_of(truth)
        ]
        sweep = [
            {"half_life": half_life, "margin": margin}
            | _figures(film, stills, truth, lambda part, h=half_life, m=margin: replay(part, artifact, h, m))
            for half_life in HALF_LIVES
            for margin in MARGINS
        ]
        chosen = _chosen(sweep)
        following = [{"every": every} | _following(pictures, film, truth, every, session) for every in EVERY]
    return {
        "film": {"name": video.name, "frames": len(film), "fps": source.fps, "changes": len(changes_of(truth))},
        "stills": {"count": len(stills), "frames": still_frames, "noise": NOISE, "exposure": EXPOSURE, "shake": SHAKE},
        "model": model.name,
        "threshold": artifact.threshold,
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "allowed_delay": ALLOWED_DELAY,
        "negligible": NEGLIGIBLE,
        "sweep": sweep,
        "chosen": {key: chosen[key] for key in ("half_life", "margin")},
        "following": following,
    }


def _watched(
    pictures: Iterable[tuple[Image, float]], detector: FaceDetector, session: Session, what: str
) -> list[Seen]:
    """Pictures with their times in seconds -> the faces found in them, and the answers."""
    print(f"watching {what}", flush=True)
    seen = []
    for image, seconds in pictures:
        faces = sorted(detector(image), key=lambda face: face.x)
        seen.append(Seen(seconds, faces, session(crop_faces(image, faces, session.artifact.input))))
    return seen


def _figures(
    film: Sequence[Seen], stills: Sequence[Sequence[Seen]], truth: Truth, name: Callable[[Sequence[Seen]], Any]
) -> dict[str, Any]:
    """Label changes a second and face on the stills, and on the film the delay of each true change and agreement."""
    changes, face_seconds = 0, 0.0
    for still in stills:
        changes += label_changes(name(still)[0])
        step = still[1].seconds - still[0].seconds
        face_seconds += step * sum(len(seen.detections) for seen in still[1:])
    labels, tracks = name(film)
    seconds = [seen.seconds for seen in film]
    true_changes = changes_of(truth)
    return {
        "flicker": changes / face_seconds,
        "known": [known(labels, change) for change in true_changes],
        "delays": [delay(labels, seconds, change) for change in true_changes],
        "tracks": tracks,
        **agreement(labels, truth),
    }


def _chosen(sweep: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first row is without smoothing; each row gets its mean added delay, and the best is returned."""
    raw = sweep[0]
    for row in sweep:
        triples = zip(raw["known"], row["delays"], raw["delays"], strict=True)
        added = [late - before for of_the_model, late, before in triples if of_the_model and late is not None]
        row["followed"], row["added_delay"] = len(added), float(np.mean(added)) if added else None
    allowed = [
        row for row in sweep if row["followed"] == sum(raw["known"]) and (row["added_delay"] or 0) <= ALLOWED_DELAY
    ]
    fewest = min(row["flicker"] for row in allowed)
    steady = [row for row in allowed if row["flicker"] <= fewest + NEGLIGIBLE]
    return min(steady, key=lambda row: (row["margin"], row["half_life"]))


def _following(
    pictures: Sequence[tuple[Image, float]], film: Sequence[Seen], truth: Truth, every: int, session: Session
) -> dict[str, Any]:
    """What following between detections costs and does: against detection in every frame, and against the truth."""
    print(f"watching the film with a detection every {every}", flush=True)
    find, found, overlaps, milliseconds = FaceFinder(FaceDetector(), every), [], [], []
    for (image, seconds), reference in zip(pictures, film, strict=True):
        start = time.thread_time()  # of this thread alone: what else the machine does does not count
        faces = find(image, seconds)
        milliseconds.append(1000 * (time.thread_time() - start))
        faces = sorted(faces, key=lambda face: face.x)
        found.append(Seen(seconds, faces, session(crop_faces(image, faces, session.artifact.input))))
        if len(faces) == len(reference.detections):
            overlaps += map(_overlap, faces, reference.detections)
    labels, tracks = replay(found, session.artifact, half_life=0, margin=0)
    return {
        "milliseconds": float(np.mean(milliseconds)),
        "overlap": float(np.mean(overlaps)),
        "least_overlap": float(np.min(overlaps)),
        "tracks": tracks,
        "label_changes": label_changes(labels),
        **agreement(labels, truth),
    }


def _overlap(a: Detection, b: Detection) -> float:
    """Intersection over union."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (a.width * a.height + b.width * b.height - shared)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flicker",
        description="Measure flicker and delay of the names above faces, before and after smoothing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--video", type=Path, required=True, metavar="FILE", help="a film of faces, every frame of which is known")
    add("--truth", type=Path, required=True, metavar="CSV", help="its expressions, frame by frame")
    add("--model", type=Path, default=MODEL, metavar="FILE", help="exported .onnx (default: the bundled one)")
    add("--still-frames", type=positive, default=30, metavar="N", help="frames of each still (default: 30)")
    add("--max-frames", type=positive, metavar="N", help="look at the first N frames of the film only")
    add("--json", type=Path, default=OUTPUT, metavar="FILE", help=f"default: {OUTPUT.name} in benchmarks/results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
