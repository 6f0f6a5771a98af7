"""The stages of this checkout's loop one after another, from the file to the drawn picture."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.records import json_line, json_record
from iern.runtime.recognizer import ExpressionRecognizer
from iern.runtime.sources.open_source import open_source
from iern.runtime.system.latency import Latency, stopwatch

STAGES = {
    "decode": "the next frame of the file",
    "detect": "where the faces are, and which they were before",
    "crop": "the faces, cut out",
    "model": "their expressions, smoothed",
    "record": "the JSON line",
    "draw": "the annotated picture",
    "jpeg": "the picture as the page shows it",
}
"""Stage of the loop -> what it gives."""


def stage_times(frames: int) -> dict[str, list[float]]:
    """Milliseconds of each stage for that many frames of the bundled clip, or for all that it has."""
    samples: dict[str, list[float]] = {stage: [] for stage in STAGES}
    with ExpressionRecognizer() as recognizer, open_source(DEMO_CLIP) as source:
        pipeline = recognizer.pipeline()
        pipeline(np.zeros((480, 640, 3), np.uint8), 0.0)  # the first calls allocate
        pipeline.reset()
        lap = stopwatch()
        for frame in source:
            decode = lap()
            found = pipeline(frame.image, frame.time)
            latency = Latency(found.detect, found.preprocess, found.infer, 0.0)
            result = FrameResult(frame, found.faces, latency, "30.0 fps   1 face   cpu")
            lap()
            json_line(json_record(result))
            record = lap()
            picture = result.drawn()
            draw = lap()
            cv2.imencode(".jpg", picture)
            times = (decode, found.detect, found.preprocess, found.infer, record, draw, lap())
            for stage, milliseconds in zip(STAGES, times, strict=True):
                samples[stage].append(round(milliseconds, 3))
            if len(samples["decode"]) == frames:
                break
            lap()
    return samples


def as_results(samples: dict[str, list[float]]) -> dict[str, Any]:
    """Stage -> p50 and p95, in milliseconds. Frames without a face count, too."""
    return {
        stage: dict(zip(("p50", "p95"), map(float, np.percentile(values, (50, 95))), strict=True))
        for stage, values in samples.items()
    }
