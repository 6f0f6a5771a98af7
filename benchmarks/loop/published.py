"""Program: the loop as published. A full search in each frame, then PyTorch, one stratum after another."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.loop.stdin_loop import Analyse, answer_frames
from iern.runtime.bundled import YUNET
from iern.runtime.faces.detector import FRAME_SIDE, OVERLAP, SCORE
from iern.runtime.faces.yunet import OpenCvYunet, Yunet
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import Image
from iern.runtime.imaging.preprocess import crop_faces
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.latency import stopwatch
from iern.runtime.system.opencv import limit_opencv, silence_opencv
from iern.train.network.checkpoint import load_checkpoint
from iern.train.network.iern import Baseline


def published_loop(network: Baseline) -> Analyse:
    """A function that finds the faces of a frame and predicts their expressions, and keeps nothing between frames."""
    yunet = OpenCvYunet(YUNET.read_bytes(), SCORE, OVERLAP, YUNET.name)

    def analyse(frame: Image) -> tuple[int, Mapping[str, float]]:
        lap = stopwatch()
        faces = search(yunet, frame)
        detect = lap()
        crops = crop_faces(frame, faces, network.config.input)
        preprocess = lap()
        if faces:
            with torch.inference_mode():
                network.probabilities(network.normalise(torch.from_numpy(crops)))
        return len(faces), {"detect": detect, "preprocess": preprocess, "infer": lap()}

    return analyse


def search(yunet: Yunet, frame: Image) -> list[Detection]:
    """Search the whole frame, on a copy of at most FRAME_SIDE pixels -> its faces, in pixels of the frame."""
    scale = min(1.0, FRAME_SIDE / max(frame.shape[:2]))
    copy = frame if scale == 1 else cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    (rows,) = yunet([copy])
    return [Detection.from_row(row, np.full(2, 1 / scale)) for row in rows.astype(np.float64)]


def main() -> None:
    """Answer the frames on stdin until it ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop.published", description=__doc__)
    parser.add_argument("size", help="of a frame, as 640x480")
    parser.add_argument("records", help="the file that gets a record of each frame")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    silence_opencv()
    limit_opencv()
    torch.set_num_threads(cpu_budget())
    network = load_checkpoint(options.checkpoint).model().to(memory_format=torch.channels_last)
    answer_frames(published_loop(network), options.size, options.records)


if __name__ == "__main__":
    main()
