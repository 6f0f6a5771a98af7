"""What `python -m benchmarks.detection` measured, as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.common.results import Results
from iern.train.evaluation.markdown import markdown_table

HEAD = (
    *(
        "sequence",
        "faces found",
        "new, not yet found",
        "extra",
        "IoU, mean",
        "IoU, least",
        "latest new face",
        "track switches",
        "tracks",
    ),
    *("whole searches", "OpenCV, ms", "onnxruntime, ms", "tracked, ms", "tracked / OpenCV"),
)


def markdown(results: Results) -> str:
    """The page."""
    everything = results["total"]
    parts = [
        "# Where faces are looked for",
        f"Written by `python -m benchmarks.detection` on {results['measured']}, on {results['processor']}.",
        "Three ways to find the faces of a video, in turns frame by frame, each on one thread: OpenCV's YuNet in the "
        "whole of every frame, the same network in onnxruntime, and the loop's own search (`--search tracked`), which "
        "looks in windows around the known faces, and in the whole frame five times a second. The milliseconds are "
        "those of the processor, for each frame. Other programs may slow all three, so compare them within a row.",
        "*Found* counts the boxes of a search of every whole frame that the tracked search also has, with an IoU of at "
        f"least {results['found']:g}. *New, not yet found* are missed ones whose face had just come, and was found "
        "later. *Extra* are the other boxes of the tracked search. *Latest new face* is the longest time from the "
        "frame where a search of every whole frame first finds a face to the frame where the tracked search does. A "
        "*track switch* is a face that changes its number in the tracked search and not in the other. *Tracks* are the "
        "numbers given by the tracked search and by the other.",
        f"The people are those of the bundled clip{results['more_people']}. Each made sequence has 640x480 pixels, "
        f"{results['fps']} frames a second and pixel noise of {results['noise']:g} of 255.",
        _table(results),
        f"Of all {everything['faces']:,} faces {everything['found'] / everything['faces']:.2%} are found; of those "
        f"that are not new, {everything['found'] / (everything['faces'] - everything['waiting']):.2%}. The mean IoU is "
        f"{everything['iou']:.3f}, and the time {_ratio(everything):.0%} of OpenCV's. The goals were 99 %, 0.9 and a "
        "new face within 0.25 s. In crowds the windows together have more pixels than the frame: then the whole frame "
        "is searched.",
        f"OpenCV and onnxruntime find the same: {everything['engines_found']:,} of {everything['engines_faces']:,} "
        f"faces, with an IoU of at least {everything['engines_least_iou']:.5f}.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(results: Results) -> str:
    rows = [_cells(row) for row in results["sequences"]]
    return markdown_table(HEAD, [*rows, _cells({"name": "**all**", **results["total"]})], left=1)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        *(row["name"], f"{row['found']} / {row['faces']}", str(row["waiting"]), str(row["extra"]), f"{row['iou']:.3f}"),
        *(f"{row['least_iou']:.2f}", f"{row['delay']:.2f} s", str(row["switches"])),
        *(f"{row['tracks_found']} / {row['tracks']}", f"{row['whole']} / {row['frames']}"),
        *(f"{row['milliseconds'][name]:.1f}" for name in ("opencv", "onnxruntime", "tracked")),
        f"{_ratio(row):.0%}",
    )


def _ratio(row: Mapping[str, Any]) -> float:
    return row["milliseconds"]["tracked"] / row["milliseconds"]["opencv"]
